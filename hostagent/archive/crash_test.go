package archive

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"drydock/reconcile"
)

// hostRig is a rig whose install path and state stand on the filesystem at root,
// with 1.0.0 running and 2.0.0 published as a file beside it.
func hostRig(t *testing.T, root string) *rig {
	t.Helper()
	r := newRig(t)
	r.path, r.env.StateDir = filepath.Join(root, "srv"), filepath.Join(root, "state")
	r.options.Env = r.env
	r.again()
	r.publish("1.0.0", web("1.0.0")...)
	r.publish("2.0.0", append(web("2.0.0"), item{name: "big", body: strings.Repeat("0123456789abcdef", 1<<16)})...)
	r.deploy("1.0.0", nil)
	return r
}

// wholeOldOrNew fails unless the active release is one of the two, and whole.
func (r *rig) wholeOldOrNew(when string) (version string) {
	r.t.Helper()
	version = r.read("current/VERSION")
	if version != "1.0.0" && version != "2.0.0" {
		r.t.Fatalf("%s: the active release is %q", when, version)
	}
	if got := r.read("current/bin/latest"); got != "program "+version {
		r.t.Fatalf("%s: %s is not whole: %q", when, version, got)
	}
	return version
}

// converge is the next agent, to which nothing happens.
func (r *rig) converge(when string) {
	r.t.Helper()
	r.again()
	r.deploy("2.0.0", nil)
	if c := r.see("2.0.0", nil); c.Is != reconcile.Present {
		r.t.Fatalf("%s: %+v", when, c)
	}
	if names := r.names("releases"); len(names) != 2 {
		r.t.Fatalf("%s: left %v", when, names)
	}
}

func mount(t *testing.T, target, kind, options string, flags uintptr) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root: run the tests as root")
	}
	if err := unix.Mount(kind, target, kind, flags, options); err != nil {
		t.Skipf("cannot mount %s here: %v", kind, err)
	}
	t.Cleanup(func() { _ = unix.Unmount(target, unix.MNT_DETACH) })
}

func TestFullDisk(t *testing.T) {
	options := []string{"size=1M", "size=512k", "size=3M,nr_inodes=16"}
	for inodes := 17; inodes <= 26; inodes++ { // each a step further
		options = append(options, fmt.Sprintf("size=3M,nr_inodes=%d", inodes))
	}
	for i, options := range options {
		t.Run(options, func(t *testing.T) {
			root := t.TempDir()
			mount(t, root, "tmpfs", options, 0)
			r := hostRig(t, root)
			var err error
			for _, phase := range []reconcile.Phase{reconcile.Fetch, reconcile.Install} {
				if err = r.driver.Do(t.Context(), r.step(phase, "2.0.0", nil)); err != nil {
					break
				}
			}
			version := r.wholeOldOrNew(options)
			if err == nil && i > 2 && version == "2.0.0" {
				return // there was room after all
			}
			if reconcile.BlameOf(err) != reconcile.OfHost || !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "Free space") {
				t.Errorf("got %v", err)
			}
			r.want(version, reconcile.Present, "")
			if err := unix.Mount("tmpfs", root, "tmpfs", unix.MS_REMOUNT, "size=64M,nr_inodes=1000"); err != nil {
				t.Fatal(err)
			}
			r.converge(options)
		})
	}
}

func TestReadOnlyDisk(t *testing.T) {
	root := t.TempDir()
	mount(t, root, "tmpfs", "size=64M", 0)
	r := hostRig(t, root)
	remount := func(flags uintptr) {
		t.Helper()
		if err := unix.Mount("tmpfs", root, "tmpfs", unix.MS_REMOUNT|flags, "size=64M"); err != nil {
			t.Fatal(err)
		}
	}
	remount(unix.MS_RDONLY)
	for _, phase := range []reconcile.Phase{reconcile.Fetch, reconcile.Install} {
		err := r.driver.Do(t.Context(), r.step(phase, map[reconcile.Phase]string{reconcile.Fetch: "2.0.0", reconcile.Install: "1.0.0"}[phase], nil))
		if reconcile.BlameOf(err) != reconcile.OfHost || !errors.Is(err, unix.EROFS) {
			t.Errorf("%v: %v", phase, err)
		}
	}
	// A release that is there already needs no download that would meet it.
	if err := r.driver.Do(t.Context(), r.step(reconcile.Fetch, "1.0.0", nil)); !errors.Is(err, unix.EROFS) {
		t.Errorf("found out after the drain only: %v", err)
	}
	r.want("1.0.0", reconcile.Present, "") // looking needs no writing
	remount(0)
	r.converge("read-only")
}

// TestPowerCut cuts the power of a real ext4 after each step: what a step
// said was done is there afterwards, and what was not said is whole-old or
// whole-new.
func TestPowerCut(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a loop device needs root: run the tests as root")
	}
	for cut := range 4 {
		t.Run(fmt.Sprint(cut), func(t *testing.T) {
			disk := newDisk(t)
			r := hostRig(t, disk.root)
			switch cut {
			case 1:
				r.do(r.step(reconcile.Fetch, "2.0.0", nil))
			case 2:
				r.deploy("2.0.0", nil)
			case 3: // a repair
				r.deploy("2.0.0", nil)
				write(t, filepath.Join(r.path, "current/VERSION"), "spoilt")
				r.deploy("2.0.0", nil)
			}
			disk.cut()
			r.again()
			version := r.wholeOldOrNew("after the cut")
			if want := map[bool]string{true: "2.0.0", false: "1.0.0"}[cut >= 2]; version != want {
				t.Errorf("%s runs; %s was done", version, want)
			}
			if cut >= 1 {
				if done, err := r.driver.Done(t.Context(), r.step(reconcile.Fetch, "2.0.0", nil)); !done || err != nil {
					t.Errorf("the fetch that was done is not: %v", err)
				}
			}
			r.converge("after the cut")
		})
	}
}

// disk is an ext4 in a file.
type disk struct {
	t           *testing.T
	image, root string
}

func newDisk(t *testing.T) *disk {
	t.Helper()
	d := &disk{t: t, image: filepath.Join(t.TempDir(), "image"), root: t.TempDir()}
	for _, argv := range [][]string{{"truncate", "-s", "32M", d.image}, {"mkfs.ext4", "-q", d.image}, {"mount", "-o", "loop", d.image, d.root}} {
		if out, err := exec.CommandContext(t.Context(), argv[0], argv[1:]...).CombinedOutput(); err != nil {
			t.Skipf("%v: %v: %s (apt-get install e2fsprogs mount, and a kernel with loop devices)", argv, err, out)
		}
	}
	t.Cleanup(func() { _ = unix.Unmount(d.root, unix.MNT_DETACH) })
	return d
}

func (d *disk) cut() {
	d.t.Helper()
	f, err := os.Open(d.root)
	if err != nil {
		d.t.Fatal(err)
	}
	const shutdown, noFlush = 0x8004587d, 2
	if err := unix.IoctlSetPointerInt(int(f.Fd()), shutdown, noFlush); err != nil {
		d.t.Skipf("this kernel cannot cut the power of an ext4: %v", err)
	}
	f.Close()
	for _, argv := range [][]string{{"umount", d.root}, {"mount", "-o", "loop", d.image, d.root}} {
		if out, err := exec.CommandContext(d.t.Context(), argv[0], argv[1:]...).CombinedOutput(); err != nil {
			d.t.Fatalf("%v: %v: %s", argv, err, out)
		}
	}
}

// childEnv makes this test binary deploy once and end.
const childEnv = "DRYDOCK_ARCHIVE_CHILD"

// TestChild is what strace runs: one fetch and one install.
func TestChild(t *testing.T) {
	root := os.Getenv(childEnv)
	if root == "" {
		t.Skip("only as a child of TestFaultAtAnyCall")
	}
	r := newRig(t)
	r.path, r.env.StateDir = filepath.Join(root, "srv"), filepath.Join(root, "state")
	r.options.Env = r.env
	r.again()
	r.publish("2.0.0", append(web("2.0.0"), item{name: "big", body: strings.Repeat("0123456789abcdef", 1<<16)})...)
	for _, phase := range []reconcile.Phase{reconcile.Fetch, reconcile.Install} {
		if err := r.driver.Do(context.Background(), r.step(phase, "2.0.0", nil)); err != nil {
			if reconcile.BlameOf(err) != reconcile.OfHost {
				t.Errorf("it blames the %v: %v", reconcile.BlameOf(err), err)
			}
			fmt.Println("CHILD FAILED:", err)
			return
		}
	}
	fmt.Println("CHILD DONE")
}

// TestFaultAtAnyCall fails, and then kills at, the n-th call of each kind that
// changes the disk, for every n there is.
func TestFaultAtAnyCall(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("apt-get install strace")
	}
	if os.Getenv(childEnv) != "" {
		return
	}
	for _, call := range []string{"renameat,renameat2", "fsync,syncfs", "symlinkat", "mkdirat", "fchmod,fchmodat"} {
		for _, fault := range []string{"error=EIO", "error=ENOSPC", "signal=SIGKILL"} {
			if fault == "error=ENOSPC" && call != "renameat,renameat2" && call != "mkdirat" {
				continue
			}
			t.Run(call+" "+fault, func(t *testing.T) {
				for n := 1; n <= 60; n++ {
					if !faultAt(t, strace, call, fault, n) {
						if n == 1 {
							t.Errorf("no call was hit")
						}
						return
					}
				}
			})
		}
	}
}

// faultAt reports whether the n-th call came at all.
func faultAt(t *testing.T, strace, call, fault string, n int) bool {
	t.Helper()
	r := hostRig(t, t.TempDir())
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	// The calls are those below this root only (-P), so that what the Go
	// runtime does beside them does not count.
	root := filepath.Dir(r.path)
	log := filepath.Join(t.TempDir(), "strace")
	cmd := exec.CommandContext(ctx, strace, "-f", "-qq", "-o", log, "-e", "trace="+call,
		"-e", fmt.Sprintf("inject=%s:%s:when=%d", call, fault, n), os.Args[0], "-test.run=^TestChild$", "-test.v")
	cmd.Env = append(os.Environ(), childEnv+"="+root, "GOMAXPROCS=1", "TMPDIR="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		t.Fatalf("%s %s %d hangs: %s", call, fault, n, out)
	}
	trace, _ := os.ReadFile(log)
	if len(trace) == 0 {
		t.Skipf("strace cannot trace here: %v: %s", err, out)
	}
	hit := strings.Contains(string(trace), "INJECTED") || strings.Contains(string(trace), "killed by SIGKILL")
	when := fmt.Sprintf("%s %s %d", call, fault, n)
	version := r.wholeOldOrNew(when)
	own := !strings.Contains(string(out), "TempDir:") // and not of the test's own directories
	if own && strings.Contains(string(out), "--- FAIL: TestChild") || strings.Contains(string(out), "it blames") {
		t.Fatalf("%s: %s", when, out)
	}
	if strings.Contains(string(out), "CHILD DONE") && version != "2.0.0" {
		t.Fatalf("%s: it said done, and %s runs", when, version)
	}
	r.converge(when)
	return hit
}
