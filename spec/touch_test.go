package spec

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

const touchFile = `# web, the front
service "web" {
  hosts = {}
  release {
    version = "1.0" # by a pipeline
    digest  = "@A"
  }
  start "command" {
    command = ["a", <<E
x
E
    ]
  }
}

freeze "audit" { # until when?
  until = "2027-01-01T00:00:00Z"
}

service "api" {
  hosts = {}
  release {
    version = "7"
    digests = {
      # the small one
      "linux/arm64" = "@A"
      "linux/amd64" = "@A"
    }
    attempt = 2
  }
}
`

const touchJSON = `{"service": {"web": {"hosts": {}, "release": {"version": "1.0", "digest": "@A"}},
  "api": [{"hosts": {}, "release": {"version": "7", "attempt": 2}}]},
 "freeze": {"audit": {"until": "2027-01-01T00:00:00Z"}}, "//": "a comment"}
`

// told is a touch in a few words: kind, name, line.
func told(touches []Touch) []string {
	var out []string
	for _, t := range touches {
		s := fmt.Sprintf("%s %s:%d", t.Kind, t.Name, t.Line)
		if t.Kind == TouchOther {
			s = fmt.Sprintf("other:%d %s", t.Line, t.Says)
		}
		if t.Gone {
			s = "- " + s
		}
		out = append(out, s)
	}
	return out
}

func TestTouches(t *testing.T) {
	// Each row replaces the first of two texts by the second, and so on.
	rows := []struct {
		name, file string
		replace    []string
		want       string
	}{
		{"nothing", "a.hcl", nil, ""},
		{"a version", "a.hcl", []string{`"1.0"`, `"1.1"`}, "release web:5"},
		{"a digest", "a.hcl", []string{`"@A"`, `"@B"`}, "release web:5"},
		{"two releases", "a.hcl", []string{`"1.0"`, `"1.1"`, `"7"`, `"8"`}, "release api:23; release web:5"},
		{"one of two digests", "a.hcl", []string{`"linux/amd64" = "@A"`, `"linux/amd64" = "@B"`}, "release api:23"},
		{"another way to write a version", "a.hcl", []string{`"1.0"`, `"\u0031.0"`}, ""},
		{"an attempt", "a.hcl", []string{"attempt = 2", "attempt = 3"}, "attempt api:23"},
		{"an attempt back", "a.hcl", []string{"attempt = 2", "attempt = 1"}, "other:23 takes api 7 back from attempt 2 to 1"},
		{"an attempt where none stood", "a.hcl", []string{"@A\"\n  }", "@A\"\n    attempt = 2\n  }"}, "attempt web:5"},
		{"an attempt where none stood, out of line", "a.hcl", []string{"@A\"\n  }", "@A\"\n     attempt = 2\n  }"}, "other:7 changes service \"web\"; attempt web:5"},
		{"a release and the first attempt again", "a.hcl", []string{`"7"`, `"8"`, "attempt = 2", "attempt = 1"}, "release api:23"},
		{"a release and an attempt", "a.hcl", []string{`"7"`, `"8"`, "attempt = 2", "attempt = 9"}, "release api:23; attempt api:23"},
		{"a comment behind a value", "a.hcl", []string{"by a pipeline", "by me"}, "other:5 changes a comment in service \"web\""},
		{"a comment among digests", "a.hcl", []string{"the small one", "the big one"}, "other:25 changes a comment in service \"api\""},
		{"a comment at the top", "a.hcl", []string{"the front", "the back"}, "other:1 changes a comment"},
		{"a comment less", "a.hcl", []string{"# web, the front\n", ""}, "other:1 changes a comment"},
		{"a platform", "a.hcl", []string{"amd64", "riscv64"}, "other:27 changes service \"api\"; release api:23"},
		{"a platform's case of a digest", "a.hcl", []string{`"linux/amd64" = "@A"`, `"linux/amd64" = "@a"`}, "other:24 writes the digests of api as no plain value: digests: a digest is \"sha256:\" and 64 hexadecimal digits in lower case, or \"git:\" and a full commit; \"@a\" is not"},
		{"white space", "a.hcl", []string{"digest  =", "digest ="}, "other:6 changes service \"web\""},
		{"an empty line", "a.hcl", []string{"\n\nfreeze", "\n\n\nfreeze"}, "other:16 changes what stands between the blocks"},
		{"a carriage return", "a.hcl", []string{"{}\n", "{}\r\n"}, "other:3 changes service \"web\""},
		{"a heredoc", "a.hcl", []string{"x\nE", "y\nE"}, "other:10 changes service \"web\""},
		{"a heredoc beside a freeze", "a.hcl", []string{"x\nE", "x\n\nE", "2027", "2028"}, "other:11 changes service \"web\"; freeze audit:17; - freeze audit:16"},
		{"a value that is computed", "a.hcl", []string{`"1.0"`, `upper("x")`}, "other:5 writes the version of web as no plain value: it calls a function"},
		{"a value in brackets", "a.hcl", []string{`"1.0"`, `("1.1")`}, "other:5 writes the version of web as no plain value: it is an expression"},
		{"a value by condition", "a.hcl", []string{`"1.0"`, `true ? "1.1" : "2"`}, "other:5 writes the version of web as no plain value: it is an expression"},
		{"a value in a heredoc", "a.hcl", []string{`"1.0" #`, "<<E\n1.1\nE\n #"}, "other"},
		{"null", "a.hcl", []string{`"@A"`, "null"}, "other:6 writes the digest of web as no plain value: it is null"},
		{"a release attribute more", "a.hcl", []string{"    digest ", "    signature = \"x\"\n    digest "}, "other:6 changes service \"web\""},
		{"a release attribute less", "a.hcl", []string{"    digest  = \"@A\"\n", ""}, "other:6 changes service \"web\"; release web:5"},
		{"a release block more", "a.hcl", []string{"  start", "  release {\n    version = \"3\"\n  }\n  start"}, "other"},
		{"a service of the same name", "a.hcl", []string{"# web", "service \"web\" {\n}\n# web"}, "other"},
		{"a service more", "a.hcl", []string{"# web", "service \"new\" {\n}\n# web"}, "other:1 changes service \"new\""},

		{"freeze", "a.hcl", []string{"# web", "freeze \"x\" {\n}\n\n# web"}, "freeze x:1"},
		{"a freeze changed", "a.hcl", []string{"2027", "2028"}, "freeze audit:16; - freeze audit:16"},
		{"a comment in it", "a.hcl", []string{"until when?", "when?"}, "freeze audit:16; - freeze audit:16"},
		{"unfreeze", "a.hcl", []string{"\nfreeze \"audit\" { # until when?\n  until = \"2027-01-01T00:00:00Z\"\n}\n", ""}, "- freeze audit:16"},
		{"unfreeze and a release", "a.hcl", []string{"\nfreeze \"audit\" { # until when?\n  until = \"2027-01-01T00:00:00Z\"\n}\n", "", `"1.0"`, `"1.1"`}, "release web:5; - freeze audit:16"},
		{"freeze and what it hides", "a.hcl", []string{"# web", "freeze \"x\" {\n}\nremoved \"web\" {\n  hosts = {}\n}\n# web"}, "other:3 changes removed \"web\"; freeze x:1"},
		{"freeze and a comment", "a.hcl", []string{"# web", "freeze \"x\" {\n}\n# why\n# web"}, "other:3 changes a comment; freeze x:1"},
		{"freeze and a comment less", "a.hcl", []string{"# web, the front\n", "freeze \"x\" {\n}\n"}, "other:3 changes a comment; freeze x:1"},
		{"freeze with a block in it", "a.hcl", []string{"# web", "freeze \"x\" {\n  run \"y\" {}\n}\n# web"}, `other:1 writes freeze "x", which is not in plain values: it holds a block`},
		{"freeze for a reason that a terminal obeys", "a.hcl", []string{"# web", "freeze \"x\\u001b[2J\" {\n}\n# web"}, "other:1 writes freeze \"x\\x1b[2J\", which is not in plain values: A label is one line, of characters that can be seen; this freeze has others. Write it in words."},
		{"forgotten for a reason of two lines", "a.hcl", []string{"# web", "forgotten \"h\" {\n  reason = \"x\\nall is well\"\n}\n# web"}, "other"},
		{"freeze without a reason", "a.hcl", []string{"# web", "freeze {\n}\n# web"}, "other"},
		{"freeze until somebody's local", "a.hcl", []string{`"2027-01-01T00:00:00Z"`, "local.x"}, "other:16 writes freeze \"audit\", which is not in plain values: until is not a plain value; - freeze audit:16"},
		{"forgotten", "a.hcl", []string{"# web", "forgotten \"h\" {}\n# web"}, "forgotten h:1"},
		{"resolved", "a.hcl", []string{"# web", "resolved \"web\" {\n  release = \"1\"\n  outcome = \"applied\"\n}\n# web"}, "resolved web:1"},
		{"resolved by half", "a.hcl", []string{"# web", "resolved \"web\" {\n  release = \"1\"\n}\n# web"}, "other"},
		{"override", "a.hcl", []string{"# web", "override \"x\" {\n  skip = [\"freeze\"]\n  until = \"2027-01-01T00:00:00Z\"\n}\n# web"}, "other:1 changes override \"x\""},

		{"what does not parse", "a.hcl", []string{"# web", "{"}, "other"},
		{"what is too deep", "a.hcl", []string{`"1.0"`, strings.Repeat("(", 70)}, "other:5 leaves a file that cannot be read: Nested too deep"},

		{"JSON: a version", "a.hcl.json", []string{`"1.0"`, `"1.1"`}, "release web:1"},
		{"JSON: in a list", "a.hcl.json", []string{`"7"`, `"8"`}, "release api:2"},
		{"JSON: an attempt", "a.hcl.json", []string{`"attempt": 2`, `"attempt": 3`}, "attempt api:2"},
		{"JSON: an attempt where none stood", "a.hcl.json", []string{`"@A"}`, `"@A", "attempt": 2}`}, "attempt web:1"},
		{"JSON: white space", "a.hcl.json", []string{`{}, "release"`, `{},  "release"`}, "other"},
		{"JSON: a comment", "a.hcl.json", []string{"a comment", "another"}, "other:3 changes //"},
		{"JSON: a template", "a.hcl.json", []string{`"1.0"`, `"${local.x}"`}, "other:1 writes the version of web as no plain value: it names local.x"},
		{"JSON: a key twice", "a.hcl.json", []string{`"version": "1.0"`, `"version": "1.0", "version": "2"`}, "other"},
		{"JSON: a release twice", "a.hcl.json", []string{`"release": {"version": "1.0", "digest": "@A"}`, `"release": [{"version": "1.0", "digest": "@A"}, {"version": "2"}]`}, "other"},
		{"JSON: freeze", "a.hcl.json", []string{`"audit": {`, `"x": {}, "audit": {`}, "freeze x:3; - freeze audit:3"},
		{"JSON: unfreeze", "a.hcl.json", []string{`"freeze": {"audit": {"until": "2027-01-01T00:00:00Z"}}, `, ``}, "- freeze audit:3"},
		{"JSON: freeze and more", "a.hcl.json", []string{`"//"`, `"forgotten": {"h": {}}, "moved": {"from": "a", "to": "b"}, "//"`}, "other"},
		{"JSON: the order", "a.hcl.json", []string{`"//": "a comment"`, ``, `{"service"`, `{"//": "a comment", "service"`, `}, }`, `}}`}, "other:1 changes what stands between the blocks"},
		{"JSON: a list at the top", "a.hcl.json", []string{`{"service"`, `[{"service"`, "comment\"}", "comment\"}]"}, "other"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			old := short(touchFile)
			if isJSON(row.file) {
				old = short(touchJSON)
			}
			is := old
			for i := 0; i < len(row.replace); i += 2 {
				a, b := short(row.replace[i]), short(row.replace[i+1])
				if !strings.Contains(is, a) {
					t.Fatalf("no %q in\n%s", a, is)
				}
				is = strings.Replace(is, a, b, 1)
			}
			got := strings.Join(told(Touches([]byte(old), []byte(is), row.file)), "; ")
			if row.want == "other" && strings.Contains(got, "other:") {
				return
			}
			if got != row.want {
				t.Errorf("want %s\ngot  %s", row.want, got)
			}
		})
	}
}

func TestTouchesOfWholeFiles(t *testing.T) {
	freeze := []byte("freeze \"x\" {\n}\n")
	for _, tt := range []struct {
		name, file string
		old, new   []byte
		want       string
	}{
		{"freeze in a new file", "f.hcl", nil, freeze, "freeze x:1"},
		{"its end", "f.hcl", freeze, nil, "- freeze x:1"},
		{"emptied", "f.hcl", freeze, []byte("\n"), "- freeze x:1"},
		{"emptied JSON, which is none", "f.hcl.json", []byte(`{"freeze": {"x": {}}}`), []byte{}, "other"},
		{"a file with a comment", "f.hcl", nil, []byte("# x\n"), "other:1 adds a file"},
		{"a file deleted", "f.hcl", []byte("# x\n"), nil, "other:1 deletes a file"},
		{"a service", "f.hcl", nil, []byte(touchFile), "other"},
		{"mended", "f.hcl", []byte("{"), freeze, "other:1 mends or replaces a file that could not be read before"},
		{"too large", "f.hcl", nil, bytes.Repeat([]byte("#"), maxFileBytes+1), "other:1 leaves a file that cannot be read: File too large"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := strings.Join(told(Touches(tt.old, tt.new, tt.file)), "; ")
			if got != tt.want && (tt.want != "other" || !strings.Contains(got, "other:")) {
				t.Errorf("want %s, got %s", tt.want, got)
			}
		})
	}
}

// What the commands write is what it is called.
func TestCommandsTouchWhatTheyMean(t *testing.T) {
	src := short(touchFile)
	kinds := func(out []byte, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		var words []string
		for _, touch := range Touches([]byte(src), out, "a.hcl") {
			words = append(words, string(touch.Kind))
		}
		return strings.Join(words, " ")
	}
	gone, _, err := RemoveFreeze([]byte(src), "a.hcl", func(Freeze) bool { return true })
	if got := kinds(gone, err); got != "freeze" {
		t.Error(got)
	}
	if got := kinds(AddFreeze([]byte(src), "a.hcl", Freeze{Reason: "x"})); got != "freeze" {
		t.Error(got)
	}
	if got := kinds(Bump([]byte(src), "a.hcl", "web", Change{Version: "2", Digest: digestB})); got != "release" {
		t.Error(got)
	}
	if got := kinds(Bump([]byte(src), "a.hcl", "web", Change{Version: "1.0", Digest: digestA, Attempt: 2})); got != "attempt" {
		t.Error(got)
	}
}

// lawOfTouches: what touches nothing but releases leaves every service's
// declaration what it was, in the eyes of the loader, and names the releases
// that the loader sees.
func lawOfTouches(t interface {
	Helper()
	Fatalf(string, ...any)
}, old, new []byte, file string) {
	t.Helper()
	if diff := cmp.Diff([]Touch(nil), Touches(old, bytes.Clone(old), file)); diff != "" && !strings.Contains(diff, "could not be read") {
		t.Fatalf("nothing is something: %s", diff)
	}
	touches := Touches(old, new, file)
	if len(touches) == 0 && !bytes.Equal(old, new) {
		// Only the way a value is written may differ.
		a, b := released(old, file), released(new, file)
		if diff := cmp.Diff(a, b); diff != "" {
			t.Fatalf("something is nothing:\n%s", diff)
		}
	}
	want := map[string]Change{}
	for _, touch := range touches {
		if touch.Kind != TouchRelease && touch.Kind != TouchAttempt {
			return
		}
		want[touch.Name] = touch.To
	}
	was, is := declared(old, file), declared(new, file)
	if len(was) != len(is) {
		t.Fatalf("%d services became %d", len(was), len(is))
	}
	for name, d := range is {
		o := was[name]
		if d.SpecHash != o.SpecHash {
			t.Fatalf("the spec of %s changed", name)
		}
		if to, ok := want[name]; ok && (d.Release.Version != to.Version || d.Release.Digest != to.Digest && len(to.Digests) == 0) {
			t.Fatalf("%s is at %v, and said to be at %v", name, d.Release, to)
		} else if !ok && (d.Release.Version != o.Release.Version || d.Release.Digest != o.Release.Digest) {
			t.Fatalf("%s moved from %v to %v unsaid", name, o.Release, d.Release)
		}
	}
}

func released(src []byte, file string) map[string]Change {
	r, _ := ReleasesIn(src, file)
	return r
}

func declared(src []byte, file string) map[string]Declared {
	fleet, _ := Load("", fstest.MapFS{"prod/" + file: {Data: src}})
	list, _ := fleet.Services("prod")
	out := map[string]Declared{}
	for _, d := range list {
		out[d.Name] = d
	}
	return out
}

func FuzzTouches(f *testing.F) {
	a, j := short(touchFile), short(touchJSON)
	f.Add([]byte(a), []byte(strings.Replace(a, `"1.0"`, `"1.1"`, 1)), false)
	f.Add([]byte(j), []byte(strings.Replace(j, `"1.0"`, `"1.1"`, 1)), true)
	f.Add([]byte(a), []byte(strings.Replace(a, "attempt = 2", "attempt = 3", 1)), false)
	f.Fuzz(func(t *testing.T, old, new []byte, json bool) {
		file := "a.hcl"
		if json {
			file = "a.hcl.json"
		}
		lawOfTouches(t, old, new, file)
	})
}

// Small edits anywhere, which random bytes would rarely be.
func TestLawOfTouches(t *testing.T) {
	bits := rapid.SampledFrom([]string{`"1.1"`, `"2"`, "2", "3", "\n", " ", "#", "# x\n", `"`, "{", "}", ",", "attempt = 4\n", `upper("x")`, "${local.x}", "\\u0031", digestB, "//", "/*", "*/", "freeze \"x\" {}\n", "null", "(", ")", ""})
	rapid.Check(t, func(t *rapid.T) {
		file, old := "a.hcl", short(touchFile)
		if rapid.Bool().Draw(t, "json") {
			file, old = "a.hcl.json", short(touchJSON)
		}
		is := old
		for range rapid.IntRange(1, 3).Draw(t, "edits") {
			var at, n int
			if values := strings.Index(is, "version"); rapid.Bool().Draw(t, "near") && values >= 0 {
				at = min(values+rapid.IntRange(0, 40).Draw(t, "at"), len(is))
			} else {
				at = rapid.IntRange(0, len(is)).Draw(t, "at")
			}
			n = min(rapid.IntRange(0, 5).Draw(t, "n"), len(is)-at)
			is = is[:at] + bits.Draw(t, "bit") + is[at+n:]
		}
		lawOfTouches(t, []byte(old), []byte(is), file)
	})
}
