package nginx_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"drydock/hostagent/nginx"
	"drydock/testdata/rig"
)

// backend is a server behind nginx that counts, and can hold a request.
type backend struct {
	*httptest.Server
	name   string
	served atomic.Int64
	held   chan struct{} // a request to /hold has come
	free   chan struct{}
}

func newBackend(t *testing.T, name, addr string) *backend {
	t.Helper()
	b := &backend{name: name, held: make(chan struct{}, 16), free: make(chan struct{})}
	b.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.served.Add(1)
		if r.URL.Path == "/hold" {
			b.held <- struct{}{}
			select {
			case <-b.free:
			case <-r.Context().Done():
			}
		}
		_, _ = io.WriteString(w, b.name)
	}))
	if addr != "" {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		b.Listener.Close()
		b.Listener = l
	}
	b.Start()
	t.Cleanup(b.Close)
	return b
}

func (b *backend) addr() string { return b.Listener.Addr().String() }

// get is what nginx answers: the body, or the status where it is not 200.
func get(w *rig.Web, path string) string {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	resp, err := client.Get("http://" + w.Addr() + path)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return resp.Status
	}
	body, _ := io.ReadAll(resp.Body)
	return string(body)
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

// A request in flight is waited for; what lasts longer than the timeout is not,
// and that is said.
func TestWaitsForWhatIsInFlight(t *testing.T) {
	for _, patient := range []bool{true, false} {
		t.Run(fmt.Sprint("patient ", patient), func(t *testing.T) {
			a, b := newBackend(t, "a", ""), newBackend(t, "b", "")
			w := rig.Nginx(t, "server "+a.addr()+";\nserver "+b.addr()+" backup;\n")
			timeout := "30s"
			if !patient {
				timeout = "4s"
			}
			c := drain(t, w.UpstreamFile, w.Reload(), map[string]any{"server": a.addr(), "timeout": timeout})
			env, l := newEnv(t)
			d := nginx.New(env)
			client := make(chan string, 1)
			go func() { client <- get(w, "/hold") }()
			<-a.held
			result := make(chan error, 1)
			go func() { result <- d.Do(t.Context(), c.Step) }()
			if patient {
				eventually(t, func() bool { return get(w, "/") == "b" }) // new requests go elsewhere already
				select {
				case err := <-result:
					t.Fatalf("a request is in flight, and the drain has ended: %v", err)
				default:
				}
				close(a.free)
			}
			if err := <-result; err != nil {
				t.Fatal(err)
			}
			if !patient {
				if !strings.Contains(l.String(), "still serve what they had accepted") {
					t.Errorf("it does not say so: %s", l)
				}
				close(a.free)
			}
			if got := <-client; got != "a" {
				t.Errorf("the request in flight got %q", got)
			}
		})
	}
}

// The last server may be drained, and it is said what that means.
func TestLastOne(t *testing.T) {
	a := newBackend(t, "a", "")
	w := rig.Nginx(t, "server "+a.addr()+";\nserver 127.0.0.1:1 down;\n")
	c := drain(t, w.UpstreamFile, w.Reload(), map[string]any{"server": a.addr()})
	env, l := newEnv(t)
	if err := nginx.New(env).Do(t.Context(), c.Step); err != nil {
		t.Fatal(err)
	}
	if got := get(w, "/"); got != "502 Bad Gateway" {
		t.Errorf("nginx answers %q", got)
	}
	if !strings.Contains(l.String(), "the last server there") {
		t.Errorf("it does not say so: %s", l)
	}
}

// Somebody who writes the file anew (a configuration manager) loses no drain.
func TestHold(t *testing.T) {
	c, w := ofRig(t, nil)
	d := nginx.New(c.Env)
	if err := d.Do(t.Context(), c.Step); err != nil {
		t.Fatal(err)
	}
	drained := read(t, w.UpstreamFile)
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan struct{})
	go func() {
		defer close(over)
		d.Hold(ctx, c.Step)
	}()
	write(t, w.UpstreamFile, two)
	eventually(t, func() bool {
		done, err := d.Done(t.Context(), c.Step)
		return done && err == nil
	})
	cancel()
	<-over
	if diff := cmp.Diff(drained, read(t, w.UpstreamFile)); diff != "" {
		t.Error(diff)
	}
}

// TestLoad: 20 clients, one backend drained, restarted and undrained, twice,
// then the other: not one request fails.
func TestLoad(t *testing.T) {
	backends := []*backend{newBackend(t, "a", ""), newBackend(t, "b", "")}
	w := rig.Nginx(t, "server "+backends[0].addr()+" max_fails=0;\nserver "+backends[1].addr()+" max_fails=0;\n")
	env, _ := newEnv(t)
	d := nginx.New(env)

	stop := make(chan struct{})
	var clients sync.WaitGroup
	var requests atomic.Int64
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 20}}
	for range 20 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				resp, err := client.Get("http://" + w.Addr() + "/")
				if err != nil {
					t.Errorf("a request failed: %v", err)
					return
				}
				body, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				if resp.StatusCode != 200 || len(body) != 1 {
					t.Errorf("status %d, %q", resp.StatusCode, body)
				}
				requests.Add(1)
			}
		})
	}
	for round := range 4 {
		i := round % 2
		old := backends[i]
		c := drain(t, w.UpstreamFile, w.Reload(), map[string]any{"server": old.addr()})
		if err := d.Do(t.Context(), c.Step); err != nil {
			t.Fatal(err)
		}
		before := old.served.Load()
		seen := requests.Load()
		eventually(t, func() bool { return requests.Load() > seen+100 })
		if got := old.served.Load() - before; got != 0 {
			t.Errorf("%d requests came after the drain", got)
		}
		addr := old.addr()
		old.CloseClientConnections()
		old.Close()
		backends[i] = newBackend(t, old.name, addr)
		if err := d.Do(t.Context(), *c.Back); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() bool { return backends[i].served.Load() > 20 })
	}
	close(stop)
	clients.Wait()
	client.CloseIdleConnections()
	t.Logf("%d requests", requests.Load())
}
