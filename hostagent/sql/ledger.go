package sql

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
)

// ours is the table beside goose's, with what goose does not write down.
const ours = "drydock_migrations"

// The one definition does for every engine. "release" is a word of MySQL's.
const createOurs = `create table if not exists ` + ours + ` (
	version bigint primary key,
	name varchar(255) not null,
	sha256 char(64) not null,
	compatible boolean not null,
	service varchar(255) not null,
	service_version varchar(255) not null,
	applied_at timestamp not null default current_timestamp
)`

// ledger is goose's store for one migration, which writes our row beside
// goose's own, and so in the same transaction.
type ledger struct {
	database.Store
	engine     engine
	script     script
	compatible bool
	service    string
	release    string

	// wrote: both rows were written; what is left is the commit.
	wrote bool
}

// Insert writes ours first: where nothing holds the two together, a row of
// ours alone says nothing, and one of goose's alone would hide an edit.
func (l *ledger) Insert(ctx context.Context, db database.DBTxConn, req database.InsertRequest) error {
	if req.Version == l.script.version {
		if _, err := db.ExecContext(ctx, "delete from "+ours+" where version = "+l.engine.mark(1), req.Version); err != nil {
			return err
		}
		m := l.engine.mark
		insert := fmt.Sprintf("insert into %s (version, name, sha256, compatible, service, service_version) values (%s, %s, %s, %s, %s, %s)", ours, m(1), m(2), m(3), m(4), m(5), m(6))
		if _, err := db.ExecContext(ctx, insert, req.Version, l.script.name, l.script.sum, l.compatible, l.service, l.release); err != nil {
			return err
		}
	}
	if err := l.Store.Insert(ctx, db, req); err != nil {
		return err
	}
	l.wrote = req.Version == l.script.version
	return nil
}

// GetMigration finds none where goose had it taken back.
func (l *ledger) GetMigration(ctx context.Context, db database.DBTxConn, version int64) (*database.GetMigrationResult, error) {
	r, err := l.Store.GetMigration(ctx, db, version)
	if err == nil && !r.IsApplied {
		return nil, database.ErrVersionNotFound
	}
	return r, err
}

// TableExists lets goose look before it creates its table.
func (l *ledger) TableExists(ctx context.Context, db database.DBTxConn) (bool, error) {
	if s, ok := l.Store.(database.StoreExtender); ok {
		return s.TableExists(ctx, db)
	}
	return false, fmt.Errorf("%T cannot say whether its table exists", l.Store)
}

// history is what the database says was applied.
func history(ctx context.Context, e engine, c *sql.Conn) ([]applied, error) {
	there, err := e.has(ctx, c, goose.DefaultTablename)
	if err != nil || !there {
		return nil, err
	}
	is := map[int64]applied{}
	err = each(ctx, c, "select version_id, is_applied from "+goose.DefaultTablename+" order by id", func(r *sql.Rows) error {
		var a applied
		var up bool
		if err := r.Scan(&a.version, &up); err != nil {
			return err
		}
		if delete(is, a.version); up && a.version > 0 {
			is[a.version] = a // the last row counts
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if there, err = e.has(ctx, c, ours); err != nil {
		return nil, err
	}
	if there {
		err = each(ctx, c, "select version, name, sha256, compatible, service, service_version from "+ours, func(r *sql.Rows) error {
			a := applied{recorded: true}
			var service, version string
			if err := r.Scan(&a.version, &a.name, &a.sum, &a.compatible, &service, &version); err != nil {
				return err
			}
			if a.service = service + " " + version; is[a.version].version != 0 {
				is[a.version] = a
			}
			return nil
		})
	}
	all := make([]applied, 0, len(is))
	for _, a := range is {
		all = append(all, a)
	}
	return all, err
}

func each(ctx context.Context, c *sql.Conn, query string, row func(*sql.Rows) error) error {
	rows, err := c.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	for n := 0; rows.Next(); n++ {
		if n == maxHistory {
			return fmt.Errorf("its table of versions has more than %d rows", maxHistory)
		}
		if err := row(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}
