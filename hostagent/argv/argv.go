// Package argv runs commands: argument arrays, never a shell line, each with a
// timeout, in a session of its own that is killed whole, with a clean
// environment and capped output. Through its shim it also starts what must
// outlive the agent and be known again by the next one (see Site).
package argv

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"drydock/hostagent/confine"
	"drydock/hostagent/proc"
	"drydock/reconcile"
	"drydock/spec"
)

// Command is what to run for a step.
type Command struct {
	Argv []string
	// Env is added to PATH, HOME, the user's name and reconcile.StepEnv; a
	// later entry wins.
	Env  []string
	User string // "" is the agent's own
	// Dir is where it runs, and where its program is looked for first; ""
	// means the release, if it is there.
	Dir string
	// Timeout from the start of the command; at least one of it and ctx's
	// deadline must be there, and zero means ten minutes.
	Timeout time.Duration
	// Grace between SIGTERM and SIGKILL; zero means five seconds.
	Grace time.Duration
	// Leave lets live what the command leaves behind in its session, for
	// commands whose work that is. They need File: a pipe would break.
	Leave bool
	// File takes the output in place of a pipe to the agent, opened to append.
	File *os.File
	// Within is what the command may do; nil leaves it what its user may.
	Within *confine.Rules
}

const (
	defaultTimeout = 10 * time.Minute
	defaultGrace   = 5 * time.Second
	// pipeDelay is how long after a command's end its output is waited for,
	// if something that fled from its session still holds the pipe.
	pipeDelay = 2 * time.Second
)

// markEnv names the variable by which all that came from one command is found.
const markEnv = "DRYDOCK_RUN="

// Run runs c for s and returns its output, head and tail of it if it was long;
// env.Output gets the same. The error is an *ExitError (the release's fault
// from the install phase on), a *TimeoutError, ctx's error, or a host's fault
// where the command could not be started. Whatever the command had started in
// its session is dead when Run returns, unless c.Leave is set and it succeeded.
func Run(ctx context.Context, env reconcile.Env, s reconcile.Step, c Command) (string, error) {
	r, err := resolve(s, c)
	if err != nil {
		return "", err
	}
	mark := markEnv + unique()
	cmd := r.cmd()
	cmd.Env = append(cmd.Env, mark)
	// The kernel ends the command if the agent is killed: nothing may go on
	// changing the host while the next agent decides anew.
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	cmd.WaitDelay = pipeDelay
	var out capped
	if c.File != nil {
		cmd.SysProcAttr.Pdeathsig = 0
		cmd.Stdout, cmd.Stderr = c.File, c.File
	} else {
		cmd.Stdout, cmd.Stderr = &out, &out
	}
	ctx, cancel := context.WithTimeout(ctx, orDefault(c.Timeout, defaultTimeout))
	defer cancel()
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if err := begin(ctx, cmd, r, c); err != nil {
		return "", startFault(s, r, err)
	}
	err = supervise(ctx, cmd, c, mark)
	text := out.String()
	if c.File != nil {
		text = cappedFile(c.File)
	}
	show(env, s, text)
	return text, blame(s, c, outcome(ctx, r, c, err, text))
}

// begin starts the command and, where there are rules for it, returns once it
// runs by them.
func begin(ctx context.Context, cmd *exec.Cmd, r ready, c Command) error {
	if c.Within == nil {
		return start(ctx, cmd)
	}
	rules, err := c.rules()
	if err != nil {
		return err
	}
	defer rules.Close()
	status, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer status.Close()
	cmd.Path = self
	cmd.Args = confine.Args(3, 4, r.path, r.args)
	cmd.ExtraFiles = []*os.File{rules, w}
	err = start(ctx, cmd)
	w.Close()
	if err != nil {
		return err
	}
	if err := awaitStatus(ctx, status); err != nil && ctx.Err() == nil {
		_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
		_ = cmd.Wait()
		return err
	}
	return nil
}

// rules are c.Within and what the command has open anyway.
func (c Command) rules() (*os.File, error) {
	rules := *c.Within
	if c.File != nil { // /dev/stdout leads there
		rules.Open = append(slices.Clip(rules.Open), c.File.Name())
	}
	return rules.File()
}

// supervise waits for the command, or ends it when ctx ends. err is what Wait
// returned.
func supervise(ctx context.Context, cmd *exec.Cmd, c Command, mark string) error {
	dead := make(chan struct{})
	go func() {
		defer close(dead)
		awaitDeath(cmd.Process.Pid)
	}()
	killed := false
	select {
	case <-dead:
	case <-ctx.Done():
		killed = true
		_ = unix.Kill(-cmd.Process.Pid, unix.SIGTERM)
		timer := time.NewTimer(orDefault(c.Grace, defaultGrace))
		select {
		case <-dead:
		case <-timer.C:
		}
		timer.Stop()
	}
	// The command is not waited for yet, so its number still is its group's:
	// no stranger can be hit.
	if killed || !c.Leave {
		_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
	}
	<-dead
	err := cmd.Wait()
	fled := killed || errors.Is(err, exec.ErrWaitDelay)
	if fled || !c.Leave {
		killKin(cmd.Process.Pid, mark, fled)
	}
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil // it did succeed; what held its pipe is dead now
	}
	return err
}

// awaitDeath returns when the child is dead but not yet waited for.
func awaitDeath(pid int) {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// killKin returns when nothing of the command lives any more, bounded. A look
// through all processes is made only if its session is not empty, or if
// something is known to have fled from it.
func killKin(pid int, mark string, fled bool) {
	boot, err := proc.Boot()
	if err != nil {
		return
	}
	late := time.NewTimer(killTime)
	defer late.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if !fled && errors.Is(unix.Kill(-pid, 0), unix.ESRCH) {
			return
		}
		kin, err := proc.Find(proc.Trait{Leader: proc.ID{PID: pid, Boot: boot}, Mark: mark})
		if err != nil || len(kin) == 0 {
			return
		}
		for _, k := range kin {
			_ = k.Signal(unix.SIGKILL)
		}
		select {
		case <-late.C:
			return // one that hangs in the kernel; nobody can do more
		case <-tick.C:
		}
	}
}

func outcome(ctx context.Context, r ready, c Command, err error, text string) error {
	var exit *exec.ExitError
	switch {
	case err == nil && ctx.Err() == nil:
		return nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return &TimeoutError{Name: r.name, After: orDefault(c.Timeout, defaultTimeout), Tail: lastLines(text)}
	case ctx.Err() != nil:
		return fmt.Errorf("%s was stopped: %w", r.name, context.Cause(ctx))
	case errors.As(err, &exit):
		return exitError(r.name, exit.ProcessState, text)
	}
	return fmt.Errorf("%s: %w", r.name, err)
}

func exitError(name string, state *os.ProcessState, text string) error {
	e := &ExitError{Name: name, Code: state.ExitCode(), Tail: lastLines(text)}
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		e.Signal = ws.Signal().String()
	}
	return e
}

func (r ready) cmd() *exec.Cmd {
	return &exec.Cmd{
		Path: r.path, Args: r.args, Dir: r.dir, Env: r.env,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true, Credential: r.cred},
	}
}

// start is cmd.Start, tried again while the program's file is still open for
// writing in a child that another goroutine forked a moment ago.
func start(ctx context.Context, cmd *exec.Cmd) error {
	for try := 0; ; try++ {
		fresh := *cmd
		err := fresh.Start()
		if err == nil {
			*cmd = fresh
			return nil
		}
		if !errors.Is(err, syscall.ETXTBSY) || try == 20 {
			return err
		}
		timer := time.NewTimer(25 * time.Millisecond)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
	}
}

// startFault says whose fault it is that a program that is there cannot run.
func startFault(s reconcile.Step, r ready, err error) error {
	err = fmt.Errorf("cannot start %s: %w", r.name, err)
	if s.Phase >= reconcile.Install && r.dir != "/" && strings.HasPrefix(r.path, r.dir+"/") &&
		(errors.Is(err, syscall.ENOEXEC) || errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.ENOENT)) {
		return reconcile.ReleaseFault(err, "The release in "+r.dir+" must bring a program that this machine and its user can run.")
	}
	return reconcile.HostFault(err, "Try it by hand on this host.")
}

func show(env reconcile.Env, s reconcile.Step, text string) {
	if env.Output == nil || text == "" {
		return
	}
	if w := env.Output(s); w != nil {
		_, _ = io.WriteString(w, text)
	}
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d <= 0 {
		return otherwise
	}
	return d
}

// attribute is a text attribute of a block, or "".
func attribute(b *spec.Block, name string) string {
	var all map[string]json.RawMessage
	var text string
	if json.Unmarshal(b.Config, &all) == nil {
		_ = json.Unmarshal(all[name], &text)
	}
	return text
}
