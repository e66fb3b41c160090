package attacks

import (
	"strings"

	"drydock/reconcile/trust"
)

var forge = Unsigned("noreply@forge.example")

// sides are two signed branches that touch different files.
func sides(r *Repo, base string) (string, string) {
	return r.On(base, Files{web: Service("web", "1.2")}, By(Bumper())), r.On(base, Files{"prod/api.hcl": Service("api", "8")}, By(Bumper()))
}

// merging merges them, with more in it.
func merging(edits Files, options ...Option) func(*Repo, string) string {
	return func(r *Repo, base string) string {
		a, b := sides(r, base)
		return r.Merge(a, b, edits, options...)
	}
}

// both merges two branches that move one service.
func both(edits Files, options ...Option) func(*Repo, string) string {
	return func(r *Repo, base string) string {
		a := r.On(base, Files{web: Service("web", "1.2")}, By(Bumper()))
		b := r.On(base, Files{web: Service("web", "1.3")}, By(Bumper()))
		return r.Merge(a, b, edits, options...)
	}
}

func rowsOfMerges() []row {
	un, not := trust.Unsigned, trust.NotAllowed
	two := map[string]string{"web": "1.2", "api": "8"}
	return []row{
		{name: "a merge that adds nothing", item: itemSlips, rule: ruleMerge, make: merging(nil, forge), runs: two},
		{name: "a merge that the forge signed", item: itemSlips, rule: ruleForge, make: merging(nil, By(Mallory())), runs: two, git: ""},
		{name: "a merge that adds nothing, with a signature of other bytes", rule: ruleMerge, make: merging(nil, Signing(func([]byte) string { return Alice().Commit(nil) })), runs: two},
		{name: "a merge with a line slipped in", item: itemSlips, rule: ruleMerge, fault: un, says: []string{"prod/api.hcl"}, make: merging(Files{"prod/api.hcl": Service("api", "8") + "# x\n"}, forge)},
		{name: "a merge with a line slipped into what nobody changed", item: itemSlips, rule: ruleMerge, fault: un, says: []string{"prod/js.hcl.json"}, make: merging(Files{"prod/js.hcl.json": JSONService("js", "6.6")}, forge)},
		{name: "a merge with a file slipped in", item: itemSlips, rule: ruleMerge, fault: un, says: []string{"adds a file"}, make: merging(Files{"prod/new.hcl": Service("new", "1")}, forge)},
		{name: "a merge with a file lost", item: itemSlips, rule: ruleMerge, fault: un, says: []string{"deletes a file"}, make: merging(Files{"prod/js.hcl.json": Gone}, forge)},
		{name: "a merge with a mode slipped in", item: itemSlips, rule: ruleMerge, fault: un, says: []string{"mode"}, make: merging(Files{"README.md": Executable + "Hello\n"}, forge)},
		{name: "a merge with a link slipped in", item: itemSlips, rule: ruleMerge, fault: un, says: []string{"a symbolic link"}, make: merging(Files{"prod/l.hcl": Link + "/etc/passwd"}, forge)},
		{name: "a merge with a bump slipped in, by who may not", item: itemSlips, rule: ruleMerge, fault: not, says: []string{"takes bump in prod"}, make: merging(Files{"prod/api.hcl": Service("api", "9")}, By(CI()))},
		{name: "a merge with a bump slipped in, by who may", item: itemSlips, rule: ruleMerge, make: merging(Files{"prod/api.hcl": Service("api", "9")}, By(Bumper())), runs: map[string]string{"web": "1.2", "api": "9"}},
		{name: "a merge with a line slipped in, by who may bump", item: itemSlips, rule: ruleMerge, fault: not, says: []string{"takes any in prod"}, make: merging(Files{"prod/api.hcl": Service("api", "8") + "# x\n"}, By(Bumper()))},
		{name: "a merge with a line slipped in, by who may do anything", item: itemSlips, rule: ruleMerge, make: merging(Files{"prod/api.hcl": Service("api", "8") + "# x\n"}), runs: two},
		{name: "a merge that drops one side", rule: ruleMerge, fault: un, says: []string{"api"}, make: merging(Files{"prod/api.hcl": Service("api", "7")}, forge)},
		{name: "a merge of the tree before both", rule: ruleMerge, fault: un, make: merging(Files{"prod/api.hcl": Service("api", "7"), web: Service("web", "1.1")}, forge)},
		{name: "a merge of the accepted commit into an older tree", rule: ruleMerge, fault: un, says: []string{"prod/web.hcl"}, make: func(r *Repo, base string) string {
			old := r.On(r.parents[base][0], nil, By(Operator()))
			next := bump(By(Bumper()))(r, base)
			return r.Make([]string{old, next}, nil, forge) // git merge -s ours, the wrong way round
		}},
		{name: "a merge that adds nothing to the older side", rule: ruleMerge, fault: un, make: func(r *Repo, base string) string {
			next := bump(By(Bumper()))(r, base)
			return r.Make([]string{base, next}, nil, forge)
		}},
		{name: "a merge without fast-forward", rule: ruleMerge, runs: bumped, make: func(r *Repo, base string) string { return r.Merge(base, bump(By(Bumper()))(r, base), nil, forge) }},
		{name: "a merge of what is merged already", rule: ruleMerge, runs: bumped, make: func(r *Repo, base string) string { return r.Merge(bump(By(Bumper()))(r, base), base, nil, forge) }},
		{name: "a merge of a merge", rule: ruleMerge, runs: map[string]string{"web": "1.2", "api": "8", "js": "1.1"}, make: func(r *Repo, base string) string {
			m := merging(nil, forge)(r, base)
			return r.Merge(m, r.On(base, Files{"prod/js.hcl.json": JSONService("js", "1.1")}, By(Bumper())), nil, forge)
		}},
		{name: "a line slipped in two merges down", item: itemSlips, rule: ruleMerge, fault: un, make: func(r *Repo, base string) string {
			m := merging(Files{"prod/api.hcl": Service("api", "8") + "# x\n"}, forge)(r, base)
			return r.Merge(m, r.On(base, nil, By(Operator())), nil)
		}},
		{name: "a merge of one side that nobody signed", rule: ruleMerge, fault: un, says: []string{"README.md"}, make: func(r *Repo, base string) string {
			a, _ := sides(r, base)
			return r.Merge(a, r.On(base, Files{"README.md": "x"}, forge), nil)
		}},
		{name: "a merge of one side that nobody signed, all of it dropped", rule: ruleMerge, fault: un, says: []string{"README.md"}, make: func(r *Repo, base string) string {
			a, _ := sides(r, base)
			return r.Merge(a, r.On(base, Files{"README.md": "x"}, forge), Files{"README.md": "Hello\n"})
		}},
		{name: "a merge of a history of its own", rule: ruleForward, fault: un, make: func(r *Repo, base string) string {
			other := r.On("", Files{web: Service("web", "6.6")}, forge)
			return r.Make([]string{base, other}, nil)
		}},
		{name: "a merge of a history of its own that somebody signed who may less", rule: ruleBoth, fault: not, make: func(r *Repo, base string) string {
			other := r.On("", Files{web: Service("web", "6.6")}, By(Bumper()))
			return r.Make([]string{base, other}, Files{web: Service("web", "6.6")}, By(Bumper()))
		}},
		{name: "a path changed on both sides, ours taken", rule: ruleBoth, fault: un, says: []string{"moves web from 1.3 to 1.2"}, make: both(nil, forge)},
		{name: "a path changed on both sides, theirs taken", rule: ruleBoth, fault: un, says: []string{"moves web from 1.2 to 1.3"}, make: both(Files{web: Service("web", "1.3")}, forge)},
		{name: "a path changed on both sides, another taken", rule: ruleBoth, fault: un, make: both(Files{web: Service("web", "6.6")}, forge)},
		{name: "a path changed on both sides, resolved by who may", rule: ruleBoth, make: both(Files{web: Service("web", "1.3")}, By(Bumper())), runs: map[string]string{"web": "1.3"}},
		{name: "a path changed on both sides, resolved by who may less", rule: ruleBoth, fault: not, says: []string{"takes bump in prod"}, make: both(Files{web: Service("web", "1.3")}, By(CI()))},
		{name: "a path changed on both sides, resolved with a comment", item: itemSlips, rule: ruleBoth, fault: not, says: []string{"takes any in prod"}, make: both(Files{web: strings.Replace(Service("web", "1.3"), "by a pipeline", "by me", 1)}, By(Bumper()))},
		{name: "a freeze that a merge drops", rule: ruleBoth, fault: not, says: []string{`deletes freeze "b"`}, make: func(r *Repo, base string) string {
			a := r.On(base, Files{"prod/freeze.hcl": Freeze("a")}, By(Freezer()))
			b := r.On(base, Files{"prod/freeze.hcl": Freeze("b")}, By(Freezer()))
			return r.Merge(a, b, nil, By(Bumper()))
		}},
		{name: "a criss-cross", rule: ruleBoth, fault: un, make: func(r *Repo, base string) string {
			a, b := sides(r, base)
			x, y := r.Merge(a, b, nil, forge), r.Merge(b, a, nil, forge)
			c := r.On(x, Files{"prod/js.hcl.json": JSONService("js", "1.1")}, By(Bumper()))
			return r.Make([]string{c, y}, nil, forge)
		}},
		{name: "a criss-cross that somebody signed", rule: ruleBoth, runs: map[string]string{"web": "1.2", "api": "8", "js": "1.1"}, make: func(r *Repo, base string) string {
			a, b := sides(r, base)
			x, y := r.Merge(a, b, nil, forge), r.Merge(b, a, nil, forge)
			c := r.On(x, Files{"prod/js.hcl.json": JSONService("js", "1.1")}, By(Bumper()))
			return r.Make([]string{c, y}, nil, By(Bumper()))
		}},
		{name: "an octopus", rule: ruleBoth, fault: un, make: func(r *Repo, base string) string {
			a, b := sides(r, base)
			c := r.On(base, Files{"prod/js.hcl.json": JSONService("js", "1.1")}, By(Bumper()))
			return r.Make([]string{a, b, c}, Files{"prod/api.hcl": Service("api", "8"), "prod/js.hcl.json": JSONService("js", "1.1")}, forge)
		}},
		{name: "an octopus that somebody signed", rule: ruleBoth, runs: map[string]string{"web": "1.2", "api": "8", "js": "1.1"}, make: func(r *Repo, base string) string {
			a, b := sides(r, base)
			c := r.On(base, Files{"prod/js.hcl.json": JSONService("js", "1.1")}, By(Bumper()))
			return r.Make([]string{a, b, c}, Files{"prod/api.hcl": Service("api", "8"), "prod/js.hcl.json": JSONService("js", "1.1")}, By(Bumper()))
		}},
		{name: "an old signed branch that brings back what was left", item: itemOldBranch, rule: ruleForge, fault: un, says: []string{"merges web 1.2 back", "takes rollback in prod"}, make: func(r *Repo, base string) string {
			old := bump(By(Bumper()))(r, base)
			main := r.On(base, Files{web: Service("web", "1.2")}, By(Alice()))
			main = r.On(main, Files{web: Service("web", "1.1")}, By(Roller())) // 1.2 was bad
			return r.Merge(main, old, nil, forge)
		}},
		{name: "an old signed branch that brings back what was left, by who may roll back", item: itemOldBranch, rule: ruleForge, make: func(r *Repo, base string) string {
			old := bump(By(Bumper()))(r, base)
			main := r.On(base, Files{web: Service("web", "1.2")}, By(Alice()))
			main = r.On(main, Files{web: Service("web", "1.1")}, By(Roller()))
			return r.Merge(main, old, nil, By(Roller()))
		}, runs: bumped},
		{name: "an old signed branch onto what was moved since", item: itemOldBranch, rule: ruleBoth, fault: un, says: []string{"moves web from 1.3 to 1.2"}, make: func(r *Repo, base string) string {
			old := bump(By(Bumper()))(r, base)
			main := r.On(base, Files{web: Service("web", "1.3")}, By(Bumper()))
			return r.Merge(main, old, Files{web: Service("web", "1.2")}, forge)
		}},
		{name: "an old signed branch by a key that has expired since", item: itemOldBranch, rule: ruleSeen, fault: trust.BadSignature, says: []string{"was valid until"}, git: "git believes the date that the commit itself claims; a host believes its clock", make: func(r *Repo, base string) string {
			old := r.On(r.parents[base][0], Files{"prod/api.hcl": Service("api", "8")}, By(named("old@acme.example")), Dated(Noon().AddDate(0, -2, 0)))
			return r.Merge(base, old, nil, forge)
		}},
		{name: "an old signed branch of something that was never tried", item: itemOldBranch, rule: ruleForge, runs: map[string]string{"api": "8"}, make: func(r *Repo, base string) string {
			old := r.On(r.parents[base][0], Files{"prod/api.hcl": Service("api", "8")}, By(Bumper()))
			return r.Merge(base, old, nil, forge)
		}},
		{name: "an old signed freeze of one who may less now", item: itemOldBranch, rule: ruleRoles, fault: not, says: []string{"guest@acme.example is in no role"}, make: func(r *Repo, base string) string {
			old := r.On(r.parents[base][0], Files{"prod/freeze.hcl": Freeze("old")}, By(Guest()))
			return r.Merge(base, old, nil, forge)
		}},
		{name: "an old attempt that a merge takes back", rule: ruleMerge, fault: un, make: func(r *Repo, base string) string {
			a := r.On(base, r.Edit(base, "prod/retry.hcl", "attempt = 3", "attempt = 4"), By(Operator()))
			b := r.On(base, nil, By(Operator()))
			return r.Merge(a, b, Files{"prod/retry.hcl": r.FilesOf(base)["prod/retry.hcl"]}, forge)
		}},
		{name: "an approval slipped into a merge", rule: ruleFiles, fault: un, says: []string{"adds an approval"}, make: merging(Files{"approvals/prod/web/1.2-bbbbbbbbbbbb/0123456789abcdef.sig": "x"}, forge)},
		{name: "an approval dropped by a merge", rule: ruleFiles, fault: un, says: []string{"deletes an approval"}, make: merging(Files{OldApproval: Gone}, forge)},
	}
}

func rowsOfVouches() []row {
	un := trust.Unsigned
	// vouched puts a commit that vouches for an unsigned one on top.
	vouched := func(who *Key) func(*Repo, string) string {
		return func(r *Repo, base string) string {
			c := bump(forge)(r, base)
			return r.On(c, nil, By(who), Vouching(c))
		}
	}
	return []row{
		{name: "a vouch", rule: ruleVouch, make: vouched(Alice()), runs: bumped},
		{name: "a vouch by a robot that may do anything", rule: ruleVouch, fault: un, make: vouched(Robot())},
		{name: "a vouch by who may bump", rule: ruleVouch, fault: un, make: vouched(Bumper())},
		{name: "a vouch by who may do anything elsewhere", rule: ruleVouch, fault: un, says: []string{"lead@acme.example vouched for it", "may not do that either"}, make: vouched(Lead())},
		{name: "a vouch by who may do anything there", rule: ruleVouch, make: func(r *Repo, base string) string {
			c := r.On(base, Files{"staging/web.hcl": Service("web", "1.3")}, forge)
			return r.On(c, nil, By(Lead()), Vouching(c), From("lead@acme.example"))
		}},
		{name: "a vouch by a stranger", rule: ruleVouch, fault: un, make: vouched(Mallory())},
		{name: "a vouch by a revoked key", item: itemExpired, rule: ruleVouch, fault: un, make: vouched(named("revoked@acme.example"))},
		{name: "a vouch that nobody signed", rule: ruleVouch, fault: un, make: func(r *Repo, base string) string {
			c := bump(forge)(r, base)
			return r.On(c, nil, forge, Vouching(c))
		}},
		{name: "a vouch for another commit", rule: ruleVouch, fault: un, make: func(r *Repo, base string) string {
			c := bump(forge)(r, base)
			return r.On(c, nil, Vouching(base))
		}},
		{name: "a vouch for the beginning of a commit's hash", rule: ruleVouch, fault: un, make: func(r *Repo, base string) string {
			c := bump(forge)(r, base)
			return r.On(c, nil, Says("Vouch\n\nDrydock-Vouch: "+c[:39]+"\n"))
		}},
		{name: "a vouch in the middle of a message", rule: ruleVouch, fault: un, make: func(r *Repo, base string) string {
			c := bump(forge)(r, base)
			return r.On(c, nil, Says("Don't\n\nDrydock-Vouch: "+c+"\n\nI only quote it.\n"))
		}},
		{name: "a vouch that is quoted", rule: ruleVouch, fault: un, make: func(r *Repo, base string) string {
			c := bump(forge)(r, base)
			return r.On(c, nil, Says("Don't\n\n> Drydock-Vouch: "+c+"\n"))
		}},
		{name: "a vouch as subject", rule: ruleVouch, fault: un, make: func(r *Repo, base string) string {
			c := bump(forge)(r, base)
			return r.On(c, nil, Says("Drydock-Vouch: "+c+"\n"))
		}},
		{name: "a vouch among other trailers", rule: ruleVouch, runs: bumped, make: func(r *Repo, base string) string {
			c := bump(forge)(r, base)
			return r.On(c, nil, Says("Vouch\n\nReviewed-by: Bob <bob@acme.example>\nDrydock-Vouch: "+c+"\nSigned-off-by: Alice <alice@acme.example>\n"))
		}},
		{name: "a vouch that came along with somebody's patch", rule: ruleVouch, fault: un, make: func(r *Repo, base string) string {
			// A patch's own message asks for it; who takes the patch over, with a
			// signature, has looked at the patch.
			c := bump(forge)(r, base)
			return r.On(c, Files{"README.md": "Hello!\n"}, Says("Mend a typing error\n\nDrydock-Vouch: "+c+"\n"))
		}},
		{name: "a vouch for a malformed commit", item: itemHeaders, rule: ruleVouch, fault: trust.Malformed, says: []string{"Nobody can vouch"}, make: func(r *Repo, base string) string {
			c := bump(forge, Before(Instead("\ncommitter", "\nauthor alice <alice@acme.example> 1 +0000\ncommitter")))(r, base)
			return r.On(c, nil, Vouching(c))
		}},
		{name: "a vouch for one dated 2099", item: item2099, rule: ruleClock, fault: trust.Ahead, make: func(r *Repo, base string) string {
			c := bump(forge, Before(func(s string) string { return strings.ReplaceAll(s, "> 1", "> 4") }))(r, base)
			return r.On(c, nil, Vouching(c))
		}},
		{name: "a vouch for one by who may less", rule: ruleVouch, runs: bumped, make: func(r *Repo, base string) string {
			c := bump(By(CI()))(r, base)
			return r.On(c, nil, Vouching(c))
		}},
		{name: "a vouch for one of two", rule: ruleVouch, fault: un, make: func(r *Repo, base string) string {
			a := bump(forge)(r, base)
			b := r.On(a, Files{"prod/api.hcl": Service("api", "8")}, forge)
			return r.On(b, nil, Vouching(b))
		}},
		{name: "a vouch for two", rule: ruleVouch, runs: map[string]string{"web": "1.2", "api": "8"}, make: func(r *Repo, base string) string {
			a := bump(forge)(r, base)
			b := r.On(a, Files{"prod/api.hcl": Service("api", "8")}, forge)
			return r.On(b, nil, Says("Vouch\n\nDrydock-Vouch: "+a+"\nDrydock-Vouch: "+b+"\n"))
		}},
		{name: "a vouch for a vouch that nobody signed", rule: ruleVouch, fault: un, make: func(r *Repo, base string) string {
			c := bump(forge)(r, base)
			v := r.On(c, nil, forge, Vouching(c))
			return r.On(v, nil, Vouching(v))
		}},
		{name: "a vouch on a branch that is merged", rule: ruleVouch, runs: bumped, make: func(r *Repo, base string) string {
			c := bump(forge)(r, base)
			v := r.On(base, nil, Vouching(c))
			return r.Merge(c, v, nil, forge)
		}},
		{name: "a vouch in front of what it vouches for", rule: ruleVouch, runs: bumped, make: func(r *Repo, base string) string {
			// The commit was made first, and put on top by nobody: it stands on
			// another parent than the vouch, and both are merged.
			c := bump(forge)(r, base)
			v := r.On(base, nil, Vouching(c))
			return r.Merge(v, c, nil, forge)
		}},
		{name: "a vouch for a merge with a line slipped in", item: itemSlips, rule: ruleVouch, runs: map[string]string{"web": "1.2", "api": "8"}, make: func(r *Repo, base string) string {
			m := merging(Files{"prod/api.hcl": Service("api", "8") + "# x\n"}, forge)(r, base)
			return r.On(m, nil, Vouching(m))
		}},
	}
}
