package process_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"drydock/hostagent/argv"
	"drydock/hostagent/drivertest"
	"drydock/hostagent/proc"
	"drydock/hostagent/process"
	"drydock/reconcile"
	"drydock/spec"
)

func TestMain(m *testing.M) {
	if code, ours := argv.Shim(os.Args); ours {
		os.Exit(code)
	}
	if len(os.Args) > 2 {
		switch os.Args[1] {
		case "agent":
			os.Exit(agent(os.Args[2]))
		case "daemon":
			os.Exit(daemon(os.Args[2:]))
		}
	}
	os.Exit(m.Run())
}

// daemon writes a line into a file each time that it is started, and stays.
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
		case "die":
			defer os.Exit(1)
		}
	}
	f, err := os.OpenFile(args[0], os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return 1
	}
	fmt.Fprintf(f, "%d %s %s\n", os.Getpid(), os.Getenv("DRYDOCK_VERSION"), os.Getenv("COLOUR"))
	f.Close()
	fmt.Println("output of the daemon")
	if len(args) > 1 && args[1] == "die" {
		return 1
	}
	select {}
}

// agent does what the real one does for a start step that was begun before it
// was killed: it asks, and acts if it must. It reads the step from a file.
func agent(path string) int {
	var in agentInput
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, &in)
	}
	if err != nil {
		fmt.Println("error:", err)
		return 1
	}
	fmt.Println("ready")
	orders := bufio.NewReader(os.Stdin)
	d := process.New(reconcile.Env{StateDir: in.State})
	ctx := context.Background()
	for _, version := range in.Versions {
		_, _ = orders.ReadString('\n')
		s := in.step()
		s.Target.Release.Version = version
		done, err := d.Done(ctx, s)
		if err == nil && !done {
			err = d.Do(ctx, s)
		}
		fmt.Println("done", err)
	}
	select {}
}

type agentInput struct {
	State    string
	Block    spec.Block
	Target   spec.Service
	Versions []string // of an agent: what it brings about, one after another
}

func (in agentInput) step() reconcile.Step {
	return reconcile.Step{ID: "web/start/process", Service: "web", Phase: reconcile.Start, Block: in.Block, Target: in.Target, Host: "h"}
}

// rig is a service whose program is this test's own daemon.
type rig struct {
	agentInput
	started string // the daemon's file
}

func newRig(t *testing.T, config map[string]any, manners ...string) *rig {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	r := &rig{started: filepath.Join(dir, "started")}
	r.State = filepath.Join(dir, "state")
	all := map[string]any{
		"command": append([]string{exe, "daemon", r.started}, manners...), "stop_timeout": "10s", "timeout": "30s",
		"env": map[string]string{"COLOUR": "blue"},
	}
	for k, v := range config {
		all[k] = v
	}
	data, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	r.Block = spec.Block{Type: "start", Driver: "process", Config: data}
	r.Target = spec.Service{Name: "web", Environment: "prod", Release: spec.Release{Version: "1.4.2", Attempt: 1}, Start: &r.Block}
	t.Cleanup(func() {
		s := r.step()
		s.Action = reconcile.Remove
		if err := r.driver().Do(context.Background(), s); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *rig) driver() *process.Driver { return process.New(reconcile.Env{StateDir: r.State}) }

func (r *rig) starts(t *testing.T) []string {
	t.Helper()
	data, err := os.ReadFile(r.started)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.FieldsFunc(string(data), func(c rune) bool { return c == '\n' })
}

// pid of the n-th start.
func (r *rig) pid(t *testing.T, n int) proc.ID {
	t.Helper()
	eventually(t, fmt.Sprintf("start %d", n), func() bool { return len(r.starts(t)) >= n })
	pid, err := strconv.Atoi(strings.Fields(r.starts(t)[n-1])[0])
	if err != nil {
		t.Fatal(err)
	}
	id, err := proc.Of(pid)
	if err != nil {
		id.PID = pid
	}
	return id
}

func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	late := time.After(60 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("never: %s", what)
		}
	}
}

func do(t *testing.T, d *process.Driver, s reconcile.Step) {
	t.Helper()
	if err := d.Do(deadline(t), s); err != nil {
		t.Fatal(err)
	}
}

func observe(t *testing.T, d *process.Driver, s reconcile.Step) reconcile.Condition {
	t.Helper()
	c, err := d.Observe(deadline(t), s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func done(t *testing.T, d *process.Driver, s reconcile.Step) bool {
	t.Helper()
	ok, err := d.Done(deadline(t), s)
	if err != nil {
		t.Fatal(err)
	}
	return ok
}

func TestStartReplaceStop(t *testing.T) {
	r := newRig(t, nil)
	d := r.driver()
	if c := observe(t, d, r.step()); c.Is != reconcile.Absent {
		t.Errorf("before: %+v", c)
	}
	do(t, d, r.step())
	first := r.pid(t, 1)
	if !done(t, d, r.step()) {
		t.Error("not done after Do")
	}
	if c := observe(t, r.driver(), r.step()); c.Is != reconcile.Present || c.Detail != first.String() {
		t.Errorf("another agent sees %+v", c)
	}
	if line := r.starts(t)[0]; !strings.HasSuffix(line, "1.4.2 blue") {
		t.Errorf("environment: %q", line)
	}
	next := r.step()
	next.Target.Release.Version = "1.4.3"
	if done(t, d, next) {
		t.Error("the old release's process passes for the new one's")
	}
	if c := observe(t, d, next); c.Is != reconcile.Altered {
		t.Errorf("%+v", c)
	}
	do(t, d, next)
	second := r.pid(t, 2)
	if first.Alive() || !second.Alive() {
		t.Error("the old one must be gone, and the new one live")
	}
	next.Action = reconcile.Remove
	do(t, d, next)
	if second.Alive() || !done(t, d, next) {
		t.Error("still there after its removal")
	}
	log, err := os.ReadFile(filepath.Join(r.State, "web", "output.log"))
	if err != nil || strings.Count(string(log), "output of the daemon") != 2 {
		t.Errorf("log: %q, %v", log, err)
	}
}

// One that ignores SIGTERM or closes all descriptors is stopped all the same,
// and proven gone before the next is started.
func TestReplaceBadManners(t *testing.T) {
	for _, manners := range []string{"ignore", "closefds"} {
		t.Run(manners, func(t *testing.T) {
			r := newRig(t, map[string]any{"stop_timeout": "50ms"}, manners)
			do(t, r.driver(), r.step())
			first := r.pid(t, 1)
			next := r.step()
			next.Target.Release.Version = "1.4.3"
			do(t, r.driver(), next)
			if first.Alive() {
				t.Error("the old one still lives")
			}
		})
	}
}

// A damaged record neither loses the process nor starts a second one.
func TestCorruptRecord(t *testing.T) {
	r := newRig(t, nil)
	do(t, r.driver(), r.step())
	r.pid(t, 1)
	if err := os.WriteFile(filepath.Join(r.State, "web", "record"), []byte("\x00garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if !done(t, r.driver(), r.step()) {
		t.Error("the process was not taken up again")
	}
	if c := observe(t, r.driver(), r.step()); c.Is != reconcile.Present {
		t.Errorf("%+v", c)
	}
}

// No zombie stays of a process that died by itself.
func TestReapsItsChildren(t *testing.T) {
	r := newRig(t, nil, "die")
	do(t, r.driver(), r.step())
	id := r.pid(t, 1)
	eventually(t, "the dead child is waited for", func() bool {
		_, err := os.Stat(fmt.Sprintf("/proc/%d", id.PID))
		return os.IsNotExist(err)
	})
	if c := observe(t, r.driver(), r.step()); c.Is != reconcile.Absent {
		t.Errorf("%+v", c)
	}
}

// The agent is SIGKILLed at 160 moments around a start; each time the next one
// takes the process up, and no two ever live.
func TestSIGKILLRightAfterStart(t *testing.T) {
	const rounds = 160
	if testing.Short() {
		t.Skip("starts 160 agents")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, map[string]any{"stop_timeout": "1s"})
	version := func(n int) string { return fmt.Sprintf("1.%d", n) }
	input := filepath.Join(t.TempDir(), "input")
	for round := range rounds {
		in := r.agentInput
		in.Versions = []string{version(round), version(round + 1)}
		data, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(input, data, 0o600); err != nil {
			t.Fatal(err)
		}
		// The agent takes up what the one before was killed over, and is killed
		// over the next: as soon as that is started, or at any moment.
		a := startAgent(t, exe, input)
		a.expect(t, "done <nil>")
		r.onlyOne(t, version(round))
		a.goOn()
		if round%2 == 0 {
			a.expect(t, "done <nil>")
		} else {
			// Nothing is waited for: this is the moment of the kill.
			<-time.After(time.Duration(round) * 200 * time.Microsecond)
		}
		a.kill()
	}
}

// onlyOne fails unless this version was started once.
func (r *rig) onlyOne(t *testing.T, version string) {
	t.Helper()
	version = " " + version + " "
	all := func() string { return strings.Join(r.starts(t), "\n") + "\n" }
	eventually(t, "the daemon says that it runs", func() bool { return strings.Contains(all(), version) })
	if n := strings.Count(all(), version); n != 1 {
		t.Fatalf("%s was started %d times", version, n)
	}
}

type agentProcess struct {
	cmd *exec.Cmd
	in  io.Writer
	out *bufio.Reader
}

func startAgent(t *testing.T, exe, input string) *agentProcess {
	t.Helper()
	a := &agentProcess{cmd: exec.Command(exe, "agent", input)}
	in, err := a.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := a.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.kill)
	a.in, a.out = in, bufio.NewReader(out)
	a.expect(t, "ready")
	a.goOn()
	return a
}

func (a *agentProcess) expect(t *testing.T, want string) {
	t.Helper()
	line, err := a.out.ReadString('\n')
	if strings.TrimSpace(line) != want {
		a.kill()
		t.Fatalf("the agent said %q, %v; expected %q", line, err, want)
	}
}

func (a *agentProcess) goOn() { _, _ = io.WriteString(a.in, "\n") }

func (a *agentProcess) kill() {
	_ = a.cmd.Process.Kill()
	_ = a.cmd.Wait()
}

func TestKeepRestarts(t *testing.T) {
	r := newRig(t, nil)
	d := r.driver()
	do(t, d, r.step())
	ctx, cancel := context.WithCancel(deadline(t))
	defer cancel()
	// By another agent's value, for which the process is not a child.
	if err := r.driver().Keep(ctx, r.step()); err != nil {
		t.Fatal(err)
	}
	first := r.pid(t, 1)
	if err := first.Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	second := r.pid(t, 2)
	if !done(t, d, r.step()) || !second.Alive() {
		t.Error("not started again as the same release")
	}
}

// What Do stopped stays stopped.
func TestKeepDoesNotFightWithDo(t *testing.T) {
	r := newRig(t, nil)
	d := r.driver()
	do(t, d, r.step())
	if err := d.Keep(deadline(t), r.step()); err != nil {
		t.Fatal(err)
	}
	r.pid(t, 1)
	remove := r.step()
	remove.Action = reconcile.Remove
	do(t, d, remove)
	r.stays(t, 1)
}

// A new release that dies while it is checked stays dead, whoever kept the old
// one; when the old one has come back, it is kept again.
func TestKeepRestsWhileAnotherReleaseIsThere(t *testing.T) {
	r := newRig(t, nil)
	d := r.driver()
	do(t, d, r.step())
	if err := d.Keep(deadline(t), r.step()); err != nil {
		t.Fatal(err)
	}
	r.pid(t, 1)
	next := r.step()
	next.Target.Release.Version = "1.4.3"
	do(t, d, next)
	second := r.pid(t, 2)
	if err := second.Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.stays(t, 2)
	do(t, d, r.step())
	third := r.pid(t, 3)
	if err := third.Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.pid(t, 4)
}

// stays watches for as long as a keeper would need at least twice that nothing
// is started.
func (r *rig) stays(t *testing.T, n int) {
	t.Helper()
	timer := time.NewTimer(3 * time.Second)
	defer timer.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for waiting := true; waiting; {
		select {
		case <-timer.C:
			waiting = false
		case <-tick.C:
			if got := len(r.starts(t)); got != n {
				t.Fatalf("%d starts, expected %d", got, n)
			}
		}
	}
}

func TestKeepEndsWithItsContext(t *testing.T) {
	r := newRig(t, nil)
	d := r.driver()
	do(t, d, r.step())
	ctx, cancel := context.WithCancel(deadline(t))
	if err := d.Keep(ctx, r.step()); err != nil {
		t.Fatal(err)
	}
	cancel()
	first := r.pid(t, 1)
	if !first.Alive() {
		t.Error("the process ended with its keeper")
	}
}

func TestEnvFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "env")
	r := newRig(t, map[string]any{"env_file": path, "env": nil})
	if err := os.WriteFile(path, []byte("# comment\n\nexport COLOUR=\"red\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	do(t, r.driver(), r.step())
	r.pid(t, 1)
	if line := r.starts(t)[0]; !strings.HasSuffix(line, "red") {
		t.Errorf("%q", line)
	}
	if err := os.WriteFile(path, []byte("COLOUR=red\nsecret without sign\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := r.driver().Do(deadline(t), r.step())
	if err == nil || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), ":2 ") {
		t.Errorf("%v", err)
	}
}

// A log that is a link must not make the agent write elsewhere.
func TestLogIsNoLink(t *testing.T) {
	dir := t.TempDir()
	victim, log := filepath.Join(dir, "victim"), filepath.Join(dir, "log")
	if err := os.WriteFile(victim, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, log); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, map[string]any{"log": log})
	if err := r.driver().Do(deadline(t), r.step()); reconcile.BlameOf(err) != reconcile.OfHost {
		t.Errorf("%v", err)
	}
}

func TestLogIsBounded(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(log, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(log, 20<<20); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, map[string]any{"log": log})
	do(t, r.driver(), r.step())
	r.pid(t, 1)
	info, err := os.Stat(log)
	aside, err2 := os.Stat(log + ".1")
	if err != nil || err2 != nil || info.Size() > 1<<20 || aside.Size() != 16<<20 {
		t.Errorf("%v %v %v %v", info, err, aside, err2)
	}
}

func TestDriver(t *testing.T) {
	make := func(t *testing.T, config map[string]any) drivertest.Case {
		r := newRig(t, config)
		s, back := r.step(), r.step()
		back.Action = reconcile.Remove
		return drivertest.Case{
			New: func(env reconcile.Env) reconcile.Driver { return process.New(env) },
			Env: reconcile.Env{StateDir: r.State}, Step: s, Back: &back,
			Before: reconcile.Absent, After: reconcile.Present,
		}
	}
	fault := func(blame reconcile.Blame, config map[string]any) drivertest.Fault {
		return drivertest.Fault{Blame: blame, Make: func(t *testing.T) drivertest.Case { return make(t, config) }}
	}
	drivertest.Run(t, drivertest.Suite{
		Make: func(t *testing.T) drivertest.Case { return make(t, nil) },
		// It hangs in ending what runs, which ignores SIGTERM.
		Hanging: func(t *testing.T) drivertest.Case {
			r := newRig(t, map[string]any{"stop_timeout": "1h"}, "ignore")
			do(t, r.driver(), r.step())
			r.pid(t, 1)
			t.Cleanup(func() { // before the rig's own, which would wait for an hour
				if err := (argv.Site{Dir: filepath.Join(r.State, "web")}).Stop(context.Background(), 0); err != nil {
					t.Error(err)
				}
			})
			return drivertest.Case{New: func(env reconcile.Env) reconcile.Driver { return process.New(env) }, Env: reconcile.Env{StateDir: r.State}, Step: r.step()}
		},
		Faults: map[string]drivertest.Fault{
			"missing user":         fault(reconcile.OfHost, map[string]any{"user": "no-such-user-here"}),
			"missing env_file":     fault(reconcile.OfHost, map[string]any{"env_file": "/no/such/file"}),
			"log is a directory":   fault(reconcile.OfHost, map[string]any{"log": "/tmp"}),
			"command not found":    fault(reconcile.OfHost, map[string]any{"command": []string{"/no/such/program"}}),
			"env_file is a device": fault(reconcile.OfHost, map[string]any{"env_file": "/dev/zero"}),
		},
		Config: process.Config{}, Reference: "service.start.process",
	})
}

// TestLogIsBoundedWhileItRuns: a service that only prints must not take the
// disk that the journal lies on.
func TestLogIsBoundedWhileItRuns(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	r := newRig(t, map[string]any{"log": log})
	d := r.driver()
	do(t, d, r.step())
	r.pid(t, 1)
	if err := d.Keep(deadline(t), r.step()); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(log, 20<<20); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(30 * time.Second); ; {
		if info, err := os.Stat(log); err == nil && info.Size() < 1<<20 {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("the log was not moved aside")
		}
	}
}
