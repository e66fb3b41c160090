package hostagent

import (
	"context"
	"fmt"

	"drydock/reconcile"
	"drydock/spec"
)

// carry is one service's pass, beside the others.
func (l *loop) carry(until context.Context, name string, want spec.Wanted) reconcile.Outcome {
	m := l.Journal.Memory()
	have := reconcile.Observed{Memory: m, Boot: l.Boot, At: l.Now(), Found: map[string]map[string]reconcile.Condition{}}
	have.Found[name] = l.observe(until, name, want, m.Service(name))
	for _, from := range movedFrom(name, want) {
		taken, err := l.takeOver(from, name, m)
		if err != nil {
			return reconcile.Outcome{Service: name, Stage: reconcile.Pending, Err: err, Retry: l.Now().Add(l.Jitter(reconcile.Delay(1)))}
		}
		have.Found[from] = l.observe(until, taken, want, m.Service(from))
	}
	if until.Err() != nil {
		return reconcile.Outcome{Service: name} // superseded while it looked: half of what was seen is missing
	}
	plan := reconcile.DiffOne(name, want, have)
	if plan.GivesWay && !reconcile.TrustGate(plan, l.surroundings()).Open() {
		plan = reconcile.ResumeOne(name, have, l.Host.Name)
	}

	l.mu.Lock()
	s := l.service(name)
	same := s.looked && s.plan.Target.Revision() == plan.Target.Revision()
	s.plan, s.looked = plan, true
	// After a failure it waits for its time; a gate is asked again each time.
	wait := same && s.live.Err != nil && l.Now().Before(s.notBefore)
	out := reconcile.Outcome{Service: name, Stage: reconcile.Pending, Gate: s.live.Gate, Err: s.live.Err, Retry: s.notBefore}
	l.mu.Unlock()
	switch {
	case plan.Empty():
		l.engine.HoldOpen(l.life, name) // it may be out for a person, and stays so
		l.atRest(name, m.Service(name))
		return reconcile.Outcome{Service: name}
	case !wait || len(plan.Steps) == 0:
		out = l.engine.Carry(l.life, until, plan)
	}
	if out.Stage == reconcile.Resting && len(plan.Steps) == 0 && !plan.Resume {
		m = l.Journal.Memory() // what was adopted as it stands is looked after from now on
		l.atRest(name, m.Service(name))
	}
	if out.Stage != reconcile.Pending || plan.Purpose != reconcile.Deploy && !out.Unadopted || until.Err() != nil {
		return out
	}
	// It waits; what runs meanwhile is looked after all the same.
	have.Memory = l.Journal.Memory()
	if mend := reconcile.MendOne(name, have, l.Host.Name); len(mend.Steps) > 0 {
		return l.engine.Carry(l.life, until, mend)
	} else if !mend.Empty() {
		l.engine.Carry(l.life, until, mend) // something is remembered, and it waits on as before
	}
	l.atRest(name, have.Memory.Service(name))
	return out
}

func movedFrom(name string, want spec.Wanted) (from []string) {
	for _, mv := range want.Moved {
		if mv.To == name {
			from = append(from, mv.From)
		}
	}
	return from
}

// takeOver moves what drivers keep of a service to its new name, and returns
// the name under which they know it now. It is done before the journal knows
// the new name, and again until it is done.
func (l *loop) takeOver(from, to string, m reconcile.Memory) (string, error) {
	old := m.Services[from]
	switch {
	case l.Rename == nil, m.Services[to] != nil && old != nil:
		return from, nil // two services that run: no move
	case old != nil && old.Open != nil && old.Open.Committed:
		return from, nil // it finishes first
	}
	l.stopRest(from)
	if err := l.Rename(from, to); err != nil {
		return from, fmt.Errorf("take over what drivers keep of %s as %s: %w", from, to, err)
	}
	return to, nil
}
