package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"drydock/hostagent/sshsig"
	"drydock/reconcile/trust"
	"drydock/spec"
)

// entry is one statement that a person is asked to sign, with what they should
// know before they do.
type entry struct {
	trust.Statement
	me       string // in whose name
	authors  []string
	mine     *vote  // theirs, if they signed it already and it counts
	votes    []vote // on just this, of others too
	decision trust.Decision
	rule     *spec.Approval     // nil: the declaration asks nobody
	change   *serviceDifference // since base; nil: it is as it was, or nobody knows what was
	base     string             // "" for a service that is new
	origin   spec.Origin
	warnings []string

	file string // once it is signed
	data []byte
}

// id is what a person says yes to: all of the statement but when it ends.
func (e *entry) id() string {
	s := e.Statement
	s.Expires = time.Time{}
	return fmt.Sprint(s)
}

// words name it in a commit's subject: "prod/web 1.4.2".
func (e *entry) words() string {
	return strings.TrimSpace(strings.TrimSpace(e.Environment+"/"+e.Service+" "+e.Version) + " " + e.Name)
}

// entries are the ballot's statements, as a commit has them.
func (b *ballot) entries(ctx context.Context, st *standing, elsewhere *handed) ([]*entry, error) {
	signers, err := knownSigners(ctx, st.git)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	w := &clerk{ballot: b, standing: st, signers: signers, now: now, makers: newMakers(st.repo, strangers{}, b.environment)}
	switch {
	case elsewhere != nil:
		w.key = elsewhere.key
	case b.found != nil:
		w.key, w.me = b.found.key, b.found.name
	}
	if w.key != (sshsig.Key{}) && signers != nil {
		if names := namesOf(signers, w.key, now); len(names) > 0 {
			w.me = names[0]
		} else {
			w.warn = append(w.warn, fmt.Sprintf("the key %s is not among git's gpg.ssh.allowedSignersFile, and hosts may not know it either", w.key.Fingerprint()))
		}
	}
	for _, service := range unique(b.services) {
		if err := w.service(ctx, service); err != nil {
			return nil, err
		}
	}
	if elsewhere != nil {
		// Of several removed blocks of one service, it is for one.
		w.list = slices.DeleteFunc(w.list, func(e *entry) bool { return len(w.list) > 1 && e.Subject != elsewhere.Subject })
		if len(w.list) == 0 || w.list[0].Statement != elsewhere.Statement {
			return nil, fmt.Errorf("the signature is on another statement than the one that is asked for now (%s):\n%s", w.differs(elsewhere), "print it again, look at it, and sign that")
		}
	}
	return w.list, nil
}

// clerk prepares entries.
type clerk struct {
	*ballot
	*standing
	signers *sshsig.Signers
	makers  *makers
	now     time.Time
	key     sshsig.Key // whose; zero: nobody's yet
	me      string
	warn    []string
	list    []*entry
}

// differs says how a statement is not the one that stands here.
func (w *clerk) differs(h *handed) string {
	if len(w.list) == 0 {
		return "no removed block is what it says"
	}
	is, want := h.Statement, w.list[0].Statement
	switch {
	case is.Kind != want.Kind || is.Name != want.Name || is.Environment != want.Environment || is.Service != want.Service:
		return fmt.Sprintf("it is the %s", is)
	case is.Version != want.Version:
		return fmt.Sprintf("it is for %s, and %s is declared", is.Version, want.Version)
	case is.Digest != want.Digest:
		return "the digest is another one"
	}
	return "what the service is told to do has changed since"
}

// service prepares what is to be signed for one service.
func (w *clerk) service(ctx context.Context, service string) error {
	if w.removed {
		blocks, err := w.removals(w.environment, service)
		if err != nil {
			return err
		}
		for _, r := range blocks {
			if err := w.add(ctx, trust.Statement{Kind: trust.Removal, Subject: trust.RemovalOf(w.environment, r)}, nil, r.Origin); err != nil {
				return err
			}
		}
		return nil
	}
	d, err := w.declared(w.environment, service)
	if err != nil {
		return err
	}
	if placeholder(spec.Change{Digest: d.Release.Digest, Digests: d.Digests}) {
		return fmt.Errorf("%s: %s %s has no artifact yet, only zeros for a digest: drydock bump gives it one, and then there is something to sign", d.Origin, service, d.Release.Version)
	}
	subject := trust.SubjectOf(d.Service)
	if len(w.names) == 0 {
		return w.add(ctx, trust.Statement{Kind: trust.Approval, Subject: subject}, &d, d.Origin)
	}
	known, origins := requires(d.Service)
	for _, name := range unique(w.names) {
		if !slices.Contains(known, name) {
			return fmt.Errorf("no migrate block of %s requires %q%s", service, name, suggest(name, known, "they require"))
		}
		if err := w.add(ctx, trust.Statement{Kind: trust.Attestation, Subject: subject, Name: name}, &d, origins[name]); err != nil {
			return err
		}
	}
	return nil
}

// requires are the attestations that a service's migrations wait for.
func requires(s spec.Service) (names []string, origins map[string]spec.Origin) {
	origins = map[string]spec.Origin{}
	for _, m := range s.Migrates {
		for _, name := range m.Requires() {
			if _, met := origins[name]; !met {
				names, origins[name] = append(names, name), m.Origin
			}
		}
	}
	return names, origins
}

// add is one entry: what it is on, what it is compared with, and who signed.
func (w *clerk) add(ctx context.Context, s trust.Statement, d *spec.Declared, origin spec.Origin) error {
	s.Expires = w.expires
	e := &entry{Statement: s, me: w.me, origin: origin, warnings: slices.Clone(w.warn)}
	all, err := w.votes(ctx, s.Environment, s.Service, w.signers, w.now)
	if err != nil {
		return err
	}
	for _, v := range all {
		if v.Kind != s.Kind || v.Subject != s.Subject || v.Name != s.Name {
			continue
		}
		e.votes = append(e.votes, v)
		if v.key == w.key && w.now.Before(v.Expires) && (e.mine == nil || v.Expires.After(e.mine.Expires)) {
			e.mine = &v
		}
	}
	if d != nil {
		e.rule = d.Approval
		if e.base, err = w.before(ctx, *d, all); err != nil {
			return err
		}
		if e.change, err = w.since(ctx, e.base, s.Environment, s.Service); err != nil {
			return err
		}
	}
	if e.authors, err = w.makers.of(ctx, s.Kind, s.Subject, e.base, w.head, w.now); err != nil {
		return err
	}
	e.warnings = append(e.warnings, e.doubts()...)
	e.judge(w.now)
	w.list = append(w.list, e)
	return nil
}

// since is how a service's declaration differs from a commit's.
func (w *clerk) since(ctx context.Context, base, environment, service string) (*serviceDifference, error) {
	if base == "" {
		return nil, nil
	}
	d, err := compare(ctx, w.dir, base, w.head, false, spec.CompareOptions{Now: w.now})
	if err != nil {
		return nil, err
	}
	for _, env := range d.Environments {
		for _, sd := range env.Services {
			if env.Name == environment && sd.Service == service {
				return &sd, nil
			}
		}
	}
	return nil, nil
}

// judge asks the rules of hosts who signed and who is missing, taking everybody
// who is named for a person of the hosts: who really is, only they know.
func (e *entry) judge(now time.Time) {
	people := trust.Role{Name: "people", May: []trust.Permission{trust.Any}, People: true}
	ask := trust.Ask{Kind: e.Kind, Subject: e.Subject, Authors: e.authors, Now: now}
	if e.rule != nil {
		ask.Rules = []spec.Approval{*e.rule}
		people.Principals = append(people.Principals, e.rule.From...)
	}
	var signed []trust.SignedStatement
	for _, v := range e.votes {
		signed = append(signed, v.SignedStatement)
		people.Principals = append(people.Principals, v.Principals...)
	}
	policy := trust.Policy{Roles: []trust.Role{people}}
	if e.Kind == trust.Attestation {
		e.decision = policy.Attest(ask, []string{e.Name}, signed)
	} else {
		e.decision = policy.Approve(ask, signed)
	}
}

// doubts are why a signature may not count for what its maker thinks.
func (e *entry) doubts() []string {
	var out []string
	if e.Kind != trust.Approval || e.me == "" {
		return nil
	}
	if e.rule != nil && !slices.Contains(e.rule.From, e.me) {
		out = append(out, fmt.Sprintf("%s is not in from of the approval block (%s), so this counts only where a host asks for more itself", e.me, e.rule.Origin))
	}
	if slices.ContainsFunc(e.authors, func(a string) bool { return strings.EqualFold(strings.TrimSpace(a), e.me) }) {
		out = append(out, fmt.Sprintf("%s made some of it, and nobody approves alone what they made", e.me))
	}
	return out
}

// card is what a person reads before they sign.
func (e *entry) card() string {
	var b strings.Builder
	row := func(name, format string, args ...any) {
		for i, line := range strings.Split(fmt.Sprintf(format, args...), "\n") {
			if i > 0 {
				name = ""
			}
			b.WriteString(strings.TrimRight(fmt.Sprintf("  %-9s %s", name, line), " ") + "\n")
		}
	}
	fmt.Fprintf(&b, "%s  (%s)\n", e.Statement, e.origin)
	switch {
	case e.Kind == trust.Removal:
		row("does", "stops the service and uninstalls it, where the block says")
	case e.base == "":
		row("release", "%s, the first one here that is compared with nothing", e.Version)
	case e.change == nil:
		row("release", "%s, declared as it was in %s", e.Version, spec.Short(e.base))
	default:
		was := "none"
		if e.change.From != nil {
			was = version(e.change.From)
		}
		row("release", "%s -> %s, since %s", was, e.Version, spec.Short(e.base))
	}
	if e.Digest != "" {
		row("digest", "%s", strings.ReplaceAll(e.Digest, " ", "\n"))
	}
	row("spec", "%s", e.Spec)
	if e.change != nil {
		if lines := e.change.seen(); len(lines) > 0 {
			row("changes", "%s", strings.Join(lines, "\n"))
		}
	}
	if e.Kind == trust.Attestation {
		row("attests", "%s: that it is so, which no machine can see", e.Name)
	}
	for i, line := range e.who() {
		row(map[bool]string{true: "signed"}[i == 0], "%s", line)
	}
	if e.Kind == trust.Approval && e.rule == nil {
		row("missing", "nobody whom the declaration asks: it has no approval block. Hosts may ask for approvals themselves")
	} else if !e.decision.Granted {
		row("missing", "%s", strings.Join(e.decision.Missing, ", "))
	}
	row("expires", "%s", e.Expires.Format("Mon 2 Jan 2006 15:04 MST"))
	for _, w := range e.warnings {
		row("WARNING", "%s", w)
	}
	return strings.TrimRight(b.String(), "\n")
}

// seen is the comparison without what the card has elsewhere.
func (s *serviceDifference) seen() []string {
	own := *s
	own.Gates = nil
	return own.details()
}

// who are the signatures that there are, and what they are worth.
func (e *entry) who() []string {
	var out []string
	for _, c := range e.decision.Counted {
		line := fmt.Sprintf("%s until %s", c.Who, c.Expires.Format("2 Jan 2006"))
		i := slices.IndexFunc(e.votes, func(v vote) bool { return v.File == c.File })
		if i >= 0 && !e.votes[i].when.IsZero() {
			line = fmt.Sprintf("%s on %s, until %s", c.Who, e.votes[i].when.Format("2 Jan 2006"), c.Expires.Format("2 Jan 2006"))
		}
		out = append(out, line)
	}
	for _, i := range e.decision.Ignored {
		out = append(out, fmt.Sprintf("%s: not counted, %s", cmp.Or(i.Who, "somebody"), i.Why))
	}
	return out
}

// cast is what approve and attest print.
type cast struct {
	Environment string      `json:"environment"`
	Statements  []castEntry `json:"statements"`
	Commit      string      `json:"commit"`
	Pushed      bool        `json:"pushed"`
	Changed     bool        `json:"changed"`
}

type castEntry struct {
	Kind    string   `json:"kind"`
	Service string   `json:"service"`
	Name    string   `json:"attests,omitempty"`
	Version string   `json:"version,omitempty"`
	Digest  string   `json:"digest,omitempty"`
	Spec    string   `json:"spec"`
	Expires string   `json:"expires"`
	By      string   `json:"by,omitempty"` // as this clone's git knows the key's owner
	File    string   `json:"file"`
	Signed  bool     `json:"signed"`  // by this command; false: it was already
	Missing []string `json:"missing"` // who could bring it forward, by the declaration
}

// report says what was signed, and what is still missing then.
func (b *ballot) report(s streams, c *clone, all, did []*entry, out outcome) error {
	r := cast{Environment: b.environment, Commit: out.commit, Pushed: out.pushed, Changed: out.changed, Statements: []castEntry{}}
	for _, e := range all {
		signed := slices.Contains(did, e)
		if signed {
			if v, ok := readVote(e.file, e.data); ok {
				v.Principals = []string{cmp.Or(e.me, "you")}
				e.votes = append(e.votes, v)
				e.judge(time.Now())
			}
		} else {
			e.Expires, e.file = e.mine.Expires, e.mine.File
		}
		missing := e.decision.Missing
		r.Statements = append(r.Statements, castEntry{Kind: string(e.Kind), Service: e.Service, Name: e.Name, Version: e.Version, Digest: e.Digest, Spec: e.Spec,
			Expires: e.Expires.Format(time.RFC3339), By: e.me, File: e.file, Signed: signed, Missing: list(missing)})
	}
	if b.output == "json" {
		return s.json(r)
	}
	for _, e := range all {
		if e.mine != nil && !slices.Contains(did, e) {
			fmt.Fprintf(s.Out, "%s: signed by you already%s, until %s: no commit was needed\n", e.Statement, onDay(e.mine.when), e.Expires.Format("2 Jan 2006"))
			continue
		}
		fmt.Fprintf(s.Out, "%s  %s  %s\n", spec.Short(out.commit), e.Statement, e.file)
		if !e.decision.Granted {
			s.note("still missing: %s", strings.Join(e.decision.Missing, ", "))
		}
	}
	if out.changed {
		whereTo(s, c, out)
	}
	return nil
}

func onDay(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return " on " + t.Format("2 Jan 2006")
}

// unique keeps the first of each.
func unique(list []string) []string {
	var out []string
	for _, s := range list {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}
