package reconcile

import (
	"time"

	"drydock/spec"
)

// Kind is what a journal record says. The kinds and what each does to the
// state stand in one place: Memory.Apply.
type Kind string

// The kinds of record.
const (
	Accepted    Kind = "accepted"    // Commit is the new high-water mark; Warrant says who answers for it
	Sighted     Kind = "sighted"     // the head Commit was seen, and refused for Reason; with none, no refusal stands any more
	Good        Kind = "good"        // Commit holds the last good declaration of Service ("" the environment)
	Planned     Kind = "planned"     // Plan was opened; it replaces an open one that was not committed
	Begun       Kind = "begun"       // Step is about to act
	Done        Kind = "done"        // Step has acted
	Failed      Kind = "failed"      // Step did not; Blame and Reason say why
	Noted       Kind = "noted"       // Step is about to do what Reason says, which its driver must know after a crash
	Quarantined Kind = "quarantined" // Revision of Service must not be tried again
	Stopped     Kind = "halted"      // Service needs a person; Reason says what to do
	Closed      Kind = "closed"      // the open plan of Service reached its end
	Adopted     Kind = "adopted"     // Plan.Target is what runs, with no step needed
	Held        Kind = "held"        // a person took Service out of rotation
	Released    Kind = "released"    // and put it back
	Settled     Kind = "settled"     // the place of Block is in rotation as it stands: nobody's word about it is open any more
	Renamed     Kind = "renamed"     // Service was called Reason before
	Paused      Kind = "paused"      // a person stopped all plans of this host
	Resumed     Kind = "resumed"
)

// Record is one line of the journal. It is durable before what it announces
// happens (Begun), or after what it reports happened (all others).
type Record struct {
	Seq     uint64    `json:"seq"`  // given by the journal
	Time    time.Time `json:"time"` // for people; nothing is ordered by it
	Boot    string    `json:"boot,omitempty"`
	Kind    Kind      `json:"kind"`
	Service string    `json:"service,omitempty"`
	Step    string    `json:"step,omitempty"`    // a step's ID
	Phase   Phase     `json:"phase"`             // of the step; means nothing without one
	Commits bool      `json:"commits,omitempty"` // the step costs availability (Step.Commits)
	Blame   Blame     `json:"blame,omitempty"`
	Reason  string    `json:"reason,omitempty"`
	// Untouched: a migration failed, and nothing was applied for certain.
	Untouched bool           `json:"untouched,omitempty"`
	Commit    string         `json:"commit,omitempty"`
	Warrant   *Warrant       `json:"warrant,omitempty"` // of Accepted; nil: nobody was asked to answer for it
	Revision  *spec.Revision `json:"revision,omitempty"`
	Block     *spec.Block    `json:"block,omitempty"` // of a drain or undrain step: where we stand drained; of Settled, the place
	Plan      *OpenPlan      `json:"plan,omitempty"`
}

// Warrant is how an accepted commit was found good by the host's trust section.
type Warrant struct {
	How string   `json:"how"`          // as package trust says it: "signed", "vouched", "merged", "accepted", "on trust"
	By  []string `json:"by,omitempty"` // who answers for it
	// News is the date of the newest commit that somebody signed, among those
	// that were accepted with it; zero if none of them was signed.
	News time.Time `json:"news,omitzero"`
	// Loose: what its history begins with was taken on trust, because since
	// named nothing then. A since that is named later is judged from.
	Loose bool `json:"loose,omitempty"`
}

// Verified reports whether the commit was judged, and not taken as it came.
func (w *Warrant) Verified() bool { return w != nil && w.How != "" && w.How != "on trust" }
