package gitsource

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"drydock/hostagent/outbound"

	"github.com/go-git/go-git/v5/plumbing"
)

// remote is one place that serves the branch.
type remote struct {
	name string // for people, without password
	dial func(ctx context.Context) (session, error)
}

// session is one conversation with a remote, which lives as long as the
// context it was dialled with.
type session interface {
	// list is what the remote says of one ref, or of all branches and tags where
	// ref is "".
	list(ref string) (advertised, error)
	// pack asks for what leads from haves to wants. What it returns ends with
	// io.EOF only if the server said that it was done.
	pack(wants, haves []plumbing.Hash, ours *objects) (io.Reader, error)
	close()
}

// newRemote reads a URL. first says that the token belongs to it.
func newRemote(raw string, s *Source, first bool) (remote, error) {
	r := remote{name: redact(raw)}
	u, err := parseURL(raw)
	if err != nil {
		return r, fmt.Errorf("source: %w", err)
	}
	if u.Scheme != "file" {
		if err := outbound.Check(u.Hostname()); err != nil {
			return r, fmt.Errorf("source: %s: %w", r.name, err)
		}
	}
	switch u.Scheme {
	case "file":
		if u.Host != "" && u.Host != "localhost" {
			return r, fmt.Errorf("source: %s names a host; write file:///path", r.name)
		}
		r.dial = func(context.Context) (session, error) { return dialLocal(u.Path) }
	case "git":
		r.dial = func(ctx context.Context) (session, error) { return dialGit(ctx, u) }
	case "ssh", "git+ssh":
		if s.o.SSHKey == "" {
			return r, fmt.Errorf("source: %s needs ssh_key, the file of a private key", r.name)
		}
		r.dial = func(ctx context.Context) (session, error) { return dialSSH(ctx, u, s.o) }
	case "https", "http":
		h := &httpRemote{client: s.http, base: u, timeout: s.o.Timeout}
		own, err := parseURL(s.o.URL)
		if first || err == nil && own.Scheme == u.Scheme && own.Host == u.Host {
			h.token = s.o.Token
		}
		if h.token != nil && u.Scheme == "http" && !loopback(u.Hostname()) {
			return r, fmt.Errorf("source: the token would cross the network unencrypted to %s; use https", r.name)
		}
		r.dial = h.dial
	default:
		return r, fmt.Errorf("source: %s: the scheme %q is not known; use https, ssh, git, file or a path", r.name, u.Scheme)
	}
	return r, nil
}

// parseURL also reads a path, and user@host:path as git does.
func parseURL(raw string) (*url.URL, error) {
	if strings.Contains(raw, "://") {
		u, err := url.Parse(raw)
		if err != nil {
			return nil, errors.New("a URL of the source does not parse") // url's own error shows the password
		}
		if u.Scheme != "file" && u.Hostname() == "" {
			return nil, fmt.Errorf("%s names no host", u.Redacted())
		}
		return u, nil
	}
	if host, path, ok := strings.Cut(raw, ":"); ok && !strings.Contains(host, "/") && host != "" {
		user, name, ok := strings.Cut(host, "@")
		if !ok {
			user, name = "", host
		}
		u := &url.URL{Scheme: "ssh", Host: name, Opaque: path}
		if user != "" {
			u.User = url.User(user)
		}
		return u, nil
	}
	abs, err := filepath.Abs(raw)
	return &url.URL{Scheme: "file", Path: abs}, err
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// watchdog ends a conversation in which nothing comes any more.
type watchdog struct {
	timer *time.Timer
	idle  time.Duration
	got   int // bytes since the timer was set
}

// slowest is how many bytes a second a server has to send of a pack: one that
// drips would keep a host from its mirrors for as long as a fetch may take.
const slowest = 1 << 10

// watch gives a context that ends when idle passed without alive, or after
// total, with a cause that says which.
func watch(parent context.Context, idle, total time.Duration) (context.Context, *watchdog, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	timer := time.AfterFunc(idle, func() {
		cancel(fail(ErrUnreachable, "the server sent nothing, or not enough, for %s, or something that takes as long to look through. Check the network and the server", idle))
	})
	all := time.AfterFunc(total, func() {
		cancel(fail(ErrUnreachable, "the fetch was not done after %s. Check the network and the server, or raise the limit", total))
	})
	return ctx, &watchdog{timer: timer, idle: idle}, func() {
		timer.Stop()
		all.Stop()
		cancel(nil)
	}
}

func (w *watchdog) alive() { w.got = 0; w.timer.Reset(w.idle) }

// fed counts what arrived.
func (w *watchdog) fed(n int) {
	if w.got += n; float64(w.got) >= slowest*w.idle.Seconds() {
		w.alive()
	}
}

// fed is a stream that keeps a watchdog content.
type fed struct {
	io.Reader
	dog *watchdog
}

func (f *fed) Read(b []byte) (int, error) {
	n, err := f.Reader.Read(b)
	f.dog.fed(n)
	return n, err
}

// because prefers the reason for which a conversation was ended to what the
// connection then made of it.
func because(ctx context.Context, err error) error {
	var local localDamage
	if errors.As(err, &local) {
		return err
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// guard makes a connection end with its context: what SSH and the git protocol
// themselves never do.
func guard(ctx context.Context, conn net.Conn) (release func()) {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	return func() { stop(); conn.Close() }
}
