package consul_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"drydock/hostagent/consul"
	"drydock/hostagent/drivertest"
	"drydock/reconcile"
	"drydock/spec"
	"drydock/testdata/rig"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const secret = "8f9d0e51-11d2-4a5f-9c3e-00000000beef"

type log = drivertest.Log

// drain is a case at an address; attrs replace what its block says.
func drain(t *testing.T, address string, attrs map[string]any) (drivertest.Case, *log) {
	t.Helper()
	all := map[string]any{"address": address, "service_id": "web-1", "token": "", "timeout": "30s"}
	for k, v := range attrs {
		all[k] = v
	}
	l := &log{}
	b := drivertest.Block(t, "drain", "consul", all)
	back := drivertest.Step(reconcile.Undrain, b)
	return drivertest.Case{
		New: func(env reconcile.Env) reconcile.Driver { return consul.New(env) },
		Env: reconcile.Env{
			StateDir:   filepath.Join(t.TempDir(), "state"),
			Output:     func(reconcile.Step) io.Writer { return l },
			Credential: func(name string) (string, error) { return secret + "\n", nil },
		},
		Step: drivertest.Step(reconcile.Drain, b), Back: &back, Before: reconcile.Present, After: reconcile.Absent,
	}, l
}

// registered is a stand-in that knows web-1, and a case for it.
func registered(t *testing.T, attrs map[string]any) (*rig.ConsulAgent, drivertest.Case, *log) {
	t.Helper()
	a := rig.Consul(t, nil)
	a.Register("web-1", "web", false)
	c, l := drain(t, a.URL, attrs)
	return a, c, l
}

func TestSuite(t *testing.T) {
	answering := func(h http.HandlerFunc, attrs map[string]any) func(*testing.T) drivertest.Case {
		return func(t *testing.T) drivertest.Case {
			a, c, _ := registered(t, attrs)
			a.Instead(h)
			return c
		}
	}
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "because", code) }
	}
	fault := func(make func(*testing.T) drivertest.Case) drivertest.Fault {
		return drivertest.Fault{Make: make, Blame: reconcile.OfHost}
	}
	drivertest.Run(t, drivertest.Suite{
		Make: func(t *testing.T) drivertest.Case {
			_, c, _ := registered(t, nil)
			return c
		},
		Hanging: answering(hang, nil),
		Faults: map[string]drivertest.Fault{
			"hangs":     fault(answering(hang, map[string]any{"timeout": "200ms"})),
			"forbidden": fault(answering(status(http.StatusForbidden), nil)),
			"error":     fault(answering(status(http.StatusInternalServerError), nil)),
			"no service": fault(func(t *testing.T) drivertest.Case {
				c, _ := drain(t, rig.Consul(t, nil).URL, nil)
				return c
			}),
			"refuses": fault(func(t *testing.T) drivertest.Case {
				a, c, _ := registered(t, nil)
				a.Close()
				return c
			}),
			"unknown name": fault(func(t *testing.T) drivertest.Case {
				c, _ := drain(t, "http://no-such-name.invalid:8500", map[string]any{"timeout": "5s"})
				return c
			}),
			"half an answer": fault(answering(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", "1000")
				_, _ = io.WriteString(w, `{"Service": {"ID": "web-1"`)
			}, nil)),
			"an answer that stalls": fault(answering(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.WriteString(w, `{"Service": `)
				_ = http.NewResponseController(w).Flush()
				<-r.Context().Done()
			}, map[string]any{"timeout": "200ms"})),
			"garbage":    fault(answering(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>welcome") }, nil)),
			"other JSON": fault(answering(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") }, nil)),
			"endless":    fault(answering(endless, nil)),
			"servers out of touch": fault(func(t *testing.T) drivertest.Case {
				a, c, _ := registered(t, map[string]any{"timeout": "300ms"})
				a.Behind(true)
				return c
			}),
		},
		Config: consul.Config{}, Reference: "service.drain.consul",
	})
}

func endless(w http.ResponseWriter, _ *http.Request) {
	chunk := []byte(strings.Repeat(`{"Service": [`, 5000))
	for {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}

// An endless answer is read no further than its first MiB.
func TestEndlessAnswer(t *testing.T) {
	a, c, _ := registered(t, nil)
	a.Instead(endless)
	if err := c.New(c.Env).Do(t.Context(), c.Step); err == nil || !strings.Contains(err.Error(), "more than 1024 KiB") {
		t.Errorf("%v", err)
	}
}

func do(t *testing.T, c drivertest.Case, s reconcile.Step) {
	t.Helper()
	if err := c.New(c.Env).Do(t.Context(), s); err != nil {
		t.Fatalf("%v: %v", s.Phase, err)
	}
}

// People read in Consul who it was, and why.
func TestReason(t *testing.T) {
	a, c, _ := registered(t, nil)
	do(t, c, c.Step)
	if got, on := a.Maintenance("web-1"); !on || got != "drydock: web 1.4.2 on h" {
		t.Errorf("%v, %q", on, got)
	}
	do(t, c, *c.Back)
	if got, on := a.Maintenance("web-1"); on {
		t.Errorf("undrained, and in maintenance: %q", got)
	}
}

// A drain that an older version left, before a revert, is ours too.
func TestUndrainOfAnotherVersion(t *testing.T) {
	a, c, _ := registered(t, nil)
	do(t, c, c.Step)
	c.Back.Target.Release.Version = "1.4.1"
	do(t, c, *c.Back)
	if _, on := a.Maintenance("web-1"); on {
		t.Error("it stays in maintenance")
	}
}

// What a person switched on stays, through drain and undrain, and is said.
func TestAPersonsMaintenanceStays(t *testing.T) {
	for _, why := range []string{"disk swap", "", "Drydock: no", "drydock"} {
		a, c, l := registered(t, nil)
		a.Enter("web-1", why)
		d := c.New(c.Env)
		for _, s := range []reconcile.Step{c.Step, *c.Back} {
			do(t, c, s)
			if done, err := d.Done(t.Context(), s); !done || err != nil {
				t.Errorf("%v: Done says %v, %v", s.Phase, done, err)
			}
		}
		if got, on := a.Maintenance("web-1"); !on || why != "" && got != why {
			t.Errorf("%q became %v, %q", why, on, got)
		}
		if got := l.String(); strings.Count(got, "stays so") != 2 || !strings.Contains(got, "consul maint -disable -service=web-1") {
			t.Errorf("it does not say so: %s", got)
		}
		if got, err := d.(reconcile.Observer).Observe(t.Context(), c.Step); err != nil || got.Is != reconcile.Absent || !strings.Contains(got.Detail, "a person") {
			t.Errorf("%v, %v", got, err)
		}
		for _, call := range a.Calls() {
			if strings.HasPrefix(call, "PUT") {
				t.Errorf("something was changed: %s", call)
			}
		}
	}
}

// Unless the person asks for the service by its name.
func TestAPersonsMaintenanceEndsWhenAsked(t *testing.T) {
	a, c, _ := registered(t, nil)
	a.Enter("web-1", "disk swap")
	back := *c.Back
	back.Asked = true
	do(t, c, back)
	if _, on := a.Maintenance("web-1"); on {
		t.Error("it is still in maintenance")
	}
}

// A person who is faster between our look and our request is left alone too.
func TestAPersonIsFaster(t *testing.T) {
	a, _, _ := registered(t, nil)
	var once sync.Once
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			once.Do(func() { a.Enter("web-1", "mine") })
		}
		req, _ := http.NewRequestWithContext(r.Context(), r.Method, a.URL+r.URL.RequestURI(), nil)
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(w, resp.Body)
	}))
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	defer proxy.Close()
	c, l := drain(t, proxy.URL, nil)
	do(t, c, c.Step)
	if !strings.Contains(l.String(), `"mine"`) {
		t.Errorf("it does not say so: %s", l)
	}
	do(t, c, *c.Back)
	if got, on := a.Maintenance("web-1"); !on || got != "mine" {
		t.Errorf("%v, %q", on, got)
	}
}

// A drain ends when Consul's servers have it, not before.
func TestWaitsForTheServers(t *testing.T) {
	a, c, _ := registered(t, nil)
	a.Behind(true)
	result := make(chan error, 1)
	go func() { result <- c.New(c.Env).Do(t.Context(), c.Step) }()
	eventually(t, func() bool {
		n := 0
		for _, call := range a.Calls() {
			if strings.HasPrefix(call, "GET /v1/health/checks/web?") {
				n++
			}
		}
		return n > 2
	})
	select {
	case err := <-result:
		t.Fatalf("the servers do not know, and the drain has ended: %v", err)
	default:
	}
	if done, err := c.New(c.Env).Done(t.Context(), c.Step); done || err != nil {
		t.Errorf("Done says %v, %v", done, err)
	}
	a.Behind(false)
	if err := <-result; err != nil {
		t.Fatal(err)
	}
}

// Where the ACLs hide the servers' view, it goes on and says so.
func TestServersHidden(t *testing.T) {
	a, c, l := registered(t, nil)
	a.Blind()
	do(t, c, c.Step)
	if !strings.Contains(l.String(), "node:read") {
		t.Errorf("it does not say so: %s", l)
	}
	if done, err := c.New(c.Env).Done(t.Context(), c.Step); !done || err != nil {
		t.Errorf("Done says %v, %v", done, err)
	}
}

func TestPrepare(t *testing.T) {
	prepare := func(c drivertest.Case, s reconcile.Step) error {
		return c.New(c.Env).(reconcile.Preparer).Prepare(t.Context(), s)
	}
	a, c, _ := registered(t, nil)
	c.Step.Action = reconcile.Update
	if err := prepare(c, c.Step); err != nil {
		t.Error(err)
	}
	a.Deregister("web-1")
	err := prepare(c, c.Step)
	if reconcile.BlameOf(err) != reconcile.OfHost || !strings.Contains(fmt.Sprint(err), `no service with the id "web-1"`) {
		t.Errorf("%v", err)
	}
	first := *c.Back
	first.Action = reconcile.Create
	if err := prepare(c, first); err != nil {
		t.Errorf("on a first install, whose service registers itself: %v", err)
	}
	for _, call := range a.Calls() {
		if !strings.HasPrefix(call, "GET") {
			t.Errorf("something was changed: %s", call)
		}
	}
	a.Close()
	if err := prepare(c, first); reconcile.BlameOf(err) != reconcile.OfHost {
		t.Errorf("no agent there: %v", err)
	}
}

// A place that the declaration has moved on from may know the service no more.
func TestOldPlaceIsGone(t *testing.T) {
	a, c, _ := registered(t, nil)
	a.Deregister("web-1")
	d := consul.New(c.Env)
	named := drivertest.Block(t, "drain", "consul", map[string]any{"address": a.URL, "service_id": "web-2", "token": "", "timeout": "1s"})
	for name, edit := range map[string]func(*reconcile.Step){
		"its removal": func(s *reconcile.Step) { s.Action, s.Phase = reconcile.Remove, reconcile.Undrain },
		"its drain":   func(s *reconcile.Step) { s.Action, s.Target.Drains = reconcile.Update, []spec.Block{named} },
	} {
		s := c.Step
		edit(&s)
		done, err := d.Done(t.Context(), s)
		if err := errors.Join(err, d.Prepare(t.Context(), s), d.Do(t.Context(), s)); err != nil || !done {
			t.Errorf("%s: %v, %v", name, done, err)
		}
	}
}

// What is not registered is neither in rotation nor out of it.
func TestObserveUnregistered(t *testing.T) {
	a, c, _ := registered(t, nil)
	a.Deregister("web-1")
	if got, err := consul.New(c.Env).Observe(t.Context(), c.Step); err != nil || got.Is != reconcile.Unknown {
		t.Errorf("%v, %v", got, err)
	}
}

// The token goes in its header, and nowhere else: not into URLs, errors, the
// log, another host, or what a server echoes.
func TestTokenStaysSecret(t *testing.T) {
	credential := map[string]any{"token": map[string]string{"credential": "consul-token"}, "timeout": "5s"}
	a := rig.Consul(t, map[string]string{secret: "write", "reader": "read"})
	a.Register("web-1", "web", false)
	c, l := drain(t, a.URL, credential)
	for _, s := range []reconcile.Step{c.Step, *c.Back} {
		do(t, c, s)
	}
	for _, call := range a.Calls() {
		if strings.Contains(call, secret) {
			t.Errorf("the token stands in %s", call)
		}
	}
	silent := func(what string, err error) {
		t.Helper()
		if err == nil || reconcile.BlameOf(err) != reconcile.OfHost || strings.Contains(err.Error(), secret) || strings.Contains(l.String(), secret) {
			t.Errorf("%s: %v", what, err)
		}
	}
	a.Instead(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "bad token "+r.Header.Get("X-Consul-Token"), http.StatusForbidden)
	})
	err := c.New(c.Env).Do(t.Context(), c.Step)
	silent("a server that echoes it", err)
	if !strings.Contains(err.Error(), "bad token [token]") {
		t.Errorf("it does not say what Consul said: %v", err)
	}
	var elsewhere atomic.Int64
	thief := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer thief.Close()
	a.Instead(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, thief.URL+r.URL.RequestURI(), http.StatusTemporaryRedirect)
	})
	err = c.New(c.Env).Do(t.Context(), c.Step)
	silent("a redirect", err)
	if elsewhere.Load() > 0 {
		t.Error("the redirect was followed")
	}
	c.Env.Credential = func(string) (string, error) { return secret + "\r\nX-Other: 1", nil }
	silent("a token with a line break", c.New(c.Env).Do(t.Context(), c.Step))
	c.Env.Credential = nil
	silent("no credentials", c.New(c.Env).Do(t.Context(), c.Step))
	c.Env.Credential = func(name string) (string, error) {
		return "", reconcile.HostFault(fmt.Errorf("credential %q: gone", name), "")
	}
	silent("a credential that cannot be read", c.New(c.Env).Do(t.Context(), c.Step))
}

// What the token may not, and which rule it lacks.
func TestACLs(t *testing.T) {
	a := rig.Consul(t, map[string]string{"writer": "write", "reader": "read"})
	a.Register("web-1", "web", false)
	for token, want := range map[string]string{"": "service:read", "reader": "service:write", "nobody": "service:read", "writer": ""} {
		c, _ := drain(t, a.URL, map[string]any{"token": token})
		err := c.New(c.Env).Do(t.Context(), c.Step)
		switch {
		case want == "" && err != nil:
			t.Errorf("%q: %v", token, err)
		case want != "" && (reconcile.BlameOf(err) != reconcile.OfHost || !strings.Contains(fmt.Sprint(err), "give it "+want)):
			t.Errorf("%q: %v, expected the advice to give it %s", token, err, want)
		}
		if want != "" {
			if _, on := a.Maintenance("web-1"); on {
				t.Errorf("%q has put it in maintenance", token)
			}
			continue
		}
		do(t, c, *c.Back)
	}
}

// An id with characters that mean something in a URL is still one id.
func TestStrangeIDs(t *testing.T) {
	for _, id := range []string{"web/1", "web 1", "web?x=1&enable=false", "web#1", "web%2F1", "wéb:8080", `web"1`} {
		a := rig.Consul(t, nil)
		a.Register(id, "web", false)
		a.Register("other", "web", false)
		c, _ := drain(t, a.URL+"/", map[string]any{"service_id": id})
		do(t, c, c.Step)
		if _, on := a.Maintenance(id); !on {
			t.Errorf("%q is not in maintenance: %v", id, a.Calls())
		}
		do(t, c, *c.Back)
		if _, on := a.Maintenance(id); on {
			t.Errorf("%q is in maintenance", id)
		}
	}
}

// A service that registers itself anew when it starts loses its maintenance,
// and gets it back.
func TestHold(t *testing.T) {
	a, c, l := registered(t, nil)
	do(t, c, c.Step)
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan struct{})
	go func() {
		defer close(over)
		consul.New(c.Env).Hold(ctx, c.Step)
	}()
	a.Deregister("web-1") // stopped
	a.Register("web-1", "web", true)
	eventually(t, func() bool {
		why, on := a.Maintenance("web-1")
		return on && why == "drydock: web 1.4.2 on h"
	})
	a.Leave("web-1")
	a.Enter("web-1", "mine") // a person takes over
	n := len(a.Calls())
	eventually(t, func() bool { return len(a.Calls()) > n+1 })
	cancel()
	<-over
	if why, _ := a.Maintenance("web-1"); why != "mine" {
		t.Errorf("a person's maintenance became %q", why)
	}
	if !strings.Contains(l.String(), "was lost, and is put back") {
		t.Errorf("it does not say so: %s", l)
	}
}

// The agent's silence is said once, not every second.
func TestHoldSaysOnce(t *testing.T) {
	a, c, l := registered(t, nil)
	var asked atomic.Int64
	a.Instead(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		http.Error(w, "out of order", http.StatusInternalServerError)
	})
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan struct{})
	go func() {
		defer close(over)
		consul.New(c.Env).Hold(ctx, c.Step)
	}()
	eventually(t, func() bool { return asked.Load() > 2 })
	cancel()
	<-over
	if n := strings.Count(l.String(), "out of order"); n != 1 {
		t.Errorf("said %d times: %s", n, l)
	}
}

// Looking changes nothing, and asks only what is documented.
func TestLooksOnly(t *testing.T) {
	a, c, _ := registered(t, nil)
	d := consul.New(c.Env)
	_, err1 := d.Observe(t.Context(), c.Step)
	_, err2 := d.Done(t.Context(), c.Step)
	if err := errors.Join(err1, err2, d.Prepare(t.Context(), c.Step)); err != nil {
		t.Fatal(err)
	}
	if i := slices.IndexFunc(a.Calls(), func(call string) bool { return !strings.HasPrefix(call, "GET /v1/") }); i >= 0 {
		t.Errorf("%v", a.Calls())
	}
}

func eventually(t *testing.T, holds func() bool) {
	t.Helper()
	late := time.NewTimer(time.Minute)
	defer late.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-late.C:
			t.Fatal("it never came to that")
		}
	}
}

func TestALinkLocalAddressIsNotAsked(t *testing.T) {
	c, _ := drain(t, "http://169.254.169.254:8500", nil)
	err := c.New(c.Env).Do(t.Context(), c.Step)
	if reconcile.BlameOf(err) != reconcile.OfHost || !strings.Contains(err.Error(), "which nothing here connects to") {
		t.Error(err)
	}
}
