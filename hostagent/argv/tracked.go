package argv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"drydock/hostagent/durable"
	"drydock/reconcile"
)

// Run is argv.Run for a command that must not be run twice: afterwards, and
// also after the agent was killed, Look tells whether it was never started,
// still runs, or has ended. If ctx is cancelled the command goes on and ctx's
// error says so, because half a migration is worse than a late one; a timeout
// or ctx's deadline kills it.
func (p Site) Run(ctx context.Context, env reconcile.Env, s reconcile.Step, c Command) (string, error) {
	if err := durable.MkdirAll(p.Dir, 0o700); err != nil {
		return "", reconcile.HostFault(fmt.Errorf("prepare to run a command: %w", err), "Mend the state directory.")
	}
	out, err := os.OpenFile(p.output(), os.O_RDWR|os.O_CREATE|os.O_APPEND|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return "", reconcile.HostFault(fmt.Errorf("prepare to run a command: %w", err), "Mend the state directory.")
	}
	defer out.Close()
	started, err := p.Start(ctx, s, c, Start{Ident: "run", Log: out})
	if err != nil {
		return "", err
	}
	limit := orDefault(c.Timeout, defaultTimeout)
	timer := time.NewTimer(limit)
	defer timer.Stop()
	late := false
	select {
	case <-started.Done:
	case <-timer.C:
		late = true
	case <-ctx.Done():
		if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return "", fmt.Errorf("%s goes on running as %v, and the next agent waits for it: %w", started.name, started.ID, ctx.Err())
		}
		late = true
	}
	// Also after its end: what it left behind must not go on.
	if err := p.Stop(context.WithoutCancel(ctx), orDefault(c.Grace, defaultGrace)); err != nil {
		return "", err
	}
	<-started.Done
	text := cappedFile(out)
	show(env, s, text)
	if late {
		return text, &TimeoutError{Name: started.name, After: limit, Tail: lastLines(text)}
	}
	if state := started.cmd.ProcessState; !state.Success() {
		return text, blame(s, c, exitError(started.name, state, text))
	}
	return text, nil
}

// Left is what a run of an earlier agent printed, head and tail of it.
func (p Site) Left() string {
	f, err := os.Open(p.output())
	if err != nil {
		return ""
	}
	defer f.Close()
	return cappedFile(f)
}

// Forget makes the site as if nothing had ever been started there. Nothing may
// be running.
func (p Site) Forget() error {
	err := os.RemoveAll(p.Dir)
	if err == nil {
		err = durable.SyncDir(filepath.Dir(p.Dir))
	}
	if err != nil {
		return reconcile.HostFault(fmt.Errorf("forget a command that is done: %w", err), "Mend the state directory.")
	}
	return nil
}
