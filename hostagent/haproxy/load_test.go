package haproxy_test

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
)

// users are clients that ask without a pause until they are told to end.
type users struct {
	served, failed atomic.Int64
	first          atomic.Pointer[string] // why the first that failed did
	end            func()
}

func (y *yard) users(t *testing.T, n int) *users {
	t.Helper()
	u := &users{}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for i := range n {
		transport := &http.Transport{DisableKeepAlives: i%2 == 0}
		all.Go(func() {
			defer transport.CloseIdleConnections()
			for ctx.Err() == nil {
				err := get(ctx, &http.Client{Transport: transport}, y.URL("web")+"/")
				switch {
				case ctx.Err() != nil:
				case err != nil:
					u.failed.Add(1)
					text := err.Error()
					u.first.CompareAndSwap(nil, &text)
				default:
					u.served.Add(1)
				}
			}
		})
	}
	u.end = sync.OnceFunc(func() { cancel(); all.Wait() })
	t.Cleanup(u.end)
	return u
}

// more waits until n more requests were served.
func (u *users) more(t *testing.T, n int64) {
	t.Helper()
	from := u.served.Load()
	within(t, "for requests to be served", func() bool { return u.served.Load()-from >= n || u.failed.Load() > 0 })
}

func (u *users) noneFailed(t *testing.T) {
	t.Helper()
	u.end()
	if n := u.failed.Load(); n > 0 {
		t.Errorf("%d of %d requests failed, the first with %s", n, n+u.served.Load(), *u.first.Load())
	}
}

// The whole point: services are replaced one after the other, HAProxy is
// reloaded in between, and nobody notices.
func TestNoRequestFails(t *testing.T) {
	reloadHere := func(t *testing.T, y *yard) { y.Reload(t) }
	nothing := func(*testing.T, *yard) {}
	for name, c := range map[string]struct {
		file bool
		down func(*testing.T, *yard) // while the service is down
		wait func(*testing.T, *yard) // while the drain waits for a session
	}{
		"no reload": {wait: nothing, down: nothing},
		"a reload in mid-drain, without a state file":  {wait: reloadHere, down: nothing},
		"a reload with a state file, in mid-drain too": {file: true, wait: reloadHere, down: reloadHere},
	} {
		t.Run(name, func(t *testing.T) {
			y := newYard(t, checked, "web-1", "web-2")
			y.StateFile = c.file
			y.Reload(t)
			u := y.users(t, 12)
			for range 3 {
				for _, app := range y.apps {
					u.more(t, 50)
					a := y.at(t, app.name, "1h")
					app.again()
					slow := y.slow(t, app)
					done := a.doing(t)
					a.heard.await(t, "left; waiting")
					c.wait(t, y)
					u.more(t, 20)
					app.Release()
					if err := ended(t, slow); err != nil {
						t.Errorf("a slow request failed: %v", err)
					}
					if err := ended(t, done); err != nil {
						t.Fatal(err)
					}
					end := a.holding(t)
					app.stop()
					c.down(t, y)
					u.more(t, 50)
					app.start(t)
					end()
					a.mustUndrain(t)
				}
			}
			u.noneFailed(t)
		})
	}
}
