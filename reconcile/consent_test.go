package reconcile

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"drydock/spec"
)

// nobody agrees to anything that begins newly; until is when to ask again.
type nobody struct{ until time.Time }

func (n nobody) Gate(p ServicePlan, _ Surroundings) Gate {
	if p.Purpose == Mend && !p.Adopts || p.Purpose == Revert {
		return Gate{}
	}
	return Gate{Name: "approval", Reason: "nobody agreed", Missing: []string{"alice"}, Until: n.until}
}

// agreed is the consent that ends at a time.
type agreed struct{ until time.Time }

func (a agreed) Gate(ServicePlan, Surroundings) Gate { return Gate{Until: a.until} }

// Without consent nothing is remembered that would follow from a plan: neither
// another declaration, nor that a plan or a halt was given up; but a new name is.
func TestNothingIsRememberedWithoutConsent(t *testing.T) {
	lowered := func(s spec.Service) spec.Service {
		s.Approval, s.SpecHash = nil, "lowered"
		return s
	}
	for name, row := range map[string]struct {
		set  func(t *testing.T, w *world)
		says string // records that are written all the same
	}{
		"a declaration from which no step follows": {func(t *testing.T, w *world) { w.wants(lowered(declared("web", "2"))) }, ""},
		"a plan that gives way": {func(t *testing.T, w *world) {
			w.wants(declared("web", "3"))
			w.faults["web/start/process"] = []error{errHost, errHost, errHost}
			w.pass(w.engine())
			w.wants(declared("web", "4"))
		}, ""},
		"what is found": {func(t *testing.T, w *world) { w.memory = NewMemory() }, ""},
		"another name": {func(t *testing.T, w *world) {
			w.wants(lowered(declared("site", "2")))
			w.want.Moved = []spec.Moved{{From: "web", To: "site"}}
		}, "renamed site"},
		"another release": {func(t *testing.T, w *world) { w.wants(declared("web", "3")) }, ""},
		"a removal": {func(t *testing.T, w *world) {
			w.wants()
			w.want.Removed = []spec.Removed{{Name: "web"}}
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.wants(declared("web", "2"))
				w.converge()
				row.set(t, w)
				w.consent = nobody{time.Now().Add(time.Hour)}
				before := w.Memory()
				from := len(w.records)
				plan, outs := w.pass(w.engine())
				if got := strings.Join(w.journal[from:], ", "); got != row.says {
					t.Fatalf("it wrote down %q, want %q", got, row.says)
				}
				i := slices.IndexFunc(outs, func(o Outcome) bool { return !o.Gate.Open() })
				if i < 0 || outs[i].Gate.Name != "approval" || !outs[i].Retry.Equal(time.Now().Add(time.Hour)) {
					t.Fatalf("%+v", outs)
				}
				m := w.Memory()
				st := Status(plan.Services[i], m.Service(outs[i].Service), w.want, Live{Stage: outs[i].Stage, Gate: outs[i].Gate})
				if before.Service("web").committed() {
					return // that is in hand
				}
				if st.State != Waiting || st.Gate != "approval" || !slices.Equal(st.Missing, []string{"alice"}) {
					t.Fatalf("%+v", st)
				}
				w.consent = nil
				w.converge()
			})
		})
	}
}

// A look is due when consent ends, whatever else is waited for.
func TestWaitingLooksAgainWhenConsentEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, set := range map[string]func(w *world){
			"a freeze for good": func(w *world) { w.want.Freezes = []spec.Freeze{{Reason: "x"}} },
			"a freeze":          func(w *world) { w.want.Freezes = []spec.Freeze{{Reason: "x", Until: time.Now().Add(24 * time.Hour)}} },
			"a slot": func(w *world) {
				for _, s := range []string{"a", "b"} {
					if _, g, err := w.slots.Take(t.Context(), s, false); err != nil || !g.Open() {
						t.Fatal(g, err)
					}
				}
			},
		} {
			w := newWorld(t)
			w.wants(declared("web", "2"))
			w.converge()
			w.wants(declared("web", "3"))
			set(w)
			w.consent = agreed{time.Now().Add(time.Hour)}
			_, outs := w.pass(w.engine())
			if o := outs[0]; o.Gate.Open() || !o.Retry.Equal(time.Now().Add(time.Hour)) {
				t.Errorf("%s: %+v", name, o)
			}
		}
	})
}

func TestSooner(t *testing.T) {
	a, b := time.Unix(1, 0), time.Unix(2, 0)
	for _, row := range [][3]time.Time{{a, b, a}, {b, a, a}, {{}, a, a}, {a, {}, a}, {{}, {}, {}}} {
		if got := sooner(row[0], row[1]); !got.Equal(row[2]) {
			t.Errorf("sooner(%v, %v) is %v", row[0], row[1], got)
		}
	}
}

// What people's word was on while a release was fetched counts no longer where
// the word ended meanwhile.
func TestConsentIsAskedAgainAfterTheFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.wants(declared("web", "2"))
		w.converge()
		w.wants(declared("web", "3"))
		w.consent = agreed{}
		w.onDo["web/fetch/archive"] = func() { w.consent = nobody{} }
		from := len(w.records)
		_, outs := w.pass(w.engine())
		if outs[0].Gate.Name != "approval" || !strings.HasSuffix(w.state(), "runs 2") {
			t.Fatalf("%+v, %s", outs[0], w.state())
		}
		for _, r := range w.records[from:] {
			if r.Commits {
				t.Fatalf("%s, and nobody agrees any more", say(r))
			}
		}
	})
}
