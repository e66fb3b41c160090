package spec

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
)

// Comparison is what merging one commit onto another would change for hosts.
type Comparison struct {
	Base         string                  `json:"base"`
	Head         string                  `json:"head"`
	Environments []EnvironmentComparison `json:"environments"` // those with a change, sorted
}

// EnvironmentComparison is one environment's part of a Comparison.
type EnvironmentComparison struct {
	Name     string              `json:"name"`
	Held     string              `json:"held,omitempty"` // the fault at the head that keeps hosts at the last good commit
	Services []ServiceComparison `json:"services"`       // those with a change, sorted
	Frozen   []Freeze            `json:"frozen,omitempty"`
	Unfrozen []Freeze            `json:"unfrozen,omitempty"`
}

// What a service's comparison may say. A service has one kind, the first of
// these that holds; Parts has the rest.
const (
	KindAdded    = "added"    // new in this environment
	KindRemoved  = "removed"  // a removed block stops and uninstalls it
	KindOrphaned = "orphaned" // no longer declared: left running, and reported
	KindMoved    = "moved"    // another name for the same
	KindHeld     = "held"     // has errors: hosts stay at the last good declaration
	KindRelease  = "release"
	KindAttempt  = "attempt" // the same release again
	KindSpec     = "spec"    // the same release, declared differently
)

// ServiceComparison is one service, before and after.
type ServiceComparison struct {
	Service     string        `json:"service"`
	Kind        string        `json:"kind"`
	From        *RevisionView `json:"from,omitempty"`
	To          *RevisionView `json:"to,omitempty"`           // held: what it was
	Hosts       string        `json:"hosts"`                  // "role=web zone=a,b", "every host"
	HostsBefore string        `json:"hosts_before,omitempty"` // where that changes
	Parts       []PartChange  `json:"parts,omitempty"`        // of the spec
	Gates       []Gate        `json:"gates,omitempty"`        // that the new revision will wait for
	Detail      string        `json:"detail,omitempty"`
	Origin      Origin        `json:"origin"`
}

// RevisionView is a revision where no host is known.
type RevisionView struct {
	Revision
	Digests map[string]string `json:"digests,omitempty"`
}

// PartChange is a block or attribute of a service that differs.
type PartChange struct {
	Part   string `json:"part"` // `check/http`, `rollout`, `depends_on`
	Name   string `json:"name,omitempty"`
	Change string `json:"change"` // added, removed, changed
	From   string `json:"from,omitempty"`
	To     string `json:"to,omitempty"`
}

// Gate is one thing that a new revision will wait for.
type Gate struct {
	Name   string `json:"gate"` // approval, attestation, freeze, window, depends_on, canary, slot, driver
	Detail string `json:"detail"`
}

// CompareOptions narrow a comparison. The zero value compares what every host
// has in common.
type CompareOptions struct {
	Host *Host     // exact values for this host, and only its services
	Now  time.Time // freezes and overrides that ended before are left out
}

// Compare says what differs between two commits' declarations. It is pure.
func Compare(base, head *Fleet, o CompareOptions) Comparison {
	c := Comparison{Base: base.Commit(), Head: head.Commit(), Environments: []EnvironmentComparison{}}
	names := append(base.Environments(), head.Environments()...)
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		was, is := sideOf(base, name, o), sideOf(head, name, o)
		e := EnvironmentComparison{Name: name, Held: is.faults, Services: compareServices(was, is, o)}
		e.Frozen, e.Unfrozen = newFreezes(was.freezes, is.freezes), newFreezes(is.freezes, was.freezes)
		if e.Held != "" || len(e.Services)+len(e.Frozen)+len(e.Unfrozen) > 0 {
			c.Environments = append(c.Environments, e)
		}
	}
	return c
}

// side is one environment at one commit.
type side struct {
	services  map[string]Declared
	faulty    map[string]string // service -> its first error
	faults    string            // the environment's first
	freezes   []Freeze
	overrides []Override
	removed   map[string]removedFrom
	moved     map[string]string // new name -> old
}

// removedFrom is where removed blocks take a service away.
type removedFrom struct {
	hosts  string
	origin Origin
}

func sideOf(f *Fleet, env string, o CompareOptions) side {
	s := side{services: map[string]Declared{}, faulty: map[string]string{}, removed: map[string]removedFrom{}, moved: map[string]string{}}
	e := f.envs[env]
	if e == nil || e.odd {
		return s
	}
	if faults := f.Faults(env); len(faults) > 0 {
		s.faults = faultWords(faults[0])
	}
	sc := f.scopeOf(e)
	for _, name := range sc.names {
		d, diags := sc.service(sc.named(name)[0], nil)
		if errs := errorsOf(diags); len(errs) > 0 {
			s.faulty[name] = faultWords(errs[0])
			continue
		}
		s.services[name] = d
	}
	for _, r := range sc.removed {
		gone := removedFrom{r.hosts.String(), Origin{f.commit, r.at}}
		if other, ok := s.removed[r.name]; ok {
			gone.hosts = other.hosts + "; " + gone.hosts
		}
		s.removed[r.name] = gone
	}
	for _, m := range sc.moved {
		s.moved[m.To] = m.From
	}
	s.freezes, s.overrides = slices.Clone(sc.freezes), slices.Clone(sc.overrides)
	sc.drop()
	if o.Host != nil {
		s.narrow(f, env, *o.Host)
	}
	return s
}

func faultWords(d *hcl.Diagnostic) string {
	if d.Subject == nil {
		return d.Summary
	}
	return Origin{Range: *d.Subject}.String() + ": " + d.Summary
}

// narrow puts one host's exact values in the place of what all have in common.
func (s *side) narrow(f *Fleet, env string, h Host) {
	h.Environment = env
	w, _ := f.For(h)
	here := map[string]Declared{}
	for _, exact := range w.Services {
		d := s.services[exact.Name]
		d.Service, d.Service.Digests = exact, nil // the host's own digest says it
		here[exact.Name] = d
	}
	s.services = here
	maps.DeleteFunc(s.faulty, func(name, _ string) bool { return w.Held[name] == nil })
	maps.DeleteFunc(s.removed, func(name string, _ removedFrom) bool {
		return !slices.ContainsFunc(w.Removed, func(r Removed) bool { return r.Name == name })
	})
}

func newFreezes(was, is []Freeze) []Freeze {
	var out []Freeze
	for _, f := range is {
		if !slices.ContainsFunc(was, f.same) {
			out = append(out, f)
		}
	}
	return out
}

func (f Freeze) same(o Freeze) bool {
	return f.Reason == o.Reason && slices.Equal(f.Services, o.Services) && f.From.Equal(o.From) && f.Until.Equal(o.Until)
}

func compareServices(was, is side, o CompareOptions) []ServiceComparison {
	names := map[string]bool{}
	for name := range was.services {
		names[name] = true
	}
	for name := range is.services {
		names[name] = true
	}
	for name := range is.faulty {
		names[name] = true
	}
	for name := range is.removed {
		names[name] = true
	}
	out := []ServiceComparison{}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if c, ok := compareService(name, was, is, o); ok {
			out = append(out, c)
		}
		if c, ok := compareRemoval(name, was, is); ok {
			out = append(out, c)
		}
	}
	return out
}

// compareRemoval is a removed block's doing, whether the service went away with
// the same commit or was left running, orphaned, by an earlier one.
func compareRemoval(name string, was, is side) (ServiceComparison, bool) {
	gone, ok := is.removed[name]
	before, had := was.services[name]
	_, has := is.services[name]
	left := had && !has
	if !ok || is.faults != "" || is.faulty[name] != "" || !left && gone.hosts == was.removed[name].hosts {
		return ServiceComparison{}, false
	}
	c := ServiceComparison{Service: name, Kind: KindRemoved, Hosts: gone.hosts, Detail: "merging stops and uninstalls it", Origin: gone.origin}
	if left {
		c.From = viewOf(before)
		switch ran := before.Hosts.String(); {
		case gone.hosts == Selector(nil).String():
			c.Hosts = ran
		case gone.hosts != ran:
			c.HostsBefore = ran
		}
	}
	return c, true
}

func compareService(name string, was, is side, o CompareOptions) (ServiceComparison, bool) {
	before, had := was.services[name]
	after, has := is.services[name]
	c := ServiceComparison{Service: name, Hosts: after.Hosts.String(), Origin: after.Origin}
	if had {
		c.From = viewOf(before)
	}
	if !has {
		c.Hosts, c.Origin = before.Hosts.String(), before.Origin
		_, removed := compareRemoval(name, was, is)
		switch {
		case is.faulty[name] != "" || is.faults != "":
			c.hold(cmp.Or(is.faulty[name], is.faults))
			return c, had || is.faulty[name] != ""
		case removed || slices.Contains(slices.Collect(maps.Values(is.moved)), name):
			return c, false // its removal tells, or its new name
		default:
			c.Kind, c.Detail = KindOrphaned, "left running on its hosts; a removed block would stop it"
		}
		return c, had
	}
	c.To = viewOf(after)
	if old, ok := was.services[is.moved[name]]; ok && !had {
		c.Kind, c.From, c.Detail = KindMoved, viewOf(old), "was "+is.moved[name]
		before = old
	}
	if c.From != nil {
		c.Parts = compareParts(before, after)
		if b := before.Hosts.String(); b != c.Hosts {
			c.HostsBefore = b
		}
	}
	switch {
	case c.Kind != "":
	case !had:
		c.Kind = KindAdded
		if fault := cmp.Or(was.faulty[name], was.faults); fault != "" {
			c.Detail = "or there before: what was declared then cannot be read, " + fault
		}
	case before.Release.Version != after.Release.Version || before.Release.Digest != after.Release.Digest || !maps.Equal(before.Digests, after.Digests):
		c.Kind = KindRelease
	case max(before.Release.Attempt, 1) != max(after.Release.Attempt, 1):
		c.Kind = KindAttempt
	case before.SpecHash != after.SpecHash || len(c.Parts) > 0 || c.HostsBefore != "":
		c.Kind = KindSpec
		if len(c.Parts) == 0 && c.HostsBefore == "" {
			c.Detail = "values that are known on the host"
		}
	default:
		return c, false
	}
	c.Gates = gatesOf(after, is, o.Now)
	if is.faults != "" {
		c.hold(is.faults)
	}
	return c, true
}

// hold says that hosts stay where they are, for a fault.
func (c *ServiceComparison) hold(fault string) {
	c.Detail = "held: " + fault
	if c.Kind != "" && c.To != nil {
		c.Detail += "; without it: " + c.Kind + " " + c.To.Version
	}
	c.Kind, c.To, c.Gates = KindHeld, c.From, nil
	c.Hosts, c.HostsBefore = cmp.Or(c.HostsBefore, c.Hosts), ""
}

func viewOf(d Declared) *RevisionView {
	return &RevisionView{d.Revision(), d.Digests}
}

// String is "role=web zone=a,b", or "every host".
func (s Selector) String() string {
	if len(s) == 0 {
		return "every host"
	}
	var words []string
	for _, k := range slices.Sorted(maps.Keys(s)) {
		words = append(words, k+"="+strings.Join(s[k], ","))
	}
	return strings.Join(words, " ")
}
