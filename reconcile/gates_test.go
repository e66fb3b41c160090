package reconcile

import (
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the tests name zones

	"drydock/spec"
	"github.com/hashicorp/hcl/v2"
)

func TestWindows(t *testing.T) {
	week := []string{"mon", "tue", "wed", "thu"}
	for _, c := range []struct {
		name   string
		window spec.Window
		now    string // RFC 3339
		next   string // "" if open
	}{
		{"open", spec.Window{Days: week, From: "09:00", To: "16:00", Zone: "Europe/Berlin"}, "2026-11-23T10:00:00+01:00", ""},
		{"its first moment", spec.Window{Days: week, From: "09:00", To: "16:00", Zone: "Europe/Berlin"}, "2026-11-23T08:00:00Z", ""},
		{"before", spec.Window{Days: week, From: "09:00", To: "16:00", Zone: "Europe/Berlin"}, "2026-11-23T07:59:59Z", "2026-11-23T09:00:00+01:00"},
		{"its last moment is over", spec.Window{Days: week, From: "09:00", To: "16:00", Zone: "Europe/Berlin"}, "2026-11-23T15:00:00Z", "2026-11-24T09:00:00+01:00"},
		{"friday", spec.Window{Days: week, From: "09:00", To: "16:00", Zone: "Europe/Berlin"}, "2026-11-27T10:00:00+01:00", "2026-11-30T09:00:00+01:00"},
		{"every day", spec.Window{From: "09:00", To: "16:00"}, "2026-11-28T10:00:00Z", ""},
		{"utc is the default", spec.Window{From: "09:00", To: "16:00"}, "2026-11-28T08:30:00Z", "2026-11-28T09:00:00Z"},
		{"across midnight, before", spec.Window{Days: []string{"fri"}, From: "22:00", To: "02:00"}, "2026-11-27T23:00:00Z", ""},
		{"across midnight, after", spec.Window{Days: []string{"fri"}, From: "22:00", To: "02:00"}, "2026-11-28T01:59:00Z", ""},
		{"across midnight, over", spec.Window{Days: []string{"fri"}, From: "22:00", To: "02:00"}, "2026-11-28T02:00:00Z", "2026-12-04T22:00:00Z"},
		{"across midnight, the day before does not count", spec.Window{Days: []string{"fri"}, From: "22:00", To: "02:00"}, "2026-11-27T01:00:00Z", "2026-11-27T22:00:00Z"},
		{"a whole day", spec.Window{Days: []string{"sun"}, From: "00:00", To: "00:00"}, "2026-11-29T23:59:59Z", ""},
		{"another zone's day", spec.Window{Days: []string{"mon"}, From: "08:00", To: "10:00", Zone: "Asia/Tokyo"}, "2026-11-22T23:30:00Z", ""},
		{"the clock goes forward: it begins an hour sooner", spec.Window{From: "09:00", To: "10:00", Zone: "Europe/Berlin"}, "2026-03-28T21:00:00Z", "2026-03-29T09:00:00+02:00"},
		{"an hour that does not exist", spec.Window{Days: []string{"sun"}, From: "02:30", To: "03:30", Zone: "Europe/Berlin"}, "2026-03-29T00:00:00Z", "2026-03-29T03:30:00+02:00"},
		{"an hour that comes twice", spec.Window{Days: []string{"sun"}, From: "02:00", To: "03:00", Zone: "Europe/Berlin"}, "2026-10-25T01:30:00Z", ""},
		{"the clock goes back: it ends an hour later", spec.Window{From: "01:00", To: "04:00", Zone: "Europe/Berlin"}, "2026-10-25T02:59:00Z", ""},
		{"a day without midnight", spec.Window{Days: []string{"fri"}, From: "09:00", To: "16:00", Zone: "Africa/Cairo"}, "2026-04-24T10:00:00Z", ""},
		{"a day without midnight, from its start", spec.Window{Days: []string{"fri"}, From: "00:00", To: "16:00", Zone: "Africa/Cairo"}, "2026-04-23T20:00:00Z", "2026-04-24T01:00:00+03:00"},
	} {
		t.Run(c.name, func(t *testing.T) {
			now, err := time.Parse(time.RFC3339, c.now)
			if err != nil {
				t.Fatal(err)
			}
			p := ServicePlan{Service: "web", Purpose: Deploy, Target: spec.Service{Rollout: spec.Rollout{Windows: []spec.Window{c.window}}}}
			g := TimingGate(p, Surroundings{Now: now, Alone: true})
			switch {
			case c.next == "" && !g.Open():
				t.Errorf("closed: %s", g.Reason)
			case c.next != "" && (g.Name != "window" || g.Until.Format(time.RFC3339) != c.next):
				t.Errorf("%q opens %v, expected %s", g.Name, g.Until.Format(time.RFC3339), c.next)
			}
		})
	}
}

func TestGates(t *testing.T) {
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	shut := spec.Rollout{Windows: []spec.Window{{From: "01:00", To: "02:00"}}}
	freeze := []spec.Freeze{{Reason: "fair", Until: now.Add(time.Hour)}}
	web := declared("web", "2")
	depends := func(on ...string) func(*ServicePlan, *Surroundings) {
		return func(p *ServicePlan, _ *Surroundings) { p.Target.DependsOn = on }
	}
	api := declared("api", "1")
	runs := func(v string, more ...Record) Memory {
		m := NewMemory()
		m.Apply(Record{Kind: Adopted, Service: "api", Plan: &OpenPlan{Target: declared("api", v)}})
		for _, r := range more {
			m.Apply(r)
		}
		return *m
	}
	for _, c := range []struct {
		name string
		gate string // of both tables, "" is open
		says string
		with func(p *ServicePlan, s *Surroundings)
	}{
		{"nothing", "", "", nil},
		{"paused", "paused", "hostagent resume", func(_ *ServicePlan, s *Surroundings) { s.Paused = true }},
		{"paused, and it has begun", "", "", func(p *ServicePlan, s *Surroundings) { s.Paused, p.Resume = true, true }},
		{"hold", "approval", "two people", func(p *ServicePlan, _ *Surroundings) {
			p.Target.Holds = []spec.Hold{{Gate: "approval", Reason: "two people must sign"}}
		}},
		{"hold of a repair", "", "", func(p *ServicePlan, _ *Surroundings) {
			p.Purpose, p.Target.Holds = Mend, []spec.Hold{{Gate: "approval"}}
		}},
		{"driver that is not built, for a repair", "driver", "", func(p *ServicePlan, _ *Surroundings) {
			p.Purpose, p.Target.Holds = Mend, []spec.Hold{{Gate: "driver", Reason: "not built"}}
		}},
		{"frozen", "freeze", "fair", func(_ *ServicePlan, s *Surroundings) { s.Wanted.Freezes = freeze }},
		{"frozen rollback", "freeze", "fair", func(p *ServicePlan, s *Surroundings) { p.Rollback, s.Wanted.Freezes = true, freeze }},
		{"frozen removal", "freeze", "fair", func(p *ServicePlan, s *Surroundings) { p.Purpose, s.Wanted.Freezes = Uninstall, freeze }},
		{"frozen repair", "", "", func(p *ServicePlan, s *Surroundings) { p.Purpose, s.Wanted.Freezes = Mend, freeze }},
		{"freeze is over", "", "", func(_ *ServicePlan, s *Surroundings) { s.Now, s.Wanted.Freezes = freeze[0].Until, freeze }},
		{"freeze to come", "", "", func(_ *ServicePlan, s *Surroundings) {
			s.Wanted.Freezes = []spec.Freeze{{Reason: "later", From: now.Add(time.Second)}}
		}},
		{"freeze without end", "freeze", "", func(_ *ServicePlan, s *Surroundings) { s.Wanted.Freezes = []spec.Freeze{{Reason: "for good"}} }},
		{"freeze of others", "", "", func(_ *ServicePlan, s *Surroundings) {
			s.Wanted.Freezes = []spec.Freeze{{Reason: "fair", Services: []string{"api"}}}
		}},
		{"override", "", "", func(p *ServicePlan, s *Surroundings) {
			p.Target.Rollout, s.Wanted.Freezes = shut, freeze
			s.Wanted.Overrides = []spec.Override{{Skip: []string{"window", "freeze"}, Until: now.Add(time.Minute)}}
		}},
		{"override that is over", "freeze", "", func(p *ServicePlan, s *Surroundings) {
			s.Wanted.Freezes = freeze
			s.Wanted.Overrides = []spec.Override{{Skip: []string{"freeze"}, Until: now}}
		}},
		{"override of others", "freeze", "", func(p *ServicePlan, s *Surroundings) {
			s.Wanted.Freezes = freeze
			s.Wanted.Overrides = []spec.Override{{Skip: []string{"freeze"}, Services: []string{"api"}, Until: now.Add(time.Minute)}}
		}},
		{"override of the other gate", "window", "", func(p *ServicePlan, s *Surroundings) {
			p.Target.Rollout, s.Wanted.Overrides = shut, []spec.Override{{Skip: []string{"freeze"}, Until: now.Add(time.Minute)}}
		}},
		{"window", "window", "the next opens Sat 2026-11-28 01:00 UTC", func(p *ServicePlan, _ *Surroundings) { p.Target.Rollout = shut }},
		{"window of a rollback", "", "", func(p *ServicePlan, _ *Surroundings) { p.Target.Rollout, p.Rollback = shut, true }},
		{"window of a repair", "", "", func(p *ServicePlan, _ *Surroundings) { p.Target.Rollout, p.Purpose = shut, Mend }},
		{"window of a revert", "", "", func(p *ServicePlan, _ *Surroundings) { p.Target.Rollout, p.Purpose = shut, Revert }},
		{"depends_on, not there yet", "depends_on", "api", func(p *ServicePlan, s *Surroundings) {
			depends("api")(p, s)
			s.Wanted.Services = []spec.Service{api, web}
		}},
		{"depends_on, as wanted", "", "", func(p *ServicePlan, s *Surroundings) {
			depends("api")(p, s)
			s.Wanted.Services, s.Memory = []spec.Service{api, web}, runs("1")
		}},
		{"depends_on, an older one", "depends_on", "", func(p *ServicePlan, s *Surroundings) {
			depends("api")(p, s)
			s.Wanted.Services, s.Memory = []spec.Service{api, web}, runs("0")
		}},
		{"depends_on, halted", "depends_on", "", func(p *ServicePlan, s *Surroundings) {
			depends("api")(p, s)
			s.Wanted.Services, s.Memory = []spec.Service{api, web}, runs("1", Record{Kind: Stopped, Service: "api"})
		}},
		{"depends_on, with a plan that never began", "", "", func(p *ServicePlan, s *Surroundings) {
			depends("api")(p, s)
			s.Wanted.Services, s.Memory = []spec.Service{api, web}, runs("1", Record{Kind: Planned, Service: "api", Plan: &OpenPlan{}})
		}},
		{"depends_on of a rollback", "", "", func(p *ServicePlan, s *Surroundings) {
			depends("api")(p, s)
			p.Rollback, s.Wanted.Services = true, []spec.Service{api, web}
		}},
		{"depends_on off this host, coordinated by nobody", "coordination", "depends_on api", func(p *ServicePlan, s *Surroundings) {
			depends("api")(p, s)
			s.Alone = false
		}},
		{"depends_on off this host, alone", "", "", depends("api")},
		{"max_parallel is written, nobody coordinates", "coordination", "max_parallel", func(p *ServicePlan, s *Surroundings) {
			s.Alone, p.Target.Rollout.Written = false, []string{"max_parallel"}
		}},
		{"max_parallel is written, alone", "", "", func(p *ServicePlan, _ *Surroundings) { p.Target.Rollout.Written = []string{"max_parallel"} }},
		{"splay is written, nobody coordinates", "", "", func(p *ServicePlan, s *Surroundings) {
			s.Alone, p.Target.Rollout.Written = false, []string{"splay"}
		}},
		{"a migration for the fleet, nobody coordinates", "coordination", "fleet", func(p *ServicePlan, s *Surroundings) {
			s.Alone, p.Target.Migrates = false, []spec.Block{block("migrate", "sql", "scope", "fleet")}
		}},
		{"a repair asks nobody", "", "", func(p *ServicePlan, s *Surroundings) {
			s.Alone, p.Purpose, p.Target.Rollout.Written = false, Mend, []string{"max_parallel"}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := ServicePlan{Service: "web", Purpose: Deploy, Target: web}
			s := Surroundings{Now: now, Alone: true}
			if c.with != nil {
				c.with(&p, &s)
			}
			g := TrustGate(p, s)
			if g.Open() {
				g = TimingGate(p, s)
			}
			if g.Name != c.gate || !strings.Contains(g.Reason+strings.Join(g.Missing, " "), c.says) {
				t.Errorf("%+v, expected %q with %q", g, c.gate, c.says)
			}
		})
	}
}

// TestFrozenSaysHowToLift: the command that lifts a freeze, as it is typed.
func TestFrozenSaysHowToLift(t *testing.T) {
	for file, want := range map[string]string{"prod/freeze.hcl": "`drydock unfreeze --env prod`", "freeze.hcl": "`drydock unfreeze --all`"} {
		var s Surroundings
		s.Wanted.Freezes = []spec.Freeze{{Reason: "fair", Origin: spec.Origin{Range: hcl.Range{Filename: file}}}}
		if g, shut := frozen(ServicePlan{Service: "web", Purpose: Deploy}, s); !shut || !strings.Contains(g.Reason, want) {
			t.Errorf("%s: %q, want %s", file, g.Reason, want)
		}
	}
}
