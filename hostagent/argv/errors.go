package argv

import (
	"errors"
	"fmt"
	"strings"
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
func blame(s reconcile.Step, c Command, err error) error {
	var exit *ExitError
	if !errors.As(err, &exit) {
		return err
	}
	hint := ""
	if c.Within != nil && denied(exit.Tail) {
		hint = confinedHint
	}
	switch {
	case s.Phase >= reconcile.Install:
		return reconcile.ReleaseFault(err, hint)
	case hint != "":
		return &reconcile.Fault{Err: err, Hint: hint}
	}
	return err
}

// confinedHint is for one who wonders why what works by hand does not here.
const confinedHint = "If its user may do that by hand: a service's commands reach neither the agent's own files nor the host's keys, and sudo gains them nothing (`drydock explain service.run` says what they may do)"

// denied reports whether a command says that the kernel refused it something.
func denied(said string) bool {
	said = strings.ToLower(said)
	for _, word := range []string{"permission denied", "operation not permitted", "eacces", "eperm", "no new privileges"} {
		if strings.Contains(said, word) {
			return true
		}
	}
	return false
}
