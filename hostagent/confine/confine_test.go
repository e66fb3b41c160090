package confine_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"drydock/hostagent/confine"
)

// deed is the first argument by which this binary becomes one that does what
// the others say, each a deed and where, and prints what came of it.
const deed = "drydock-test-deed"

func TestMain(m *testing.M) {
	if code, ours := confine.Shim(); ours {
		os.Exit(code)
	}
	if len(os.Args) > 1 && os.Args[1] == deed {
		said := map[string]string{}
		if len(os.Args) > 2 && os.Args[2] == "alone" {
			if err := confine.Alone(); err != nil {
				said["alone"] = err.Error()
			}
		}
		for _, arg := range os.Args[2:] {
			what, where, ok := strings.Cut(arg, "=")
			if ok {
				said[arg] = word(deeds[what](where))
			}
		}
		_ = json.NewEncoder(os.Stdout).Encode(said)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// word is the errno of an error, or "ok".
func word(err error) string {
	var errno syscall.Errno
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &errno):
		return unix.ErrnoName(errno)
	}
	return err.Error()
}

var deeds = map[string]func(string) error{
	"read": func(p string) error {
		data, err := os.ReadFile(p)
		if err == nil && len(data) == 0 {
			return errors.New("nothing")
		}
		return err
	},
	"list":   func(p string) error { _, err := os.ReadDir(p); return err },
	"open":   func(p string) error { return touch(p, os.O_RDONLY) },
	"append": func(p string) error { return touch(p, os.O_WRONLY|os.O_APPEND) },
	"make":   func(p string) error { return touch(p, os.O_WRONLY|os.O_CREATE|os.O_EXCL) },
	"remove": os.Remove,
	"link":   func(p string) error { return os.Link(p, p+".link") },
	"move":   func(p string) error { from, to, _ := strings.Cut(p, ">"); return os.Rename(from, to) },
	"run":    func(p string) error { return exec.Command(p).Run() },
	"fork": func(string) error {
		pid, _, errno := syscall.RawSyscall6(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
		if errno != 0 {
			return errno
		}
		if pid == 0 {
			syscall.RawSyscall(syscall.SYS_EXIT, 0, 0, 0)
		}
		return nil
	},
	"connect": func(addr string) error {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
		}
		return err
	},
	"socket": func(string) error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
		if err == nil {
			unix.Close(fd)
		}
		return err
	},
	"signal": func(pid string) error { n, _ := strconv.Atoi(pid); return unix.Kill(n, 0) },
	"trace":  func(pid string) error { n, _ := strconv.Atoi(pid); return unix.PtraceAttach(n) },
	"limit": func(pid string) error {
		n, _ := strconv.Atoi(pid)
		return unix.Prlimit(n, unix.RLIMIT_CORE, nil, &unix.Rlimit{})
	},
	"grow": func(p string) error {
		f, err := os.Create(p)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.WriteAt([]byte("x"), 1<<20)
		return err
	},
}

func touch(p string, flags int) error {
	f, err := os.OpenFile(p, flags, 0o600)
	if err == nil {
		f.Close()
	}
	return err
}

// under does deeds in a child under rules, and returns what came of each. As
// nobody where the test is root, so that it is not root's rights that let it.
func under(t *testing.T, r confine.Rules, deeds ...string) map[string]string {
	t.Helper()
	rules, err := r.File()
	if err != nil {
		t.Fatal(err)
	}
	defer rules.Close()
	status, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer status.Close()
	var out, words bytes.Buffer
	self := "/proc/self/exe"
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Args = confine.Args(3, 4, self, append([]string{"deeds", deed}, deeds...))
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{rules, w}
	cmd.Stdout, cmd.Stderr = &out, &words
	err = cmd.Run()
	w.Close()
	said := map[string]string{}
	if err != nil || json.Unmarshal(out.Bytes(), &said) != nil {
		why := make([]byte, 4096)
		n, _ := status.Read(why)
		t.Fatalf("%v: %s %s %s", err, why[:n], out.Bytes(), words.Bytes())
	}
	return said
}

// expect compares: "deed=where word".
func expect(t *testing.T, r confine.Rules, rows ...string) {
	t.Helper()
	var all []string
	for _, row := range rows {
		all = append(all, row[:strings.LastIndex(row, " ")])
	}
	got := under(t, r, all...)
	for _, row := range rows {
		i := strings.LastIndex(row, " ")
		if got[row[:i]] != row[i+1:] {
			t.Errorf("%s: got %s, want %s", row[:i], got[row[:i]], row[i+1:])
		}
	}
}

func needsLandlock(t *testing.T, abi int) {
	t.Helper()
	if confine.Kernel() < abi {
		t.Skipf("this kernel's Landlock is version %d; %d is tested", confine.Kernel(), abi)
	}
}

// place is a directory that is none of those which are everybody's.
func place(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/lib", "drydock-test-")
	if err != nil {
		t.Skip("makes a directory in /var/lib: needs root")
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for _, p := range []string{"state/journal", "state/credentials/token", "srv/web/VERSION", "other"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, p)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, p), []byte("x"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("state", filepath.Join(dir, "alias")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestACommandReachesAllButWhatIsSealed: whatever it is called, and whether it
// runs as root or not.
func TestACommandReachesAllButWhatIsSealed(t *testing.T) {
	needsLandlock(t, 3)
	d := place(t)
	shared := t.TempDir()
	rows := []string{
		"read=" + d + "/state/journal EACCES", "read=" + d + "/alias/journal EACCES", "append=" + d + "/state/journal EACCES",
		"read=" + d + "/srv/../state/credentials/token EACCES", "make=" + d + "/state/new EACCES", "remove=" + d + "/state/journal EACCES",
		"move=" + d + "/srv/web/VERSION>" + d + "/state/VERSION EACCES",
		"read=/proc/" + fmt.Sprint(os.Getpid()) + "/environ EACCES", "trace=" + fmt.Sprint(os.Getpid()) + " EPERM",
		"append=/proc/sys/kernel/core_pattern EACCES", "append=/dev/null ok", "read=/etc/hostname ok", "list=/etc ok", "list=/ ok",
		"read=" + d + "/other ok", "append=" + d + "/other ok", "make=" + d + "/srv/web/new ok", "make=" + d + "/srv/new ok",
		"make=" + shared + "/new ok", "run=/bin/true ok",
		"make=" + d + "/new EACCES", // the price of a hole
	}
	expect(t, confine.Command([]string{d + "/alias", "/nowhere/at/all"}, true), rows...)
	// What is opened by name is open wherever it lies.
	expect(t, confine.Command([]string{d}, true, d+"/srv/web"), "read="+d+"/srv/web/VERSION ok", "read="+d+"/other EACCES")
}

// TestNoCommandOpensADisk, on a host where nothing in /dev is sealed for itself
// either: what is on a disk is what is sealed.
func TestNoCommandOpensADisk(t *testing.T) {
	needsLandlock(t, 3)
	disks, _ := filepath.Glob("/dev/[lsv]*[0-9a]")
	disks = slices.DeleteFunc(disks, func(p string) bool {
		info, err := os.Stat(p)
		return err != nil || info.Mode()&os.ModeDevice == 0 || info.Mode()&os.ModeCharDevice != 0
	})
	if len(disks) == 0 {
		t.Skip("there is no disk in /dev")
	}
	r := confine.Command(nil, true)
	r.Sealed = slices.DeleteFunc(r.Sealed, func(p string) bool {
		_, err := os.Lstat(p)
		return err == nil && strings.HasPrefix(p, "/dev/")
	})
	expect(t, r, "open="+disks[0]+" EACCES", "append=/dev/null ok")
}

// TestABuildWritesToItsTree, to TMPDIR and to its user's home, and to nothing else.
func TestABuildWritesToItsTree(t *testing.T) {
	needsLandlock(t, 6)
	d := place(t)
	for _, p := range []string{"home", "releases/1.tmp-1", "releases/2", "temp"} {
		if err := os.MkdirAll(filepath.Join(d, p), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	room := confine.Room{Tree: d + "/releases/1.tmp-1", Temp: d + "/temp", Home: d + "/home", Releases: d + "/releases", FileSize: 1 << 19}
	r, home := confine.Build([]string{d + "/state"}, true, room)
	if home != room.Home {
		t.Errorf("its home is %s", home)
	}
	expect(t, r,
		"make="+room.Tree+"/new ok", "make="+room.Temp+"/new ok", "move="+room.Temp+"/new>"+room.Tree+"/moved ok", "make="+room.Home+"/new ok",
		"make="+room.Releases+"/2/new EACCES", "make="+d+"/srv/new EACCES", "append="+d+"/other EACCES", "read="+d+"/other ok",
		"read="+d+"/state/journal EACCES", "make=/tmp/drydock-test-new EACCES", "run=/bin/true ok", "connect="+listener.Addr().String()+" ok",
		"signal="+fmt.Sprint(os.Getpid())+" EPERM", "grow="+room.Tree+"/grown EFBIG")
	for _, no := range []string{"/nowhere/at/all", d, d + "/releases/2", "/", ""} {
		room.Home = no
		if _, home := confine.Build([]string{d + "/state"}, true, room); home != room.Temp {
			t.Errorf("with %q as its home it takes %s", no, home)
		}
	}
}

// TestWithoutLandlock: an older kernel refuses nothing, and nothing fails.
func TestWithoutLandlock(t *testing.T) {
	d := place(t)
	r := confine.Command([]string{d + "/state"}, true)
	for _, r.ABI = range []int{-1, 1} { // the first is good for nothing here
		expect(t, r, "read="+d+"/state/journal ok")
	}
	for abi, want := range map[int]string{0: "no Landlock", 1: "first Landlock", 5: "signals", 6: "", 7: ""} {
		if got := confine.Shortfall(abi); !strings.Contains(got, want) || (got == "") != (want == "") {
			t.Errorf("of version %d it says %q", abi, got)
		}
	}
}

// TestEachVersionOfLandlock is used as far as it goes.
func TestEachVersionOfLandlock(t *testing.T) {
	d := place(t)
	r := confine.Command([]string{d + "/state"}, true)
	for r.ABI = 2; r.ABI <= confine.Kernel(); r.ABI++ {
		expect(t, r, "read="+d+"/state/journal EACCES", "append="+d+"/state/journal EACCES", "make="+d+"/srv/"+fmt.Sprint(r.ABI)+" ok")
	}
}

// TestLimits are not to be raised again.
func TestLimits(t *testing.T) {
	d := t.TempDir()
	expect(t, confine.Rules{Write: []string{"/"}, Limits: confine.Limits{FileSize: 1 << 19}}, "grow="+d+"/f EFBIG")
	expect(t, confine.Rules{Write: []string{"/"}}, "grow="+d+"/f ok")
}

// TestAlone is a process with nothing but its files.
func TestAlone(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	me := fmt.Sprint(os.Getpid())
	rows := []string{
		"connect=" + listener.Addr().String() + " EPERM", "socket=udp EPERM", "run=/bin/true EPERM", "fork=bomb EPERM",
		"signal=" + me + " EPERM", "trace=" + me + " EPERM", "limit=" + me + " EPERM", "read=/etc/hostname ok",
	}
	var deeds []string
	for _, row := range rows {
		deeds = append(deeds, row[:strings.LastIndex(row, " ")])
	}
	got := under(t, confine.Rules{Write: []string{"/"}}, append([]string{"alone"}, deeds...)...)
	for _, row := range rows {
		i := strings.LastIndex(row, " ")
		if got[row[:i]] != row[i+1:] {
			t.Errorf("%s: got %s, want %s", row[:i], got[row[:i]], row[i+1:])
		}
	}
	if why := got["alone"]; why != "" {
		t.Error(why)
	}
}
