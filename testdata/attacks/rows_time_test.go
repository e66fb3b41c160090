package attacks

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"drydock/reconcile/trust"
)

func itoa(n int) string { return strconv.Itoa(n) }

// forgets removes parts of the host's state.
func forgets(names ...string) func(*stage) {
	return func(s *stage) {
		s.host.t.Helper()
		var errs []error
		for _, n := range names {
			errs = append(errs, os.RemoveAll(filepath.Join(s.host.dir, n)))
		}
		if err := errors.Join(errs...); err != nil {
			s.host.t.Fatal(err)
		}
	}
}

// rowsOfTime are about a host that has been somewhere already.
func rowsOfTime() []row {
	first := bump(By(Bumper()))
	back := func(r *Repo, base string) string { return r.parents[base][0] }
	fork := func(r *Repo, base string) string {
		return r.On(r.parents[base][0], Files{"prod/api.hcl": Service("api", "8")}, By(Bumper()))
	}
	next := files(Files{"prod/api.hcl": Service("api", "8")}, By(Bumper()))
	api := map[string]string{"api": "8"}
	// without is the hosts' file of signers less one of them.
	without := func(k *Key) func(*stage) {
		return func(s *stage) { s.host.file("allowed_signers", strings.Replace(Signers(), k.Line(""), "", 1)) }
	}
	both := func(list ...func(*stage)) func(*stage) {
		return func(s *stage) {
			for _, f := range list {
				f(s)
			}
		}
	}
	return []row{
		{name: "a rewind to the commit before", rule: ruleForward, first: first, make: back, other: true, says: []string{"went back"}},
		{name: "a rewind to the beginning", rule: ruleForward, first: first, other: true, make: func(r *Repo, base string) string {
			for len(r.parents[base]) > 0 {
				base = r.parents[base][0]
			}
			return base
		}},
		{name: "a fork, of signed commits only", rule: ruleForward, first: first, make: fork, other: true, says: []string{"descend"}},
		{name: "a fork into which the accepted commit is merged", rule: ruleBack, first: first, runs: api, make: func(r *Repo, base string) string { return r.Merge(fork(r, base), base, nil, forge) }},
		{name: "a fork into which the accepted commit is merged, without what it did", rule: ruleBack, first: first, fault: trust.Unsigned, make: func(r *Repo, base string) string {
			return r.Make([]string{fork(r, base), base}, nil, forge)
		}},
		{name: "a history of its own", rule: ruleForward, make: files(Files{web: Service("web", "1.2")}), first: first, runs: nil, other: true, head: nil, then: func(s *stage) {
			s.repo.Push(s.repo.On("", Files{web: Service("web", "1.2")}))
		}},
		{name: "a rewind after the journal was lost", lost: true, rule: ruleMark, first: first, make: back, other: true, then: forgets("journal.db")},
		{name: "a rewind after the clone was lost", lost: true, rule: ruleMark, first: first, make: back, other: true, then: forgets("clone.git")},
		{name: "a step forward after the journal was lost", rule: ruleMark, first: first, make: next, then: forgets("journal.db"), runs: api},
		{name: "a step forward after the clone was lost", rule: ruleMark, first: first, make: next, then: forgets("clone.git"), runs: api},
		{name: "a step forward after both were lost", rule: ruleMark, first: first, make: next, then: forgets("clone.git", "journal.db"), runs: api},
		{name: "an unsigned commit after the journal was lost", lost: true, rule: ruleMark, first: first, make: files(Files{"prod/api.hcl": Service("api", "8")}, forge), then: forgets("journal.db"), other: true},
		{name: "a history without since, after both were lost", lost: true, rule: ruleForward, other: true, make: files(nil), then: both(forgets("clone.git", "journal.db"), func(s *stage) {
			s.repo.Push(s.repo.On("", Files{web: Service("web", "1.2")}))
		})},

		{name: "a key removed whose commit is accepted", item: itemRemoved, rule: ruleSeen, first: first, make: func(_ *Repo, base string) string { return base }, then: without(Bumper())},
		{name: "a key removed whose commit is accepted, and one by another", item: itemRemoved, rule: ruleSeen, first: first, make: files(Files{"prod/api.hcl": Service("api", "8")}), then: without(Bumper()), runs: api},
		{name: "a key removed, and one more commit by it", item: itemRemoved, rule: ruleSeen, first: first, make: next, then: without(Bumper()), fault: trust.BadSignature, says: []string{"on no line of"}},
		{name: "a key removed, and an old branch of it merged", item: itemRemoved, rule: ruleForge, first: first, then: without(Bumper()), fault: trust.BadSignature, says: []string{"on no line of"},
			make: func(r *Repo, base string) string { return r.Merge(base, fork(r, base), nil, forge) }},
		{name: "a key revoked whose commit is accepted", item: itemRemoved, rule: ruleSeen, first: first, make: files(Files{"prod/api.hcl": Service("api", "8")}), then: func(s *stage) { s.host.file("revoked", Bumper().Public()+"\n") }, runs: api},
		{name: "a key revoked, and one more commit by it", item: itemRemoved, rule: ruleSeen, first: first, make: next, then: func(s *stage) { s.host.file("revoked", Bumper().Public()+"\n") }, fault: trust.BadSignature, says: []string{"is revoked"}},

		{name: "a file of signers in the repository", item: itemPolicy, rule: ruleHost, fault: trust.BadSignature, says: []string{"on no line of"}, make: func(r *Repo, base string) string {
			c := r.On(base, Files{"allowed_signers": named("evil").As("alice@acme.example").Line(""), ".drydock/allowed_signers": named("evil").As("alice@acme.example").Line("")})
			return r.On(c, Files{web: Service("web", "1.2")}, By(named("evil").As("alice@acme.example")))
		}},
		{name: "a file of signers in the repository, in the same commit", item: itemPolicy, rule: ruleHost, fault: trust.BadSignature, says: []string{"on no line of"},
			make: files(Files{web: Service("web", "1.2"), "allowed_signers": named("evil").As("alice@acme.example").Line("")}, By(named("evil").As("alice@acme.example")))},
		{name: "a file of signers in the repository, by who may only bump", item: itemPolicy, rule: ruleHost, fault: trust.NotAllowed, says: []string{"no declaration"},
			make: files(Files{web: Service("web", "1.2"), "allowed_signers": "x"}, By(Bumper()))},
		{name: "a file of signers in the repository that nobody reads", item: itemPolicy, rule: ruleHost, runs: bumped,
			make: files(Files{web: Service("web", "1.2"), "allowed_signers": named("evil").As("alice@acme.example").Line("")})},
		{name: "a host's file in the repository, and its role used", item: itemPolicy, rule: ruleHost, fault: trust.NotAllowed, says: []string{"guest@acme.example is in no role"}, make: func(r *Repo, base string) string {
			c := r.On(base, Files{"docs/hostagent.md": "trust {\n  role \"people\" {\n    principals = [\"guest@acme.example\"]\n    may = [\"any\"]\n  }\n}\n"})
			return r.On(c, Files{web: Service("web", "1.2")}, By(Guest()))
		}},
		{name: "a trust block in the repository", item: itemPolicy, rule: ruleHost, fault: trust.NotAllowed, says: []string{"in no role"}, make: func(r *Repo, base string) string {
			c := r.On(base, Files{"staging/trust.hcl": "trust {\n  role \"people\" {\n    principals = [\"guest@acme.example\"]\n    may = [\"any\"]\n  }\n}\n"})
			return r.On(c, Files{web: Service("web", "1.2")}, By(Guest()))
		}},
	}
}
