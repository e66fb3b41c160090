package archive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"drydock/hostagent/confine"
	"drydock/reconcile"
)

// owned is the verb of an unpacker that an archive took over: it does what its
// further arguments say, and tells the agent what came of it.
const owned = "drydock-test-owned"

// takenOver is TestMain's part of it.
func takenOver(args []string) (code int, ours bool) {
	if len(args) < 3 || args[1] != owned {
		return 0, false
	}
	signal.Ignore(syscall.SIGTERM)
	if err := confine.Alone(); err != nil {
		return 1, true
	}
	err := crimes[args[2]](args[3])
	if err == nil {
		err = errors.New("it could")
	}
	if args[2] == "leave" {
		err = nil
	}
	_ = json.NewEncoder(os.NewFile(resultFD, "result")).Encode(resultOf(err))
	return 0, true
}

const ownTree = "/proc/self/fd/6/"

var crimes = map[string]func(string) error{
	"read":    func(p string) error { _, err := os.ReadFile(p); return err },
	"write":   func(p string) error { return os.WriteFile(p, nil, 0o600) },
	"connect": func(addr string) error { _, err := net.Dial("tcp", addr); return err },
	"exec":    func(p string) error { return syscall.Exec(p, []string{p}, nil) },
	"itself":  func(string) error { return syscall.Exec("/proc/self/fd/8", []string{"x"}, nil) },
	"trace":   func(string) error { return unix.PtraceAttach(os.Getppid()) },
	"kill":    func(string) error { return unix.Kill(os.Getppid(), 0) },
	"fork":    func(string) error { return exec.Command("/bin/true").Start() },
	"give": func(string) error { // to others, where no mode shows it
		err := os.Mkdir(ownTree+"given", 0o700)
		return errors.Join(err, unix.Setxattr(ownTree+"given", "user.x", []byte("x"), 0))
	},
	"fill": func(string) error {
		var all [][]byte
		for range 64 {
			part := make([]byte, 64<<20)
			for i := 0; i < len(part); i += 4096 {
				part[i] = 1
			}
			all = append(all, part)
		}
		return fmt.Errorf("it has %d parts", len(all))
	},
	"hang":   func(string) error { select {} },
	"vanish": func(string) error { return unix.Tgkill(os.Getpid(), os.Getpid(), unix.SIGKILL) },
	"exit":   func(string) error { fmt.Fprintln(os.Stderr, "fatal error: so it goes"); os.Exit(2); return nil },
	"talk": func(string) error {
		for range 1000 {
			if _, err := os.NewFile(resultFD, "result").Write(make([]byte, 4096)); err != nil {
				return err
			}
		}
		os.Exit(0)
		return nil
	},
	// leave says that all went well, and leaves what should not be.
	"leave": func(what string) error {
		switch what {
		case "link":
			return os.Symlink("../../etc/passwd", ownTree+"l")
		case "absolute":
			return os.Symlink("/etc/passwd", ownTree+"l")
		case "setuid":
			return errors.Join(os.WriteFile(ownTree+"su", nil, 0o755), os.Chmod(ownTree+"su", 0o755|os.ModeSetuid))
		case "open":
			return errors.Join(os.Mkdir(ownTree+"d", 0o700), os.Chmod(ownTree+"d", 0o777))
		case "pipe":
			return unix.Mkfifo(ownTree+"p", 0o644)
		case "many":
			for i := range 200 {
				if err := os.WriteFile(fmt.Sprintf(ownTree+"%d", i), nil, 0o644); err != nil {
					return err
				}
			}
		case "much":
			for i := range 3 {
				if err := os.WriteFile(fmt.Sprintf(ownTree+"%d", i), make([]byte, 700_000), 0o644); err != nil {
					return err
				}
			}
		}
		return nil
	},
}

// isolated is a tree to fill as Make gives it, and beside it what nobody is to reach.
func isolated(t *testing.T) (dir, secret string) {
	t.Helper()
	outer := t.TempDir()
	dir, secret = filepath.Join(outer, "tree"), filepath.Join(outer, "secret")
	// As below a directory that hands its group on.
	if err := errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, 0o700|os.ModeSetgid), os.WriteFile(secret, []byte("x"), 0o644), os.Chmod(outer, 0o755)); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(dir, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	return dir, secret
}

// commit lets an unpacker commit a crime and returns what the agent says of it.
func commit(t *testing.T, ctx context.Context, dir string, abi int, crime, at string) error {
	t.Helper()
	src, err := os.Open("testdata/archives/good.tar")
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	a, err := newApart(dir, order{Limits: Limits{Entries: 40, Bytes: 1 << 20, Names: 64}})
	if err != nil {
		t.Fatal(err)
	}
	a.abi, a.argv = abi, []string{"owned", owned, crime, at}
	return a.run(ctx, src)
}

// TestAnUnpackerThatIsTakenOver can do nothing to anybody, and what it leaves
// is refused.
func TestAnUnpackerThatIsTakenOver(t *testing.T) {
	if confine.Kernel() < 3 {
		t.Skip("needs a kernel with Landlock")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	dir, secret := isolated(t)
	for _, row := range []struct{ crime, at, want string }{
		{"read", secret, "permission denied"},
		{"read", "/etc/passwd", "permission denied"},
		{"write", secret, "permission denied"},
		{"write", filepath.Dir(secret) + "/new", "permission denied"},
		{"write", "/tmp/drydock-test-new", "permission denied"},
		{"connect", listener.Addr().String(), "operation not permitted"},
		{"exec", "/bin/true", "operation not permitted"},
		{"itself", "", "operation not permitted"},
		{"trace", "", "operation not permitted"},
		{"kill", "", "operation not permitted"},
		{"give", "", "operation not permitted"},
		{"fork", "", ""}, // os/exec has other ways to fail, before it forks
		{"exit", "", "makes the process that unpacks it end (exit status 2"},
		{"exit", "", "so it goes"},
		{"talk", "", "said nothing that makes sense"},
		{"vanish", "", "was killed, and not by the agent"},
	} {
		err := commit(t, t.Context(), dir, 0, row.crime, row.at)
		if err == nil || !strings.Contains(err.Error(), row.want) || strings.Contains(err.Error(), "it could") {
			t.Errorf("%s %s: %v", row.crime, row.at, err)
		}
	}
	for what, want := range map[string]string{
		"link": "leads out of the release", "absolute": "/etc/passwd", "setuid": "has mode 4755", "open": "has mode 0777", "many": "one thing too many",
		"much": "more than the limit", "nothing": "",
	} {
		dir, _ := isolated(t)
		err := commit(t, t.Context(), dir, 0, "leave", what)
		var b *BadError
		switch {
		case want == "" && err != nil, want != "" && (!errors.As(err, &b) || !strings.Contains(err.Error(), want)):
			t.Errorf("it left %s: %v", what, err)
		case want != "" && !strings.Contains(err.Error(), "taken over"):
			t.Errorf("it left %s: %v", what, err)
		}
	}
	// Landlock does not let it make one; without, it is seen.
	dir, _ = isolated(t)
	if err := commit(t, t.Context(), dir, -1, "leave", "pipe"); err == nil || !strings.Contains(err.Error(), "no file, directory or link") {
		t.Errorf("it left a pipe: %v", err)
	}
}

// TestAnUnpackerThatFillsMemory ends itself, not the host.
func TestAnUnpackerThatFillsMemory(t *testing.T) {
	if raced {
		t.Skip("only without the race detector, which needs more memory than the limit")
	}
	dir, _ := isolated(t)
	if err := commit(t, t.Context(), dir, 0, "fill", ""); err == nil || !strings.Contains(err.Error(), "out of memory") && !strings.Contains(err.Error(), "cannot allocate memory") {
		t.Errorf("got %v", err)
	}
}

// TestAnUnpackerThatHangs is killed, whatever it does with signals.
func TestAnUnpackerThatHangs(t *testing.T) {
	dir, _ := isolated(t)
	why := errors.New("the agent stops")
	ctx, cancel := context.WithCancelCause(t.Context())
	timer := time.AfterFunc(100*time.Millisecond, func() { cancel(why) })
	defer timer.Stop()
	if err := commit(t, ctx, dir, 0, "hang", ""); !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
}

// TestAnUnpackerWithoutLandlock goes on: it has its user, and no calls to do
// harm with.
func TestAnUnpackerWithoutLandlock(t *testing.T) {
	for _, abi := range []int{-1, 1} {
		dir, _ := isolated(t)
		if err := unpackAs(t, dir, "testdata/archives/hard.tar", abi); err != nil {
			t.Errorf("version %d: %v", abi, err)
		}
	}
	// The first Landlock lets nothing be linked into another directory.
	dir, _ := isolated(t)
	across := filepath.Join(t.TempDir(), "across.tar")
	err := os.WriteFile(across, tarOf(t, item{name: "a/f", body: "x", mode: 0o755}, item{name: "b/f", kind: '1', link: "a/f"}), 0o600)
	if err == nil {
		err = unpackAs(t, dir, across, 1)
	}
	if data, rerr := os.ReadFile(filepath.Join(dir, "b/f")); err != nil || string(data) != "x" {
		t.Errorf("%v, %v: %q", err, rerr, data)
	}
	if info, err := os.Stat(filepath.Join(dir, "b/f")); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("%v, %v", info, err)
	}
	if os.Geteuid() != 0 {
		return
	}
	dir, secret := isolated(t)
	if err := os.Chmod(secret, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := commit(t, t.Context(), dir, -1, "read", secret); !errors.Is(err, unix.EACCES) {
		t.Errorf("as the owner of the tree it reads root's file: %v", err)
	}
}

func unpackAs(t *testing.T, dir, archive string, abi int) error {
	t.Helper()
	src, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	a, err := newApart(dir, order{})
	if err != nil {
		t.Fatal(err)
	}
	a.abi = abi
	return a.run(t.Context(), src)
}

// TestATreeIsItsUsers: what was unpacked as the user is the user's, and what
// has no user is the agent's, whoever unpacked it.
func TestATreeIsItsUsers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	for user, uid := range map[string]uint32{"": 0, "nobody": 65534} {
		r := newRig(t)
		r.publish("1.0.0", append(web("1.0.0"), item{name: "h", body: "x"}, item{name: "hard", kind: '1', link: "h"})...)
		r.deploy("1.0.0", attrs{"user": user})
		for _, name := range []string{"current/VERSION", "current/bin", "current/hard"} {
			var st unix.Stat_t
			if err := unix.Lstat(filepath.Join(r.path, name), &st); err != nil || st.Uid != uid {
				t.Errorf("user %q: %s is uid %d's (%v)", user, name, st.Uid, err)
			}
		}
	}
}

// TestTheUnpackersWordsArePassedOn as what they were.
func TestTheUnpackersWordsArePassedOn(t *testing.T) {
	for _, err := range []error{
		nil, &BadError{Entry: "a", Why: "b"}, &os.PathError{Op: "openat", Path: "x", Err: unix.ENOSPC}, &os.LinkError{Op: "linkat", Old: "y", New: "x", Err: unix.EXDEV},
		errors.New("else"),
	} {
		data, _ := json.Marshal(resultOf(err))
		got := outcome(data, nil, "")
		var b *BadError
		switch {
		case (got == nil) != (err == nil), errors.As(err, &b) != errors.As(got, &b), reconcile.BlameOf(got) != reconcile.BlameOf(err):
			t.Errorf("%v became %v", err, got)
		case errors.Is(err, unix.ENOSPC) != errors.Is(got, unix.ENOSPC):
			t.Errorf("%v became %v", err, got)
		}
	}
	if err := outcome([]byte("{}"), nil, ""); err == nil {
		t.Error("no word is taken for success")
	}
}
