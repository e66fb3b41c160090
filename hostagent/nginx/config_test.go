package nginx

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// edit drains or undrains the one server of that name, as the driver would.
func edit(t testing.TB, src, name string, drain bool) string {
	t.Helper()
	all, err := servers([]byte(src))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		if s.name != name {
			continue
		}
		if drain {
			return string(drained([]byte(src), s))
		}
		if !s.ours() {
			t.Fatalf("not ours in\n%s", src)
		}
		return string(undrained([]byte(src), s))
	}
	t.Fatalf("no server %s in\n%s", name, src)
	return ""
}

func TestEdit(t *testing.T) {
	const name = "10.0.0.5:8080"
	for what, c := range map[string]struct{ src, want string }{
		"fragment":        {"server 10.0.0.5:8080;\n", "server 10.0.0.5:8080 down; # drained by drydock\n"},
		"no last newline": {"server 10.0.0.5:8080;", "server 10.0.0.5:8080 down; # drained by drydock"},
		"parameters":      {"server 10.0.0.4:8080;\n  server 10.0.0.5:8080 weight=3 max_fails=2;\n", "server 10.0.0.4:8080;\n  server 10.0.0.5:8080 weight=3 max_fails=2 down; # drained by drydock\n"},
		"CRLF":            {"server 10.0.0.5:8080;\r\nserver b;\r\n", "server 10.0.0.5:8080 down; # drained by drydock\r\nserver b;\r\n"},
		"comment":         {"server 10.0.0.5:8080; # rack 4\n", "server 10.0.0.5:8080 down; # drained by drydock # rack 4\n"},
		"comment at once": {"server 10.0.0.5:8080;#rack\n", "server 10.0.0.5:8080 down; # drained by drydock#rack\n"},
		"quoted":          {"server '10.0.0.5:8080' ;\n", "server '10.0.0.5:8080'  down; # drained by drydock\n"},
		"several lines":   {"server\n  10.0.0.5:8080\n  weight=2\n;\n", "server\n  10.0.0.5:8080\n  weight=2\n down; # drained by drydock\n"},
		"in its block":    {"upstream web {\n\tserver 10.0.0.5:8080;\n}\n", "upstream web {\n\tserver 10.0.0.5:8080 down; # drained by drydock\n}\n"},
		"in http, beside server blocks": {
			"http {\n upstream web {\n  zone web 64k;\n  server 10.0.0.5:8080;\n }\n server { listen 80; location ~ \\.php${x} { return 204; } }\n map $a $b { server 10.0.0.5:8080; }\n}\n",
			"http {\n upstream web {\n  zone web 64k;\n  server 10.0.0.5:8080 down; # drained by drydock\n }\n server { listen 80; location ~ \\.php${x} { return 204; } }\n map $a $b { server 10.0.0.5:8080; }\n}\n",
		},
		"looked like it before": {"# server 10.0.0.5:8080;\nserver 10.0.0.5:80800;\nserver 10.0.0.5:8080;\n", "# server 10.0.0.5:8080;\nserver 10.0.0.5:80800;\nserver 10.0.0.5:8080 down; # drained by drydock\n"},
		"an old mark":           {"server 10.0.0.5:8080; # drained by drydock\n", "server 10.0.0.5:8080 down; # drained by drydock # drained by drydock\n"},
	} {
		t.Run(what, func(t *testing.T) {
			got := edit(t, c.src, name, true)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("drained (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.src, edit(t, got, name, false)); diff != "" {
				t.Errorf("undrained (-want +got):\n%s", diff)
			}
		})
	}
}

// Whose `down` it is: only both of ours together are ours.
func TestWhose(t *testing.T) {
	for src, want := range map[string]struct{ down, ours bool }{
		"server a;":                                             {false, false},
		"server a down;":                                        {true, false},
		"server a down; # maintenance":                          {true, false},
		"server a down; # drained by drydock":                   {true, true},
		"server a down weight=2; # drained by drydock":          {true, true},
		"server a down; # drained by drydocker":                 {true, false},
		"server a; # drained by drydock":                        {false, false},
		"server a backup;\n# drained by drydock":                {false, false},
		"server a down;\n # drained by drydock":                 {true, false},
		"server down;":                                          {false, false},
		"server a weight=1 'down'; # drained by drydock # rack": {true, true},
	} {
		all, err := servers([]byte(src))
		if err != nil || len(all) != 1 {
			t.Errorf("%q: %v, %v", src, all, err)
			continue
		}
		if s := all[0]; s.down() != want.down || s.ours() != want.ours {
			t.Errorf("%q: down %v, ours %v", src, s.down(), s.ours())
		}
	}
}

func TestUnreadable(t *testing.T) {
	for src, want := range map[string]string{
		"server a":                   "no semicolon",
		"upstream x { server a;":     "not closed",
		"server a; }":                "closes nothing",
		"server 'a;\n":               "never closed",
		"server 'a'b;\n":             "closing quote",
		"{ server a; }":              "begins with nothing",
		"upstream x { server a; b }": "closes nothing",
		strings.Repeat("a { ", 40) + " server a; ":     "too deep",
		strings.Repeat("a { ", 40) + "}":               "too deep",
		"server a;\nupstream b {\n server \"a\nb ;\n}": "line 3",
	} {
		if _, err := servers([]byte(src)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", src, err)
		}
	}
}

// Something else on the line leaves no room for the mark.
func TestAlone(t *testing.T) {
	for src, want := range map[string]bool{
		"upstream web { server a; server b; }":  false,
		"upstream web { server b;\nserver a; }": false,
		"server b; server a; # x":               true,
		"server a;\t \r\n":                      true,
	} {
		all, err := servers([]byte(src))
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range all {
			if s.name == "a" && s.alone != want {
				t.Errorf("%q: alone is %v", src, s.alone)
			}
		}
	}
}

// law checks, of a file that can be read, that draining a server changes one
// line only, that nginx would then read it as down and everything else as
// before, and that undraining gives back every byte.
func law(t testing.TB, src []byte) {
	t.Helper()
	all, err := servers(src)
	if err != nil {
		return
	}
	for i, s := range all {
		if s.down() || !s.alone {
			continue
		}
		out := drained(src, s)
		was, is := bytes.Split(src, []byte("\n")), bytes.Split(out, []byte("\n"))
		changed := 0
		for l := range was {
			if len(was) != len(is) || !bytes.Equal(was[l], is[l]) {
				changed++
			}
		}
		if changed != 1 {
			t.Fatalf("%d lines changed:\n%q\n%q", changed, src, out)
		}
		again, err := servers(out)
		if err != nil || len(again) != len(all) {
			t.Fatalf("%v, %d servers of %d:\n%q", err, len(again), len(all), out)
		}
		for j, a := range again {
			if b := all[j]; a.name != b.name || a.upstream != b.upstream || a.down() != (b.down() || i == j) || i == j && !a.ours() {
				t.Fatalf("server %d became %+v, was %+v:\n%q", j, a, b, out)
			}
		}
		if back := undrained(out, again[i]); !bytes.Equal(back, src) {
			t.Fatalf("drained and undrained:\n%q\n%q", src, back)
		}
	}
}

func TestLaw(t *testing.T) {
	piece := rapid.SampledFrom([]string{
		"server ", "server a;", "server a weight=2;\n", "server b down;", "server b down; # drained by drydock\n", " # drained by drydock", "# c\n", "#", " ", "\t", "\n", "\r\n",
		";", "{", "}", "upstream u {\n", "http {", "a", "$", "${x}", "\\", "\\;", "'", "\"", "'a b'", " down", "down", "weight=1", "unix:/run/x.sock", "é",
	})
	rapid.Check(t, func(rt *rapid.T) {
		parts := rapid.SliceOfN(piece, 0, 30).Draw(rt, "parts")
		law(t, []byte(strings.Join(parts, "")))
	})
}

func FuzzLaw(f *testing.F) {
	for _, s := range []string{
		"server a;", "upstream w {\r\n server 'a' weight=1; # x\r\n}\r\n", "server a down; # drained by drydock", "server a\n;#", "server \"a\\\"b\";\nserver ${x};",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		if len(src) < 2<<10 { // the law looks at the whole file for each server
			law(t, src)
		}
	})
}
