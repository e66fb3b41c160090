package rig

import (
	"net/url"
	"strconv"
	"syscall"
	"testing"
)

// Postgres is a PostgreSQL server of its own: data in a temporary directory,
// fsync off, reached over a unix socket (anybody is the superuser) or over
// loopback with a password.
type Postgres struct {
	*database
	psql string
}

// The account that the loopback address asks a password of; it may create
// nothing outside its databases.
const (
	DatabaseUser     = "drydock"
	DatabasePassword = "tide-and-time"
)

// PostgreSQL starts a server that ends with the test.
func PostgreSQL(t testing.TB) *Postgres {
	t.Helper()
	p := newPostgres(t)
	t.Cleanup(p.Close)
	return p
}

func newPostgres(t testing.TB) *Postgres {
	t.Helper()
	initdb, server := need(t, "initdb", "postgresql"), need(t, "postgres", "postgresql")
	p := &Postgres{database: newDatabase(t, "postgres"), psql: need(t, "psql", "postgresql")}
	data := p.dir + "/data"
	p.run(t, initdb, "-D", data, "-U", "postgres", "--auth-local=trust", "--auth-host=scram-sha-256", "--no-sync", "--locale=C.UTF-8", "-E", "UTF8")
	p.argv = []string{server, "-D", data, "-k", p.dir, "-h", "127.0.0.1", "-p", strconv.Itoa(p.port),
		"-c", "fsync=off", "-c", "shared_buffers=16MB", "-c", "max_connections=60"}
	// SIGQUIT ends every backend at once; data that a test throws away needs no
	// checkpoint.
	p.ready, p.stop, p.die = []string{p.psql, "-qXAt", "-h", p.dir, "-p", strconv.Itoa(p.port), "-U", "postgres", "-c", "select 1"}, syscall.SIGINT, syscall.SIGQUIT
	p.Start(t)
	p.Exec(t, "postgres", "create role "+DatabaseUser+" login password '"+DatabasePassword+"'")
	return p
}

// Database makes a fresh, empty database, owned by DatabaseUser, and returns
// its name.
func (p *Postgres) Database(t testing.TB) string {
	t.Helper()
	name := p.name()
	p.Exec(t, "postgres", "create database "+name+" owner "+DatabaseUser)
	return name
}

// URL is a database's address over the unix socket, as the superuser.
func (p *Postgres) URL(db string) string {
	return "postgres://postgres@/" + db + "?" + url.Values{"host": {p.dir}, "port": {strconv.Itoa(p.port)}}.Encode()
}

// TCP is a database's address over loopback, with its password.
func (p *Postgres) TCP(db string) string {
	return "postgres://" + DatabaseUser + ":" + DatabasePassword + "@" + p.Address() + "/" + db
}

// Exec runs statements as the superuser and returns what they print, rows a
// line and columns between "|". Each statement stands alone.
func (p *Postgres) Exec(t testing.TB, db, sql string) string {
	t.Helper()
	return p.feed(t, sql, p.psql, "-qXAt", "-v", "ON_ERROR_STOP=1", "-h", p.dir, "-p", strconv.Itoa(p.port), "-U", "postgres", "-d", db)
}
