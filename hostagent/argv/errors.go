package argv

import (
	"errors"
	"fmt"
	"time"

	"drydock/reconcile"
)

// ExitError says that a command ran and did not succeed.
type ExitError struct {
	Name   string // argv[0] as it was written
	Code   int    // the exit status; -1 if a signal ended it
	Signal string // the signal that ended it, or ""
	Tail   string // the last lines of its output
}

// Error is one line, and the last lines of the output below it.
func (e *ExitError) Error() string {
	s := fmt.Sprintf("%s exited with status %d", e.Name, e.Code)
	if e.Signal != "" {
		s = fmt.Sprintf("%s was ended by a signal (%s)", e.Name, e.Signal)
	}
	return withTail(s, e.Tail)
}

// TimeoutError says that a command took too long and was killed with all that
// it had started.
type TimeoutError struct {
	Name  string
	After time.Duration
	Tail  string
}

// Error is one line, and the last lines of the output below it.
func (e *TimeoutError) Error() string {
	return withTail(fmt.Sprintf("%s had not ended after its timeout of %v and was killed with all that it had started", e.Name, e.After), e.Tail)
}

func withTail(s, tail string) string {
	if tail == "" {
		return s + " and printed nothing"
	}
	return s + "; its last output:\n" + tail
}

// blame puts a command's failure on the release where the step says so. Before
// the new release is in place nothing that fails can be its fault.
func blame(s reconcile.Step, err error) error {
	var exit *ExitError
	if errors.As(err, &exit) && s.Phase >= reconcile.Install {
		return reconcile.ReleaseFault(err, "")
	}
	return err
}
