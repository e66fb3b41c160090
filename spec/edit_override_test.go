package spec

import (
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestOverrideAddedAndRemoved(t *testing.T) {
	until := time.Date(2026, 12, 27, 8, 0, 0, 0, time.UTC)
	o := Override{Reason: `down "${x}"`, Services: []string{"web"}, Skip: []string{"window", "approval-expiry"}, Until: until}
	const path = "prod/override.hcl"
	for _, nl := range []string{"\n", "\r\n"} {
		src := strings.ReplaceAll("# ours\noverride \"old\" {\n  skip  = [\"bake\"]\n  until = \"2026-01-01T00:00:00Z\"\n}\n", "\n", nl)
		out, err := AddOverride([]byte(src), path, o)
		if err != nil {
			t.Fatal(err)
		}
		want := src + strings.ReplaceAll("\noverride \"down \\\"$${x}\\\"\" {\n  services = [\"web\"]\n  skip     = [\"window\", \"approval-expiry\"]\n  until    = \"2026-12-27T08:00:00Z\"\n}\n", "\n", nl)
		if d := cmp.Diff(want, string(out)); d != "" {
			t.Fatal(d)
		}
		if again, err := AddOverride(out, path, o); err != nil || string(again) != string(out) {
			t.Errorf("added twice: %v\n%s", err, again)
		}
		back, gone, err := RemoveOverride(out, path, func(o Override) bool { return strings.HasPrefix(o.Reason, "down") })
		if err != nil || len(gone) != 1 || !gone[0].same(o) || string(back) != src {
			t.Errorf("removed %v, %v:\n%s", gone, err, back)
		}
	}
	alone, err := AddOverride(nil, path, o)
	if err != nil {
		t.Fatal(err)
	}
	f, diags := Load("", fstest.MapFS{path: {Data: alone}})
	if w, more := f.For(Host{Environment: "prod"}); diags.HasErrors() || more.HasErrors() || len(w.Overrides) != 1 || !w.Overrides[0].same(o) {
		t.Errorf("loaded as %+v: %v %v", w.Overrides, diags, more)
	}
	for want, o := range map[string]Override{
		"no service's name":     {Reason: "x", Services: []string{`a"`}, Skip: []string{"bake"}, Until: until},
		`Did you mean "freeze"`: {Reason: "x", Skip: []string{"freez"}, Until: until},
		"when it ends":          {Reason: "x", Skip: []string{"bake"}},
		"the gates":             {Reason: "x", Until: until},
	} {
		if out, err := AddOverride(nil, path, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q, %v, and not %q", out, err, want)
		}
	}
}
