package rig_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"drydock/testdata/rig"
)

var shared = rig.Shared(rig.HostOptions{Name: "shared", Private: true})

func TestHostBoots(t *testing.T) {
	dir := t.TempDir()
	h := rig.NewHost(t, rig.HostOptions{Name: "web-1", Binds: map[string]string{"/srv/seen": dir}})
	if got := strings.TrimSpace(h.Must(t, "hostname")); got != "web-1" {
		t.Errorf("it is called %q", got)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("from outside"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := h.Must(t, "cat", "/srv/seen/file"); got != "from outside" {
		t.Errorf("through the bind it sees %q", got)
	}
	h.Unit(t, "one.service", "[Service]\nExecStart=sleep infinity\n")
	h.Must(t, "systemctl", "start", "one")
	h.WriteFile(t, "/etc/kept", "still here", 0o600)
	h.Reboot(t)
	if got := h.Must(t, "cat", "/etc/kept"); got != "still here" {
		t.Errorf("after a boot the file says %q", got)
	}
	if out, _ := h.Run(t.Context(), "systemctl", "is-active", "one"); strings.TrimSpace(out) != "inactive" {
		t.Errorf("after a boot, a unit that is not enabled is %q", out)
	}
	h.Kill()
	h.Boot(t)
	if got := h.Must(t, "cat", "/etc/kept"); got != "still here" {
		t.Errorf("after a power cut the file says %q", got)
	}
}

// TestHostsSideBySide: each has its own files, its own units and, asked for,
// its own loopback.
func TestHostsSideBySide(t *testing.T) {
	a := shared(t)
	b := rig.NewHost(t, rig.HostOptions{Name: "b"})
	a.WriteFile(t, "/etc/only-a", "", 0o644)
	if _, err := b.Run(t.Context(), "test", "-e", "/etc/only-a"); err == nil {
		t.Error("a file of one host is in the other")
	}
	outside, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(b.Must(t, "readlink", "/proc/1/ns/net")); got != outside {
		t.Errorf("the network is %s, not the machine's %s", got, outside)
	}
	if got := strings.TrimSpace(a.Must(t, "readlink", "/proc/1/ns/net")); got == outside {
		t.Error("a private network is the machine's own")
	}
	for _, h := range []*rig.Host{a, b} {
		h.Unit(t, "same.service", "[Service]\nExecStart=sleep infinity\n")
		h.Must(t, "systemctl", "start", "same")
	}
	cgroup := func(h *rig.Host) string {
		text, err := os.ReadFile(filepath.Dir(h.Root()) + "/cgroup")
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if cgroup(a) == cgroup(b) {
		t.Errorf("both hosts are in the same cgroups:\n%s", cgroup(a))
	}
	a.Must(t, "systemctl", "stop", "same")
	if _, err := b.Run(t.Context(), "sh", "-c", "systemctl is-active same && kill -0 $(systemctl show -p MainPID --value same)"); err != nil {
		t.Errorf("a unit of the same name was stopped in the other host, and here: %v", err)
	}
}

// TestHostDiesWithTheTest: nothing is left of a host whose test was killed.
func TestHostDiesWithTheTest(t *testing.T) {
	if os.Getenv("DRYDOCK_RIG_VICTIM") != "" {
		h := rig.NewHost(t, rig.HostOptions{})
		fmt.Println("root", h.Root())
		select {}
	}
	shared(t) // skips where no host can be had
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), "DRYDOCK_RIG_VICTIM=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	root := ""
	for lines := bufio.NewScanner(out); root == "" && lines.Scan(); {
		if at, ok := strings.CutPrefix(lines.Text(), "root "); ok {
			root = at
		}
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if root == "" {
		t.Fatal("the other test booted no host")
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); ; <-tick.C {
		if _, err := os.Stat(filepath.Dir(root)); err != nil {
			return
		}
		if time.Since(began) > 30*time.Second {
			t.Fatalf("%s is still there", root)
		}
	}
}

func TestInside(t *testing.T) {
	if !rig.Inside(t, shared) {
		return
	}
	name, err := os.Hostname()
	if err != nil || name != "shared" {
		t.Errorf("it runs on %q, %v", name, err)
	}
	comm, err := os.ReadFile("/proc/1/comm")
	if err != nil || string(comm) != "systemd\n" {
		t.Errorf("PID 1 is %q, %v", comm, err)
	}
}
