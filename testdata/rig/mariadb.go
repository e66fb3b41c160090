package rig

import (
	"net/url"
	"strconv"
	"syscall"
	"testing"
)

// MySQL is a MariaDB server of its own: data in a temporary directory, nothing
// flushed, reached over a unix socket as root or over loopback with a password.
type MySQL struct {
	*database
	client string
}

// MariaDB starts a server that ends with the test.
func MariaDB(t testing.TB) *MySQL {
	t.Helper()
	m := newMariaDB(t)
	t.Cleanup(m.Close)
	return m
}

func newMariaDB(t testing.TB) *MySQL {
	t.Helper()
	install, server := need(t, "mariadb-install-db", "mariadb-server"), need(t, "mariadbd", "mariadb-server")
	m := &MySQL{database: newDatabase(t, "mysql"), client: need(t, "mariadb", "mariadb-server")}
	data := m.dir + "/data"
	m.run(t, install, "--no-defaults", "--datadir="+data, "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-log-bin")
	m.argv = []string{server, "--no-defaults", "--datadir=" + data, "--socket=" + m.socket(), "--pid-file=" + m.dir + "/pid",
		"--bind-address=127.0.0.1", "--port=" + strconv.Itoa(m.port), "--skip-name-resolve", "--skip-log-bin", "--tmpdir=" + m.dir,
		"--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=32M", "--innodb-fast-shutdown=3", "--max-connections=60"}
	m.ready, m.stop, m.die = m.args("mysql", "-e", "select 1"), syscall.SIGTERM, syscall.SIGKILL
	m.Start(t)
	m.Exec(t, "mysql", "create user '"+DatabaseUser+"'@'127.0.0.1' identified by '"+DatabasePassword+"'")
	return m
}

func (m *MySQL) socket() string { return m.dir + "/s" }

func (m *MySQL) args(db string, more ...string) []string {
	return append([]string{m.client, "--no-defaults", "--socket=" + m.socket(), "--user=root", "--batch", "--skip-column-names", "--database=" + db}, more...)
}

// Database makes a fresh, empty database, in which DatabaseUser may do
// anything, and returns its name.
func (m *MySQL) Database(t testing.TB) string {
	t.Helper()
	name := m.name()
	m.Exec(t, "mysql", "create database "+name+"; grant all on "+name+".* to '"+DatabaseUser+"'@'127.0.0.1'")
	return name
}

// URL is a database's address over the unix socket, as root.
func (m *MySQL) URL(db string) string {
	return "mysql://root@/" + db + "?" + url.Values{"socket": {m.socket()}}.Encode()
}

// TCP is a database's address over loopback, with its password.
func (m *MySQL) TCP(db string) string {
	return "mysql://" + DatabaseUser + ":" + DatabasePassword + "@" + m.Address() + "/" + db
}

// Exec runs statements as root and returns what they print, rows a line and
// columns between tabs.
func (m *MySQL) Exec(t testing.TB, db, sql string) string {
	t.Helper()
	return m.feed(t, sql, m.args(db)...)
}
