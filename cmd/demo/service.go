package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// serviceVerb is the hidden verb under which this binary is the deployed
// service: `demo service RELEASE.JSON`.
const serviceVerb = "service"

// The service's environment, as its declaration sets it.
const (
	envDemo = "DEMO"     // this binary
	envPort = "PORT"     // where the service listens
	envLine = "LIFELINE" // the address of what ends it; see lifeline
)

// release is release.json, the configuration that each release brings.
type release struct {
	Version string `json:"version"`
	Broken  bool   `json:"broken"` // it dies as it starts
}

const (
	// warmUp is what a real service needs before it listens: without drain,
	// it is the time in which nobody answers.
	warmUp = 300 * time.Millisecond
	// work is what a request takes, so that some are always under way.
	work = 20 * time.Millisecond
	// patience is how long requests under way may take after SIGTERM.
	patience = 5 * time.Second
)

// serve is the service: a small web server that knows its version, finishes
// what is under way on SIGTERM, and ends when its lifeline does.
func serve(ctx context.Context, file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var rel release
	if err := json.Unmarshal(data, &rel); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	line, err := net.Dial("tcp", os.Getenv(envLine))
	if err != nil {
		return fmt.Errorf("the demo is gone: %w", err)
	}
	defer line.Close()
	go func() {
		_, _ = io.Copy(io.Discard, line)
		end()
	}()
	if err := pause(ctx, warmUp); err != nil {
		return nil
	}
	if rel.Broken {
		return fmt.Errorf("web %s cannot read its database", rel.Version)
	}
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", os.Getenv(envPort)))
	if err != nil {
		return err
	}
	fmt.Printf("%s listens on %s\n", rel.Version, l.Addr())
	srv := &http.Server{Handler: rel.handler(), ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(l) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	return srv.Shutdown(bound)
}

func (rel release) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "ok %s\n", rel.Version)
	})
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		if pause(r.Context(), work) == nil {
			fmt.Fprintf(w, "web %s\n", rel.Version)
		}
	})
	return mux
}

// lifeline is a connection that every process of the service holds open. The
// service outlives its agent, as it must; with the lifeline it does not outlive
// the demo, however that ends.
type lifeline struct {
	l net.Listener

	mu    sync.Mutex
	cut   bool
	conns []*net.TCPConn
}

func newLifeline() (*lifeline, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("the service's lifeline: %w", err)
	}
	line := &lifeline{l: l}
	go line.accept()
	return line, nil
}

func (l *lifeline) accept() {
	for {
		c, err := l.l.Accept()
		if err != nil {
			return
		}
		l.mu.Lock()
		if l.cut {
			_ = c.Close()
		} else {
			l.conns = append(l.conns, c.(*net.TCPConn))
		}
		l.mu.Unlock()
	}
}

// Cut ends the service and waits, not for long, until its processes are gone.
func (l *lifeline) Cut() {
	_ = l.l.Close()
	l.mu.Lock()
	conns := l.conns
	l.conns, l.cut = nil, true
	l.mu.Unlock()
	deadline := time.Now().Add(patience + time.Second)
	for _, c := range conns {
		_ = c.CloseWrite()
		_ = c.SetReadDeadline(deadline)
		_, _ = io.Copy(io.Discard, c)
		_ = c.Close()
	}
}

// pause waits, or returns ctx's error.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// serviceMain is the hidden verb.
func serviceMain(ctx context.Context, args []string) int {
	err := errors.New("usage: demo service RELEASE.JSON")
	if len(args) == 1 {
		err = serve(ctx, args[0])
	}
	if err != nil && !errors.Is(err, http.ErrServerClosed) {
		fmt.Fprintln(os.Stderr, "service:", err)
		return 1
	}
	return 0
}
