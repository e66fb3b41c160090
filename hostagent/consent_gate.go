package hostagent

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"drydock/reconcile"
	"drydock/reconcile/trust"
	"drydock/spec"
)

// Gate is [reconcile.Consent]: three questions in this order. The first that is
// answered with no is the gate; where nothing begins, nobody is asked.
//
//	begins?      a deployment or a removal, no repair, revert or resumption
//	   │
//	approval     each rule in force: the new block, those by which this place was
//	   │         taken before, the host's floor; people count, authors not alone
//	   │
//	attestation  each that a migration of this plan requires
//	   │
//	freshness    somebody signed something lately
//	   │
//	 open        until the first of those who counted does so no longer
func (c *consent) Gate(p reconcile.ServicePlan, s reconcile.Surroundings) reconcile.Gate {
	if !begins(p, s) {
		return reconcile.Gate{}
	}
	var until time.Time
	for _, ask := range []func(reconcile.ServicePlan, reconcile.Surroundings) reconcile.Gate{c.approval, c.attestation, c.freshness} {
		g := ask(p, s)
		if until = sooner(until, g.Until); !g.Open() {
			g.Until = until
			return g
		}
	}
	return reconcile.Gate{Until: until}
}

// begins reports whether a plan begins anything that people could have to agree
// to. A repair, a revert and what is resumed were agreed to once; and so was
// what runs here already, where only this host's own values differ.
func begins(p reconcile.ServicePlan, s reconcile.Surroundings) bool {
	switch {
	case p.Resume || p.Purpose == reconcile.Revert || p.Purpose == reconcile.Mend && !p.Adopts:
		return false
	case p.Purpose == reconcile.Uninstall:
		return true
	}
	r := s.Memory.Service(p.Service)
	runs := r.Running != nil && r.Running.Foreign == "" && r.Halt == nil && r.Running.Service.Revision() == p.Target.Revision()
	return !runs
}

// approval asks the people of each rule in force.
func (c *consent) approval(p reconcile.ServicePlan, s reconcile.Surroundings) reconcile.Gate {
	a, at := c.ask(p, s)
	if c.policy == nil {
		if len(a.Rules) == 0 {
			return reconcile.Gate{}
		}
		return reconcile.Gate{Name: "approval", Reason: fmt.Sprintf("%s asks for approvals, and %s", a.Subject, untrusting), Missing: names(a.Rules), Origin: at}
	}
	folder := trust.Statement{Kind: a.Kind, Subject: a.Subject}.Folder()
	if why := c.doubts[a.Subject]; why != "" {
		return reconcile.Gate{Name: "approval", Reason: fmt.Sprintf("who made %s cannot be found out, so that nobody knows who may approve it: %s; it is tried again when the source is next looked at", a.Subject, why), Missing: []string{}, Origin: at}
	}
	d := c.policy.Approve(a, c.signed[folder])
	until := turns(d, a)
	if o, ok := skipsExpiry(p.Service, s); ok && slices.ContainsFunc(d.Counted, func(c trust.Counted) bool { return c.Expired }) {
		until = sooner(until, o.Until)
	}
	if d.Granted {
		return reconcile.Gate{Until: until}
	}
	why := d.Why
	if c.unread != "" {
		why = c.unread + "; " + why
	}
	if a.Kind == trust.Approval && slices.ContainsFunc(inForce(p, s.Memory), func(r spec.Approval) bool { return !sameRule(p.Target.Approval, r) }) {
		why += "; the rule by which this host last took it counts until another one is approved"
	}
	return reconcile.Gate{Name: "approval", Reason: why + c.uncounted(folder, d.Ignored), Missing: d.Missing, Until: until, Origin: at}
}

// sameRule reports whether a block asks for just what another does.
func sameRule(a *spec.Approval, b spec.Approval) bool {
	return a != nil && a.Required == b.Required && a.Authors == b.Authors && slices.Equal(a.From, b.From)
}

// untrusting is why nobody's signature counts, and what to do.
const untrusting = "this host has no trust section to check signatures by; write one into hostagent.hcl (trust, with signers and a role of people)"

// ask is what a plan needs consent to, and the line that asks for it.
func (c *consent) ask(p reconcile.ServicePlan, s reconcile.Surroundings) (trust.Ask, spec.Origin) {
	a := trust.Ask{Kind: trust.Approval, Subject: trust.SubjectOf(p.Target), Rollback: p.Rollback, Now: s.Now}
	at := p.Target.Origin
	before := inForce(p, s.Memory)
	if p.Purpose == reconcile.Uninstall {
		i := slices.IndexFunc(s.Wanted.Removed, func(r spec.Removed) bool { return r.Name == p.Service })
		if i < 0 {
			i = len(s.Wanted.Removed)
			s.Wanted.Removed = append(slices.Clip(s.Wanted.Removed), spec.Removed{Name: p.Service})
		}
		a.Kind, a.Subject, at = trust.Removal, trust.RemovalOf(s.Wanted.Host.Environment, s.Wanted.Removed[i]), s.Wanted.Removed[i].Origin
	} else if b := p.Target.Approval; b != nil {
		a.Rules, at = append(a.Rules, *b), b.Origin
	} else if len(before) > 0 {
		at = before[0].Origin
	}
	a.Rules = append(a.Rules, before...)
	a.Authors = c.authors[a.Subject]
	_, skip := skipsExpiry(p.Service, s)
	a.SkipExpiry = skip || asFound(p, s)
	return a, at
}

// asFound reports whether a plan only remembers what stands here, although
// nothing is remembered of it: it was let in once, and nothing begins with it.
func asFound(p reconcile.ServicePlan, s reconcile.Surroundings) bool {
	r := s.Memory.Service(p.Service)
	return p.Adopts && (r.Running == nil || r.Running.Foreign != "")
}

// inForce are the approval blocks by which the service was last taken on this
// host, and by which another one was that stands in the same place: a new name
// for a service, with or without a word about it, sheds no rule.
func inForce(p reconcile.ServicePlan, m reconcile.Memory) (rules []spec.Approval) {
	add := func(s spec.Service) {
		if s.Approval != nil {
			rules = append(rules, *s.Approval)
		}
	}
	for _, name := range sortedNames(m) {
		r := m.Services[name]
		mine := name == p.Service
		if r.Running != nil && (mine || samePlace(r.Running.Service, p.Target)) {
			add(r.Running.Service)
		}
		if r.Halt != nil && (mine || samePlace(r.Halt.Target, p.Target)) {
			add(r.Halt.Target)
		}
		if r.Open != nil && r.Open.Committed && (mine || samePlace(r.Open.Target, p.Target)) {
			add(r.Open.Target)
		}
	}
	return rules
}

// samePlace reports whether two services are one to whoever uses this host: at
// one path, of one package, or in one unit.
func samePlace(a, b spec.Service) bool {
	for _, where := range [](func(spec.Service) string){spec.Service.InstallPath, packageOf, unitOf} {
		if p := where(a); p != "" && p == where(b) {
			return true
		}
	}
	return false
}

func packageOf(s spec.Service) string { return configured(s.Install, "package") }
func unitOf(s spec.Service) string    { return configured(s.Start, "unit") }

// configured is a text attribute of a block, or "".
func configured(b *spec.Block, name string) string {
	if b == nil {
		return ""
	}
	var all map[string]json.RawMessage
	var text string
	_ = json.Unmarshal(b.Config, &all)
	_ = json.Unmarshal(all[name], &text)
	return text
}

func sortedNames(m reconcile.Memory) []string {
	var names []string
	for n := range m.Services {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// skipsExpiry is the override by which expired approvals count, if one is in force.
func skipsExpiry(service string, s reconcile.Surroundings) (spec.Override, bool) {
	for _, o := range s.Wanted.Overrides {
		if o.Skips("approval-expiry", service, s.Now) {
			return o, true
		}
	}
	return spec.Override{}, false
}

// attestation asks for what the migrations of a plan require.
func (c *consent) attestation(p reconcile.ServicePlan, s reconcile.Surroundings) reconcile.Gate {
	requires, at := requiresOf(p)
	if len(requires) == 0 {
		return reconcile.Gate{}
	}
	a, _ := c.ask(p, s)
	if c.policy == nil {
		return reconcile.Gate{Name: "attestation", Reason: fmt.Sprintf("a migration of %s requires attestations, and %s", a.Subject, untrusting), Missing: requires, Origin: at[requires[0]]}
	}
	folder := trust.Statement{Kind: trust.Approval, Subject: a.Subject}.Folder()
	d := c.policy.Attest(a, requires, c.signed[folder])
	until := turns(d, a)
	if d.Granted {
		return reconcile.Gate{Until: until}
	}
	return reconcile.Gate{Name: "attestation", Reason: d.Why + c.uncounted(folder, d.Ignored), Missing: d.Missing, Until: until, Origin: at[d.Missing[0]]}
}

// requiresOf are the attestations that the migrations of a plan require, sorted,
// and where each is written.
func requiresOf(p reconcile.ServicePlan) (requires []string, at map[string]spec.Origin) {
	at = map[string]spec.Origin{}
	for _, step := range p.Steps {
		if step.Phase != reconcile.Migrate {
			continue
		}
		for _, name := range step.Block.Requires() {
			if _, ok := at[name]; !ok {
				requires, at[name] = append(requires, name), step.Block.Origin
			}
			if r, ok := step.Block.Ranges["requires"]; ok {
				at[name] = spec.Origin{Commit: step.Block.Origin.Commit, Range: r}
			}
		}
	}
	slices.Sort(requires)
	return requires, at
}

// freshness holds what is new back where nobody knows what is newest.
func (c *consent) freshness(p reconcile.ServicePlan, s reconcile.Surroundings) reconcile.Gate {
	if c.policy == nil || asFound(p, s) {
		return reconcile.Gate{}
	}
	f := trust.Fresh(s.Memory.Heard, s.Now, c.policy.Freshness)
	if f.Fresh {
		return reconcile.Gate{Until: f.Until}
	}
	return reconcile.Gate{Name: "freshness", Reason: f.Why, Origin: p.Target.Origin}
}

// turns is when a decision changes by itself: the first of those who count does
// so no longer.
func turns(d trust.Decision, a trust.Ask) (at time.Time) {
	for _, c := range d.Counted {
		if c.Expires.After(a.Now) {
			at = sooner(at, c.Expires)
		}
	}
	return at
}

// uncounted says which files of a folder count for nothing, the first few of
// them, by who signed them where that is known.
func (c *consent) uncounted(folder string, ignored []trust.Ignored) string {
	const most = 3
	by := map[string]string{}
	for _, s := range c.signed[folder] {
		by[s.File] = strings.Join(s.Principals, " and ")
	}
	var out []string
	all := slices.Concat(ignored, c.ignored[folder])
	for _, i := range all[:min(most, len(all))] {
		file := i.File[strings.LastIndexByte(i.File, '/')+1:]
		if len(file) > 16 {
			file = file[:12] + "…"
		}
		out = append(out, fmt.Sprintf("%s (%s)", cmp.Or(i.Who, by[i.File], file), i.Why))
	}
	if more := len(all) - most; more > 0 {
		out = append(out, fmt.Sprintf("and %d more", more))
	}
	if len(out) == 0 {
		return ""
	}
	return "; not counted: " + strings.Join(out, "; ")
}

// names are all whom rules name.
func names(rules []spec.Approval) []string {
	var out []string
	for _, r := range rules {
		out = append(out, r.From...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// sooner is the earlier of two times; zero is never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// overrides logs those that are in force by a commit that was taken up: whoever
// breaks the glass is heard.
func (l *loop) overrides(want spec.Wanted) {
	for _, o := range overrides(want, l.Now()) {
		l.Log.Warn("an override is in force", "why", o.Reason, "skips", strings.Join(o.Skip, " "), "services", strings.Join(o.Services, " "), "until", o.Until.UTC().Format(time.RFC3339), "origin", o.Origin.String())
	}
}

// overrides are those that have not ended.
func overrides(want spec.Wanted, now time.Time) []spec.Override {
	return slices.DeleteFunc(slices.Clone(want.Overrides), func(o spec.Override) bool { return !now.Before(o.Until) })
}

// tell adds to a service's status what people have to know of consent whatever
// gate is first: that it is lacking, and that an override is in force.
func (c *consent) tell(row *reconcile.ServiceStatus, p reconcile.ServicePlan, s reconcile.Surroundings) {
	row.Unapproved = c.lacks(p, s)
	if o, ok := skipsExpiry(row.Name, s); ok && row.Wanted != nil {
		said := fmt.Sprintf("expired approvals count until %s by an override: %s (%s)", o.Until.UTC().Format(time.RFC3339), o.Reason, o.Origin)
		if row.Reason != "" {
			said = strings.TrimRight(row.Reason, ". ") + ". Besides, " + said
		}
		row.Reason = said
	}
}

// lacks reports whether people have still to agree to what is wanted of a
// service, or to its removal. What failed here waits for no person's consent.
func (c *consent) lacks(p reconcile.ServicePlan, s reconcile.Surroundings) bool {
	i := slices.IndexFunc(s.Wanted.Services, func(w spec.Service) bool { return w.Name == p.Service })
	switch {
	case i >= 0 && (p.Resume || p.Target.Revision() != s.Wanted.Services[i].Revision()):
		// Another plan is in hand: what follows it is asked about.
		p = reconcile.ServicePlan{Service: p.Service, Target: s.Wanted.Services[i], Rollback: p.Rollback}
	case i < 0 && p.Purpose != reconcile.Uninstall:
		return false
	}
	if i >= 0 && slices.ContainsFunc(s.Memory.Service(p.Service).Quarantine, func(q reconcile.Quarantine) bool { return q.Revision == p.Target.Revision() }) {
		return false
	}
	return begins(p, s) && (!c.approval(p, s).Open() || !c.attestation(p, s).Open())
}
