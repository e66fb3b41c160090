package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"drydock/hostagent/api"
	"drydock/reconcile"
)

// noop: everything is as it should be. "plain" compares versions, links and
// trees; "asked" also runs a command for each service, on both sides.
func (y *yard) noop(ctx context.Context) ([]figure, error) {
	ours := func(env string) func(int) (sample, error) {
		return func(int) (sample, error) { return y.once(ctx, env) }
	}
	var fs []figure
	for _, p := range y.all() {
		if _, here := y.peer(p.name); !here {
			continue
		}
		theirs := func(more ...string) func(int) (sample, error) {
			return func(int) (sample, error) { return y.pass(ctx, p, more...) }
		}
		rounds, sides := y.rounds, []func(int) (sample, error){ours("plain"), theirs(), ours("asked"), theirs(asked)}
		if p.name == "puppet" || p.name == "ansible" {
			rounds, sides = 7, sides[:2] // seconds each, and not taught to ask
		}
		all, err := turns(rounds, sides...)
		if err != nil {
			return fs, err
		}
		var target float64
		if p.name == "cfengine" {
			target = 0.5
		}
		fs = append(fs, compared("1 once, nothing to do", p.name, all[0], all[1], target, target)...)
		if len(all) > 2 {
			fs = append(fs, compared("1 the same, and 20 commands asked", p.name, all[2], all[3], target, target)...)
		}
	}
	return fs, nil
}

// bumps: one of twenty services has a new version. Ours is on the disk for
// good when it ends; the peers' is in the kernel's memory.
func (y *yard) bumps(ctx context.Context) ([]figure, error) {
	var fs []figure
	next := 0
	for _, name := range []string{"shell", "cfengine"} {
		p, here := y.peer(name)
		if !here {
			continue
		}
		all, err := turns(y.rounds, func(int) (sample, error) {
			next++
			if err := y.bump(ctx, next); err != nil {
				return sample{}, err
			}
			s, err := y.once(ctx, "plain")
			if err != nil {
				return s, err
			}
			return s, y.installed("plain", bumped, version(next))
		}, func(int) (sample, error) {
			s, err := y.pass(ctx, p)
			if err != nil {
				return s, err
			}
			return s, y.installed(p.name, bumped, version(next))
		})
		if err != nil {
			return fs, err
		}
		var target float64
		if name == "shell" {
			target = 1
		}
		fs = append(fs, compared("2 one bump", name, all[0], all[1], target, 0)...)
	}
	return fs, nil
}

// passes inside the agent that runs: what one costs it, without the client.
func (y *yard) passes(ctx context.Context) ([]figure, error) {
	var fs []figure
	for _, env := range []string{"plain", "asked"} {
		a, err := y.start(ctx, env)
		if err != nil {
			return fs, err
		}
		self, children, err := a.passes(ctx, y.options.passes)
		if err := a.stop(err); err != nil {
			return fs, err
		}
		name, what := "3 pass inside the agent", "cpu of agent"
		if env == "asked" {
			name = "3 the same, and 20 commands asked"
		}
		each := func(d time.Duration) spread {
			v := d.Seconds() * 1e3 / float64(y.options.passes)
			return spread{v, v, v}
		}
		if env == "plain" {
			fs = append(fs, alone(name, what, "ms", each(self), 5))
		} else {
			fs = append(fs, alone(name, what, "ms", each(self), 0), alone(name, "and of the commands", "ms", each(self+children), 0))
		}
	}
	return fs, nil
}

// agent is a hostagent that runs.
type agent struct {
	cmd   *exec.Cmd
	state string
}

// start starts an agent and waits until all is converged.
func (y *yard) start(ctx context.Context, env string) (*agent, error) {
	return y.startUntil(ctx, env, func(a *agent, st *reconcile.HostStatus) error {
		if err := api.NewClient(a.state).Once(ctx, st); err != nil {
			return err
		}
		if st.ExitCode() != 0 {
			return errors.New("not all converged")
		}
		return nil
	})
}

// startPaused starts an agent that was told to begin no plan.
func (y *yard) startPaused(ctx context.Context, env string) (*agent, error) {
	return y.startUntil(ctx, env, func(a *agent, st *reconcile.HostStatus) error {
		if err := api.NewClient(a.state).Pause(ctx); err != nil {
			return err
		}
		return api.NewClient(a.state).Once(ctx, st)
	})
}

func (y *yard) startUntil(ctx context.Context, env string, ready func(*agent, *reconcile.HostStatus) error) (*agent, error) {
	log, err := os.Create(y.path(env + ".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	a := &agent{cmd: exec.Command(y.agent, "run", "--config", y.path(env+".hcl")), state: y.path("state-" + env)}
	a.cmd.Stdout, a.cmd.Stderr = log, log
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := a.cmd.Start(); err != nil {
		return nil, err
	}
	var st reconcile.HostStatus
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if err = ready(a, &st); err == nil {
			return a, nil
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			out, _ := os.ReadFile(log.Name())
			return nil, a.stop(fmt.Errorf("the agent does not converge: %v %+v\n%s", err, st, out))
		}
	}
}

// stop lets the agent end, and passes err on.
func (a *agent) stop(err error) error {
	_ = a.cmd.Process.Signal(syscall.SIGTERM)
	hung := time.AfterFunc(patience, func() { _ = a.cmd.Process.Kill() })
	defer hung.Stop()
	if werr := a.cmd.Wait(); err == nil {
		err = werr
	}
	return err
}

func (a *agent) passes(ctx context.Context, n int) (self, children time.Duration, err error) {
	var st reconcile.HostStatus
	s0, c0, err := usage(a.cmd.Process.Pid)
	for i := 0; i < n && err == nil; i++ {
		err = api.NewClient(a.state).Once(ctx, &st)
	}
	if err != nil {
		return 0, 0, err
	}
	s1, c1, err := usage(a.cmd.Process.Pid)
	return s1 - s0, c1 - c0, err
}
