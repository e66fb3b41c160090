package sql_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"drydock/hostagent/release"
	"drydock/reconcile"
)

// The service may own the release's files, and change one between install and
// migrate. With SQLite its SQL runs in the agent, which may be root.
func TestAMigrationReachesNoOtherFile(t *testing.T) {
	for name, text := range map[string]string{
		"attach":      "attach '%s' as other; create table other.t (x); detach other;",
		"hidden":      "/* VACUUM; */ AtTaCh/**/database '%s' as other; create table other.t (x); detach other;",
		"vacuum into": "create table t (x); vacuum into '%s';",
		"both":        "vacuum; attach '%s' as other; create table other.t (x); detach other;",
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, "sqlite")
			other := filepath.Join(t.TempDir(), "other")
			h.release("1.0.0", map[string]string{"00001_reach.sql": plain(strings.Replace(text, "%s", other, 1))})
			if err := h.do(); reconcile.BlameOf(err) != reconcile.OfRelease || !strings.Contains(err.Error(), "its own database alone") {
				t.Errorf("%v", err)
			}
			if _, err := os.Lstat(other); err == nil {
				t.Error("the other file is there")
			}
		})
	}
}

func TestVacuumIsLetThrough(t *testing.T) {
	h := newHost(t, "sqlite")
	h.release("1.0.0", map[string]string{"00001_vacuum.sql": plain("vacuum;"), "00002_more.sql": plain("create table t (x);")})
	h.mustDo()
}

// The same is true of a server, where a migration runs with a credential that
// the service's user may not have.
func TestAMigrationIsWhatTheReleaseBrought(t *testing.T) {
	const dropped, before = "00002_drop.sql", "00001_make.sql"
	for name, tamper := range map[string]func(h *host){
		"changed": func(h *host) { write(t, filepath.Join(h.dir(), before), up("create table other (x int);")) },
		"added":   func(h *host) { write(t, filepath.Join(h.dir(), dropped), up("create table other (x int);")) },
		"linked": func(h *host) {
			if err := os.Symlink(before, filepath.Join(h.dir(), dropped)); err != nil {
				t.Fatal(err)
			}
		},
		"elsewhere": func(h *host) {
			base := filepath.Dir(h.dir())
			for _, err := range []error{os.Rename(h.dir(), base+"/old"), os.Symlink("old", h.dir())} {
				if err != nil {
					t.Fatal(err)
				}
			}
			write(t, filepath.Join(base, "old", before), up("create table other (x int);"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, "sqlite")
			drivers := filepath.Join(t.TempDir(), "drivers")
			h.env.Brought = release.Brought(drivers)
			h.release("1.0.0", nil)
			if err := os.RemoveAll(h.step.Target.ReleaseDir()); err != nil {
				t.Fatal(err)
			}
			store := release.New(release.Options{State: filepath.Join(drivers, "archive")})
			place := release.Place{Path: h.root, Dir: h.step.Target.Release.Dir(), Layout: "x"}
			err := store.Make(t.Context(), place, func(_ context.Context, dir string) error {
				write(t, filepath.Join(dir, "db/migrations", before), up("create table t (x int);"))
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			kept, err := os.ReadFile(filepath.Join(h.dir(), before))
			if err != nil {
				t.Fatal(err)
			}
			tamper(h)
			err = h.do()
			if reconcile.BlameOf(err) != reconcile.OfHost || !errors.Is(err, reconcile.ErrUntouched) || !strings.Contains(err.Error(), "is not what the release brought") {
				t.Errorf("%v", err)
			}
			if done, err := h.done(); done || err != nil {
				t.Errorf("done: %v, %v", done, err)
			}
			_ = os.Remove(filepath.Join(h.dir(), dropped))
			write(t, filepath.Join(h.dir(), before), string(kept))
			if name == "elsewhere" {
				return
			}
			h.mustDo()
		})
	}
}
