package reconcile

import (
	"time"

	"drydock/spec"
)

// Memory is what the journal's records add up to: all that a host remembers.
// It is only ever changed by Apply, so that status and recovery cannot
// disagree; whatever can be observed on the host is not in it.
type Memory struct {
	Seq      uint64                 `json:"seq"` // of the last record applied
	Accepted string                 `json:"accepted,omitempty"`
	Warrant  *Warrant               `json:"warrant,omitempty"` // of Accepted; nil: accepted without trust, or before there was any
	Good     map[string]string      `json:"good,omitempty"`    // service, or "" for the environment -> commit
	Paused   bool                   `json:"paused,omitempty"`
	Services map[string]*Remembered `json:"services,omitempty"`

	// Heard is how new the newest signed commit is that was accepted: the
	// earlier of when that was, and of its own date. It is what freshness counts
	// from. A head that adds nothing signed, such as a merge that whoever owns
	// the server can make, does not move it.
	Heard time.Time `json:"heard,omitzero"`

	// Sighted are heads that were seen and refused since Accepted was, oldest
	// first: what is behind them is judged by the keys that were valid then.
	Sighted []Sighting `json:"sighted,omitempty"`
	Refused *Refusal   `json:"refused,omitempty"` // the head that was seen last was refused
}

// Sighting is when a head was first seen.
type Sighting struct {
	Commit string    `json:"commit"`
	At     time.Time `json:"at"`
}

// Refusal is a head that is not accepted.
type Refusal struct {
	Commit string    `json:"commit"`
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"` // when the first of the heads was refused that came one after another
}

// Remembered is what is remembered of one service.
type Remembered struct {
	// Running is the last revision that a plan brought to its end; nil before
	// the first. It is what a revert goes back to, also while a plan is open.
	Running *Deployed `json:"running,omitempty"`

	// Past are releases that ran here before Running, newest last. A release
	// among them that is wanted again is a rollback.
	Past []spec.Release `json:"past,omitempty"`

	// Open is the plan being carried out, or nil. Only one that is Committed
	// must be finished or reverted; any other may be replaced at any time.
	Open *OpenPlan `json:"open,omitempty"`

	Halt       *Halt        `json:"halt,omitempty"`       // set: needs a person
	Quarantine []Quarantine `json:"quarantine,omitempty"` // oldest first

	// Drains are our open drains, by drainKey. What is not here, we did not
	// drain, and so never undrain. Rotation is the boot in which we last put a
	// place back, by drainKey.
	Drains   map[string]DrainedByUs `json:"drains,omitempty"`
	Rotation map[string]string      `json:"rotation,omitempty"`

	Held    *time.Time `json:"held,omitempty"`    // since when a person holds it out, through `hostagent drain`
	Repairs int        `json:"repairs,omitempty"` // one after another, none of which held
	Mended  time.Time  `json:"mended,omitzero"`   // the end of the last of them
	// MendedIn is the boot of the last repair: what a reboot ended was not undone by anybody.
	MendedIn string `json:"mended_in,omitempty"`

	// Migrated is how far each migration of a release came, by
	// migrationKey: it outlives the plan, because no migration of a release
	// is ever started a second time unattended.
	Migrated map[string]Progress `json:"migrated,omitempty"`

	// Crossed are the incompatible migrations, by the same keys, that were
	// begun since Running was deployed, by whichever plan: what ran before
	// must not come back across one that may have changed something.
	Crossed []string `json:"crossed,omitempty"`
}

// Deployed is a revision that runs, or ran.
type Deployed struct {
	Service spec.Service `json:"service"`
	// Foreign is the target of a `current` that somebody else had made, where
	// that is what ran before our first plan; Service is then empty but for its name.
	Foreign string    `json:"foreign,omitempty"`
	Since   time.Time `json:"since"`
}

// OpenPlan is a plan on its way.
type OpenPlan struct {
	Purpose Purpose      `json:"purpose"`
	Target  spec.Service `json:"target"`            // what will run when it is done
	Foreign string       `json:"foreign,omitempty"` // instead of Target's release, for a revert to a foreign `current`
	Steps   []string     `json:"steps"`             // IDs, in order
	Reason  string       `json:"reason,omitempty"`
	Since   time.Time    `json:"since"`

	// Committed is true once a step began that costs availability: from then
	// on the plan is finished or reverted before anything newer is taken up.
	Committed bool                `json:"committed,omitempty"`
	Progress  map[string]Progress `json:"progress,omitempty"` // step ID -> how far
}

// Progress of one step.
type Progress struct {
	Is     Kind      `json:"is"` // Begun, Done or Failed
	Tries  int       `json:"tries"`
	At     time.Time `json:"at"`
	Reason string    `json:"reason,omitempty"`

	// Note is what the driver noted last; kept until the step is done.
	Note string `json:"note,omitempty"`
	// Touched: a try of a migration failed, or was cut off, that did not prove
	// that nothing was applied.
	Touched bool `json:"touched,omitempty"`

	// Faults are the tries that failed, and not by the host's fault.
	Faults int `json:"faults,omitempty"`
	// Attempt is, of a migration, the release's attempt that began it last.
	Attempt int `json:"attempt,omitempty"`
}

// Halt is why a service needs a person.
type Halt struct {
	Step   string       `json:"step,omitempty"`
	Reason string       `json:"reason"`
	Target spec.Service `json:"target"` // a committed plan for any other revision lifts the halt
	Since  time.Time    `json:"since"`
}

// Quarantine is a revision that failed here and must not be tried again.
type Quarantine struct {
	Revision spec.Revision `json:"revision"`
	Step     string        `json:"step,omitempty"`
	Reason   string        `json:"reason"`
	Since    time.Time     `json:"since"`
}

// DrainedByUs is an open drain: what an undrain must end, at the place where
// it was made even if the declaration has moved on.
type DrainedByUs struct {
	Block spec.Block `json:"block"`
	Since time.Time  `json:"since"`
	Boot  string     `json:"boot,omitempty"`
}
