package reconcile

import "fmt"

// Phase is a stage of a plan. Phases run in the order of the constants; the
// table in phase.go says how each behaves.
type Phase int

// The phases, in order.
const (
	Fetch   Phase = iota // download, verify, unpack, build: costs no availability
	Drain                // out of rotation
	Install              // one atomic switch
	Migrate
	Start
	Check
	Undrain // back into rotation
)

var phaseNames = [...]string{"fetch", "drain", "install", "migrate", "start", "check", "undrain"}

// String is the phase's one word.
func (p Phase) String() string { return name(phaseNames[:], int(p)) }

// MarshalText is String.
func (p Phase) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads String.
func (p *Phase) UnmarshalText(text []byte) error {
	i, err := index(phaseNames[:], text, "phase")
	*p = Phase(i)
	return err
}

// Action is what a step does to the thing it names.
type Action int

// The actions.
const (
	Create Action = iota // nothing was there
	Update               // something else was there
	Remove
	Repair // the right thing was there, and drifted
)

var actionNames = [...]string{"create", "update", "remove", "repair"}

// String is the action's one word.
func (a Action) String() string { return name(actionNames[:], int(a)) }

// MarshalText is String.
func (a Action) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads String.
func (a *Action) UnmarshalText(text []byte) error {
	i, err := index(actionNames[:], text, "action")
	*a = Action(i)
	return err
}

// Purpose is why a plan exists.
type Purpose int

// The purposes.
const (
	Deploy    Purpose = iota // the wanted revision differs from the running one
	Mend                     // local state drifted from what the running revision left
	Revert                   // a release failed; the previous revision comes back
	Uninstall                // the service was removed by name
)

var purposeNames = [...]string{"deploy", "repair", "revert", "remove"}

// String is the purpose's one word.
func (p Purpose) String() string { return name(purposeNames[:], int(p)) }

// MarshalText is String.
func (p Purpose) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads String.
func (p *Purpose) UnmarshalText(text []byte) error {
	i, err := index(purposeNames[:], text, "purpose")
	*p = Purpose(i)
	return err
}

// State is what a service's status says.
type State int

// The states, as in status.
const (
	Converged   State = iota // runs what is wanted
	Waiting                  // on a gate
	Progressing              // a plan is being carried out
	Reverted                 // a release failed, and the service serves the one before it
	Halted                   // needs a person
	Drifted                  // local state that no plan left so, not repaired yet
	Orphaned                 // no longer declared for this host; left running
)

var stateNames = [...]string{"converged", "waiting", "progressing", "reverted", "halted", "drifted", "orphaned"}

// String is the state's one word.
func (s State) String() string { return name(stateNames[:], int(s)) }

// MarshalText is String.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads String.
func (s *State) UnmarshalText(text []byte) error {
	i, err := index(stateNames[:], text, "state")
	*s = State(i)
	return err
}

func name(names []string, i int) string {
	if i < 0 || i >= len(names) {
		return fmt.Sprintf("unknown(%d)", i)
	}
	return names[i]
}

func index(names []string, text []byte, kind string) (int, error) {
	for i, n := range names {
		if n == string(text) {
			return i, nil
		}
	}
	return 0, fmt.Errorf("%q is no %s", text, kind)
}
