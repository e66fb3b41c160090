package spec

import (
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func compareFiles(t *testing.T, base, head map[string]string) Comparison {
	t.Helper()
	load := func(commit string, files map[string]string) *Fleet {
		fsys := fstest.MapFS{}
		for name, content := range files {
			fsys[name] = &fstest.MapFile{Data: []byte(content)}
		}
		f, _ := Load(commit, fsys)
		return f
	}
	return Compare(load("base", base), load("head", head), CompareOptions{Now: time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)})
}

func compared(name, version, more string) string {
	return "service \"" + name + "\" {\n  hosts = {}\n  release {\n    version = \"" + version + "\"\n    digest  = \"" + digestA + "\"\n  }\n" +
		"  artifact {\n    source = \"https://a.example/${release.version}/${host.os}\"\n  }\n  install \"archive\" {\n    path = \"/srv/" + name + "\"\n  }\n" + more + "}\n"
}

func TestCompareKinds(t *testing.T) {
	drain := func(wait string) string {
		return "  drain \"file\" {\n    path = \"/run/in\"\n    wait = \"" + wait + "\"\n  }\n"
	}
	tests := []struct {
		name, before, after string
		want                string // "kind part.name from->to …", or "" for none
	}{
		{"nothing", compared("web", "1.0", ""), "# comment\n" + compared("web", "1.0", ""), ""},
		{"release, and the source that holds it is no change of spec", compared("web", "1.0", ""), compared("web", "1.1", ""), "release"},
		{"another digest", compared("web", "1.0", ""), strings.ReplaceAll(compared("web", "1.0", ""), digestA, digestB), "release"},
		{"attempt", compared("web", "1.0", ""), strings.Replace(compared("web", "1.0", ""), "    digest ", "    attempt = 2\n    digest ", 1), "attempt"},
		{"attempt 1 is no attempt", compared("web", "1.0", ""), strings.Replace(compared("web", "1.0", ""), "    digest ", "    attempt = 1\n    digest ", 1), ""},
		{"spec", compared("web", "1.0", drain("5s")), compared("web", "1.0", drain("9s")), "spec drain/file.wait 5s->9s"},
		{"a block", compared("web", "1.0", ""), compared("web", "1.0", drain("5s")), "spec drain/file. ->"},
		{"a default written out", compared("web", "1.0", ""), compared("web", "1.0", "  rollout {\n    auto_revert = true\n  }\n"), ""},
		{"what only a host knows", compared("web", "1.0", ""), strings.Replace(compared("web", "1.0", ""), "host.os", "host.arch", 1), "spec"},
		{"added", "", compared("web", "1.0", ""), "added"},
		{"orphaned", compared("web", "1.0", ""), "", "orphaned"},
		{"removed", compared("web", "1.0", ""), "removed \"web\" {\n  hosts = {}\n}\n", "removed"},
		{"removed after it was orphaned", "", "removed \"web\" {\n  hosts = {}\n}\n", "removed"},
		{"removed long ago", "removed \"web\" {\n  hosts = {}\n}\n", "# comment\nremoved \"web\" {\n  hosts = {}\n}\n", ""},
		{"removed from more hosts", "removed \"web\" {\n  hosts = { zone = \"a\" }\n}\n", "removed \"web\" {\n  hosts = {}\n}\n", "removed"},
		{"a removal is held with its environment", "", "removed \"web\" {\n  hosts = {}\n}\nremoved \"web\" {", ""},
		{"moved", compared("old", "1.0", ""), compared("web", "1.0", "") + "moved {\n  from = \"old\"\n  to   = \"web\"\n}\n", "moved install/archive.path /srv/old->/srv/web"},
		{"held, not gone", compared("web", "1.0", ""), strings.Replace(compared("web", "1.0", ""), "hosts", "hostz", 1), "held"},
		{"held as a file, not gone", compared("web", "1.0", ""), compared("web", "1.0", "") + "}", "held"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			keep := "locals {}\n" // so that the environment is there on both sides
			c := compareFiles(t, map[string]string{"prod/a.hcl": tt.before, "prod/keep.hcl": keep}, map[string]string{"prod/a.hcl": tt.after, "prod/keep.hcl": keep})
			var got []string
			for _, e := range c.Environments {
				for _, s := range e.Services {
					got = append(got, s.Kind)
					for _, p := range s.Parts {
						got = append(got, p.Part+"."+p.Name+" "+p.From+"->"+p.To)
					}
				}
			}
			if d := cmp.Diff(tt.want, strings.Join(got, " ")); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestHeldEnvironmentKeepsWhatItHas(t *testing.T) {
	base := map[string]string{"prod/a.hcl": compared("web", "1.0", ""), "prod/b.hcl": compared("api", "1.0", "")}
	head := map[string]string{"prod/a.hcl": compared("web", "1.1", ""), "prod/b.hcl": "service {"}
	c := compareFiles(t, base, head)
	if len(c.Environments) != 1 || !strings.HasPrefix(c.Environments[0].Held, "prod/b.hcl:1: ") || len(c.Environments[0].Services) != 2 {
		t.Fatalf("%+v", c)
	}
	for _, s := range c.Environments[0].Services {
		if s.Kind != KindHeld || s.To == nil || s.To.Version != "1.0" || !strings.HasPrefix(s.Detail, "held: prod/b.hcl:1: ") {
			t.Errorf("%+v", s)
		}
	}
	if c := compareFiles(t, head, head); len(c.Environments) != 1 || c.Environments[0].Held == "" {
		t.Errorf("a fault that both have: %+v", c)
	}
}

func TestCompareGates(t *testing.T) {
	more := "  depends_on = [\"api\"]\n  rollout {\n    canary = 2\n    bake = \"10m\"\n    max_parallel = 3\n    window {\n      from = \"09:00\"\n      to = \"16:00\"\n    }\n  }\n  approval {\n    required = 1\n    from = [\"a@x\"]\n  }\n"
	gates := func(extra string) string {
		base := map[string]string{"prod/a.hcl": compared("web", "1.0", more), "prod/b.hcl": compared("api", "1.0", "")}
		head := map[string]string{"prod/a.hcl": compared("web", "1.1", more), "prod/b.hcl": compared("api", "1.0", ""), "prod/c.hcl": extra}
		var names []string
		for _, e := range compareFiles(t, base, head).Environments {
			for _, g := range e.Services[0].Gates {
				names = append(names, g.Name)
			}
		}
		return strings.Join(names, " ")
	}
	for _, tt := range []struct{ extra, want string }{
		{"", "approval window depends_on canary slot"},
		{"freeze \"x\" {}\n", "approval freeze window depends_on canary slot"},
		{"freeze \"over\" {\n  until = \"2026-11-01T00:00:00Z\"\n}\n", "approval window depends_on canary slot"},
		{"freeze \"others\" {\n  services = [\"api\"]\n}\n", "approval window depends_on canary slot"},
		{"override \"x\" {\n  skip  = [\"window\"]\n  until = \"2026-12-01T00:00:00Z\"\n}\n", "approval depends_on canary slot"},
		{"override \"over\" {\n  skip  = [\"window\"]\n  until = \"2026-11-01T00:00:00Z\"\n}\n", "approval window depends_on canary slot"},
	} {
		if d := cmp.Diff(tt.want, gates(tt.extra)); d != "" {
			t.Errorf("%s: %s", tt.extra, d)
		}
	}
}
