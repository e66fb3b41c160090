package hostagent

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"drydock/reconcile"
	"drydock/spec"
)

// restInterval is how often a check runs at rest, or its own interval if that
// is longer.
const restInterval = 30 * time.Second

// atRest looks after a service that has nothing to do: its process is kept
// running by drivers that keep one, and its checks run now and then. A failing
// check is reported, never repaired: deploying is not supervising.
func (l *loop) atRest(name string, r *reconcile.Remembered) {
	if !l.forever || r.Running == nil || r.Running.Foreign != "" || r.Halt != nil || r.Open != nil && r.Open.Committed {
		return
	}
	svc := r.Running.Service
	l.mu.Lock()
	s := l.service(name)
	if s.rest != nil && s.restOf == svc.Revision() {
		l.mu.Unlock()
		return
	}
	if s.rest != nil {
		s.rest()
	}
	s.sick, s.live.Unhealthy = map[string]string{}, ""
	ctx, cancel := context.WithCancel(l.ctx)
	s.rest, s.restOf = cancel, svc.Revision()
	l.mu.Unlock()

	if svc.Start != nil {
		step := reconcile.Step{ID: name + "/start/" + svc.Start.Driver, Service: name, Phase: reconcile.Start, Block: *svc.Start, Target: svc, Host: l.Host.Name, Origin: svc.Start.Origin}
		if d, err := l.Drivers.Driver(step); err == nil {
			if k, ok := d.(reconcile.Keeper); ok {
				if err := k.Keep(ctx, step); err != nil {
					l.Log.Error("it is not kept running", "service", name, "error", err)
				}
			}
		}
	}
	for _, b := range svc.Checks {
		go l.checkAtRest(ctx, name, svc, b)
	}
}

func (l *loop) checkAtRest(ctx context.Context, name string, svc spec.Service, b spec.Block) {
	step := reconcile.Step{Service: name, Phase: reconcile.Check, Block: b, Target: svc, Host: l.Host.Name}
	d, err := l.Drivers.Driver(step)
	if err != nil {
		return
	}
	o, ok := d.(reconcile.Observer)
	if !ok {
		return
	}
	every, _ := reconcile.Pace(b)
	every = max(every, restInterval)
	for {
		t := time.NewTimer(l.Jitter(every))
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		c, err := o.Observe(ctx, step)
		if err != nil || ctx.Err() != nil {
			continue
		}
		l.unhealthy(ctx, name, b, l.scrub(c))
	}
}

// unhealthy notes what one check of a service saw, beside the others.
func (l *loop) unhealthy(ctx context.Context, name string, b spec.Block, c reconcile.Condition) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ctx.Err() != nil {
		return // a plan has begun meanwhile
	}
	s := l.service(name)
	was := s.live.Unhealthy
	delete(s.sick, b.ID())
	if c.Is == reconcile.Absent {
		s.sick[b.ID()] = b.ID() + " fails at rest: " + c.Detail
	}
	s.live.Unhealthy = strings.Join(slices.Sorted(maps.Values(s.sick)), "; ")
	if was != s.live.Unhealthy {
		l.Log.Warn("health at rest", "service", name, "check", b.ID(), "failing", s.live.Unhealthy)
	}
}

// stopRest ends what atRest began for one service, before a plan touches it.
func (a *Agent) stopRest(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.service(name)
	if s.rest != nil {
		s.rest()
		s.rest, s.restOf, s.sick, s.live.Unhealthy = nil, spec.Revision{}, nil, ""
	}
}

func (a *Agent) stopResting() {
	a.mu.Lock()
	names := make([]string, 0, len(a.services))
	for n := range a.services {
		names = append(names, n)
	}
	a.mu.Unlock()
	for _, n := range names {
		a.stopRest(n)
	}
}
