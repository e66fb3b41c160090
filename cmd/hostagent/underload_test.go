package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"drydock/reconcile"
)

// TestTenBumpsUnderLoad is what the whole is for: three services on real hosts,
// behind HAProxy and nginx, with a database that is migrated, are bumped ten
// times each, zone after zone, one of the releases broken, while users ask two
// hundred times a second and more. Not one of them may notice.
func TestTenBumpsUnderLoad(t *testing.T) {
	t.Parallel()
	y := newYard(t, "north", "south")
	want := map[string]bumped{}
	for _, s := range services {
		want[s] = y.make(s, "1.0.0")
	}
	for _, z := range y.zones {
		y.declare(z, want)
	}
	y.start()
	for _, z := range y.zones {
		y.await(z, "the first release", runs(want))
	}

	users := y.users()
	for n := 1; n <= 10; n++ {
		if n == 5 {
			y.broken(want)
		}
		next := map[string]bumped{}
		for _, s := range services {
			next[s] = y.make(s, fmt.Sprintf("1.0.%d", n))
		}
		want = next
		for _, z := range y.zones {
			y.declare(z, want)
			y.await(z, fmt.Sprintf("round %d", n), runs(want))
		}
	}
	users.leave()
	t.Log(users)
	for _, f := range users.failures {
		t.Error(f)
	}
	if users.rate() < 200 {
		t.Errorf("only %.0f requests a second: the hosts were not under load", users.rate())
	}
	for _, s := range services {
		if !users.saw(s, "1.0.0") || !users.saw(s, "1.0.10") {
			t.Errorf("of %s users saw only %v", s, users.versions[s])
		}
		if users.saw(s, "1.0.5-bad") {
			t.Errorf("users saw the broken %s", s)
		}
	}
}

// broken bumps web to a release that answers every request with 503. The host
// goes back to what ran, and the release goes no further.
func (y *yard) broken(want map[string]bumped) {
	z := y.zones[0]
	y.declare(z, map[string]bumped{"web": y.make("web", "1.0.5-bad")})
	st := y.await(z, "the revert", func(st reconcile.HostStatus) bool {
		return slices.ContainsFunc(st.Services, func(s reconcile.ServiceStatus) bool { return s.Name == "web" && s.State == reconcile.Reverted })
	})
	for _, s := range st.Services {
		if s.Name == "web" && (s.Running.Version != want["web"].version || !strings.Contains(s.Reason, "503")) {
			y.t.Errorf("after the revert %+v", s)
		}
	}
}

// users are the load: each asks at a steady pace, whatever the answers.
type users struct {
	stop     context.CancelFunc
	group    sync.WaitGroup
	began    time.Time
	took     time.Duration
	asked    atomic.Int64
	mu       sync.Mutex
	failures []string
	versions map[string][]string // as they were first seen
}

// perService is how many ask each service at first, pace how often each of
// them, and mostCrowds how many times as many there may come to be.
const (
	perService = 8
	pace       = 60 * time.Millisecond
	mostCrowds = 8
)

func (y *yard) users() *users {
	ctx, stop := context.WithCancel(context.Background())
	u := &users{stop: stop, began: time.Now(), versions: map[string][]string{}}
	y.t.Cleanup(u.leave)
	more := func() {
		for service, url := range map[string]string{
			"web": y.haproxy.URL("web"), "orders": y.haproxy.URL("orders"), "site": "http://" + y.nginx.Addr(),
		} {
			for i := range perService {
				client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: i%2 == 0}}
				u.group.Go(func() { u.ask(ctx, client, service, url) })
			}
		}
	}
	more()
	u.group.Go(func() { u.crowd(ctx, more) })
	return u
}

// crowd lets more users come where so many wait for answers that too few are
// asked for: on a machine that has much else to do.
func (u *users) crowd(ctx context.Context, more func()) {
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for crowds, last := 1, int64(0); crowds < mostCrowds; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := u.asked.Load()
		if now-last < 2*250 {
			more()
			crowds++
		}
		last = now
	}
}

func (u *users) ask(ctx context.Context, client *http.Client, service, url string) {
	defer client.CloseIdleConnections()
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		u.asked.Add(1)
		version, err := get(client, url)
		u.mu.Lock()
		if err != nil {
			u.failures = append(u.failures, fmt.Sprintf("%s, %v after the first bump: %v", service, time.Since(u.began).Round(time.Millisecond), err))
		} else if !slices.Contains(u.versions[service], version) {
			u.versions[service] = append(u.versions[service], version)
		}
		u.mu.Unlock()
	}
}

func get(client *http.Client, url string) (string, error) {
	resp, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(body)))
	}
	return strings.TrimSpace(string(body)), err
}

func (u *users) leave() {
	u.stop()
	u.group.Wait()
	if u.took == 0 {
		u.took = time.Since(u.began)
	}
}

func (u *users) rate() float64 { return float64(u.asked.Load()) / u.took.Seconds() }

func (u *users) saw(service, version string) bool {
	return slices.Contains(u.versions[service], version)
}

func (u *users) String() string {
	return fmt.Sprintf("%d requests in %v, %.0f a second, %d failed", u.asked.Load(), u.took.Round(time.Second), u.rate(), len(u.failures))
}
