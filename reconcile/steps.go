package reconcile

import (
	"fmt"
	"slices"

	"drydock/spec"
)

// build makes the steps of one service for a set of phases, in order, hooks
// in their places.
type build struct {
	host    string
	target  spec.Service
	running *Deployed // nil on a first install
	purpose Purpose
	foreign string // a revert's target, where that is not a release of ours
	detail  string
	drains  map[string]DrainedByUs
	down    bool // what ran does not
}

// candidates are all steps that a plan for these phases could have. The
// drains that are open already are among them: what is left out is the
// caller's decision, what exists is this function's.
func (b build) candidates(want set) []Step {
	var steps []Step
	for p := range Phase(len(phases)) {
		if !want.has(p) {
			continue
		}
		own := b.phase(p)
		if len(own) == 0 && p != Fetch {
			continue // a hook around a phase that this service does not have
		}
		for _, h := range b.target.Hooks {
			if hookOf(h).Before == p.String() {
				steps = append(steps, b.step(p, h, ""))
			}
		}
		steps = append(steps, own...)
		for _, h := range b.target.Hooks {
			if hookOf(h).After == p.String() {
				steps = append(steps, b.step(p, h, ""))
			}
		}
	}
	return steps
}

func (b build) phase(p Phase) (steps []Step) {
	t := b.target
	add := func(blocks ...spec.Block) {
		for _, blk := range blocks {
			steps = append(steps, b.step(p, blk, ""))
		}
	}
	one := func(blk *spec.Block) {
		if blk != nil {
			add(*blk)
		}
	}
	switch p {
	case Fetch:
		if t.Install != nil && fetched(*t.Install) && b.foreign == "" {
			add(*t.Install)
		}
	case Install:
		one(t.Install)
	case Migrate:
		if b.purpose == Deploy {
			add(t.Migrates...)
		}
	case Start:
		one(t.Start)
	case Check:
		add(t.Checks...)
		if len(t.Checks) == 0 && t.Start != nil {
			// The start driver's word counts where nobody wrote a check.
			add(*t.Start)
		}
	case Drain:
		for _, place := range b.places() {
			steps = append(steps, b.step(p, place.block, place.suffix))
		}
	case Undrain:
		for _, place := range slices.Backward(b.places()) {
			steps = append(steps, b.step(p, place.block, place.suffix))
		}
	}
	return steps
}

// place is where a service is in rotation.
type place struct {
	block  spec.Block
	suffix string // ".old" where the declaration has moved on from it
}

// places are all drain blocks that a plan must think of: the target's own, in
// order, and before them those where the service stands now, or stands drained,
// and which the target no longer names. Leaving an old place drained for ever
// would be a change that nobody asked for.
func (b build) places() []place {
	var old []place
	add := func(blk spec.Block) {
		same := func(o spec.Block) bool { return o.Same(blk) }
		if slices.ContainsFunc(b.target.Drains, same) || slices.ContainsFunc(old, func(p place) bool { return same(p.block) }) {
			return
		}
		suffix := ".old"
		for n := 2; slices.ContainsFunc(old, func(p place) bool { return p.block.ID() == blk.ID() && p.suffix == suffix }); n++ {
			suffix = fmt.Sprintf(".old%d", n) // it moved twice before anything was put back
		}
		old = append(old, place{blk, suffix})
	}
	if b.running != nil && b.running.Foreign == "" {
		for _, blk := range b.running.Service.Drains {
			add(blk)
		}
	}
	for _, id := range sortedKeys(b.drains) {
		add(b.drains[id].Block)
	}
	for _, blk := range b.target.Drains {
		old = append(old, place{blk, ""})
	}
	return old
}

func (b build) step(p Phase, blk spec.Block, suffix string) Step {
	name := blk.Driver
	if blk.Label != "" {
		name += "." + blk.Label
	}
	kind := p.String()
	if blk.Type == "run" {
		kind = "run"
	}
	s := Step{
		ID:      b.target.Name + "/" + kind + "/" + name + suffix,
		Service: b.target.Name, Phase: p, Action: b.action(p, suffix), Detail: b.detail,
		Origin: blk.Origin, Block: blk, Target: b.target, Host: b.host,
	}
	if b.running != nil {
		s.Previous = b.running.Service.Release.Version
	}
	s.Down = b.down && p == Drain
	if p == Install {
		s.Adopt = b.foreign
	}
	if blk.Type == "run" {
		s.Detail = fmt.Sprintf("hook around %s", p)
		if h := hookOf(blk); h.Before != "" {
			s.Detail = "hook before " + h.Before
		} else if h.After != "" {
			s.Detail = "hook after " + h.After
		}
	}
	return s
}

func (b build) action(p Phase, suffix string) Action {
	switch {
	case b.purpose == Uninstall && (p == Start || p == Install):
		return Remove
	case b.purpose == Mend:
		return Repair
	case suffix != "" && p == Undrain:
		return Remove
	case b.running == nil:
		return Create
	default:
		return Update
	}
}

// fetched reports whether an installer gets its release in the fetch phase. A
// command does all its work in the install phase.
func fetched(b spec.Block) bool { return b.Driver != "command" }

// set is a set of phases.
type set uint

func phaseSet(ps ...Phase) (s set) {
	for _, p := range ps {
		s |= 1 << p
	}
	return s
}

func (s set) has(p Phase) bool { return s&(1<<p) != 0 }

var everyPhase = phaseSet(Fetch, Drain, Install, Migrate, Start, Check, Undrain)
