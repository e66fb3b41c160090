package hostagent

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"drydock/reconcile"
)

const unparsable = `service "x" {`

// wrong is a service with an error inside.
func wrong(name, version string) string { return declared(name, version, `mode = "fast"`) }

func TestHowMuchAFaultHoldsBack(t *testing.T) {
	virtual(t, func(t *testing.T, h *host) {
		first := h.commit(map[string]string{
			"prod/web.hcl": declared("web", "1", ""), "prod/api.hcl": declared("api", "1", ""),
			"prod/job.hcl": declared("job", "1", `depends_on = ["api"]`),
		})
		a := New(h.options())
		pass(t, a)

		// A service, and what depends on it; from whichever process, for however many commits.
		second := h.commit(map[string]string{
			"prod/web.hcl": declared("web", "2", ""), "prod/api.hcl": wrong("api", "2"),
			"prod/job.hcl": declared("job", "2", `depends_on = ["api"]`),
		})
		for range 2 {
			pass(t, a)
			is(t, a, "web", reconcile.Converged, "2")
			for _, held := range []string{"api", "job"} {
				is(t, a, held, reconcile.Waiting, "1")
				if s := row(t, a, held); s.Gate != "declaration" {
					t.Fatalf("%+v", s)
				}
				if at := h.Memory().Good[held]; at != first {
					t.Fatalf("%s is held at %q, want %q", held, at, first)
				}
			}
			if good := h.Memory().Good[""]; good != second {
				t.Fatalf("the environment's last good one is %q, want %q", good, second)
			}
			a = New(h.options())
		}
		records := len(h.records)
		pass(t, a)
		if len(h.records) != records {
			t.Fatalf("the same head again left %v", h.records[records:])
		}

		// The environment.
		h.commit(map[string]string{
			"prod/web.hcl": declared("web", "3", ""), "prod/api.hcl": declared("api", "3", ""),
			"prod/broken.hcl": unparsable,
		})
		a = New(h.options())
		pass(t, a)
		is(t, a, "web", reconcile.Converged, "2")
		is(t, a, "api", reconcile.Waiting, "1")
		if st := a.Status(t.Context()); !strings.Contains(st.Source.Error, "last good commit, "+second[:7]) || st.Commit == second {
			t.Fatalf("%+v", st)
		}

		// Mended, nothing is held, and nothing of it is remembered.
		last := h.commit(map[string]string{
			"prod/web.hcl": declared("web", "4", ""), "prod/api.hcl": declared("api", "4", ""),
			"prod/job.hcl": declared("job", "4", `depends_on = ["api"]`), "staging/broken.hcl": unparsable,
		})
		pass(t, a)
		for _, s := range []string{"web", "api", "job"} {
			is(t, a, s, reconcile.Converged, "4")
		}
		if good := h.Memory().Good; len(good) != 1 || good[""] != last {
			t.Fatalf("%v", good)
		}
	})
}

// Nothing was ever good: nothing is wanted, and nothing is removed.
func TestNeverGood(t *testing.T) {
	virtual(t, func(t *testing.T, h *host) {
		h.commit(map[string]string{"prod/web.hcl": unparsable})
		a := New(h.options())
		pass(t, a)
		if st := a.Status(t.Context()); len(st.Services) != 0 || !strings.Contains(st.Source.Error, "prod/web.hcl:1@") {
			t.Fatalf("%+v", st)
		}
		h.commit(map[string]string{"prod/web.hcl": wrong("web", "1")})
		pass(t, a)
		is(t, a, "web", reconcile.Waiting, "")
		h.services([2]string{"web", "1"})
		pass(t, a)
		is(t, a, "web", reconcile.Converged, "1")
	})
}

// Where nothing new can be accepted, and even where nothing can be read, what
// runs is looked after, and nothing else is done.
func TestStays(t *testing.T) {
	for name, trouble := range map[string]func(h *host){
		"source":           func(h *host) { h.sick = errors.New("refused") },
		"nothing accepted": func(h *host) { h.full = true },
		"no clone":         func(h *host) { h.sick, h.noClone = errors.New("refused"), true },
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(t *testing.T, h *host) {
				h.services([2]string{"web", "1"}, [2]string{"api", "1"})
				pass(t, New(h.options()))
				h.services([2]string{"web", "2"})
				h.set(func() {
					trouble(h)
					delete(h.process, "web")
				})
				a := New(h.options())
				pass(t, a)
				is(t, a, "web", reconcile.Converged, "1")
				is(t, a, "api", reconcile.Converged, "1")
				if h.process["web"] != "1" {
					t.Fatal("not repaired")
				}
				if st := a.Status(t.Context()); st.Source.Error == "" || st.Source.BehindSince == nil {
					t.Fatalf("%+v", st.Source)
				}
				h.set(func() { h.sick, h.full, h.noClone = nil, false, false })
				pass(t, a)
				is(t, a, "web", reconcile.Converged, "2")
				is(t, a, "api", reconcile.Orphaned, "1")
				if st := a.Status(t.Context()); st.Source.Error != "" || st.Source.BehindSince != nil {
					t.Fatalf("%+v", st.Source)
				}
			})
		})
	}
}

// A plan shows the newest commit, and accepts nothing.
func TestPlanAcceptsNothing(t *testing.T) {
	virtual(t, func(t *testing.T, h *host) {
		h.services([2]string{"web", "1"})
		a := New(h.options())
		pass(t, a)
		records, mark := len(h.records), h.mark
		next := h.services([2]string{"web", "2"})
		p, err := a.Plan(t.Context())
		if err != nil || p.Commit != next || len(p.Steps) != 6 {
			t.Fatalf("%+v, %v", p, err)
		}
		is(t, a, "web", reconcile.Converged, "1")
		if len(h.records) != records || h.mark != mark {
			t.Fatal("a plan left something")
		}
	})
}

// After a journal was lost, what runs is adopted.
func TestRebuild(t *testing.T) {
	virtual(t, func(t *testing.T, h *host) {
		h.services([2]string{"web", "1"}, [2]string{"new", "1"})
		pass(t, New(h.options()))
		h.set(func() {
			h.memory, h.records, h.did = reconcile.NewMemory(), nil, nil
			delete(h.place, "new")
			delete(h.process, "new")
		})
		a := New(h.options())
		if err := a.Rebuild(t.Context()); err != nil {
			t.Fatal(err)
		}
		is(t, a, "web", reconcile.Progressing, "1")
		pass(t, a)
		is(t, a, "web", reconcile.Converged, "1")
		is(t, a, "new", reconcile.Converged, "1")
		for _, s := range h.steps() {
			if strings.HasPrefix(s, "web/") {
				t.Fatalf("adopted, and yet %v", h.steps())
			}
		}
	})
}

// After the whole state was lost, what runs as it is wanted is adopted without
// a step, and kept running at once; what is unhealthy is drained.
func TestLostState(t *testing.T) {
	virtual(t, func(t *testing.T, h *host) {
		h.services([2]string{"web", "1"}, [2]string{"sick", "1"})
		pass(t, New(h.options()))
		h.set(func() {
			h.memory, h.records, h.did, h.mark = reconcile.NewMemory(), nil, nil, ""
			h.failing["sick "] = true
		})
		a := h.run(h.options())
		synctest.Wait()
		is(t, a, "web", reconcile.Converged, "1")
		if got := h.keeps("web"); got != "1" {
			t.Errorf("kept once it is adopted: %q", got)
		}
		if did := h.steps(); len(did) == 0 || did[0] != "sick/drain/file 1" {
			t.Errorf("what serves unhealthily was not drained: %v", did)
		}
		for _, s := range h.steps() {
			if strings.HasPrefix(s, "web/") {
				t.Errorf("adopted, and yet %v", h.steps())
			}
		}
	})
}
