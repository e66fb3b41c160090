package sql_test

import (
	"bytes"
	"context"
	"io"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"drydock/hostagent/drivertest"
	"drydock/hostagent/sql"
	"drydock/reconcile"
	"drydock/spec"
	"drydock/testdata/rig"
)

// servers are what most tests share; those that kill one start their own.
var servers rig.Databases

func TestMain(m *testing.M) {
	if work := os.Getenv(victimEnv); work != "" {
		os.Exit(victim(work))
	}
	code := m.Run()
	servers.Close()
	os.Exit(code)
}

// host is one host's driver with a database and a release to migrate it to.
type host struct {
	t      *testing.T
	engine string
	url    string
	exec   func(sql string) string // on the database, as its administrator

	step   reconcile.Step
	attrs  map[string]any
	output *output
	notes  []string // the journal's
	env    reconcile.Env
	root   string // the service's install path

	journal string // of an agent in another process
}

type output struct {
	mu   sync.Mutex
	text bytes.Buffer
	on   func(line string) // nil or called with each write
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text.Write(p)
	if o.on != nil {
		o.on(string(p))
	}
	return len(p), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// engines are the databases that behaviour is the same on.
var engines = []string{"postgres", "mysql", "sqlite"}

func newHost(t *testing.T, engine string) *host {
	t.Helper()
	h := &host{t: t, engine: engine, output: &output{}, root: filepath.Join(t.TempDir(), "srv")}
	switch engine {
	case "postgres":
		p := servers.PostgreSQL(t)
		db := p.Database(t)
		h.url, h.exec = p.TCP(db), func(sql string) string { return p.Exec(t, db, "set role "+rig.DatabaseUser+"; "+sql) }
	case "mysql":
		m := servers.MariaDB(t)
		db := m.Database(t)
		h.url, h.exec = m.TCP(db), func(sql string) string { return m.Exec(t, db, sql) }
	case "sqlite":
		h.url = filepath.Join(t.TempDir(), "web.db")
		write(t, h.url, "")
	}
	h.attrs = map[string]any{"engine": engine, "url": map[string]string{"credential": "web-database-url"}, "directory": "db/migrations", "scope": "host", "compatible": false, "timeout": "20s"}
	h.env = reconcile.Env{
		StateDir:   filepath.Join(t.TempDir(), "state"),
		Credential: func(string) (string, error) { return h.url, nil },
		Note: func(_ context.Context, _ reconcile.Step, note string) error {
			h.notes = append(h.notes, note)
			return nil
		},
		Output: func(reconcile.Step) io.Writer { return h.output },
	}
	h.release("1.0.0", nil)
	return h
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// release is the next release's files, by name; its step has no past.
func (h *host) release(version string, files map[string]string) {
	h.t.Helper()
	b := drivertest.Block(h.t, "migrate", "sql", h.attrs)
	h.step = drivertest.Step(reconcile.Migrate, b)
	h.step.Target.Release = spec.Release{Version: version, Digest: "sha256:" + strings.Repeat(digit(version), 64), Attempt: 1}
	in := drivertest.Block(h.t, "install", "archive", map[string]any{"path": h.root})
	h.step.Target.Install = &in
	for _, name := range slices.Sorted(maps.Keys(files)) {
		write(h.t, filepath.Join(h.dir(), name), files[name])
	}
	if err := os.MkdirAll(h.dir(), 0o755); err != nil {
		h.t.Fatal(err)
	}
}

func digit(version string) string { return version[len(version)-1:] }

// dir is where the release's migrations stand.
func (h *host) dir() string { return filepath.Join(h.step.Target.ReleaseDir(), "db/migrations") }

// driver is a new agent's.
func (h *host) driver() *sql.Migrate { return sql.New(h.env) }

func (h *host) do() error { return h.driver().Do(h.t.Context(), h.again()) }

func (h *host) mustDo() {
	h.t.Helper()
	if err := h.do(); err != nil {
		h.t.Fatal(err)
	}
}

// again is the step as the engine would hand it out now: with the last note.
func (h *host) again() reconcile.Step {
	s := h.step
	if n := len(h.notes); n > 0 {
		s.Note = h.notes[n-1]
	}
	return s
}

func (h *host) done() (bool, error) { return h.driver().Done(h.t.Context(), h.again()) }

func (h *host) suiteCase() drivertest.Case {
	return drivertest.Case{
		New: func(env reconcile.Env) reconcile.Driver { return sql.New(env) },
		Env: h.env, Step: h.step,
	}
}

// up is a migration's text.
func up(statements string) string { return "-- +goose Up\n" + statements + "\n" }

// plain is one without a transaction.
func plain(statements string) string { return "-- +goose NO TRANSACTION\n" + up(statements) }

// client runs statements in one session, until they or ctx end.
func (h *host) client(ctx context.Context, statements string) {
	argv := map[string][]string{
		"postgres": {"psql", "-qXAt", "-d", h.url},
		"mysql":    nil,
	}[h.engine]
	if h.engine == "mysql" {
		u, err := url.Parse(h.url)
		if err != nil {
			h.t.Error(err)
			return
		}
		password, _ := u.User.Password()
		argv = []string{"mariadb", "--no-defaults", "-h", u.Hostname(), "-P", u.Port(), "-u", u.User.Username(), "-p" + password, "-D", u.Path[1:]}
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdin = strings.NewReader(statements + ";\n")
	_ = cmd.Run()
}
