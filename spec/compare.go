package spec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
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
	Services []ServiceComparison `json:"services"` // those with a change, sorted
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
	To          *RevisionView `json:"to,omitempty"`
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
		e := EnvironmentComparison{Name: name, Services: compareServices(was, is, o)}
		e.Frozen, e.Unfrozen = newFreezes(was.freezes, is.freezes), newFreezes(is.freezes, was.freezes)
		if len(e.Services)+len(e.Frozen)+len(e.Unfrozen) > 0 {
			c.Environments = append(c.Environments, e)
		}
	}
	return c
}

// side is one environment at one commit.
type side struct {
	services  map[string]Declared
	faulty    map[string]string // service -> its first error
	faults    string            // of the environment
	freezes   []Freeze
	overrides []Override
	removed   map[string]bool
	moved     map[string]string // new name -> old
}

func sideOf(f *Fleet, env string, o CompareOptions) side {
	s := side{services: map[string]Declared{}, faulty: map[string]string{}, removed: map[string]bool{}, moved: map[string]string{}}
	e := f.envs[env]
	if e == nil || e.odd {
		return s
	}
	if faults := f.Faults(env); len(faults) > 0 {
		s.faults = faults[0].Summary
	}
	sc := f.scopeOf(e)
	for _, name := range sc.names {
		d, diags := sc.service(sc.named(name)[0], nil)
		if errs := errorsOf(diags); len(errs) > 0 {
			s.faulty[name] = fmt.Sprintf("%s:%d: %s", errs[0].Subject.Filename, errs[0].Subject.Start.Line, errs[0].Summary)
			continue
		}
		s.services[name] = d
	}
	for _, r := range sc.removed {
		s.removed[r.name] = true
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

// narrow puts one host's exact values in the place of what all have in common.
func (s *side) narrow(f *Fleet, env string, h Host) {
	h.Environment = env
	w, _ := f.For(h)
	here := map[string]Declared{}
	for _, exact := range w.Services {
		d := s.services[exact.Name]
		d.Service, d.Digests = exact, nil
		here[exact.Name] = d
	}
	s.services = here
	for name := range s.faulty {
		if w.Held[name] == nil {
			delete(s.faulty, name)
		}
	}
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
	out := []ServiceComparison{}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if c, ok := compareService(name, was, is, o); ok {
			out = append(out, c)
		}
	}
	return out
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
		switch {
		case is.faulty[name] != "":
			c.Kind, c.Detail = KindHeld, is.faulty[name]
			return c, is.faulty[name] != was.faulty[name]
		case is.faults != "":
			c.Kind, c.Detail = KindHeld, is.faults
		case is.removed[name]:
			c.Kind, c.Detail = KindRemoved, "stopped and uninstalled"
		case slices.Contains(slices.Collect(maps.Values(is.moved)), name):
			return c, false // its new name tells
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
	return c, true
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

// compareParts lists what differs of two declarations beside the release.
func compareParts(before, after Declared) []PartChange {
	var out []PartChange
	was, is := partsOf(before.Service), partsOf(after.Service)
	ids := map[string]bool{}
	for id := range was {
		ids[id] = true
	}
	for id := range is {
		ids[id] = true
	}
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		b, a := was[id], is[id]
		switch {
		case b == nil:
			out = append(out, PartChange{Part: id, Change: "added"})
			continue
		case a == nil:
			out = append(out, PartChange{Part: id, Change: "removed"})
			continue
		}
		names := map[string]bool{}
		for k := range b {
			names[k] = true
		}
		for k := range a {
			names[k] = true
		}
		for _, name := range slices.Sorted(maps.Keys(names)) {
			from, to := b[name], a[name]
			if bytes.Equal(from, to) {
				continue
			}
			p := PartChange{Part: id, Name: name, Change: "changed", From: showJSON(from), To: showJSON(to)}
			switch {
			case from == nil:
				p.Change = "added"
			case to == nil:
				p.Change = "removed"
			}
			out = append(out, p)
		}
	}
	return out
}

// partsOf is a declaration as one JSON object a part. What differs between two
// releases of one declaration (a source with the version in it) is the
// release's, so values that hold the version are compared without it.
func partsOf(s Service) map[string]map[string]json.RawMessage {
	parts := map[string]map[string]json.RawMessage{}
	put := func(id string, v any) {
		data, err := json.Marshal(v)
		if err != nil || string(data) == "null" {
			return
		}
		if v := s.Release.Version; len(v) > 2 {
			data = bytes.ReplaceAll(data, []byte(v), []byte("${release.version}"))
		}
		var m map[string]json.RawMessage
		if json.Unmarshal(data, &m) == nil {
			delete(m, "origin") // where it is written deploys nothing
			delete(m, "written")
			parts[id] = m
		}
	}
	all := slices.Concat(s.Drains, s.Migrates, s.Checks, s.Hooks)
	for _, b := range []*Block{s.Install, s.Start} {
		if b != nil {
			all = append(all, *b)
		}
	}
	for _, b := range all {
		id := b.ID()
		for n := 2; parts[id] != nil; n++ {
			id = b.ID() + " (" + strconv.Itoa(n) + ")"
		}
		put(id, b.Config)
	}
	put("artifact", s.Artifact)
	rollout := s.Rollout
	rollout.Windows = nil
	put("rollout", rollout)
	if len(s.Rollout.Windows) > 0 {
		var words []string
		for _, w := range s.Rollout.Windows {
			words = append(words, w.words())
		}
		put("window", map[string]any{"": strings.Join(words, "; ")})
	}
	put("approval", s.Approval)
	put("batch", s.Batch)
	if len(s.DependsOn) > 0 {
		put("depends_on", map[string]any{"": s.DependsOn})
	}
	return parts
}

// showJSON is a value as a person would write it.
func showJSON(v json.RawMessage) string {
	if v == nil {
		return ""
	}
	var s string
	if json.Unmarshal(v, &s) == nil {
		return s
	}
	var list []string
	if json.Unmarshal(v, &list) == nil {
		return strings.Join(list, " ")
	}
	var t Text
	if json.Unmarshal(v, &t) == nil && t.Credential != "" {
		return t.String()
	}
	return string(v)
}

// gatesOf lists what a new revision of d will wait for, in the order of asking.
func gatesOf(d Declared, in side, now time.Time) []Gate {
	var gates []Gate
	skipped := map[string]bool{}
	for _, o := range in.overrides {
		if meansService(o.Services, d.Name) && o.Until.After(now) {
			for _, s := range o.Skip {
				skipped[s] = true
			}
		}
	}
	add := func(name, detail string, args ...any) {
		if !skipped[name] {
			gates = append(gates, Gate{name, fmt.Sprintf(detail, args...)})
		}
	}
	if a := d.Approval; a != nil {
		add("approval", "%d of %s%s", a.Required, strings.Join(a.From, ", "), map[bool]string{true: ", and the changes' authors"}[a.Authors])
	}
	for _, h := range d.Holds {
		if h.Gate != "approval" || d.Approval == nil {
			add(h.Gate, "%s", h.Reason)
		}
	}
	for _, f := range in.freezes {
		if meansService(f.Services, d.Name) && (f.Until.IsZero() || f.Until.After(now)) {
			add("freeze", "%s%s", f.Reason, between(f.From, f.Until))
		}
	}
	for _, w := range d.Rollout.Windows {
		add("window", "%s", w.words())
	}
	if len(d.DependsOn) > 0 {
		add("depends_on", "%s", strings.Join(d.DependsOn, ", "))
	}
	if n := d.Rollout.Canary; n > 0 {
		if b := d.Rollout.Bake; b > 0 && !skipped["bake"] {
			add("canary", "%d first, then %s", n, shortDuration(b))
		} else {
			add("canary", "%d first", n)
		}
	}
	if slices.Contains(d.Rollout.Written, "max_parallel") {
		add("slot", "%s at once", d.Rollout.MaxParallel)
	}
	return gates
}

// words is "mon tue 09:00–16:00 Europe/Berlin".
func (w Window) words() string {
	days := strings.Join(w.Days, " ")
	if days == "" {
		days = "every day"
	}
	return fmt.Sprintf("%s %s–%s %s", days, w.From, w.To, w.Zone)
}

func meansService(services []string, name string) bool {
	return len(services) == 0 || slices.Contains(services, name)
}

func between(from, until time.Time) string {
	s := ""
	if !from.IsZero() {
		s += " from " + from.Format(time.RFC3339)
	}
	if !until.IsZero() {
		s += " until " + until.Format(time.RFC3339)
	}
	return s
}

// shortDuration is Go's notation without zero seconds: "10m", not "10m0s".
func shortDuration(d Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
