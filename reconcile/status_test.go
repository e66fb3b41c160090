package reconcile

import (
	"errors"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"

	"drydock/spec"
)

// TestStatusOfErrors: a declaration with errors is named by its line and
// commit, and nothing claims an earlier one where there never was any.
func TestStatusOfErrors(t *testing.T) {
	want := spec.Wanted{Commit: "4f2a91c0000", Held: map[string]hcl.Diagnostics{"web": {{
		Severity: hcl.DiagError, Summary: "Unknown block", Detail: "No.",
		Subject: &hcl.Range{Filename: "prod/web.hcl", Start: hcl.Pos{Line: 7}},
	}}}}
	plan := ServicePlan{Service: "web", State: Waiting}
	s := Status(plan, &Remembered{}, want, Live{})
	if s.Gate != "declaration" || !strings.Contains(s.Reason, "prod/web.hcl:7@4f2a91c: Unknown block") || strings.Contains(s.Reason, "last good") {
		t.Errorf("never good: %+v", s)
	}
	want.Services = []spec.Service{{Name: "web"}}
	if s := Status(plan, &Remembered{}, want, Live{}); !strings.HasPrefix(s.Reason, "kept at its last good declaration: prod/web.hcl:7@4f2a91c") {
		t.Errorf("good before: %+v", s)
	}
}

// TestStatusWhileTriedAgain: while a step that failed is tried once more,
// status says why, and that the host is out of rotation if it is.
func TestStatusWhileTriedAgain(t *testing.T) {
	drain := spec.Block{Type: "drain", Driver: "file", Config: []byte(`{}`)}
	m := NewMemory()
	for _, r := range []Record{
		{Kind: Planned, Plan: &OpenPlan{Steps: []string{"web/drain/file", "web/migrate/sql"}}},
		{Kind: Begun, Step: "web/drain/file", Phase: Drain, Block: &drain, Commits: true},
		{Kind: Done, Step: "web/drain/file", Phase: Drain, Block: &drain},
		{Kind: Begun, Step: "web/migrate/sql", Phase: Migrate},
		{Kind: Failed, Step: "web/migrate/sql", Phase: Migrate, Blame: OfHost, Reason: "the disk is full (prod/web.hcl:7@4f2a91c). Make room."},
	} {
		r.Service = "web"
		m.Apply(r)
	}
	plan := ServicePlan{Service: "web", State: Progressing, Reason: "1.0 -> 1.1"}
	says := func(live Live, want string) {
		t.Helper()
		if s := Status(plan, m.Service("web"), spec.Wanted{}, live); s.Reason != want {
			t.Errorf("%q\nnot %q", s.Reason, want)
		}
	}
	failed := errors.New("the disk is full (prod/web.hcl:7@4f2a91c). Make room.")
	const why = "the disk is full (prod/web.hcl:7@4f2a91c). Make room. It is out of rotation meanwhile"
	says(Live{Stage: Pending, Err: failed}, why)
	says(Live{Stage: Working}, "1.0 -> 1.1. It is tried again, after: "+why)
	m.Apply(Record{Kind: Begun, Service: "web", Step: "web/migrate/sql", Phase: Migrate})
	says(Live{Stage: Working}, "1.0 -> 1.1. It is tried again, after: "+why)
	m.Apply(Record{Kind: Done, Service: "web", Step: "web/migrate/sql", Phase: Migrate})
	says(Live{Stage: Working}, "1.0 -> 1.1")
	says(Live{Stage: Working, Failing: "check/http: status 503"}, "1.0 -> 1.1; not healthy yet: check/http: status 503")
	m.Apply(Record{Kind: Planned, Service: "web", Plan: &OpenPlan{Purpose: Revert, Committed: true, Reason: "1.1 -> 1.0"}})
	says(Live{Stage: Reverting}, "revert 1.1 -> 1.0")
	says(Live{Stage: Pending, Err: failed}, "revert 1.1 -> 1.0. It is tried again, after: "+why)
}

// TestStatusWhileFetchedAgain: so it is while nothing is out of service.
func TestStatusWhileFetchedAgain(t *testing.T) {
	m := NewMemory()
	target := spec.Service{Name: "web", Release: spec.Release{Version: "1.1"}}
	for _, r := range []Record{
		{Kind: Planned, Plan: &OpenPlan{Target: target, Steps: []string{"web/fetch/archive"}}},
		{Kind: Begun, Step: "web/fetch/archive"},
		{Kind: Failed, Step: "web/fetch/archive", Blame: OfHost, Reason: "no route to host. Ask for one."},
	} {
		r.Service = "web"
		m.Apply(r)
	}
	plan := ServicePlan{Service: "web", State: Progressing, Reason: "1.0 -> 1.1", Target: target}
	live := Live{Stage: Preparing, Step: "web/fetch/archive"}
	if s := Status(plan, m.Service("web"), spec.Wanted{}, live); s.Reason != "1.0 -> 1.1. It is tried again, after: no route to host. Ask for one." {
		t.Error(s.Reason)
	}
	plan.Target.Release.Version = "1.2"
	if s := Status(plan, m.Service("web"), spec.Wanted{}, live); s.Reason != "1.0 -> 1.1" {
		t.Errorf("another release's failure is told: %s", s.Reason)
	}
}

// TestStatusSaysNothingTwice: what a gate says is not said again as what failed
// before, also where a newer commit moved the line that asked for it.
func TestStatusSaysNothingTwice(t *testing.T) {
	m := NewMemory()
	for _, r := range []Record{
		{Kind: Planned, Plan: &OpenPlan{Steps: []string{"web/fetch/archive"}}},
		{Kind: Begun, Step: "web/fetch/archive"},
		{Kind: Failed, Step: "web/fetch/archive", Blame: OfHost, Reason: `user "web": unknown (prod/web.hcl:13@0000001). Create it.`},
	} {
		r.Service = "web"
		m.Apply(r)
	}
	plan := ServicePlan{Service: "web", State: Progressing}
	for _, c := range []struct {
		gate Gate
		want string
	}{
		{Gate{Name: "host", Reason: `user "web": unknown (prod/web.hcl:14@4f2a91c). Create it.`}, `user "web": unknown (prod/web.hcl:14@4f2a91c). Create it.`},
		{Gate{Name: "fetch", Reason: "no route to 10.0.0.1:40001"}, "no route to 10.0.0.1:40001"},
		{Gate{Name: "window", Reason: "outside its window"}, `outside its window. It failed before: user "web": unknown (prod/web.hcl:13@0000001). Create it.`},
	} {
		if s := Status(plan, m.Service("web"), spec.Wanted{}, Live{Stage: Pending, Gate: c.gate}); s.Reason != c.want {
			t.Errorf("%s\nnot %s", s.Reason, c.want)
		}
	}
}

// TestStatusNamesTheGate: whatever state a gate keeps a plan in, status says
// which gate it is; one that is shut to something else is not named.
func TestStatusNamesTheGate(t *testing.T) {
	gate := Gate{Name: "frozen", Reason: "audit"}
	for _, c := range []struct {
		plan ServicePlan
		want State
		gate string
	}{
		{ServicePlan{State: Progressing}, Waiting, "frozen"},
		{ServicePlan{State: Waiting}, Waiting, "frozen"},
		{ServicePlan{State: Drifted}, Drifted, "frozen"},
		{ServicePlan{State: Converged, Adopts: true}, Waiting, "frozen"},
		{ServicePlan{State: Converged}, Converged, ""},
	} {
		s := Status(c.plan, &Remembered{}, spec.Wanted{}, Live{Stage: Pending, Gate: gate})
		if s.State != c.want || s.Gate != c.gate {
			t.Errorf("%s, adopts %t: %s at gate %q", c.plan.State, c.plan.Adopts, s.State, s.Gate)
		}
	}
}
