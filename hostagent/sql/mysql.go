package sql

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/pressly/goose/v3/database"
)

// mariadb is MySQL, and MariaDB.
type mariadb struct{}

func (mariadb) form() string {
	return "It is written mysql://user:password@host:3306/database, with ?tls=true to verify the server's certificate, or ?socket=/run/mysqld/mysqld.sock for a socket."
}

func (mariadb) dialect() database.Dialect { return database.DialectMySQL }
func (mariadb) mark(int) string           { return "?" }

// atomic: each statement that changes a table commits what was before it.
func (mariadb) atomic() bool { return false }

func (mariadb) place(text string) (place, error) {
	u, err := parseURL(text, "mysql")
	if err != nil {
		return place{}, err
	}
	cfg := mysql.NewConfig()
	cfg.User, cfg.DBName = u.User.Username(), strings.TrimPrefix(u.Path, "/")
	told := false
	cfg.Passwd, told = u.User.Password()
	cfg.Net, cfg.Addr, cfg.TLSConfig = "tcp", u.Host, "preferred"
	cfg.ParseTime, cfg.Timeout, cfg.Logger = true, connectPatience, log.New(io.Discard, "", 0)
	cfg.DialFunc = bounded((&net.Dialer{}).DialContext)
	for key, values := range u.Query() {
		switch v := values[0]; {
		case len(values) > 1:
			return place{}, fmt.Errorf("it says %q twice", key)
		case key == "socket" && strings.HasPrefix(v, "/") && u.Host == "":
			cfg.Net, cfg.Addr, cfg.TLSConfig = "unix", v, "false"
		case key == "tls" && slices.Contains([]string{"true", "false", "preferred", "skip-verify"}, v):
			cfg.TLSConfig = v
		default:
			return place{}, fmt.Errorf("its option %q is not known, or its value is not; there are tls (true, false, preferred, skip-verify) and, without a host, socket (a path)", key)
		}
	}
	switch {
	case cfg.DBName == "" || strings.Contains(cfg.DBName, "/"):
		return place{}, errors.New("it names no database")
	case cfg.Addr == "":
		return place{}, errors.New("it names neither a host nor a socket")
	case cfg.Net == "tcp" && u.Port() == "":
		cfg.Addr = net.JoinHostPort(u.Hostname(), "3306")
	}
	return place{text: described(cfg.DBName, cfg.Addr, cfg.User), url: text, password: cfg.Passwd, told: told, open: cfg}, nil
}

func (mariadb) open(p place, name string, _ func(string)) *sql.DB {
	cfg := p.open.(*mysql.Config).Clone()
	cfg.ConnectionAttributes = "program_name:" + strings.NewReplacer(":", " ", ",", " ").Replace(name)
	c, err := mysql.NewConnector(cfg)
	if err != nil {
		return sql.OpenDB(failing{errors.New("MySQL's client does not understand the url")})
	}
	return sql.OpenDB(c)
}

func (mariadb) begin(ctx context.Context, c *sql.Conn, patience time.Duration) error {
	seconds := max(int64(patience/time.Second), 1)
	set := fmt.Sprintf("set session lock_wait_timeout = %d, innodb_lock_wait_timeout = %d, wait_timeout = %d", lockShare(seconds), lockShare(seconds), seconds+60)
	version, err := ask[string](ctx, c, "select version()")
	if err != nil {
		return err
	}
	if strings.Contains(version, "MariaDB") {
		set += fmt.Sprintf(", max_statement_time = %.3f", patience.Seconds())
	}
	_, err = c.ExecContext(ctx, set)
	return err
}

func (mariadb) session(ctx context.Context, c *sql.Conn) (string, error) {
	return ask[string](ctx, c, "select cast(connection_id() as char)")
}

// end kills the session, because the server does not notice that its client is
// gone before the statement has ended, and waits until it is dead.
func (m mariadb) end(ctx context.Context, p place, session string) error {
	db := m.open(p, "drydock", nil)
	defer db.Close()
	id, err := strconv.ParseUint(session, 10, 64)
	if err != nil {
		return err
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		var there bool
		err := db.QueryRowContext(ctx, "select count(*) > 0 from information_schema.processlist where id = ?", id).Scan(&there)
		if err != nil || !there {
			return err
		}
		var my *mysql.MySQLError
		if _, err := db.ExecContext(ctx, fmt.Sprintf("kill %d", id)); err != nil && !(errors.As(err, &my) && my.Number == 1094) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// lock is of this database: MySQL's named locks are of the whole server.
func (mariadb) lock(ctx context.Context, c *sql.Conn, _ place, _ string) (func(), string, error) {
	db, err := ask[string](ctx, c, "select database()")
	if err != nil {
		return nil, "", err
	}
	sum := sha256.Sum256([]byte(db))
	name := "drydock/" + hex.EncodeToString(sum[:12])
	got, err := ask[sql.NullInt64](ctx, c, "select get_lock(?, 0)", name)
	if err != nil {
		return nil, "", err
	}
	if got.Int64 == 1 {
		return func() {}, "", nil // the session's end unlocks
	}
	holder, err := ask[string](ctx, c, "select concat('session ', id, ' of ', host, ' (user ', user, ')') from information_schema.processlist where id = is_used_lock(?)", name)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, "", nil // just gone, or not ours to see
	}
	return nil, holder, err
}

func (mariadb) has(ctx context.Context, c *sql.Conn, table string) (bool, error) {
	return ask[bool](ctx, c, "select count(*) > 0 from information_schema.tables where table_schema = database() and table_name = ?", table)
}

func (mariadb) readOnly(ctx context.Context, c *sql.Conn, _ place) (string, error) {
	return ask[string](ctx, c, "select if(@@global.read_only, 'it is a replica, or set read-only (read_only)', '')")
}

func (mariadb) judge(err error) judged {
	var my *mysql.MySQLError
	if !errors.As(err, &my) {
		if j, ok := unanswered(err); ok {
			return j
		}
		return judged{sort: lost, text: err.Error(), hint: "See that it runs and can be reached from this host."}
	}
	j := judged{text: fmt.Sprintf("%s (%d)", my.Message, my.Number)}
	on := func(s sort, hint string) judged { j.sort, j.hint = s, hint; return j }
	switch my.Number {
	case 1049:
		return on(theHost, "Provisioning must create it; Drydock creates no databases.")
	case 1045, 1044, 1698, 1130, 4151:
		return on(theHost, "Put the right password into the credential, or let provisioning make the user and grant it the database.")
	case 1142, 1143, 1227, 1370, 1419:
		return on(theHost, "Provisioning must grant the user of the url what the migration needs.")
	case 1290, 1792, 1836:
		return on(theHost, "Name the primary in the url, or make the database writable.")
	case 1021, 1114, 3, 28:
		return on(theHost, "Make room on the database's disk.")
	case 1040, 1203, 1226:
		return on(theHost, "It is tried again; see why it takes no more connections.")
	case 1205:
		return on(theHost, "Somebody holds a lock on what it changes: see SHOW PROCESSLIST, and end the transaction that stays open.")
	case 1213:
		return on(theHost, "It met another transaction, and is tried again.")
	case 1317, 1969, 3024:
		return on(ended, "")
	case 1053, 1927, 1152, 1158, 1159, 1160, 1161:
		return on(lost, "See that it runs and can be reached from this host.")
	}
	return on(theRelease, "")
}

// early are refusals from before a statement is carried out.
func (mariadb) early(err error, stmt string, n int) bool {
	var my *mysql.MySQLError
	if n != 1 || !errors.As(err, &my) {
		return false
	}
	first := opens(stmt)
	switch my.Number {
	case 1064:
		return true // it cannot even be read
	case 1044, 1142, 1143, 1227, 1290, 1792, 1836:
		return first != "CALL" && first != "EXECUTE"
	case 1050, 1054, 1060, 1061, 1072, 1091, 1146, 1205:
		return first == "ALTER" || first == "CREATE"
	}
	return false
}
