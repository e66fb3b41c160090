package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// backend answers every request, or fails every one, and counts.
type backend struct {
	err   error
	asked atomic.Int64
}

func (b *backend) RoundTrip(r *http.Request) (*http.Response, error) {
	b.asked.Add(1)
	if b.err != nil {
		return nil, b.err
	}
	return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader("web 1.0.0")), Request: r}, nil
}

type front struct {
	*Proxy
	handler http.Handler
	backend *backend
}

func newFront(t *testing.T, inRotation bool, maxHeld int) *front {
	t.Helper()
	f := &front{backend: &backend{}}
	f.Proxy = &Proxy{
		File: filepath.Join(t.TempDir(), "web"), Backend: "127.0.0.1:1", Hold: 10 * time.Second,
		MaxHeld: maxHeld, Every: 10 * time.Millisecond, Trip: f.backend,
	}
	if inRotation {
		f.undrain(t)
	}
	f.handler = f.Handler(t.Context())
	return f
}

func (f *front) undrain(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(f.File, nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

// get asks, beside the test, and returns where the answer will be.
func (f *front) get(t *testing.T) <-chan *httptest.ResponseRecorder {
	answer := make(chan *httptest.ResponseRecorder, 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	r := httptest.NewRequestWithContext(ctx, "GET", "http://front/", nil)
	go func() {
		defer cancel()
		w := httptest.NewRecorder()
		f.handler.ServeHTTP(w, r)
		answer <- w
	}()
	return answer
}

// A request that comes while the backend is out of rotation is answered by it
// once it is back, and not before.
func TestProxyFollowsTheDrainFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFront(t, true, 10)
		if w := <-f.get(t); w.Code != 200 || w.Body.String() != "web 1.0.0" {
			t.Fatalf("in rotation: %d %s", w.Code, w.Body)
		}
		if err := os.Remove(f.File); err != nil {
			t.Fatal(err)
		}
		<-time.After(2 * f.Every)
		held := f.get(t)
		<-time.After(3 * time.Second)
		synctest.Wait()
		select {
		case w := <-held:
			t.Fatalf("out of rotation, and answered: %d %s", w.Code, w.Body)
		default:
		}
		if n := f.Held(); n != 1 {
			t.Errorf("%d requests are held, not 1", n)
		}
		if n := f.backend.asked.Load(); n != 1 {
			t.Errorf("the backend was asked %d times; the held request must not reach it", n)
		}
		f.undrain(t)
		if w := <-held; w.Code != 200 {
			t.Errorf("back in rotation: %d %s", w.Code, w.Body)
		}
		if n := f.Held(); n != 0 {
			t.Errorf("%d requests are held, not 0", n)
		}
	})
}

func TestProxyHoldsNoLongerThanItSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFront(t, false, 10)
		began := time.Now()
		select {
		case w := <-f.get(t):
			if w.Code != http.StatusServiceUnavailable || time.Since(began) != f.Hold {
				t.Errorf("%d after %v, not 503 after %v", w.Code, time.Since(began), f.Hold)
			}
		case <-time.After(2 * f.Hold):
			t.Fatal("held for ever")
		}
	})
}

func TestProxyHoldsNoMoreThanItSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFront(t, false, 2)
		first, second := f.get(t), f.get(t)
		synctest.Wait()
		began := time.Now()
		if w := <-f.get(t); w.Code != http.StatusServiceUnavailable || time.Since(began) != 0 {
			t.Errorf("one too many: %d after %v, not 503 at once", w.Code, time.Since(began))
		}
		f.undrain(t)
		for _, held := range []<-chan *httptest.ResponseRecorder{first, second} {
			if w := <-held; w.Code != 200 {
				t.Errorf("held: %d %s", w.Code, w.Body)
			}
		}
	})
}

// Without a drain a request that nobody takes has to fail, or the demo's
// figure would be the proxy's.
func TestProxyTriesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFront(t, true, 10)
		f.backend.err = errors.New("connection refused")
		if w := <-f.get(t); w.Code != http.StatusBadGateway {
			t.Errorf("%d, not 502", w.Code)
		}
		if n := f.backend.asked.Load(); n != 1 {
			t.Errorf("tried %d times", n)
		}
	})
}
