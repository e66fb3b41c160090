package rig

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// baseScript makes the tree that hosts boot from, and prints where it is.
//
//go:embed base
var baseScript string

// yardScript keeps one host's file system, an overlay in memory over the base,
// and boots it once for each line it reads. It is PID 1 of namespaces of its
// own, so nothing of the host outlives it, and it does not outlive the test.
const yardScript = `set -eu
cgroup=$1 base=$2 at=$3; shift 3
for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
  [ ! -d "$hierarchy/$cgroup" ] || echo 0 >"$hierarchy/$cgroup/cgroup.procs"
done
mount -t tmpfs -o mode=755 yard "$at"
mkdir "$at/upper" "$at/work" "$at/root"
mount -t overlay -o "lowerdir=$base,upperdir=$at/upper,workdir=$at/work" root "$at/root"
# Nothing of what generators find is in a host, and each daemon-reload runs all.
mkdir "$at/root/etc/systemd/system-generators"
for generator in "$at"/root/lib/systemd/system-generators/*; do
  ln -s /dev/null "$at/root/etc/systemd/system-generators/${generator##*/}"
done
while read -r _; do
  "$@" </dev/null || true
done`

// bootTime bounds a boot; it takes one or two seconds on an idle machine.
const bootTime = 90 * time.Second

// HostOptions say what a Host is like; the zero value is a host of its own
// that shares the machine's network, and so its loopback.
type HostOptions struct {
	Name    string            // its hostname; default "host"
	Private bool              // a network of its own, of which only loopback is there
	Binds   map[string]string // path in the host -> path of this machine that is seen there
}

// Host is a Debian with systemd as PID 1, on a file system of its own that is
// gone with it.
type Host struct {
	options HostOptions
	cgroup  string
	console *os.File // what was printed there, for failures
	yard    *exec.Cmd
	boots   io.WriteCloser  // a line boots it
	ended   <-chan struct{} // the yard is gone
	nspawn  int             // 0 while it is off
	leader  int             // its PID 1, as this machine counts
	copied  sync.Once       // the test's binary, see Inside
}

// NewHost boots a host and returns when it is up; it is gone when t ends, or
// when the test's process does, however it ends.
func NewHost(t testing.TB, o HostOptions) *Host {
	t.Helper()
	h := newHost(t, o)
	t.Cleanup(h.Close)
	h.Boot(t)
	return h
}

// Shared is one host for all tests of a package, booted by the first that asks
// for it and gone with the process:
//
//	var host = rig.Shared(rig.HostOptions{})
//	… host(t).Unit(t, "web.service", …)
//
// Tests that use goleak take goleak.IgnoreCurrent() after that.
func Shared(o HostOptions) func(t testing.TB) *Host {
	var mu sync.Mutex
	var h *Host
	return func(t testing.TB) *Host {
		t.Helper()
		mu.Lock()
		defer mu.Unlock()
		if h == nil {
			h = newHost(t, o)
			h.Boot(t)
		}
		if h.leader == 0 {
			t.Fatal("the shared host did not boot, see the first test that asked for it")
		}
		return h
	}
}

func newHost(t testing.TB, o HostOptions) *Host {
	t.Helper()
	needRoot(t)
	nspawn := need(t, "systemd-nspawn", "systemd-container")
	base := hostBase(t)
	if o.Name == "" {
		o.Name = "host"
	}
	h := &Host{options: o}
	var err error
	if h.console, err = os.CreateTemp("", "console"); err != nil {
		t.Fatal(err)
	}
	_ = os.Remove(h.console.Name())
	at := filepath.Join(filepath.Dir(base), "mnt") // each host mounts there in its own namespace
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	if h.cgroup, err = newCgroup(); err != nil {
		t.Fatal(err)
	}
	argv := []string{"--mount", "--pid", "--mount-proc", "--fork", "--kill-child=KILL", "--", "sh", "-c", yardScript, "yard", h.cgroup, base, at, nspawn, "--quiet", "--register=no", "--keep-unit", "--settings=no",
		"--link-journal=no", "--timezone=off", "-D", filepath.Join(at, "root"), "--boot", "--console=pipe", "-M", o.Name}
	if o.Private {
		argv = append(argv, "--private-network")
	}
	for inside, outside := range o.Binds {
		argv = append(argv, "--bind="+outside+":"+inside)
	}
	h.yard = exec.Command(need(t, "unshare", "util-linux"), argv...)
	h.yard.Env = append(os.Environ(), "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY="+unified(), "SYSTEMD_LOG_TARGET=console")
	h.yard.Stdout, h.yard.Stderr = h.console, h.console
	h.yard.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if h.boots, err = h.yard.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	h.ended = launch(t, h.yard)
	return h
}

// hostBase is the tree that hosts boot from, made now if `make deps` did not.
func hostBase(t testing.TB) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-s")
	cmd.Stdin = strings.NewReader(baseScript)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Skipf("needs a tree to boot hosts from: make deps, as root, where Debian's mirror is reached (%v: %s)", err, bytes.TrimSpace(stderr.Bytes()))
	}
	return strings.TrimSpace(string(out))
}

// unified is 1 where the machine has nothing but cgroup version 2; else the
// host gets the old hierarchy, the only one that can be had.
func unified() string {
	var fs unix.Statfs_t
	if unix.Statfs("/sys/fs/cgroup", &fs) == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC {
		return "1"
	}
	return "0"
}

// Boot switches a host on that Kill or Off switched off, and returns when
// systemd says that it is up (running or degraded).
func (h *Host) Boot(t testing.TB) {
	t.Helper()
	if _, err := io.WriteString(h.boots, "\n"); err != nil {
		t.Fatalf("the host %s cannot be booted: %v\n%s", h.options.Name, err, h.Console())
	}
	ctx, cancel := context.WithTimeout(context.Background(), bootTime)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	last := "PID 1 was not seen"
	for {
		if h.nspawn, h.leader = h.find(); h.leader != 0 {
			if _, err := os.Stat(h.Root() + "/run/systemd/private"); err == nil {
				out, err := h.Run(ctx, "systemctl", "is-system-running", "--wait")
				if slices.Contains([]string{"running", "degraded"}, strings.TrimSpace(out)) {
					return
				}
				last = fmt.Sprintf("systemd says %q, %v", out, err)
			}
		}
		select {
		case <-tick.C:
		case <-h.ended:
			t.Fatalf("the host %s ended while it booted:\n%s", h.options.Name, h.Console())
		case <-ctx.Done():
			h.Close()
			t.Fatalf("the host %s is not up after %v: %s\n%s", h.options.Name, bootTime, last, h.Console())
		}
	}
}

// find is nspawn's process and the host's PID 1, as this machine counts them:
// below the yard's PID 1, the one that is PID 1 again.
func (h *Host) find() (nspawn, leader int) {
	for _, yard := range children(h.yard.Process.Pid) {
		for _, p := range children(yard) {
			for _, c := range children(p) {
				if ids := namespaced(c); len(ids) > len(namespaced(yard)) && ids[len(ids)-1] == "1" {
					return p, c
				}
			}
		}
	}
	return 0, 0
}

// namespaced are a process's ids in each PID namespace, the outermost first.
func namespaced(pid int) []string {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(status)) {
		if ids, ok := strings.CutPrefix(line, "NSpid:"); ok {
			return strings.Fields(ids)
		}
	}
	return nil
}

func children(pid int) (found []int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		data, _ := os.ReadFile(path)
		_, after, _ := strings.Cut(string(data), ") ") // the name may hold anything but this
		if f := strings.Fields(after); len(f) > 1 && f[1] == strconv.Itoa(pid) {
			id, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			found = append(found, id)
		}
	}
	return found
}

// Name is its hostname.
func (h *Host) Name() string { return h.options.Name }

// Root is where its file system is seen from outside, until it is switched
// off. A link in it that is absolute leads out of it.
func (h *Host) Root() string { return fmt.Sprintf("/proc/%d/root", h.leader) }

// Bus is the address of its D-Bus, as seen from outside. (systemd's own socket
// takes nobody from outside its PID namespace: see Inside.)
func (h *Host) Bus() string { return "unix:path=" + h.Root() + "/run/dbus/system_bus_socket" }

// Command is a command that will run in the host as its root, with a clean
// environment, and be killed when ctx ends or the test's process does.
func (h *Host) Command(ctx context.Context, argv ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "nsenter", slices.Concat([]string{"-t", strconv.Itoa(h.leader), "-m", "-u", "-i", "-n", "-p", "--",
		"setpriv", "--pdeathsig", "KILL", "env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8"}, argv)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// Run runs a command in the host and returns what it printed; the error holds
// what it printed to stderr.
func (h *Host) Run(ctx context.Context, argv ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := h.Command(ctx, argv...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err != nil {
		err = fmt.Errorf("in %s: %s: %w: %s", h.options.Name, strings.Join(argv, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.String(), err
}

// Must is Run within a minute, for what cannot fail.
func (h *Host) Must(t testing.TB, argv ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := h.Run(ctx, argv...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// WriteFile puts a file into the host, with the directories above it.
func (h *Host) WriteFile(t testing.TB, path, content string, mode os.FileMode) {
	t.Helper()
	at := filepath.Join(h.Root(), path)
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(at, mode); err != nil {
		t.Fatal(err)
	}
}

// Unit writes a unit file and makes systemd read it; when t ends the unit is
// stopped and forgotten.
func (h *Host) Unit(t testing.TB, name, content string) {
	t.Helper()
	h.WriteFile(t, "/etc/systemd/system/"+name, content, 0o644)
	h.Must(t, "systemctl", "daemon-reload")
	t.Cleanup(func() {
		if h.leader == 0 {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_, _ = h.Run(ctx, "sh", "-c", `systemctl stop --no-block "$1"; systemctl kill --signal=KILL "$1"; systemctl stop "$1"
			rm -f "/etc/systemd/system/$1"; systemctl reset-failed "$1"`, "sh", name)
	})
}

// Reboot shuts the host down in order and boots it again; its files stay, its
// addresses (Root, Bus) are new.
func (h *Host) Reboot(t testing.TB) {
	t.Helper()
	h.Must(t, "systemctl", "--no-block", "poweroff")
	if !h.gone(time.Minute) {
		t.Fatalf("%s did not shut down:\n%s", h.options.Name, h.Console())
	}
	h.Boot(t)
}

// Kill switches the host off as a power cut does, but that what the kernel has
// not yet written is not lost. Boot switches it on again.
func (h *Host) Kill() {
	if h.leader == 0 {
		return
	}
	_ = syscall.Kill(h.leader, syscall.SIGKILL)
	h.gone(time.Minute)
}

// Signal sends a signal to its PID 1; under SIGSTOP systemd answers nobody.
func (h *Host) Signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(h.leader, s); err != nil {
		t.Fatal(err)
	}
}

// gone waits until the host is off.
func (h *Host) gone(patience time.Duration) bool {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); time.Since(began) < patience; <-tick.C {
		if errors.Is(syscall.Kill(h.leader, 0), syscall.ESRCH) && errors.Is(syscall.Kill(h.nspawn, 0), syscall.ESRCH) {
			h.nspawn, h.leader = 0, 0
			return true
		}
	}
	return false
}

// Close switches the host off for good.
func (h *Host) Close() {
	h.Kill()
	_ = h.boots.Close() // the yard reads no more, and ends
	select {
	case <-h.ended:
	case <-time.After(10 * time.Second):
		_ = h.yard.Process.Kill()
		<-h.ended
	}
	_ = h.console.Close()
	removeCgroup(h.cgroup)
}

// Console is what was printed there last.
func (h *Host) Console() string {
	const enough = 16 << 10
	info, err := h.console.Stat()
	if err != nil {
		return err.Error()
	}
	text := make([]byte, min(info.Size(), enough))
	_, _ = h.console.ReadAt(text, info.Size()-int64(len(text)))
	return string(text)
}
