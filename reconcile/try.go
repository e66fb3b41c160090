package reconcile

import (
	"context"
	"errors"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"drydock/spec"
)

// try runs steps side by side (mostly one) until they are done or a verdict
// falls that does not ask for another try now.
func (c *carrying) try(ctx context.Context, steps []Step) (Verdict, error) {
	for {
		before := c.recorded(steps)
		s, err := c.together(ctx, steps)
		if err == nil {
			return 0, nil
		}
		if c.recorded(steps) == before {
			c.blind[s.ID]++
		}
		v := c.decide(s, err)
		if v != TryAgain || ctx.Err() != nil {
			return v, err
		}
		c.on(OnRetry)
		if !wait(ctx, c.Jitter(Delay(c.tries(s.ID)))) {
			return TryLater, ctx.Err()
		}
	}
}

// together returns the first step that failed, and its error.
func (c *carrying) together(ctx context.Context, steps []Step) (Step, error) {
	if len(steps) == 1 {
		return steps[0], c.step(ctx, steps[0])
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, s := range steps {
		g.Go(func() error {
			if err := c.step(ctx, s); err != nil {
				return &failedStep{s, err}
			}
			return nil
		})
	}
	err := g.Wait()
	var f *failedStep
	if errors.As(err, &f) {
		return f.step, f.error
	}
	return steps[0], err
}

type failedStep struct {
	step Step
	error
}

func (f *failedStep) Unwrap() error { return f.error }

func (c *carrying) decide(s Step, err error) Verdict {
	m := c.Journal.Memory()
	r := m.Service(s.Service)
	tries := c.tries(s.ID)
	if BlameOf(err) != OfHost {
		tries = c.faults(s.ID) // neither a kill nor the host's trouble is the release's
	}
	return Decide(Failure{
		Phase: s.Phase, Hook: s.Block.Type == "run", Commits: s.Commits(), Blame: BlameOf(err), Unknown: s.Phase == Migrate && errors.Is(err, ErrUnknown),
		Tries: tries, Purpose: c.plan.Purpose, AutoRevert: c.plan.Target.Rollout.AutoRevert,
		Crossed: crossed(r), HasPrevious: r.Running != nil,
	})
}

// crossed reports whether a migration began since the previous release was
// deployed that it does not survive, and that may have changed something.
func crossed(r *Remembered) bool {
	return slices.ContainsFunc(r.Crossed, func(key string) bool {
		p := r.Migrated[key]
		return p.Is != Failed || p.Touched
	})
}

// compatible reports whether the previous release runs on the data that the
// migration leaves.
func compatible(b spec.Block) bool {
	var cfg struct {
		Compatible bool `json:"compatible"`
	}
	_ = jsonInto(b.Config, &cfg)
	return cfg.Compatible
}

// tries is how often a step was tried in this plan.
func (c *carrying) tries(id string) int { return c.progress(id).Tries + c.blind[id] }

// faults is how often it failed by other than the host's fault.
func (c *carrying) faults(id string) int { return c.progress(id).Faults + c.blind[id] }

func (c *carrying) progress(id string) Progress {
	m := c.Journal.Memory()
	if o := m.Service(c.plan.Service).Open; o != nil {
		return o.Progress[id]
	}
	return Progress{}
}

// recorded is how many tries of these steps the journal knows.
func (c *carrying) recorded(steps []Step) (n int) {
	for _, s := range steps {
		n += c.progress(s.ID).Tries
	}
	return n
}

// wait reports whether it was waited to the end.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// reason is an error's text for a record: whole, but not without end.
func reason(err error) string {
	const most = 2000
	if s := err.Error(); len(s) > most {
		return s[:most] + "…"
	} else {
		return s
	}
}
