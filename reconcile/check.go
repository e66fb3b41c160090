package reconcile

import (
	"context"
	"fmt"
	"strings"
	"time"

	"drydock/spec"
)

// Checking makes a Driver of a check: it asks until the service was healthy
// without a break for min_healthy_time, or healthy_deadline is over.
type Checking struct {
	// Probe is one look; nil where the start driver's word counts.
	Probe Prober
	// Start says whether the process that was started still runs; nil where
	// the start driver cannot tell. A process that dies fails the check at once.
	Start Observer
	// Seen is told what a look saw instead of a healthy service, and nil once
	// one passes; only where that changes. Nil tells nobody.
	Seen func(error)
}

// Done is always false: a check observes, so it is made again.
func (k Checking) Done(context.Context, Step) (bool, error) { return false, nil }

// Do returns nil once the check has passed, and else the release's fault with
// what was seen last.
func (k Checking) Do(ctx context.Context, s Step) error {
	every, timeout := Pace(s.Block)
	minimum := time.Duration(s.Target.Rollout.MinHealthyTime)
	deadline := time.Duration(s.Target.Rollout.HealthyDeadline)
	over := time.NewTimer(deadline)
	defer over.Stop()
	var healthy time.Time // since when, without a break
	var last error
	var ran *Condition // what was started, as it was seen last
	said := ""
	for {
		asked := time.Now()
		runs := k.runs(ctx, s, timeout)
		if err := died(ran, runs); err != nil {
			return err
		}
		if ran != nil && runs != nil && ran.Run != runs.Run {
			healthy = time.Time{} // started anew on purpose, by somebody else
		}
		if runs != nil {
			ran = runs
		}
		if last = k.once(ctx, s, timeout); last != nil {
			healthy = time.Time{}
		} else {
			if healthy.IsZero() {
				healthy = asked
			}
			if time.Since(healthy) >= minimum {
				return nil
			}
		}
		if text := errorText(last); text != said && k.Seen != nil && ctx.Err() == nil {
			said = text
			k.Seen(last)
		}
		pause := every
		if last == nil {
			pause = min(every, minimum-time.Since(healthy))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-over.C:
			return k.late(s, deadline, minimum, last)
		case <-time.After(max(pause, 0)):
		}
	}
}

func (k Checking) late(s Step, deadline, minimum time.Duration, last error) error {
	if last == nil {
		return ReleaseFault(fmt.Errorf("it was never healthy for %v without a break within %v", minimum, deadline), "")
	}
	return ReleaseFault(fmt.Errorf("not healthy within %v: %w", deadline, last), "")
}

// runs is what the start driver says of what it started; nil if it cannot tell.
func (k Checking) runs(ctx context.Context, s Step, timeout time.Duration) *Condition {
	if k.Start == nil || s.Target.Start == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	look := s
	look.Block, look.Phase = *s.Target.Start, Start
	c, err := k.Start.Observe(ctx, look)
	if err != nil {
		return nil
	}
	return &c
}

// died says that what runs has ended, or that it did since the look before and
// its supervisor started it again, which the looks alone would not show.
func died(before, now *Condition) error {
	if now == nil {
		return nil
	}
	detail := strings.TrimPrefix(now.Detail, "failed: ") // systemd's word for a unit, said already
	switch {
	case now.Is == Absent:
		return ReleaseFault(fmt.Errorf("it died: %s", detail), "")
	case before != nil && now.Restarts > before.Restarts:
		return ReleaseFault(fmt.Errorf("it died, and was started again while it was checked: %s", detail), "")
	}
	return nil
}

func (k Checking) once(ctx context.Context, s Step, timeout time.Duration) error {
	if k.Probe == nil && (k.Start == nil || s.Target.Start == nil) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if k.Probe == nil {
		// Its word counts, so one that fails to look is not a healthy one.
		look := s
		look.Block, look.Phase = *s.Target.Start, Start
		_, err := k.Start.Observe(ctx, look)
		return err
	}
	return k.Probe.Probe(ctx, s)
}

// Observe is one look, for a check at rest.
func (k Checking) Observe(ctx context.Context, s Step) (Condition, error) {
	_, timeout := Pace(s.Block)
	if err := died(nil, k.runs(ctx, s, timeout)); err != nil {
		return Condition{Is: Absent, Detail: err.Error()}, nil
	}
	if err := k.once(ctx, s, timeout); err != nil {
		return Condition{Is: Absent, Detail: err.Error()}, nil
	}
	return Condition{Is: Present}, nil
}

// Pace is a check block's interval and timeout.
func Pace(b spec.Block) (interval, timeout time.Duration) {
	cfg := struct {
		Interval spec.Duration `json:"interval"`
		Timeout  spec.Duration `json:"timeout"`
	}{spec.Duration(time.Second), spec.Duration(5 * time.Second)}
	if b.Type == "check" {
		_ = jsonInto(b.Config, &cfg)
	}
	return time.Duration(cfg.Interval), time.Duration(cfg.Timeout)
}
