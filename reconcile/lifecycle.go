package reconcile

import "fmt"

// Stage is where one service stands on its way through a plan. The drawing is
// lifecycle.dot; a test holds the two together.
type Stage int

// The stages.
const (
	Resting   Stage = iota // no plan, or one that has not begun
	Preparing              // trust gates and fetch: nothing is out of service
	Pending                // waits outside: for a gate, or for a host's fault to pass
	Working                // committed: the steps from drain to undrain
	Reverting              // the steps that bring the previous revision back
	Stuck                  // halted: a person is needed
)

var stageNames = [...]string{"resting", "preparing", "pending", "working", "reverting", "halted"}

// String is the stage's one word.
func (s Stage) String() string { return name(stageNames[:], int(s)) }

// Event is what moves a service from one stage to the next.
type Event int

// The events.
const (
	OnPlan      Event = iota // a plan that has not begun
	OnResume                 // a plan that was committed before
	OnBack                   // a revert that was committed before
	OnShut                   // a gate is closed, or fetch is to be tried later
	OnSupersede              // something newer is wanted, and nothing was touched
	OnCommit                 // all gates are open: the first step that costs availability
	OnRetry                  // the step failed, and may pass
	OnLater                  // the host's or a provider's fault goes on
	OnRevert                 // the release failed
	OnHalt                   // it failed, and there is no way back
	OnFinish                 // the last step is done
	OnWake                   // look again
)

var eventNames = [...]string{
	"plan", "resume", "back", "shut", "supersede", "commit", "retry", "later", "revert", "halt", "finish", "wake",
}

// String is the event's one word.
func (e Event) String() string { return name(eventNames[:], int(e)) }

// transition is one arrow of the drawing.
type transition struct {
	from Stage
	on   Event
	to   Stage
}

var transitions = []transition{
	{Resting, OnPlan, Preparing},
	{Resting, OnResume, Working},
	{Resting, OnBack, Reverting},
	{Preparing, OnRetry, Preparing},
	{Preparing, OnShut, Pending},
	{Preparing, OnSupersede, Resting},
	{Preparing, OnCommit, Working},
	{Pending, OnWake, Resting},
	{Working, OnRetry, Working},
	{Working, OnLater, Pending},
	{Working, OnRevert, Reverting},
	{Working, OnHalt, Stuck},
	{Working, OnFinish, Resting},
	{Reverting, OnRetry, Reverting},
	{Reverting, OnLater, Pending},
	{Reverting, OnHalt, Stuck},
	{Reverting, OnFinish, Resting},
	{Stuck, OnWake, Resting},
}

// next is the stage that follows, and an error where the drawing has no such
// arrow: a mistake in the executor, which must not go on from there.
func next(from Stage, on Event) (Stage, error) {
	for _, t := range transitions {
		if t.from == from && t.on == on {
			return t.to, nil
		}
	}
	return from, fmt.Errorf("no way from %s on %s", from, on)
}
