package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Proxy is the demo's load balancer. It has one backend, which is in rotation
// while File exists; requests that come while it is not are held until it
// returns, but no longer than Hold. A request that the backend does not take
// is answered 502, and never tried twice: what Drydock promises must not be
// the work of a patient proxy.
type Proxy struct {
	File    string            // the drain file
	Backend string            // host:port
	Hold    time.Duration     // how long a request is held at most
	MaxHeld int               // how many at once; one more is answered 503
	MaxOpen int               // connections to the backend at once; more wait their turn
	Every   time.Duration     // how often File is looked at
	Trip    http.RoundTripper // nil: a connection to Backend for each request

	held atomic.Int64

	mu    sync.Mutex
	ready chan struct{} // closed while the backend is in rotation
}

// Handler starts following the drain file, until ctx ends, and returns what
// answers requests.
func (p *Proxy) Handler(ctx context.Context) http.Handler {
	p.ready = make(chan struct{})
	if inRotation(p.File) {
		close(p.ready)
	}
	go p.follow(ctx)
	trip := p.Trip
	if trip == nil {
		// No connection is kept, so that none dies between two requests: a
		// failed request then always means that nobody listened.
		trip = &http.Transport{
			DisableKeepAlives:     true,
			MaxConnsPerHost:       p.MaxOpen,
			DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			ResponseHeaderTimeout: 10 * time.Second,
		}
	}
	forward := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: p.Backend}) },
		Transport: trip,
		ErrorLog:  log.New(io.Discard, "", 0),
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, err.Error(), http.StatusBadGateway)
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := p.hold(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		forward.ServeHTTP(w, r)
	})
}

// Held is how many requests wait for a backend right now.
func (p *Proxy) Held() int { return int(p.held.Load()) }

var (
	errFull    = errors.New("no backend is in rotation, and too many requests wait for one")
	errTooLong = errors.New("no backend came into rotation in time")
)

// hold returns once the backend is in rotation.
func (p *Proxy) hold(ctx context.Context) error {
	p.mu.Lock()
	ready := p.ready
	p.mu.Unlock()
	select {
	case <-ready:
		return nil
	default:
	}
	defer p.held.Add(-1)
	if p.held.Add(1) > int64(p.MaxHeld) {
		return errFull
	}
	timer := time.NewTimer(p.Hold)
	defer timer.Stop()
	select {
	case <-ready:
		return nil
	case <-timer.C:
		return errTooLong
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *Proxy) follow(ctx context.Context) {
	tick := time.NewTicker(p.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			p.set(inRotation(p.File))
		}
	}
}

func (p *Proxy) set(in bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := false
	select {
	case <-p.ready:
		was = true
	default:
	}
	switch {
	case in && !was:
		close(p.ready)
	case !in && was:
		p.ready = make(chan struct{})
	}
}

// inRotation counts a file that cannot be looked at as there: only its absence
// takes the backend out.
func inRotation(file string) bool {
	_, err := os.Lstat(file)
	return !errors.Is(err, fs.ErrNotExist)
}
