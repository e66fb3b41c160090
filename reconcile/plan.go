package reconcile

import (
	"encoding/json"
	"slices"
	"time"

	"drydock/spec"
)

// Plan is what one host will do, service by service, sorted by name.
type Plan struct {
	Host     string        `json:"host"`
	Commit   string        `json:"commit"`
	Services []ServicePlan `json:"services"`
}

// Steps of all services, in the order of the services.
func (p Plan) Steps() []Step {
	var all []Step
	for _, s := range p.Services {
		all = append(all, s.Steps...)
	}
	return all
}

// Service returns the plan of one service.
func (p Plan) Service(name string) (ServicePlan, bool) {
	i, ok := slices.BinarySearchFunc(p.Services, name, func(s ServicePlan, n string) int {
		if s.Service < n {
			return -1
		}
		if s.Service > n {
			return 1
		}
		return 0
	})
	if !ok {
		return ServicePlan{}, false
	}
	return p.Services[i], true
}

// ServicePlan is what one host will do with one service, and what is true of
// it until then.
type ServicePlan struct {
	Service string `json:"service"`

	// State is the service's state if nothing were done: converged, drifted,
	// reverted, halted, orphaned, waiting (a declaration this build cannot
	// carry out, or one with errors), or progressing.
	State  State  `json:"state"`
	Reason string `json:"reason,omitempty"`

	Purpose Purpose `json:"purpose"`
	Steps   []Step  `json:"steps"`

	// Target is what runs after the steps. Foreign is set instead of a release
	// of ours when a revert goes back to a `current` that somebody else made.
	Target  spec.Service `json:"-"`
	Foreign string       `json:"-"`

	// First is true where nothing ran before: no slot is needed, and a
	// failure has nothing to go back to.
	First bool `json:"-"`
	// Resume is true where the steps are what is left of a plan that was
	// committed: it is finished or reverted, whatever is wanted now.
	Resume bool `json:"-"`
	// Rollback is true where the release ran here before: neither windows nor
	// dependencies hold it up. Retry is true where a release is tried once
	// more: dependencies do not hold it up.
	Rollback, Retry bool `json:"-"`
	// Slot is true where the steps take a serving service out of rotation.
	Slot bool `json:"-"`

	// Down: what was started last does not run. Such a service is out already,
	// so that it waits for no slot. Left, after a halt: what halted runs in the
	// place of what is remembered.
	Down, Left bool `json:"-"`

	// Adopts is true where the records make another declaration the one that
	// runs here, with no plan that brings it: that takes the same consent, or
	// whoever lowers a rule would have it lowered.
	Adopts bool `json:"-"`
	// GivesWay is true where a committed plan is given up for this one.
	GivesWay bool `json:"-"`

	// Records are what must be remembered before the steps, and need no step
	// themselves: a revision adopted as it stands, a rename, a halt.
	Records []Record `json:"-"`
}

// Empty reports whether there is nothing to do and nothing to remember. A plan
// to resume is never empty: at the least it has to be closed.
func (p ServicePlan) Empty() bool { return len(p.Steps) == 0 && len(p.Records) == 0 && !p.Resume }

// Empty reports whether nothing is to be done on this host.
func (p Plan) Empty() bool {
	return !slices.ContainsFunc(p.Services, func(s ServicePlan) bool { return !s.Empty() })
}

// Observed is what a host remembers and what was found on it just now.
type Observed struct {
	Memory Memory
	Boot   string    // the kernel's boot id
	At     time.Time // when it was found; repairs older than an hour no longer count
	// Found is, for each service, the condition of each block of what runs,
	// by block ID; a block that no driver could tell about is missing.
	Found map[string]map[string]Condition
}

// phase is a row of the table of phases: all that tells one phase from another.
type phase struct {
	// block is the type of block whose driver carries the phase out.
	block string
	// commits: the step costs availability. The first such step commits the plan.
	commits bool
	// together: the steps of the phase run side by side, and the first that
	// fails ends the others.
	together bool
	// again is what happens, after a crash, to a step that has a `done` record:
	// nothing (a migration, a hook), or its driver is asked whether it still is.
	again bool
	// once: a step that was begun and did not end is not begun again unless
	// its driver proves that nothing was applied.
	once bool
	// always: the step is repeated after every restart, because it observes.
	always bool
	// ask: the driver is asked before the step begins, because its effect may
	// be there from an earlier plan.
	ask bool
}

// phases is the order of all plans. A later phase is a row here, never a
// branch in the executor.
var phases = [...]phase{
	Fetch:   {block: "install", again: true, ask: true},
	Drain:   {block: "drain", commits: true, again: true},
	Install: {block: "install", commits: true, again: true},
	Migrate: {block: "migrate", commits: true, once: true},
	Start:   {block: "start", commits: true, again: true},
	Check:   {block: "check", commits: true, together: true, always: true},
	Undrain: {block: "drain", commits: true, again: true},
}

// Commits reports whether the step costs availability. A hook before the
// drain does not: nothing is out of service yet.
func (s Step) Commits() bool { return phases[s.Phase].commits && !s.early() }

// hook is what a run block's config says of its place.
type hook struct {
	Before string `json:"before"`
	After  string `json:"after"`
}

func hookOf(b spec.Block) (h hook) {
	if b.Type == "run" {
		_ = json.Unmarshal(b.Config, &h)
	}
	return h
}

func (s Step) early() bool { return hookOf(s.Block).Before == Drain.String() }
