package command

import (
	"context"

	"drydock/hostagent/argv"
	"drydock/reconcile"
)

// Each of these drivers needs of the host a user, and programs.

func prepare(s reconcile.Step, config any, commands func() [][]string) error {
	if err := s.Block.Decode(config); err != nil {
		return err
	}
	return argv.Programs(s, commands()...)
}

// Prepare fails if the host lacks what drain, undrain or status need: what left
// rotation must be able to come back.
func (d *Drain) Prepare(_ context.Context, s reconcile.Step) error {
	var c drainConfig
	return prepare(s, &c, func() [][]string { return [][]string{c.Drain, c.Undrain, c.Status} })
}

// Prepare fails if the host lacks what the commands need.
func (d *Install) Prepare(_ context.Context, s reconcile.Step) error {
	var c installConfig
	return prepare(s, &c, func() [][]string { return [][]string{c.Command, c.Current} })
}

// Prepare fails if the host lacks what the commands need.
func (d *Migrate) Prepare(_ context.Context, s reconcile.Step) error {
	var c migrateConfig
	return prepare(s, &c, func() [][]string { return [][]string{c.Command, c.Check} })
}

// Prepare fails if the host lacks what the commands need.
func (d *Start) Prepare(_ context.Context, s reconcile.Step) error {
	var c startConfig
	return prepare(s, &c, func() [][]string { return [][]string{c.Command, c.Stop, c.Running} })
}

// Prepare fails if the host lacks what the command needs.
func (Check) Prepare(_ context.Context, s reconcile.Step) error {
	var c checkConfig
	return prepare(s, &c, func() [][]string { return [][]string{c.Command} })
}

// Prepare fails if the host lacks what the command needs.
func (d *Hook) Prepare(_ context.Context, s reconcile.Step) error {
	var c hookConfig
	return prepare(s, &c, func() [][]string { return [][]string{c.Command} })
}
