package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Server answers on a state directory's socket.
type Server struct {
	http     http.Server
	listener net.Listener
	socket   string // as people know it
	lock     *os.File
	stop     context.CancelFunc
}

// Listen takes the socket. That of a dead agent is replaced; that of a living
// one never: it holds a lock for as long as it listens.
func Listen(state string, a Agent) (*Server, error) {
	s := &Server{socket: filepath.Join(state, SocketName)}
	dir, name, err := socketIn(state)
	if err != nil {
		return nil, fmt.Errorf("listen in the state directory: %w", err)
	}
	defer dir.Close()
	if s.lock, err = own(s.socket + ".lock"); err != nil {
		return nil, err
	}
	if err := s.bind(name); err != nil {
		_ = s.lock.Close()
		return nil, fmt.Errorf("listen on %s: %w", s.socket, err)
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.http = http.Server{
		Handler:           http.MaxBytesHandler(routes(a), maxBody),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: maxWait + shortWait, IdleTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10,
	}
	return s, nil
}

// own takes the lock beside the socket. A socket alone does not tell whether
// its agent lives: one that is busy refuses as one that is dead does.
func own(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the agent's socket: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("another agent listens in %s (%w); stop it first", filepath.Dir(path), err)
	}
	return f, nil
}

func (s *Server) bind(name string) error {
	if info, err := os.Lstat(name); err == nil {
		if info.Mode().Type() != os.ModeSocket {
			return errors.New("something that is not a socket has its name; move it away")
		}
		if err := os.Remove(name); err != nil {
			return err
		}
	}
	// Nobody but the owner may connect, not even before the chmod.
	l, err := (&net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), 0o600) }), err)
	}}).Listen(context.Background(), "unix", name)
	if err != nil {
		return err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // the name is of this call's descriptor only
	if err := os.Chmod(name, 0o600); err != nil {
		_ = l.Close()
		return err
	}
	s.listener = peers{l.(*net.UnixListener)}
	return nil
}

// Serve answers until Close; its error is nil then.
func (s *Server) Serve() error {
	if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", s.socket, err)
	}
	return nil
}

// Close ends requests, the listener and the socket. ctx bounds how long
// requests under way may take to see it.
func (s *Server) Close(ctx context.Context) error {
	s.stop()
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.http.Close())
	}
	_ = s.listener.Close() // where Serve was never called
	return errors.Join(err, os.Remove(s.socket), s.lock.Close())
}

// peers accepts only processes of root and of the agent's own user: the
// socket's mode is the first lock, this the second.
type peers struct{ *net.UnixListener }

func (p peers) Accept() (net.Conn, error) {
	for {
		c, err := p.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if uid, err := peer(c); err == nil && allowed(uid, os.Geteuid()) {
			return c, nil
		}
		_ = c.Close()
	}
}

func allowed(uid uint32, own int) bool { return uid == 0 || int(uid) == own }

func peer(c *net.UnixConn) (uint32, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var inner error
	err = raw.Control(func(fd uintptr) { cred, inner = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err = errors.Join(err, inner); err != nil {
		return 0, err
	}
	return cred.Uid, nil
}

func routes(a Agent) http.Handler {
	mux := http.NewServeMux()
	value := func(pattern string, wait time.Duration, f func(context.Context) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			ctx, cancel := context.WithTimeout(r.Context(), wait)
			defer cancel()
			v, err := f(ctx)
			reply(w, v, err)
		})
	}
	act := func(pattern string, f func(context.Context) error) {
		value(pattern, shortWait, func(ctx context.Context) (any, error) { return struct{}{}, f(ctx) })
	}
	name := regexp.MustCompile(serviceName)
	service := func(pattern string, f func(context.Context, string) (string, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			s := r.URL.Query().Get("service")
			if !name.MatchString(s) {
				reply(w, nil, &Refused{http.StatusBadRequest, fmt.Sprintf("%q is no service's name; it must match %s", s, serviceName)})
				return
			}
			ctx, cancel := context.WithTimeout(r.Context(), maxWait)
			defer cancel()
			note, err := f(ctx, s)
			reply(w, noted{note}, err)
		})
	}
	value("GET /v1/status", shortWait, a.Status)
	value("GET /v1/plan", maxWait, a.Plan)
	value("GET /v1/check-host", maxWait, a.CheckHost)
	value("POST /v1/once", maxWait, a.Once)
	act("POST /v1/sync", a.Sync)
	act("POST /v1/pause", a.Pause)
	act("POST /v1/resume", a.Resume)
	service("POST /v1/drain", func(ctx context.Context, s string) (string, error) { return "", a.Drain(ctx, s) })
	service("POST /v1/undrain", a.Undrain)
	return mux
}

type noted struct {
	Note string `json:"note,omitempty"`
}

type failure struct {
	Error string `json:"error"`
}

func reply(w http.ResponseWriter, v any, err error) {
	status := http.StatusOK
	var refused *Refused
	var missing interface{ NotFound() bool }
	switch {
	case err == nil:
	case errors.As(err, &refused):
		status = refused.Status
	case errors.As(err, &missing) && missing.NotFound():
		status = http.StatusNotFound
	case errors.Is(err, context.DeadlineExceeded):
		status = http.StatusGatewayTimeout
	default:
		status = http.StatusInternalServerError
	}
	if err != nil {
		v = failure{err.Error()}
	}
	body, err := json.Marshal(v)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"error":"the answer cannot be written as JSON"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}
