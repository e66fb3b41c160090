package haproxy_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"drydock/hostagent/drivertest"
	"drydock/hostagent/haproxy"
	"drydock/reconcile"
	"drydock/testdata/rig"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// app is a service behind the proxy. A request for /slow is answered when
// Release is called, any other at once.
type app struct {
	name, address string
	server        *http.Server
	arrived       chan struct{} // a request for /slow

	mu      sync.Mutex
	release chan struct{} // closed by Release
}

func startApp(t *testing.T, name string) *app {
	t.Helper()
	a := &app{name: name, address: "127.0.0.1:0", arrived: make(chan struct{}, 100), release: make(chan struct{})}
	a.start(t)
	t.Cleanup(func() { a.Release(); a.stop() })
	return a
}

func (a *app) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/slow" {
		a.mu.Lock()
		release := a.release
		a.mu.Unlock()
		a.arrived <- struct{}{}
		<-release
	}
	fmt.Fprint(w, a.name)
}

// Release answers all slow requests.
func (a *app) Release() {
	a.mu.Lock()
	defer a.mu.Unlock()
	select {
	case <-a.release:
	default:
		close(a.release)
	}
}

// again makes slow requests wait for the next Release.
func (a *app) again() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.release = make(chan struct{})
}

func (a *app) start(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", a.address)
	if err != nil {
		t.Fatal(err)
	}
	a.address = l.Addr().String()
	a.server = &http.Server{Handler: a}
	go func() { _ = a.server.Serve(l) }()
}

// stop cuts off whoever is connected, as the end of a process does.
func (a *app) stop() { _ = a.server.Close() }

// yard is a proxy in front of one or more services.
type yard struct {
	*rig.Proxy
	apps []*app
}

// backend's settings let nothing hide what a drain that was missed would break.
func backendOf(apps []*app, options string) rig.Backend {
	b := rig.Backend{Name: "web", Lines: []string{"option httpchk GET /", "retries 0", "no option redispatch", "cookie AT insert"}}
	for _, a := range apps {
		b.Servers = append(b.Servers, rig.Server{Name: a.name, Address: a.address, Options: options + " cookie " + a.name})
	}
	return b
}

const checked = "check inter 50ms fall 1 rise 1"

func newYard(t *testing.T, options string, names ...string) *yard {
	t.Helper()
	y := &yard{}
	for _, name := range names {
		y.apps = append(y.apps, startApp(t, name))
	}
	y.Proxy = rig.HAProxy(t, backendOf(y.apps, options), rig.Backend{Name: "api"})
	return y
}

// slow sends a request that ends with Release, and returns once the service has it.
func (y *yard) slow(t *testing.T, a *app) (answered chan error) {
	t.Helper()
	answered = make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { answered <- get(ctx, sticky(a.name), y.URL("web")+"/slow") }()
	t.Cleanup(cancel)
	select {
	case <-a.arrived:
	case err := <-answered:
		t.Fatalf("the slow request was answered at once: %v", err)
	case <-time.After(patience):
		t.Fatalf("the slow request does not arrive\n%s", y.Log())
	}
	return answered
}

// sticky is a client that HAProxy sends to one server, by its cookie.
func sticky(server string) *http.Client { return &http.Client{Transport: stickyTransport{server}} }

type stickyTransport struct{ server string }

func (s stickyTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.AddCookie(&http.Cookie{Name: "AT", Value: s.server})
	r.Close = true
	return (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
}

const patience = 30 * time.Second

func get(ctx context.Context, c *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return nil
}

// heard is what a driver says.
type heard struct {
	mu   sync.Mutex
	text strings.Builder
}

func (h *heard) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.Write(p)
}

func (h *heard) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.String()
}

// await waits until the driver has said text.
func (h *heard) await(t *testing.T, text string) {
	t.Helper()
	within(t, "to hear "+text, func() bool { return strings.Contains(h.String(), text) })
}

func (h *heard) expect(t *testing.T, text string) {
	t.Helper()
	if !strings.Contains(h.String(), text) {
		t.Errorf("it does not say %q, but:\n%s", text, h)
	}
}

// bounded ends what a driver has no end for.
func bounded(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func within(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); !is(); <-tick.C {
		if time.Since(began) > patience {
			t.Fatalf("waited for too long %s", what)
		}
	}
}

// at are the steps and the driver for one server.
type at struct {
	driver         *haproxy.Drain
	heard          *heard
	drain, undrain reconcile.Step
	env            reconcile.Env
}

func place(t *testing.T, address, backend, server, timeout string) at {
	t.Helper()
	h := &heard{}
	env := reconcile.Env{StateDir: filepath.Join(t.TempDir(), "state"), Output: func(reconcile.Step) io.Writer { return h }}
	b := drivertest.Block(t, "drain", "haproxy", map[string]any{"address": address, "backend": backend, "server": server, "timeout": timeout})
	return at{haproxy.New(env), h, drivertest.Step(reconcile.Drain, b), drivertest.Step(reconcile.Undrain, b), env}
}

func (y *yard) at(t *testing.T, server, timeout string) at {
	return place(t, y.Address(), "web", server, timeout)
}

func (a at) mustDrain(t *testing.T) {
	t.Helper()
	if err := a.driver.Do(bounded(t), a.drain); err != nil {
		t.Fatalf("drain: %v", err)
	}
}

func (a at) mustUndrain(t *testing.T) {
	t.Helper()
	if err := a.driver.Do(bounded(t), a.undrain); err != nil {
		t.Fatalf("undrain: %v", err)
	}
}

// doing starts a drain.
func (a at) doing(t *testing.T) (done chan error) {
	done = make(chan error, 1)
	go func() { done <- a.driver.Do(t.Context(), a.drain) }()
	return done
}

// holding runs Hold until the returned function is called.
func (a at) holding(t *testing.T) (end func()) {
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan struct{})
	go func() { defer close(over); a.driver.Hold(ctx, a.drain) }()
	var once sync.Once
	end = func() { once.Do(func() { cancel(); <-over }) }
	t.Cleanup(end)
	return end
}

func ended(t *testing.T, done chan error) error {
	t.Helper()
	select {
	case err := <-done:
		return err
	case <-time.After(patience):
		t.Fatal("it does not end")
		return nil
	}
}
