package reconcile

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"drydock/spec"
)

// probes answers the n-th look, counted from 0.
type probes func(ctx context.Context, n int) error

type prober struct {
	n   int
	ask probes
}

func (p *prober) Probe(ctx context.Context, _ Step) error {
	p.n++
	return p.ask(ctx, p.n-1)
}

type observer func() (Condition, error)

func (o observer) Observe(context.Context, Step) (Condition, error) { return o() }

// running is a start driver that sees run after run with so many restarts,
// and the last of them for ever.
func running(seen ...any) observer {
	n := -2
	return func() (Condition, error) {
		n = min(n+2, len(seen)-2)
		return Condition{Is: Present, Run: seen[n].(string), Detail: seen[n].(string), Restarts: seen[n+1].(int)}, nil
	}
}

func TestChecking(t *testing.T) {
	bad := errors.New("status 503, expected 200")
	well := func(context.Context, int) error { return nil }
	present := observer(func() (Condition, error) { return Condition{Is: Present}, nil })
	for _, c := range []struct {
		name  string
		ask   probes
		start Observer
		says  string        // "" passes
		took  time.Duration // min_healthy_time is 10s, the deadline 60s
	}{
		{"healthy from the start", well, present, "", 10 * time.Second},
		{"healthy after a while", func(_ context.Context, n int) error {
			if n < 5 {
				return bad
			}
			return nil
		}, present, "", 15 * time.Second},
		{"never healthy", func(context.Context, int) error { return bad }, present, "not healthy within 1m0s: status 503", time.Minute},
		{"flaps", func(_ context.Context, n int) error {
			if n%8 == 7 {
				return bad
			}
			return nil
		}, present, "within 1m0s", time.Minute},
		{"hangs", func(ctx context.Context, _ int) error { <-ctx.Done(); return ctx.Err() }, present, "deadline exceeded", time.Minute},
		{"dies", well, observer(func() (Condition, error) { return Condition{Is: Absent, Detail: "exit status 2"}, nil }), "it died: exit status 2", 0},
		{"dies in systemd's words", well, observer(func() (Condition, error) {
			return Condition{Is: Absent, Detail: "failed: its main process ended with exit status 1"}, nil
		}), "it died: its main process ended with exit status 1", 0},
		{"dies and is started again between two looks", well, running("a", 0, "a", 0, "b", 1), "it died, and was started again while it was checked: b", 2 * time.Second},
		{"dies and is started again, without a check", nil, running("a", 3, "b", 4), "it died, and was started again", time.Second},
		{"was started again before, by its supervisor", well, running("a", 7), "", 10 * time.Second},
		{"is started anew by somebody", well, running("a", 1, "a", 1, "a", 1, "a", 1, "b", 0), "", 14 * time.Second},
		{"its start driver cannot tell", well, observer(func() (Condition, error) { return Condition{}, nil }), "", 10 * time.Second},
		{"no start driver that looks", well, nil, "", 10 * time.Second},
		{"no check, runs", nil, present, "", 10 * time.Second},
		{"no check, and the start driver fails to look", nil, observer(func() (Condition, error) { return Condition{}, bad }), "not healthy within 1m0s: status 503", time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := Checking{Start: c.start}
				if c.ask != nil {
					k.Probe = &prober{ask: c.ask}
				}
				s := Step{Block: block("check", "http", "interval", "1s", "timeout", "2s"), Target: declared("web", "1")}
				s.Target.Rollout.MinHealthyTime = spec.Duration(10 * time.Second)
				s.Target.Rollout.HealthyDeadline = spec.Duration(time.Minute)
				began := time.Now()
				err := k.Do(t.Context(), s)
				if took := time.Since(began); took < c.took || took > c.took+2*time.Second {
					t.Errorf("took %v, expected %v", took, c.took)
				}
				if c.says == "" {
					if err != nil {
						t.Error(err)
					}
					return
				}
				if err == nil || !strings.Contains(err.Error(), c.says) || BlameOf(err) != OfRelease {
					t.Errorf("%v (%s), expected %q", err, BlameOf(err), c.says)
				}
				if done, _ := k.Done(t.Context(), s); done {
					t.Error("a check is made again")
				}
			})
		})
	}
}

func TestCheckingEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		k := Checking{Probe: &prober{ask: func(context.Context, int) error { return errors.New("no") }}}
		s := Step{Block: block("check", "http"), Target: declared("web", "1")}
		if err := k.Do(ctx, s); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}

func TestCheckAtRest(t *testing.T) {
	s := Step{Block: block("check", "http"), Target: declared("web", "1")}
	bad := Checking{Probe: &prober{ask: func(context.Context, int) error { return errors.New("status 503") }}}
	if c, err := bad.Observe(t.Context(), s); err != nil || c.Is != Absent || c.Detail != "status 503" {
		t.Errorf("%+v %v", c, err)
	}
	good := Checking{Probe: &prober{ask: func(context.Context, int) error { return nil }}}
	if c, err := good.Observe(t.Context(), s); err != nil || c.Is != Present {
		t.Errorf("%+v %v", c, err)
	}
}

func TestPace(t *testing.T) {
	for _, c := range []struct {
		block             spec.Block
		interval, timeout time.Duration
	}{
		{block("check", "http"), time.Second, 5 * time.Second},
		{block("check", "http", "interval", "3s", "timeout", "2s"), 3 * time.Second, 2 * time.Second},
		{block("start", "process", "timeout", "30s"), time.Second, 5 * time.Second},
	} {
		if i, d := Pace(c.block); i != c.interval || d != c.timeout {
			t.Errorf("%s: %v %v", c.block.ID(), i, d)
		}
	}
}
