package hostagent

import (
	"context"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"drydock/reconcile"
	"drydock/reconcile/trust"
	"drydock/spec"
)

// scene is one service on one host: what the commit declares, what ran before,
// who signed, and when it is asked.
type scene struct {
	t      testing.TB
	files  map[string]string // of the commit that is taken up
	memory *reconcile.Memory
	policy trust.Policy
	keys   *worded
	bare   bool // no trust section
	after  time.Duration
	heard  time.Duration // ago
	mangle func(fstest.MapFS)
}

var taken = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func newScene(t testing.TB) *scene {
	return &scene{t: t, files: map[string]string{"prod/web.hcl": declared("web", "2", two)}, memory: reconcile.NewMemory(), policy: people(), keys: &worded{lost: map[string]bool{}}}
}

// ran makes another declaration the one that runs.
func (s *scene) ran(version, more string) {
	w, _ := wanted(s.t, map[string]string{"prod/web.hcl": declared("web", version, more)})
	svc := serviceIn(s.t, w, "web")
	s.memory.Apply(reconcile.Record{Kind: reconcile.Adopted, Service: "web", Plan: &reconcile.OpenPlan{Target: svc}})
}

// signs adds a person's word on what the files declare now, changed by how.
func (s *scene) signs(who string, how ...func(*trust.Statement)) string {
	st := trust.Statement{Kind: trust.Approval, Subject: subject(s.t, s.files, "web"), Expires: taken.Add(30 * 24 * time.Hour)}
	for _, f := range how {
		f(&st)
	}
	return statement(s.t, s.files, who, st)
}

// plan is what the host would do, with all that runs in its place.
func (s *scene) plan(name string, w spec.Wanted) reconcile.ServicePlan {
	have := reconcile.Observed{Memory: *s.memory, Boot: "boot-1", At: taken, Found: map[string]map[string]reconcile.Condition{}}
	for n, r := range s.memory.Services {
		have.Found[n] = map[string]reconcile.Condition{}
		if r.Running != nil {
			for _, id := range []string{"install/archive", "start/process", "drain/file"} {
				have.Found[n][id] = reconcile.Condition{Is: reconcile.Present}
			}
		}
	}
	return reconcile.DiffOne(name, w, have)
}

func (s *scene) consent() (*consent, spec.Wanted) {
	w, tree := wanted(s.t, s.files)
	if s.mangle != nil {
		s.mangle(tree)
	}
	c := &consents{trust: &Trust{Policy: s.policy, Keys: s.keys}, env: "prod", now: func() time.Time { return taken }}
	if s.bare {
		c.trust = nil
	}
	return c.read(context.Background(), Snapshot{Commit: "c0ffee", FS: tree}, w, *s.memory), w
}

func (s *scene) gate() reconcile.Gate {
	s.t.Helper()
	c, w := s.consent()
	p := s.plan("web", w)
	if len(p.Steps) == 0 && !p.Adopts {
		s.t.Fatalf("nothing is to be done: %+v", p)
	}
	s.memory.Heard = taken.Add(-s.heard)
	around := reconcile.Surroundings{Now: taken.Add(s.after), Wanted: w, Memory: *s.memory, Consent: c, Alone: true}
	if p.Adopts {
		return reconcile.AdoptGate(p, around)
	}
	return reconcile.TrustGate(p, around)
}

const day = 24 * time.Hour

func expires(d time.Duration) func(*trust.Statement) {
	return func(s *trust.Statement) { s.Expires = taken.Add(d) }
}

func TestConsentGate(t *testing.T) {
	requires := `migrate "command" {
    command  = ["m"]
    check    = ["c"]
    requires = ["index-built", "space-made"]
  }`
	attests := func(name string) func(*trust.Statement) {
		return func(s *trust.Statement) { s.Kind, s.Name = trust.Attestation, name }
	}
	override := "override \"night\" {\n  services = [\"web\"]\n  skip = [\"approval-expiry\"]\n  until = \"2026-12-30T00:00:00Z\"\n}\n"
	for _, row := range []struct {
		name    string
		set     func(s *scene)
		gate    string   // "": open
		missing []string // of a closed one
		says    string   // in its reason
		until   time.Duration
	}{
		{"two of three", func(s *scene) { s.signs("alice@acme"); s.signs("bob@acme", expires(7*day)) }, "", nil, "", 7 * day},
		{"one of two", func(s *scene) { s.signs("alice@acme", expires(5*day)) }, "approval", []string{"bob@acme", "carol@acme"}, "only alice@acme approved; to approve: drydock approve web --env prod", 5 * day},
		{"nobody", func(s *scene) {}, "approval", []string{"alice@acme", "bob@acme", "carol@acme"}, "nobody has approved", 0},
		{"one approver through two keys", func(s *scene) { s.signs("alice@acme"); s.signs("alice@acme 2") }, "approval", []string{"bob@acme", "carol@acme"}, "people count, not their keys", 30 * day},
		{"the same statement again, for longer", func(s *scene) { s.signs("alice@acme"); s.signs("alice@acme", expires(90*day)) }, "approval", []string{"bob@acme", "carol@acme"}, "counted already", 90 * day},
		{"a robot", func(s *scene) { s.signs("alice@acme"); s.signs("ci@acme") }, "approval", []string{"bob@acme", "carol@acme"}, "ci@acme is no person", 30 * day},
		{"a key of two people", func(s *scene) { s.signs("alice@acme"); s.signs("bob@acme,carol@acme") }, "approval", []string{"bob@acme", "carol@acme"}, "nobody can tell who of them signed", 30 * day},
		{"a key that was revoked", func(s *scene) { s.signs("alice@acme"); s.signs("bob@acme"); s.keys.lost["bob@acme"] = true }, "approval", []string{"bob@acme", "carol@acme"}, "its key has been revoked", 30 * day},
		{"a key that signs for a pattern", func(s *scene) {
			s.policy.Roles[0].Principals = []string{"*@acme", "!ci@acme"}
			s.signs("alice@acme")
			s.signs("*@acme")
		}, "approval", []string{"!"}, "is a pattern, which is nobody", 30 * day},
		{"people of a pattern", func(s *scene) {
			s.policy.Roles[0].Principals = []string{"*@acme", "!ci@acme"}
			s.signs("alice@acme")
			s.signs("bob@acme")
		}, "", nil, "", 30 * day},
		{"somebody whom the block does not ask", func(s *scene) {
			s.policy.Roles[0].Principals = append(s.policy.Roles[0].Principals, "dan@acme")
			s.signs("alice@acme")
			s.signs("dan@acme")
		}, "approval", []string{"bob@acme", "carol@acme"}, "nobody asks for dan@acme's approval", 30 * day},
		{"for another environment", func(s *scene) {
			s.signs("alice@acme")
			s.signs("bob@acme", func(st *trust.Statement) { st.Environment = "staging" })
		}, "approval", []string{"bob@acme", "carol@acme"}, "only alice@acme", 30 * day},
		{"for another environment, moved here", func(s *scene) {
			s.signs("alice@acme")
			there := s.signs("bob@acme", func(st *trust.Statement) { st.Environment = "staging" })
			s.files[strings.Replace(there, "/staging/", "/prod/", 1)] = s.files[there]
		}, "approval", []string{"bob@acme", "carol@acme"}, "an approval counts only at its own place", 30 * day},
		{"older than the digest", func(s *scene) {
			s.signs("alice@acme")
			s.signs("bob@acme", func(st *trust.Statement) {
				st.Digest = st.Digest[:len("sha256:")+12] + strings.Repeat("0", 52)
			})
		}, "approval", []string{"bob@acme", "carol@acme"}, "other bytes of 2", 30 * day},
		{"an attestation is no approval", func(s *scene) { s.signs("alice@acme"); s.signs("bob@acme", attests("index-built")) }, "approval", []string{"bob@acme", "carol@acme"}, "another statement is needed", 30 * day},
		{"expired", func(s *scene) { s.after = 31 * day; s.signs("alice@acme", expires(90*day)); s.signs("bob@acme") }, "approval", []string{"bob@acme", "carol@acme"}, "it expired at", 90 * day},
		{"at the moment when it expires", func(s *scene) {
			s.after = 30 * day
			s.signs("alice@acme", expires(90*day))
			s.signs("bob@acme")
		}, "approval", []string{"bob@acme", "carol@acme"}, "it expired at", 90 * day},
		{"expired, under an override", func(s *scene) {
			s.after = 31 * day
			s.files["prod/override.hcl"] = override
			s.signs("alice@acme", expires(90*day))
			s.signs("bob@acme")
		}, "", nil, "", time.Date(2026, 12, 30, 0, 0, 0, 0, time.UTC).Sub(taken)},
		{"expired, under an override of other services", func(s *scene) {
			s.after = 31 * day
			s.files["prod/override.hcl"] = strings.Replace(override, "web", "api", 1)
			s.files["prod/api.hcl"] = declared("api", "1", "")
			s.signs("alice@acme", expires(90*day))
			s.signs("bob@acme")
		}, "approval", []string{"bob@acme", "carol@acme"}, "it expired at", 90 * day},
		{"expired, under an override that is over", func(s *scene) {
			s.after = 38 * day
			s.files["prod/override.hcl"] = override
			s.signs("alice@acme", expires(90*day))
			s.signs("bob@acme")
		}, "approval", []string{"bob@acme", "carol@acme"}, "it expired at", 90 * day},
		{"a profile changed under an approved release", func(s *scene) {
			s.files["profiles.hcl"] = "profile \"p\" {\n  rollout {\n    splay = \"1s\"\n  }\n}\n"
			s.files["prod/web.hcl"] = strings.Replace(strings.Replace(declared("web", "2", two), "hosts = {}", "hosts = {}\n  profile = \"p\"", 1), "rollout {\n    min_healthy_time = \"1s\"\n  }", "", 1)
			s.signs("alice@acme")
			s.signs("bob@acme")
			s.files["profiles.hcl"] = strings.Replace(s.files["profiles.hcl"], "1s", "2s", 1)
		}, "approval", []string{"alice@acme", "bob@acme", "carol@acme"}, "not counted: alice@acme (it is for another declaration", 0},
		{"a hook came under an approved release", func(s *scene) {
			s.signs("alice@acme")
			s.signs("bob@acme")
			s.files["prod/web.hcl"] = declared("web", "2", two+"\n  run \"x\" {\n    after = \"install\"\n    command = [\"x\"]\n  }")
		}, "approval", []string{"alice@acme", "bob@acme", "carol@acme"}, "for another declaration", 0},
		{"an artifact's source changed under an approved release", func(s *scene) {
			s.signs("alice@acme")
			s.signs("bob@acme")
			s.files["prod/web.hcl"] = strings.Replace(declared("web", "2", two), "artifacts.acme", "artefacts.acme", 1)
		}, "approval", []string{"alice@acme", "bob@acme", "carol@acme"}, "for another declaration", 0},
		{"an artifact's source changed, and nothing is to be done", func(s *scene) {
			s.ran("2", two)
			s.files["prod/web.hcl"] = strings.Replace(declared("web", "2", two), "artifacts.acme", "artefacts.acme", 1)
		}, "approval", []string{"alice@acme", "bob@acme", "carol@acme"}, "nobody has approved", 0},
		{"the floor is above the block", func(s *scene) {
			s.policy.Approvals = map[string]int{"prod": 3}
			s.signs("alice@acme")
			s.signs("bob@acme")
		}, "approval", []string{"carol@acme"}, "this host asks for 3 people", 30 * day},
		{"the floor where there is no block", func(s *scene) {
			s.files["prod/web.hcl"] = declared("web", "2", "")
			s.policy.Approvals = map[string]int{"prod": 1}
		}, "approval", []string{"alice@acme", "bob@acme", "carol@acme"}, "this host asks for one person", 0},
		{"the floor of another environment", func(s *scene) {
			s.files["prod/web.hcl"] = declared("web", "2", "")
			s.policy.Approvals = map[string]int{"staging": 1}
		}, "", nil, "", 0},
		{"nobody asks", func(s *scene) { s.files["prod/web.hcl"] = declared("web", "2", "") }, "", nil, "", 0},
		{"a block that is raised binds at once", func(s *scene) { s.ran("1", one); s.signs("alice@acme") }, "approval", []string{"bob@acme", "carol@acme"}, "asks for 2 people", 30 * day},
		{"a block that is only raised", func(s *scene) { s.ran("2", one); s.signs("alice@acme") }, "approval", []string{"bob@acme", "carol@acme"}, "asks for 2 people", 30 * day},
		{"a block that is lowered with a release", func(s *scene) {
			s.ran("1", two)
			s.files["prod/web.hcl"] = declared("web", "2", one)
			s.signs("alice@acme")
		}, "approval", []string{"bob@acme", "carol@acme"}, "the rule by which this host last took it counts until another one is approved", 30 * day},
		{"a block that names others", func(s *scene) {
			s.ran("1", two)
			s.policy.Roles[0].Principals = append(s.policy.Roles[0].Principals, "dan@acme", "eve@acme")
			s.files["prod/web.hcl"] = declared("web", "2", "approval {\n required = 2\n from = [\"dan@acme\", \"eve@acme\"]\n}")
			s.signs("dan@acme")
			s.signs("eve@acme")
		}, "approval", []string{"alice@acme", "bob@acme", "carol@acme"}, "nobody has approved", 30 * day},
		{"the same release again", func(s *scene) {
			s.ran("2", two)
			s.files["prod/web.hcl"] = strings.Replace(declared("web", "2", two), "version =", "attempt = 2\n    version =", 1)
			s.signs("alice@acme")
			s.signs("bob@acme")
		}, "", nil, "", 30 * day},
		{"the same release again, and nobody approved", func(s *scene) {
			s.ran("2", two)
			s.files["prod/web.hcl"] = strings.Replace(declared("web", "2", two), "version =", "attempt = 2\n    version =", 1)
		}, "approval", []string{"alice@acme", "bob@acme", "carol@acme"}, "nobody has approved", 0},
		{"a way back that was approved once", func(s *scene) {
			s.after = 60 * day
			s.ran("2", two)
			s.ran("3", two)
			s.signs("alice@acme")
			s.signs("bob@acme")
		}, "approval", []string{"alice@acme", "bob@acme", "carol@acme"}, "one person has to approve the way back", 0},
		{"a way back that one person approves", func(s *scene) {
			s.after = 60 * day
			s.ran("2", two)
			s.ran("3", two)
			s.signs("alice@acme")
			s.signs("bob@acme")
			s.signs("carol@acme", expires(70*day))
		}, "", nil, "", 70 * day},
		{"a way back that was never approved", func(s *scene) {
			s.ran("2", two)
			s.ran("3", two)
			s.signs("carol@acme")
		}, "approval", []string{"alice@acme", "bob@acme"}, "asks for 2 people", 30 * day},
		{"attestations, besides approvals", func(s *scene) {
			s.files["prod/web.hcl"] = declared("web", "2", two+"\n"+requires)
			s.signs("alice@acme")
			s.signs("bob@acme")
			s.signs("bob@acme", attests("index-built"), expires(4*day))
		}, "attestation", []string{"space-made"}, "drydock attest web space-made --env prod --push", 4 * day},
		{"all attested", func(s *scene) {
			s.files["prod/web.hcl"] = declared("web", "2", requires)
			s.signs("bob@acme", attests("index-built"))
			s.signs("bob@acme", attests("space-made"))
		}, "", nil, "", 30 * day},
		{"an attestation outlives nothing, whatever is overridden", func(s *scene) {
			s.after = 31 * day
			s.files["prod/override.hcl"] = override
			s.files["prod/web.hcl"] = declared("web", "2", requires)
			s.signs("bob@acme", attests("index-built"))
			s.signs("bob@acme", attests("space-made"))
		}, "attestation", []string{"index-built", "space-made"}, "waits for somebody to attest", 0},
		{"a robot attests nothing", func(s *scene) {
			s.files["prod/web.hcl"] = declared("web", "2", requires)
			s.signs("ci@acme", attests("index-built"))
			s.signs("bob@acme", attests("space-made"))
		}, "attestation", []string{"index-built"}, "ci@acme is no person", 30 * day},
		{"what requires nothing now", func(s *scene) {
			s.ran("1", requires)
			s.memory.Apply(reconcile.Record{Kind: reconcile.Planned, Service: "web"})
			s.files["prod/web.hcl"] = strings.Replace(declared("web", "1", requires), "127.0.0.1:80", "127.0.0.1:81", 1)
		}, "", nil, "", 0},
		{"no trust section", func(s *scene) { s.bare = true; s.signs("alice@acme"); s.signs("bob@acme") }, "approval", []string{"alice@acme", "bob@acme", "carol@acme"}, "no trust section", 0},
		{"no trust section, and a migration that requires", func(s *scene) {
			s.bare = true
			s.files["prod/web.hcl"] = declared("web", "2", requires)
		}, "attestation", []string{"index-built", "space-made"}, "no trust section", 0},
		{"no trust section, and a block that is dropped", func(s *scene) {
			s.bare = true
			s.ran("1", two)
			s.files["prod/web.hcl"] = declared("web", "2", "")
		}, "approval", []string{"alice@acme", "bob@acme", "carol@acme"}, "no trust section", 0},
		{"no trust section, and nobody asks", func(s *scene) { s.bare = true; s.files["prod/web.hcl"] = declared("web", "2", "") }, "", nil, "", 0},
		{"nothing newer for long", func(s *scene) {
			s.files["prod/web.hcl"] = declared("web", "2", "")
			s.policy.Freshness, s.heard = 7*day, 8*day
		}, "freshness", nil, "drydock heartbeat", 0},
		{"something newer lately", func(s *scene) {
			s.files["prod/web.hcl"] = declared("web", "2", "")
			s.policy.Freshness, s.heard = 7*day, 6*day
		}, "", nil, "", day},
		{"freshness comes after people", func(s *scene) { s.policy.Freshness, s.heard = 7*day, 8*day }, "approval", []string{"alice@acme", "bob@acme", "carol@acme"}, "nobody has approved", 0},
		{"removed, with nobody's word", func(s *scene) {
			s.ran("1", "")
			s.files = map[string]string{"prod/gone.hcl": "removed \"web\" {\n  hosts = {}\n}\n"}
		}, "approval", []string{"alice@acme", "bob@acme", "carol@acme"}, "removing web in prod is not approved", 0},
		{"removed, by its own block", func(s *scene) {
			s.ran("1", two)
			s.files = map[string]string{"prod/gone.hcl": "removed \"web\" {\n  hosts = {}\n}\n"}
			s.removal("alice@acme")
		}, "approval", []string{"bob@acme", "carol@acme"}, "asks for 2 people", 30 * day},
		{"removed, with consent", func(s *scene) {
			s.ran("1", two)
			s.files = map[string]string{"prod/gone.hcl": "removed \"web\" {\n  hosts = {}\n}\n"}
			s.removal("alice@acme")
			s.removal("carol@acme")
		}, "", nil, "", 30 * day},
		{"removed on a host without trust", func(s *scene) {
			s.bare = true
			s.ran("1", "")
			s.files = map[string]string{"prod/gone.hcl": "removed \"web\" {\n  hosts = {}\n}\n"}
		}, "", nil, "", 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := newScene(t)
			row.set(s)
			g := s.gate()
			if g.Name != row.gate || !strings.Contains(g.Reason, row.says) {
				t.Fatalf("gate %q, want %q: %s", g.Name, row.gate, g.Reason)
			}
			if row.missing != nil && row.missing[0] != "!" && !slices.Equal(g.Missing, row.missing) {
				t.Errorf("missing %v, want %v", g.Missing, row.missing)
			}
			if g.Name != "" && g.Origin.Commit == "" {
				t.Error("it does not say which line asks")
			}
			ends := time.Time{}
			if row.until > 0 {
				ends = taken.Add(row.until)
			}
			c, w := s.consent()
			if got := c.Gate(s.plan("web", w), reconcile.Surroundings{Now: taken.Add(s.after), Wanted: w, Memory: *s.memory}).Until; !got.Equal(ends) {
				t.Errorf("it is to be asked again at %v, want %v", got, ends)
			}
		})
	}
}

// removal adds a person's word on the removal that the files declare.
func (s *scene) removal(who string) {
	w, _ := wanted(s.t, s.files)
	statement(s.t, s.files, who, trust.Statement{Kind: trust.Removal, Subject: trust.RemovalOf("prod", w.Removed[0]), Expires: taken.Add(30 * day)})
}

// Whatever lies in a release's folder, it is ignored with a reason, or counts.
func TestForeignFilesAreIgnored(t *testing.T) {
	s := newScene(t)
	folder := s.signs("alice@acme")
	folder = folder[:strings.LastIndexByte(folder, '/')]
	s.signs("bob@acme")
	s.mangle = func(tree fstest.MapFS) {
		tree[folder+"/README"] = &fstest.MapFile{Data: []byte("hello"), Mode: 0o644}
		tree[folder+"/"+strings.Repeat("a", 64)+".sig"] = &fstest.MapFile{Data: []byte(strings.Repeat("x", 32<<10)), Mode: 0o644}
		tree[folder+"/link"] = &fstest.MapFile{Data: []byte("/etc/shadow"), Mode: 0o777 | fs.ModeSymlink}
		tree[folder+"/below/x.sig"] = &fstest.MapFile{Data: []byte("x"), Mode: 0o644}
	}
	if g := s.gate(); !g.Open() {
		t.Fatal(g.Reason)
	}
	c, _ := s.consent()
	var whys []string
	for _, i := range c.ignored[folder] {
		whys = append(whys, i.File[len(folder)+1:]+": "+i.Why)
	}
	all := strings.Join(whys, "\n")
	for _, want := range []string{"README: ", "no signature follows", strings.Repeat("a", 64) + ".sig: it has 32768 bytes", "link: it is no plain file", "below: it is no plain file"} {
		if !strings.Contains(all, want) {
			t.Errorf("no %q in\n%s", want, all)
		}
	}
}

// However many files lie there, so many are read; a key is asked once a file.
func TestApprovalsAreReadBounded(t *testing.T) {
	s := newScene(t)
	about := subject(t, s.files, "web")
	const most = 2000
	for i := range most + 10 {
		statement(t, s.files, "alice@acme", trust.Statement{Kind: trust.Approval, Subject: about, Expires: taken.Add(time.Duration(i+1) * time.Hour)})
	}
	c, _ := s.consent()
	folder := slices.Collect(maps.Keys(c.signed))[0]
	if n := len(c.signed[folder]); n != most || s.keys.asked != most {
		t.Fatalf("%d are read, %d asked for", n, s.keys.asked)
	}
	if last := c.ignored[folder]; len(last) != 1 || !strings.Contains(last[0].Why, "the first 2000 by name are read") {
		t.Fatal(last)
	}
}

// What was checked once is not checked again, until the keys are others.
func TestSignaturesAreCheckedOnce(t *testing.T) {
	s := newScene(t)
	s.signs("alice@acme")
	s.signs("bob@acme")
	w, tree := wanted(t, s.files)
	c := &consents{trust: &Trust{Policy: s.policy, Keys: s.keys}, env: "prod", now: func() time.Time { return taken }}
	read := func() *consent {
		return c.read(t.Context(), Snapshot{Commit: "c0ffee", FS: tree}, w, *s.memory)
	}
	read()
	read()
	if s.keys.asked != 2 {
		t.Fatalf("%d times", s.keys.asked)
	}
	other := &worded{lost: map[string]bool{"bob@acme": true}}
	c.trust = &Trust{Policy: s.policy, Keys: other}
	out := read()
	if other.asked != 2 {
		t.Fatal("what other keys said is believed")
	}
	for _, list := range out.signed {
		for _, st := range list {
			if st.Key == "bob@acme" && st.Principals != nil {
				t.Fatal("bob's key is revoked")
			}
		}
	}
}

// Neither what runs, nor its repair, nor a way back from a failure needs anybody.
func TestWhatNeedsNobody(t *testing.T) {
	s := newScene(t)
	s.ran("2", two)
	c, w := s.consent()
	around := reconcile.Surroundings{Now: taken, Wanted: w, Memory: *s.memory, Consent: c}
	target := serviceIn(t, w, "web")
	other := target
	other.Release.Version = "9"
	for name, p := range map[string]reconcile.ServicePlan{
		"a repair":          {Service: "web", Purpose: reconcile.Mend, Target: other},
		"a revert":          {Service: "web", Purpose: reconcile.Revert, Target: other},
		"a plan that began": {Service: "web", Purpose: reconcile.Deploy, Target: other, Resume: true},
		"what runs":         {Service: "web", Purpose: reconcile.Deploy, Target: target},
	} {
		if g := c.Gate(p, around); !g.Open() {
			t.Errorf("%s: %s", name, g.Reason)
		}
	}
	if g := c.Gate(reconcile.ServicePlan{Service: "web", Purpose: reconcile.Deploy, Target: other}, around); g.Open() {
		t.Error("another release needs nobody")
	}
	halted := *s.memory.Services["web"]
	halted.Halt = &reconcile.Halt{Target: other}
	around.Memory.Services = map[string]*reconcile.Remembered{"web": &halted}
	if g := c.Gate(reconcile.ServicePlan{Service: "web", Purpose: reconcile.Deploy, Target: target}, around); g.Open() {
		t.Error("back from what halted needs nobody")
	}
}

// The rule in force stays with the place, whatever a service is called there.
func TestRuleStaysWithThePlace(t *testing.T) {
	systemd := func(name, unit string) string {
		return strings.Replace(strings.Replace(declared(name, "2", ""), "start \"process\" {\n    command = [\"run\"]", "start \"systemd\" {\n    unit = \""+unit+"\"", 1), "/srv/"+name, "/srv/elsewhere-"+name, 1)
	}
	for name, row := range map[string]struct {
		before, after string
		held          bool
	}{
		"the same path":    {declared("web", "1", two), strings.Replace(declared("site", "2", ""), "/srv/site", "/srv/web", 1), true},
		"another path":     {declared("web", "1", two), declared("site", "2", ""), false},
		"the same unit":    {strings.Replace(systemd("web", "w.service"), "\n}\n", "\n  "+two+"\n}\n", 1), systemd("site", "w.service"), true},
		"another unit":     {strings.Replace(systemd("web", "w.service"), "\n}\n", "\n  "+two+"\n}\n", 1), systemd("site", "s.service"), false},
		"the same package": {packaged("web", "nginx", two), packaged("site", "nginx", ""), true},
		"another package":  {packaged("web", "nginx", two), packaged("site", "apache2", ""), false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			w, _ := wanted(t, map[string]string{"prod/web.hcl": row.before})
			s.memory.Apply(reconcile.Record{Kind: reconcile.Adopted, Service: "web", Plan: &reconcile.OpenPlan{Target: serviceIn(t, w, "web")}})
			s.files = map[string]string{"prod/web.hcl": row.after}
			c, want := s.consent()
			p := s.plan("site", want)
			g := reconcile.TrustGate(p, reconcile.Surroundings{Now: taken, Wanted: want, Memory: *s.memory, Consent: c})
			if g.Open() == row.held {
				t.Fatalf("%+v", g)
			}
		})
	}
}

func packaged(name, pkg, more string) string {
	return "service \"" + name + "\" {\n  hosts = {}\n  release {\n    version = \"1\"\n  }\n  install \"apt\" {\n    package = \"" + pkg + "\"\n  }\n  check \"tcp\" {\n    address = \"127.0.0.1:80\"\n  }\n  " + more + "\n}\n"
}
