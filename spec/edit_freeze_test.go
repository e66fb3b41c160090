package spec

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestFreezeAddedAndRemoved(t *testing.T) {
	until := time.Date(2026, 12, 27, 8, 0, 0, 0, time.UTC)
	src := "# ours\nfreeze \"old\" {}\n"
	out, err := AddFreeze([]byte(src), "prod/freeze.hcl", Freeze{Reason: `audit "${x}"`, Services: []string{"web", "api"}, Until: until})
	if err != nil {
		t.Fatal(err)
	}
	want := src + "\nfreeze \"audit \\\"$${x}\\\"\" {\n  services = [\"web\", \"api\"]\n  until    = \"2026-12-27T08:00:00Z\"\n}\n"
	if d := cmp.Diff(want, string(out)); d != "" {
		t.Fatal(d)
	}
	if formatted, err := Format(out, "prod/freeze.hcl"); err != nil || string(formatted) != string(out) {
		t.Errorf("not written as fmt would: %v\n%s", err, formatted)
	}
	again, err := AddFreeze(out, "prod/freeze.hcl", Freeze{Reason: `audit "${x}"`, Services: []string{"web", "api"}, Until: until})
	if err != nil || string(again) != string(out) {
		t.Errorf("added twice: %v\n%s", err, again)
	}
	back, gone, err := RemoveFreeze(out, "prod/freeze.hcl", func(f Freeze) bool { return strings.HasPrefix(f.Reason, "audit") })
	if err != nil || len(gone) != 1 || string(back) != src {
		t.Errorf("removed %v, %v:\n%s", gone, err, back)
	}
	two := []byte("freeze \"a\" {}\n\nfreeze \"b\" {}\n")
	if out, gone, err := RemoveFreeze(two, "freeze.hcl", func(Freeze) bool { return true }); err != nil || len(gone) != 2 || len(out) != 0 {
		t.Errorf("both: %q, %v, %v", out, gone, err)
	}
}
