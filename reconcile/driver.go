package reconcile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"drydock/spec"
)

// Driver carries out the steps of one kind of block, such as drain "file" or
// install "archive". One value serves all services of a host, side by side, so
// it keeps no state between calls that it could not find again on the host:
// the agent may be killed between any two instructions.
type Driver interface {
	// Done reports whether the step's effect is there. It is asked after a
	// crash for a step that was begun and has no end, and for a fetch that may
	// have been made before. An error that wraps ErrUnknown says that the
	// outcome cannot be found out; for a migration that halts the service.
	Done(ctx context.Context, s Step) (bool, error)

	// Do makes it so, and returns when the effect is there and durable. It is
	// safe to repeat while Done says false. An error says whose fault it was
	// (see Fault); one that does not say is a transient one.
	Do(ctx context.Context, s Step) error
}

// Observer is a driver that can say, without changing anything, how the thing
// stands that the step's block left behind. s.Service is the running revision;
// s.Action and s.ID mean nothing here.
type Observer interface {
	Observe(ctx context.Context, s Step) (Condition, error)
}

// Prober is what a check driver is: one look at the service, with nothing
// remembered. The loop around it (interval, min_healthy_time,
// healthy_deadline, a process that dies meanwhile) is the engine's; a check
// driver implements neither Driver nor Observer.
type Prober interface {
	// Probe returns nil if the service is healthy, within the block's timeout,
	// which the caller has put on ctx. The error says what was seen instead
	// ("status 503, expected 200"); whose fault it is does not matter.
	Probe(ctx context.Context, s Step) error
}

// Preparer is a driver that can tell before anything is out of service whether
// the host has what a step will need: a user, a file, a directory. It is asked
// after the fetch and before the drain, changes nothing, and an error keeps the
// plan waiting while the old release serves.
type Preparer interface {
	Prepare(ctx context.Context, s Step) error
}

// Previewer is a driver that can say in advance what a step will do in
// particular, such as the migrations that are pending. It is asked after the
// fetch and before the drain, and by a person's plan; it changes nothing. ""
// means that there is nothing to say; an error that wraps ErrUnfetched, that it
// cannot be known before the release is on the host.
type Previewer interface {
	Preview(ctx context.Context, s Step) (string, error)
}

// Holder is a drain driver whose drain may get lost by what happens around it,
// as a load balancer's reload does. Between the drain and the undrain of a plan
// the engine runs Hold beside the steps; it puts the drain back wherever it is
// lost, says so in the log, and returns when ctx ends.
type Holder interface {
	Hold(ctx context.Context, s Step)
}

// Keeper is a driver whose started process it keeps running itself, because no
// other supervisor does. Keep returns at once and keeps until ctx ends;
// a second call for the same service replaces the first.
type Keeper interface {
	Keep(ctx context.Context, s Step) error
}

// Pruner is an install driver that can delete old releases. keep are the
// release directories' names (spec.Release.Dir) that must stay whatever the
// block's own limit says: the running and the last good one.
type Pruner interface {
	Prune(ctx context.Context, s Step, keep []string) error
}

// Condition is what an Observer found.
type Condition struct {
	Is     Is
	Detail string // for people: "current points to /srv/web/old", "pid 4711"

	// Foreign is the target of a `current` link that no plan of ours made
	// (install), or the version now installed (install "command").
	Foreign string

	// Current is where a `current` link points that leads to a release of
	// ours; a host whose journal was lost finds again by it what runs. Wanted
	// is true where that is the release asked about.
	Current string
	Wanted  bool

	// Run tells one run of what was started from the next, and Restarts is how
	// often its supervisor has started it again by itself since somebody last
	// did on purpose; "" and 0 where nobody else starts it (start).
	Run      string
	Restarts int
}

// Is is what an Observer found, in the one word that fits its phase.
type Is int

// What can be found.
const (
	Unknown Is = iota // the driver cannot tell
	Present           // in rotation; installed and intact; running; healthy
	Absent            // out of rotation; not installed; not running; unhealthy
	Altered           // installed, but not as a plan left it
)

var isNames = [...]string{"unknown", "present", "absent", "altered"}

// String is the one word.
func (i Is) String() string { return name(isNames[:], int(i)) }

// MarshalText is String.
func (i Is) MarshalText() ([]byte, error) { return []byte(i.String()), nil }

// UnmarshalText reads String.
func (i *Is) UnmarshalText(text []byte) error {
	n, err := index(isNames[:], text, "condition")
	*i = Is(n)
	return err
}

// ErrUntouched says that a migration that failed changed nothing: the release
// before it runs on the data as it did, so a revert may go back to it.
var ErrUntouched = errors.New("nothing was applied")

// ErrUnfetched says that something cannot be known before the release is there.
var ErrUnfetched = errors.New("known after the fetch")

// ErrUnknown says that it cannot be found out whether a step took effect.
var ErrUnknown = errors.New("outcome unknown")

// Blame is whose fault a failure is.
type Blame int

// Whose fault it is, and so what follows.
const (
	// Transient may pass: retried, and after the last try the release's.
	Transient Blame = iota
	// OfHost is the machine's or a provider's (DNS, TLS, HTTP status, disk, a
	// missing user, a load balancer that does not answer): waits and retries,
	// blames no release.
	OfHost
	// OfRelease is the release's own: a non-zero exit, a dying process, a
	// failed check. Not retried.
	OfRelease
)

var blameNames = [...]string{"transient", "host", "release"}

// String is the one word.
func (b Blame) String() string { return name(blameNames[:], int(b)) }

// MarshalText is String.
func (b Blame) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// UnmarshalText reads String.
func (b *Blame) UnmarshalText(text []byte) error {
	i, err := index(blameNames[:], text, "blame")
	*b = Blame(i)
	return err
}

// Fault is an error that says whose it is and what to do next.
type Fault struct {
	Blame Blame
	Err   error
	Hint  string // the reader's next move, a whole sentence; may be empty
}

// Error is the cause and the hint.
func (f *Fault) Error() string {
	if f.Hint == "" {
		return f.Err.Error()
	}
	return fmt.Sprintf("%v. %s", f.Err, f.Hint)
}

// Unwrap is the cause.
func (f *Fault) Unwrap() error { return f.Err }

// HostFault says that err is the machine's or a provider's fault.
func HostFault(err error, hint string) error { return &Fault{OfHost, err, hint} }

// ReleaseFault says that err is the release's own fault.
func ReleaseFault(err error, hint string) error { return &Fault{OfRelease, err, hint} }

// BlameOf is whose fault err is; Transient where it does not say.
func BlameOf(err error) Blame {
	var f *Fault
	if errors.As(err, &f) {
		return f.Blame
	}
	return Transient
}

// Env is what every driver gets from the agent when it is made.
type Env struct {
	// StateDir is the driver's own directory below the agent's state
	// directory, absolute and made when first needed.
	StateDir string

	// Private is the agent's state directory itself, which no artifact is ever
	// read from; "" where none is known.
	Private string

	// Sealed are the paths of the agent's own, Private and what it reads its
	// secrets from among them, that no command of a service has business with.
	Sealed []string

	// Credential reads a credential's content when a step runs. Its error is a
	// host's fault, names the credential, and never shows its content.
	Credential func(name string) (string, error)

	// Note writes down what a step is about to do in particular, for a step
	// whose outcome could not be found out without it: it is durable when Note
	// returns. The last note of a step that was begun comes back as Step.Note.
	Note func(ctx context.Context, s Step, note string) error

	// Brought is the SHA-256, in hex, of what the release of a step's service
	// brought at a slash-separated path below its directory, "" where it brought
	// no file. The release's user may own it and change it since: whoever reads a
	// file there and acts on it with more than that user has, holds it to this.
	// Nil, Brought itself or what it returns, where nothing is known.
	Brought func(s Step) (func(path string) (sha256 string), error)

	// Output takes what a command printed, capped, for the log.
	Output func(s Step) io.Writer
}

// StepEnv are the variables that every command of a service gets.
func StepEnv(s Step) []string {
	return []string{
		"DRYDOCK_SERVICE=" + s.Service,
		"DRYDOCK_VERSION=" + s.Target.Release.Version,
		"DRYDOCK_PREVIOUS_VERSION=" + s.Previous,
		"DRYDOCK_RELEASE_DIR=" + s.Target.ReleaseDir(),
		"DRYDOCK_ENVIRONMENT=" + s.Target.Environment,
		"DRYDOCK_HOST=" + s.Host,
	}
}

// Step is one action of a plan.
type Step struct {
	ID      string      `json:"id"` // "web/drain/haproxy", "web/drain/haproxy.lb2", "web/fetch/archive"
	Service string      `json:"service"`
	Phase   Phase       `json:"phase"`
	Action  Action      `json:"action"`
	Detail  string      `json:"detail"` // for people: "1.4.2 -> 1.4.3"
	Origin  spec.Origin `json:"origin"` // the block that asked for it

	Block    spec.Block   `json:"-"`
	Target   spec.Service `json:"-"` // the revision that the step belongs to; for a removal, the running one
	Previous string       `json:"-"` // the version that ran before; "" on a first install
	Host     string       `json:"-"`

	// Asked is true for an undrain that a person asked for by the service's
	// name: it ends a person's drain too, however that was made.
	Asked bool `json:"-"`

	// Down is true for a drain of a service that does not run: nobody's
	// session is left to wait for.
	Down bool `json:"-"`

	// Note is what the step's driver wrote down last when it did this step
	// before, and did not end; "" otherwise.
	Note string `json:"-"`

	// Adopt is the target of a foreign `current` link that an install step
	// must switch back to instead of a release of ours; "" otherwise.
	Adopt string `json:"-"`
}

// Left reports whether the declaration has moved on from a drain's place: if
// provisioning has taken that place away meanwhile, nothing is to be done there.
func (s Step) Left() bool {
	if s.Block.Type != "drain" {
		return false
	}
	return s.Action == Remove || len(s.Target.Drains) > 0 && !slices.ContainsFunc(s.Target.Drains, s.Block.Same)
}
