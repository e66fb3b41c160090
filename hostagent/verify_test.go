package hostagent

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"drydock/reconcile"
	"drydock/reconcile/trust"
)

func sourceOf(t *testing.T, a *Agent) reconcile.SourceStatus { return a.Status(t.Context()).Source }

func TestACommitThatFailsHoldsTheHost(t *testing.T) {
	virtual(t, func(t *testing.T, h *host) {
		d, o, _ := h.trusted()
		a := New(o)
		first := d.on("", "", "1", "")
		pass(t, a)
		is(t, a, "web", reconcile.Converged, "1")
		if s := sourceOf(t, a); s.Verified || s.How != "on trust" {
			t.Fatalf("the first head of a host without since: %+v", s)
		}
		good := d.on(first, "ci@acme", "2", "")
		pass(t, a)
		is(t, a, "web", reconcile.Converged, "2")
		if s := sourceOf(t, a); !s.Verified || s.How != "signed" || !slices.Equal(s.By, []string{"ci@acme"}) {
			t.Fatalf("%+v", s)
		}

		bad := d.on(good, "", "3", "")
		opens := d.opens
		for range 3 {
			pass(t, a)
			is(t, a, "web", reconcile.Converged, "2")
			s := sourceOf(t, a)
			if !s.Verified || s.Blocked != bad || s.BehindSince == nil || !strings.Contains(s.Error, "is not signed") || !strings.Contains(s.Error, "drydock vouch "+bad) {
				t.Fatalf("%+v", s)
			}
			d.set(func() { delete(d.process, "web") })
			pass(t, a)
			if d.process["web"] != "2" {
				t.Fatal("a blocked host repairs nothing")
			}
		}
		if d.opens != opens {
			t.Errorf("%d files of a refused commit were read", d.opens-opens)
		}
		if n := d.kinds("sighted"); n != 1 || d.mark != good || d.Memory().Accepted != good {
			t.Errorf("%d sightings, mark %s", n, d.mark)
		}
		asked := d.asked
		pass(t, a)
		if d.asked != asked {
			t.Error("the same head was judged again")
		}
		since := sourceOf(t, a).BehindSince
		elapse(time.Hour)
		a = New(o) // another process stays there too, and knows since when
		pass(t, a)
		is(t, a, "web", reconcile.Converged, "2")
		if s := sourceOf(t, a); s.Blocked != bad || s.BehindSince.Sub(*since).Abs() > time.Minute {
			t.Fatalf("%+v", s)
		}
		look, err := New(o).Look(t.Context())
		if err == nil || look.Source.Blocked != bad || !strings.Contains(look.Source.Error, "is not signed") || look.Services[0].Running.Version != "2" {
			t.Fatalf("without an agent: %+v, %v", look, err)
		}

		d.vouch(bad, "alice@acme", "3", bad)
		pass(t, a)
		is(t, a, "web", reconcile.Converged, "3")
		if m := d.Memory(); m.Sighted != nil || m.Refused != nil || !m.Warrant.Verified() {
			t.Errorf("%+v", m)
		}
		if s := sourceOf(t, a); s.Blocked != "" || s.Error != "" || s.BehindSince != nil {
			t.Errorf("%+v", s)
		}
	})
}

// Where the refused commit was taken off the branch, nothing says so any more.
func TestABranchForcedBackToWhatIsAccepted(t *testing.T) {
	virtual(t, func(t *testing.T, h *host) {
		d, o, _ := h.trusted()
		a := New(o)
		first := d.on("", "alice@acme", "1", "")
		pass(t, a)
		d.on(first, "", "2", "")
		pass(t, a)
		if sourceOf(t, a).Blocked == "" || d.Memory().Refused == nil {
			t.Fatal("not refused")
		}
		d.point(first)
		pass(t, a)
		if s := sourceOf(t, a); s.Blocked != "" || s.Error != "" || d.Memory().Refused != nil {
			t.Fatalf("%+v", s)
		}
	})
}

func TestPlanJudgesAndWritesNothing(t *testing.T) {
	virtual(t, func(t *testing.T, h *host) {
		d, o, _ := h.trusted()
		a := New(o)
		first := d.on("", "alice@acme", "1", "")
		pass(t, a)
		bad := d.on(first, "", "2", "")
		records := len(d.records)
		p, err := a.Plan(t.Context())
		if err != nil || p.Commit != first || len(p.Steps) != 0 || !strings.Contains(p.Source, "is not signed") {
			t.Fatalf("%+v, %v", p, err)
		}
		rep, err := a.CheckHost(t.Context(), nil)
		if err != nil || !slices.ContainsFunc(rep.Needs, func(n HostNeed) bool {
			return n.Needs == "signed commits" && n.Found.Amiss() && strings.Contains(n.Ask, "drydock vouch "+bad)
		}) {
			t.Fatalf("%+v, %v", rep, err)
		}
		d.on(first, "ci@acme", "3", "")
		if p, err = a.Plan(t.Context()); err != nil || p.Source != "" || len(p.Steps) != 6 {
			t.Fatalf("%+v, %v", p, err)
		}
		if len(d.records) != records || d.mark != first {
			t.Fatal("a plan left something")
		}
	})
}

// SIGKILL between the clone's mark and the journal's record: the head is judged
// once more, by the keys of then, and is in force only after that.
func TestKilledBetweenMarkAndRecord(t *testing.T) {
	virtual(t, func(t *testing.T, h *host) {
		d, o, words := h.trusted()
		first := d.on("", "alice@acme", "1", "")
		pass(t, New(o))
		second := d.on(first, "ci@acme", "2", "")
		d.set(func() { d.mark = second })
		words.lost["ci@acme"] = true
		a := New(o)
		pass(t, a)
		is(t, a, "web", reconcile.Converged, "1")
		words.lost["ci@acme"] = false
		a = New(o)
		pass(t, a)
		is(t, a, "web", reconcile.Converged, "2")
	})
}

// The journal is lost: the clone's mark is judged again from since, and what
// runs is adopted only if that is good.
func TestRebuildJudges(t *testing.T) {
	for _, lost := range []bool{false, true} {
		virtual(t, func(t *testing.T, h *host) {
			d, o, words := h.trusted()
			first := d.on("", "", "1", "")
			o.Trust.Policy.Since = first
			d.on(first, "ci@acme", "2", "")
			pass(t, New(o))
			d.set(func() { d.memory, d.records, d.did = reconcile.NewMemory(), nil, nil })
			words.lost["ci@acme"] = lost
			a := New(o)
			err := a.Rebuild(t.Context())
			if m := d.Memory(); (err != nil) != lost || m.Warrant.Verified() == lost || (m.Accepted == "") != lost {
				t.Fatalf("lost: %v; %v, %+v", lost, err, m)
			}
			pass(t, a)
			if !lost {
				is(t, a, "web", reconcile.Converged, "2")
			} else if st := a.Status(t.Context()); len(st.Services) != 0 || st.Source.Blocked == "" {
				t.Fatalf("%+v", st)
			}
			if d.process["web"] != "2" || len(d.steps()) != 0 {
				t.Fatalf("%v", d.steps())
			}
		})
	}
}

// Invariant 5: accepted commits only move forward, and what is installed is what
// commits say of which each was allowed.
func TestOnlyForwardAndOnlyAllowed(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		synctest.Test(t, func(t *testing.T) {
			h := newHost(t)
			d, o, words := h.trusted()
			since := d.on("", "", "0", "")
			o.Trust.Policy.Since = since
			good, all, version := map[string]bool{since: true}, []string{since}, map[string]string{since: "0"}
			accepted := since
			a := New(o)
			pass(t, a)
			for range rapid.IntRange(1, 6).Draw(rt, "events") {
				some := func(what string) string { return rapid.SampledFrom(all).Draw(rt, what) }
				commit := func(parent, by, v, message string) string {
					c := d.on(parent, by, v, message)
					all, version[c] = append(all, c), v
					return c
				}
				switch rapid.SampledFrom([]string{"good", "good", "bad", "vouch", "back", "restart", "lose"}).Draw(rt, "event") {
				case "good":
					p := some("parent")
					c := commit(p, "alice@acme", version[p]+"1", "")
					good[c] = true
				case "bad":
					p := some("parent")
					commit(p, rapid.SampledFrom([]string{"", "eve@acme"}).Draw(rt, "by"), version[p]+"2", "")
				case "vouch":
					bad := some("bad")
					c := commit(bad, "bob@acme", version[bad], "vouch\n\nDrydock-Vouch: "+bad+"\n")
					good[c] = true
				case "back":
					d.point(some("head"))
				case "restart":
					a = New(o)
				case "lose":
					d.set(func() { d.memory, d.records = reconcile.NewMemory(), nil })
					a = New(o)
					_ = a.Rebuild(t.Context())
				}
				words.lost["eve@acme"] = true
				pass(t, a)
				now := d.Memory().Accepted
				if !d.behind(now)[accepted] {
					rt.Fatalf("from %s to %s, which is no way forward", accepted, now)
				}
				accepted = now
				for _, c := range must(d.Between(t.Context(), since, now)) {
					if !good[c] && !vouchedFor(d, now, c) {
						rt.Fatalf("%s was accepted with %s, for which nobody answers", now, c)
					}
				}
				if got := d.place["web"]; got != version[now] {
					rt.Fatalf("web %s is in place; %s says %s", got, now, version[now])
				}
			}
		})
	})
}

func vouchedFor(d *dag, head, commit string) bool {
	for c := range d.behind(head) {
		if n := d.of[c]; n.by == "bob@acme" && strings.HasSuffix(n.message, "Drydock-Vouch: "+commit+"\n") {
			return true
		}
	}
	return false
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

var _ trust.History = (*dag)(nil)

// shelf is a cache that can be looked at.
type shelf struct {
	data  []byte
	saved int
}

func (s *shelf) Load() ([]byte, error) { return s.data, nil }

func (s *shelf) Save(data []byte) error {
	s.data = data
	s.saved++
	return nil
}

// What a host found out of the releases of the past, its next process knows.
func TestThePastIsKept(t *testing.T) {
	virtual(t, func(t *testing.T, h *host) {
		d, o, _ := h.trusted()
		cache := &shelf{data: []byte("rubbish")}
		o.Trust.Past = cache
		at := d.on("", "", "1", "")
		a := New(o)
		pass(t, a)
		for _, v := range []string{"2", "3"} {
			at = d.on(at, "ci@acme", v, "")
			pass(t, a)
		}
		is(t, a, "web", reconcile.Converged, "3")
		if cache.saved == 0 {
			t.Fatal("nothing is kept")
		}
		var past trust.Past
		if err := past.UnmarshalBinary(cache.data); err != nil || past.Tip() == "" {
			t.Fatalf("%v %q", err, past.Tip())
		}

		d.fromBeginning = 0
		at = d.on(at, "ci@acme", "4", "")
		a = New(o)
		pass(t, a)
		is(t, a, "web", reconcile.Converged, "4")
		if d.fromBeginning > 0 {
			t.Errorf("the next process reads the history from its beginning, %d times", d.fromBeginning)
		}
		saved := cache.saved
		d.point(d.on(at, "", "5", ""))
		if _, err := a.Plan(t.Context()); cache.saved != saved {
			t.Errorf("a plan writes (%v)", err)
		}
	})
}

// TestARefusalIsLoggedOnce: a head that is not accepted stays so until people
// act, and a log that says it at every poll hides what else happens.
func TestARefusalIsLoggedOnce(t *testing.T) {
	virtual(t, func(t *testing.T, h *host) {
		d, o, _ := h.trusted()
		var log bytes.Buffer
		o.Log = slog.New(slog.NewTextHandler(&log, nil))
		base := d.on("", "alice@acme", "1", "")
		a := h.run(o)
		pass(t, a)
		bad := d.on(base, "", "2", "")
		for i, step := range []struct {
			head  string
			lines int
		}{{bad, 1}, {bad, 1}, {base, 1}, {bad, 2}} {
			d.point(step.head)
			pass(t, a)
			if n := strings.Count(log.String(), "a commit is not accepted"); n != step.lines {
				t.Errorf("pass %d: %d lines, expected %d\n%s", i, n, step.lines, log.String())
			}
		}
	})
}
