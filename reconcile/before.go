package reconcile

import (
	"context"
	"errors"
	"slices"
)

// What is asked before anything is out of service.

// HostGate is shut while the host lacks something that a step of the plan will
// need, and that its driver can tell before anything is out of service.
func (e *Engine) HostGate(ctx context.Context, p ServicePlan) Gate {
	if p.Resume {
		return Gate{}
	}
	ctx, cancel := context.WithTimeout(ctx, retryUnprepared)
	defer cancel()
	lacks := e.lacks(ctx, p)
	if len(lacks) == 0 {
		return Gate{}
	}
	first := lacks[0]
	g := Gate{Name: "host", Reason: at(first.step, first.error).Error(), Origin: first.step.Origin}
	if BlameOf(first) == OfRelease {
		g.Name = "release" // the old one serves on; only another release helps
	}
	if len(lacks) > 1 {
		g.Reason = sentence(g.Reason) + listsAll
	}
	return g
}

// listsAll is said where more is missing than what a reason names.
const listsAll = " More is missing; `hostagent check-host` lists all"

// lacks are what the steps of a plan need and do not find, each once. What is
// lacking for the fetch is said when that runs.
func (e *Engine) lacks(ctx context.Context, p ServicePlan) (all []*failedStep) {
	said := map[string]bool{}
	for _, s := range slices.Concat(p.Steps, e.leftOut(p)) {
		if s.Phase == Fetch {
			continue
		}
		if len(all) > 0 && ctx.Err() != nil {
			break // who hung is named; the others were not asked
		}
		for _, n := range e.Needs(ctx, s) {
			if n.Err != nil && !errors.Is(n.Err, ErrUnfetched) && !said[n.Err.Error()] {
				said[n.Err.Error()] = true
				all = append(all, &failedStep{s, n.Err})
			}
		}
	}
	return all
}

// leftOut are the migrations that a deployment leaves out because they ran here
// before: going back to their release is only right if its driver finds nothing
// in the data that the release does not know.
func (e *Engine) leftOut(p ServicePlan) (steps []Step) {
	if p.Purpose != Deploy || len(p.Steps) == 0 {
		return nil
	}
	b := build{host: e.Host, target: p.Target, purpose: Deploy, detail: p.Reason}
	for _, s := range b.candidates(phaseSet(Migrate)) {
		if s.Block.Type == "migrate" && !slices.ContainsFunc(p.Steps, func(o Step) bool { return o.ID == s.ID }) {
			steps = append(steps, s)
		}
	}
	return steps
}

// Preview is what the drivers can say of a plan's steps in advance, by step ID.
func (e *Engine) Preview(ctx context.Context, p ServicePlan) map[string]string {
	ctx, cancel := context.WithTimeout(ctx, retryUnprepared)
	defer cancel()
	said := map[string]string{}
	for _, s := range p.Steps {
		d, err := e.Drivers.Driver(s)
		if err != nil {
			continue
		}
		v, ok := d.(Previewer)
		if !ok {
			continue
		}
		switch text, err := v.Preview(ctx, s); {
		case errors.Is(err, ErrUnfetched):
			said[s.ID] = ErrUnfetched.Error()
		case err != nil:
			said[s.ID] = "not known: " + Scrubbed(err, e.Scrub).Error()
		case text != "" && e.Scrub != nil:
			said[s.ID] = e.Scrub(text)
		case text != "":
			said[s.ID] = text
		}
	}
	return said
}
