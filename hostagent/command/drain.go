package command

import (
	"context"

	"drydock/hostagent/argv"
	"drydock/reconcile"
	"drydock/spec"
)

type drainConfig struct {
	Drain   []string      `json:"drain"`
	Undrain []string      `json:"undrain"`
	Status  []string      `json:"status"`
	Timeout spec.Duration `json:"timeout"`
}

// Drain is drain "command". With a status command it is believed over all;
// without one a note says which of the two was the last to succeed.
type Drain struct{ env reconcile.Env }

// NewDrain is the driver of one agent.
func NewDrain(env reconcile.Env) *Drain { return &Drain{env} }

// Done asks status, or the note.
func (d *Drain) Done(ctx context.Context, s reconcile.Step) (bool, error) {
	var c drainConfig
	if err := s.Block.Decode(&c); err != nil {
		return false, err
	}
	if len(c.Status) == 0 {
		return noteOf(d.env, s, "drain").says(s.Phase.String() + " " + string(s.Block.Config))
	}
	drained, _, err := ask(ctx, argv.Within(d.env, s), s, c.Status, c.Timeout)
	return err == nil && drained == (s.Phase != reconcile.Undrain), hostsFault(err, statusHint)
}

const statusHint = "See what the status command says when it is run by hand on this host."

// Do runs drain or undrain, and waits within the timeout until status agrees.
func (d *Drain) Do(ctx context.Context, s reconcile.Step) error {
	var c drainConfig
	if err := s.Block.Decode(&c); err != nil {
		return err
	}
	args := c.Drain
	if s.Phase == reconcile.Undrain {
		args = c.Undrain
	}
	n := noteOf(d.env, s, "drain")
	if err := n.clear(); err != nil {
		return err
	}
	if _, err := run(ctx, d.env, argv.Within(d.env, s), s, args, c.Timeout); err != nil {
		return hostsFault(err, "Run it by hand on this host and see; the service is not touched before it succeeds.")
	}
	if len(c.Status) > 0 {
		if err := await(ctx, argv.Within(d.env, s), s, c.Status, c.Timeout, s.Phase != reconcile.Undrain); err != nil {
			return hostsFault(err, statusHint)
		}
	}
	return n.write(s.Phase.String() + " " + string(s.Block.Config))
}

// Observe asks status: present is in rotation.
func (d *Drain) Observe(ctx context.Context, s reconcile.Step) (reconcile.Condition, error) {
	var c drainConfig
	if err := s.Block.Decode(&c); err != nil {
		return reconcile.Condition{}, err
	}
	if len(c.Status) == 0 {
		return reconcile.Condition{Is: reconcile.Unknown, Detail: "the block has no status command"}, nil
	}
	drained, out, err := ask(ctx, argv.Within(d.env, s), s, c.Status, c.Timeout)
	switch {
	case err != nil:
		return reconcile.Condition{}, hostsFault(err, statusHint)
	case drained:
		return reconcile.Condition{Is: reconcile.Absent, Detail: firstLine(out)}, nil
	}
	return reconcile.Condition{Is: reconcile.Present, Detail: firstLine(out)}, nil
}
