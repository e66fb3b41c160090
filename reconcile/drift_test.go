package reconcile

import (
	"testing"
	"time"

	"drydock/spec"
)

// TestOldRepairsDoNotHalt: three repairs that did not hold halt a service;
// three that held for an hour are no reason to give up on the next drift.
func TestOldRepairsDoNotHalt(t *testing.T) {
	mended := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	svc := spec.Service{Name: "web", Release: spec.Release{Version: "1"}, Start: &spec.Block{Type: "start", Driver: "process"}}
	have := func(at time.Time) Observed {
		return Observed{At: at, Boot: "b", Found: map[string]map[string]Condition{"web": {"start/process": {Is: Absent}}}, Memory: Memory{
			Services: map[string]*Remembered{"web": {Running: &Deployed{Service: svc}, Repairs: repairsThatHalt, Mended: mended, MendedIn: "b"}},
		}}
	}
	want := spec.Wanted{Services: []spec.Service{svc}}
	if p := DiffOne("web", want, have(mended.Add(time.Minute))); p.State != Halted || len(p.Steps) > 0 {
		t.Errorf("a minute later: %v with %d steps, want halted", p.State, len(p.Steps))
	}
	if p := DiffOne("web", want, have(mended.Add(2*time.Hour))); p.State != Drifted || len(p.Steps) == 0 {
		t.Errorf("two hours later: %v with %d steps, want a repair", p.State, len(p.Steps))
	}
}

// TestRetryWaitsForItsWindow: a rollback passes the window, the same release
// tried again does not.
func TestRetryWaitsForItsWindow(t *testing.T) {
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC) // a Sunday
	p := ServicePlan{Service: "web", Purpose: Deploy, Retry: true, Target: spec.Service{Name: "web", DependsOn: []string{"api"}, Rollout: spec.Rollout{
		Windows: []spec.Window{{Days: []string{"mon"}, From: "09:00", To: "16:00", Zone: "UTC"}},
	}}}
	around := Surroundings{Now: now, Alone: true, Wanted: spec.Wanted{Services: []spec.Service{{Name: "api"}}}}
	if g := TimingGate(p, around); g.Name != "window" {
		t.Errorf("a retry: %+v", g)
	}
	p.Target.Rollout.Windows = nil
	if g := TimingGate(p, around); !g.Open() {
		t.Errorf("a retry waits for what it depends on: %+v", g)
	}
	p.Retry = false
	if g := TimingGate(p, around); g.Name != "depends_on" {
		t.Errorf("a new release does not: %+v", g)
	}
}
