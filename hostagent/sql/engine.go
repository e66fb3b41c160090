package sql

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/pressly/goose/v3/database"
)

// engine is all that tells one database from another. Its values hold nothing.
type engine interface {
	// form says how a URL is written, as a hint.
	form() string
	// place reads a URL. Its error quotes nothing of it.
	place(url string) (place, error)
	dialect() database.Dialect
	// atomic: what a transaction did is taken back with it, tables included.
	atomic() bool

	// open prepares for connections and makes none. said gets notices.
	open(p place, name string, said func(string)) *sql.DB
	// begin makes a session as new: for no statement will it wait longer than
	// patience.
	begin(ctx context.Context, c *sql.Conn, patience time.Duration) error
	// session is what the server calls this session.
	session(ctx context.Context, c *sql.Conn) (string, error)
	// end stops what a session that was given up still does on the server.
	end(ctx context.Context, p place, session string) error

	// lock takes the database's migration lock, for as long as the session
	// lasts and until it is let go; a nil function means that somebody else
	// has it: holder, if that can be found out.
	lock(ctx context.Context, c *sql.Conn, p place, name string) (unlock func(), holder string, err error)
	has(ctx context.Context, c *sql.Conn, table string) (bool, error)
	// readOnly says why nothing can be written, or "".
	readOnly(ctx context.Context, c *sql.Conn, p place) (string, error)
	mark(n int) string // the n-th argument in a statement

	// judge says what an error means.
	judge(err error) judged
	// early: the n-th statement of a migration was refused before it, or any
	// before it, had changed anything, though in no transaction.
	early(err error, stmt string, n int) bool
}

func engineOf(name string) (engine, error) {
	switch name {
	case "postgres":
		return postgres{}, nil
	case "mysql":
		return mariadb{}, nil
	case "sqlite":
		return sqlite{}, nil
	}
	return nil, fmt.Errorf("migrate sql: there is no engine %q", name)
}

// place is a database, and how to get there.
type place struct {
	text     string // for people: `database "orders" at db:5432 as user "web"`
	url      string // never shown
	password string // never shown
	told     bool   // the password stands in the URL itself
	open     any    // the engine's own
	file     string // SQLite's; "" otherwise
}

// redact takes out of a text what must be shown to nobody, however it is
// escaped there.
func (p place) redact(text string) string {
	if p.file != "" {
		return text
	}
	forms := []string{p.url, p.password, url.QueryEscape(p.password), url.PathEscape(p.password), url.UserPassword("", p.password).String()[1:]}
	if i := strings.LastIndexByte(p.url, '@'); i > 0 {
		_, user, _ := strings.Cut(p.url[:i], "://")
		_, asWritten, _ := strings.Cut(user, ":")
		forms = append(forms, asWritten)
	}
	for _, form := range forms {
		if form != "" {
			text = strings.ReplaceAll(text, form, "•••")
		}
	}
	return text
}

// sort is whose business an error is.
type sort int

const (
	theRelease sort = iota // what the migration says cannot be done
	theHost                // the database cannot do it now, or to us
	lost                   // the connection is gone
	ended                  // the statement was ended from outside, or by its time
)

// judged is what an error means.
type judged struct {
	sort sort
	text string // the database's own words
	hint string // for theHost: what to do
	char int    // where in the statement, from 1; 0 if it does not say
}

// unanswered judges what any client's network may say.
func unanswered(err error) (judged, bool) {
	var network net.Error
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return judged{sort: ended, text: err.Error()}, true
	case errors.Is(err, driver.ErrBadConn), errors.Is(err, sql.ErrConnDone), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, net.ErrClosed), errors.As(err, &network), errors.Is(err, os.ErrDeadlineExceeded):
		text := err.Error()
		if op := (*net.OpError)(nil); errors.As(err, &op) {
			text = op.Error() // clients say the same thrice around it
		}
		return judged{sort: lost, text: text, hint: "See that it runs and can be reached from this host."}, true
	}
	return judged{}, false
}

// parseURL is url.Parse whose error quotes nothing.
func parseURL(text string, schemes ...string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Opaque != "" {
		return nil, errors.New("it is no URL (in a password, write %40 for @, %2F for /, %3A for :, %23 for #, %25 for %)")
	}
	for _, s := range schemes {
		if u.Scheme == s {
			if u.Fragment != "" {
				return nil, errors.New("it has a part behind #")
			}
			return u, nil
		}
	}
	return nil, fmt.Errorf("it does not begin with %s://", schemes[0])
}

func described(db, host, user string) string {
	text := fmt.Sprintf("database %q at %s", db, host)
	if user != "" {
		text += fmt.Sprintf(" as user %q", user)
	}
	return text
}

// ask is a query with one value for an answer.
func ask[T any](ctx context.Context, c *sql.Conn, query string, args ...any) (answer T, err error) {
	err = c.QueryRowContext(ctx, query, args...).Scan(&answer)
	return answer, err
}
