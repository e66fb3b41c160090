package sql_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

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
