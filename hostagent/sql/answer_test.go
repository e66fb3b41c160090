package sql

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
)

func TestAnAnswerEnds(t *testing.T) {
	here, there := net.Pipe()
	defer here.Close()
	go func() {
		defer there.Close()
		b := make([]byte, 10)
		for {
			if _, err := there.Read(b[:1]); err != nil {
				return
			}
			if _, err := there.Write(b); err != nil {
				return
			}
		}
	}()
	a := &answers{Conn: here, most: 10}
	for range 2 { // each request has its own answer
		if _, err := a.Write([]byte("?")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(a, make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := a.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "sent more than") {
		t.Errorf("an eleventh byte: %v", err)
	}
}

// lying is a PostgreSQL that answers each client with answer.
func lying(t *testing.T, answer []byte) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 1024))
			_, _ = c.Write(answer)
			_, _ = io.Copy(io.Discard, c) // until the client goes
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return "postgres://web@" + l.Addr().String() + "/web?sslmode=disable"
}

func message(kind byte, size int, body string) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(4+size)), body...)
}

func TestAServerThatLies(t *testing.T) {
	text := "SFATAL\x00C53300\x00M\x1b]0;owned\x07\x1b[2J all is well \u202e" + strings.Repeat("x", 1000) + "\x00\x00"
	for name, c := range map[string]struct {
		answer []byte
		says   string
	}{
		"what a terminal obeys": {message('E', len(text), text), "all is well"},
		"a message of 512 MiB":  {message('N', 512<<20, "SNOTICE\x00"), "expected at most"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := postgres{}.place(lying(t, c.answer))
			if err != nil {
				t.Fatal(err)
			}
			w := &work{engine: postgres{}, place: p}
			defer w.close()
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			err = w.connect(ctx)
			if err == nil || !strings.Contains(err.Error(), c.says) || strings.ContainsAny(err.Error(), "\x1b\x07\u202e") || len(err.Error()) > 600 {
				t.Errorf("%q", err)
			}
		})
	}
}

func TestMySQLsConnectionsAreBounded(t *testing.T) {
	p, err := mariadb{}.place("mysql://web@" + strings.TrimPrefix(strings.TrimSuffix(lying(t, nil), "/web?sslmode=disable"), "postgres://web@") + "/web")
	if err != nil {
		t.Fatal(err)
	}
	cfg := p.open.(*mysql.Config)
	c, err := cfg.DialFunc(t.Context(), cfg.Net, cfg.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if a, ok := c.(*answers); !ok || a.most != maxAnswer {
		t.Errorf("%T", c)
	}
}
