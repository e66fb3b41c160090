package trust

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"drydock/spec"
)

// crew is a host's trust section with people and others.
func crew(floor int) Policy {
	p := Policy{Approvals: map[string]int{"prod": floor}, Roles: []Role{
		{Name: "people", Principals: []string{"alice@acme", "bob@acme", "carol@acme"}, May: []Permission{Any}, People: true},
		{Name: "testers", Principals: []string{"tess@acme"}, May: []Permission{Bump}, People: true, Environments: []string{"staging"}},
		{Name: "guests", Principals: []string{"*@guests", "!evil@guests"}, May: []Permission{Bump}, People: true},
		{Name: "pipeline", Principals: []string{"ci@acme", "*@bots"}, May: []Permission{Any}},
	}}
	if floor == 0 {
		p.Approvals = nil
	}
	return p
}

// by makes what each of these signed; "alice" is alice@acme with her key, and
// "alice/2" with another.
func signedBy(s Statement, list ...string) []SignedStatement {
	var out []SignedStatement
	for i, who := range list {
		name, _, _ := strings.Cut(who, "/")
		if !strings.Contains(name, "@") {
			name += "@acme"
		}
		out = append(out, SignedStatement{Statement: s, Principals: []string{name}, Key: "SHA256:" + who, File: fmt.Sprintf("%02d-%s", i, who)})
	}
	return out
}

func rule(required int, from ...string) spec.Approval {
	r := spec.Approval{Required: required}
	for _, who := range from {
		r.From = append(r.From, who+"@acme")
	}
	return r
}

func withAuthors(r spec.Approval) spec.Approval { r.Authors = true; return r }

func keyed(key string, names ...string) []SignedStatement {
	return []SignedStatement{{Statement: approves(), Principals: names, Key: key, File: key}}
}

// asking is the usual: two of three.
func asking(change ...func(*Ask)) Ask {
	a := Ask{Kind: Approval, Subject: web, Rules: []spec.Approval{rule(2, "alice", "bob", "carol")}, Now: noon}
	for _, c := range change {
		c(&a)
	}
	return a
}

func ruled(rules ...spec.Approval) func(*Ask) { return func(a *Ask) { a.Rules = rules } }
func authoredBy(list ...string) func(*Ask)    { return func(a *Ask) { a.Authors = list } }
func backwards(a *Ask)                        { a.Rollback = true }
func overridden(a *Ask)                       { a.SkipExpiry = true }
func asks(kind Kind, of Statement) func(*Ask) {
	return func(a *Ask) { a.Kind, a.Subject, a.Rules = kind, of.Subject, nil }
}
func of(s func(*Subject)) Statement            { return approves(func(x *Statement) { s(&x.Subject) }) }
func expiring(t time.Time) Statement           { return approves(func(s *Statement) { s.Expires = t }) }
func until(s Statement, t time.Time) Statement { s.Expires = t; return s }

func TestApprove(t *testing.T) {
	old := noon.Add(-time.Hour)
	join := func(lists ...[]SignedStatement) []SignedStatement { return slices.Concat(lists...) }
	tests := []struct {
		name    string
		floor   int
		ask     Ask
		signed  []SignedStatement
		missing string // "": granted
		why     string // of the decision, or of what it ignored
	}{
		// What must be granted.
		{"two of three", 0, asking(), signedBy(approves(), "alice", "bob"), "", ""},
		{"all of them", 0, asking(), signedBy(approves(), "alice", "bob", "carol"), "", ""},
		{"nobody is asked", 0, asking(ruled()), nil, "", ""},
		{"one of one", 0, asking(ruled(rule(1, "alice"))), signedBy(approves(), "alice"), "", ""},
		{"the floor alone", 2, asking(ruled()), signedBy(approves(), "alice", "carol"), "", ""},
		{"the floor, by a pattern", 2, asking(ruled()), signedBy(approves(), "alice", "ann@guests"), "", ""},
		{"the floor, and fewer in the block", 2, asking(ruled(rule(1, "alice"))), signedBy(approves(), "alice", "bob"), "", ""},
		{"two blocks, one is stricter", 0, asking(ruled(rule(1, "alice", "bob"), rule(2, "alice", "bob"))), signedBy(approves(), "alice", "bob"), "", ""},
		{"two blocks, other people", 0, asking(ruled(rule(1, "alice"), rule(1, "bob"))), signedBy(approves(), "alice", "bob"), "", ""},
		{"an author, and another", 0, asking(authoredBy("alice@acme")), signedBy(approves(), "alice", "bob"), "", ""},
		{"two authors, for one another", 0, asking(authoredBy("alice@acme", "bob@acme")), signedBy(approves(), "alice", "bob"), "", ""},
		{"one who is no author", 0, asking(ruled(rule(1, "alice", "bob")), authoredBy("bob@acme")), signedBy(approves(), "alice"), "", ""},
		{"each author", 0, asking(ruled(withAuthors(rule(1, "alice", "bob", "carol"))), authoredBy("alice@acme", "bob@acme")), signedBy(approves(), "alice", "bob"), "", ""},
		{"authors who are not asked", 0, asking(ruled(withAuthors(rule(1, "alice", "bob"))), authoredBy("dan@acme", "carol@acme")), signedBy(approves(), "alice"), "", ""},
		{"it holds for a second more", 0, asking(), signedBy(expiring(noon.Add(time.Second)), "alice", "bob"), "", ""},
		{"twice, and one has expired", 0, asking(), join(signedBy(expiring(old), "alice"), signedBy(approves(), "alice/2", "bob")), "", ""},
		{"strangers beside them", 0, asking(), signedBy(approves(), "alice", "mallory", "bob", "ci"), "", ""},
		{"a key with a name of no role too", 0, asking(), join(keyed("k", "alice@acme", "alice@home"), signedBy(approves(), "bob")), "", ""},
		{"a key with a pattern too", 0, asking(), join(keyed("k", "alice@acme", "*@acme"), signedBy(approves(), "bob")), "", ""},
		{"back to what has expired, by one", 0, asking(backwards), join(signedBy(expiring(old), "alice", "bob"), signedBy(approves(), "carol")), "", ""},
		{"back to what has expired, by one of them", 0, asking(backwards), join(signedBy(expiring(old), "alice", "bob"), signedBy(approves(), "alice/2")), "", ""},
		{"back to what has not expired", 0, asking(backwards), signedBy(approves(), "alice", "bob"), "", ""},
		{"back, and the floor's people too", 2, asking(backwards, ruled()), join(signedBy(expiring(old), "alice", "bob"), signedBy(approves(), "bob/2")), "", ""},
		{"expired, and overridden", 0, asking(overridden), signedBy(expiring(old), "alice", "bob"), "", ""},
		{"a removal", 0, asking(asks(Removal, removal())), signedBy(removal(), "alice"), "", ""},
		{"a removal as its service asks", 0, asking(asks(Removal, removal()), ruled(rule(2, "alice", "bob"))), signedBy(removal(), "alice", "bob"), "", ""},
		{"the agent", 0, asking(asks(AgentRelease, agent())), signedBy(agent(), "bob"), "", ""},
		{"a person whose role may little", 1, asking(ruled()), signedBy(approves(), "ann@guests"), "", ""},
		{"no digest", 0, asking(func(a *Ask) { a.Digest = "-" }), signedBy(of(func(s *Subject) { s.Digest = "-" }), "alice", "bob"), "", ""},

		// What must not.
		{"nobody", 0, asking(), nil, "alice bob carol", "asks for 2 people, and nobody has approved"},
		{"one of two", 0, asking(), signedBy(approves(), "bob"), "alice carol", "only bob@acme approved; to approve: drydock approve web --env prod"},
		{"one, with two keys", 0, asking(), signedBy(approves(), "bob", "bob/2"), "alice carol", "bob@acme is counted already (00-bob): people count, not their keys"},
		{"one, twice with one key", 0, asking(), join(signedBy(approves(), "bob"), signedBy(expiring(noon.Add(time.Hour)), "bob")), "alice carol", "counted already"},
		{"one key of two people", 0, asking(), keyed("k", "alice@acme", "bob@acme"), "alice bob carol", "nobody can tell who of them signed"},
		{"one key, shown as two people's", 0, asking(), join(keyed("k", "alice@acme"), keyed("k", "bob@acme")), "alice bob carol", "nobody can tell who of them signed"},
		{"a person's key that a robot has too", 0, asking(), join(keyed("k", "alice@acme", "ci@acme"), signedBy(approves(), "bob")), "alice carol", `ci@acme is no person (role "pipeline")`},
		{"a robot", 0, asking(ruled(rule(1, "ci", "bob"))), signedBy(approves(), "ci"), "bob", "ci@acme is no person"},
		{"a robot by a pattern", 1, asking(ruled()), signedBy(approves(), "x@bots"), "*@guests alice bob carol", "x@bots is no person"},
		{"a pattern as a name", 1, asking(ruled()), signedBy(approves(), "*@guests"), "*@guests alice bob carol", "is a pattern, which is nobody"},
		{"one whom a pattern leaves out", 1, asking(ruled()), signedBy(approves(), "evil@guests"), "*@guests alice bob carol", "is in no role"},
		{"a stranger", 0, asking(ruled(rule(1, "mallory", "bob"))), signedBy(approves(), "mallory"), "bob", "mallory@acme is in no role"},
		{"one who is known by case only", 0, asking(ruled(rule(1, "bob"))), signedBy(approves(), "Bob"), "bob", "Bob@acme is in no role"},
		{"one whose name begins so", 0, asking(ruled(rule(1, "bob"))), signedBy(approves(), "bob@acme.evil"), "bob", "in no role"},
		{"a signature of nobody", 0, asking(ruled(rule(1, "bob"))), []SignedStatement{{Statement: approves(), File: "f", Key: "k", Why: "its key was revoked"}}, "bob", "its key was revoked"},
		{"a signature of no key", 0, asking(ruled(rule(1, "bob"))), keyed("", "bob@acme"), "bob", "nobody whom this host knows"},
		{"a person elsewhere", 1, asking(ruled()), signedBy(approves(), "tess"), "*@guests alice bob carol", "the roles of tess@acme do not hold in prod"},
		{"a person who is not asked", 0, asking(ruled(rule(1, "alice"))), signedBy(approves(), "bob"), "alice", "nobody asks for bob@acme's approval"},
		{"for another environment", 0, asking(ruled(rule(1, "alice"))), signedBy(of(func(s *Subject) { s.Environment = "staging" }), "alice"), "alice", "it is for staging, not for prod"},
		{"for another service", 0, asking(ruled(rule(1, "alice"))), signedBy(of(func(s *Subject) { s.Service = "api" }), "alice"), "alice", "the service api"},
		{"for another version", 0, asking(ruled(rule(1, "alice"))), signedBy(of(func(s *Subject) { s.Version = "1.4.1" }), "alice"), "alice", "the version 1.4.1"},
		{"older than the digest", 0, asking(ruled(rule(1, "alice"))), signedBy(of(func(s *Subject) { s.Digest = digestB }), "alice"), "alice", "other bytes of 1.4.2"},
		{"for one platform of two", 0, asking(ruled(rule(1, "alice")), func(a *Ask) { a.Digest = "linux/amd64=" + digestA + " linux/arm64=" + digestB }),
			signedBy(of(func(s *Subject) { s.Digest = "linux/amd64=" + digestA }), "alice"), "alice", "other bytes"},
		{"before the profile, hook or source changed", 0, asking(ruled(rule(1, "alice"))), signedBy(of(func(s *Subject) { s.Spec = specB }), "alice"), "alice", "another declaration (spec a4e624d, not fd61a03)"},
		{"an attestation", 0, asking(ruled(rule(1, "alice"))), signedBy(attests("ok"), "alice"), "alice", "it is an attestation of ok"},
		{"for the agent's release, as a service of its name", 0, asking(asks(Approval, agent()), ruled(rule(1, "alice"))), signedBy(agent(), "alice"), "alice", "it is an approval of the agent's release"},
		{"for a service of the agent's name", 0, asking(asks(AgentRelease, agent())), signedBy(until(Statement{Kind: Approval, Subject: agent().Subject}, month), "bob"), "*@guests alice bob carol", "another statement is needed"},
		{"to remove, and not to install", 0, asking(ruled(rule(1, "alice"))), signedBy(removal(), "alice"), "alice", "approval to remove web"},
		{"to install, and not to remove", 0, asking(asks(Removal, removal())), signedBy(approves(), "alice"), "*@guests alice bob carol", "removing web in prod is not approved: this host asks for one person"},
		{"how to agree to a removal", 0, asking(asks(Removal, removal())), nil, "*@guests alice bob carol", "to approve: drydock approve web --env prod --removed --push"},
		{"to remove elsewhere", 0, asking(asks(Removal, removal())), signedBy(Statement{Kind: Removal, Subject: Subject{Environment: "prod", Service: "web", Spec: specB}, Expires: month}, "alice"), "*@guests alice bob carol", "another declaration"},
		{"the agent, by nobody", 0, asking(asks(AgentRelease, agent())), nil, "*@guests alice bob carol", "the agent's release 1.4.2 in prod is not approved"},
		{"below the floor", 2, asking(ruled(rule(1, "alice"))), signedBy(approves(), "alice"), "*@guests bob carol", "this host asks for 2 people, and only alice@acme approved"},
		{"the floor, with people who are not asked", 2, asking(ruled(rule(2, "alice", "bob"))), signedBy(approves(), "alice", "carol"), "bob", "approval block asks for 2 people"},
		{"the block lowered in the commit", 0, asking(ruled(rule(2, "alice", "bob"), rule(1, "carol"))), signedBy(approves(), "carol"), "alice bob", "asks for 2 people, and nobody"},
		{"the block replaced in the commit", 0, asking(ruled(rule(1, "bob"), rule(1, "alice"))), signedBy(approves(), "alice"), "bob", ""},
		{"authors left out in the commit", 0, asking(ruled(withAuthors(rule(1, "alice", "bob")), rule(1, "alice", "bob")), authoredBy("bob@acme")), signedBy(approves(), "alice"), "bob", "authors of its batch have to approve it besides: bob@acme"},
		{"required is 0", 0, asking(ruled(spec.Approval{From: []string{"alice@acme"}, Authors: true})), nil, "alice", "asks for one person"},
		{"from is empty", 0, asking(ruled(rule(1))), signedBy(approves(), "alice"), "another person of this host", "ever be enough"},
		{"an author alone", 0, asking(ruled(rule(1, "alice", "bob")), authoredBy("alice@acme")), signedBy(approves(), "alice"), "bob", "nobody approves alone what they made"},
		{"an author alone, with two keys", 0, asking(ruled(rule(1, "alice", "bob")), authoredBy("alice@acme")), signedBy(approves(), "alice", "alice/2"), "bob", "nobody approves alone"},
		{"an author in other letters", 0, asking(ruled(rule(1, "alice", "bob")), authoredBy(" Alice@ACME")), signedBy(approves(), "alice"), "bob", "nobody approves alone"},
		{"an author alone, on the floor", 1, asking(ruled(), authoredBy("alice@acme")), signedBy(approves(), "alice"), "*@guests bob carol", "nobody approves alone"},
		{"an author, and one who is not asked", 0, asking(ruled(rule(1, "alice", "bob")), authoredBy("alice@acme")), signedBy(approves(), "alice", "carol"), "bob", "nobody approves alone"},
		{"an author, and nobody else is asked", 0, asking(ruled(rule(1, "alice")), authoredBy("alice@acme")), signedBy(approves(), "alice"), "another person of this host", "ever be enough"},
		{"an author is missing", 0, asking(ruled(withAuthors(rule(1, "alice", "bob", "carol"))), authoredBy("bob@acme", "alice@acme")), signedBy(approves(), "carol", "alice"), "bob", "authors of its batch have to approve it besides: bob@acme"},
		{"authors and others are missing", 0, asking(ruled(withAuthors(rule(2, "alice", "bob", "carol"))), authoredBy("bob@acme")), signedBy(approves(), "alice"), "bob carol", "to be among them: bob@acme"},
		{"expired", 0, asking(ruled(rule(1, "alice"))), signedBy(expiring(old), "alice"), "alice", "it expired at 2026-11-22T11:00:00Z"},
		{"expired just now", 0, asking(ruled(rule(1, "alice"))), signedBy(expiring(noon), "alice"), "alice", "it expired"},
		{"one of two has expired", 0, asking(), join(signedBy(expiring(old), "alice"), signedBy(approves(), "bob")), "alice carol", "it expired"},
		{"back to what has expired, by nobody", 0, asking(backwards), signedBy(expiring(old), "alice", "bob"), "alice bob carol", "one person has to approve the way back"},
		{"back to what was never approved", 0, asking(backwards), signedBy(approves(), "carol"), "alice bob", "asks for 2 people, and only carol@acme"},
		{"back to what one approved once", 0, asking(backwards), join(signedBy(expiring(old), "alice"), signedBy(approves(), "alice/2")), "bob carol", "asks for 2 people"},
		{"back, by one who is not asked", 0, asking(backwards, ruled(rule(1, "alice"))), join(signedBy(expiring(old), "alice"), signedBy(approves(), "bob")), "alice", "the way back"},
		{"back to the same release with another spec", 0, asking(backwards), join(signedBy(until(of(func(s *Subject) { s.Spec = specB }), old), "alice", "bob"), signedBy(approves(), "carol")), "alice bob", "another declaration"},
		{"an override, and too few", 0, asking(overridden), signedBy(expiring(old), "alice"), "bob carol", "asks for 2 people"},
		{"an override, and other bytes", 0, asking(overridden, ruled(rule(1, "alice"))), signedBy(of(func(s *Subject) { s.Digest = digestB }), "alice"), "alice", "other bytes"},
		{"too few that this host knows", 0, asking(ruled(rule(2, "alice", "dan"))), signedBy(approves(), "alice"), "dan", "too few are people of this host"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := crew(tt.floor).Approve(tt.ask, tt.signed)
			missing := strings.ReplaceAll(strings.Join(d.Missing, " "), "@acme", "")
			if d.Granted != (tt.missing == "") || missing != tt.missing || d.Granted != (d.Why == "") {
				t.Errorf("granted %v, missing %q, want %q; %s", d.Granted, missing, tt.missing, d.Why)
			}
			said := d.Why
			for _, i := range d.Ignored {
				said += "\n" + i.File + ": " + i.Why
			}
			if !strings.Contains(said, tt.why) {
				t.Errorf("want %q, got %s", tt.why, said)
			}
			if len(d.Counted)+len(d.Ignored) != len(tt.signed) {
				t.Errorf("of %d signed, %d are counted and %d ignored", len(tt.signed), len(d.Counted), len(d.Ignored))
			}
		})
	}
}

func TestDecisionSays(t *testing.T) {
	a := asking(ruled(withAuthors(rule(1, "alice", "bob"))), authoredBy("dan@acme", "bob@acme", "dan@acme"), overridden)
	signed := append(signedBy(expiring(noon.Add(-time.Hour)), "bob"), signedBy(approves(), "alice", "mallory")...)
	want := Decision{Granted: true, Authors: []string{"dan@acme"},
		Counted: []Counted{{"alice@acme", "00-alice", month, false}, {"bob@acme", "00-bob", noon.Add(-time.Hour), true}},
		Ignored: []Ignored{{"01-mallory", "", "mallory@acme is in no role"}},
	}
	if diff := cmp.Diff(want, crew(0).Approve(a, signed)); diff != "" {
		t.Error(diff)
	}
}

// TestSignedWhereNobodyIsAsked: who signed is told as one who did, because
// another host may ask: its floor lies in no repository.
func TestSignedWhereNobodyIsAsked(t *testing.T) {
	want := Decision{Granted: true, Counted: []Counted{{"alice@acme", "00-alice", month, false}}}
	if diff := cmp.Diff(want, crew(0).Approve(asking(ruled()), signedBy(approves(), "alice"))); diff != "" {
		t.Error(diff)
	}
}

func TestAttest(t *testing.T) {
	old := noon.Add(-time.Hour)
	other := func(change func(*Statement)) Statement { s := attests("ok"); change(&s); return s }
	tests := []struct {
		name     string
		requires string
		ask      Ask
		signed   []SignedStatement
		missing  string
		why      string
	}{
		{"one", "ok", asking(), signedBy(attests("ok"), "alice"), "", ""},
		{"none is required", "", asking(), nil, "", ""},
		{"two, by one person", "a b", asking(), append(signedBy(attests("a"), "alice"), signedBy(attests("b"), "alice")...), "", ""},
		{"by who made it", "ok", asking(authoredBy("alice@acme")), signedBy(attests("ok"), "alice"), "", ""},
		{"by two", "ok", asking(), signedBy(attests("ok"), "alice", "bob"), "", ""},
		{"by one whom no block asks", "ok", asking(ruled(rule(1, "bob"))), signedBy(attests("ok"), "ann@guests"), "", ""},
		{"required twice", "ok ok", asking(), signedBy(attests("ok"), "alice"), "", ""},
		{"beside an approval", "ok", asking(), append(signedBy(approves(), "bob"), signedBy(attests("ok"), "alice")...), "", ""},

		{"by nobody", "ok", asking(), nil, "ok", "waits for somebody to attest ok; who has seen that it is so runs: drydock attest web ok --env prod --push"},
		{"one of two", "a b", asking(), signedBy(attests("a"), "alice"), "b", ""},
		{"another", "ok", asking(), signedBy(attests("oks"), "alice"), "ok", "it attests oks, which nothing here requires"},
		{"an approval", "ok", asking(), signedBy(approves(), "alice"), "ok", ""},
		{"by a robot", "ok", asking(), signedBy(attests("ok"), "ci"), "ok", "ci@acme is no person"},
		{"by a stranger", "ok", asking(), signedBy(attests("ok"), "mallory"), "ok", "in no role"},
		{"by a person elsewhere", "ok", asking(), signedBy(attests("ok"), "tess"), "ok", "do not hold in prod"},
		{"expired", "ok", asking(), signedBy(until(attests("ok"), old), "alice"), "ok", "it expired"},
		{"expired, and approvals need not be fresh", "ok", asking(overridden, backwards), signedBy(until(attests("ok"), old), "alice"), "ok", "it expired"},
		{"for other bytes", "ok", asking(), signedBy(other(func(s *Statement) { s.Digest = digestB }), "alice"), "ok", "other bytes"},
		{"for another spec", "ok", asking(), signedBy(other(func(s *Statement) { s.Spec = specB }), "alice"), "ok", "another declaration"},
		{"for another environment", "ok", asking(), signedBy(other(func(s *Statement) { s.Environment = "staging" }), "alice"), "ok", "it is for staging"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := crew(0).Attest(tt.ask, strings.Fields(tt.requires), tt.signed)
			said := d.Why
			for _, i := range d.Ignored {
				said += "\n" + i.Why
			}
			if missing := strings.Join(d.Missing, " "); d.Granted != (tt.missing == "") || missing != tt.missing || !strings.Contains(said, tt.why) {
				t.Errorf("granted %v, missing %q, want %q; %s", d.Granted, missing, tt.missing, said)
			}
		})
	}
}

// asked is any ask with rules of a few people, and what some of them signed.
func asked(t *rapid.T) (Policy, Ask, []SignedStatement) {
	who := rapid.SampledFrom([]string{"alice@acme", "bob@acme", "carol@acme", "ci@acme", "tess@acme", "dan@acme", "ann@guests"})
	a := asking(func(a *Ask) {
		a.Rollback, a.SkipExpiry = rapid.Bool().Draw(t, "back"), rapid.Bool().Draw(t, "override")
	})
	a.Rules = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) spec.Approval {
		return spec.Approval{Required: rapid.IntRange(0, 3).Draw(t, "required"), From: rapid.SliceOfN(who, 0, 4).Draw(t, "from"), Authors: rapid.Bool().Draw(t, "authors")}
	}), 0, 2).Draw(t, "rules")
	a.Authors = rapid.SliceOfN(who, 0, 3).Draw(t, "authors")
	return crew(rapid.IntRange(0, 3).Draw(t, "floor")), a, rapid.SliceOfN(rapid.Custom(oneSigned), 0, 8).Draw(t, "signed")
}

// oneSigned is by one of some keys, each with its own names.
func oneSigned(t *rapid.T) SignedStatement {
	keys := [][]string{{"alice@acme"}, {"alice@acme"}, {"bob@acme"}, {"bob@acme", "bob@home"}, {"carol@acme"}, {"alice@acme", "bob@acme"},
		{"ci@acme"}, {"carol@acme", "ci@acme"}, {"tess@acme"}, {"dan@acme"}, {"ann@guests"}, {"bob@acme", "*@guests"}, nil}
	key := rapid.IntRange(0, len(keys)-1).Draw(t, "key")
	s := rapid.SampledFrom([]Statement{approves(), approves(), approves(), expiring(noon.Add(-time.Hour)), attests("ok"), removal(), of(func(s *Subject) { s.Digest = digestB })}).Draw(t, "statement")
	return SignedStatement{Statement: s, Principals: keys[key], Key: fmt.Sprint(key), File: rapid.StringMatching(`[a-z]{8}`).Draw(t, "file")}
}

func TestOrderOfFilesMeansNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, a, signed := asked(t)
		other := rapid.Permutation(signed).Draw(t, "order")
		if diff := cmp.Diff(p.Approve(a, signed), p.Approve(a, other)); diff != "" {
			t.Fatal(diff)
		}
		if diff := cmp.Diff(p.Attest(a, []string{"ok"}, signed), p.Attest(a, []string{"ok"}, other)); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestOneMoreApprovalNeverTakesAGrantAway(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, a, signed := asked(t)
		more := append(slices.Clone(signed), rapid.Custom(oneSigned).Draw(t, "more"))
		if p.Approve(a, signed).Granted && !p.Approve(a, more).Granted || p.Attest(a, []string{"ok"}, signed).Granted && !p.Attest(a, []string{"ok"}, more).Granted {
			t.Fatal(p.Approve(a, more))
		}
	})
}

func TestAStricterRuleNeverGrantsMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, a, signed := asked(t)
		strict, b := p, a
		b.Rules = slices.Clone(a.Rules)
		switch i := len(a.Rules) - 1; rapid.IntRange(0, 6).Draw(t, "stricter by") {
		case 0:
			strict = crew(p.Approvals["prod"] + 1)
		case 1:
			b.SkipExpiry = false
		case 2:
			b.Rollback = false
		case 3:
			b.Authors = append(slices.Clone(a.Authors), "bob@acme")
		case 4:
			b.Rules = append(b.Rules, rule(1, "alice"))
		case 5:
			if i >= 0 {
				b.Rules[i].Required++
			}
		case 6:
			if i >= 0 && b.Rules[i].Authors { // fewer from ask fewer authors
				break
			}
			if i >= 0 && len(b.Rules[i].From) > 0 {
				b.Rules[i].From = b.Rules[i].From[1:]
			}
		}
		if !p.Approve(a, signed).Granted && strict.Approve(b, signed).Granted {
			t.Fatal(p.Approve(a, signed))
		}
	})
}

// Whatever is refused, somebody is named; whatever is granted, enough different
// people signed, and never one alone who made it.
func TestGrantsAreByPeople(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, a, signed := asked(t)
		d := p.Approve(a, signed)
		if !d.Granted {
			if len(d.Missing) == 0 || d.Why == "" {
				t.Fatal("nobody is named")
			}
			return
		}
		who := map[string]bool{}
		for _, c := range d.Counted {
			who[c.Who] = true
		}
		need := p.Approvals["prod"]
		for _, r := range a.Rules {
			need = max(need, r.Required)
		}
		if len(who) != len(d.Counted) || len(who) < need {
			t.Fatalf("%d people, %d counted, %d needed", len(who), len(d.Counted), need)
		}
		asks := need > 0 || len(a.Rules) > 0 || a.Kind != Approval
		if asks && len(d.Counted) == 1 && slices.Contains(a.Authors, d.Counted[0].Who) {
			t.Fatal("alone")
		}
	})
}

// A stranger's files cost a host little.
func TestManyFiles(t *testing.T) {
	var signed []SignedStatement
	for i := range 20_000 {
		s := signedBy(approves(), "ci")[0]
		if i%2 == 0 {
			s.Principals = nil
		}
		s.File = fmt.Sprint(i)
		signed = append(signed, s)
	}
	d := crew(0).Approve(asking(), append(signed, signedBy(approves(), "alice", "bob")...))
	if !d.Granted || len(d.Ignored) != 20_000 {
		t.Errorf("%v %d", d.Granted, len(d.Ignored))
	}
}

func TestFresh(t *testing.T) {
	week := 168 * time.Hour
	tests := []struct {
		name          string
		accepted, now time.Time
		limit         time.Duration
		fresh         bool
		why           string
	}{
		{"no limit", time.Time{}, noon, 0, true, ""},
		{"just now", noon, noon, week, true, ""},
		{"a second is left", noon, noon.Add(week - time.Second), week, true, ""},
		{"it is over", noon, noon.Add(week), week, false, "since 2026-11-22T12:00:00Z, and freshness allows 168h0m0s"},
		{"long ago", noon, noon.Add(9000 * time.Hour), week, false, "drydock heartbeat"},
		{"never", time.Time{}, noon, week, false, "accepted no commit yet"},
		{"clocks differ a little", noon.Add(maxAhead), noon, week, true, ""},
		{"the clock was put back", noon.Add(maxAhead + time.Second), noon, week, false, "mend the clock"},
	}
	for _, tt := range tests {
		f := Fresh(tt.accepted, tt.now, tt.limit)
		if f.Fresh != tt.fresh || !strings.Contains(f.Why, tt.why) || f.Fresh != (f.Why == "") {
			t.Errorf("%s: %+v", tt.name, f)
		}
		if f.Fresh && tt.limit > 0 && !f.Until.Equal(tt.accepted.Add(tt.limit)) {
			t.Errorf("%s: until %s", tt.name, f.Until)
		}
	}
}
