package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http/httptrace"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"drydock/hostagent/api"
	"drydock/reconcile"
)

// TestScripts runs the scripts of the project that are the agent's: the real
// agent, real git, real processes.
func TestScripts(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("no git here: apt-get install git")
	}
	files, err := filepath.Glob("../../testdata/script/hostagent-*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	testscript.Run(t, testscript.Params{
		Files:               files,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "",
		Setup:               setupHost,
		Condition: func(cond string) (bool, error) {
			if cond != "root" {
				return false, fmt.Errorf("unknown condition %q", cond)
			}
			return os.Geteuid() == 0, nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"agent":         cmdAgent,
			"start":         cmdStart,
			"stop-agent":    cmdStop,
			"signal":        cmdSignal,
			"ended":         cmdEnded,
			"logged":        cmdLogged,
			"await":         cmdAwait,
			"expect":        cmdExpect,
			"wait-for":      cmdWaitFor,
			"absent":        cmdAbsent,
			"release":       cmdRelease,
			"service":       cmdService,
			"bump":          cmdBump,
			"push":          cmdPush,
			"git":           cmdGit,
			"replace":       cmdReplace,
			"serves":        cmdServes,
			"starts":        cmdStarts,
			"ended-process": cmdEndedProcess,
			"end":           cmdEnd,
			"records":       cmdRecords,
			"nowhere":       cmdNowhere,
			"damage":        cmdDamage,
			"mask":          cmdMask,
			"serve":         cmdServe,
			"mount":         cmdMount,
			"leave":         cmdLeave,
			"silent":        cmdSilent,
			"tree":          cmdTree,
		},
	})
}

// world is what a script's commands share.
type world struct {
	dir   string
	state string // the agent's state directory
	fills [][2]string
	ends  []func()
	mu    sync.Mutex
	agent *running
}

// running is an agent that runs for ever, in the background.
type running struct {
	cmd   *exec.Cmd
	log   *lockedBuffer
	ended chan struct{}
}

type worldKey struct{}

func worldOf(ts *testscript.TestScript) *world { return ts.Value(worldKey{}).(*world) }

// The profile that services of scripts have where the script brings none: a
// program that writes down each of its starts, and a rotation file.
const profiles = `profile "app" {
  artifact {
    source = "file://$WORK/artifacts/${service.name}-${release.version}.tar.gz"
  }
  drain "file" {
    path = "$WORK/rotation/${service.name}"
    wait = "1ms"
  }
  install "archive" {
    path = "$WORK/srv/${service.name}"
  }
  start "process" {
    command      = ["bin/app"]
    stop_timeout = "5s"
  }
  check "command" {
    command  = ["$WORK/check", service.name, release.version]
    interval = "10ms"
  }
  rollout {
    min_healthy_time = "10ms"
    healthy_deadline = "20s"
  }
}
`

// checkScript is healthy once the newest start is of the version that is asked
// for, unless the file sick/SERVICE is there.
const checkScript = `#!/bin/sh
test ! -e $WORK/sick/$1 || { echo sick; exit 1; }
tail -n1 $WORK/starts/$1 | grep -q "^$2 "
`

const hostConfig = `host {
  name = "web-1"
}
environment = "prod"
source {
  url = "$WORK/up.git"
}
state = "$WORK/state"
`

func setupHost(e *testscript.Env) error {
	w := &world{dir: e.WorkDir, state: filepath.Join(e.WorkDir, "state"), fills: [][2]string{{"$WORK", e.WorkDir}}}
	e.Values[worldKey{}] = w
	e.Vars = append(e.Vars,
		"HOME="+e.WorkDir, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null",
		"GIT_AUTHOR_NAME=Ann", "GIT_AUTHOR_EMAIL=ann@acme.example", "GIT_AUTHOR_DATE=2024-05-06T10:00:00Z",
		"GIT_COMMITTER_NAME=Ann", "GIT_COMMITTER_EMAIL=ann@acme.example", "GIT_COMMITTER_DATE=2024-05-06T10:00:00Z",
		"CREDENTIALS_DIRECTORY=", "NO_COLOR=1", asAgent+"=1", inHurry+"=50",
	)
	e.Defer(func() { w.cleanup() })
	for _, d := range []string{"artifacts", "rotation", "srv", "starts", "sick", "fleet/prod"} {
		if err := os.MkdirAll(filepath.Join(e.WorkDir, d), 0o755); err != nil {
			return err
		}
	}
	for name, text := range map[string]string{"fleet/profiles.hcl": profiles, "check": checkScript, "host.hcl": hostConfig} {
		path := filepath.Join(e.WorkDir, name)
		if _, err := os.Stat(path); err == nil {
			own, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text = string(own)
		}
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, "$WORK", e.WorkDir)), 0o755); err != nil {
			return err
		}
	}
	for _, args := range [][]string{
		{"init", "-q", "--bare", "-b", "main", "up.git"},
		{"init", "-q", "-b", "main", "fleet"},
		{"-C", "fleet", "remote", "add", "up", filepath.Join(e.WorkDir, "up.git")},
	} {
		cmd := exec.Command("git", args...)
		cmd.Dir, cmd.Env = e.WorkDir, append(os.Environ(), e.Vars...)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("git %v: %w\n%s", args, err, out)
		}
	}
	return nil
}

// cleanup ends the agent, and the programs, which outlive it on purpose.
func (w *world) cleanup() {
	defer func() {
		for _, end := range w.ends {
			end()
		}
	}()
	if a := w.current(); a != nil {
		_ = a.cmd.Process.Kill()
		<-a.ended
	}
	files, _ := filepath.Glob(filepath.Join(w.dir, "starts", "*"))
	for _, f := range files {
		data, _ := os.ReadFile(f)
		for line := range strings.Lines(string(data)) {
			var version string
			var pid int
			if n, _ := fmt.Sscan(line, &version, &pid); n == 2 && w.owns(pid) {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}
}

// owns reports whether a process is of this script: its number may have gone
// to another since.
func (w *world) owns(pid int) bool {
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	return err == nil && bytes.Contains(env, []byte("="+w.dir+"/"))
}

func (w *world) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(w.dir, name)
}

func (w *world) current() *running {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.agent
}

// lockedBuffer takes a process's output while others read it.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// agentCommand is a hostagent command line in a script's world.
func agentCommand(ts *testscript.TestScript, args []string) *exec.Cmd {
	self, err := os.Executable()
	ts.Check(err)
	w := worldOf(ts)
	cmd := exec.Command(self, append(args, "--config", w.path("host.hcl"))...)
	cmd.Dir = w.dir
	cmd.Env = append(os.Environ(), scriptEnv(ts)...)
	return cmd
}

// scriptEnv is what of a script's environment concerns agent and git.
func scriptEnv(ts *testscript.TestScript) (env []string) {
	for _, k := range []string{
		"HOME", "GIT_CONFIG_NOSYSTEM", "GIT_CONFIG_GLOBAL", "GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_AUTHOR_DATE",
		"GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL", "GIT_COMMITTER_DATE", "CREDENTIALS_DIRECTORY", "NO_COLOR",
		asAgent, atBoot, atTime, inHurry, killAfter, "DRYDOCK_DEBUG",
	} {
		if v := ts.Getenv(k); v != "" || k == "CREDENTIALS_DIRECTORY" {
			env = append(env, k+"="+v)
		}
	}
	return env
}

// cmdAgent is `agent EXITCODE ARGS...`: one hostagent command, whose output
// `stdout` and `stderr` match.
func cmdAgent(ts *testscript.TestScript, _ bool, args []string) {
	cmd := agentCommand(ts, args[1:])
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.WaitDelay = time.Second
	ts.Check(cmd.Start())
	hung := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	_ = cmd.Wait()
	if !hung.Stop() {
		ts.Fatalf("hung\n%s%s", out.String(), errs.String())
	}
	_, _ = ts.Stdout().Write(out.Bytes())
	_, _ = ts.Stderr().Write(errs.Bytes())
	if code := fmt.Sprint(cmd.ProcessState.ExitCode()); code != args[0] {
		ts.Fatalf("exit %s, want %s\n%s%s", code, args[0], out.String(), errs.String())
	}
}

// cmdStart is `start [STATE]`: an agent that runs for ever, once it answers;
// STATE is its state directory where host.hcl names another than state.
func cmdStart(ts *testscript.TestScript, _ bool, args []string) {
	w := worldOf(ts)
	if len(args) > 0 {
		w.state = w.path(args[0])
	}
	if w.current() != nil {
		ts.Fatalf("an agent runs already")
	}
	cmd := agentCommand(ts, []string{"run"})
	a := &running{cmd: cmd, log: &lockedBuffer{}, ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = a.log, a.log
	cmd.WaitDelay = time.Second
	ts.Check(cmd.Start())
	w.mu.Lock()
	w.agent = a
	w.mu.Unlock()
	go func() {
		defer close(a.ended)
		_ = cmd.Wait()
	}()
	until(ts, "the agent answers", func() error {
		select {
		case <-a.ended:
			ts.Fatalf("it ended: %v", cmd.ProcessState)
		default:
		}
		_, err := w.status(context.Background())
		return err
	})
}

// cmdLeave is `leave`: somebody asks the running agent for a pass, and is gone
// before it ends.
func cmdLeave(ts *testscript.TestScript, _ bool, _ []string) {
	ctx, leave := context.WithCancel(context.Background())
	defer leave()
	asked := make(chan struct{})
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { close(asked) }})
	gone := make(chan error, 1)
	go func() {
		var st reconcile.HostStatus
		gone <- api.NewClient(worldOf(ts).state).Once(ctx, &st)
	}()
	select {
	case <-asked:
	case err := <-gone:
		ts.Fatalf("the pass was over before anybody could leave: %v", err)
	}
	leave()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		ts.Fatalf("left, and got %v", err)
	}
}

// cmdSignal is `signal TERM|KILL|HUP`.
func cmdSignal(ts *testscript.TestScript, _ bool, args []string) {
	sig := map[string]syscall.Signal{"TERM": syscall.SIGTERM, "KILL": syscall.SIGKILL, "HUP": syscall.SIGHUP}[args[0]]
	ts.Check(worldOf(ts).current().cmd.Process.Signal(sig))
}

// cmdEnded is `ended CODE`: the agent ends, -1 by a signal.
func cmdEnded(ts *testscript.TestScript, _ bool, args []string) {
	w := worldOf(ts)
	a := w.current()
	select {
	case <-a.ended:
	case <-time.After(patience):
		ts.Fatalf("it does not end\n%s", a.log)
	}
	ts.Logf("%s", a.log)
	w.mu.Lock()
	w.agent = nil
	w.mu.Unlock()
	if code := fmt.Sprint(a.cmd.ProcessState.ExitCode()); code != args[0] {
		ts.Fatalf("exit %s, want %s", code, args[0])
	}
}

// cmdStop is `stop-agent` (`stop` would end the script): SIGTERM, and a clean end.
func cmdStop(ts *testscript.TestScript, neg bool, _ []string) {
	cmdSignal(ts, neg, []string{"TERM"})
	cmdEnded(ts, neg, []string{"0"})
}

// cmdLogged is `[!] logged REGEXP`: waits until the agent has logged it, or
// fails if it has.
func cmdLogged(ts *testscript.TestScript, neg bool, args []string) {
	re := regexp.MustCompile("(?m)" + args[0])
	log := worldOf(ts).current().log
	if neg {
		if re.MatchString(log.String()) {
			ts.Fatalf("it logged %s\n%s", args[0], log)
		}
		return
	}
	until(ts, "it logs "+args[0], func() error {
		if !re.MatchString(log.String()) {
			return errors.New(log.String())
		}
		return nil
	})
}

// until polls for a fact; there is nothing else to wait on from outside.
func until(ts *testscript.TestScript, what string, fact func() error) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	over := time.After(patience)
	for {
		err := fact()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-over:
			log := ""
			if a := worldOf(ts).current(); a != nil {
				log = a.log.String()
			}
			ts.Fatalf("waited in vain until %s: %v\n%s", what, err, log)
		}
	}
}
