package proc_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"drydock/hostagent/proc"
)

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
