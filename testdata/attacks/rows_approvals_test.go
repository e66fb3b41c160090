package attacks

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"strings"
	"time"

	"drydock/reconcile/trust"
)

const (
	ruleCount    = "People are counted, not keys; nobody approves alone what they authored."
	ruleBinds    = "A canonical statement binds environment, service, version, digest, spec hash and an expiry."
	ruleSpec     = "A change of spec is approved like a release, as are `removed` and `hostagent`."
	ruleStricter = "The rule in force is the stricter of the last accepted commit's and the new one's, never below the host's floor."
	ruleBackOnce = "A rollback to a release whose approval expired needs one person."
	ruleAttest   = "Attestations bind environment, service, version, digest and spec; a migration waits for those that it requires."
	ruleOverride = "An override is signed, expires, and skips the expiry of approvals, never approvals."
	ruleFresh    = "Freshness: nothing newer accepted for so long: no new rollouts or installs, everything keeps running, and it is said."
)

func override(until string) string {
	return fmt.Sprintf("override \"an emergency\" {\n  skip  = [\"approval-expiry\"]\n  until = %q\n}\n", until)
}

var sold = map[string]string{"shop": "1.1"}

// ballot is a new declaration of shop, and what people sign for it.
type ballot struct {
	files Files                  // of the declaration; nil: shop 1.1
	by    *Key                   // who commits it; nil: a robot
	edit  func(*trust.Statement) // what is signed in the place of what is right
	who   []*Key
	sign  func(k *Key, text []byte) string // another signature
	file  func(path, data string) (string, string)
	late  Files // what comes behind the approvals
	says  string
}

func (b ballot) make(r *Repo, base string) string {
	r.T.Helper()
	by, late := Bumper(), Bumper()
	if b.by != nil {
		by, late = b.by, b.by
	}
	if b.files == nil {
		b.files = Files{"prod/shop.hcl": Shop("1.1")}
	}
	if b.says == "" {
		b.says = "A change\n"
	}
	c := r.On(base, b.files, By(by), Says(b.says))
	s := r.Approving(c, "shop")
	if s.Version == "" {
		s.Kind = trust.Removal
	}
	if b.edit != nil {
		b.edit(&s)
	}
	all := Files{}
	for _, k := range b.who {
		for path, data := range r.Signed(s, k) {
			if b.sign != nil {
				text, _ := s.Text()
				data = string(text) + b.sign(k, text)
				path = s.Folder() + fmt.Sprintf("/%x.sig", sha256.Sum256([]byte(data)))
			}
			if b.file != nil {
				path, data = b.file(path, data)
			}
			all[path] = data
		}
	}
	if len(all) > 0 {
		c = r.On(c, all, By(CI()))
	}
	if b.late != nil {
		c = r.On(c, b.late, By(late))
	}
	return c
}

func rowsOfApprovals() []row {
	ab := []*Key{Alice(), Bob()}
	a := ab[:1]
	waits := func(name, item, rule string, b ballot, says ...string) row {
		return row{name: name, item: item, rule: rule, make: b.make, waits: "approval shop", says: says}
	}
	taken := func(name, item, rule string, b ballot) row {
		return row{name: name, item: item, rule: rule, make: b.make, runs: sold}
	}
	with := func(lines ...string) Files { return Files{"prod/shop.hcl": Shop("1.1", lines...)} }
	hook := "  run \"hook\" {\n    after   = \"start\"\n    command = [\"/bin/true\"]\n  }\n"
	twice := []*Key{Alice(), named("alice's other key").As("alice@acme.example")}
	shared := named("shared").As("alice@acme.example,bob@acme.example")
	lowered := func(n int, from ...*Key) Files {
		return Files{"prod/shop.hcl": Service("shop", "1.1", Approval(n, from...))}
	}
	dropped := Files{"prod/shop.hcl": Service("shop", "1.1")}
	elsewhere := func(s *trust.Statement) { s.Environment = "staging" }
	older := func(s *trust.Statement) { s.Digest = DigestOf("an older build") }
	expired := func(s *trust.Statement) { s.Expires = Noon().Add(-time.Second) }
	into := func(r string) func(string, string) (string, string) {
		return func(path, data string) (string, string) { return r + path[strings.LastIndex(path, "/"):], data }
	}
	folder := "approvals/prod/shop/1.1-" + strings.TrimPrefix(DigestOf("shop1.1"), "sha256:")[:12]
	floor := func(n int) func(*trust.Policy) {
		return func(p *trust.Policy) { p.Approvals = map[string]int{"prod": n} }
	}
	removal := Files{"prod/shop.hcl": "removed \"shop\" {\n  hosts = {}\n}\n"}
	stale := func(p *trust.Policy) { p.Freshness = time.Hour }
	rows := []row{
		taken("approvals of two", "", ruleCount, ballot{who: ab}),
		taken("approvals of all three", "", ruleCount, ballot{who: []*Key{Alice(), Bob(), Carol()}}),
		waits("approvals of nobody", "", ruleCount, ballot{}, "nobody has approved", "drydock approve shop --env prod"),
		waits("approvals of one", "", ruleCount, ballot{who: a}, "only alice@acme.example approved"),
		waits("approvals of one, by two keys", itemTwoKeys, ruleCount, ballot{who: twice}, "people count, not their keys"),
		taken("approvals of two, one of them by two keys", itemTwoKeys, ruleCount, ballot{who: append(twice, Bob())}),
		waits("approvals of one, and a key that she shares", itemTwoKeys, ruleCount, ballot{who: []*Key{Alice(), shared}}, "nobody can tell who of them signed"),
		waits("approvals of one and of a robot that may do anything", "", ruleCount, ballot{who: []*Key{Alice(), Robot()}}, "robot@acme.example is no person"),
		waits("approvals of one and of the pipeline", "", ruleCount, ballot{who: []*Key{Alice(), CI()}}, "ci@acme.example is no person"),
		waits("approvals of one and of somebody of another environment", "", ruleCount, ballot{who: []*Key{Alice(), Lead()}}, "do not hold in prod"),
		waits("approvals of one and of somebody in no role", "", ruleCount, ballot{who: []*Key{Alice(), Guest()}}, "in no role"),
		waits("approvals of one and of a stranger", "", ruleCount, ballot{who: []*Key{Bob(), Mallory()}}, "on no line of"),
		waits("approvals of one and of a whole domain", itemPrincipal, ruleCount, ballot{who: []*Key{Alice(), named("a whole domain")}}, "a pattern approves nothing"),
		waits("approvals of one and of a revoked key", itemExpired, ruleCount, ballot{who: []*Key{Alice(), named("revoked@acme.example")}}, "is revoked"),
		waits("approvals of one and of an expired key", itemExpired, ruleCount, ballot{who: []*Key{Alice(), named("old@acme.example")}}, "was valid until"),
		waits("approvals of one and of a key for commits only", itemNamespace, ruleNamespace, ballot{who: []*Key{Alice(), named("commits@acme.example")}}, `may not sign in the namespace "drydock"`),
		waits("approvals of one and of somebody who is not asked", "", ruleCount, ballot{who: []*Key{Alice(), named("papers@acme.example")}}, "nobody asks for papers@acme.example's approval"),
		{name: "approvals by a key for approvals only", item: itemNamespace, rule: ruleNamespace, runs: sold,
			make: ballot{files: lowered(2, Alice(), named("papers@acme.example")), by: Carol(), who: []*Key{Alice(), Bob(), named("papers@acme.example")}}.make},

		waits("approvals for another environment", itemOtherEnv, ruleBinds, ballot{who: ab, edit: elsewhere}, "nobody has approved"),
		waits("approvals for another environment, in this one's folder", itemOtherEnv, ruleBinds, ballot{who: ab, edit: elsewhere, file: into(folder)}, "an approval counts only at its own place"),
		taken("approvals for another environment besides", itemOtherEnv, ruleBinds, ballot{who: ab, late: Files{"approvals/staging/shop/1.1-000000000000/0123456789ab.sig": "x"}}),
		waits("approvals of an older digest", itemOlder, ruleBinds, ballot{who: ab, edit: older}, "nobody has approved"),
		waits("approvals of an older digest, in the new one's folder", itemOlder, ruleBinds, ballot{who: ab, edit: older, file: into(folder)}, "an approval counts only at its own place"),
		waits("approvals of a digest with the same beginning", itemOlder, ruleBinds, ballot{who: ab, edit: func(s *trust.Statement) { s.Digest = s.Digest[:20] + strings.Repeat("0", len(s.Digest)-20) }}, "other bytes of 1.1"),
		waits("approvals before the build was made again", itemOlder, ruleBinds, ballot{who: ab, late: Files{"prod/shop.hcl": strings.Replace(Shop("1.1"), DigestOf("shop1.1"), DigestOf("again"), 1)}}, "nobody has approved"),
		{name: "approvals after the build was made again", item: itemOlder, rule: ruleBinds, runs: sold,
			make: func(r *Repo, base string) string {
				again := Files{"prod/shop.hcl": strings.Replace(Shop("1.1"), DigestOf("shop1.1"), DigestOf("again"), 1)}
				return ballot{files: again, who: ab}.make(r, ballot{who: ab}.make(r, base))
			}},
		waits("approvals of another version", "", ruleBinds, ballot{who: ab, edit: func(s *trust.Statement) { s.Version = "1.2" }, file: into(folder)}, "own place"),
		waits("approvals of another service", "", ruleBinds, ballot{who: ab, edit: func(s *trust.Statement) { s.Service = "web" }, file: into(folder)}, "own place"),
		waits("approvals of another declaration", itemChanged, ruleBinds, ballot{who: ab, edit: func(s *trust.Statement) { s.Spec = strings.Repeat("0", 64) }}, "another declaration"),
		waits("approvals that have expired", "", ruleBinds, ballot{who: ab, edit: expired}, "it expired at 2026-11-22T11:59:59Z"),
		taken("approvals that expire soon", "", ruleBinds, ballot{who: ab, edit: func(s *trust.Statement) { s.Expires = Noon().Add(time.Hour) }}),
		waits("attestations in the place of approvals", "", ruleBinds, ballot{who: ab, edit: func(s *trust.Statement) { s.Kind, s.Name = trust.Attestation, "seen" }}, "another statement is needed"),

		waits("approvals in git's namespace", itemNamespace, ruleNamespace, ballot{who: ab, sign: func(k *Key, text []byte) string { return k.Sign("git", text) }}, `namespace "git"`),
		waits("approvals in the namespace of files", itemNamespace, ruleNamespace, ballot{who: ab, sign: func(k *Key, text []byte) string { return k.Sign("file", text) }}, `namespace "file"`),
		waits("approvals with the signature of another text", "", ruleBinds, ballot{who: ab, sign: func(k *Key, text []byte) string { return k.Sign("drydock", text[1:]) }}, "does not fit"),
		waits("approvals with a statement in CR line ends", itemControl, ruleBinds, ballot{who: ab, file: func(path, data string) (string, string) {
			text, sig, _ := strings.Cut(data, "-----BEGIN")
			data = strings.ReplaceAll(text, "\n", "\r\n") + "-----BEGIN" + sig
			return path[:strings.LastIndex(path, "/")] + fmt.Sprintf("/%x.sig", sha256.Sum256([]byte(data))), data
		}}, "only ASCII that can be seen"),
		waits("approvals with a line more", "", ruleBinds, ballot{who: ab, file: func(path, data string) (string, string) {
			data = strings.Replace(data, "-----BEGIN", "note: any\n-----BEGIN", 1)
			return path[:strings.LastIndex(path, "/")] + fmt.Sprintf("/%x.sig", sha256.Sum256([]byte(data))), data
		}}, "goes on after"),
		waits("approvals with two signatures in one file", itemTwoSigs, ruleBinds, ballot{who: a, sign: func(k *Key, text []byte) string { return k.Sign("drydock", text) + Bob().Sign("drydock", text) }}, "one signature a file"),
		waits("approvals under another name", "", ruleBinds, ballot{who: ab, file: func(path, data string) (string, string) { return path[:len(path)-8] + "0000.sig", data }}, "own place"),
		{name: "approvals that are links to others", rule: ruleFiles, fault: trust.NotAllowed, says: []string{"a symbolic link"}, make: ballot{who: ab, file: func(path, data string) (string, string) { return path, Link + path }}.make},

		waits("a block lowered in the commit that it would gate", itemLowered, ruleStricter, ballot{files: lowered(1, Carol()), by: Alice(), who: []*Key{Carol()}}, "for 2 people, and only carol@acme.example"),
		waits("a block dropped in the commit that it would gate", itemLowered, ruleStricter, ballot{files: dropped, by: Alice(), who: a}, "for 2 people"),
		waits("a block with others in the commit that it would gate", itemLowered, ruleStricter, ballot{files: lowered(1, named("papers@acme.example")), by: Alice(), who: []*Key{named("papers@acme.example")}}, "for 2 people, and nobody has approved"),
		waits("a block lowered in the commit before the one that it would gate", itemLowered, ruleStricter,
			ballot{files: Files{"prod/shop.hcl": Service("shop", "1.0", Approval(1, Carol()))}, by: Alice(), late: lowered(1, Carol())}, "for 2 people"),
		taken("a block lowered, as those agree whom it asked", itemLowered, ruleStricter, ballot{files: lowered(1, Carol()), by: Bob(), who: []*Key{Alice(), Carol()}}),
		waits("a block raised", itemLowered, ruleStricter, ballot{files: lowered(3, Alice(), Bob(), Carol()), by: Carol(), who: ab}, "for 3 people"),
		taken("a block raised, as all agree", itemLowered, ruleStricter, ballot{files: lowered(3, Alice(), Bob(), Carol()), by: Carol(), who: []*Key{Alice(), Bob(), Carol()}}),
		{name: "a service under a new name, in the same place", item: itemLowered, rule: ruleStricter, waits: "approval store", says: []string{"for 2 people"},
			make: files(Files{"prod/shop.hcl": strings.ReplaceAll(Service("store", "1.1"), "/srv/store", "/srv/shop")})},
		{name: "a service that has moved to a new name", item: itemLowered, rule: ruleStricter, waits: "approval store", says: []string{"for 2 people"}, moved: true,
			make: files(Files{"prod/shop.hcl": strings.ReplaceAll(Service("store", "1.1"), "/srv/store", "/srv/shop") + "moved {\n  from = \"shop\"\n  to   = \"store\"\n}\n"})},
		{name: "a service that has moved to a new name, and to another place", item: itemLowered, rule: ruleStricter, waits: "approval store", says: []string{"for 2 people"}, moved: true,
			make: files(Files{"prod/shop.hcl": Service("store", "1.1") + "moved {\n  from = \"shop\"\n  to   = \"store\"\n}\n"})},

		waits("a hook under approvals of before", itemChanged, ruleSpec, ballot{who: ab, by: Carol(), late: with(hook)}, "another declaration"),
		waits("the artifact's source under approvals of before", itemChanged, ruleSpec, ballot{who: ab, by: Carol(), late: Files{"prod/shop.hcl": strings.Replace(Shop("1.1"), "https://artifacts", "https://evil", 1)}}, "another declaration"),
		waits("a header of the artifact under approvals of before", itemChanged, ruleSpec, ballot{who: ab, by: Carol(), late: Files{"prod/shop.hcl": strings.Replace(Shop("1.1"), "  artifact {\n", "  artifact {\n    headers = { X = \"y\" }\n", 1)}}, "another declaration"),
		waits("a profile under approvals of before", itemChanged, ruleSpec, ballot{files: with("  profile = \"p\"\n"), who: ab, by: Carol(), late: Files{"profiles.hcl": "profile \"p\" {\n  run \"x\" {\n    after   = \"start\"\n    command = [\"/bin/true\"]\n  }\n}\n"}}, "another declaration"),
		waits("a local under approvals of before", itemChanged, ruleSpec, ballot{files: Files{"prod/l.hcl": "locals {\n  arg = \"a\"\n}\n", "prod/shop.hcl": strings.Replace(Shop("1.1"), `["run"]`, `["run", local.arg]`, 1)}, who: ab, by: Carol(), late: Files{"prod/l.hcl": "locals {\n  arg = \"b\"\n}\n"}}, "another declaration"),
		taken("a comment under approvals of before", itemChanged, ruleSpec, ballot{who: ab, by: Carol(), late: Files{"prod/shop.hcl": "# so\n" + Shop("1.1")}}),
		taken("a hook, approved with it", itemChanged, ruleSpec, ballot{files: with(hook), by: Carol(), who: ab}),
		taken("another profile than its own under approvals of before", itemChanged, ruleSpec, ballot{who: ab, by: Carol(), late: Files{"profiles.hcl": "profile \"q\" {\n}\n"}}),
		waits("a declaration changed, and the release not", itemChanged, ruleSpec, ballot{files: Files{"prod/shop.hcl": Shop("1.0", hook)}, by: Carol()}, "nobody has approved"),

		waits("approvals of one who wrote it, alone", "", ruleCount, ballot{files: lowered(1, Alice()), by: Alice(), who: ab}, "alice@acme.example made it, and nobody approves alone what they made"),
		taken("approvals of one who wrote it, and of another", "", ruleCount, ballot{files: with(hook), by: Alice(), who: ab}),

		{name: "no approvals where the host asks for some", rule: ruleStricter, policy: floor(1), make: bump(By(Bumper())), waits: "approval web", says: []string{"this host asks for one person"}},
		{name: "approvals under the host's floor", rule: ruleStricter, policy: floor(3), make: ballot{who: ab}.make, waits: "approval shop", says: []string{"this host asks for 3 people"}},
		{name: "approvals at the host's floor", rule: ruleStricter, policy: floor(2), make: ballot{who: ab}.make, runs: sold},
		{name: "a service removed, by one", rule: ruleSpec, make: files(Files{"prod/shop.hcl": "removed \"shop\" {\n  hosts = {}\n}\n"}), waits: "approval shop", says: []string{"removing"}},
		{name: "a service removed, as two agree", rule: ruleSpec, make: ballot{files: Files{"prod/shop.hcl": "removed \"shop\" {\n  hosts = {}\n}\n"}, by: Carol(), who: ab}.make, runs: map[string]string{"shop": ""}},
		{name: "a service removed, under the approvals of its release", rule: ruleBinds, make: ballot{files: Files{"prod/shop.hcl": "removed \"shop\" {\n  hosts = {}\n}\n"}, by: Carol(), who: ab, edit: func(s *trust.Statement) {
			*s = trust.Statement{Kind: trust.Approval, Subject: trust.Subject{Environment: "prod", Service: "shop", Version: "1.0", Digest: DigestOf("shop1.0"), Spec: s.Spec}, Expires: s.Expires}
		}}.make, waits: "approval shop", says: []string{"removing"}},
		{name: "a service removed again, under the approvals of the time before", rule: ruleSpec, waits: "approval shop", says: []string{"removing", "when this host took"}, runs: sold,
			first: func(r *Repo, base string) string {
				gone := r.On(base, removal)
				s := r.Approving(gone, "shop")
				s.Kind = trust.Removal
				return ballot{who: ab, late: r.Signed(s, ab...)}.make(r, base)
			}, make: files(removal)},
		{name: "a service that vanished, without a word", rule: "One that merely vanished is orphaned: reported and left running.", make: files(Files{"prod/shop.hcl": Gone})},

		{name: "an old commit, served late", rule: ruleFresh, policy: stale, make: bump(By(Bumper())), waits: "freshness web", says: []string{"no newer commit has been accepted since", "drydock heartbeat"}},
		{name: "a commit of now, where freshness is asked for", rule: ruleFresh, policy: stale, make: bump(By(Bumper()), Dated(Noon())), runs: bumped},
		{name: "an old commit and a heartbeat", rule: ruleFresh, policy: stale, runs: bumped, make: func(r *Repo, base string) string {
			return r.On(bump(By(Bumper()))(r, base), nil, By(Operator()), Dated(Noon()))
		}},
		{name: "an old commit and a heartbeat that nobody signed", rule: ruleFresh, policy: stale, fault: trust.Unsigned, says: []string{"heartbeat"}, make: func(r *Repo, base string) string {
			return r.On(bump(By(Bumper()))(r, base), nil, forge, Dated(Noon()))
		}},
		{name: "an old commit under a merge of now", rule: ruleFresh, policy: stale, waits: "freshness web", make: func(r *Repo, base string) string {
			return r.Merge(base, bump(By(Bumper()))(r, base), nil, forge, Dated(Noon()))
		}},
	}
	// back goes to web 1.1, which the host ran, and which was approved for some time.
	back := func(name, waits string, expires time.Time, who ...*Key) row {
		return row{name: name, rule: ruleBackOnce, waits: waits, runs: map[string]string{"web": "1.1"},
			first: bump(By(Bumper())),
			then:  func(s *stage) { s.host.policy.Approvals = map[string]int{"prod": 2} },
			make: func(r *Repo, base string) string {
				c := r.On(base, Files{web: Service("web", "1.1")}, By(Roller()))
				s := r.Approving(c, "web")
				s.Expires = expires
				all := r.Signed(s, Alice(), Bob())
				maps.Copy(all, r.Approved(c, "web", who...))
				return r.On(c, all, By(CI()))
			}}
	}
	expiredOnly := back("back to a release whose approvals expired", "approval web", Noon().Add(-time.Hour))
	expiredOnly.runs, expiredOnly.says = nil, []string{"approved once, which has expired"}
	rows = append(rows, expiredOnly,
		back("back to a release whose approvals expired, as one agrees", "", Noon().Add(-time.Hour), Carol()),
		back("back to a release whose approvals hold", "", Noon().Add(time.Hour)))

	// made is a change of web that Alice answers for in some way, and approves.
	made := func(name string, by *Key, how func(r *Repo, base string) string) row {
		one := func(p *trust.Policy) { p.Approvals = map[string]int{"prod": 1} }
		w := row{name: name, rule: ruleCount, policy: one, make: func(r *Repo, base string) string {
			c := how(r, base)
			return r.On(c, r.Approved(c, "web", by), By(CI()))
		}}
		if by.Name == Alice().Name {
			w.waits, w.says = "approval web", []string{"alice@acme.example made it, and nobody approves alone what they made"}
		} else {
			w.runs = bumped
		}
		return w
	}
	// attested is web 1.2 with a migration that somebody has to attest for.
	migrate := "  migrate \"command\" {\n    command  = [\"m\"]\n    check    = [\"c\"]\n    requires = [\"index-built\"]\n  }\n"
	attested := func(name string, taken bool, edit func(*trust.Statement), who ...*Key) row {
		w := row{name: name, rule: ruleAttest, make: func(r *Repo, base string) string {
			c := r.On(base, Files{web: Service("web", "1.2", migrate)})
			s := r.Approving(c, "web")
			s.Kind, s.Name = trust.Attestation, "index-built"
			if edit != nil {
				edit(&s)
			}
			return r.On(c, r.Signed(s, who...), By(Operator()))
		}}
		if w.runs = bumped; !taken {
			w.runs, w.waits, w.says = nil, "attestation web", []string{"attest index-built", "drydock attest web index-built --env prod --push"}
		}
		return w
	}
	rows = append(rows,
		attested("an attestation", true, nil, Alice()),
		attested("no attestation", false, nil),
		attested("an attestation by a robot", false, nil, Robot()),
		attested("an attestation of something else", false, func(s *trust.Statement) { s.Name = "index" }, Alice()),
		attested("an attestation for another declaration", false, func(s *trust.Statement) { s.Spec = strings.Repeat("0", 64) }, Alice()),
		attested("an attestation that has expired", false, func(s *trust.Statement) { s.Expires = Noon() }, Alice()),
		attested("an approval in the place of an attestation", false, func(s *trust.Statement) { s.Kind, s.Name = trust.Approval, "" }, Alice(), Bob()),
		row{name: "approvals that have expired, and an override of that", rule: ruleOverride, runs: sold, make: ballot{who: ab, edit: expired, by: Carol(), late: Files{"prod/o.hcl": override("2026-11-23T00:00:00Z")}}.make},
		row{name: "approvals that have expired, and an override that has too", rule: ruleOverride, waits: "approval shop", says: []string{"it expired"}, make: ballot{who: ab, edit: expired, by: Carol(), late: Files{"prod/o.hcl": override("2026-11-22T00:00:00Z")}}.make},
		row{name: "no approvals, and an override of their expiry", rule: ruleOverride, waits: "approval shop", says: []string{"nobody has approved"}, make: ballot{by: Carol(), late: Files{"prod/o.hcl": override("2026-11-23T00:00:00Z")}}.make},
		row{name: "an override by who may freeze", rule: ruleOverride, fault: trust.NotAllowed, says: []string{"takes any in prod"}, make: files(Files{"prod/o.hcl": override("2026-11-23T00:00:00Z")}, By(Freezer()))})

	hooked := Files{web: Service("web", "1.2", hook)}
	patch := func(o ...Option) func(*Repo, string) string { return files(hooked, o...) }
	vouched := func(r *Repo, base string) string {
		c := r.On(base, hooked, forge)
		return r.On(c, nil, Vouching(c))
	}
	branch := func(r *Repo, base string) string { return r.Merge(base, r.On(base, hooked), nil, forge) }
	below := func(r *Repo, base string) string {
		return r.On(r.On(base, Files{web: Service("web", "1.1", hook)}), Files{web: Service("web", "1.2", hook)}, By(Bumper()))
	}
	profile := func(r *Repo, base string) string {
		c := r.On(base, Files{web: Service("web", "1.2", "  profile = \"p\"\n")}, By(Bob()))
		return r.On(c, r.Edit(c, "profiles.hcl", ":80", ":81"))
	}
	change := func(r *Repo, base string) string {
		return bump(By(Bumper()), Says("web 1.1 -> 1.2 (prod)\n\nDrydock-Release: prod/web 1.1 1.2 "+DigestOf("web1.2")+"\nDrydock-Change: web 4f2a91c 2026-11-20T10:00:00Z alice@acme.example - A change\n"))(r, base)
	}
	letters := func(r *Repo, base string) string {
		return bump(By(Bumper()), Says("web 1.1 -> 1.2 (prod)\n\nDrydock-Release: prod/web 1.1 1.2 "+DigestOf("web1.2")+"\nDrydock-Change: web 4f2a91c 2026-11-20T10:00:00Z ALICE@Acme.Example - A change\n"))(r, base)
	}
	return append(rows,
		made("approved by who signed the change", Alice(), patch()),
		made("approved by another than who signed the change", Bob(), patch()),
		made("approved by who signed the change with another key", Alice(), patch(By(named("alice's other key").As("alice@acme.example")))),
		made("approved by who signed the change in another's name", Alice(), patch(From("bob@acme.example"))),
		made("approved by another in whose name the change was signed", Bob(), patch(From("bob@acme.example"))),
		made("approved by who vouched for the change", Alice(), vouched),
		made("approved by another than who vouched for the change", Bob(), vouched),
		made("approved by who signed the change on a branch", Alice(), branch),
		made("approved by another than who signed the change on a branch", Bob(), branch),
		made("approved by who signed the change below a bump", Alice(), below),
		made("approved by another than who signed the change below a bump", Carol(), below),
		made("approved by who changed the profile", Alice(), profile),
		made("approved by who wrote the change that is released", Alice(), change),
		made("approved by another than who wrote the change that is released", Bob(), change),
		made("approved by who wrote the change under an address in other letters", Alice(), letters))
}
