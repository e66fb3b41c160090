package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestDemo runs the real demo, with the real agent, as a person would.
func TestDemo(t *testing.T) {
	if testing.Short() {
		t.Skip("the demo takes half a minute")
	}
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("no git here; install it: apt-get install git")
	}
	bin := t.TempDir()
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", bin+"/", "drydock/cmd/demo", "drydock/cmd/hostagent", "drydock/cmd/drydock").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	t.Run("to its end", func(t *testing.T) {
		t.Parallel()
		toItsEnd(t, bin)
	})
	t.Run("unread", func(t *testing.T) {
		t.Parallel()
		unread(t, bin)
	})
	t.Run("interrupted", func(t *testing.T) {
		t.Parallel()
		interrupted(t, bin)
	})
}

func toItsEnd(t *testing.T, bin string) {
	tmp := t.TempDir()
	cmd := demoCommand(t, bin, tmp, "--output", "json")
	var out, story bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &story
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, story.String(), out.String())
	}
	var r report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if !r.OK || len(r.Acts) != 3 {
		t.Fatalf("ok %v, %d acts\n%s", r.OK, len(r.Acts), story.String())
	}
	bump, broken, bare := r.Acts[0], r.Acts[1], r.Acts[2]
	for _, a := range []actFigures{bump, broken} {
		if a.Sent == 0 || a.Failed != 0 || !a.Drain {
			t.Errorf("%s, with drain: %d sent, %d failed (%s)", a.Act, a.Sent, a.Failed, a.FirstError)
		}
		if a.LongestMS < 300 || a.LongestMS > holding.Milliseconds() {
			t.Errorf("%s: the longest wait was %d ms, although requests were held", a.Act, a.LongestMS)
		}
	}
	if bare.Failed == 0 || bare.Drain {
		t.Errorf("%s: none of %d failed", bare.Act, bare.Sent)
	}
	if bump.State != "converged" || bump.Answered["1.0.0"] == 0 || bump.Answered["1.1.0"] == 0 {
		t.Errorf("the bump: %s, answered by %v", bump.State, bump.Answered)
	}
	if broken.State != "reverted" || broken.Running != "1.1.0" || broken.Answered["1.2.0"] != 0 {
		t.Errorf("the broken release: %s, %s runs, answered by %v", broken.State, broken.Running, broken.Answered)
	}
	for _, want := range []string{"revert  1.2.0 -> 1.1.0", "✗ check    http", "converged  web runs 1.3.0"} {
		if !strings.Contains(story.String(), want) {
			t.Errorf("the story does not say %q:\n%s", want, story.String())
		}
	}
	if strings.Contains(story.String(), "\x1b") {
		t.Error("colour where there is no terminal")
	}
	nothingLeft(t, tmp)
}

// A Ctrl-C in the middle of a deployment leaves nothing behind: no directory,
// no agent, and not the service that is made to outlive its agent.
func interrupted(t *testing.T, bin string) {
	tmp := t.TempDir()
	cmd := demoCommand(t, bin, tmp)
	story, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(story)
	for lines.Scan() && !strings.Contains(lines.Text(), "✓ drain") {
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, story)
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != exitInterrupted {
		t.Errorf("%v, not exit code %d", err, exitInterrupted)
	}
	nothingLeft(t, tmp)
}

// A reader that goes away, as in `demo | head`, leaves nothing behind either.
func unread(t *testing.T, bin string) {
	tmp := t.TempDir()
	cmd := demoCommand(t, bin, tmp)
	story, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(story)
	for lines.Scan() && !strings.Contains(lines.Text(), "1. A bump") {
	}
	_ = story.Close()
	if err := cmd.Wait(); err == nil {
		t.Error("it went on, and nobody read")
	}
	nothingLeft(t, tmp)
}

func demoCommand(t *testing.T, bin, tmp string, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "demo"), append([]string{"--fast", "--bin", bin}, args...)...)
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	return cmd
}

func nothingLeft(t *testing.T, tmp string) {
	t.Helper()
	left, err := os.ReadDir(tmp)
	if err != nil || len(left) > 0 {
		t.Errorf("left in the temporary directory: %v, %v", left, err)
	}
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range lines {
		if data, err := os.ReadFile(p); err == nil && bytes.Contains(data, []byte(tmp)) {
			t.Errorf("still runs: %s", bytes.ReplaceAll(data, []byte{0}, []byte{' '}))
		}
	}
}
