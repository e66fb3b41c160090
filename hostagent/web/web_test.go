package web_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"drydock/hostagent/drivertest"
	"drydock/hostagent/web"
	"drydock/reconcile"
	"drydock/spec"
)

// app is what a drain calls.
type app struct {
	*httptest.Server
	drained atomic.Bool
	calls   atomic.Int64
	busy    atomic.Int64 // how often idle still says no
}

func newApp(t *testing.T) *app {
	a := &app{}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /drain", func(http.ResponseWriter, *http.Request) { a.drained.Store(true); a.calls.Add(1) })
	mux.HandleFunc("POST /undrain", func(http.ResponseWriter, *http.Request) { a.drained.Store(false); a.calls.Add(1) })
	mux.HandleFunc("GET /idle", func(w http.ResponseWriter, _ *http.Request) {
		if a.busy.Add(-1) >= 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("/hang", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	mux.HandleFunc("/refuse", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
	a.Server = httptest.NewServer(mux)
	t.Cleanup(a.Close)
	return a
}

func (a *app) drain(t *testing.T, env reconcile.Env, attrs map[string]any) drivertest.Case {
	t.Helper()
	all := map[string]any{"drain": a.URL + "/drain", "undrain": a.URL + "/undrain", "method": "POST", "timeout": "30s"}
	for k, v := range attrs {
		all[k] = v
	}
	if env.StateDir == "" {
		env.StateDir = filepath.Join(t.TempDir(), "state")
	}
	b := drivertest.Block(t, "drain", "http", all)
	back := drivertest.Step(reconcile.Undrain, b)
	return drivertest.Case{
		New: func(env reconcile.Env) reconcile.Driver { return web.NewDrain(env) },
		Env: env, Step: drivertest.Step(reconcile.Drain, b), Back: &back,
	}
}

func TestDrain(t *testing.T) {
	fault := func(attrs func(a *app) map[string]any) drivertest.Fault {
		return drivertest.Fault{Blame: reconcile.OfHost, Make: func(t *testing.T) drivertest.Case {
			a := newApp(t)
			return a.drain(t, reconcile.Env{}, attrs(a))
		}}
	}
	drivertest.Run(t, drivertest.Suite{
		Make: func(t *testing.T) drivertest.Case {
			a := newApp(t)
			return a.drain(t, reconcile.Env{}, map[string]any{"idle": a.URL + "/idle"})
		},
		Hanging: func(t *testing.T) drivertest.Case {
			a := newApp(t)
			return a.drain(t, reconcile.Env{}, map[string]any{"idle": a.URL + "/hang"})
		},
		Faults: map[string]drivertest.Fault{
			"refused":    fault(func(a *app) map[string]any { return map[string]any{"drain": a.URL + "/refuse"} }),
			"hangs":      fault(func(a *app) map[string]any { return map[string]any{"drain": a.URL + "/hang", "timeout": "100ms"} }),
			"never idle": fault(func(a *app) map[string]any { return map[string]any{"idle": a.URL + "/refuse", "timeout": "100ms"} }),
			"unknown name": fault(func(*app) map[string]any {
				return map[string]any{"drain": "http://no-such-name.invalid/", "timeout": "5s"}
			}),
		},
		Config: web.DrainConfig{}, Reference: "service.drain.http",
	})
}

func TestDrainWaitsForIdle(t *testing.T) {
	a := newApp(t)
	a.busy.Store(2)
	c := a.drain(t, reconcile.Env{}, map[string]any{"idle": a.URL + "/idle"})
	if err := c.New(c.Env).Do(t.Context(), c.Step); err != nil {
		t.Fatal(err)
	}
	if a.busy.Load() >= 0 || !a.drained.Load() {
		t.Errorf("busy %d, drained %v", a.busy.Load(), a.drained.Load())
	}
}

// A service that is dead cannot be told to drain; its repair must not wait for that.
func TestDrainOfADeadService(t *testing.T) {
	a := newApp(t)
	a.Close()
	var log bytes.Buffer
	env := reconcile.Env{StateDir: t.TempDir(), Output: func(reconcile.Step) io.Writer { return &log }}
	c := a.drain(t, env, nil)
	if err := c.New(c.Env).Do(t.Context(), c.Step); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "nothing listens") {
		t.Errorf("it does not say so: %q", log.String())
	}
	if err := c.New(c.Env).Do(t.Context(), *c.Back); reconcile.BlameOf(err) != reconcile.OfHost {
		t.Errorf("undrain of a dead service: %v", err)
	}
}

func probe(t *testing.T, url string, attrs map[string]any) error {
	t.Helper()
	all := map[string]any{"url": url, "expect": map[string]any{"status": 200}, "interval": "1s", "timeout": "5s"}
	for k, v := range attrs {
		all[k] = v
	}
	return web.Check{}.Probe(t.Context(), drivertest.Step(reconcile.Check, drivertest.Block(t, "check", "http", all)))
}

func TestCheckSuite(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/sick":
			w.WriteHeader(http.StatusServiceUnavailable)
		case "/silent":
			<-release
		}
	}))
	defer server.Close()
	defer close(release)
	block := func(path, timeout string) spec.Block {
		return drivertest.Block(t, "check", "http", map[string]any{
			"url": server.URL + path, "expect": map[string]any{"status": 200}, "interval": "1s", "timeout": timeout,
		})
	}
	drivertest.Probes(t, drivertest.ProbeSuite{
		Path: "service.check.http", Config: web.CheckConfig{}, New: func() reconcile.Prober { return web.Check{} },
		Healthy: block("/", "10s"), Sick: block("/sick", "10s"), Silent: block("/silent", "50ms"),
	})
}

func TestCheckBodyIsAWholeWord(t *testing.T) {
	var body atomic.Value
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body.Load().(string)) }))
	defer s.Close()
	for text, want := range map[string]bool{
		"1.4.2": true, "version 1.4.2\n": true, `{"version":"1.4.2"}`: true, "It is 1.4.2.": true, "1.4.2, built today": true,
		"web/1.4.2 (linux)": true, "11.4.2 and 1.4.2": true, "1.4.2.": true, "version=1.4.2&x": true,
		"": false, "11.4.2": false, "1.4.20": false, "1.4.2-rc1": false, "1.4.2.1": false, "0.1.4.2": false,
		"1.4.2+build": false, "1.4.2~rc1": false, "v1.4.2": false, "1.4.2_1": false, "1-1.4.2": false, "1x4x2": false, "1.4.2é": false,
	} {
		body.Store(text)
		err := probe(t, s.URL, map[string]any{"expect": map[string]any{"status": 200, "body": "1.4.2"}})
		if (err == nil) != want {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestCheckStatus(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }))
	defer s.Close()
	if err := probe(t, s.URL, nil); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("%v", err)
	}
	if err := probe(t, s.URL, map[string]any{"expect": map[string]any{"status": 503}}); err != nil {
		t.Error(err)
	}
}

// Who follows a redirect asks somebody else.
func TestCheckFollowsNoRedirect(t *testing.T) {
	healthy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer healthy.Close()
	s := httptest.NewServer(http.RedirectHandler(healthy.URL, http.StatusFound))
	defer s.Close()
	if err := probe(t, s.URL, nil); err == nil || !strings.Contains(err.Error(), "302") {
		t.Errorf("%v", err)
	}
}

func TestCheckHangs(t *testing.T) {
	a := newApp(t)
	began := time.Now()
	if err := probe(t, a.URL+"/hang", map[string]any{"timeout": "50ms"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("took %v", took)
	}
}

// Accepts, and never says a word.
func TestCheckSilentPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := probe(t, "http://"+l.Addr().String(), map[string]any{"timeout": "50ms"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

// An endless body is read no further than its first MiB.
func TestCheckEndlessBody(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		chunk := bytes.Repeat([]byte("x"), 64<<10)
		for {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	}))
	defer s.Close()
	if err := probe(t, s.URL, map[string]any{"timeout": "30s", "expect": map[string]any{"status": 200, "body": "1.4.2"}}); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

func TestNothingIsAskedAtALinkLocalAddress(t *testing.T) {
	for _, url := range []string{"http://169.254.169.254/latest/meta-data/", "http://[::ffff:169.254.169.254]/", "http://[fe80::1%25lo]/", "http://0.0.0.0/"} {
		if err := probe(t, url, nil); err == nil || !strings.Contains(err.Error(), "which nothing here connects to") {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// A process that answers for ever is one that does not answer.
func TestCheckOfAnAnswerWithoutAnEnd(t *testing.T) {
	for name, c := range map[string]struct {
		first, again string
		every        time.Duration
	}{
		"headers":         {"HTTP/1.1 200 OK\r\n", "X-More: of this\r\n", 0},
		"headers, slowly": {"HTTP/1.1 200 OK\r\n", "X: y\r\n", 10 * time.Millisecond},
		"interim answers": {"", "HTTP/1.1 100 Continue\r\n\r\n", 0},
		"a body, slowly":  {"HTTP/1.1 200 OK\r\n\r\n", "ok", 10 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				_, _ = conn.Read(make([]byte, 1))
				_, err = io.WriteString(conn, c.first)
				for tick := time.NewTicker(max(c.every, time.Microsecond)); err == nil; <-tick.C {
					_, err = io.WriteString(conn, c.again)
				}
			}()
			if err := probe(t, "http://"+l.Addr().String(), map[string]any{"timeout": "200ms"}); err == nil {
				t.Error("it is taken for healthy")
			}
		})
	}
}

// Each look has a connection of its own: over a kept one the old process,
// which no longer listens, would go on answering.
func TestCheckOpensAConnectionEachTime(t *testing.T) {
	var conns atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			conns.Add(1)
		}
	}
	s.Start()
	defer s.Close()
	for range 3 {
		if err := probe(t, s.URL, nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := conns.Load(); n != 3 {
		t.Errorf("%d connections for 3 looks", n)
	}
}

// A service that flaps is seen as it is at each look: nothing is remembered.
func TestCheckFlaps(t *testing.T) {
	var n atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if n.Add(1)%2 == 0 {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	defer s.Close()
	for i := range 6 {
		if err := probe(t, s.URL, nil); (err == nil) != (i%2 == 0) {
			t.Errorf("look %d: %v", i, err)
		}
	}
}
