package reconcile

import (
	"testing"
	"time"

	"drydock/spec"
)

func TestSplay(t *testing.T) {
	since := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	plan := ServicePlan{Service: "web", Purpose: Deploy, Target: spec.Service{
		Name: "web", Release: spec.Release{Version: "1"}, Rollout: spec.Rollout{Splay: spec.Duration(time.Minute)},
	}}
	at := func(host string, now time.Time, p ServicePlan) Gate {
		return TimingGate(p, Surroundings{Now: now, Wanted: spec.Wanted{Host: spec.Host{Name: host}}, Memory: Memory{
			Services: map[string]*Remembered{"web": {Open: &OpenPlan{Since: since}}},
		}})
	}
	begins := map[time.Time]bool{}
	for _, host := range []string{"a", "b", "c", "d"} {
		g := at(host, since, plan)
		if g.Name != "splay" || g.Until.Before(since) || !g.Until.Before(since.Add(time.Minute)) {
			t.Fatalf("%s: %+v", host, g)
		}
		if again := at(host, since.Add(time.Nanosecond), plan); again.Until != g.Until {
			t.Errorf("%s: drawn twice: %v, then %v", host, g.Until, again.Until)
		}
		if g := at(host, g.Until, plan); !g.Open() {
			t.Errorf("%s: still shut when it should open: %+v", host, g)
		}
		if g := at(host, since.Add(-time.Hour), plan); !g.Open() {
			t.Errorf("%s: a clock set back holds it up: %+v", host, g)
		}
		begins[g.Until] = true
	}
	if len(begins) < 4 {
		t.Errorf("four hosts start at %d moments", len(begins))
	}
	back := plan
	back.Rollback = true
	if g := at("a", since, back); !g.Open() {
		t.Errorf("a rollback waits: %+v", g)
	}
}
