package reconcile

import (
	"cmp"
	"fmt"

	"drydock/spec"
)

// mend compares what runs with what was found, and plans a repair.
func (d differ) mend(s spec.Service) ServicePlan {
	p := ServicePlan{Service: d.name, State: Converged, Purpose: Mend, Target: s}
	r := d.have
	phases, why := d.drift(s)
	b := build{host: d.host, target: s, running: r.Running, purpose: Mend, drains: r.Drains, down: d.down()}
	p.Down = b.down
	if phases != 0 {
		p.State, p.Reason, b.detail = Drifted, join(why), join(why)
		if r.Repairs >= repairsThatHalt && r.MendedIn == d.boot && d.at.Sub(r.Mended) <= repairHolds {
			p.State = Halted
			p.Reason = fmt.Sprintf("%s; %d repairs did not hold. Find what undoes them, then %s", p.Reason, r.Repairs, retrying(s))
			p.Records = []Record{{Kind: Stopped, Service: d.name, Reason: p.Reason}}
			return p
		}
		p.Steps = d.needed(b.candidates(phases), phases)
		p.Slot = d.slot(p.Steps)
		return p
	}
	if s.Start != nil {
		// What its driver looks after itself is said, and not repaired.
		if c := d.found[s.Start.ID()]; c.Is == Unknown {
			p.Reason = c.Detail
		}
	}
	return d.rotation(p, b)
}

// drift is what was changed behind our back, and the phases that mend it.
func (d differ) drift(s spec.Service) (phases set, why []string) {
	if s.Install != nil {
		if c := d.found[s.Install.ID()]; c.Is == Altered || c.Is == Absent {
			phases |= phaseSet(Fetch, Drain, Install, Start, Check, Undrain)
			why = append(why, cmp.Or(c.Detail, s.Install.ID()+" is "+c.Is.String()))
		}
	}
	if s.Start != nil {
		if c := d.found[s.Start.ID()]; c.Is == Absent || c.Is == Altered {
			phases |= phaseSet(Drain, Start, Check, Undrain)
			why = append(why, cmp.Or(c.Detail, "it does not run"))
		}
	}
	return phases, why
}

// rotation looks after the places where nothing else is to be done.
func (d differ) rotation(p ServicePlan, b build) ServicePlan {
	r := d.have
	for _, s := range b.candidates(phaseSet(Drain)) {
		if s.Block.Type == "run" {
			continue
		}
		is := d.is(s.Block).Is
		_, ours := r.Drains[drainKey(s.Block)]
		switch {
		case ours && is == Present && (r.Held != nil || r.Halt != nil):
			s.Detail = "in rotation, although it was drained"
			p.Steps = append(p.Steps, s)
		case !ours && r.Held != nil:
			// Also where it is out already: what is on record is put back when the person lets go.
			s.Detail = "a person asked for it"
			p.Steps = append(p.Steps, s)
		}
	}
	if len(p.Steps) > 0 {
		p.State, p.Reason, p.Slot = Drifted, p.Steps[0].Detail, r.Held != nil
		return p
	}
	if r.Held != nil {
		p.Reason = fmt.Sprintf("held out of rotation by a person; `hostagent undrain %s` puts it back", d.name)
		return p
	}
	var back []Step
	for _, s := range b.candidates(phaseSet(Undrain)) {
		key := drainKey(s.Block)
		boot, wasIn := r.Rotation[key]
		_, ours := r.Drains[key]
		s.Asked = wasIn && boot == ""
		switch {
		case s.Block.Type == "run":
		case ours:
			s.Detail = "nothing holds it out of rotation any more"
			back = append(back, s)
		case wasIn && boot == "" && d.boot != "" && d.is(s.Block).Is == Present:
			// Nothing is left of the word to put it back: what takes it out from now on is a person's.
			p.Records = append(p.Records, Record{Kind: Settled, Service: d.name, Block: &s.Block})
		case !wasIn || d.is(s.Block).Is != Absent:
		case boot == "":
			s.Detail = "a person put it back"
			back = append(back, s)
		case boot != d.boot:
			s.Detail = "out of rotation since the host booted"
			back = append(back, s)
		default:
			p.Reason = fmt.Sprintf("a person took it out of rotation (%s); `hostagent undrain %s` puts it back", s.Block.ID(), d.name)
		}
	}
	if len(back) > 0 {
		p.State, p.Reason = Drifted, back[0].Detail
		for _, s := range b.candidates(phaseSet(Check)) {
			if s.Block.Type != "run" {
				p.Steps = append(p.Steps, s)
			}
		}
		p.Steps = append(p.Steps, back...)
	}
	return p
}
