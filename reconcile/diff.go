package reconcile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"drydock/spec"
)

// repairsThatHalt is how many repairs in a row may fail to hold.
const repairsThatHalt = 3

// Diff says what a host must do so that it runs what is wanted. It is pure: no
// clock, no I/O, no error; the same two values always give the same plan, and
// applying a plan and diffing again gives the empty one.
func Diff(want spec.Wanted, have Observed) Plan {
	plan := Plan{Host: want.Host.Name, Commit: want.Commit}
	for _, n := range Names(want, have.Memory) {
		plan.Services = append(plan.Services, DiffOne(n, want, have))
	}
	return plan
}

// Names are all services that a host has to think of: wanted, remembered, or
// held back by errors; sorted.
func Names(want spec.Wanted, m Memory) []string {
	names := map[string]bool{}
	for _, s := range want.Services {
		names[s.Name] = true
	}
	for n := range want.Held {
		names[n] = true
	}
	for n := range m.Services {
		names[n] = true
	}
	for _, mv := range want.Moved {
		if names[mv.To] && m.was(mv) && !m.Service(mv.From).committed() {
			delete(names, mv.From)
		}
	}
	return sortedKeys(names)
}

// DiffOne is Diff for one service: services are independent, so an agent looks
// at each by itself.
func DiffOne(name string, want spec.Wanted, have Observed) ServicePlan {
	d := differ{
		name: name, have: have.Memory.Service(name), found: have.Found[name],
		boot: have.Boot, at: have.At, host: want.Host.Name, resolved: want.Resolved,
	}
	if i := slices.IndexFunc(want.Services, func(s spec.Service) bool { return s.Name == name }); i >= 0 {
		d.want = &want.Services[i]
	}
	i := slices.IndexFunc(want.Moved, func(m spec.Moved) bool { return m.To == name && d.want != nil && have.Memory.was(m) })
	if i < 0 {
		return d.standing(d.plan(want))
	}
	from := want.Moved[i].From
	if have.Memory.Service(from).committed() {
		return ServicePlan{Service: name, State: Waiting, Reason: "takes over from " + from + " once its plan is finished"}
	}
	d.have, d.found = have.Memory.Service(from), have.Found[from]
	p := d.standing(d.plan(want))
	p.Records = append([]Record{{Kind: Renamed, Service: name, Reason: from}}, p.Records...)
	return p
}

// differ is one service's side of Diff.
type differ struct {
	name       string
	want       *spec.Service // nil: not declared for this host
	have       *Remembered
	found      map[string]Condition
	boot, host string
	at         time.Time // when it was found
	resolved   []spec.Resolved
}

func (d differ) plan(w spec.Wanted) ServicePlan {
	p := ServicePlan{Service: d.name, State: Converged}
	if d.givesWay(w) {
		return d.giveWay(w)
	}
	r := d.have
	switch {
	case r.committed():
		return d.resume()
	case d.want == nil && w.Held[d.name] != nil:
		// The agent puts the last good declaration in place of one with
		// errors; where there is none, nothing is known to be wanted.
		p.State, p.Reason = Waiting, "its declaration has errors, and no earlier one was good"
		return p
	case d.want == nil:
		return d.unwanted(w)
	case r.Halt != nil && (r.Halt.Target.Revision() == d.want.Revision() || r.quarantined(d.want.Revision()) != nil) && !d.resolvedHalt():
		return d.halted()
	case r.quarantined(d.want.Revision()) != nil:
		return d.forget(d.reverted())
	case r.Running == nil || r.Running.Foreign != "" || r.Halt != nil:
		if p, ok := d.asFound(); ok {
			return p
		}
		// Also after a halt: what stands on the host is what halted, whatever ran before.
		return d.deploy(everyPhase, d.difference(everyPhase))
	}
	adopt := r.Running.Service.Revision() != d.want.Revision() || !sameJSON(r.Running.Service, *d.want)
	if differs := d.differs(r.Running.Service, *d.want); differs != 0 {
		drifted, _ := d.drift(r.Running.Service) // or the new revision would be blamed for it
		if p = d.deploy(differs|drifted, d.difference(differs)); len(p.Steps) > 0 {
			return p
		}
		// A person holds the only places that differ.
	}
	if adopt && len(d.want.Holds) > 0 {
		p = d.mend(r.Running.Service)
		if p.State == Converged {
			p.State, p.Reason = Waiting, d.want.Holds[0].Reason
		}
		return p
	}
	p = d.mend(*d.want)
	if adopt {
		// Nothing on the host follows from what changed: remember it as it stands.
		p.Records = append([]Record{{Kind: Adopted, Service: d.name, Plan: &OpenPlan{Target: *d.want}}}, p.Records...)
		p.Adopts = true
	}
	return d.forget(p)
}

// forget lets go of a plan that waited and is not wanted any more.
func (d differ) forget(p ServicePlan) ServicePlan {
	r := d.have
	if r.Open != nil && r.Running != nil && p.Empty() {
		p.Records = []Record{{Kind: Adopted, Service: d.name, Plan: &OpenPlan{Target: r.Running.Service, Foreign: r.Running.Foreign}}}
	}
	return p
}

// resolvedHalt reports whether a person found out that the migration whose
// outcome halted the service was applied: then it is left out, and the rest
// goes on.
func (d differ) resolvedHalt() bool {
	h := d.have.Halt
	return h.Target.Revision() == d.want.Revision() && strings.HasPrefix(h.Step, d.want.Name+"/"+Migrate.String()+"/") && d.resolvedAs(h.Target.Release, "applied")
}

func (d differ) resolvedAs(rel spec.Release, outcome string) bool {
	return slices.ContainsFunc(d.resolved, func(r spec.Resolved) bool {
		return r.Service == d.name && r.Release == rel.Version && r.Outcome == outcome
	})
}

// differs is the table of what a difference asks for (the design's section 6).
func (d differ) differs(old, new spec.Service) set {
	var s set
	if !sameRelease(old.Release, new.Release) || max(old.Release.Attempt, 1) != max(new.Release.Attempt, 1) || !sameInstall(old.Install, new.Install) {
		return everyPhase
	}
	if !sameBlock(old.Start, new.Start) || !slices.EqualFunc(old.Hooks, new.Hooks, spec.Block.Same) {
		s |= phaseSet(Drain, Start, Check, Undrain)
	}
	if !slices.EqualFunc(old.Drains, new.Drains, spec.Block.Same) {
		s |= phaseSet(Undrain)
	}
	if !slices.EqualFunc(old.Checks, new.Checks, spec.Block.Same) {
		s |= phaseSet(Check)
	}
	return s
}

func (d differ) difference(s set) string {
	from := "(none)"
	if r := d.have.Running; r != nil {
		from = r.Service.Release.Version
		if r.Foreign != "" {
			from = r.Foreign
		}
	}
	old, new := d.have.Running, d.want.Release
	switch {
	case old == nil || old.Foreign != "" || from != new.Version:
		return fmt.Sprintf("%s -> %s", from, new.Version)
	case d.have.Halt != nil:
		return fmt.Sprintf("%s: again, after a halt", new.Version)
	case old.Service.Release.Digest != new.Digest:
		return fmt.Sprintf("%s: other digest", new.Version)
	case max(old.Service.Release.Attempt, 1) != max(new.Attempt, 1):
		return fmt.Sprintf("%s: attempt %d", new.Version, new.Attempt)
	case s == everyPhase:
		return fmt.Sprintf("%s: install changed", new.Version)
	case s.has(Start):
		return fmt.Sprintf("%s: start or run changed", new.Version)
	case s.has(Undrain):
		return fmt.Sprintf("%s: drain changed", new.Version)
	}
	return fmt.Sprintf("%s: check changed", new.Version)
}

// deploy plans the wanted revision.
func (d differ) deploy(phases set, detail string) ServicePlan {
	r := d.have
	p := ServicePlan{
		Service: d.name, State: Progressing, Reason: detail, Purpose: Deploy, Target: *d.want,
		First:    r.Running == nil,
		Rollback: d.rollback(), Retry: d.retry(),
	}
	if len(d.want.Holds) > 0 {
		p.State = Waiting
	}
	running := r.Running
	if was := d.takenOver(); running == nil && was != "" {
		// Somebody else deployed here before us, or we did and nothing is
		// remembered of it: taken over, and what a revert goes back to.
		running = &Deployed{Service: spec.Service{Name: d.name, Environment: d.want.Environment}, Foreign: was}
		p.First = false
		p.Records = []Record{{Kind: Adopted, Service: d.name, Plan: &OpenPlan{Target: running.Service, Foreign: was}}}
		p.Reason = fmt.Sprintf("%s -> %s (taken over)", was, d.want.Release.Version)
	}
	if p.First {
		phases &^= phaseSet(Drain)
	}
	b := build{host: d.host, target: *d.want, running: running, purpose: Deploy, detail: p.Reason, drains: r.Drains, down: d.down()}
	p.Down = b.down
	p.Steps = d.needed(b.candidates(phases), phases)
	p.Slot = !p.First && d.slot(p.Steps)
	return p
}

// rollback reports whether the wanted release ran here before the running one,
// or before the one that halted.
func (d differ) rollback() bool {
	now, rel := d.have.Running, d.want.Release
	if now != nil && now.Foreign == "" && sameRelease(now.Service.Release, rel) {
		return d.have.Halt != nil && !sameRelease(d.have.Halt.Target.Release, rel)
	}
	return slices.ContainsFunc(d.have.Past, func(o spec.Release) bool { return sameRelease(o, rel) })
}

// retry reports whether a release is tried once more.
func (d differ) retry() bool {
	now, rel := d.have.Running, d.want.Release
	if now != nil && now.Foreign == "" && sameRelease(now.Service.Release, rel) {
		return d.have.Halt != nil || rel.Attempt > max(now.Service.Release.Attempt, 1)
	}
	return rel.Attempt > 1
}

// needed leaves out what would be wrong or idle: draining what is drained
// already, touching what a person drained, releasing an old place that nobody
// drained, migrations that are done.
func (d differ) needed(steps []Step, phases set) []Step {
	return slices.DeleteFunc(steps, func(s Step) bool {
		if s.Block.Type == "run" {
			return false
		}
		switch s.Phase {
		case Drain:
			if d.byHand(s.Block) {
				return true
			}
			_, ours := d.have.Drains[drainKey(s.Block)]
			return ours && d.is(s.Block).Is == Absent // to drain twice costs nothing
		case Undrain:
			if d.have.Held != nil || d.byHand(s.Block) {
				return true
			}
			if !phases.has(Drain) && d.have.Running != nil {
				// Only the places changed: leave the old one as it was before
				// us, and stand in the new one.
				_, ours := d.have.Drains[drainKey(s.Block)]
				return !ours && slices.ContainsFunc(d.have.Running.Service.Drains, s.Block.Same)
			}
		case Migrate:
			return d.migrated(s)
		}
		return false
	})
}

func (d differ) migrated(s Step) bool {
	if d.have.Migrated[migrationKey(s.Block, s.Target.Release)].Is == Done {
		return true
	}
	return d.resolvedAs(s.Target.Release, "applied")
}

// is is how a block stands. What was found is known by the blocks of what
// runs: the same ID with other attributes is another thing.
func (d differ) is(b spec.Block) Condition {
	if r := d.have.Running; r != nil && r.Foreign == "" {
		for _, own := range blocks(r.Service) {
			if own.ID() == b.ID() && !own.Same(b) {
				return Condition{}
			}
		}
	}
	return d.found[b.ID()]
}

// byHand reports whether somebody, not we, took a place out of rotation.
func (d differ) byHand(b spec.Block) bool {
	key := drainKey(b)
	if _, ours := d.have.Drains[key]; ours {
		return false
	}
	boot, wasIn := d.have.Rotation[key]
	return wasIn && d.is(b).Is == Absent && boot == d.boot
}

// installed is what was found at the wanted install block's place.
func (d differ) installed(s *spec.Service) Condition {
	if s.Install == nil {
		return Condition{}
	}
	return d.found[s.Install.ID()]
}

func sameBlock(a, b *spec.Block) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Same(*b)
}

// sameInstall is sameBlock but for keep, which only prunes.
func sameInstall(a, b *spec.Block) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.ID() == b.ID() && (bytes.Equal(a.Config, b.Config) || bytes.Equal(withoutKeep(a.Config), withoutKeep(b.Config)))
}

func withoutKeep(config json.RawMessage) []byte {
	var m map[string]json.RawMessage
	if json.Unmarshal(config, &m) != nil {
		return config
	}
	delete(m, "keep")
	out, _ := json.Marshal(m)
	return out
}

// sameJSON compares what would be journaled, origins left out: a service that
// only moved to another line is the same.
func sameJSON(a, b spec.Service) bool {
	return a.Revision() == b.Revision() && slices.EqualFunc(blocks(a), blocks(b), spec.Block.Same)
}

func blocks(s spec.Service) []spec.Block {
	all := slices.Concat(s.Drains, s.Migrates, s.Checks, s.Hooks)
	for _, b := range []*spec.Block{s.Install, s.Start} {
		if b != nil {
			all = append(all, *b)
		}
	}
	return all
}

// was reports whether the memory still knows a moved service by its old name only.
func (m Memory) was(mv spec.Moved) bool {
	return m.Services[mv.From] != nil && m.Services[mv.To] == nil
}

// committed reports whether a plan must be finished or reverted first.
func (s *Remembered) committed() bool { return s.Open != nil && s.Open.Committed }

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// sentence ends in one full stop.
func sentence(s string) string { return strings.TrimRight(s, ". \n") + "." }

func join(why []string) string {
	switch len(why) {
	case 0:
		return ""
	case 1:
		return why[0]
	}
	return fmt.Sprintf("%s; %s", why[0], join(why[1:]))
}
