package sql

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"drydock/reconcile"
)

func versions(files []file) (all []int64) {
	for _, f := range files {
		all = append(all, f.version)
	}
	return all
}

// What is decided, said a second time from its definition: the files that are
// not applied, all of them above everything that is, and nothing applied that
// the release contradicts.
func TestDecideLaw(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var files []file
		var have []applied
		for v := int64(1); v <= 12; v++ {
			sum := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "sum")
			if rapid.Bool().Draw(t, "in the release") {
				files = append(files, file{version: v, name: "f", sum: sum})
			}
			if v <= 8 && rapid.Bool().Draw(t, "applied") {
				a := applied{version: v, recorded: rapid.Bool().Draw(t, "recorded")}
				if a.recorded {
					a.sum, a.compatible = rapid.SampledFrom([]string{sum, sum, sum, "c"}).Draw(t, "was"), rapid.Bool().Draw(t, "compatible")
				}
				have = append(have, a)
			}
		}
		file := func(v int64) (f file, ok bool) {
			for _, f := range files {
				if f.version == v {
					return f, true
				}
			}
			return f, false
		}
		wrong, newest := false, int64(0)
		for _, a := range have {
			newest = max(newest, a.version)
			f, ok := file(a.version)
			switch {
			case ok:
				wrong = wrong || a.recorded && a.sum != f.sum
			case len(files) > 0 && a.version < files[0].version:
			default:
				wrong = wrong || !a.recorded || !a.compatible
			}
		}
		var want []int64
		for _, f := range files {
			if !slices.ContainsFunc(have, func(a applied) bool { return a.version == f.version }) {
				want = append(want, f.version)
				wrong = wrong || f.version < newest
			}
		}
		got, err := decide(files, rapid.Permutation(have).Draw(t, "have"))
		if wrong != (err != nil) {
			t.Fatalf("refused: %v; expected %v", err, wrong)
		}
		if err != nil {
			if reconcile.BlameOf(err) != reconcile.OfRelease {
				t.Fatal(err)
			}
			return
		}
		if diff := cmp.Diff(want, versions(got)); diff != "" {
			t.Fatal(diff)
		}
		// Once they are applied, nothing is pending.
		for _, f := range got {
			have = append(have, applied{version: f.version, recorded: true, sum: f.sum})
		}
		if rest, err := decide(files, have); err != nil || len(rest) > 0 {
			t.Fatalf("then: %v, %v", rest, err)
		}
	})
}

func TestDecideSaysWhich(t *testing.T) {
	f := func(v int64, name, sum string) file { return file{version: v, name: name, sum: sum} }
	for _, c := range []struct {
		name  string
		files []file
		have  []applied
		says  string
	}{
		{"renamed and edited", []file{f(1, "1_b.sql", "y")}, []applied{{version: 1, recorded: true, name: "1_a.sql", sum: "x", service: "web 1"}}, "1_b.sql was edited after web 1 had applied it as 1_a.sql"},
		{"of another tool", []file{f(1, "1_a.sql", "x")}, []applied{{version: 1}, {version: 2}, {version: 3}}, "version 2, version 3 are applied, which the release does not have"},
		{"in the middle", []file{f(1, "1_a.sql", "x"), f(3, "3_c.sql", "x")}, []applied{{version: 1}, {version: 2}, {version: 3}}, "version 2 is applied, which the release does not have"},
		{"no files", nil, []applied{{version: 1}}, "version 1 is applied"},
		{"many late", []file{f(1, "1", ""), f(2, "2", ""), f(3, "3", ""), f(4, "4", ""), f(5, "5", ""), f(6, "6", ""), f(7, "7", ""), f(8, "8", ""), f(9, "9", ""), f(10, "10", ""), f(11, "11", ""), f(12, "12", ""), f(13, "13", "")},
			[]applied{{version: 13}}, "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, and 2 more came late"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := decide(c.files, c.have)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestWhatLeavesATransaction(t *testing.T) {
	for text, want := range map[string]string{
		"create table a (id int);": "",
		"commit;":                  "COMMIT",
		"  COMMIT WORK":            "COMMIT",
		"insert into a values (1); commit; insert into b values (2)": "COMMIT",
		"-- note\ncommit;":                              "COMMIT",
		"/* a /* b */ c */ commit":                      "COMMIT",
		"-- commit;\nselect 1;":                         "",
		"/* commit; */ select 1":                        "",
		"select 'a''; commit; b';":                      "",
		"select 'a\\'; commit; --'":                     "COMMIT",
		"select E'a\\'; commit; b'":                     "",
		`select "a; commit; b"`:                         "",
		"do $$ begin commit; end $$;":                   "",
		"do $x$ begin $$; commit; $$ end $x$; rollback": "ROLLBACK",
		"select $1; commit":                             "COMMIT",
		"rollback to savepoint a;":                      "",
		"rollback;":                                     "ROLLBACK",
		"begin;":                                        "BEGIN",
		"start transaction;":                            "START TRANSACTION",
		"prepare p as select 1;":                        "",
		"prepare transaction 'x';":                      "PREPARE TRANSACTION",
		"end;":                                          "END",
		"abort":                                         "ABORT",
		"create trigger t after insert on a begin update b set x = case when 1 then 2 end; delete from c; end;":         "",
		"create trigger t after insert on a begin update b set x = case when 1 then 2 end; delete from c; end; commit;": "COMMIT",
		"create function f() returns int begin atomic select 1; select 2; end;":                                         "",
		"create table commits (\"end\" int); insert into commits values (1)":                                            "",
		"select 1e5; abort":            "ABORT",
		"savepoint a; release a;":      "",
		"select 'never closed; commit": "",
	} {
		if got := leaves(text); got != want {
			t.Errorf("%q: %q, not %q", text, got, want)
		}
	}
}

// Whatever a text is, it is taken apart to its end.
func FuzzCommands(f *testing.F) {
	for _, text := range []string{"commit;", "select $a$ ' $a$;", "create trigger t begin case end; end;", "e'\\", "/*", "$", "é;commit"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, c := range commands(text) {
			if c.first == "" || c.first != strings.ToUpper(c.first) {
				t.Errorf("%q begins with %q", text, c.first)
			}
		}
	})
}

func TestRedact(t *testing.T) {
	p := place{url: "postgres://u:p%40ss%2fword@h/d", password: "p@ss/word"}
	for _, text := range []string{"it is p@ss/word.", "it is p%40ss%2fword.", "it is p%40ss%2Fword.", "at postgres://u:p%40ss%2fword@h/d?"} {
		if got := p.redact(text); strings.Contains(got, "ss") {
			t.Errorf("%q", got)
		}
	}
}

func TestParseSeesWhatGooseSends(t *testing.T) {
	text := "-- a comment\r\n-- +goose NO TRANSACTION\r\n-- +goose Up\r\ncreate table a (\r\n  id int -- the id\r\n);\r\n-- +goose StatementBegin\r\ncreate function f; begin; end;\r\n-- +goose StatementEnd\r\n\r\n-- +goose Down\r\ndrop table a;\r\n"
	s, err := parse(file{version: 1, name: "1_a.sql"}, []byte(text), true)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"create table a (\n  id int -- the id\n);", "create function f; begin; end;"}
	if diff := cmp.Diff(want, s.statements); diff != "" || s.inside || s.atomic {
		t.Errorf("%s, inside %v", diff, s.inside)
	}
	if got := s.at(want[0], 20); got != "1_a.sql:5" {
		t.Errorf("%s", got)
	}
	if got := s.at(want[1], 0); got != "1_a.sql:8" {
		t.Errorf("%s", got)
	}
	if got := s.at("something else", 3); got != "1_a.sql" {
		t.Errorf("%s", got)
	}
}
