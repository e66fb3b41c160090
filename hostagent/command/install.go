package command

import (
	"context"
	"fmt"

	"drydock/reconcile"
	"drydock/spec"
)

type installConfig struct {
	Command []string      `json:"command"`
	Current []string      `json:"current"`
	Timeout spec.Duration `json:"timeout"`
}

// Install is install "command". What is installed is what current prints: the
// first line of its output; nothing, or an exit status but 0, is nothing.
type Install struct{ env reconcile.Env }

// NewInstall is the driver of one agent.
func NewInstall(env reconcile.Env) *Install { return &Install{env} }

// version that a step must bring.
func version(s reconcile.Step) string {
	if s.Adopt != "" {
		return s.Adopt
	}
	return s.Target.Release.Version
}

// Done reports whether current prints the step's version. There is nothing to
// fetch, so a fetch is always done.
func (d *Install) Done(ctx context.Context, s reconcile.Step) (bool, error) {
	if s.Phase == reconcile.Fetch {
		return true, nil
	}
	now, err := d.current(ctx, s)
	if s.Action == reconcile.Remove {
		return err == nil && now == "", err
	}
	return err == nil && now == version(s), err
}

func (d *Install) current(ctx context.Context, s reconcile.Step) (string, error) {
	var c installConfig
	if err := s.Block.Decode(&c); err != nil {
		return "", err
	}
	ok, out, err := ask(ctx, nil, s, c.Current, c.Timeout)
	if err != nil || !ok {
		return "", err
	}
	return firstLine(out), nil
}

// Do runs command with the version in $DRYDOCK_VERSION (of a revert to what
// somebody else had installed, that version), and then current, which must
// print it. It cannot uninstall: the language has no command for it.
func (d *Install) Do(ctx context.Context, s reconcile.Step) error {
	var c installConfig
	if err := s.Block.Decode(&c); err != nil {
		return err
	}
	if s.Phase == reconcile.Fetch {
		return nil
	}
	if s.Action == reconcile.Remove {
		now, err := d.current(ctx, s)
		if err != nil || now == "" {
			return err
		}
		return reconcile.HostFault(fmt.Errorf("%s is installed, and install \"command\" cannot uninstall", now), "Uninstall it by hand.")
	}
	want := version(s)
	s.Target.Release.Version = want
	if _, err := run(ctx, d.env, nil, s, c.Command, c.Timeout); err != nil {
		return err
	}
	now, err := d.current(ctx, s)
	if err == nil && now != want {
		err = reconcile.ReleaseFault(fmt.Errorf("%s exited with 0, but %s then printed %q, not %q", c.Command[0], c.Current[0], now, want), "")
	}
	return err
}

// Observe compares what current prints with the running revision's version.
func (d *Install) Observe(ctx context.Context, s reconcile.Step) (reconcile.Condition, error) {
	now, err := d.current(ctx, s)
	switch {
	case err != nil:
		return reconcile.Condition{}, err
	case now == "":
		return reconcile.Condition{Is: reconcile.Absent, Detail: "nothing is installed"}, nil
	case now == s.Target.Release.Version:
		return reconcile.Condition{Is: reconcile.Present, Detail: now, Current: now, Wanted: true}, nil
	}
	return reconcile.Condition{Is: reconcile.Altered, Detail: now + " is installed", Foreign: now}, nil
}
