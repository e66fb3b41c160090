package command

import (
	"context"
	"time"

	"drydock/hostagent/argv"
	"drydock/reconcile"
	"drydock/spec"
)

type checkConfig struct {
	Command  []string      `json:"command"`
	Interval spec.Duration `json:"interval"`
	Timeout  spec.Duration `json:"timeout"`
}

// Check is check "command".
type Check struct{ env reconcile.Env }

// NewCheck is the driver of one agent.
func NewCheck(env reconcile.Env) Check { return Check{env} }

// Probe runs the command once; healthy is exit status 0.
func (d Check) Probe(ctx context.Context, s reconcile.Step) error {
	var c checkConfig
	if err := s.Block.Decode(&c); err != nil {
		return err
	}
	// One that ignores SIGTERM must not make looks overlap the interval by much.
	_, err := argv.Run(ctx, reconcile.Env{}, s, argv.Command{
		Argv: c.Command, User: argv.User(s), Timeout: time.Duration(c.Timeout), Grace: time.Second,
		Within: argv.Within(d.env, s),
	})
	return err
}

type hookConfig struct {
	Before  string        `json:"before"`
	After   string        `json:"after"`
	Command []string      `json:"command"`
	Timeout spec.Duration `json:"timeout"`
}

// Hook is a run block. Nothing says whether a hook was run, so after a crash
// it is run again: it must bear that.
type Hook struct{ env reconcile.Env }

// NewHook is the driver of one agent.
func NewHook(env reconcile.Env) *Hook { return &Hook{env} }

// Done is always false.
func (d *Hook) Done(context.Context, reconcile.Step) (bool, error) { return false, nil }

// Do runs the command.
func (d *Hook) Do(ctx context.Context, s reconcile.Step) error {
	var c hookConfig
	if err := s.Block.Decode(&c); err != nil {
		return err
	}
	_, err := run(ctx, d.env, argv.Within(d.env, s), s, c.Command, c.Timeout)
	return err
}
