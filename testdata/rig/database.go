package rig

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Databases are the database servers that the tests of one package share: each
// starts for the first test that asks for it, and all end with Close, which
// TestMain calls after its tests. The zero value is ready.
type Databases struct {
	mu       sync.Mutex
	postgres *Postgres
	mariadb  *MySQL
}

// PostgreSQL is the package's PostgreSQL server.
func (d *Databases) PostgreSQL(t testing.TB) *Postgres {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.postgres == nil {
		d.postgres = newPostgres(t)
	}
	return d.postgres
}

// MariaDB is the package's MariaDB server.
func (d *Databases) MariaDB(t testing.TB) *MySQL {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mariadb == nil {
		d.mariadb = newMariaDB(t)
	}
	return d.mariadb
}

// Close ends the servers that were started.
func (d *Databases) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.postgres != nil {
		d.postgres.Close()
	}
	if d.mariadb != nil {
		d.mariadb.Close()
	}
}

// database is what the servers have in common: a directory, a port, and a
// process under a user who is not root.
type database struct {
	dir   string
	port  int
	user  *syscall.Credential // nil: who runs the test
	argv  []string
	ready []string
	stop  syscall.Signal // in order
	die   syscall.Signal // at once, when nobody needs it any more

	log     bytes.Buffer
	process *os.Process
	ended   <-chan struct{}
	serial  atomic.Int64
}

// newDatabase prepares a server that refuses to be root's, and so runs as
// account where root runs the test.
func newDatabase(t testing.TB, account string) *database {
	t.Helper()
	dir, err := os.MkdirTemp("", "rig")
	if err != nil {
		t.Fatal(err)
	}
	d := &database{dir: dir, port: freePort(t)}
	if os.Geteuid() != 0 {
		return d
	}
	u, err := user.Lookup(account)
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	d.user = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil { // its socket is for everybody
		t.Fatal(err)
	}
	return d
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// Address is the server's host and port on loopback.
func (d *database) Address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(d.port)) }

// Dir is the server's own directory.
func (d *database) Dir() string { return d.dir }

// User is who the server runs as, for what a test lays in its way; nil for
// who runs the test.
func (d *database) User() *syscall.Credential { return d.user }

func (d *database) command(argv ...string) *exec.Cmd {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = d.dir, []string{"HOME=" + d.dir, "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: d.user}
	return cmd
}

func (d *database) run(t testing.TB, argv ...string) string {
	t.Helper()
	return d.feed(t, "", argv...)
}

func (d *database) feed(t testing.TB, in string, argv ...string) string {
	t.Helper()
	cmd := d.command(argv...)
	var errs bytes.Buffer
	cmd.Stdin, cmd.Stderr = strings.NewReader(in), &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s%s", filepath.Base(argv[0]), err, in, out, errs.String())
	}
	return strings.TrimSuffix(string(out), "\n")
}

func (d *database) name() string { return fmt.Sprintf("t%d", d.serial.Add(1)) }

// Start starts the server, on the same data and port as before, and returns
// when it answers.
func (d *database) Start(t testing.TB) {
	t.Helper()
	const patience = 60 * time.Second
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	d.launch(t)
	for began := time.Now(); ; <-tick.C {
		if d.command(d.ready...).Run() == nil {
			return
		}
		select {
		case <-d.ended: // killed before, it may have left children that still have to go
			d.launch(t)
		default:
		}
		if time.Since(began) > patience {
			d.Close()
			t.Fatalf("%s does not answer:\n%s", filepath.Base(d.argv[0]), d.log.String())
		}
	}
}

// launch starts the process.
func (d *database) launch(t testing.TB) {
	t.Helper()
	cmd := d.command(d.argv...)
	cmd.Stdout, cmd.Stderr = &d.log, &d.log
	cmd.SysProcAttr.Pdeathsig, cmd.SysProcAttr.Setpgid = d.die, true
	ended := launch(t, cmd)
	d.process, d.ended = cmd.Process, ended
}

// Stop ends the server in order: whoever is connected is cut off, nothing
// that was committed is lost.
func (d *database) Stop() { d.end(d.stop) }

// Kill ends it with SIGKILL.
func (d *database) Kill() { d.end(syscall.SIGKILL) }

// Signal sends it a signal, such as SIGSTOP, under which it answers nobody any
// more and hangs up on nobody either.
func (d *database) Signal(s syscall.Signal) { _ = syscall.Kill(-d.process.Pid, s) }

func (d *database) end(s syscall.Signal) {
	if d.process == nil {
		return
	}
	_ = d.process.Signal(s)
	<-d.ended
}

// Close ends it and removes its data.
func (d *database) Close() {
	d.end(d.die)
	_ = os.RemoveAll(d.dir)
}
