package sql_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"drydock/hostagent/sql"
	"drydock/reconcile"
	"drydock/testdata/rig"
)

// unreachable are databases that cannot be migrated, whatever the release.
func TestDatabaseThatCannotBeHad(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	swap := func(old, new string) func(string) string {
		return func(url string) string { return strings.Replace(url, old, new, 1) }
	}
	at := func(address string) func(string) string {
		return func(url string) string {
			head, tail, _ := strings.Cut(url, "@")
			_, db, _ := strings.Cut(tail, "/")
			return head + "@" + address + "/" + db
		}
	}
	for _, engine := range []string{"postgres", "mysql"} {
		for _, c := range []struct {
			name string
			url  func(string) string
			says []string
		}{
			{"wrong password", swap(rig.DatabasePassword, "hunter2-is-wrong"), []string{"Put the right password into the credential"}},
			{"no such user", swap(rig.DatabaseUser+":", "nobody:"), []string{`user "nobody"`, "Put the right password into the credential"}},
			{"no such database", func(url string) string { return url + "gone" }, []string{"Drydock creates no databases", "gone\" at 127.0.0.1:"}},
			{"nobody listens", at("127.0.0.1:1"), []string{"connection refused", "See that it runs and can be reached"}},
			{"silence", at(silent.Addr().String()), []string{"127.0.0.1"}},
		} {
			t.Run(engine+"/"+c.name, func(t *testing.T) {
				h := newHost(t, engine)
				h.attrs["timeout"] = "500ms"
				h.release("1.0.0", two)
				h.url = c.url(h.url)
				if engine == "mysql" && c.name == "no such database" {
					// MariaDB tells only those who may see that there is none.
					c.says = []string{"gone\" at 127.0.0.1:"}
				}
				refused(t, h, reconcile.OfHost, c.says...)
				secretFree(t, h, "hunter2-is-wrong")
			})
		}
	}
}

// secretFree looks everywhere for the password: errors of every sort, output
// and notes.
func secretFree(t *testing.T, h *host, more ...string) {
	t.Helper()
	all := h.output.String() + strings.Join(h.notes, "\n")
	d := h.driver()
	_, derr := d.Done(t.Context(), h.step)
	_, verr := d.Preview(t.Context(), h.step)
	all += fmt.Sprintf("%+v %v %v", h.do(), derr, verr)
	for _, secret := range append(more, rig.DatabasePassword, h.url) {
		if h.engine != "sqlite" && strings.Contains(all, secret) {
			t.Errorf("%q is told: %s", secret, all)
		}
	}
}

// The password is not told even where the database itself tells it.
func TestSecretsStaySecret(t *testing.T) {
	for _, engine := range []string{"postgres", "mysql"} {
		t.Run(engine, func(t *testing.T) {
			h := newHost(t, engine)
			h.release("1.0.0", map[string]string{"1_a.sql": "-- +goose Up\n-- +goose StatementBegin\n" + map[string]string{
				"postgres": "do $$ begin raise notice 'it is " + rig.DatabasePassword + "'; raise exception 'really: " + rig.DatabasePassword + "'; end $$;",
				"mysql":    "signal sqlstate '45000' set message_text = 'it is " + rig.DatabasePassword + "';",
			}[engine] + "\n-- +goose StatementEnd\n"})
			err := h.do()
			if err == nil || strings.Contains(err.Error()+h.output.String(), rig.DatabasePassword) {
				t.Errorf("%v\n%s", err, h.output)
			}
		})
	}
}

func TestURLs(t *testing.T) {
	for _, c := range []struct{ engine, url, says string }{
		{"postgres", "postgres://u:p%zz-secret@h/db", "it is no URL"},
		{"postgres", "mysql://u:secret@h/db", "it does not begin with postgres://"},
		{"postgres", "host=h password=secret dbname=db", "it does not begin with postgres://"},
		{"postgres", "postgres://u:secret@h/", "it names no database"},
		{"postgres", "postgres://u:secret@h/db?sslmode=perhaps", "does not understand"},
		{"mysql", "mysql://u:secret@h/", "it names no database"},
		{"mysql", "mysql://u:secret@/db", "it names neither a host nor a socket"},
		{"mysql", "mysql://u:secret@h/db?multiStatements=true", `its option "multiStatements" is not known`},
		{"mysql", "mysql://u:secret@h/db?tls=maybe", `its option "tls"`},
		{"mysql", "u:secret@tcp(h)/db", "it is no URL"},
		{"sqlite", "web.db", "it is no absolute path"},
		{"sqlite", ":memory:", "it is no absolute path"},
		{"sqlite", "file:/var/lib/web.db?mode=memory", "it is no file: URL"},
		{"sqlite", "file:web.db", "it is no absolute path"},
		{"sqlite", "", "it is no absolute path"},
		{"mysql", "", "it does not begin with mysql://"},
	} {
		t.Run(c.engine+" "+c.url, func(t *testing.T) {
			h := &host{t: t, engine: c.engine, url: c.url, output: &output{}, root: t.TempDir(), attrs: map[string]any{"engine": c.engine, "url": map[string]string{"credential": "web-database-url"}, "directory": "m", "timeout": "1s"}}
			h.env.Credential = func(string) (string, error) { return c.url, nil }
			h.release("1.0.0", nil)
			err := h.driver().Prepare(t.Context(), h.step)
			if err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), `credential("web-database-url")`) || reconcile.BlameOf(err) != reconcile.OfHost {
				t.Errorf("%v", err)
			}
			if strings.Contains(fmt.Sprint(err), "secret") {
				t.Errorf("it is told: %v", err)
			}
		})
	}
}

func TestPasswordInTheRepositoryIsRefused(t *testing.T) {
	h := newHost(t, "postgres")
	h.attrs["url"] = h.url
	h.release("1.0.0", two)
	refused(t, h, reconcile.OfRelease, "a password stands in the url", "change the password")
	h = newHost(t, "sqlite")
	h.attrs["url"] = "file:" + h.url // no secret, and the other way to write it
	h.release("1.0.0", two)
	h.mustDo()
}

// Whoever has the lock first is waited for, and named.
func TestAnotherMigrationIsRunning(t *testing.T) {
	each(t, func(t *testing.T, h *host) {
		h.release("1.0.0", two)
		h.attrs["timeout"] = "5s"
		other := holdLock(t, h)
		h.release("1.0.0", two)
		err := h.do()
		if reconcile.BlameOf(err) != reconcile.OfHost || !errors.Is(err, reconcile.ErrUntouched) || !strings.Contains(err.Error(), "another migration is running: ") || !strings.Contains(err.Error(), other.name) {
			t.Errorf("%v", err)
		}
		if !strings.Contains(h.output.String(), "another migration is running: ") || !strings.Contains(h.output.String(), "waiting for it\n") {
			t.Errorf("it was not said: %s", h.output)
		}
		h.attrs["timeout"] = "30s"
		h.release("1.0.0", two)
		h.output.on = func(line string) {
			if strings.Contains(line, "waiting for it") {
				go other.release()
			}
		}
		h.mustDo()
	})
}

type holder struct {
	name    string
	release func()
}

// holdLock is another agent, which does something slow under the lock.
func holdLock(t *testing.T, h *host) holder {
	t.Helper()
	slow := *h
	slow.output = &output{}
	slow.env.Output = func(reconcile.Step) io.Writer { return slow.output }
	slow.attrs = map[string]any{"engine": h.engine, "url": h.attrs["url"], "directory": "db/migrations", "timeout": "60s"}
	begun := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	slow.env.Note = func(context.Context, reconcile.Step, string) error {
		close(begun)
		<-ctx.Done() // it holds the lock, and has not begun
		return ctx.Err()
	}
	slow.root = filepath.Join(t.TempDir(), "other")
	slow.release("0.9.0", map[string]string{"00001_create_orders.sql": plain(endless[h.engine])})
	ended := make(chan struct{})
	go func() { defer close(ended); _ = sql.New(slow.env).Do(ctx, slow.step) }()
	<-begun
	release := sync.OnceFunc(func() { cancel(); <-ended })
	t.Cleanup(release)
	name := map[string]string{"postgres": "drydock: web 0.9.0 on h", "mysql": "user drydock", "sqlite": fmt.Sprintf("process %d (drydock: web 0.9.0 on h)", os.Getpid())}[h.engine]
	return holder{name, release}
}

// Two agents at once apply each migration once.
func TestTwoAtOnce(t *testing.T) {
	each(t, func(t *testing.T, h *host) {
		files := map[string]string{"1_log.sql": up("create table log (id int);")}
		for i := range 8 {
			files[fmt.Sprintf("%d_more.sql", i+2)] = up("insert into log values (1);")
		}
		h.release("1.0.0", files)
		var wg sync.WaitGroup
		env := h.env
		env.Note = func(context.Context, reconcile.Step, string) error { return nil }
		for range 3 {
			wg.Go(func() {
				if err := sql.New(env).Do(t.Context(), h.step); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := h.query("select count(*) from log"); n != "8" {
			t.Errorf("%s rows, not 8", n)
		}
	})
}

// A statement that waits for somebody's transaction is the host's trouble.
func TestSomebodyHoldsTheTable(t *testing.T) {
	each(t, func(t *testing.T, h *host) {
		h.run("create table orders (id int primary key)")
		h.attrs["timeout"] = "2s"
		h.release("1.0.0", map[string]string{"1_a.sql": up("alter table orders add column name varchar(9);")})
		free := h.hold(t)
		err := h.do()
		if reconcile.BlameOf(err) != reconcile.OfHost || !errors.Is(err, reconcile.ErrUntouched) || !strings.Contains(err.Error(), " holds ") {
			t.Errorf("%v", err)
		}
		free()
		h.mustDo()
	})
}

// hold keeps a transaction open that has touched the table.
func (h *host) hold(t *testing.T) (free func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	free = sync.OnceFunc(func() {
		switch h.engine { // a server does not notice at once that a client is gone
		case "postgres":
			h.run("select pg_terminate_backend(pid) from pg_stat_activity where query like '%pg_sleep(3600)%' and pid <> pg_backend_pid()")
		case "mysql":
			h.run("kill " + h.query("select id from information_schema.processlist where db = database() and info like 'select sleep(3600)%'"))
		}
		cancel()
		<-ended
	})
	t.Cleanup(free)
	if h.engine == "sqlite" {
		tx, err := h.open().Begin()
		if err == nil {
			_, err = tx.Exec("insert into orders values (1)")
		}
		if err != nil {
			t.Fatal(err)
		}
		go func() { defer close(ended); <-ctx.Done(); _ = tx.Rollback() }()
		return free
	}
	// Any other migration of ours that is slow does as well, in another place.
	other := newHost(t, h.engine)
	other.url, other.exec = h.url, h.exec
	go func() {
		defer close(ended)
		hold := map[string]string{"postgres": "begin; insert into orders values (1); select pg_sleep(3600)", "mysql": "start transaction; insert into orders values (1); select sleep(3600)"}[h.engine]
		other.client(ctx, hold)
	}()
	eventually(t, "the other transaction", func() bool { return h.sleeps() == "1" })
	return free
}

func (h *host) sleeps() string {
	if h.engine == "postgres" {
		return h.query("select count(*) from pg_stat_activity where datname = current_database() and query like '%pg_sleep(3600)%' and pid <> pg_backend_pid() and state = 'active'")
	}
	return h.query("select count(*) from information_schema.processlist where db = database() and info like 'select sleep(3600)%'")
}

func TestReadOnlyDatabase(t *testing.T) {
	t.Run("postgres", func(t *testing.T) {
		h := newHost(t, "postgres")
		h.release("1.0.0", two)
		h.run("alter database " + strings.TrimPrefix(h.url[strings.LastIndex(h.url, "/"):], "/") + " set default_transaction_read_only = on")
		refused(t, h, reconcile.OfHost, "read-only for this user", "Name the primary")
	})
	t.Run("mysql", func(t *testing.T) {
		h := newHost(t, "mysql")
		h.release("1.0.0", two)
		h.run("set global read_only = 1")
		defer h.run("set global read_only = 0")
		refused(t, h, reconcile.OfHost, "set read-only", "Name the primary")
	})
	t.Run("sqlite", func(t *testing.T) {
		h := newHost(t, "sqlite")
		h.release("1.0.0", two)
		dir := small(t)
		h.url = filepath.Join(dir, "web.db")
		write(t, h.url, "")
		if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
		refused(t, h, reconcile.OfHost, "read-only file system", "writable")
	})
}

// small is a file system of a megabyte.
func small(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: run the test as root")
	}
	dir, err := os.MkdirTemp("", "small")
	if err == nil {
		err = unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH); _ = os.Remove(dir) })
	return dir
}

// A full disk in the middle is the host's, and nothing stays.
func TestDatabaseOutOfDisk(t *testing.T) {
	t.Run("postgres", func(t *testing.T) {
		h := newHost(t, "postgres")
		p := servers.PostgreSQL(t)
		dir := small(t)
		if u := p.User(); u != nil {
			if err := os.Chown(dir, int(u.Uid), int(u.Gid)); err != nil {
				t.Fatal(err)
			}
		}
		p.Exec(t, "postgres", "create tablespace small location '"+dir+"'")
		defer func() { h.run("drop table if exists big"); p.Exec(t, "postgres", "drop tablespace small") }()
		p.Exec(t, "postgres", "grant create on tablespace small to "+rig.DatabaseUser)
		h.release("1.0.0", map[string]string{"1_big.sql": up("create table big (t text) tablespace small;\ninsert into big select repeat('x', 1000) from generate_series(1, 5000);")})
		full(t, h)
	})
	t.Run("sqlite", func(t *testing.T) {
		h := newHost(t, "sqlite")
		dir := small(t)
		h.url = filepath.Join(dir, "web.db")
		write(t, h.url, "")
		h.release("1.0.0", map[string]string{"1_big.sql": up("create table big (t text);\nwith recursive n(i) as (select 1 union all select i + 1 from n where i < 5000) insert into big select hex(zeroblob(1000)) from n;")})
		full(t, h)
	})
}

func full(t *testing.T, h *host) {
	t.Helper()
	err := h.do()
	if reconcile.BlameOf(err) != reconcile.OfHost || !errors.Is(err, reconcile.ErrUntouched) || !strings.Contains(err.Error(), "Make room on") || !strings.Contains(err.Error(), "1_big.sql:3") {
		t.Errorf("%v", err)
	}
	if done, err := h.done(); done || err != nil {
		t.Errorf("done: %v, %v", done, err)
	}
}

// A session that is ended takes the lock with it: nothing is begun in the next
// one before it has the lock.
func TestLockGoesWithItsSession(t *testing.T) {
	h := newHost(t, "mysql")
	h.release("1.0.0", map[string]string{"1_a.sql": up("create table a (id int);")})
	h.env.Note = func(_ context.Context, _ reconcile.Step, note string) error {
		if strings.HasPrefix(note, "applying") && len(h.notes) == 0 {
			h.run("kill " + h.query("select id from information_schema.processlist where db = database() and user = '"+rig.DatabaseUser+"'"))
		}
		h.notes = append(h.notes, note)
		return nil
	}
	err := h.do()
	if reconcile.BlameOf(err) != reconcile.OfHost || !errors.Is(err, reconcile.ErrUntouched) || !strings.Contains(err.Error(), "the session that holds the migration lock is gone") {
		t.Errorf("%v", err)
	}
	if done, err := h.done(); done || err != nil {
		t.Errorf("done: %v, %v", done, err)
	}
	h.mustDo()
}
