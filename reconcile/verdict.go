package reconcile

import "time"

// Failure is all that decides what follows when a step fails.
type Failure struct {
	Phase       Phase
	Hook        bool // a run block around the phase
	Commits     bool // the step costs availability
	Blame       Blame
	Unknown     bool // its outcome cannot be found out
	Tries       int  // of this step in this plan, this one included; by the same sort of fault
	Purpose     Purpose
	AutoRevert  bool
	Crossed     bool // a migration of this release ran that the previous release does not survive
	HasPrevious bool // something ran before
}

// Verdict is what follows.
type Verdict int

// The verdicts.
const (
	TryAgain Verdict = iota // in this pass, after a delay
	TryLater                // in a later pass: somebody must mend the host first
	GoBack                  // revert
	Halting
)

var verdictNames = [...]string{"again", "later", "revert", "halt"}

// String is the verdict's one word.
func (v Verdict) String() string { return name(verdictNames[:], int(v)) }

// triesPerStep is how often a step is tried before its failure counts.
const triesPerStep = 3

// Decide is the table of failure rules (the design's section 6).
func Decide(f Failure) Verdict {
	last := f.Tries >= triesPerStep
	switch {
	case f.Unknown:
		return Halting // only a person can find out, and a guess may destroy data
	case !f.Commits || f.Purpose == Uninstall:
		// Nothing is out of service: it waits on the old release, blaming none.
		return againUntil(last, TryLater)
	case f.Blame == OfHost:
		return againUntil(last, TryLater)
	case f.Blame == Transient && (f.Phase != Migrate || f.Hook) && !last:
		return TryAgain // a migration that began is not tried twice
	case f.Purpose == Mend:
		// What runs here ran well once: a fault of its surroundings may pass,
		// and a person gains nothing by being asked. It stays out meanwhile.
		return againUntil(last, TryLater)
	case f.Purpose == Revert:
		return againUntil(last, Halting)
	case f.HasPrevious && f.AutoRevert && !f.Crossed:
		return GoBack
	}
	return Halting
}

func againUntil(last bool, then Verdict) Verdict {
	if last {
		return then
	}
	return TryAgain
}

const (
	retryFirst = 5 * time.Second
	retryMost  = 3 * time.Minute
	// retryUnprepared is how often a host is asked again for what it lacks.
	retryUnprepared = 30 * time.Second
)

// Delay before try number n+1, without its jitter: 5 s doubling to 3 m.
func Delay(tries int) time.Duration {
	d := retryFirst
	for range min(max(tries-1, 0), 10) {
		d *= 2
	}
	return min(d, retryMost)
}
