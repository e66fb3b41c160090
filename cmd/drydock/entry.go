package main

import (
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
			return nil, fmt.Errorf("the signature is on another statement than the one that is asked for now (%s):\nprint it again, look at it, and sign that", w.differs(elsewhere))
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
