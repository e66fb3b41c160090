package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"drydock/spec"
)

// step brings one step to its end, by the crash rules: what is not done yet is
// written down, done, and written down again; what may be done already is asked.
func (c *carrying) step(ctx context.Context, s Step) error {
	d, err := c.Drivers.Driver(s)
	if err != nil {
		return HostFault(err, "")
	}
	outer := ctx
	ctx, cancel := context.WithTimeout(ctx, longest(s))
	defer cancel()

	s.Note = c.noted(s)
	skip, err := c.already(ctx, d, s)
	if err != nil || skip {
		return at(s, Scrubbed(err, c.Scrub))
	}
	if s.Block.Type == "drain" {
		if s.Phase == Undrain {
			c.letGo(s)
		} else {
			defer c.hold(c.life, s)
		}
	}
	if outer.Err() != nil {
		return at(s, outer.Err()) // a migration that is begun only to be cut off would halt
	}
	s = c.onceMore(s)
	rec := Record{Service: s.Service, Step: s.ID, Phase: s.Phase, Commits: s.Commits()}
	if s.Phase == Drain || s.Phase == Undrain || s.Phase == Migrate {
		if s.Block.Type != "run" {
			rec.Block = &s.Block
		}
	}
	rec.Kind = Begun
	if err := c.append(ctx, rec); err != nil {
		return err
	}
	c.changed.Store(true)
	if k, ok := d.(Checking); ok {
		k.Seen = func(err error) {
			c.Watch(Progressed{Stage: c.stage, Record: Record{Service: s.Service}, Look: &Look{s.ID, errorText(Scrubbed(err, c.Scrub))}})
		}
		d = k
	}
	began := c.Now()
	if err := Scrubbed(d.Do(ctx, s), c.Scrub); err != nil {
		if outer.Err() != nil {
			return at(s, err) // stopped from outside: neither done nor failed
		}
		rec.Kind, rec.Blame, rec.Reason = Failed, BlameOf(err), reason(at(s, err))
		rec.Untouched = s.Phase == Migrate && errors.Is(err, ErrUntouched)
		return at(s, errors.Join(err, c.appendAfter(ctx, rec, c.Now().Sub(began))))
	}
	rec.Kind = Done
	return c.appendAfter(ctx, rec, c.Now().Sub(began))
}

// already reports whether a step needs no doing. Which question is asked is a
// matter of its phase's row.
func (c *carrying) already(ctx context.Context, d Driver, s Step) (bool, error) {
	row := phases[s.Phase]
	m := c.Journal.Memory()
	r := m.Service(s.Service)
	var p Progress
	if r.Open != nil {
		p = r.Open.Progress[s.ID]
	}
	if s.Block.Type == "run" {
		return p.Is == Done, nil // a hook that was cut off runs again
	}
	if s.Phase == Undrain && r.Held != nil {
		return true, nil // a person took it out meanwhile: the drain stays open, and is theirs to end
	}
	if row.once {
		// What an earlier plan began counts, unless a person asked for it again.
		if q := r.Migrated[migrationKey(s.Block, s.Target.Release)]; p.Is == "" && q.Attempt >= max(s.Target.Release.Attempt, 1) {
			p = q
		}
	}
	switch {
	case row.always:
		return false, nil
	case row.once && p.Is == Failed && p.Faults > 0 && r.Open != nil && r.Open.Progress[s.ID].Is == Failed:
		return false, ReleaseFault(errors.New(strings.Replace(p.Reason, " ("+s.Origin.String()+")", "", 1)), "") // killed before the verdict: it stands
	case p.Is == Done && !row.again:
		return true, nil
	case p.Is == Begun, p.Is == Done, p.Is == Failed && row.once, p.Is == "" && row.ask:
		done, err := d.Done(ctx, s)
		if err != nil && !row.once {
			return false, nil // Do is safe to repeat, and says better what is wrong
		}
		if done && p.Is != "" && p.Is != Done {
			rec := Record{Kind: Done, Service: s.Service, Step: s.ID, Phase: s.Phase, Commits: s.Commits(), Block: &s.Block}
			return true, c.append(ctx, rec)
		}
		return done, err
	}
	return false, nil
}

// noted is what the step's driver wrote down before it was cut off: in this
// plan or, for a migration, in an earlier one of the same release.
func (c *carrying) noted(s Step) string {
	if p := c.progress(s.ID); p.Note != "" || !phases[s.Phase].once {
		return p.Note
	}
	m := c.Journal.Memory()
	return m.Service(s.Service).Migrated[migrationKey(s.Block, s.Target.Release)].Note
}

// onceMore marks a migration that an earlier attempt of its release began: a
// person put the data right and asked for it again, which a driver must know,
// because by itself it starts none a second time.
func (c *carrying) onceMore(s Step) Step {
	if !phases[s.Phase].once || s.Block.Type == "run" {
		return s
	}
	m := c.Journal.Memory()
	p, began := m.Service(s.Service).Migrated[migrationKey(s.Block, s.Target.Release)]
	if began && p.Is != Done && p.Attempt < max(s.Target.Release.Attempt, 1) {
		s.Action = Repair
	}
	return s
}

// longest is a backstop behind the driver's own timeout: nothing waits for ever.
func longest(s Step) time.Duration {
	var cfg struct {
		Timeout     spec.Duration `json:"timeout"`
		StopTimeout spec.Duration `json:"stop_timeout"`
		Wait        spec.Duration `json:"wait"`
	}
	_ = jsonInto(s.Block.Config, &cfg)
	d := 2*time.Duration(cfg.Timeout+cfg.StopTimeout+cfg.Wait) + 2*time.Minute
	switch s.Phase {
	case Fetch:
		d += time.Hour
	case Check:
		d += time.Duration(s.Target.Rollout.HealthyDeadline)
	}
	return d
}

// at adds the step and the line that asked for it to an error, once.
func at(s Step, err error) error {
	var o *OriginError
	if err == nil || errors.As(err, &o) {
		return err
	}
	return &OriginError{Step: s.ID, Origin: s.Origin, Err: err}
}

// OriginError is an error with the step it happened in and the line of the
// declaration that asked for that step.
type OriginError struct {
	Step   string
	Origin spec.Origin
	Err    error
}

// Error is the cause, the line, and then the hint: what happened, where, and
// what to do next. The step's name stands in the record.
func (e *OriginError) Error() string {
	if e.Origin.String() == "" {
		return e.Err.Error()
	}
	var f *Fault
	if errors.As(e.Err, &f) && f.Hint != "" && f.Error() == e.Err.Error() {
		return fmt.Sprintf("%v (%s). %s", f.Err, e.Origin, f.Hint)
	}
	return fmt.Sprintf("%v (%s)", e.Err, e.Origin)
}

// Unwrap is the cause.
func (e *OriginError) Unwrap() error { return e.Err }

func jsonInto(data []byte, into any) error { return json.Unmarshal(data, into) }
