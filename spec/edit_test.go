package spec

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

const (
	digestA = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	digestB = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

// short makes the tables below fit on a screen: A and B stand for digests.
func short(s string) string {
	return strings.NewReplacer("@A", digestA, "@B", digestB).Replace(s)
}

func TestBumpSplices(t *testing.T) {
	tests := []struct {
		name, file, before string
		change             Change
		after              string
	}{
		{
			name:   "values only, comments and odd spacing stay",
			file:   "a.hcl",
			before: "# é\nservice   \"web\" {\n  release   {\n    version=\"1\"   # why\n   digest  = /* x */ \"@A\" // y\n  }\n  hosts = {}   \n}\n",
			change: Change{Version: "2", Digest: "@B"},
			after:  "# é\nservice   \"web\" {\n  release   {\n    version=\"2\"   # why\n   digest  = /* x */ \"@B\" // y\n  }\n  hosts = {}   \n}\n",
		},
		{
			name:   "CRLF and tabs, attempt added",
			file:   "a.hcl",
			before: "service \"web\" {\r\n\trelease {\r\n\t\tversion = \"1\" # c\r\n\t\tdigest  = \"@A\"\r\n\t}\r\n}\r\n",
			change: Change{Version: "1", Digest: "@A", Attempt: 2},
			after:  "service \"web\" {\r\n\trelease {\r\n\t\tversion = \"1\" # c\r\n\t\tdigest  = \"@A\"\r\n\t\tattempt = 2\r\n\t}\r\n}\r\n",
		},
		{
			name:   "a new version starts again at the first attempt",
			file:   "a.hcl",
			before: "service \"web\" {\n  release {\n    version = \"1\"\n    attempt = 3\n  }\n}\n",
			change: Change{Version: "2", Digest: "@A"},
			after:  "service \"web\" {\n  release {\n    version = \"2\"\n    digest  = \"@A\"\n    attempt = 1\n  }\n}\n",
		},
		{
			name:   "digest added after a comment that spans lines",
			file:   "a.hcl",
			before: "service \"web\" {\n  release {\n    version = \"1\" /* so\n long */ # and\n  }\n}\n",
			change: Change{Version: "1", Digest: "@A"},
			after:  "service \"web\" {\n  release {\n    version = \"1\" /* so\n long */ # and\n    digest  = \"@A\"\n  }\n}\n",
		},
		{
			name:   "a block on one line is opened up",
			file:   "a.hcl",
			before: "service \"web\" {\n  release { version = \"1\" }\n}\n",
			change: Change{Version: "2", Digest: "@A"},
			after:  "service \"web\" {\n  release {\n    version = \"2\"\n    digest  = \"@A\"\n  }\n}\n",
		},
		{
			name:   "digest becomes digests",
			file:   "a.hcl",
			before: "service \"web\" {\n  release {\n    version = \"1\"\n    digest  = \"@A\" # one\n  }\n}\n",
			change: Change{Version: "2", Digests: map[string]string{"linux/arm64": "@B", "linux/amd64": "@A"}},
			after:  "service \"web\" {\n  release {\n    version = \"2\"\n    digests = {\n      \"linux/amd64\" = \"@A\"\n      \"linux/arm64\" = \"@B\"\n    } # one\n  }\n}\n",
		},
		{
			name:   "digests become a digest",
			file:   "a.hcl",
			before: "service \"web\" {\n  release {\n    version = \"1\"\n    digests = { \"linux/amd64\" = \"@A\" }\n  }\n}\n",
			change: Change{Version: "1", Digest: "@B"},
			after:  "service \"web\" {\n  release {\n    version = \"1\"\n    digest  = \"@B\"\n  }\n}\n",
		},
		{
			name:   "digests of the same platforms keep their comments",
			file:   "a.hcl",
			before: "service \"web\" {\n  release {\n    version = \"1\"\n    digests = {\n      # old\n      \"linux/amd64\" = \"@A\"\n    }\n  }\n}\n",
			change: Change{Version: "1", Digests: map[string]string{"linux/amd64": "@B"}},
			after:  "service \"web\" {\n  release {\n    version = \"1\"\n    digests = {\n      # old\n      \"linux/amd64\" = \"@B\"\n    }\n  }\n}\n",
		},
		{
			name:   "no digest any more",
			file:   "a.hcl",
			before: "service \"web\" {\n  release {\n    version = \"1\"\n    digest  = \"@A\"\n  }\n}\n",
			change: Change{Version: "2", Attempt: 2},
			after:  "service \"web\" {\n  release {\n    version = \"2\"\n    attempt = 2\n  }\n}\n",
		},
		{
			name:   "JSON, values",
			file:   "a.hcl.json",
			before: "{\"service\": {\"web\": {\"hosts\": {}, \"release\": {\n  \"version\" : \"1\",\n  \"digest\": \"@A\"}}}}",
			change: Change{Version: "2", Digest: "@B"},
			after:  "{\"service\": {\"web\": {\"hosts\": {}, \"release\": {\n  \"version\" : \"2\",\n  \"digest\": \"@B\"}}}}",
		},
		{
			name:   "JSON, added and changed in kind",
			file:   "a.hcl.json",
			before: "{\"service\": [{\"web\": [{\"release\": {\n  \"version\": \"1\",\n  \"digest\": \"@A\"\n}}]}]}",
			change: Change{Version: "2", Digests: map[string]string{"linux/amd64": "@B"}, Attempt: 2},
			after:  "{\"service\": [{\"web\": [{\"release\": {\n  \"version\": \"2\",\n  \"digests\": {\"linux/amd64\": \"@B\"},\n  \"attempt\": 2\n}}]}]}",
		},
		{
			name:   "JSON, digest removed from the front",
			file:   "a.hcl.json",
			before: "{\"service\": {\"web\": {\"release\": {\"digest\": \"@A\", \"version\": \"1\"}}}}",
			change: Change{Version: "1"},
			after:  "{\"service\": {\"web\": {\"release\": {\"version\": \"1\"}}}}",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.change.Digest = short(tt.change.Digest)
			for k, v := range tt.change.Digests {
				tt.change.Digests[k] = short(v)
			}
			got, err := Bump([]byte(short(tt.before)), tt.file, "web", tt.change)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(short(tt.after), string(got)); d != "" {
				t.Fatal(d)
			}
			again, err := Bump(got, tt.file, "web", tt.change)
			if err != nil || string(again) != string(got) {
				t.Errorf("bumped twice: %v\n%s", err, again)
			}
		})
	}
}

func TestBumpRefuses(t *testing.T) {
	good := "service \"web\" {\n  release {\n    version = \"1\"\n  }\n}\n"
	tests := []struct {
		name, src, service string
		change             Change
		want               string
	}{
		{"unknown service", good, "api", Change{Version: "2"}, "no service"},
		{"a version that is a path", good, "web", Change{Version: "../2"}, "version"},
		{"a version that is a template", good, "web", Change{Version: "${x}"}, "version"},
		{"a bad digest", good, "web", Change{Version: "2", Digest: "sha256:AB"}, "digest"},
		{"a bad platform", good, "web", Change{Version: "2", Digests: map[string]string{"\"": digestA}}, "platform"},
		{"both", good, "web", Change{Version: "2", Digest: digestA, Digests: map[string]string{"a/b": digestA}}, "one or the other"},
		{"declared twice", good + good, "web", Change{Version: "2"}, "twice"},
		{"two releases", "service \"web\" {\n  release {}\n  release {}\n}\n", "web", Change{Version: "2"}, "more than one"},
		{"no release", "service \"web\" {}\n", "web", Change{Version: "2"}, "no release block"},
		{"no parse", "service \"web\" {", "web", Change{Version: "2"}, "block"},
		{"a bomb", "x = " + strings.Repeat("!", 10_000) + "\n" + good, "web", Change{Version: "2"}, "a.hcl:1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Bump([]byte(tt.src), "a.hcl", tt.service, tt.change)
			if err == nil {
				t.Fatal("not refused")
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v does not say %q", err, tt.want)
			}
		})
	}
}

// bumpLaw is what holds of every file and change: it changes one block and
// nothing else, it reads back as what was asked for, and twice is once.
func bumpLaw(t interface {
	Helper()
	Fatalf(string, ...any)
}, src []byte, filename string, c Change) {
	t.Helper()
	names, err := ServicesIn(src, filename)
	if err != nil || len(names) == 0 {
		return
	}
	out, err := Bump(src, filename, names[0], c)
	if err != nil {
		if string(src) == "" {
			t.Fatalf("%v", err)
		}
		return
	}
	got, _, err := ReleaseIn(out, filename, names[0])
	if err != nil || !got.Equal(c) {
		t.Fatalf("asked for %+v, reads %+v, %v\n%s", c, got, err, out)
	}
	for _, other := range names[1:] {
		was, _, err1 := ReleaseIn(src, filename, other)
		is, _, err2 := ReleaseIn(out, filename, other)
		if (err1 == nil) != (err2 == nil) || !was.Equal(is) {
			t.Fatalf("%s changed too: %+v -> %+v\n%s", other, was, is, out)
		}
	}
	again, err := Bump(out, filename, names[0], c)
	if err != nil || string(again) != string(out) {
		t.Fatalf("twice is not once: %v\n%q\n%q", err, out, again)
	}
	if strings.HasSuffix(filename, ".json") {
		return
	}
	// Everything before and after the one block is the same bytes.
	before, _ := findRelease(src, filename, names[0])
	after, _ := findRelease(out, filename, names[0])
	if !sameOutside(before, after) {
		t.Fatalf("changed outside of the block:\n%q\n%q", src, out)
	}
}

func FuzzBump(f *testing.F) {
	f.Add([]byte("service \"web\" {\n  release {\n    version = \"1\"\n  }\n}\n"), false, uint8(0))
	f.Add([]byte(`{"service":{"web":{"release":{"version":"1"}}}}`), true, uint8(7))
	f.Fuzz(func(t *testing.T, src []byte, json bool, kind uint8) {
		name := "a.hcl"
		if json {
			name = "a.hcl.json"
		}
		c := Change{Version: "2.0.1+x", Attempt: int(kind >> 2 & 3)}
		switch kind & 3 {
		case 1:
			c.Digest = digestA
		case 2:
			c.Digests = map[string]string{"linux/amd64": digestA}
		case 3:
			c.Digests = map[string]string{"linux/amd64": digestA, "linux/arm64": digestB}
		}
		bumpLaw(t, src, name, c)
	})
}

func TestBumpLaw(t *testing.T) {
	space := rapid.SampledFrom([]string{" ", "  ", "\t", " /* c */ "})
	end := rapid.SampledFrom([]string{"\n", " # x\n", "\r\n", " // y\r\n", "\n\n"})
	rapid.Check(t, func(rt *rapid.T) {
		sp := func() string { return space.Draw(rt, "space") }
		nl := func() string { return end.Draw(rt, "end") }
		var b strings.Builder
		for i, n := 0, rapid.IntRange(1, 3).Draw(rt, "services"); i < n; i++ {
			b.WriteString("service" + sp() + "\"s" + string(rune('a'+i)) + "\"" + sp() + "{" + nl())
			if rapid.Bool().Draw(rt, "heredoc") {
				b.WriteString("text = <<E\n release { version = \"9\" }\nE\n")
			}
			b.WriteString("release" + sp() + "{" + nl())
			b.WriteString(sp() + "version" + sp() + "=" + sp() + "\"1.0\"" + nl())
			switch rapid.IntRange(0, 2).Draw(rt, "digest") {
			case 1:
				b.WriteString("digest" + sp() + "=" + sp() + "\"" + digestA + "\"" + nl())
			case 2:
				b.WriteString("digests" + sp() + "= {" + nl() + "\"linux/amd64\" = \"" + digestA + "\"" + nl() + "}" + nl())
			}
			if rapid.Bool().Draw(rt, "attempt") {
				b.WriteString("attempt" + sp() + "=" + sp() + "2" + nl())
			}
			b.WriteString("}" + nl() + "}" + nl())
		}
		c := Change{
			Version: rapid.StringMatching(`[A-Za-z0-9][A-Za-z0-9.+~_-]{0,10}`).Draw(rt, "version"),
			Attempt: rapid.IntRange(0, 3).Draw(rt, "attempt"),
		}
		switch rapid.IntRange(0, 2).Draw(rt, "kind") {
		case 1:
			c.Digest = digestB
		case 2:
			c.Digests = map[string]string{"linux/amd64": digestB}
		}
		if _, err := Bump([]byte(b.String()), "a.hcl", "sa", c); err != nil {
			rt.Fatalf("refused: %v\n%s", err, b.String())
		}
		bumpLaw(rt, []byte(b.String()), "a.hcl", c)
	})
}

// The proof at the end of a bump does not trust the splices.
func TestVerifyRefusesOutside(t *testing.T) {
	src := "service \"web\" {\n  release {\n    version = \"1\"\n  }\n}\n"
	json := `{"service": {"web": {"hosts": {}, "release": {"version": "1"}}}}`
	for _, tt := range []struct{ file, src, out, want string }{
		{"a.hcl", src, strings.Replace(src, "\"1\"", "\"3\"", 1), "reads back"},
		{"a.hcl", src, "# more\n" + strings.Replace(src, "\"1\"", "\"2\"", 1), "touched more"},
		{"a.hcl", src, strings.Replace(src, "\"1\"", "\"2\"", 1) + "\n", "touched more"},
		{"a.hcl", src, "service", "would not parse"},
		{"a.hcl.json", json, strings.NewReplacer(`"1"`, `"2"`, `{}`, `{"a": "b"}`).Replace(json), "touched more"},
	} {
		site, diags := findRelease([]byte(tt.src), tt.file, "web")
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		err := verifyBump(site, []byte(tt.out), tt.file, "web", Change{Version: "2"})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: %v does not say %q", tt.out, err, tt.want)
		}
	}
}

// A file that would cost the parser too much never reaches it.
func TestBumpGuards(t *testing.T) {
	src := "service \"web\" {\n  release {\n    version = \"1\"\n  }\n}\n" + strings.Repeat("# long\n", 50_000)
	if _, err := Bump([]byte(src), "a.hcl", "web", Change{Version: "2"}); err == nil || !strings.Contains(err.Error(), "too large") {
		t.Errorf("not refused for its size: %v", err)
	}
}
