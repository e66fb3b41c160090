package sql_test

import (
	"database/sql"
	"syscall"
	"testing"

	_ "modernc.org/sqlite"
)

// open is another process's view of a SQLite database.
func (h *host) open() *sql.DB {
	h.t.Helper()
	db, err := sql.Open("sqlite", "file:"+h.url+"?_pragma=busy_timeout(5000)")
	if err != nil {
		h.t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	h.t.Cleanup(func() { _ = db.Close() })
	return db
}

// run runs a statement of which nothing comes back.
func (h *host) run(text string) {
	h.t.Helper()
	if h.engine != "sqlite" {
		h.exec(text)
		return
	}
	if _, err := h.open().Exec(text); err != nil {
		h.t.Fatal(err)
	}
}

func pipe(t testing.TB, path string) {
	t.Helper()
	if err := syscall.Mkfifo(path, 0o644); err != nil {
		t.Fatal(err)
	}
}
