package sql_test

import (
	"testing"

	"drydock/hostagent/drivertest"
	"drydock/hostagent/sql"
	"drydock/reconcile"
)

var two = map[string]string{
	"00001_create_orders.sql": up("create table orders (id int primary key);\ninsert into orders values (1);"),
	"00002_add_name.sql":      up("alter table orders add column name varchar(80);"),
}

// endless are statements that do not end by themselves.
var endless = map[string]string{
	"postgres": "select pg_sleep(3600);",
	"mysql":    "select sleep(3600);",
	"sqlite":   "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n;",
}

func TestDriver(t *testing.T) {
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			with := func(files map[string]string, edit ...func(*host)) func(t *testing.T) drivertest.Case {
				return func(t *testing.T) drivertest.Case {
					h := newHost(t, engine)
					h.release("1.0.0", files)
					for _, e := range edit {
						e(h)
					}
					return h.suiteCase()
				}
			}
			drivertest.Run(t, drivertest.Suite{
				Make:    with(two),
				Hanging: with(map[string]string{"1_wait.sql": up(endless[engine])}),
				Faults: map[string]drivertest.Fault{
					"no directory": {Make: with(two, func(h *host) { h.attrs["directory"] = "elsewhere"; h.release("1.0.0", nil) }), Blame: reconcile.OfRelease},
					"no database":  {Make: with(two, func(h *host) { h.url += "-gone" }), Blame: reconcile.OfHost},
					"bad name":     {Make: with(map[string]string{"orders.sql": up("select 1;")}), Blame: reconcile.OfRelease},
					"syntax":       {Make: with(map[string]string{"1_x.sql": up("selec 1;")}), Blame: reconcile.OfRelease},
				},
				Config: sql.Config{}, Reference: "service.migrate.sql",
			})
		})
	}
}
