package download

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"drydock/reconcile"
	"drydock/spec"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var body = bytes.Repeat([]byte("all that a release is made of\n"), 5000)

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// rig is a fetcher and a real HTTPS server.
type rig struct {
	t       *testing.T
	server  *httptest.Server
	roots   *x509.CertPool
	options Options
	dest    string

	mu   sync.Mutex
	seen []*http.Request
}

func newRig(t *testing.T, h http.HandlerFunc) *rig {
	t.Helper()
	r := &rig{t: t, dest: filepath.Join(t.TempDir(), "cache", "artifact"), roots: x509.NewCertPool()}
	r.server = r.serve(h)
	r.options = Options{Roots: r.roots, Stall: 20 * time.Second}
	return r
}

func (r *rig) serve(h http.HandlerFunc) *httptest.Server {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		r.mu.Lock()
		r.seen = append(r.seen, q.Clone(context.Background()))
		r.mu.Unlock()
		h(w, q)
	}))
	r.t.Cleanup(s.Close)
	r.roots.AddCert(s.Certificate())
	return s
}

func (r *rig) get(a spec.Artifact) error {
	r.t.Helper()
	f := New(r.options)
	defer f.Close()
	if a.Source == "" {
		a.Source = r.server.URL + "/web.tar"
	}
	return f.Get(r.t.Context(), a, digestOf(body), r.dest)
}

// whole fails unless the artifact is there.
func (r *rig) whole(err error) {
	r.t.Helper()
	data, readErr := os.ReadFile(r.dest)
	if err != nil || readErr != nil || !bytes.Equal(data, body) {
		r.t.Errorf("got %d bytes, %v, %v", len(data), err, readErr)
	}
	if _, err := os.Stat(r.dest + ".part"); err == nil {
		r.t.Error("the partial file is still there")
	}
}

// fault fails unless err is the host's, says part, and nothing is at dest.
func (r *rig) fault(err error, part string) {
	r.t.Helper()
	var f *reconcile.Fault
	if !errors.As(err, &f) || f.Blame != reconcile.OfHost || f.Hint == "" || !strings.Contains(err.Error(), part) {
		r.t.Errorf("got %v; expected a host fault with a hint and %q", err, part)
	}
	if _, err := os.Stat(r.dest); err == nil {
		r.t.Error("there is a file at the destination")
	}
}

func content(w http.ResponseWriter, q *http.Request) {
	w.Header().Set("ETag", `"v1"`)
	http.ServeContent(w, q, "", time.Time{}, bytes.NewReader(body))
}

func TestGet(t *testing.T) {
	r := newRig(t, content)
	r.whole(r.get(spec.Artifact{}))
	r.whole(r.get(spec.Artifact{}))
	if len(r.seen) != 1 {
		t.Errorf("asked %d times for what is there", len(r.seen))
	}
}

func TestHTTPAndFile(t *testing.T) {
	r := newRig(t, content)
	plain := httptest.NewServer(http.HandlerFunc(content))
	defer plain.Close()
	r.whole(r.get(spec.Artifact{Source: plain.URL}))

	file := filepath.Join(t.TempDir(), "web.tar")
	if err := os.WriteFile(file, body, 0o600); err != nil {
		t.Fatal(err)
	}
	os.Remove(r.dest)
	r.whole(r.get(spec.Artifact{Source: "file://" + file}))
	os.Remove(r.dest)
	r.options.Private = filepath.Dir(file)
	r.fault(r.get(spec.Artifact{Source: "file://" + file}), "state directory")
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	r.fault(r.get(spec.Artifact{Source: "file://" + link}), "state directory")
	r.fault(r.get(spec.Artifact{Source: "file://" + t.TempDir()}), "regular file")
	r.fault(r.get(spec.Artifact{Source: "file:relative"}), "absolute path")
	r.fault(r.get(spec.Artifact{Source: "ftp://x/y"}), "no scheme")
}

func TestBadServers(t *testing.T) {
	for _, c := range []struct {
		name, want string
		set        func(o *Options)
		h          http.HandlerFunc
	}{
		{"truncated", "ended early", nil, func(w http.ResponseWriter, q *http.Request) {
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
			w.Write(body[:1000])
		}},
		{"truncated without a length", "digest is", nil, func(w http.ResponseWriter, q *http.Request) { w.Write(body[:1000]); w.(http.Flusher).Flush() }},
		{"too long", "the limit of 200000", func(o *Options) { o.MaxBytes = 200_000 }, func(w http.ResponseWriter, q *http.Request) {
			w.Header().Set("Content-Length", "200001")
		}},
		{"endless", "longer than the limit", func(o *Options) { o.MaxBytes = 200_000 }, func(w http.ResponseWriter, q *http.Request) {
			for q.Context().Err() == nil {
				if _, err := w.Write(body); err != nil {
					return
				}
			}
		}},
		{"silent", "nothing arrived for", func(o *Options) { o.Stall = 50 * time.Millisecond }, func(w http.ResponseWriter, q *http.Request) {
			w.Write(body[:1000])
			w.(http.Flusher).Flush()
			<-q.Context().Done()
		}},
		{"silent before the header", "nothing arrived for", func(o *Options) { o.Stall = 50 * time.Millisecond }, func(w http.ResponseWriter, q *http.Request) {
			<-q.Context().Done()
		}},
		{"slow", "not there within", func(o *Options) { o.Timeout = 200 * time.Millisecond }, func(w http.ResponseWriter, q *http.Request) {
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for i := 0; q.Context().Err() == nil; i++ {
				w.Write([]byte("x"))
				w.(http.Flusher).Flush()
				<-tick.C
			}
		}},
		{"wrong digest", "the release says", nil, func(w http.ResponseWriter, q *http.Request) { w.Write([]byte("something else")) }},
		{"page", "looks like an HTML page", nil, func(w http.ResponseWriter, q *http.Request) {
			w.Write([]byte("\n<!DOCTYPE html><title>Sign in</title>"))
		}},
		{"empty", "the release says", nil, func(w http.ResponseWriter, q *http.Request) {}},
		{"missing", "404", nil, http.NotFound},
		{"forbidden", "credential", nil, func(w http.ResponseWriter, q *http.Request) { w.WriteHeader(403) }},
		{"broken", "503", nil, func(w http.ResponseWriter, q *http.Request) { w.WriteHeader(503) }},
		{"loop", "more than 5 times", nil, func(w http.ResponseWriter, q *http.Request) { http.Redirect(w, q, "/again", http.StatusFound) }},
		{"downgrade", `redirects from https to "http"`, nil, func(w http.ResponseWriter, q *http.Request) {
			http.Redirect(w, q, "http://"+q.Host+"/web.tar", http.StatusMovedPermanently)
		}},
		{"to a file", "redirects from https", nil, func(w http.ResponseWriter, q *http.Request) {
			w.Header().Set("Location", "file://localhost/etc/passwd")
			w.WriteHeader(302)
		}},
		{"no room", "bytes free", func(o *Options) { o.Free = func(string) (uint64, bool) { return 100, true } }, content},
		{"hung up", "EOF", nil, func(w http.ResponseWriter, q *http.Request) { panic(http.ErrAbortHandler) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, c.h)
			if c.set != nil {
				c.set(&r.options)
			}
			r.fault(r.get(spec.Artifact{}), c.want)
		})
	}
}

func TestNotTrusted(t *testing.T) {
	r := newRig(t, content)
	r.options.Roots = x509.NewCertPool()
	r.fault(r.get(spec.Artifact{}), "certificate")
}

func TestMirrorsInOrder(t *testing.T) {
	r := newRig(t, http.NotFound)
	second, third := r.serve(func(w http.ResponseWriter, q *http.Request) { w.Write([]byte("no")) }), r.serve(content)
	a := spec.Artifact{Mirrors: []string{second.URL, third.URL}, Headers: map[string]spec.Text{"Authorization": {Value: "secret"}}}
	r.whole(r.get(a))
	if len(r.seen) != 3 {
		t.Fatalf("%d requests", len(r.seen))
	}
	for i, q := range r.seen {
		if got := q.Header.Get("Authorization"); (got != "") != (i == 0) {
			t.Errorf("request %d has Authorization %q", i, got)
		}
	}
}

// The artifact's headers go to the source only, not even to another path of the
// same host.
func TestHeadersFollowNoRedirect(t *testing.T) {
	var other *httptest.Server
	r := newRig(t, func(w http.ResponseWriter, q *http.Request) {
		switch q.URL.Path {
		case "/web.tar":
			http.Redirect(w, q, "/same", http.StatusFound)
		case "/same":
			http.Redirect(w, q, other.URL+"/x", http.StatusTemporaryRedirect)
		}
	})
	other = r.serve(content)
	r.options.Credential = func(name string) (string, error) { return name + "-content\n", nil }
	r.whole(r.get(spec.Artifact{Headers: map[string]spec.Text{"X-Token": {Credential: "artifact-auth"}}}))
	if len(r.seen) != 3 || r.seen[0].Header.Get("X-Token") != "artifact-auth-content" {
		t.Fatalf("%d requests, the first with %v", len(r.seen), r.seen[0].Header)
	}
	for _, q := range r.seen[1:] {
		for _, h := range []string{"X-Token", "Authorization", "Referer", "Cookie"} {
			if got := q.Header.Get(h); got != "" {
				t.Errorf("%s was sent %s %q", q.URL.Path, h, got)
			}
		}
	}
}

// What one try received is not received again.
func TestResume(t *testing.T) {
	first := true
	r := newRig(t, func(w http.ResponseWriter, q *http.Request) {
		if first {
			first = false
			w.Header().Set("ETag", `"v1"`)
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
			w.Write(body[:40_000])
			return
		}
		content(w, q)
	})
	r.fault(r.get(spec.Artifact{}), "ended early, after 40000 bytes")
	r.whole(r.get(spec.Artifact{}))
	last := r.seen[len(r.seen)-1].Header
	if last.Get("Range") != "bytes=40000-" || last.Get("If-Range") != `"v1"` {
		t.Errorf("it asked with %v", last)
	}
}

// A server that lies about a range, or a part that is not of this artifact,
// costs one more request, not the release.
func TestResumeFromScratch(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"ignores the range": func(w http.ResponseWriter, q *http.Request) { w.Write(body) },
		"another range": func(w http.ResponseWriter, q *http.Request) {
			if q.Header.Get("Range") != "" {
				w.Header().Set("Content-Range", fmt.Sprintf("bytes 7-%d/%d", len(body)-1, len(body)))
				w.WriteHeader(206)
				w.Write(body[7:])
				return
			}
			w.Write(body)
		},
		"other bytes": func(w http.ResponseWriter, q *http.Request) {
			if q.Header.Get("Range") != "" {
				w.Header().Set("Content-Range", fmt.Sprintf("bytes 500-%d/%d", len(body)-1, len(body)))
				w.WriteHeader(206)
				w.Write(bytes.Repeat([]byte("?"), len(body)-500))
				return
			}
			w.Write(body)
		},
		"cannot satisfy": func(w http.ResponseWriter, q *http.Request) {
			if q.Header.Get("Range") != "" {
				w.WriteHeader(416)
				return
			}
			w.Write(body)
		},
		"honest, but the part is rotten": content,
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, h)
			if err := os.MkdirAll(filepath.Dir(r.dest), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(r.dest+".part", bytes.Repeat([]byte("!"), 500), 0o600); err != nil {
				t.Fatal(err)
			}
			r.whole(r.get(spec.Artifact{}))
		})
	}
}

func TestErrorsKeepSecrets(t *testing.T) {
	r := newRig(t, http.NotFound)
	source := strings.Replace(r.server.URL, "https://", "https://user:hunter2@", 1) + "/web?token=hunter2&X-Sig=hunter2&hunter2#hunter2"
	closed := httptest.NewServer(http.HandlerFunc(http.NotFound))
	closed.Close()
	dead := strings.Replace(closed.URL, "http://", "http://user:hunter2@", 1) + "/web?token=hunter2"
	away := r.serve(func(w http.ResponseWriter, q *http.Request) {
		http.Redirect(w, q, "http://u:hunter2@"+q.Host+"/?k=hunter2", http.StatusFound)
	})
	err := r.get(spec.Artifact{Source: source, Mirrors: []string{dead, away.URL, "https://x/%zzhunter2"}})
	r.fault(err, "token=redacted")
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("it shows a secret: %v", err)
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r := newRig(t, func(w http.ResponseWriter, q *http.Request) {
		w.Write(body[:10])
		w.(http.Flusher).Flush()
		cancel()
		<-q.Context().Done()
	})
	f := New(r.options)
	defer f.Close()
	err := f.Get(ctx, spec.Artifact{Source: r.server.URL, Mirrors: []string{r.server.URL}}, digestOf(body), r.dest)
	if !errors.Is(err, context.Canceled) || len(r.seen) != 1 {
		t.Errorf("got %v after %d requests", err, len(r.seen))
	}
}

func TestDigestForm(t *testing.T) {
	r := newRig(t, content)
	f := New(r.options)
	defer f.Close()
	r.fault(f.Get(t.Context(), spec.Artifact{Source: r.server.URL}, "git:abc", r.dest), "not sha256")
}
