package sql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3/database"
	"github.com/pressly/goose/v3/lock"
)

type postgres struct{}

func (postgres) form() string {
	return "It is written postgres://user:password@host:5432/database?sslmode=verify-full, or ?host=/run/postgresql for a socket."
}

func (postgres) dialect() database.Dialect { return database.DialectPostgres }
func (postgres) atomic() bool              { return true }
func (postgres) mark(n int) string         { return "$" + strconv.Itoa(n) }

func (postgres) place(text string) (place, error) {
	u, err := parseURL(text, "postgres", "postgresql")
	if err != nil {
		return place{}, err
	}
	cfg, err := pgx.ParseConfig(text)
	if err != nil {
		return place{}, errors.New("PostgreSQL's client does not understand its host, port or options")
	}
	if strings.Trim(u.Path, "/") == "" && !u.Query().Has("dbname") {
		return place{}, errors.New("it names no database")
	}
	cfg.ConnectTimeout = connectPatience
	cfg.DialFunc, cfg.BuildFrontend = bounded(cfg.DialFunc), frontend
	// Without prepared statements: they outlive the table that they were made for.
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
	// Whoever gives up waits until the server has ended the statement.
	cfg.BuildContextWatcherHandler = func(c *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: c, DeadlineDelay: endPatience}
	}
	host := cfg.Host
	if !strings.HasPrefix(host, "/") {
		host = net.JoinHostPort(host, strconv.Itoa(int(cfg.Port)))
	}
	_, told := u.User.Password()
	return place{text: described(cfg.Database, host, cfg.User), url: text, password: cfg.Password, told: told || u.Query().Has("password"), open: cfg}, nil
}

func (postgres) open(p place, name string, said func(string)) *sql.DB {
	cfg := p.open.(*pgx.ConnConfig).Copy()
	cfg.RuntimeParams["application_name"] = name[:min(len(name), 63)]
	cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		said(fmt.Sprintf("%s: %s", n.Severity, n.Message))
	}
	return stdlib.OpenDB(*cfg)
}

// begin also undoes what a migration before set for its session. A server that
// loses its client ends what it does for it.
func (postgres) begin(ctx context.Context, c *sql.Conn, patience time.Duration) error {
	ms := max(patience.Milliseconds(), 1)
	set := fmt.Sprintf("reset all; set statement_timeout = %d; set lock_timeout = %d; set idle_in_transaction_session_timeout = %d; set tcp_keepalives_idle = 30", ms, lockShare(ms), ms)
	version, err := ask[int](ctx, c, "select current_setting('server_version_num')::int")
	if err != nil {
		return err
	}
	if version >= 140000 {
		set += "; set client_connection_check_interval = 2000"
	}
	_, err = c.ExecContext(ctx, set)
	return err
}

func (postgres) session(ctx context.Context, c *sql.Conn) (string, error) {
	return ask[string](ctx, c, "select pg_backend_pid()::text")
}

// end: the client's own cancel request has done it.
func (postgres) end(context.Context, place, string) error { return nil }

// lock is the advisory lock that goose takes too.
func (postgres) lock(ctx context.Context, c *sql.Conn, _ place, _ string) (func(), string, error) {
	got, err := ask[bool](ctx, c, "select pg_try_advisory_lock($1)", lock.DefaultLockID)
	if err != nil {
		return nil, "", err
	}
	if got {
		return func() {}, "", nil // the session's end unlocks
	}
	holder, err := ask[string](ctx, c, `select format('process %s of %s (%s, user %s)', a.pid,
			coalesce(host(a.client_addr), 'this machine'), coalesce(nullif(a.application_name, ''), 'an unnamed program'), a.usename)
		from pg_catalog.pg_locks l join pg_catalog.pg_stat_activity a using (pid)
		where l.locktype = 'advisory' and l.granted and l.objsubid = 1 and l.classid::bigint = $1 and l.objid::bigint = $2
			and l.database = (select oid from pg_catalog.pg_database where datname = current_database()) limit 1`,
		lock.DefaultLockID>>32, lock.DefaultLockID&0xffffffff)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, "", nil // just gone
	}
	return nil, holder, err
}

func (postgres) has(ctx context.Context, c *sql.Conn, table string) (bool, error) {
	return ask[bool](ctx, c, "select to_regclass($1) is not null", table)
}

func (postgres) readOnly(ctx context.Context, c *sql.Conn, _ place) (string, error) {
	return ask[string](ctx, c, `select case when pg_is_in_recovery() then 'it is a replica'
		when current_setting('transaction_read_only') = 'on' then 'it is read-only for this user (default_transaction_read_only)' else '' end`)
}

func (postgres) judge(err error) judged {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		if j, ok := unanswered(err); ok {
			return j
		}
		return judged{sort: lost, text: err.Error(), hint: "See that it runs and can be reached from this host."}
	}
	j := judged{text: fmt.Sprintf("%s: %s (%s)", pg.Severity, pg.Message, pg.Code), char: int(pg.Position)}
	class := pg.Code[:min(2, len(pg.Code))]
	on := func(s sort, hint string) judged { j.sort, j.hint = s, hint; return j }
	switch {
	case pg.Code == "57014":
		return on(ended, "")
	case pg.Code == "3D000":
		return on(theHost, "Provisioning must create it; Drydock creates no databases.")
	case class == "28":
		return on(theHost, "Put the right password into the credential, or let provisioning make the user and let it in (pg_hba.conf).")
	case pg.Code == "25006":
		return on(theHost, "Name the primary in the url, or make the database writable.")
	case pg.Code == "53100":
		return on(theHost, "Make room on the database's disk.")
	case pg.Code == "53300", pg.Code == "57P03":
		return on(theHost, "It is tried again; see why it takes no more connections.")
	case class == "53", class == "58", class == "F0", class == "XX":
		return on(theHost, "See the database server's log.")
	case pg.Code == "55P03":
		return on(theHost, "Somebody holds a lock on what it changes: see pg_stat_activity, and end what is idle in a transaction.")
	case pg.Code == "40P01", pg.Code == "40001":
		return on(theHost, "It met other transactions, and is tried again.")
	case pg.Code == "42501":
		return on(theHost, "Provisioning must grant the user of the url what the migration needs.")
	case class == "08", strings.HasPrefix(pg.Code, "57P"), pg.Code == "25P03", pg.Code == "25P04":
		return on(lost, "See that it runs and can be reached from this host.")
	}
	return on(theRelease, "")
}

// early: a single statement is taken back whole, but for those that end
// transactions themselves; of them, what cannot even be read has done nothing.
func (postgres) early(err error, stmt string, n int) bool {
	var pg *pgconn.PgError
	if n != 1 || !errors.As(err, &pg) || len(commands(stmt)) != 1 {
		return false
	}
	if pg.Code == "42601" || pg.Code == "25006" {
		return true
	}
	first := opens(stmt)
	return strings.HasPrefix(pg.Code, "42") && first != "CALL" && first != "DO" && !strings.Contains(strings.ToUpper(stmt), "CONCURRENTLY")
}
