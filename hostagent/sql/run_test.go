package sql_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"drydock/reconcile"
)

// query asks the database for something that is one value, as every engine's
// client prints it.
func (h *host) query(sql string) string {
	h.t.Helper()
	if h.engine != "sqlite" {
		return h.exec(sql)
	}
	var s string
	if err := h.open().QueryRowContext(h.t.Context(), sql).Scan(&s); err != nil {
		h.t.Fatal(err)
	}
	return s
}

func each(t *testing.T, f func(t *testing.T, h *host)) {
	t.Helper()
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) { f(t, newHost(t, engine)) })
	}
}

func mustPreview(t *testing.T, h *host, want string) {
	t.Helper()
	got, err := h.driver().Preview(t.Context(), h.step)
	if err != nil || got != want {
		t.Errorf("Preview says %q, %v; expected %q", got, err, want)
	}
}

func TestPlanSaysWhatIsPending(t *testing.T) {
	each(t, func(t *testing.T, h *host) {
		files := map[string]string{"00001_create_orders.sql": two["00001_create_orders.sql"], "00002_add_name.sql": plain("alter table orders add column name varchar(80);")}
		h.release("1.0.0", files)
		want := "2 pending: 00001_create_orders.sql, 00002_add_name.sql (no transaction)"
		if h.engine == "mysql" {
			want = "2 pending: 00001_create_orders.sql (no transaction), 00002_add_name.sql (no transaction)"
		}
		mustPreview(t, h, want)
		h.mustDo()
		mustPreview(t, h, "nothing pending")
		if got := h.query("select count(*) from drydock_migrations where compatible = false and service = 'web' and service_version = '1.0.0'"); got != "2" {
			t.Errorf("%s migrations were recorded", got)
		}
		if got := h.query("select max(version_id) from goose_db_version"); got != "2" {
			t.Errorf("goose's version is %s", got)
		}
		for _, line := range []string{"00001_create_orders.sql applied in ", "00002_add_name.sql applied in "} {
			if !strings.Contains(h.output.String(), line) {
				t.Errorf("the log lacks %q:\n%s", line, h.output)
			}
		}
	})
}

func TestPreviewWaitsForTheFetch(t *testing.T) {
	each(t, func(t *testing.T, h *host) {
		if err := os.RemoveAll(h.root); err != nil {
			t.Fatal(err)
		}
		if _, err := h.driver().Preview(t.Context(), h.step); !errors.Is(err, reconcile.ErrUnfetched) {
			t.Errorf("%v", err)
		}
		if err := h.driver().Prepare(t.Context(), h.step); err != nil {
			t.Errorf("the database is there, and yet: %v", err)
		}
		if err := h.do(); reconcile.BlameOf(err) != reconcile.OfHost {
			t.Errorf("%v", err)
		}
	})
}

// Looking must not create goose's table, nor ours.
func TestLookingChangesNothing(t *testing.T) {
	each(t, func(t *testing.T, h *host) {
		h.release("1.0.0", two)
		mustPreview(t, h, map[bool]string{
			false: "2 pending: 00001_create_orders.sql, 00002_add_name.sql",
			true:  "2 pending: 00001_create_orders.sql (no transaction), 00002_add_name.sql (no transaction)"}[h.engine == "mysql"])
		if err := h.driver().Prepare(t.Context(), h.step); err != nil {
			t.Error(err)
		}
		if done, err := h.done(); done || err != nil {
			t.Errorf("done: %v, %v", done, err)
		}
		tables := map[string]string{
			"postgres": "select count(*) from pg_tables where schemaname = 'public'",
			"mysql":    "select count(*) from information_schema.tables where table_schema = database()",
			"sqlite":   "select count(*) from sqlite_master",
		}
		if n := h.query(tables[h.engine]); n != "0" {
			t.Errorf("there are %s tables", n)
		}
	})
}

// A database that goose had migrated before Drydock came has no rows of ours.
func TestDatabasesOfBeforeAreTakenAsTheyStand(t *testing.T) {
	each(t, func(t *testing.T, h *host) {
		h.release("1.0.0", two)
		h.mustDo()
		h.run("drop table drydock_migrations")
		h.release("1.0.1", map[string]string{
			"00001_create_orders.sql": two["00001_create_orders.sql"] + "-- said better\n",
			"00002_add_name.sql":      two["00002_add_name.sql"],
			"00003_more.sql":          up("create table more (id int);"),
		})
		h.mustDo()
		if got := h.query("select count(*) from drydock_migrations"); got != "1" {
			t.Errorf("%s rows of ours", got)
		}
	})
}

// refused is what both Prepare and Do must say, and that nothing was applied.
func refused(t *testing.T, h *host, blame reconcile.Blame, want ...string) {
	t.Helper()
	for what, err := range map[string]error{"Prepare": h.driver().Prepare(t.Context(), h.step), "Do": h.do()} {
		if err == nil {
			t.Fatalf("%s refuses nothing", what)
		}
		if reconcile.BlameOf(err) != blame {
			t.Errorf("%s blames the %v: %v", what, reconcile.BlameOf(err), err)
		}
		if what == "Do" && !errors.Is(err, reconcile.ErrUntouched) {
			t.Errorf("%s does not say that nothing was applied: %v", what, err)
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s does not say %q: %v", what, w, err)
			}
		}
		if !strings.HasSuffix(err.Error(), ".") {
			t.Errorf("%s says nothing of what to do: %v", what, err)
		}
	}
}

func TestEditedMigrationIsRefused(t *testing.T) {
	each(t, func(t *testing.T, h *host) {
		h.release("1.0.0", two)
		h.mustDo()
		h.release("1.0.1", map[string]string{"00001_create_orders.sql": two["00001_create_orders.sql"] + "-- and more\n", "00002_add_name.sql": two["00002_add_name.sql"]})
		refused(t, h, reconcile.OfRelease, "00001_create_orders.sql was edited after web 1.0.0 had applied it", "write the change as a new migration")
	})
}

func TestLateMigrationIsRefused(t *testing.T) {
	each(t, func(t *testing.T, h *host) {
		h.release("1.0.0", map[string]string{"3_c.sql": up("select 1;")})
		h.mustDo()
		h.release("1.0.1", map[string]string{"2_late.sql": up("create table late (id int);"), "3_c.sql": up("select 1;")})
		refused(t, h, reconcile.OfRelease, "2_late.sql came late: version 3 is applied already")
	})
}

func TestOlderReleaseIsRefused(t *testing.T) {
	each(t, func(t *testing.T, h *host) {
		h.release("1.0.1", two)
		h.mustDo()
		h.release("1.0.0", map[string]string{"00001_create_orders.sql": two["00001_create_orders.sql"]})
		refused(t, h, reconcile.OfRelease, "the schema is newer than the release", "00002_add_name.sql (by web 1.0.1)")
	})
}

func TestOlderReleaseLivesWithCompatibleMigrations(t *testing.T) {
	each(t, func(t *testing.T, h *host) {
		h.attrs["compatible"] = true
		h.release("1.0.1", two)
		h.mustDo()
		h.attrs["compatible"] = false // what counts is what was said when it was applied
		h.release("1.0.0", map[string]string{"00001_create_orders.sql": two["00001_create_orders.sql"]})
		if err := h.driver().Prepare(t.Context(), h.step); err != nil {
			t.Error(err)
		}
		h.mustDo()
		if done, err := h.done(); !done || err != nil {
			t.Errorf("done: %v, %v", done, err)
		}
	})
}

func TestBadFiles(t *testing.T) {
	file := func(name, text string) func(h *host) {
		return func(h *host) { h.release("1.0.0", map[string]string{name: text}) }
	}
	cases := []struct {
		name string
		make func(h *host)
		says string
	}{
		{"two of a version", func(h *host) {
			h.release("1.0.0", map[string]string{"1_a.sql": up("select 1;"), "001_b.sql": up("select 1;")})
		}, "has the same version, 1"},
		{"in Go", file("00001_a.go", "package migrations"), "00001_a.go: migrations in Go cannot be run"},
		{"no number", file("seed.sql", up("select 1;")), "seed.sql: a migration's name is a number above 0"},
		{"zero", file("0_seed.sql", up("select 1;")), "0_seed.sql: a migration's name is a number above 0"},
		{"a number too large", file("9223372036854775808_a.sql", up("select 1;")), "a migration's name is a number"},
		{"no annotation", file("1_a.sql", "select 1;"), "1_a.sql: it has no line -- +goose Up"},
		{"no semicolon", file("1_a.sql", up("select 1")), "1_a.sql: unexpected unfinished SQL query"},
		{"the agent's environment", file("1_a.sql", "-- +goose ENVSUB ON\n"+up("select '${HOME}';")), "1_a.sql: line 1: ENVSUB"},
		{"too large", file("1_a.sql", up("select 1;")+"-- "+strings.Repeat("x", 8<<20)), "it is larger than 8 MiB"},
		{"a link out of the release", func(h *host) {
			h.release("1.0.0", nil)
			outside := filepath.Join(h.t.TempDir(), "a.sql")
			write(h.t, outside, up("select 1;"))
			if err := os.Symlink(outside, filepath.Join(h.dir(), "1_a.sql")); err != nil {
				h.t.Fatal(err)
			}
		}, "1_a.sql: path escapes from parent"},
		{"a directory out of the release", func(h *host) {
			h.release("1.0.0", nil)
			if err := errors.Join(os.Remove(h.dir()), os.Symlink(h.t.TempDir(), h.dir())); err != nil {
				h.t.Fatal(err)
			}
		}, "the release has no directory db/migrations: path escapes from parent"},
		{"a file for a directory", func(h *host) {
			h.release("1.0.0", nil)
			if err := os.Remove(h.dir()); err != nil {
				h.t.Fatal(err)
			}
			write(h.t, h.dir(), "")
		}, "is no directory"},
		{"a pipe", func(h *host) {
			h.release("1.0.0", nil)
			pipe(h.t, filepath.Join(h.dir(), "1_a.sql"))
		}, "1_a.sql: it is no regular file"},
		{"too many", func(h *host) {
			h.release("1.0.0", nil)
			for i := range 10_001 {
				if err := os.Link(os.Args[0], filepath.Join(h.dir(), fmt.Sprintf("%d_a.sql", i+1))); err != nil {
					write(h.t, filepath.Join(h.dir(), fmt.Sprintf("%d_a.sql", i+1)), "")
				}
			}
		}, "holds more than 10000 files"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t, "sqlite")
			c.make(h)
			refused(t, h, reconcile.OfRelease, c.says)
		})
	}
}

// A migration that ends its own transaction could not be taken back, though
// everybody would believe so.
func TestCommitInsideATransactionIsRefused(t *testing.T) {
	for _, engine := range []string{"postgres", "sqlite"} {
		t.Run(engine, func(t *testing.T) {
			h := newHost(t, engine)
			h.release("1.0.0", map[string]string{"1_a.sql": up("create table a (id int);\ncreate table b (id int);\ncommit;\nselec;")})
			refused(t, h, reconcile.OfRelease, "db/migrations/1_a.sql: line 4: COMMIT ends the transaction")
		})
	}
}

func TestServiceWithoutAReleaseDirectory(t *testing.T) {
	h := newHost(t, "sqlite")
	h.step.Target.Install = nil
	refused(t, h, reconcile.OfRelease, `Install it with "archive"`)
}

var errStop = errors.New("stop")

// What fails half-way inside a transaction leaves nothing, and says so; what
// was applied before it stays, and then it says that.
func TestFailureInsideATransaction(t *testing.T) {
	bad := up("create table half (id int);\ninsert into half values (1);\n\ninsert into nowhere\n  values (2);")
	for _, engine := range []string{"postgres", "sqlite"} {
		t.Run(engine, func(t *testing.T) {
			h := newHost(t, engine)
			h.release("1.0.0", map[string]string{"1_bad.sql": bad})
			err := h.do()
			if !errors.Is(err, reconcile.ErrUntouched) || reconcile.BlameOf(err) != reconcile.OfRelease {
				t.Fatalf("%v", err)
			}
			for _, want := range []string{"1_bad.sql:5: ", "nowhere", "[insert into nowhere values (2);]", "Put the migration right"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("it does not say %q: %v", want, err)
				}
			}
			if done, err := h.done(); done || err != nil {
				t.Errorf("done: %v, %v", done, err)
			}
			h.release("1.0.1", map[string]string{"1_fine.sql": up("create table half (id int);"), "2_bad.sql": bad})
			err = h.do()
			if errors.Is(err, reconcile.ErrUntouched) || reconcile.BlameOf(err) != reconcile.OfRelease || !strings.Contains(err.Error(), "(1 before it was applied, and stays)") {
				t.Errorf("%v", err)
			}
			if len(h.notes) > 0 {
				t.Errorf("notes were written: %q", h.notes)
			}
		})
	}
}

// A release in between applied something that the one that runs does not know:
// then nothing may go back to it, even if the next one changed nothing itself.
func TestNothingGoesBackBehindAReleaseInBetween(t *testing.T) {
	for _, compatible := range []bool{false, true} {
		t.Run(fmt.Sprintf("compatible=%v", compatible), func(t *testing.T) {
			h := newHost(t, "sqlite")
			h.release("1.0.0", map[string]string{"1_a.sql": up("create table a (id int);")})
			h.mustDo()
			h.attrs["compatible"] = compatible
			files := map[string]string{"1_a.sql": up("create table a (id int);"), "2_b.sql": up("alter table a rename to b;"), "3_bad.sql": up("selec 1;")}
			h.release("1.0.1", files)
			h.step.Previous = "1.0.0"
			if err := h.do(); errors.Is(err, reconcile.ErrUntouched) {
				t.Fatalf("%v", err)
			}
			h.release("1.0.2", files)
			h.step.Previous = "1.0.0"
			err := h.do()
			if errors.Is(err, reconcile.ErrUntouched) != compatible || reconcile.BlameOf(err) != reconcile.OfRelease ||
				strings.Contains(err.Error(), "1.0.0 would not do on this schema: 2_b.sql (by web 1.0.1) is applied") == compatible {
				t.Errorf("%v", err)
			}
		})
	}
}

// halves fail at their second statement, outside a transaction.
var halves = map[string]string{
	"postgres": plain("create table half (id int);\ninsert into nowhere values (1);"),
	"mysql":    up("create table half (id int);\ninsert into nowhere values (1);"),
	"sqlite":   plain("create table half (id int);\ninsert into nowhere values (1);"),
}

// Outside a transaction the intent stands in the journal before anything is
// done, and what fails half-way is a person's to see to: nobody else can.
func TestFailureOutsideATransaction(t *testing.T) {
	each(t, func(t *testing.T, h *host) {
		h.release("1.0.0", map[string]string{"1_half.sql": halves[h.engine]})
		err := h.do()
		unknown := func(err error) {
			t.Helper()
			if !errors.Is(err, reconcile.ErrUnknown) || errors.Is(err, reconcile.ErrUntouched) || !strings.Contains(err.Error(), "1_half.sql") || !strings.Contains(err.Error(), "finish or undo it by hand") {
				t.Errorf("%v", err)
			}
		}
		unknown(err)
		if diff := cmp.Diff([]string{"applying 1_half.sql without a transaction, attempt 1"}, h.notes); diff != "" {
			t.Error(diff)
		}
		_, err = h.done()
		unknown(err)
		unknown(h.do()) // not even if it is asked to
		if n := h.query("select count(*) from half"); n != "0" {
			t.Errorf("%s rows", n)
		}

		// A person undoes it, and asks for the release again.
		h.run("drop table half")
		h.run("create table nowhere (id int)")
		h.step.Target.Release.Attempt = 2
		h.step.Action = reconcile.Repair
		h.mustDo()
		if done, err := h.done(); !done || err != nil {
			t.Errorf("done: %v, %v", done, err)
		}
	})
}

// Or a person finishes it by hand, and writes goose's row.
func TestFinishedByHand(t *testing.T) {
	each(t, func(t *testing.T, h *host) {
		h.release("1.0.0", map[string]string{"1_half.sql": halves[h.engine]})
		if err := h.do(); !errors.Is(err, reconcile.ErrUnknown) {
			t.Fatal(err)
		}
		h.run("insert into goose_db_version (version_id, is_applied) values (1, " + map[bool]string{true: "true", false: "1"}[h.engine == "postgres"] + ")")
		if done, err := h.done(); !done || err != nil {
			t.Errorf("done: %v, %v", done, err)
		}
	})
}

// What the database refuses before it does anything halts nobody.
func TestRefusedAtOnceOutsideATransaction(t *testing.T) {
	each(t, func(t *testing.T, h *host) {
		h.release("1.0.0", map[string]string{"1_bad.sql": plain("alter table nowhere add column x int;\ncreate table b (id int);")})
		err := h.do()
		if !errors.Is(err, reconcile.ErrUntouched) || errors.Is(err, reconcile.ErrUnknown) || reconcile.BlameOf(err) != reconcile.OfRelease {
			t.Fatalf("%v", err)
		}
		if done, err := h.done(); done || err != nil {
			t.Errorf("done: %v, %v", done, err)
		}
	})
}

// What cannot be written down is not begun.
func TestNothingIsBegunWithoutTheJournal(t *testing.T) {
	each(t, func(t *testing.T, h *host) {
		h.release("1.0.0", map[string]string{"1_a.sql": plain("create table a (id int);")})
		h.env.Note = func(context.Context, reconcile.Step, string) error { return errStop }
		if err := h.do(); !errors.Is(err, errStop) || !errors.Is(err, reconcile.ErrUntouched) || reconcile.BlameOf(err) != reconcile.OfHost {
			t.Errorf("%v", err)
		}
		mustPreview(t, h, "1 pending: 1_a.sql (no transaction)")
	})
}

func TestNoticesReachTheLog(t *testing.T) {
	h := newHost(t, "postgres")
	h.release("1.0.0", map[string]string{"1_a.sql": "-- +goose Up\n-- +goose StatementBegin\ndo $$ begin raise notice 'half way'; end $$;\n-- +goose StatementEnd\n"})
	h.mustDo()
	if !strings.Contains(h.output.String(), "NOTICE: half way\n") {
		t.Errorf("%s", h.output)
	}
}

// What a migration sets for its session is not the next one's.
func TestSessionIsNewForEachMigration(t *testing.T) {
	h := newHost(t, "postgres")
	h.release("1.0.0", map[string]string{"1_a.sql": up("set work_mem = '3MB';"), "2_b.sql": up("create table setting as select current_setting('work_mem') as now;")})
	h.mustDo()
	if got := h.query("select now from setting"); got == "3MB" {
		t.Errorf("work_mem is %s", got)
	}
}
