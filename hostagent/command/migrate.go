package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"drydock/hostagent/argv"
	"drydock/reconcile"
	"drydock/spec"
)

type migrateConfig struct {
	Command    []string      `json:"command"`
	Check      []string      `json:"check"`
	Scope      string        `json:"scope"`
	Compatible bool          `json:"compatible"`
	Requires   []string      `json:"requires"`
	Timeout    spec.Duration `json:"timeout"`
}

// Migrate is migrate "command". It is never started twice for one release and
// attempt, unless it is certain that it never began. What a run left is one of
//
//	never began   no record                  Do may run it
//	still runs    its lock is held           waited for, up to its timeout
//	ended         record, and the lock free  done if check exits 0, else unknown
//
// Once check has said that it is done, the record is taken away: should the
// same release come again after others, it is check alone that counts.
//
// scope, compatible and requires are the engine's to keep.
type Migrate struct{ env reconcile.Env }

// NewMigrate is the driver of one agent.
func NewMigrate(env reconcile.Env) *Migrate { return &Migrate{env} }

func (d *Migrate) site(s reconcile.Step) argv.Site {
	name := strings.ReplaceAll(s.Block.ID(), "/", "-") + "-" + s.Target.Release.Dir() + "-" + strconv.Itoa(max(s.Target.Release.Attempt, 1))
	return argv.Site{Dir: filepath.Join(d.env.StateDir, s.Service, name)}
}

// Done waits for a run that an earlier agent left, and then asks check. The
// error wraps reconcile.ErrUnknown if a run has ended and check does not say
// that it is done.
func (d *Migrate) Done(ctx context.Context, s reconcile.Step) (bool, error) {
	var c migrateConfig
	if err := s.Block.Decode(&c); err != nil {
		return false, err
	}
	site := d.site(s)
	t, err := site.Look(ctx)
	if err != nil {
		return false, err
	}
	if !t.Begun && !t.Running() {
		// Also here check may say that it is done: by another host, or by hand.
		done, _, err := ask(ctx, argv.Within(d.env, s), s, c.Check, c.Timeout)
		return done, err
	}
	var waited error
	if t.Running() {
		if waited = site.Await(ctx, time.Duration(c.Timeout), 0); waited != nil && ctx.Err() != nil {
			return false, waited
		}
		if t, err = site.Look(ctx); err != nil {
			return false, err
		}
		if t.Running() {
			return false, reconcile.HostFault(fmt.Errorf("the migration still runs as %v: %w", t, waited), "End it by hand.")
		}
	}
	done, out, err := ask(ctx, argv.Within(d.env, s), s, c.Check, c.Timeout)
	if err == nil && done {
		if d.env.Output != nil {
			_, _ = io.WriteString(d.env.Output(s), site.Left())
		}
		return true, site.Forget()
	}
	return false, d.unknown(s, c, errors.Join(waited, err), out)
}

func (d *Migrate) unknown(s reconcile.Step, c migrateConfig, why error, out string) error {
	text := "the migration was begun, its end was not seen, and " + c.Check[0] + " does not say that it is done"
	if line := firstLine(out); line != "" {
		text += " (it said " + strconv.Quote(line) + ")"
	}
	if why != nil {
		text += ": " + why.Error()
	}
	return &reconcile.Fault{
		Blame: reconcile.OfRelease,
		Err:   fmt.Errorf("%s: %w", text, reconcile.ErrUnknown),
		Hint:  "Find out what was applied (what it printed is in " + d.site(s).Dir + "/output), and commit what you found: drydock resolve.",
	}
}

// Do runs the migration, unless check says that it is done. It refuses what
// may have been begun before, with an error that wraps reconcile.ErrUnknown;
// only a step whose Action is reconcile.Repair, which says that a person found
// nothing to be applied, runs it again.
func (d *Migrate) Do(ctx context.Context, s reconcile.Step) error {
	var c migrateConfig
	if err := s.Block.Decode(&c); err != nil {
		return err
	}
	site := d.site(s)
	t, err := site.Look(ctx)
	if err != nil {
		return err
	}
	if t.Running() || (t.Begun && s.Action != reconcile.Repair) {
		_, err := d.Done(ctx, s)
		return err
	}
	done, _, err := ask(ctx, argv.Within(d.env, s), s, c.Check, c.Timeout)
	if err != nil {
		return fmt.Errorf("check whether there is anything to migrate: %w", err)
	}
	if done {
		return nil
	}
	_, err = site.Run(ctx, d.env, s, argv.Command{Argv: c.Command, User: argv.User(s), Timeout: time.Duration(c.Timeout), Within: argv.Within(d.env, s)})
	if err != nil {
		return err
	}
	done, out, err := ask(ctx, argv.Within(d.env, s), s, c.Check, c.Timeout)
	if err != nil || !done {
		return d.unknown(s, c, errors.Join(fmt.Errorf("%s exited with 0", c.Command[0]), err), out)
	}
	return site.Forget()
}
