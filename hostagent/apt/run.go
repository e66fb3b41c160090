package apt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"drydock/hostagent/argv"
	"drydock/hostagent/durable"
	"drydock/reconcile"
)

// What changes the host runs so that it outlives the agent: dpkg that is killed
// leaves half a package. Where systemd is PID 1 it runs in a unit of its own,
// out of reach of the agent's end and of the agent's sandbox; elsewhere in a
// site of package argv. The next agent waits for it.

const (
	tick     = 200 * time.Millisecond
	lockTick = time.Second
	stopTime = 40 * time.Second // for a unit that is told to stop
	backstop = time.Minute      // past the timeout, a unit ends without any agent
	tailSize = 8                // lines of output in an error
)

var errLocked = errors.New("dpkg or apt is locked")

func (w work) unit() string    { return "drydock-apt-" + w.step.Service + ".service" }
func (w work) log() string     { return filepath.Join(w.dir(), "log") }
func (w work) site() argv.Site { return argv.Site{Dir: filepath.Join(w.dir(), "site")} }

// options are what every call of apt-get gets. A person's changes to
// configuration files stay; nobody is asked.
func options() []string {
	return []string{"-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold", "-o", "Dpkg::Use-Pty=0",
		"-o", "APT::Color=0"}
}

func aptGet() []string { return append([]string{"apt-get", "-q", "-y"}, options()...) }

// apt runs apt-get.
func (w work) apt(ctx context.Context, kind string, args ...string) error {
	return w.command(ctx, kind, append(aptGet(), args...)...)
}

func (w work) command(ctx context.Context, kind string, args ...string) error {
	return w.commandIn(ctx, "/", kind, args...)
}

// commandIn runs a command that changes the host. A lock that somebody else
// holds is waited for only where the service may be out of rotation; before
// that, who holds it is said at once, and the plan waits where people see it.
// kind is what it does, in a word. If ctx is cancelled an
// installation goes on; anything else, and what is late, is stopped.
func (w work) commandIn(ctx context.Context, dir, kind string, args ...string) error {
	retry := time.NewTicker(lockTick)
	defer retry.Stop()
	for {
		out, err := w.once(ctx, dir, kind, args)
		if err == nil || !locked(out) {
			return err
		}
		if !goesOn(kind) {
			return lockedBy(err)
		}
		select {
		case <-retry.C:
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return ctx.Err()
			}
			return lockedBy(err)
		}
	}
}

// lockedBy says who holds the lock that made a command fail, if that can be seen.
func lockedBy(err error) error {
	if h := lockHeld(); h != nil {
		err = errors.Unwrap(h)
	}
	return reconcile.HostFault(fmt.Errorf("%w: %w", errLocked, err), "It is tried again; end what holds the lock if it hangs")
}

// locked reports whether a command failed because of a lock.
func locked(out string) bool {
	return strings.Contains(out, "Could not get lock") || strings.Contains(out, "was locked by another process") || strings.Contains(out, "Unable to lock ")
}

func (w work) once(ctx context.Context, dir, kind string, args []string) (out string, err error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	run := w.inSite
	if w.booted {
		run = w.inUnit
	}
	out, err = run(ctx, dir, kind, args)
	w.say("%s", out)
	var exit *argv.ExitError
	if errors.As(err, &exit) {
		exit.Name, exit.Tail = args[0]+" "+kind, tail(out)
	}
	return out, err
}

// goesOn reports whether a command must not be cut off in the middle.
func goesOn(kind string) bool { return kind == "install" || kind == "remove" || kind == "configure" }

func (w work) inUnit(ctx context.Context, dir, kind string, args []string) (string, error) {
	if err := durable.WriteCache(w.log(), nil, 0o600); err != nil {
		return "", durable.HostFault(err)
	}
	left := time.Minute
	if end, ok := ctx.Deadline(); ok {
		left = time.Until(end)
	}
	run := []string{"systemd-run", "--quiet", "--wait", "--collect", "--unit=" + w.unit(), "--description=Drydock: apt for " + w.step.Service}
	for _, p := range []string{"StandardInput=null", "StandardOutput=append:" + w.log(), "StandardError=append:" + w.log(),
		"WorkingDirectory=" + dir, "TimeoutStopSec=20s", fmt.Sprintf("RuntimeMaxSec=%dms", (left + backstop).Milliseconds())} {
		run = append(run, "--property="+p)
	}
	for _, e := range plainEnv {
		run = append(run, "--setenv="+e)
	}
	said, err := argv.Run(ctx, reconcile.Env{}, reconcile.Step{Service: w.step.Service}, argv.Command{
		Argv: append(append(run, "--"), args...), Dir: "/", Env: plainEnv, Timeout: left + backstop,
	})
	out := w.logged()
	switch {
	case ctx.Err() != nil:
		if !errors.Is(ctx.Err(), context.Canceled) || !goesOn(kind) {
			w.stopUnit(ctx)
		}
		if errors.Is(ctx.Err(), context.Canceled) {
			return out, ctx.Err()
		}
		out = w.logged() // with what it said when it was stopped, such as that it waited for a lock
		return out, w.late(args[0]+" "+kind, out)
	case err != nil && strings.Contains(said, "Failed to "):
		return out, reconcile.HostFault(fmt.Errorf("systemd does not run %s: %w", args[0], err), "Try systemd-run by hand on this host; it is tried again")
	}
	return out, err
}

func (w work) late(name, out string) error {
	return &reconcile.Fault{Err: &argv.TimeoutError{Name: name, After: time.Duration(w.Timeout), Tail: tail(out)}, Hint: "Raise `timeout` if it needs longer"}
}

// stopUnit ends the unit and waits until it is gone, bounded.
func (w work) stopUnit(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
	defer cancel()
	// That it fails is found out by whoever starts the next one.
	_, _ = w.ask(ctx, "systemctl", "stop", w.unit())
}

// logged is the end of what the unit printed.
func (w work) logged() string {
	f, err := os.Open(w.log())
	if err != nil {
		return ""
	}
	defer f.Close()
	const most = 64 << 10
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	from := max(info.Size()-most, 0)
	data, _ := io.ReadAll(io.NewSectionReader(f, from, most))
	return plain(string(data))
}

// plain takes out what would reach a terminal as more than text.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r >= ' ' && r != 0x7f && (r < 0x80 || r >= 0xa0):
			return r
		}
		return -1
	}, strings.ToValidUTF8(s, "\uFFFD"))
}

// tail is the last lines of an output.
func tail(out string) string {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	return strings.Join(lines[max(0, len(lines)-tailSize):], "\n")
}

func (w work) inSite(ctx context.Context, dir, kind string, args []string) (string, error) {
	if err := w.site().Forget(); err != nil {
		return "", err
	}
	left := time.Minute
	if end, ok := ctx.Deadline(); ok {
		left = time.Until(end)
	}
	out, err := w.site().Run(ctx, reconcile.Env{}, reconcile.Step{Service: w.step.Service}, argv.Command{Argv: args, Dir: dir, Env: plainEnv, Timeout: left})
	var timeout *argv.TimeoutError
	switch {
	case errors.Is(err, context.Canceled) && !goesOn(kind):
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
		defer cancel()
		return out, errors.Join(err, w.site().Stop(stop, time.Second))
	case errors.As(err, &timeout):
		return out, w.late(args[0]+" "+kind, out)
	}
	return out, err
}

// settle waits until nothing runs any more that an earlier agent started.
func (w work) settle(ctx context.Context) error {
	poll := time.NewTicker(tick)
	defer poll.Stop()
	for {
		busy, err := w.busy(ctx)
		if err != nil || !busy {
			return err
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return ctx.Err()
			}
			if w.booted {
				w.stopUnit(ctx)
			} else {
				stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
				defer cancel()
				_ = w.site().Stop(stop, time.Second)
			}
			return w.late("apt-get, which an earlier agent started,", w.logged())
		}
	}
}

func (w work) busy(ctx context.Context) (bool, error) {
	if !w.booted {
		t, err := w.site().Look(ctx)
		return err == nil && t.Running(), err
	}
	out, err := w.ask(ctx, "systemctl", "show", "--property=ActiveState", "--value", w.unit())
	if err != nil {
		return false, reconcile.HostFault(err, "See to systemd on this host")
	}
	switch strings.TrimSpace(out) {
	case "inactive", "failed", "":
		return false, nil
	}
	return true, nil
}
