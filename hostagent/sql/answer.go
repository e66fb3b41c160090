package sql

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"syscall"

	"github.com/jackc/pgx/v5/pgproto3"
)

// What a database may answer: the clients themselves hold as much as comes.
const (
	maxAnswer  = 256 << 20 // to one request
	maxMessage = 16 << 20  // one row, one notice, one error
	maxHistory = 100_000   // rows of a table of versions
)

// answers is a connection that ends when the server does not stop to answer.
// PostgreSQL's client may still read while it writes what is slow to go.
type answers struct {
	net.Conn
	most int64
	got  atomic.Int64
}

func (a *answers) Write(b []byte) (int, error) {
	a.got.Store(0)
	return a.Conn.Write(b)
}

func (a *answers) Read(b []byte) (int, error) {
	left := a.most - a.got.Load()
	if left <= 0 {
		return 0, fmt.Errorf("the server sent more than %d MiB for an answer", a.most>>20)
	}
	n, err := a.Conn.Read(b[:min(int64(len(b)), left)])
	a.got.Add(int64(n))
	return n, err
}

// SyscallConn lets MySQL's client see whether an idle connection is still there.
func (a *answers) SyscallConn() (syscall.RawConn, error) {
	if c, ok := a.Conn.(syscall.Conn); ok {
		return c.SyscallConn()
	}
	return nil, syscall.ENOTSUP
}

type dialer = func(ctx context.Context, network, addr string) (net.Conn, error)

// bounded is dial for answers that end.
func bounded(dial dialer) dialer {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &answers{Conn: c, most: maxAnswer}, nil
	}
}

// frontend takes no message that would be held in memory whole and is larger
// than any of a database in good order.
func frontend(r io.Reader, w io.Writer) *pgproto3.Frontend {
	f := pgproto3.NewFrontend(r, w)
	f.SetMaxBodyLen(maxMessage)
	return f
}
