package argv_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"drydock/hostagent/argv"
	"drydock/hostagent/proc"
	"drydock/reconcile"
	"drydock/spec"
)

func TestMain(m *testing.M) {
	if code, ours := argv.Shim(os.Args); ours {
		os.Exit(code)
	}
	if len(os.Args) > 1 && os.Args[1] == "agent" {
		os.Exit(agent(os.Args[2:]))
	}
	if len(os.Args) > 1 && os.Args[1] == "daemon" {
		os.Exit(daemon(os.Args[2:]))
	}
	os.Exit(m.Run())
}

// daemon is a program with bad manners: it writes its pid to a file and stays.
func daemon(args []string) int {
	for _, a := range args[1:] {
		switch a {
		case "ignore":
			signal.Ignore(unix.SIGTERM)
		case "closefds":
			for fd := 3; fd < 1024; fd++ {
				unix.CloseOnExec(fd)
			}
			_ = syscall.Exec("/proc/self/exe", []string{os.Args[0], "daemon", args[0]}, os.Environ())
		case "setsid":
			_, _ = unix.Setsid()
		}
	}
	_ = os.WriteFile(args[0]+".tmp", []byte(strconv.Itoa(os.Getpid())), 0o644)
	_ = os.Rename(args[0]+".tmp", args[0])
	select {}
}

// agent runs one tracked command and prints when it is started; the test kills it.
func agent(args []string) int {
	_, err := argv.Site{Dir: args[0]}.Run(context.Background(), reconcile.Env{}, step(args[0]), argv.Command{Argv: args[1:], Timeout: time.Minute})
	fmt.Println("end:", err)
	return 0
}

func step(path string) reconcile.Step {
	return reconcile.Step{
		ID: "web/migrate/command", Service: "web", Phase: reconcile.Migrate, Host: "h",
		Target: spec.Service{Name: "web", Environment: "prod", Release: spec.Release{Version: "1.4.2"}},
	}
}

// inRelease is a step whose release directory exists.
func inRelease(t *testing.T) (reconcile.Step, string) {
	t.Helper()
	s := step("")
	base := t.TempDir()
	s.Target.Install = &spec.Block{Type: "install", Driver: "archive", Config: []byte(`{"path":` + strconv.Quote(base) + `}`)}
	dir := s.Target.ReleaseDir()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return s, dir
}

func sh(script string, args ...string) []string {
	return append([]string{"/bin/sh", "-c", script, "sh"}, args...)
}

func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// eventually polls for what another process brings about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(30 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("never: %s", what)
		}
	}
}

func pidIn(t *testing.T, path string) proc.ID {
	t.Helper()
	var id proc.ID
	eventually(t, "a pid in "+path, func() bool {
		data, err := os.ReadFile(path)
		n, e := strconv.Atoi(strings.TrimSpace(string(data)))
		if err != nil || e != nil {
			return false
		}
		id, err = proc.Of(n)
		if err != nil {
			id = proc.ID{PID: n}
		}
		return true
	})
	return id
}

func TestRunEnvironmentIsClean(t *testing.T) {
	t.Setenv("SECRET_OF_THE_AGENT", "x")
	s, dir := inRelease(t)
	s.Previous = "1.4.1"
	out, err := argv.Run(deadline(t), reconcile.Env{}, s, argv.Command{Argv: sh("pwd; env"), Env: []string{"EXTRA=yes"}})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(out, dir+"\n") {
		t.Errorf("did not run in the release's directory: %q", out)
	}
	for _, want := range []string{"DRYDOCK_SERVICE=web\n", "DRYDOCK_VERSION=1.4.2\n", "DRYDOCK_PREVIOUS_VERSION=1.4.1\n", "DRYDOCK_RELEASE_DIR=" + dir + "\n", "DRYDOCK_ENVIRONMENT=prod\n", "DRYDOCK_HOST=h\n", "EXTRA=yes\n", "PATH=/usr/local/sbin:"} {
		if !strings.Contains(out, want) {
			t.Errorf("the environment lacks %q", want)
		}
	}
	if strings.Contains(out, "SECRET_OF_THE_AGENT") {
		t.Error("the agent's own environment leaked into the command")
	}
}

func TestRunFindsPrograms(t *testing.T) {
	s, dir := inRelease(t)
	if err := os.MkdirAll(filepath.Join(dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"bin/tool", "true"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\necho from the release\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "plain"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"bin/tool", "true"} {
		out, err := argv.Run(deadline(t), reconcile.Env{}, s, argv.Command{Argv: []string{name}})
		if err != nil || out != "from the release\n" {
			t.Errorf("%s: %q, %v", name, out, err)
		}
	}
	for name, want := range map[string]reconcile.Blame{
		"no-such-program": reconcile.OfHost, "/no/such/program": reconcile.OfHost,
		"bin/missing": reconcile.OfRelease, "plain": reconcile.OfRelease, "bin": reconcile.OfRelease,
	} {
		_, err := argv.Run(deadline(t), reconcile.Env{}, s, argv.Command{Argv: []string{name}})
		if err == nil || reconcile.BlameOf(err) != want {
			t.Errorf("%s: blame %v, want %v: %v", name, reconcile.BlameOf(err), want, err)
		}
	}
}

func TestRunMissingUserIsTheHostsFault(t *testing.T) {
	_, err := argv.Run(deadline(t), reconcile.Env{}, step(""), argv.Command{Argv: []string{"true"}, User: "no-such-user-here"})
	if reconcile.BlameOf(err) != reconcile.OfHost || !strings.Contains(err.Error(), "no-such-user-here") {
		t.Errorf("got %v", err)
	}
}

func TestRunAsUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: sudo go test")
	}
	out, err := argv.Run(deadline(t), reconcile.Env{}, step(""), argv.Command{Argv: sh("id -un; echo $HOME"), User: "nobody"})
	if err != nil || !strings.HasPrefix(out, "nobody\n/nonexistent") {
		t.Errorf("%q, %v", out, err)
	}
}

func TestRunExitIsBlamedByPhase(t *testing.T) {
	for phase, want := range map[reconcile.Phase]reconcile.Blame{
		reconcile.Fetch: reconcile.Transient, reconcile.Drain: reconcile.Transient,
		reconcile.Install: reconcile.OfRelease, reconcile.Start: reconcile.OfRelease, reconcile.Check: reconcile.OfRelease,
	} {
		s := step("")
		s.Phase = phase
		_, err := argv.Run(deadline(t), reconcile.Env{}, s, argv.Command{Argv: sh("echo the reason >&2; exit 3")})
		var exit *argv.ExitError
		if !errors.As(err, &exit) || exit.Code != 3 || reconcile.BlameOf(err) != want {
			t.Errorf("%v: %v (blame %v, want %v)", phase, err, reconcile.BlameOf(err), want)
		} else if !strings.Contains(err.Error(), "the reason") {
			t.Errorf("the error lacks the last output: %v", err)
		}
	}
}

// A command that ignores SIGTERM is killed after the grace, with its children.
func TestRunKillsWhatIgnoresSIGTERM(t *testing.T) {
	pid := filepath.Join(t.TempDir(), "pid")
	_, err := argv.Run(deadline(t), reconcile.Env{}, step(""), argv.Command{
		Argv: sh(`trap "" TERM; "$1" daemon "$2" ignore & wait; while :; do sleep 1; done`, exe(t), pid), Timeout: 500 * time.Millisecond, Grace: 50 * time.Millisecond,
	})
	var late *argv.TimeoutError
	if !errors.As(err, &late) {
		t.Fatalf("got %v", err)
	}
	if _, err := os.Stat(pid); err == nil && pidIn(t, pid).Alive() {
		t.Error("its child still lives")
	}
}

// A grandchild that keeps stdout open does not hold Run up, and dies.
func TestRunDoesNotWaitForAnOpenPipe(t *testing.T) {
	for _, manners := range []string{"ignore", "setsid"} {
		t.Run(manners, func(t *testing.T) {
			pid := filepath.Join(t.TempDir(), "pid")
			out, err := argv.Run(deadline(t), reconcile.Env{}, step(""), argv.Command{
				Argv: sh(`"$1" daemon "$2" "$3" & while ! test -e "$2"; do sleep 0.01; done; echo done`, exe(t), pid, manners),
			})
			if err != nil || out != "done\n" {
				t.Fatalf("%q, %v", out, err)
			}
			id := pidIn(t, pid)
			eventually(t, "the grandchild is dead", func() bool { return !id.Alive() })
		})
	}
}

// One that fled to a session of its own is found by its mark when the time is up.
func TestRunTimeoutReachesWhatForkedAway(t *testing.T) {
	pid := filepath.Join(t.TempDir(), "pid")
	_, err := argv.Run(deadline(t), reconcile.Env{}, step(""), argv.Command{
		Argv: sh(`"$1" daemon "$2" setsid >/dev/null 2>&1 & exec sleep 600`, exe(t), pid), Timeout: 2 * time.Second, Grace: 50 * time.Millisecond,
	})
	var late *argv.TimeoutError
	if !errors.As(err, &late) {
		t.Fatalf("got %v", err)
	}
	id := pidIn(t, pid)
	eventually(t, "what forked away is dead", func() bool { return !id.Alive() })
}

func TestRunCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(deadline(t))
	ready := filepath.Join(t.TempDir(), "ready")
	done := make(chan error, 1)
	go func() {
		_, err := argv.Run(ctx, reconcile.Env{}, step(""), argv.Command{Argv: sh(`touch "$1"; exec sleep 600`, ready)})
		done <- err
	}()
	eventually(t, "started", func() bool { _, err := os.Stat(ready); return err == nil })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestRunCapsOutput(t *testing.T) {
	var log bytes.Buffer
	env := reconcile.Env{Output: func(reconcile.Step) io.Writer { return &log }}
	out, err := argv.Run(deadline(t), env, step(""), argv.Command{Argv: sh(`echo first; head -c 4000000 /dev/zero | tr '\0' x; echo; echo last`)})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) > 70<<10 || !strings.HasPrefix(out, "first\n") || !strings.HasSuffix(out, "last\n") || !strings.Contains(out, "bytes left out") {
		t.Errorf("%d bytes: %.20q … %.20q", len(out), out, out[max(0, len(out)-20):])
	}
	if log.String() != out {
		t.Error("the log got something else")
	}
}

func exe(t *testing.T) string {
	t.Helper()
	p, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// What a command prints is shown to people: it must not steer their terminals.
func TestRunOutputIsPlain(t *testing.T) {
	_, err := argv.Run(deadline(t), reconcile.Env{}, step(""), argv.Command{Argv: sh(`printf 'a\033[2J\033]0;x\007b\r\n\tc\302\233d\342\200\256e\377'; exit 1`)})
	if err == nil || !strings.HasSuffix(err.Error(), "a�[2J�]0;x�b\n\tc�d�e�") {
		t.Errorf("%q", err)
	}
}
