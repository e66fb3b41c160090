package argv

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"drydock/hostagent/proc"
	"drydock/reconcile"
)

// killTime is how long a process may take to die of SIGKILL.
const killTime = 15 * time.Second

// Stop ends whatever of the program still lives: SIGTERM, and after grace
// SIGKILL. When it returns nil, nothing is left of it, which is proven: its
// lock is free, and no process has its session, its lock or its mark.
func (p Site) Stop(ctx context.Context, grace time.Duration) error {
	t, err := p.all(ctx)
	if err != nil || !t.Running() {
		return err
	}
	signal(t, unix.SIGTERM)
	if done, err := p.await(ctx, t, grace); done || err != nil {
		return err
	}
	deadline := time.Now().Add(killTime)
	for {
		if t, err = p.all(ctx); err != nil || !t.Running() {
			return err
		}
		if time.Now().After(deadline) {
			return reconcile.HostFault(fmt.Errorf("%v cannot be killed", t), "See what holds it (a file system that hangs?), and end it by hand.")
		}
		signal(t, unix.SIGKILL)
		if done, err := p.await(ctx, t, time.Second); done || err != nil {
			return err
		}
	}
}

// all is Look with all that came from the program, also while Main lives.
func (p Site) all(ctx context.Context) (Trace, error) {
	t, err := p.Look(ctx)
	if err != nil || !t.Alive {
		return t, err
	}
	kin, err := proc.Find(proc.Trait{Leader: t.Main, Lock: p.lock(), Mark: p.mark()})
	if err != nil {
		return t, reconcile.HostFault(err, "Mount /proc.")
	}
	t.Others = t.Others[:0]
	for _, k := range kin {
		if k.ID != t.Main {
			t.Others = append(t.Others, k)
		}
	}
	return t, nil
}

// signal reaches the group at once, so that nothing forks away from under it,
// and each process that has left the group.
func signal(t Trace, sig unix.Signal) {
	grouped := t.Alive
	for _, k := range t.Others {
		grouped = grouped || k.Group == t.Main.PID
	}
	// A group with a member that is ours is ours: its number cannot have been
	// given to anybody else.
	grouped = grouped && t.Main.PID > 1
	if grouped {
		_ = unix.Kill(-t.Main.PID, sig)
	}
	for _, k := range t.Others {
		if !grouped || k.Group != t.Main.PID {
			_ = k.Signal(sig)
		}
	}
}

// await waits until nothing of t lives, and then proves that nothing else does.
func (p Site) await(ctx context.Context, t Trace, limit time.Duration) (bool, error) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if !anyAlive(t) {
			now, err := p.all(ctx)
			if err != nil {
				return false, err
			}
			if !now.Running() {
				return true, nil
			}
			if !now.Alive && len(now.Others) == 0 {
				// Somebody has the lock whom we cannot see: a fork of ours for
				// a moment, or, where the agent is not root, another user's.
				t = Trace{}
			} else {
				t = now
			}
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-timer.C:
			return false, nil
		case <-tick.C:
		}
	}
}

func anyAlive(t Trace) bool {
	if t.Main.Alive() {
		return true
	}
	for _, k := range t.Others {
		if k.Alive() {
			return true
		}
	}
	return false
}

// Await waits for what an earlier agent started to end. limit counts from the
// start of the program; what has not ended then is killed and a *TimeoutError
// returned. On ctx's end it goes on running.
func (p Site) Await(ctx context.Context, limit, grace time.Duration) error {
	t, err := p.Look(ctx)
	if err != nil || !t.Running() {
		return err
	}
	age, err := t.Main.Age()
	if err != nil {
		return reconcile.HostFault(err, "Mount /proc.")
	}
	late, cancel := context.WithTimeout(ctx, max(limit-age, 0))
	defer cancel()
	if t.Alive {
		err = t.Main.Wait(late)
	}
	if err == nil {
		var done bool
		if done, err = p.await(late, t, limit); err == nil && done {
			return nil
		}
	}
	if ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return ctx.Err()
	}
	if err := p.Stop(context.WithoutCancel(ctx), orDefault(grace, defaultGrace)); err != nil {
		return err
	}
	return &TimeoutError{Name: "the command", After: limit}
}
