package sql

import (
	"bytes"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/pressly/goose/v3/database"
	"golang.org/x/sys/unix"
	engine3 "modernc.org/sqlite"
)

type sqlite struct{}

// lockSuffix is what the lock file beside a database is called.
const lockSuffix = ".drydock-lock"

func (sqlite) form() string {
	return "It is an absolute path, /var/lib/web/web.db, also written file:/var/lib/web/web.db."
}

func (sqlite) dialect() database.Dialect { return database.DialectSQLite3 }
func (sqlite) atomic() bool              { return true }
func (sqlite) mark(int) string           { return "?" }

func (sqlite) place(text string) (place, error) {
	path := text
	if rest, ok := strings.CutPrefix(text, "file:"); ok {
		u, err := url.Parse(text)
		if err != nil || u.Host != "" || u.RawQuery != "" || u.Fragment != "" {
			return place{}, errors.New("it is no file: URL with a path and nothing else")
		}
		if path = u.Path; path == "" {
			path = rest
		}
	}
	if !filepath.IsAbs(path) || filepath.Clean(path) != path || strings.ContainsRune(path, 0) {
		return place{}, errors.New("it is no absolute path of a file")
	}
	return place{text: "database " + path, url: text, file: path}, nil
}

// open never makes the database: what does not exist is provisioning's to
// make, with the owner that the service needs. A transaction takes its lock
// when it begins, not when it first writes, where it would have to give up.
func (sqlite) open(p place, _ string, _ func(string)) *sql.DB {
	u := url.URL{Scheme: "file", Path: p.file, RawQuery: "mode=rw&_txlock=immediate&_pragma=busy_timeout(1000)"}
	return sql.OpenDB(opener{&engine3.Driver{}, strings.Replace(u.String(), "file://", "file:", 1), p.file})
}

// opener says what is wrong with a file before SQLite says that it cannot open it.
type opener struct {
	driver driver.Driver
	dsn    string
	file   string
}

func (o opener) Driver() driver.Driver { return o.driver }

func (o opener) Connect(context.Context) (driver.Conn, error) {
	info, err := os.Stat(o.file)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "open", Path: o.file, Err: errors.New("it is no regular file")}
	}
	return o.driver.Open(o.dsn)
}

func (sqlite) begin(ctx context.Context, c *sql.Conn, _ time.Duration) error {
	_, err := ask[int](ctx, c, "select count(*) from sqlite_master") // opening reads nothing yet
	return err
}

// confine keeps a migration in its own database. The agent may be root, and the
// release's files its service's: whatever can be attached, or made by VACUUM
// INTO, could be any file of the host. VACUUM attaches one too; it is let
// through where nothing else can be meant.
func (sqlite) confine(c *sql.Conn, script []byte) error {
	const attached = 7 // SQLITE_LIMIT_ATTACHED
	most, text := 0, bytes.ToUpper(script)
	if bytes.Contains(text, []byte("VACUUM")) && !bytes.Contains(text, []byte("ATTACH")) && !bytes.Contains(text, []byte("INTO")) {
		most = 1
	}
	_, err := engine3.Limit(c, attached, most)
	return err
}

func (sqlite) session(context.Context, *sql.Conn) (string, error) { return "", nil }

// end: what the agent does itself ends with its own call.
func (sqlite) end(context.Context, place, string) error { return nil }

// lock is a lock on a file beside the database, because SQLite's own end with
// each transaction. It goes with the process that holds it.
func (sqlite) lock(_ context.Context, _ *sql.Conn, p place, name string) (func(), string, error) {
	f, err := os.OpenFile(p.file+lockSuffix, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, "", err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		defer f.Close()
		holder := make([]byte, 256)
		n, _ := f.Read(holder)
		return nil, string(holder[:n]), nil
	}
	if err != nil {
		_ = f.Close()
		return nil, "", err
	}
	_ = f.Truncate(0)
	_, _ = fmt.Fprintf(f, "process %d (%s)", os.Getpid(), name)
	return func() { _ = f.Close() }, "", nil
}

func (sqlite) has(ctx context.Context, c *sql.Conn, table string) (bool, error) {
	return ask[bool](ctx, c, "select count(*) > 0 from sqlite_master where type = 'table' and name = ?", table)
}

// readOnly asks the kernel. Opening the file would do harm: closing it again
// ends the locks that another connection of this process holds on it.
func (sqlite) readOnly(_ context.Context, _ *sql.Conn, p place) (string, error) {
	for _, path := range []string{p.file, filepath.Dir(p.file)} {
		if err := unix.Access(path, unix.W_OK); err != nil {
			return fmt.Sprintf("the agent may not write %s: %v", path, err), nil
		}
	}
	return "", nil
}

func (sqlite) judge(err error) judged {
	var path *fs.PathError
	var s *engine3.Error
	switch {
	case errors.As(err, &path) && errors.Is(err, fs.ErrNotExist):
		return judged{sort: theHost, text: "there is no such file", hint: "Provisioning must make it, empty and with the service's user as its owner; Drydock creates no databases."}
	case errors.As(err, &path):
		return judged{sort: theHost, text: path.Err.Error(), hint: "Provisioning must make the file and its directory writable for the agent."}
	case !errors.As(err, &s):
		if j, ok := unanswered(err); ok {
			return j
		}
		return judged{sort: theHost, text: err.Error(), hint: "See what is wrong with the database file."}
	}
	j := judged{text: s.Error()}
	if strings.Contains(j.text, "too many attached databases") {
		j.text += "; a migration may change its own database alone, and VACUUM needs a file of its own"
	}
	on := func(s sort, hint string) judged { j.sort, j.hint = s, hint; return j }
	switch s.Code() & 0xff {
	case 3, 8, 14, 23: // PERM, READONLY, CANTOPEN, AUTH
		return on(theHost, "Provisioning must make the file and its directory writable for the agent.")
	case 5, 6: // BUSY, LOCKED
		return on(theHost, "Another process holds the database locked: end its transaction.")
	case 13: // FULL
		return on(theHost, "Make room on the disk that the database stands on.")
	case 7, 10, 11, 15, 26: // NOMEM, IOERR, CORRUPT, PROTOCOL, NOTADB
		return on(theHost, "See what is wrong with the database file, or its disk.")
	case 9: // INTERRUPT
		return on(ended, "")
	}
	return on(theRelease, "")
}

// early: a single statement that failed was taken back whole.
func (sqlite) early(err error, stmt string, n int) bool {
	var s *engine3.Error
	return n == 1 && errors.As(err, &s) && len(commands(stmt)) == 1
}

// busy reports whether somebody else's transaction stood in the way.
func busy(err error) bool {
	var s *engine3.Error
	return errors.As(err, &s) && s.Code()&0xff == 5
}

// failing is a database that cannot be opened.
type failing struct{ err error }

func (f failing) Connect(context.Context) (driver.Conn, error) { return nil, f.err }
func (f failing) Driver() driver.Driver                        { return nil }
