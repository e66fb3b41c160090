package proc_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"drydock/hostagent/proc"
	"drydock/testdata/rig"
)

// saysBoot is set where the test's binary is to print Boot and end.
const saysBoot = "DRYDOCK_TEST_SAYS_BOOT"

func TestMain(m *testing.M) {
	if os.Getenv(saysBoot) != "" {
		boot, err := proc.Boot()
		fmt.Println(boot, err)
		return
	}
	os.Exit(m.Run())
}

// TestBootIsTheSameInTheAgentsSandbox: on a host that is a container, whose
// starter mounts over the kernel's boot id, the packaged unit and a person's
// shell read the same; after a start of the host, both another.
func TestBootIsTheSameInTheAgentsSandbox(t *testing.T) {
	unit, err := os.ReadFile("../../.packaging/hostagent/hostagent.service")
	if err != nil {
		t.Fatal(err)
	}
	h := rig.NewHost(t, rig.HostOptions{Name: "boots", Private: true})
	const binary = "/usr/local/lib/proc.test"
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	h.WriteFile(t, binary, string(self), 0o755)
	said := func() (shell, sandbox string) {
		t.Helper()
		h.Must(t, "systemctl", "start", "boots.service")
		return h.Must(t, "env", saysBoot+"=1", binary), h.Must(t, "cat", "/run/said")
	}
	h.Unit(t, "boots.service", sandboxed(string(unit), binary, "/run/said"))
	shell, sandbox := said()
	if shell != sandbox || !strings.HasSuffix(shell, " <nil>\n") {
		t.Errorf("a shell reads %q, the agent in its sandbox %q", shell, sandbox)
	}
	h.Reboot(t)
	again, sandbox := said()
	if again != sandbox || again == shell {
		t.Errorf("after a boot a shell reads %q, the sandbox %q; before it was %q", again, sandbox, shell)
	}
}

// TestBootOfAPIDNamespace: what starts anew with a PID 1 of its own (a container
// whose starter leaves the boot id alone) has booted.
func TestBootOfAPIDNamespace(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("makes a PID namespace: needs root")
	}
	boot := func(argv ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
		cmd.Env = append(os.Environ(), saysBoot+"=1")
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.HasSuffix(string(out), " <nil>\n") {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	inside := []string{"unshare", "--pid", "--fork", "--mount-proc", os.Args[0]}
	first := boot(inside...)
	if outside := boot(os.Args[0]); outside == first {
		t.Errorf("inside and outside it is %s", first)
	}
	for tries := 0; boot(inside...) == first; tries++ { // within one tick of the first
		if tries == 100 {
			t.Fatalf("each has the same: %s", first)
		}
	}
}

// sandboxed is the unit with another program, whose output goes to a file; its
// way of running and ending left out, all that it may and may not kept.
func sandboxed(unit, program, out string) string {
	var b strings.Builder
	for line := range strings.Lines(unit) {
		key, _, _ := strings.Cut(line, "=")
		switch key {
		case "Type", "ExecStart", "ExecReload", "Restart", "WatchdogSec", "ConditionPathExists", "TimeoutStartSec":
		default:
			b.WriteString(line)
		}
		if strings.TrimSpace(line) == "[Service]" {
			fmt.Fprintf(&b, "Type=oneshot\nEnvironment=%s=1\nExecStart=%s\nStandardOutput=truncate:%s\n", saysBoot, program, out)
		}
	}
	return b.String()
}

func sleeper(t *testing.T) (*exec.Cmd, proc.ID) {
	t.Helper()
	cmd := exec.Command("/bin/sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	id, err := proc.Of(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	return cmd, id
}

func TestIdentity(t *testing.T) {
	cmd, id := sleeper(t)
	if !id.Alive() {
		t.Fatal("not alive")
	}
	for name, other := range map[string]proc.ID{
		"start": {PID: id.PID, Start: id.Start + 1, Boot: id.Boot},
		"boot":  {PID: id.PID, Start: id.Start, Boot: "another"},
		"zero":  {},
	} {
		if other.Alive() {
			t.Errorf("another %s passes", name)
		}
		if err := other.Signal(unix.SIGKILL); err != nil && other.PID != 0 {
			t.Error(err)
		}
		if err := other.Wait(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if !id.Alive() {
		t.Fatal("a stranger's signal reached it")
	}
	if age, err := id.Age(); err != nil || age > time.Hour {
		t.Errorf("age %v, %v", age, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	// Dead, though nobody has waited for it: a zombie is not alive.
	if err := id.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if id.Alive() {
		t.Error("a zombie passes for alive")
	}
	if _, err := proc.Of(id.PID); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	_, id := sleeper(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := id.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}
