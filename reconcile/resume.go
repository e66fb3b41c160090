package reconcile

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"drydock/spec"
)

// PlanRevert is how the revision that ran before comes back after the open
// plan failed: the phases of that plan once more, migrations left out.
func PlanRevert(name string, have Observed, host string) ServicePlan {
	r := have.Memory.Service(name)
	d := differ{name: name, have: r, found: have.Found[name], boot: have.Boot, host: host}
	phases := phaseSet(Undrain)
	for p := range Phase(len(phaseNames)) {
		if p != Migrate && r.Open.touches("/"+p.String()+"/") {
			phases |= phaseSet(p)
		}
	}
	if !r.Open.changed() {
		phases &= phaseSet(Check, Undrain) // it failed to leave rotation: the old one runs as it did
	}
	target, back := r.Running.Service, r.Running.Service.Release.Version
	if f := r.Running.Foreign; f != "" {
		// What somebody else had deployed has no declaration: it is started as
		// the new one is, and the start driver's word counts, because the
		// checks may ask for the new version.
		target, back = r.Open.Target, f
		target.Release, target.Checks = spec.Release{}, nil
	}
	b := build{
		host: host, target: target, running: r.Running, purpose: Revert, foreign: r.Running.Foreign,
		detail: fmt.Sprintf("%s -> %s", r.Open.Target.Release.Version, back), drains: r.Drains,
	}
	// Only what the failed plan drained or was about to put back: what a person
	// took out before it began is not among its steps.
	failed := build{target: r.Open.Target, running: r.Running, purpose: r.Open.Purpose, drains: r.Drains}
	touched := slices.DeleteFunc(failed.candidates(phaseSet(Drain, Undrain)), func(s Step) bool { return !slices.Contains(r.Open.Steps, s.ID) })
	steps := slices.DeleteFunc(b.candidates(phases), func(s Step) bool {
		if s.Block.Type != "drain" {
			return false
		}
		_, ours := r.Drains[drainKey(s.Block)]
		mine := ours
		out := ours // by an earlier plan, or by the one that failed if it came so far
		for _, t := range touched {
			if t.Block.Same(s.Block) {
				mine = true
				out = out && (t.Phase != Drain || r.Open.Progress[t.ID].Is == Done)
			}
		}
		return !mine || s.Phase == Drain && out || s.Phase == Undrain && r.Held != nil
	})
	return ServicePlan{
		Service: name, State: Progressing, Reason: b.detail, Purpose: Revert, Target: target, Foreign: r.Running.Foreign,
		Resume: true, Slot: d.slot(steps), Steps: steps,
	}
}

// open is the plan as it is written down.
func (p ServicePlan) open() OpenPlan {
	o := OpenPlan{Purpose: p.Purpose, Target: p.Target, Foreign: p.Foreign, Reason: p.Reason}
	for _, s := range p.Steps {
		o.Steps = append(o.Steps, s.ID)
	}
	return o
}

// slot reports whether steps take a serving service out. One that a person
// took out needs none, but to be taken out.
func (d differ) slot(steps []Step) bool {
	out := d.have.Held != nil
	if r := d.have.Running; r != nil && len(r.Service.Drains) > 0 {
		out = out || !slices.ContainsFunc(r.Service.Drains, func(b spec.Block) bool { return !d.byHand(b) })
	}
	return slices.ContainsFunc(steps, func(s Step) bool {
		return s.Phase == Drain || !out && (s.Phase == Install || s.Phase == Migrate || s.Phase == Start)
	})
}

// resume picks up what is left of a committed plan: the same steps, whatever
// is wanted now.
func (d differ) resume() ServicePlan {
	o := d.have.Open
	if o.Purpose == Deploy && d.have.Running != nil && d.have.quarantined(o.Target.Revision()) != nil {
		// Killed between the verdict and its plan.
		p := PlanRevert(d.name, Observed{Memory: Memory{Services: map[string]*Remembered{d.name: d.have}}, Boot: d.boot}, d.host)
		open := p.open()
		open.Committed = true
		p.Records = []Record{{Kind: Planned, Service: d.name, Plan: &open}}
		return p
	}
	p := ServicePlan{
		Service: d.name, State: Progressing, Reason: o.Reason, Purpose: o.Purpose, Target: o.Target, Foreign: o.Foreign,
		First: d.have.Running == nil, Resume: true,
	}
	b := build{host: d.host, target: o.Target, running: d.have.Running, purpose: o.Purpose, foreign: o.Foreign, detail: o.Reason, drains: d.have.Drains, down: d.down()}
	done := true // but for hooks after the undrain: nothing is taken out once more
	for _, s := range b.candidates(everyPhase) {
		if slices.Contains(o.Steps, s.ID) {
			p.Steps = append(p.Steps, s)
			done = done && (s.Block.Type == "run" || o.Progress[s.ID].Is == Done)
		}
	}
	// Not every plan keeps the order of the phases.
	slices.SortStableFunc(p.Steps, func(x, y Step) int { return cmp.Compare(slices.Index(o.Steps, x.ID), slices.Index(o.Steps, y.ID)) })
	if done {
		p.Steps = slices.DeleteFunc(p.Steps, func(s Step) bool { return s.Block.Type != "run" || o.Progress[s.ID].Is == Done })
	}
	p.Slot = !p.First && d.slot(p.Steps)
	return p
}

func (d differ) halted() ServicePlan {
	h := d.have.Halt
	p := ServicePlan{Service: d.name, Purpose: Mend, Target: h.Target}
	// What is drained while a person is asked stays drained.
	p = d.rotation(p, build{host: d.host, target: h.Target, running: d.have.Running, purpose: Mend, drains: d.have.Drains})
	p.State, p.Reason = Halted, h.Reason
	p.Steps = slices.DeleteFunc(p.Steps, func(s Step) bool { return s.Phase != Drain })
	return p
}

// down reports whether what was started last is known not to run.
func (d differ) down() bool {
	r := d.have.Running
	return r != nil && r.Foreign == "" && r.Service.Start != nil && d.found[r.Service.Start.ID()].Is == Absent
}

// standing says what runs since a halt: nothing, what halted, or what ran before.
func (d differ) standing(p ServicePlan) ServicePlan {
	r := d.have
	if r.Halt == nil || r.Running == nil || r.Running.Foreign != "" || r.Running.Service.Start == nil {
		return p
	}
	c := d.found[r.Running.Service.Start.ID()]
	begun := slices.ContainsFunc([]Phase{Start, Check, Undrain}, func(ph Phase) bool {
		return strings.HasPrefix(r.Halt.Step, d.name+"/"+ph.String()+"/")
	})
	p.Down = d.down()
	p.Left = c.Is == Altered || c.Is == Present && begun && d.installed(&r.Running.Service).Is != Present
	return p
}

// reverted is for a wanted revision that failed here: what ran before keeps
// running, and is looked after.
func (d differ) reverted() ServicePlan {
	q := d.have.quarantined(d.want.Revision())
	if d.have.Running == nil {
		return ServicePlan{Service: d.name, State: Halted, Reason: q.Reason}
	}
	in := ""
	if q.Step != "" {
		in = " in " + strings.TrimPrefix(q.Step, d.name+"/")
	}
	p := ServicePlan{Service: d.name, Target: d.have.Running.Service}
	if d.have.Running.Foreign == "" {
		p = d.mend(d.have.Running.Service)
	}
	if p.State == Converged {
		p.State = Reverted
		p.Reason = join(slices.DeleteFunc([]string{
			fmt.Sprintf("%s failed%s: %s", d.want.Release.Version, in, sentence(q.Reason)) +
				" Push a mended release, or " + retrying(*d.want) + " once what was wrong around it is mended",
			p.Reason,
		}, func(s string) bool { return s == "" }))
	}
	return p
}

// unwanted is for a service that is not declared for this host.
func (d differ) unwanted(w spec.Wanted) ServicePlan {
	p := ServicePlan{Service: d.name, State: Orphaned, Reason: "no longer declared for this host; left running. `removed \"" + d.name + "\" { hosts = {} }` stops and uninstalls it"}
	i := slices.IndexFunc(w.Removed, func(r spec.Removed) bool { return r.Name == d.name })
	r := d.have
	if i < 0 {
		return p
	}
	var target spec.Service
	switch {
	case r.Running != nil && r.Running.Foreign == "":
		target = r.Running.Service
	case r.Halt != nil:
		target = r.Halt.Target
	case r.Open != nil:
		target = r.Open.Target
	default:
		return p
	}
	p = ServicePlan{Service: d.name, State: Progressing, Reason: "removed", Purpose: Uninstall, Target: target}
	b := build{host: d.host, target: target, running: r.Running, purpose: Uninstall, detail: "removed", drains: r.Drains}
	p.Steps = d.needed(b.candidates(phaseSet(Drain, Install, Start)), everyPhase)
	// Hooks stand around what makes a release run, not around its end.
	p.Steps = slices.DeleteFunc(p.Steps, func(s Step) bool { return s.Block.Type == "run" && s.Phase != Drain })
	p.Slot = r.Running != nil && d.slot(p.Steps)
	// What serves is stopped before its files go.
	slices.SortStableFunc(p.Steps, func(a, b Step) int { return cmp.Compare(removalOrder(a.Phase), removalOrder(b.Phase)) })
	for i := range p.Steps {
		p.Steps[i].Origin = w.Removed[slices.IndexFunc(w.Removed, func(r spec.Removed) bool { return r.Name == d.name })].Origin
	}
	return p
}

func removalOrder(p Phase) int {
	return map[Phase]int{Drain: 0, Start: 1, Install: 2}[p]
}

// givesWay reports whether a committed plan makes room for a newer declaration:
// it is out of service already, and what it lacks on this host did not come in
// all its tries. Nothing is gained by waiting for a user or a file of a
// declaration that nobody wants any more.
func (d differ) givesWay(w spec.Wanted) bool {
	o := d.have.Open
	if !d.have.committed() || o.stuck() == "" {
		return false
	}
	if d.want == nil {
		return o.Purpose != Uninstall && slices.ContainsFunc(w.Removed, func(r spec.Removed) bool { return r.Name == d.name })
	}
	return d.want.Revision() != o.Target.Revision() && d.have.quarantined(d.want.Revision()) == nil
}

// giveWay halts the plan, in the journal too, and plans what is wanted now from
// there: as after any halt, all of it.
func (d differ) giveWay(w spec.Wanted) ServicePlan {
	stop := Record{Kind: Stopped, Service: d.name, Step: d.have.Open.stuck(), Reason: "gave way to a newer declaration"}
	have := *d.have // Apply changes no map of it for this record
	m := Memory{Services: map[string]*Remembered{d.name: &have}}
	m.Apply(stop)
	d.have = m.Service(d.name)
	p := d.plan(w)
	p.Records = append([]Record{stop}, p.Records...)
	p.GivesWay = true
	return p
}

// ResumeOne is what is left of a committed plan, for a service whose newer
// declaration waits for consent: nothing gives way to what nobody agreed to.
func ResumeOne(name string, have Observed, host string) ServicePlan {
	return differ{name: name, have: have.Memory.Service(name), found: have.Found[name], boot: have.Boot, at: have.At, host: host}.resume()
}

// stuck is the step that failed in all its tries, or "".
func (o *OpenPlan) stuck() string {
	for _, id := range o.Steps {
		if p := o.Progress[id]; p.Is == Failed && p.Tries >= triesPerStep {
			return id
		}
	}
	return ""
}

// retrying is the command by which a person asks for a release once more.
func retrying(s spec.Service) string {
	return fmt.Sprintf("`drydock retry %s --env %s --push`", s.Name, s.Environment)
}
