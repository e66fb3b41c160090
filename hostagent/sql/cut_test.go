package sql_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"drydock/reconcile"
	"drydock/testdata/rig"
)

// cutter stands between a client and a server, and cuts the connection when it
// sees what it was told to look for.
type cutter struct {
	net.Listener
	server string
	word   []byte
	after  bool // once the server has answered; the client never hears of it
	cuts   atomic.Int32
}

func cut(t *testing.T, server, word string, after bool) *cutter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{Listener: l, server: server, word: []byte(word), after: after}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go c.serve(client)
		}
	}()
	return c
}

func (c *cutter) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", c.server)
	if err != nil {
		return
	}
	defer server.Close()
	var deaf atomic.Bool
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		buf := make([]byte, 64<<10)
		for {
			n, err := server.Read(buf)
			if err != nil || deaf.Load() {
				return
			}
			if _, err := client.Write(buf[:n]); err != nil {
				return
			}
		}
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		if bytes.Contains(buf[:n], c.word) && c.cuts.CompareAndSwap(0, 1) {
			if deaf.Store(true); c.after {
				_, _ = server.Write(buf[:n])
				<-answered
			}
			return
		}
		if _, err := server.Write(buf[:n]); err != nil {
			return
		}
	}
}

// A connection that is cut while it commits leaves no doubt: the version row,
// read under the lock, decides.
func TestConnectionCutDuringCommit(t *testing.T) {
	for _, engine := range []string{"postgres", "mysql"} {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/after=%v", engine, after), func(t *testing.T) {
				h := newHost(t, engine)
				h.release("1.0.0", two)
				address := servers.PostgreSQL(t).Address()
				word := "commit\x00"
				if engine == "mysql" {
					address, word = servers.MariaDB(t).Address(), "\x03COMMIT"
				}
				// goose commits its own table first; it is there already.
				h.mustDo()
				h.release("1.0.1", map[string]string{"00001_create_orders.sql": two["00001_create_orders.sql"], "00002_add_name.sql": two["00002_add_name.sql"], "3_c.sql": up("insert into orders values (7, 'seven');")})
				c := cut(t, address, word, after)
				h.url = strings.Replace(h.url, address, c.Addr().String(), 1) + map[string]string{"postgres": "?sslmode=disable", "mysql": "?tls=false"}[engine]
				err := h.do()
				if c.cuts.Load() != 1 {
					t.Fatal("the connection was not cut")
				}
				rows := h.query("select count(*) from orders where id = 7")
				switch {
				case after:
					if err != nil || rows != "1" {
						t.Errorf("%v; %s rows", err, rows)
					}
				case engine == "mysql":
					if !errors.Is(err, reconcile.ErrUnknown) {
						t.Errorf("%v", err)
					}
				default:
					if !errors.Is(err, reconcile.ErrUntouched) || reconcile.BlameOf(err) != reconcile.OfHost || rows != "0" {
						t.Errorf("%v; %s rows", err, rows)
					}
					if done, err := h.done(); done || err != nil {
						t.Errorf("done: %v, %v", done, err)
					}
					h.mustDo()
				}
			})
		}
	}
}

// A server that dies in the middle has taken back what was in a transaction;
// of what was not, nobody knows.
func TestServerDiesInMidMigration(t *testing.T) {
	p := rig.PostgreSQL(t)
	for _, atomic := range []bool{true, false} {
		t.Run(fmt.Sprintf("atomic=%v", atomic), func(t *testing.T) {
			h := newHost(t, "postgres")
			db := p.Database(t)
			h.url, h.exec = p.TCP(db), func(sql string) string { return p.Exec(t, db, sql) }
			text := up("create table a (id int);\n" + endless["postgres"])
			if !atomic {
				text = "-- +goose NO TRANSACTION\n" + text
			}
			h.release("1.0.0", map[string]string{"1_a.sql": text})
			result := make(chan error, 1)
			go func() { result <- h.driver().Do(t.Context(), h.step) }()
			eventually(t, "the migration to be under way", func() bool { return h.atWork() == "1" })
			p.Kill()
			if atomic {
				err := <-result
				if !errors.Is(err, reconcile.ErrUntouched) || reconcile.BlameOf(err) != reconcile.OfHost {
					t.Errorf("%v", err)
				}
				if _, err := h.done(); reconcile.BlameOf(err) != reconcile.OfHost {
					t.Errorf("done while the database is down: %v", err)
				}
				p.Start(t)
			} else {
				p.Start(t) // it is waited for
				if err := <-result; !errors.Is(err, reconcile.ErrUnknown) {
					t.Errorf("%v", err)
				}
			}
			done, err := h.done()
			if done || atomic && err != nil || !atomic && !errors.Is(err, reconcile.ErrUnknown) {
				t.Errorf("done: %v, %v", done, err)
			}
		})
	}
}
