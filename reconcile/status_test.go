package reconcile

import (
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
