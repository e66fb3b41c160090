package trust

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"drydock/spec"
)

// Ask is what a host wants to do, and what that takes.
type Ask struct {
	Kind Kind // Approval, Removal or AgentRelease
	Subject

	// Rules are the approval blocks in force, and each of them has to be met:
	// the new commit's, and that of the commit by which the host last took what
	// it runs of this service. So a block that is lowered does not count until
	// the lowering itself was approved. None: only the host's floor holds.
	Rules []spec.Approval

	// Authors are who made what is approved, as emails: of a release the
	// batch's (Drydock-Change), of a change of the declaration the principals
	// who signed its commits.
	Authors []string

	Rollback   bool // to a release that this environment has left
	SkipExpiry bool // an override of approval-expiry is in force
	Now        time.Time
}

// SignedStatement is a statement and who its signature is by, as the host's keys say.
type SignedStatement struct {
	Statement
	Principals []string // all in whose name the key may sign in the namespace; none: nobody known
	Key        string   // its fingerprint
	File       string   // where it stands
	Why        string   // in words, where there are no Principals
}

// A Decision says whether people agreed.
type Decision struct {
	Granted bool
	Why     string    // a sentence for people, naming what is missing; "" if granted
	Missing []string  // who could bring it forward, by name; never empty unless granted
	Counted []Counted // by name
	Ignored []Ignored // by file
	Authors []string  // whom no rule asks to sign: they are told
}

// Counted is a person who signed.
type Counted struct {
	Who     string
	File    string
	Expires time.Time
	Expired bool // counts by an override, or towards a rollback
}

// Ignored is a signed statement that counts for nothing.
type Ignored struct {
	File string
	Who  string // "" where nobody knows
	Why  string
}

// Approve says whether what is asked for may be done: whether each rule, and
// the host's floor, has its people. The order of what was signed means nothing,
// and no further approval ever takes a grant away.
func (p Policy) Approve(a Ask, signed []SignedStatement) Decision {
	t := p.count(a, Statement{Kind: a.Kind, Subject: a.Subject}, signed)
	demands := p.demands(a)
	var why, missing []string
	for _, m := range demands {
		if short, who := m.short(t.people); short != "" {
			why, missing = append(why, short), append(missing, who...)
		}
	}
	for who, c := range t.people {
		if len(demands) > 0 && !slices.ContainsFunc(demands, func(m demand) bool { return m.asks(who) }) {
			delete(t.people, who)
			t.ignore(c.File, who, "nobody asks for %s's approval (from)", who)
		}
	}
	d := t.decision()
	d.Authors = unasked(a, demands)
	if d.Granted = len(why) == 0; !d.Granted {
		d.Missing = unique(missing)
		d.Why = fmt.Sprintf("%s is not approved: %s; to approve: drydock approve %s --env %s%s --push", what(a), strings.Join(unique(why), "; "), a.Service, a.Environment, kindFlag(a.Kind))
	}
	return d
}

// kindFlag is how drydock approve is told what it is about.
func kindFlag(k Kind) string {
	if k == Removal {
		return " --removed"
	}
	return ""
}

// what is asked for, for people.
func what(a Ask) string {
	switch a.Kind {
	case Removal:
		return "removing " + a.Subject.String()
	case AgentRelease:
		return "the agent's release " + shown(a.Version) + " in " + shown(a.Environment)
	}
	return a.Subject.String()
}

// Attest says whether a person attested each name, for just the release and
// spec that are asked for. Who made a change may say what is true around it;
// but nobody's word outlives its expiry, whatever is overridden.
func (p Policy) Attest(a Ask, requires []string, signed []SignedStatement) Decision {
	var all tally
	var counted []Counted
	a.SkipExpiry, a.Rollback = false, false
	of := map[string][]SignedStatement{}
	for _, s := range signed {
		if s.Kind != Attestation {
			continue // of what else lies in the folder, Approve says why it does not count
		}
		if of[s.Name] = append(of[s.Name], s); !slices.Contains(requires, s.Name) {
			all.ignore(s.File, "", "it attests %s, which nothing here requires", s.Name)
		}
	}
	var missing []string
	for _, name := range unique(requires) {
		t := p.count(a, Statement{Kind: Attestation, Subject: a.Subject, Name: name}, of[name])
		if len(t.people) == 0 {
			missing = append(missing, name)
		}
		counted = append(counted, slices.Collect(maps.Values(t.people))...)
		all.ignored = append(all.ignored, t.ignored...)
	}
	d := all.decision()
	d.Counted = sortCounted(counted)
	if d.Granted = len(missing) == 0; !d.Granted {
		d.Missing = missing
		d.Why = fmt.Sprintf("%s waits for somebody to attest %s; who has seen that it is so runs: drydock attest %s %s --env %s --push", a.Subject, strings.Join(missing, ", "), a.Service, strings.Join(missing, " "), a.Environment)
	}
	return d
}

func unique(list []string) []string { return slices.Compact(slices.Sorted(slices.Values(list))) }
