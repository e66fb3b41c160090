package hostagent

import (
	"context"
	"errors"
	"time"

	"drydock/reconcile"
	"drydock/spec"
)

// observeTimeout bounds one look at one block: a driver that hangs costs its
// own service a pass, and no other.
const observeTimeout = 10 * time.Second

// observe finds out how the blocks of what runs stand on the host. A block
// whose driver cannot tell is left out.
func (a *Agent) observe(ctx context.Context, name string, want spec.Wanted, r *reconcile.Remembered) map[string]reconcile.Condition {
	found := map[string]reconcile.Condition{}
	look := func(phase reconcile.Phase, target spec.Service, b spec.Block) {
		s := reconcile.Step{Service: name, Phase: phase, Block: b, Target: target, Host: want.Host.Name}
		d, err := a.Drivers.Driver(s)
		if err != nil {
			return
		}
		o, ok := d.(reconcile.Observer)
		if !ok {
			return
		}
		ctx, cancel := context.WithTimeout(ctx, observeTimeout)
		defer cancel()
		c, err := o.Observe(ctx, s)
		if err != nil && a.stopped(ctx) {
			return // nobody wants to know any more
		}
		if err != nil {
			a.Log.Warn("could not look", "service", name, "block", b.ID(), "error", err)
			return
		}
		found[b.ID()] = a.scrub(c)
	}
	target, ours := whatRuns(r)
	if !ours {
		// Nothing of ours is remembered: only whether somebody else deployed
		// here, or we did and the state directory was lost.
		for _, s := range want.Services {
			if s.Name != name || s.Install == nil {
				continue
			}
			look(reconcile.Install, s, *s.Install)
			if c := found[s.Install.ID()]; c.Is == reconcile.Present || c.Wanted {
				whole(s, look)
			}
		}
		return found
	}
	if target.Install != nil {
		look(reconcile.Install, target, *target.Install)
	}
	if target.Start != nil {
		look(reconcile.Start, target, *target.Start)
	}
	for _, b := range target.Drains {
		look(reconcile.Drain, target, b)
	}
	for _, d := range r.Drains {
		if _, seen := found[d.Block.ID()]; !seen {
			look(reconcile.Drain, target, d.Block)
		}
	}
	return found
}

// whole looks at all of a release that stands here although nothing is
// remembered of it: whether it is adopted as it stands depends on all of it.
func whole(s spec.Service, look func(reconcile.Phase, spec.Service, spec.Block)) {
	if s.Start != nil {
		look(reconcile.Start, s, *s.Start)
	}
	for _, b := range s.Drains {
		look(reconcile.Drain, s, b)
	}
	for _, b := range s.Checks {
		look(reconcile.Check, s, b)
	}
}

// scrub is what was found, without secrets that somebody may have repeated.
func (a *Agent) scrub(c reconcile.Condition) reconcile.Condition {
	if a.Scrub != nil {
		c.Detail = a.Scrub(c.Detail)
	}
	return c
}

// stopped reports whether a look was ended from outside, not by its deadline.
func (*Agent) stopped(ctx context.Context) bool {
	return errors.Is(context.Cause(ctx), context.Canceled)
}

// whatRuns is the service whose blocks stand on the host now.
func whatRuns(r *reconcile.Remembered) (spec.Service, bool) {
	switch {
	case r.Running != nil && r.Running.Foreign == "":
		return r.Running.Service, true
	case r.Halt != nil && len(r.Drains) > 0:
		return r.Halt.Target, true
	}
	return spec.Service{}, false
}
