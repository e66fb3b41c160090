package hostagent

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"drydock/reconcile"
	"drydock/reconcile/trust"
)

// serving is a host on which web 1 runs by a rule of two.
func serving(t *testing.T, h *host) (*Agent, map[string]string, Options) {
	t.Helper()
	o, _ := h.trusting()
	files := map[string]string{"prod/web.hcl": declared("web", "1", two)}
	agree(t, files, "web", "alice@acme", "bob@acme")
	h.commit(files)
	a := h.run(o)
	pass(t, a)
	is(t, a, "web", reconcile.Converged, "1")
	return a, files, o
}

// waits fails unless a service waits for people, with what runs untouched.
func waits(t testing.TB, a *Agent, h *host, name, runs string, did int) {
	t.Helper()
	is(t, a, name, reconcile.Waiting, runs)
	s := row(t, a, name)
	if s.Gate != "approval" || !s.Unapproved {
		t.Fatalf("%s: gate %q, unapproved %v: %s", name, s.Gate, s.Unapproved, s.Reason)
	}
	if more := h.steps()[did:]; len(more) > 0 {
		t.Fatalf("nobody agreed, and it did %v", more)
	}
}

// A new name sheds no rule, whether the old one's word is given or not.
func TestMovedServiceKeepsItsRule(t *testing.T) {
	virtual(t, func(t *testing.T, h *host) {
		a, _, _ := serving(t, h)
		did := len(h.steps())
		site := func(more string) string {
			return strings.Replace(declared("web", "1", more), `service "web"`, `service "site"`, 1)
		}
		files := map[string]string{"prod/web.hcl": site(""), "prod/moved.hcl": "moved {\n  from = \"web\"\n  to   = \"site\"\n}\n"}
		// The drivers know it by its new name already.
		h.set(func() { h.place["site"], h.process["site"], h.in["site"] = "1", "1", true })
		h.commit(files)
		pass(t, a)
		waits(t, a, h, "site", "1", did)
		m := h.Memory()
		if m.Services["web"] != nil || m.Service("site").Running.Service.Approval == nil {
			t.Fatal("the rule is lost with the name")
		}
		// What only has another name needs nobody's word.
		files["prod/web.hcl"] = site(two)
		h.commit(files)
		pass(t, a)
		is(t, a, "site", reconcile.Converged, "1")
	})
}

// A service that went away and came back is the one that it was.
func TestServiceThatReturnsKeepsItsRule(t *testing.T) {
	virtual(t, func(t *testing.T, h *host) {
		a, _, _ := serving(t, h)
		did := len(h.steps())
		h.commit(map[string]string{"prod/api.hcl": "# nothing"})
		pass(t, a)
		is(t, a, "web", reconcile.Orphaned, "1")
		h.commit(map[string]string{"prod/web.hcl": declared("web", "2", "")})
		pass(t, a)
		waits(t, a, h, "web", "1", did)
	})
}

// Where the state was lost, what serves is adopted if people agreed to it once,
// and otherwise runs on while they are asked.
func TestFoundServiceAsksTheSame(t *testing.T) {
	for name, c := range map[string]struct {
		signed []string
		late   time.Duration
		state  reconcile.State
	}{
		"approved":        {[]string{"alice@acme", "bob@acme"}, 0, reconcile.Converged},
		"approved once":   {[]string{"alice@acme", "bob@acme"}, 60 * day, reconcile.Converged},
		"approved by one": {[]string{"alice@acme"}, 0, reconcile.Waiting},
	} {
		for _, rebuilt := range []bool{false, true} {
			t.Run(name+map[bool]string{true: ", its journal rebuilt"}[rebuilt], func(t *testing.T) {
				virtual(t, func(t *testing.T, h *host) {
					o, _ := h.trusting()
					o.Trust.Policy.Freshness = day // nothing begins, so that nothing has to be new
					files := map[string]string{"prod/web.hcl": declared("web", "1", two)}
					agree(t, files, "web", c.signed...)
					h.commit(files)
					h.set(func() { h.place["web"], h.process["web"], h.in["web"] = "1", "1", true })
					if rebuilt {
						h.mark = h.head
					}
					elapse(c.late)
					a := New(o)
					if rebuilt {
						if err := a.Rebuild(t.Context()); err != nil {
							t.Fatal(err)
						}
						if m := h.Memory(); (m.Service("web").Running != nil) != (c.state == reconcile.Converged) {
							t.Fatalf("rebuilt: %+v", m.Service("web"))
						}
					}
					pass(t, a)
					if c.state == reconcile.Converged {
						is(t, a, "web", reconcile.Converged, "1")
						return
					}
					waits(t, a, h, "web", "", 0)
				})
			})
		}
	}
}

// A plan that is stuck does not give way to what nobody agreed to.
func TestNothingGivesWayToWhatNobodyAgreedTo(t *testing.T) {
	virtual(t, func(t *testing.T, h *host) {
		a, files, _ := serving(t, h)
		h.set(func() {
			h.onDo["web/start/process"] = func(context.Context) error {
				return reconcile.HostFault(errors.New("no such user web"), "Make it.")
			}
		})
		files["prod/web.hcl"] = declared("web", "2", two)
		agree(t, files, "web", "alice@acme", "bob@acme")
		h.commit(files)
		pass(t, a)
		elapse(time.Hour)
		m := h.Memory()
		if o := m.Service("web").Open; o == nil || !o.Committed {
			t.Fatalf("it is not stuck: %+v", o)
		}
		files["prod/web.hcl"] = declared("web", "3", two)
		h.commit(files)
		pass(t, a)
		elapse(time.Hour)
		m = h.Memory()
		if o := m.Service("web").Open; o == nil || o.Target.Release.Version != "2" || m.Service("web").Halt != nil {
			t.Fatalf("it gave way: %+v", o)
		}
		if s := row(t, a, "web"); !s.Unapproved || s.State != reconcile.Progressing {
			t.Fatalf("%+v", s)
		}
		h.set(func() { delete(h.onDo, "web/start/process") })
		pass(t, a)
		elapse(time.Hour)
		is(t, a, "web", reconcile.Waiting, "2") // it is tried on, until its end
		agree(t, files, "web", "alice@acme", "bob@acme")
		h.commit(files)
		pass(t, a)
		elapse(time.Hour)
		is(t, a, "web", reconcile.Converged, "3")
	})
}

// What counts now does not for ever: a look is due when the first of those who
// are counted is counted no longer, and when what is newest is old.
func TestConsentThatEndsIsLookedAtAgain(t *testing.T) {
	frozen := "freeze \"x\" {\n  services = [\"web\"]\n}\n"
	for name, set := range map[string]func(t *testing.T, files map[string]string, o *Options) string{
		"an approval expires": func(t *testing.T, files map[string]string, _ *Options) string {
			files["prod/web.hcl"] = declared("web", "2", two)
			s := subject(t, files, "web")
			statement(t, files, "alice@acme", trust.Statement{Kind: trust.Approval, Subject: s})
			statement(t, files, "bob@acme", trust.Statement{Kind: trust.Approval, Subject: s, Expires: time.Now().Add(5 * time.Hour)})
			return "approval"
		},
		"freshness ends": func(t *testing.T, files map[string]string, o *Options) string {
			files["prod/web.hcl"] = declared("web", "2", "")
			o.Trust.Policy.Freshness = 5 * time.Hour
			return "freshness"
		},
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(t *testing.T, h *host) {
				o, _ := h.trusting()
				files := map[string]string{"prod/web.hcl": declared("web", "1", "")}
				h.commit(files)
				h.commit(files)
				h.mark = strings.Replace(h.head, "2", "1", 1) // the first is taken on trust, and is no news
				gate := set(t, files, &o)
				files["freeze.hcl"] = frozen
				a := h.run(o)
				pass(t, a)
				is(t, a, "web", reconcile.Converged, "1")
				h.commit(files)
				pass(t, a)
				if s := row(t, a, "web"); s.Gate != "freeze" || s.Unapproved {
					t.Fatalf("%+v", s)
				}
				elapse(5*time.Hour + time.Minute) // and nobody wakes it
				if s := row(t, a, "web"); s.Gate != gate {
					t.Fatalf("gate %q: %s", s.Gate, s.Reason)
				}
			})
		})
	}
}

// The last word that is missing is heard on the wake that brings it.
func TestApprovalThatComesInGoesOnAtOnce(t *testing.T) {
	virtual(t, func(t *testing.T, h *host) {
		a, files, _ := serving(t, h)
		files["prod/web.hcl"] = declared("web", "2", two)
		agree(t, files, "web", "alice@acme")
		h.commit(files)
		h.wakes <- struct{}{}
		elapse(0)
		is(t, a, "web", reconcile.Waiting, "1")
		agree(t, files, "web", "carol@acme")
		h.commit(files)
		began := time.Now()
		h.wakes <- struct{}{}
		elapse(3 * time.Second) // min_healthy_time is one of them
		is(t, a, "web", reconcile.Converged, "2")
		if d := time.Since(began); d > 5*time.Second {
			t.Fatalf("it took %v", d)
		}
	})
}

// A plan says what it waits for, also where it has no steps.
func TestPlanShowsWhoIsMissing(t *testing.T) {
	for name, version := range map[string]string{"another release": "2", "a lowered rule": "1"} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(t *testing.T, h *host) {
				a, files, _ := serving(t, h)
				files["prod/web.hcl"] = declared("web", version, one)
				h.commit(files)
				rep, err := a.Plan(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				s := rep.Services[0]
				if s.Gate != "approval" || len(s.Missing) != 3 || s.State == reconcile.Converged || !strings.Contains(s.GateReason, "drydock approve web") {
					t.Fatalf("%+v", s)
				}
			})
		})
	}
}

// What lacks consent is said so behind whatever other gate; all waits is no failure.
func TestUnapprovedIsSaidBehindAnotherGate(t *testing.T) {
	virtual(t, func(t *testing.T, h *host) {
		o, _ := h.trusting()
		h.commit(map[string]string{"prod/web.hcl": strings.Replace(declared("web", "1", two), "https://artifacts.acme.example", "oci://artifacts.acme.example", 1)})
		a := New(o)
		pass(t, a)
		if s := row(t, a, "web"); s.Gate != "driver" || !s.Unapproved {
			t.Fatalf("%+v", s)
		}
		if code := a.Status(t.Context()).ExitCode(); code != 3 {
			t.Fatalf("exit code %d", code)
		}
	})
}

// An override is loud: in the log, and on the service that it helps.
func TestOverrideIsLoud(t *testing.T) {
	virtual(t, func(t *testing.T, h *host) {
		before, files, o := serving(t, h)
		elapse(day)
		files["prod/web.hcl"] = declared("web", "2", two)
		s := subject(t, files, "web")
		for _, who := range []string{"alice@acme", "bob@acme"} {
			statement(t, files, who, trust.Statement{Kind: trust.Approval, Subject: s, Expires: time.Now().Add(-time.Hour)})
		}
		h.commit(files)
		pass(t, before)
		is(t, before, "web", reconcile.Waiting, "1")
		until := time.Now().Add(2 * time.Hour).UTC().Truncate(time.Second)
		files["prod/night.hcl"] = "override \"nobody answers\" {\n  skip = [\"approval-expiry\"]\n  until = \"" + until.Format(time.RFC3339) + "\"\n}\n"
		h.commit(files)
		var log bytes.Buffer
		o.Log = slog.New(slog.NewTextHandler(&log, nil))
		a := New(o)
		pass(t, a)
		is(t, a, "web", reconcile.Converged, "2")
		if r := row(t, a, "web").Reason; !strings.Contains(r, "nobody answers (prod/night.hcl:1") {
			t.Fatalf("status says %q", r)
		}
		if !strings.Contains(log.String(), `msg="an override is in force" why="nobody answers"`) || !strings.Contains(log.String(), "origin=prod/night.hcl:1") {
			t.Fatalf("the log says\n%s", log.String())
		}
		if all := a.Status(t.Context()).Overrides; len(all) != 1 || all[0].Reason != "nobody answers" {
			t.Fatalf("status says %+v", all)
		}
		elapse(3 * time.Hour)
		if all := a.Status(t.Context()).Overrides; len(all) != 0 {
			t.Fatalf("it is over, and status says %+v", all)
		}
		if r := row(t, a, "web").Reason; r != "" {
			t.Fatalf("it is over, and status says %q", r)
		}
	})
}

// Nobody agrees alone to what they made: neither to a change of the declaration
// that they signed, nor to changes of the service that a release carries.
func TestNobodyAgreesAloneToWhatTheyMade(t *testing.T) {
	bump := "web 1 -> 2 (prod)\n\nDrydock-Release: prod/web 1 2 -\nDrydock-Change: web abc 2026-11-20T10:00:00Z bob@acme - mend it\n"
	for name, c := range map[string]struct {
		by, message string
		text        string
		alone       string // who may not
		other       string // who may
	}{
		"a change of the declaration": {"alice@acme", "", strings.Replace(declared("web", "1", one), "127.0.0.1:80", "127.0.0.1:81", 1), "alice@acme", "bob@acme"},
		"the changes of a release":    {"ci@acme", bump, declared("web", "2", one), "bob@acme", "alice@acme"},
		"a release moved by hand":     {"carol@acme", "", declared("web", "2", one), "carol@acme", "alice@acme"},
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(t *testing.T, h *host) {
				o, _ := h.trusting()
				notes := o.Trust.History.(annals)
				commit := func(files map[string]string, by, message string) {
					at := h.commit(files)
					notes.by[at], notes.message[at] = by, message
				}
				files := map[string]string{"prod/web.hcl": declared("web", "1", one)}
				agree(t, files, "web", "carol@acme")
				commit(files, "alice@acme", "")
				a := h.run(o)
				pass(t, a)
				is(t, a, "web", reconcile.Converged, "1")
				files["prod/web.hcl"] = c.text
				commit(files, c.by, c.message)
				agree(t, files, "web", c.alone)
				commit(files, c.alone, "")
				did := len(h.steps())
				pass(t, a)
				waits(t, a, h, "web", "1", did)
				s := row(t, a, "web")
				if !strings.Contains(s.Reason, c.alone+" made it, and nobody approves alone what they made") || slices.Contains(s.Missing, c.alone) {
					t.Fatalf("%+v", s)
				}
				agree(t, files, "web", c.other)
				commit(files, c.other, "")
				pass(t, a)
				if s := row(t, a, "web"); s.State != reconcile.Converged {
					t.Fatalf("%+v", s)
				}
			})
		})
	}
}

// What waits for people while the source is asked hears of what came in all the
// same: the answer that it parked by was an older one.
func TestApprovalHeardWhileTheSourceWasAsked(t *testing.T) {
	virtual(t, func(t *testing.T, h *host) {
		a, files, o := serving(t, h)
		files["prod/web.hcl"] = declared("web", "2", two)
		agree(t, files, "web", "alice@acme")
		h.commit(files)
		pass(t, a)
		is(t, a, "web", reconcile.Waiting, "1")
		l := &loop{Agent: New(o), ctx: t.Context(), life: t.Context(), forever: true, timer: time.NewTimer(time.Hour)}
		agree(t, files, "web", "bob@acme")
		h.commit(files)
		r := l.resolver.follow(t.Context())
		l.service("web").parked = true // by a look between the question and the answer
		l.resolved(r)
		select {
		case <-l.finished:
		case <-time.After(time.Minute):
		}
		if m := h.Memory(); m.Service("web").Running.Service.Release.Version != "2" {
			t.Fatal("it waits for what is there")
		}
	})
}

// Before any commit could be read nobody has agreed to anything.
func TestNothingReadIsNoConsent(t *testing.T) {
	virtual(t, func(t *testing.T, h *host) {
		o, _ := h.trusting()
		w, _ := wanted(t, map[string]string{"prod/web.hcl": declared("web", "1", two)})
		a := New(o)
		a.want = w
		p := reconcile.ServicePlan{Service: "web", Purpose: reconcile.Deploy, Target: w.Services[0]}
		if g := reconcile.TrustGate(p, a.surroundings()); g.Name != "approval" || !strings.Contains(g.Reason, "no commit could be read yet") {
			t.Fatalf("%+v", g)
		}
	})
}
