package reconcile

import (
	"context"
	"log/slog"
	"time"
)

// Journal is where the engine writes down what it is about to do and did.
type Journal interface {
	// Append returns once the record is durable and part of Memory.
	Append(ctx context.Context, r Record) (Record, error)
	// Memory is a snapshot that nobody changes any more.
	Memory() Memory
}

// Drivers finds the driver for a step's block.
type Drivers interface {
	// Driver fails for a block that no driver was registered for.
	Driver(s Step) (Driver, error)
}

// Slots are permissions to take a serving service out of rotation.
type Slots interface {
	// Take never waits: it returns the release function, or the gate that says
	// who is out. force takes one even past the limit, for a plan that was
	// committed before the agent was last started, and for a service that does
	// not run: it is out whatever anybody allows.
	Take(ctx context.Context, service string, force bool) (release func(), shut Gate, err error)
}

// Engine carries plans out. Its fields are set once; one value serves all
// services of a host side by side.
type Engine struct {
	Journal Journal
	Drivers Drivers
	Slots   Slots
	Look    func() Surroundings // what gates look at, now
	Host    string
	Boot    string
	Now     func() time.Time
	Jitter  func(time.Duration) time.Duration // adds up to a tenth
	Log     *slog.Logger
	// Credential fails if a step that names a credential could not read it; nil
	// where nobody can tell. Scrub takes secrets out of a text; may be nil.
	Credential func(name string) error
	Scrub      func(text string) string
	Watch      func(Progressed) // every record and stage as it happens, from several goroutines; must not block

	holds heldDrains
	took  func(transition) // for the test that holds the drawing to the executor
}

// Progressed is what a watcher sees of a plan on its way.
type Progressed struct {
	Stage   Stage
	Record  Record        // zero where only the stage changed
	Elapsed time.Duration // of the step that a done or failed record ends; else 0
	Look    *Look         // a look of a check on its way that saw something else than the one before; mostly nil
}

// Look is what a check saw that is not at its end yet; no journal holds it.
type Look struct {
	Step    string
	Failing string // what it saw instead of a healthy service; "" if it is healthy so far
}

// Outcome is how far a service came in one pass.
type Outcome struct {
	Service string
	Stage   Stage
	Gate    Gate      // what it waits for; open if for nothing
	Err     error     // the failure that led here; nil if none
	Retry   time.Time // when it makes sense to look again; zero: at the next wake
	Changed bool      // something on the host was changed

	// Unadopted: the plan's declaration was not taken for what runs here,
	// because Gate is shut.
	Unadopted bool
}
