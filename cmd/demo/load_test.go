package main

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestLoadCountsEveryRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Int64
		l := &Load{Rate: 200, Timeout: 12 * time.Second, Ask: func(ctx context.Context) (string, error) {
			switch i := n.Add(1); {
			case i%100 == 0:
				return "", errors.New("refused")
			case i == 50:
				return "1.0.0", pause(ctx, 3*time.Second) // the longest, and answered after Stop is called
			case i > 1000:
				return "1.1.0", pause(ctx, 20*time.Millisecond)
			}
			return "1.0.0", nil
		}}
		l.Start(t.Context())
		<-time.After(time.Second)
		if f := l.Figures(); f.Waiting == 0 || f.Sent != f.Failed+f.Waiting+f.Answered["1.0.0"] {
			t.Errorf("after a second: %+v does not add up", f)
		}
		<-time.After(9*time.Second + time.Millisecond)
		got := l.Stop()
		want := Figures{Sent: 2000, Failed: 20, Longest: 3 * time.Second, Answered: map[string]int{"1.0.0": 990, "1.1.0": 990}, Error: "refused"}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	})
}

// Stop waits for what is under way, and a request that never ends fails.
func TestLoadLeavesNoRequestOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &Load{Rate: 10, Timeout: 5 * time.Second, Ask: func(ctx context.Context) (string, error) {
			<-ctx.Done()
			return "", ctx.Err()
		}}
		l.Start(t.Context())
		<-time.After(time.Second + time.Millisecond)
		if s := l.Slots(); len(s) < 10 || s[1].Waiting != 1 || s[1].Longest < 800*time.Millisecond {
			t.Errorf("the picture does not show who waits: %+v", s)
		}
		if f := l.Stop(); f.Sent != 10 || f.Failed != 10 || f.Waiting != 0 || f.Longest != 5*time.Second {
			t.Errorf("%+v", f)
		}
	})
}

func TestLoadCountsNoRequestThatWasInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		l := &Load{Rate: 10, Timeout: 5 * time.Second, Ask: func(ctx context.Context) (string, error) {
			<-ctx.Done()
			return "", ctx.Err()
		}}
		l.Start(ctx)
		<-time.After(time.Second + time.Millisecond)
		cancel()
		if f := l.Stop(); f.Sent != 0 || f.Failed != 0 {
			t.Errorf("%+v", f)
		}
	})
}

func TestDue(t *testing.T) {
	for _, c := range []struct {
		elapsed              time.Duration
		sent, now, forgotten int
	}{
		{5 * time.Millisecond, 0, 1, 0},
		{5 * time.Millisecond, 1, 0, 0},
		{time.Second, 190, 10, 0},       // ticks were skipped: sent late
		{10 * time.Second, 0, 50, 1950}, // a long sleep: not all at once
	} {
		if now, forgiven := due(c.elapsed, 200, c.sent); now != c.now || forgiven != c.forgotten {
			t.Errorf("due(%v, 200, %d) = %d, %d, not %d, %d", c.elapsed, c.sent, now, forgiven, c.now, c.forgotten)
		}
	}
}

func TestAskWebFailsOnAnythingButAnAnswer(t *testing.T) {
	for _, c := range []struct {
		name   string
		status int
		body   string
		want   string // "" is an error
	}{
		{"an answer", 200, "web 1.1.0\n", "1.1.0"},
		{"nobody listens", 502, "connection refused", ""},
		{"no version", 200, "web", ""},
		{"nothing", 200, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(c.status)
				_, _ = w.Write([]byte(c.body))
			}))
			defer s.Close()
			got, err := askWeb(s.Client(), s.URL)(t.Context())
			if got != c.want || (err != nil) != (c.want == "") {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}
