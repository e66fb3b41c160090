package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"drydock/spec"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// scenario is one story on one host: version 1 runs, then version 2 is wanted.
type scenario struct {
	name   string
	first  bool // nothing runs before
	edit   []func(*spec.Service)
	before func(w *world) // set up after version 1 runs
	state  string         // at the end
	or     string         // or this, where a kill swallows a failure that does not come again
	has    []string       // records that must be in the journal, in order
	hasNot []string
	check  func(t *testing.T, w *world)
}

var (
	errHost    = HostFault(errors.New("no space left on device"), "Make room.")
	errRelease = ReleaseFault(errors.New("exit status 1"), "")
	errPasses  = errors.New("connection reset")
)

func failing(id string, errs ...error) func(*world) {
	return func(w *world) { w.faults[id] = errs }
}

func scenarios() []scenario {
	return []scenario{
		{name: "deploy", state: "web converged runs 2",
			has: []string{"planned", "done web/fetch", "begun web/drain", "done web/install", "done web/start", "done web/check", "done web/undrain", "closed"}},
		{name: "first install", first: true, state: "web converged runs 2", hasNot: []string{"begun web/drain"}},
		{name: "transient, then well", before: failing("web/install/archive", errPasses, errPasses), state: "web converged runs 2"},
		{name: "transient three times", before: failing("web/install/archive", errPasses, errPasses, errPasses),
			state: "web reverted runs 1", or: "web converged runs 2", has: []string{"quarantined", "planned", "closed"}},
		{name: "host, for long", before: failing("web/start/process", errHost, errHost, errHost, errHost, errHost, errHost),
			state: "web converged runs 2", hasNot: []string{"quarantined"}},
		{name: "the host's faults are not the release's tries", before: failing("web/start/process", errHost, errHost, errHost, errPasses),
			state: "web converged runs 2", hasNot: []string{"quarantined"}},
		{name: "fetch fails no release", before: failing("web/fetch/archive", errRelease, errRelease, errRelease, errRelease),
			state: "web converged runs 2", hasNot: []string{"quarantined"}},
		{name: "start fails", before: func(w *world) { w.always["web/start/process"] = errRelease; w.faults["web/start/process"] = nil },
			state: "web halted drained", has: []string{"quarantined", "halted"},
			check: func(t *testing.T, w *world) { w.hasReason(t, "out of rotation") }},
		{name: "check fails", before: func(w *world) { w.bad["2"] = true }, state: "web reverted runs 1", has: []string{"failed web/check", "quarantined", "planned", "done web/check", "done web/undrain"}},
		{name: "process dies in check", before: func(w *world) { w.mortal["2"] = true }, state: "web reverted runs 1"},
		{name: "check flaps", before: func(w *world) { w.flaps["2"] = true }, state: "web reverted runs 1"},
		{name: "no auto_revert", edit: []func(*spec.Service){noRevert}, before: func(w *world) { w.bad["2"] = true }, state: "web halted runs 2 drained", hasNot: []string{"quarantined"},
			check: func(t *testing.T, w *world) {
				w.hasReason(t, "The release before it is not put back, because auto_revert is off.")
				w.running(t, "2")
			}},
		{name: "incompatible migration crossed", edit: []func(*spec.Service){migrating(false)}, before: func(w *world) { w.bad["2"] = true },
			state: "web halted runs 2 drained", hasNot: []string{"quarantined"},
			check: func(t *testing.T, w *world) {
				w.hasReason(t, "The release before it is not put back: it may not run on what migrate/sql of 2 ")
				w.running(t, "2")
				delete(w.Running, "web")
				w.running(t, "")
			}},
		{name: "compatible migration crossed", edit: []func(*spec.Service){migrating(true)}, before: func(w *world) { w.bad["2"] = true }, state: "web reverted runs 1"},
		{name: "unknown migration", edit: []func(*spec.Service){migrating(true)},
			before: func(w *world) { w.prove = false; w.faults["web/migrate/sql"] = []error{errHost} },
			state:  "web halted runs 1 drained", check: func(t *testing.T, w *world) { w.startedOnce(t, "web2"); w.running(t, "1") }},
		{name: "migration proven not applied", edit: []func(*spec.Service){migrating(true)}, before: failing("web/migrate/sql", errHost),
			state: "web converged runs 2"},
		{name: "migration fails", edit: []func(*spec.Service){migrating(false)}, before: failing("web/migrate/sql", errPasses),
			state: "web halted runs 1 drained", or: "web converged runs 2", check: func(t *testing.T, w *world) { w.startedOnce(t, "web2") }},
		{name: "incompatible migration that changed nothing", edit: []func(*spec.Service){migrating(false)},
			before: func(w *world) {
				w.always["web/migrate/sql"] = ReleaseFault(fmt.Errorf("syntax error: %w", ErrUntouched), "")
			},
			// Cut off in the middle, nobody knows what its first try did.
			state: "web reverted runs 1", or: "web halted runs 1 drained", has: []string{"failed web/migrate"}},
		{name: "first install fails", first: true, before: func(w *world) { w.bad["2"] = true }, state: "web halted", hasNot: []string{"quarantined"},
			check: func(t *testing.T, w *world) {
				if at := w.Running["web"]; at != "" {
					t.Errorf("a first install that failed is left running: %s", at)
				}
			}},
		{name: "revert whose own check fails", before: func(w *world) { w.bad["2"] = true; w.bad["1"] = true }, state: "web halted runs 1 drained",
			has: []string{"quarantined", "halted"}},
		{name: "revert waits for the host", before: func(w *world) {
			w.bad["2"] = true
			w.onDo["web/start/process"] = func() {
				if w.Memory().Services["web"].Open.Purpose == Revert && w.faults["web/start/process"] == nil {
					w.faults["web/start/process"] = []error{errHost, errHost, errHost, errHost}
				}
			}
		}, state: "web reverted runs 1"},
		{name: "no driver", edit: []func(*spec.Service){func(s *spec.Service) { s.Drains = []spec.Block{block("drain", "unbuilt")} }}, first: true,
			before: func(w *world) {}, state: "web progressing runs 2"},
		{name: "hook before the migration fails", edit: []func(*spec.Service){migrating(false), hooked("backup", "before", "migrate")},
			before: failing("web/run/backup", errRelease), state: "web reverted runs 1", or: "web converged runs 2", hasNot: []string{"begun web/migrate"}},
		{name: "hook before the drain fails once", edit: []func(*spec.Service){hooked("warn", "before", "drain")},
			before: failing("web/run/warn", errRelease, errRelease, errRelease), state: "web converged runs 2", hasNot: []string{"quarantined"}},
		{name: "hooks run in their places", edit: []func(*spec.Service){hooked("a", "after", "start"), hooked("z", "after", "undrain"), hooked("p", "before", "fetch")},
			state: "web converged runs 2", has: []string{"done web/run/p", "done web/fetch", "done web/start", "done web/run/a", "done web/check", "done web/undrain", "done web/run/z"}},
		{name: "checks side by side", edit: []func(*spec.Service){func(s *spec.Service) {
			s.Checks = append(s.Checks, block("check", "http.two", "url", "x"), block("check", "tcp", "address", "x"))
		}}, state: "web converged runs 2"},
		{name: "no check block", edit: []func(*spec.Service){func(s *spec.Service) { s.Checks = nil }}, state: "web converged runs 2"},
		{name: "no check block, and it dies", edit: []func(*spec.Service){func(s *spec.Service) { s.Checks = nil }}, before: func(w *world) { w.mortal["2"] = true },
			state: "web reverted runs 1"},
		{name: "taken over", first: true, before: func(w *world) { w.Installed["web"], w.Running["web"] = "/srv/old/7", "/srv/old/7" }, state: "web converged runs 2"},
		{name: "taken over, fails, goes back", first: true, before: func(w *world) {
			w.Installed["web"], w.Running["web"] = "/srv/old/7", "/srv/old/7"
			w.bad["2"] = true
		}, state: "web reverted runs /srv/old/7", check: func(t *testing.T, w *world) {
			if w.Installed["web"] != "/srv/old/7" {
				t.Errorf("current is %s", w.Installed["web"])
			}
		}},
		{name: "held by a person", before: func(w *world) { w.tell(Record{Kind: Held, Service: "web"}) }, state: "web converged runs 2 drained"},
		{name: "a step that hangs", before: func(w *world) { w.hang["web/start/process"] = true; w.limit(3, "web/start/process") },
			state: "web reverted runs 1"},
	}
}

// limit lets a step hang so often and no more.
func (w *world) limit(n int, id string) {
	before := w.refuse
	w.refuse = func(r Record) error {
		if r.Kind == Failed && r.Step == id {
			if n--; n == 0 {
				delete(w.hang, id)
			}
		}
		if before != nil {
			return before(r)
		}
		return nil
	}
}

func (w *world) tell(r Record) {
	if _, err := w.Append(context.Background(), r); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) hasReason(t *testing.T, part string) {
	t.Helper()
	p := DiffOne("web", w.want, w.observe())
	if !strings.Contains(p.Reason, part) {
		t.Errorf("reason %q does not say %q", p.Reason, part)
	}
}

// running is the version that status says runs; "" if none.
func (w *world) running(t *testing.T, want string) {
	t.Helper()
	m := w.Memory()
	got := ""
	if s := Status(DiffOne("web", w.want, w.observe()), m.Service("web"), w.want, Live{}); s.Running != nil {
		got = s.Running.Version
	}
	if got != want {
		t.Errorf("status says that %q runs, expected %q", got, want)
	}
}

func (w *world) startedOnce(t *testing.T, key string) {
	t.Helper()
	if n := w.Started[key]; n > 1 && !w.swallowed {
		t.Errorf("the migration of %s was started %d times", key, n)
	}
}

// setUp brings the host to where the story begins.
func (sc scenario) setUp(t testing.TB) *world {
	w := newWorld(t)
	if !sc.first {
		w.wants(declared("web", "1", sc.edit...))
		w.converge()
	}
	w.wants(declared("web", "2", sc.edit...))
	if sc.before != nil {
		sc.before(w)
	}
	w.acts = nil
	return w
}

func TestScenarios(t *testing.T) {
	for _, sc := range scenarios() {
		t.Run(sc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := sc.setUp(t)
				from := len(w.records)
				if sc.name == "no driver" {
					e := w.engine()
					_, outs := w.pass(e)
					if outs[0].Err == nil || outs[0].Retry.IsZero() {
						t.Errorf("outcome %+v", outs[0])
					}
					return
				}
				w.converge()
				if got := w.state(); got != sc.state {
					t.Errorf("state %q, expected %q\n%s", got, sc.state, w.since(from))
				}
				inOrder(t, w.journal[from:], sc.has)
				for _, not := range sc.hasNot {
					for _, line := range w.journal[from:] {
						if strings.HasPrefix(line, not) {
							t.Errorf("the journal has %q", line)
						}
					}
				}
				if sc.check != nil {
					sc.check(t, w)
				}
			})
		})
	}
}

func inOrder(t *testing.T, lines, want []string) {
	t.Helper()
	i := 0
	for _, l := range lines {
		if i < len(want) && strings.HasPrefix(l, want[i]) {
			i++
		}
	}
	if i < len(want) {
		t.Errorf("the journal lacks %q:\n%s", want[i:], strings.Join(lines, "\n"))
	}
}

// TestCrashMatrix kills the agent at each record of each story, after it and
// before it, and starts it again on the same journal.
func TestCrashMatrix(t *testing.T) {
	for _, sc := range scenarios() {
		if sc.name == "no driver" || strings.Contains(sc.name, "hangs") {
			continue
		}
		t.Run(sc.name, func(t *testing.T) {
			for k := 1; k < 80; k++ {
				past := false
				for _, before := range []bool{false, true} {
					synctest.Test(t, func(t *testing.T) {
						w := sc.setUp(t)
						from := len(w.records)
						w.killAt, w.before = from+k, before
						w.converge()
						past = past || len(w.records) < from+k
						state := w.state()
						if state != sc.state && (sc.or == "" || state != sc.or) {
							t.Errorf("killed at %d (before: %v): %q, expected %q\n%s", k, before, state, sc.state, w.since(from))
						}
						for key, n := range w.Started {
							if n > 1 && !w.prove {
								t.Errorf("killed at %d (before: %v): migration of %s started %d times", k, before, key, n)
							}
						}
						if sc.check != nil && !strings.Contains(sc.name, "hook") {
							sc.check(t, w)
						}
						w.explained(t)
					})
				}
				if past {
					return
				}
			}
		})
	}
}

// explained holds every place that is out of rotation to a record that says why.
func (w *world) explained(t *testing.T) {
	t.Helper()
	m := w.Memory()
	for place, in := range w.Rotation {
		name, key, _ := strings.Cut(place, " ")
		if _, ours := m.Service(name).Drains[key]; !in && !ours {
			t.Errorf("%s is out of rotation, and no record says why", place)
		}
	}
}

func TestSupersededWhilePreparing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := scenario{}.setUp(t)
		life := t.Context()
		until, supersede := context.WithCancel(life)
		w.hang["web/fetch/archive"] = true
		done := make(chan Outcome)
		p := DiffOne("web", w.want, w.observe())
		go func() { done <- w.engine().Carry(life, until, p) }()
		synctest.Wait()
		supersede()
		out := <-done
		if out.Stage != Resting || out.Err != nil {
			t.Errorf("outcome %+v", out)
		}
		if m := w.Memory(); m.Service("web").committed() {
			t.Error("it was committed")
		}
		// The plan that was let go of leaves nothing behind once it is not wanted.
		w.hang = nil
		w.wants(declared("web", "1"))
		w.converge()
		if m := w.Memory(); m.Service("web").Open != nil || w.state() != "web converged runs 1" {
			t.Errorf("left open: %s %+v", w.state(), m.Service("web").Open)
		}
	})
}

func TestNeverSupersededAfterCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := scenario{}.setUp(t)
		life := t.Context()
		until, supersede := context.WithCancel(life)
		w.onDo["web/install/archive"] = supersede
		out := w.engine().Carry(life, until, DiffOne("web", w.want, w.observe()))
		if out.Err != nil || w.state() != "web converged runs 2" {
			t.Errorf("%s, outcome %+v", w.state(), out)
		}
	})
}

func TestCommittedPlanIsFinishedBeforeANewerOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := scenario{}.setUp(t)
		life, end := context.WithCancel(t.Context())
		w.onDo["web/start/process"] = end // the agent is stopped in the middle
		w.engine().Carry(life, life, DiffOne("web", w.want, w.observe()))
		clear(w.onDo)
		w.wants(declared("web", "3"))
		from := len(w.records)
		p := DiffOne("web", w.want, w.observe())
		if !p.Resume || p.Target.Release.Version != "2" {
			t.Fatalf("plan %+v", p)
		}
		w.converge()
		if w.state() != "web converged runs 3" {
			t.Error(w.state())
		}
		inOrder(t, w.journal[from:], []string{"done web/undrain", "closed web", "planned web", "closed web"})
	})
}

// TestStuckPlanGivesWay: a plan that is out of service and lacks something on
// the host, a user or a file that its declaration names, must not hold up the
// commit that mends the declaration, nor the one that goes back.
func TestStuckPlanGivesWay(t *testing.T) {
	for _, version := range []string{"3", "1"} {
		t.Run(version, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := scenario{}.setUp(t)
				w.faults["web/start/process"] = []error{errHost, errHost, errHost}
				w.pass(w.engine())
				if p := DiffOne("web", w.want, w.observe()); !p.Resume {
					t.Fatalf("while nothing newer is wanted it goes on: %+v", p)
				}
				w.wants(declared("web", version))
				from := len(w.records)
				w.converge()
				if w.state() != "web converged runs "+version {
					t.Error(w.state())
				}
				inOrder(t, w.journal[from:], []string{"halted web", "planned web", "closed web"})
			})
		})
	}
}

// TestStuckRevertGivesWay: neither must a revert whose release the host cannot
// bring back any more.
func TestStuckRevertGivesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := scenario{}.setUp(t)
		w.faults["web/start/process"] = []error{errRelease, errHost, errHost, errHost}
		w.pass(w.engine())
		m := w.Memory()
		if o := m.Service("web").Open; o == nil || o.Purpose != Revert {
			t.Fatalf("no revert is on its way: %+v", o)
		}
		if p := DiffOne("web", w.want, w.observe()); !p.Resume {
			t.Fatalf("while nothing newer is wanted it goes on: %+v", p)
		}
		w.wants(declared("web", "3"))
		from := len(w.records)
		w.converge()
		if w.state() != "web converged runs 3" {
			t.Error(w.state())
		}
		inOrder(t, w.journal[from:], []string{"halted web", "planned web", "closed web"})
	})
}

// TestRepairGoesOn: what ran well once is started again for as long as it
// takes, however often that fails.
func TestRepairGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := scenario{}.setUp(t)
		w.converge()
		w.faults["web/start/process"] = slices.Repeat([]error{errRelease}, 20)
		clear(w.Running)
		w.converge()
		if w.state() != "web converged runs 2" {
			t.Error(w.state())
		}
	})
}

func TestEndOfLifeBeginsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := scenario{edit: []func(*spec.Service){migrating(false)}}.setUp(t)
		life, end := context.WithCancel(t.Context())
		w.onDo["web/install/archive"] = func() {}
		w.onDo["web/install/archive"] = end // the step in hand fails; nothing else is begun
		w.engine().Carry(life, life, DiffOne("web", w.want, w.observe()))
		if w.Started["web2"] != 0 || strings.Contains(w.since(0), "begun web/migrate/sql\nfailed") {
			t.Error(w.since(0))
		}
		w.onDo = map[string]func(){}
		w.prove = false
		w.converge()
		if w.state() != "web converged runs 2" {
			t.Error(w.state())
		}
	})
}

func TestEndOfLifeAfterAStepBeginsNoMigration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := scenario{edit: []func(*spec.Service){migrating(false)}}.setUp(t)
		life, end := context.WithCancel(t.Context())
		w.refuse = func(r Record) error {
			if r.Kind == Done && r.Step == "web/install/archive" {
				end()
			}
			return nil
		}
		w.engine().Carry(life, life, DiffOne("web", w.want, w.observe()))
		if strings.Contains(w.since(0), "begun web/migrate/sql\n") && strings.Count(w.since(0), "begun web/migrate/sql") > 1 {
			t.Errorf("a migration was begun although the agent ends:\n%s", w.since(0))
		}
		if n := w.Memory().Services["web"].Open.Progress["web/migrate/sql"].Tries; n != 0 {
			t.Errorf("begun %d times", n)
		}
	})
}

func TestJournalThatRefuses(t *testing.T) {
	for _, kind := range []Kind{Planned, Begun, Done, Closed, Quarantined, Stopped} {
		t.Run(string(kind), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := scenario{}.setUp(t)
				w.bad["2"] = kind == Quarantined || kind == Stopped
				w.bad["1"] = kind == Stopped
				w.refuse = func(r Record) error {
					if r.Kind == kind {
						return errors.New("read-only file system")
					}
					return nil
				}
				_, outs := w.pass(w.engine())
				if out := outs[0]; out.Err == nil || out.Retry.IsZero() || !strings.Contains(out.Err.Error(), "make room") {
					t.Errorf("outcome %+v", out)
				}
				if kind == Planned || kind == Begun {
					if len(w.acts) > 0 {
						t.Errorf("acted without a record: %v", w.acts)
					}
				}
				w.refuse = nil
				w.converge()
				want := map[bool]string{false: "web converged runs 2", true: "web reverted runs 1"}[w.bad["2"]]
				if kind == Stopped {
					want = "web halted runs 1 drained"
				}
				if got := w.state(); got != want {
					t.Errorf("%s, expected %s\n%s", got, want, w.since(0))
				}
			})
		})
	}
}

func TestSideBySide(t *testing.T) {
	for _, bad := range []bool{false, true} {
		t.Run(fmt.Sprintf("one bad %v", bad), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				var one, two []spec.Service
				for i := range 6 {
					n := fmt.Sprintf("s%d", i)
					two = append(two, declared(n, "2", func(s *spec.Service) {
						s.Checks = append(s.Checks, block("check", "tcp", "address", "x"))
					}))
					one = append(one, declared(n, "1"))
				}
				w.wants(one...)
				w.converge()
				w.wants(two...)
				if bad {
					w.always["s3/start/process"] = errHost
				}
				e := w.engine()
				for range 20 {
					w.pass(e)
					time.Sleep(5 * time.Minute)
				}
				if w.most != 2 && !bad {
					t.Errorf("%d services were out of rotation at once, 2 may be", w.most)
				}
				for _, p := range Diff(w.want, w.observe()).Services {
					if (bad && p.Service == "s3") == p.Empty() {
						t.Errorf("%s: %s", p.Service, w.state())
					}
				}
			})
		})
	}
}

func TestSlotsOfAHost(t *testing.T) {
	h := NewHostSlots(1)
	release, g, err := h.Take(t.Context(), "a", false)
	if err != nil || !g.Open() {
		t.Fatal(g, err)
	}
	if _, g, _ := h.Take(t.Context(), "b", false); g.Name != "slot" || cmp.Diff(g.Missing, []string{"a"}) != "" {
		t.Errorf("gate %+v", g)
	}
	forced, g, _ := h.Take(t.Context(), "b", true)
	if !g.Open() {
		t.Error("a plan that was committed must be finished")
	}
	release()
	release() // once is enough
	if _, g, _ := h.Take(t.Context(), "c", false); g.Open() {
		t.Error("b is still out")
	}
	forced()
	if _, g, _ := h.Take(t.Context(), "c", false); !g.Open() {
		t.Errorf("gate %+v", g)
	}
}

func TestHaltedWhileDrainedGetsANewRevision(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := scenario{edit: []func(*spec.Service){noRevert}}.setUp(t)
		w.bad["2"] = true
		w.converge()
		if w.state() != "web halted runs 2 drained" {
			t.Fatal(w.state())
		}
		// It stays so, and is put out again if something puts it in.
		for place := range w.Rotation {
			w.Rotation[place] = true
		}
		w.converge()
		if w.state() != "web halted runs 2 drained" {
			t.Fatal(w.state())
		}
		// Only a check differs from what ran before; but what stands there is what halted.
		w.wants(declared("web", "1", noRevert, func(s *spec.Service) { s.Checks[0] = block("check", "http", "url", "http://127.0.0.1/other") }))
		from := len(w.acts)
		w.converge()
		if w.state() != "web converged runs 1" || !strings.Contains(strings.Join(w.acts[from:], "\n"), "web/install/archive 1") {
			t.Errorf("%s\n%s", w.state(), strings.Join(w.acts[from:], "\n"))
		}
	})
}

func TestHaltIsNotLiftedByGoingAwayAndComingBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := scenario{edit: []func(*spec.Service){noRevert}}.setUp(t)
		w.bad["2"] = true
		w.converge()
		w.paused = true // 3 is wanted for a while, and its plan never begins
		w.wants(declared("web", "3", noRevert))
		w.pass(w.engine())
		w.want.Freezes = []spec.Freeze{{Reason: "fair"}}
		w.paused = false
		w.pass(w.engine())
		w.want.Freezes = nil
		w.wants(declared("web", "2", noRevert))
		w.converge()
		if w.state() != "web halted runs 2 drained" {
			t.Errorf("%s\n%s", w.state(), w.since(0))
		}
		delete(w.bad, "2")
		w.wants(declared("web", "2", noRevert, attempt(2)))
		w.converge()
		if w.state() != "web converged runs 2" {
			t.Errorf("%s\n%s", w.state(), w.since(0))
		}
	})
}

func TestQuarantineIsLiftedByAnotherAttemptOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := scenario{}.setUp(t)
		w.bad["2"] = true
		w.converge()
		for _, v := range []string{"1", "2", "3", "2"} {
			w.wants(declared("web", v))
			w.converge()
		}
		if w.state() != "web reverted runs 3" {
			t.Errorf("%s\n%s", w.state(), w.since(0))
		}
		delete(w.bad, "2")
		w.wants(declared("web", "2", attempt(2)))
		w.converge()
		if w.state() != "web converged runs 2" {
			t.Error(w.state())
		}
	})
}

func TestResumedAfterReboot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := scenario{edit: []func(*spec.Service){func(s *spec.Service) {
			s.Drains = append(s.Drains, block("drain", "http", "drain", "x"))
		}}}.setUp(t)
		for place := range w.Rotation {
			if strings.Contains(place, "drain/http") {
				w.Rotation[place] = false // a person's
			}
		}
		w.faults["web/start/process"] = []error{nil}
		w.always["web/check/http"] = nil
		w.killAt = len(w.records) + 9 // in the middle of it
		w.pass(w.engine())
		if !w.dead {
			t.Fatal("not killed")
		}
		w.dead, w.killAt, w.boot = false, 0, "boot-2"
		delete(w.Running, "web")
		for place := range w.Rotation {
			if strings.Contains(place, "drain/file") {
				w.Rotation[place] = true // drains do not survive
			}
		}
		w.slots = NewHostSlots(2)
		w.converge()
		if w.Running["web"] != "2" {
			t.Errorf("%s\n%s", w.state(), w.since(0))
		}
	})
}

func TestPersonsDrainIsNeverUndone(t *testing.T) {
	for _, bad := range []bool{false, true} {
		t.Run(fmt.Sprintf("fails %v", bad), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := scenario{edit: []func(*spec.Service){func(s *spec.Service) {
					s.Drains = append(s.Drains, block("drain", "http", "drain", "x"))
				}}}.setUp(t)
				w.bad["2"] = bad
				theirs := ""
				for place := range w.Rotation {
					if strings.Contains(place, "drain/http") {
						theirs, w.Rotation[place] = place, false
					}
				}
				w.converge()
				for place, in := range w.Rotation {
					if in == (place == theirs) {
						t.Errorf("%s in rotation: %v\n%s", place, in, w.since(0))
					}
				}
				// `hostagent undrain` puts it back.
				w.tell(Record{Kind: Released, Service: "web"})
				for _, s := range DiffOne("web", w.want, w.observe()).Steps {
					if s.Phase == Undrain && strings.Contains(theirs, s.Block.ID()) && !s.Asked {
						t.Error("the driver does not learn that a person asked for it")
					}
				}
				w.converge()
				if !w.Rotation[theirs] {
					t.Errorf("not put back: %s\n%s", w.state(), w.since(0))
				}
			})
		})
	}
}

func TestHeldWhileAPlanIsOnItsWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := scenario{}.setUp(t)
		w.onDo["web/start/process"] = func() { w.tell(Record{Kind: Held, Service: "web"}) }
		w.converge()
		if w.state() != "web converged runs 2 drained" || strings.Contains(strings.Join(w.acts, "\n"), "undrain") {
			t.Errorf("%s\n%v", w.state(), w.acts)
		}
		delete(w.onDo, "web/start/process")
		// The place moves while it is held, and is entered when the person lets go.
		w.wants(declared("web", "2", func(s *spec.Service) { s.Drains = []spec.Block{block("drain", "file", "path", "/other")} }))
		w.converge()
		w.tell(Record{Kind: Released, Service: "web"})
		w.converge()
		for place, in := range w.Rotation {
			if !in {
				t.Errorf("%s is out\n%s", place, w.since(0))
			}
		}
		if w.state() != "web converged runs 2" {
			t.Error(w.state())
		}
	})
}

func TestRemovalStopsBeforeItUninstalls(t *testing.T) {
	for k := range 12 {
		synctest.Test(t, func(t *testing.T) {
			w := scenario{edit: []func(*spec.Service){hooked("smoke", "after", "start")}}.setUp(t)
			w.converge()
			w.wants()
			if w.state() != "web orphaned runs 2" {
				t.Error(w.state())
			}
			w.want.Removed = []spec.Removed{{Name: "web"}}
			w.acts = nil
			w.killAt = len(w.records) + 1 + k
			w.onDo["web/install/archive"] = func() {
				if w.Running["web"] != "" {
					t.Error("its files go while it runs")
				}
			}
			w.converge()
			if w.Installed["web"] != "" || w.Running["web"] != "" || w.Hooks["web/run/smoke"] != 2 || len(w.memory.Services) != 0 {
				t.Errorf("%+v\n%s", w.facts, w.since(0))
			}
		})
	}
}

func TestThreeRepairsThatDoNotHoldHalt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := scenario{}.setUp(t)
		w.converge()
		for range 3 {
			w.Altered["web"] = true
			w.converge()
			if w.state() != "web converged runs 2" {
				t.Fatal(w.state())
			}
		}
		w.Altered["web"] = true
		w.converge()
		if w.state() != "web halted runs 2" {
			t.Error(w.state())
		}
		w.wants(declared("web", "2", attempt(2)))
		w.converge()
		if w.state() != "web converged runs 2" {
			t.Error(w.state())
		}
	})
}

func TestMoved(t *testing.T) {
	for k := range 20 {
		synctest.Test(t, func(t *testing.T) {
			w := scenario{}.setUp(t)
			w.killAt = len(w.records) + k
			e := w.engine()
			w.pass(e)
			w.dead, w.killAt = false, 0
			w.wants(declared("site", "2", func(s *spec.Service) { s.Drains[0] = declared("web", "2").Drains[0] }))
			w.want.Moved = []spec.Moved{{From: "web", To: "site"}}
			w.converge()
			m := w.Memory()
			if m.Services["web"] != nil || m.Service("site").Running == nil || m.Service("site").Running.Service.Name != "site" {
				t.Errorf("k=%d: %v", k, w.since(0))
			}
		})
	}
}

// TestEveryTransitionIsTaken holds the drawing to what the executor does.
func TestEveryTransitionIsTaken(t *testing.T) {
	taken := map[transition]bool{}
	run := func(sc scenario, more func(w *world, e *Engine)) {
		synctest.Test(t, func(t *testing.T) {
			w := sc.setUp(t)
			e := w.engine()
			more(w, e)
		})
	}
	carry := func(w *world, e *Engine, life, until context.Context) Outcome {
		p := DiffOne("web", w.want, w.observe())
		e.took = func(tr transition) { taken[tr] = true }
		return e.Carry(life, until, p)
	}
	passes := func(w *world, e *Engine) {
		for range 12 {
			out := carry(w, e, context.Background(), context.Background())
			if out.Retry.IsZero() {
				out.Retry = time.Now().Add(time.Second)
			}
			time.Sleep(time.Until(out.Retry))
		}
	}
	for _, sc := range scenarios() {
		if sc.name != "no driver" {
			run(sc, passes)
		}
	}
	run(scenario{}, func(w *world, e *Engine) { // superseded
		until, cancel := context.WithCancel(context.Background())
		cancel()
		carry(w, e, context.Background(), until)
	})
	run(scenario{edit: []func(*spec.Service){noRevert}}, func(w *world, e *Engine) { // a halt, then another release
		w.bad["2"] = true
		passes(w, e)
		w.wants(declared("web", "3"))
		passes(w, e)
	})
	for _, tr := range transitions {
		if !taken[tr] {
			t.Errorf("no scenario goes from %s on %s to %s", tr.from, tr.on, tr.to)
		}
	}
	if len(taken) != len(transitions) {
		t.Errorf("%d ways taken, %d drawn", len(taken), len(transitions))
	}
}

// A check that passed before the kill says nothing of what runs after it.
func TestResumedPlanChecksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := scenario{}.setUp(t)
		w.refuse = func(r Record) error {
			if r.Kind == Done && r.Step == "web/check/http" {
				w.killAt = len(w.records) + 1
			}
			return nil
		}
		w.pass(w.engine())
		if !w.dead {
			t.Fatal("not killed")
		}
		w.refuse, w.dead, w.killAt, w.slots = nil, false, 0, NewHostSlots(2)
		w.bad["2"] = true
		w.converge()
		if w.state() != "web reverted runs 1" {
			t.Errorf("%s\n%s", w.state(), w.since(0))
		}
	})
}

func TestHaltedReleaseThatComesBackMigratesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		edit := []func(*spec.Service){migrating(false)}
		w := scenario{edit: edit}.setUp(t)
		w.bad["2"] = true
		w.prove = false
		w.converge()
		for _, v := range []string{"3", "2"} {
			w.wants(declared("web", v, edit...))
			w.converge()
		}
		w.startedOnce(t, "web2")
		// What 2 did to the data was there before 3 ran on it.
		if w.Started["web2"] == 0 || w.state() != "web reverted runs 3" {
			t.Errorf("%s\n%s", w.state(), w.since(0))
		}
	})
}

// A release that comes after one that halted is not taken back across what the
// halted one did to the data.
func TestRevertCrossesNothingOfAnEarlierPlan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := scenario{edit: []func(*spec.Service){migrating(false)}}.setUp(t)
		w.bad["2"], w.bad["3"] = true, true
		w.converge()
		if w.state() != "web halted runs 2 drained" {
			t.Fatal(w.state())
		}
		w.wants(declared("web", "3")) // without a migration of its own
		w.converge()
		if w.state() != "web halted runs 3 drained" {
			t.Errorf("%s\n%s", w.state(), w.since(0))
		}
	})
}

// Going back to a release that ran here before starts none of its migrations,
// and still asks their driver whether it knows the data.
func TestRollbackAsksTheMigrations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := scenario{edit: []func(*spec.Service){migrating(false)}}.setUp(t)
		w.wants(declared("web", "1", migrating(false)))
		w.converge()
		w.wants(declared("web", "2", migrating(false)))
		w.converge()
		w.wants(declared("web", "1", migrating(false)))
		p := DiffOne("web", w.want, w.observe())
		if slices.ContainsFunc(p.Steps, func(s Step) bool { return s.Phase == Migrate }) {
			t.Fatalf("%v", p.Steps)
		}
		e := w.engine()
		e.Drivers = onlyMigrations{w}
		if g := e.HostGate(t.Context(), p); g.Name != "release" {
			t.Errorf("gate %+v", g)
		}
	})
}

// onlyMigrations refuse, and nothing else.
type onlyMigrations struct{ *world }

func (o onlyMigrations) Driver(s Step) (Driver, error) {
	if s.Block.Type == "migrate" {
		return refuses{pretend{o.world}, ReleaseFault(errors.New("the schema is newer"), "")}, nil
	}
	return o.world.Driver(s)
}

// lacksFor are faults by block ID, known before anything is out of service.
type lacksFor struct {
	*world
	faults map[string]error
}

func (l lacksFor) Driver(s Step) (Driver, error) {
	if err := l.faults[s.Block.ID()]; err != nil && s.Phase != Check {
		return refuses{pretend{l.world}, err}, nil
	}
	return l.world.Driver(s)
}

// What is missing is named once, and where there is more, so is the command
// that lists it.
func TestMoreThanOneIsMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		user, lb := HostFault(errors.New("no user web"), "Create it."), HostFault(errors.New("no socket"), "Start it.")
		for _, c := range []struct {
			faults map[string]error
			fetch  error
			gate   string
			says   string
			more   bool
		}{
			{map[string]error{"drain/file": lb}, nil, "host", "no socket", false},
			{map[string]error{"install/archive": user, "start/process": user}, nil, "host", "no user web", false},
			{map[string]error{"drain/file": lb, "start/process": user}, nil, "host", "no socket", true},
			{map[string]error{"install/archive": user}, user, "fetch", "no user web", false},
			{map[string]error{"drain/file": lb, "install/archive": user}, user, "fetch", "no user web", true},
		} {
			w := scenario{}.setUp(t)
			if c.fetch != nil {
				w.always["web/fetch/archive"] = c.fetch
			}
			e := w.engine()
			e.Drivers = lacksFor{w, c.faults}
			_, outs := w.pass(e)
			g := outs[0].Gate
			if g.Name != c.gate || !strings.Contains(g.Reason, c.says) || strings.Contains(g.Reason, "`hostagent check-host` lists all") != c.more {
				t.Errorf("%v: %+v", c.faults, g)
			}
		}
	})
}

// What does not run is out whatever anybody allows: its repair, or the release
// that comes meanwhile, waits for no slot, and its drain for no session.
func TestTheDeadWaitForNoSlot(t *testing.T) {
	for _, wanted := range []string{"1", "2"} {
		synctest.Test(t, func(t *testing.T) {
			w := scenario{}.setUp(t)
			w.wants(declared("web", wanted))
			w.slots = NewHostSlots(1)
			if _, _, err := w.slots.Take(t.Context(), "other", false); err != nil {
				t.Fatal(err)
			}
			e := w.engine()
			if _, outs := w.pass(e); wanted == "2" && outs[0].Gate.Name != "slot" {
				t.Fatalf("while it serves: %+v", outs[0])
			}
			delete(w.Running, "web")
			for _, s := range DiffOne("web", w.want, w.observe()).Steps {
				if s.Down != (s.Phase == Drain) {
					t.Errorf("%s: down is %v", s.ID, s.Down)
				}
			}
			if _, outs := w.pass(e); !outs[0].Gate.Open() || outs[0].Err != nil || w.state() != "web converged runs "+wanted {
				t.Errorf("%+v, %s", outs[0], w.state())
			}
		})
	}
}
