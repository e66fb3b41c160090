package download

import (
	"bytes"
	"compress/gzip"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"drydock/spec"
)

// listen is a server below HTTP: then writes what comes after first.
func listen(t *testing.T, first string, then func(w io.Writer)) (addr string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				if _, err := c.Read(make([]byte, 1)); err != nil { // it speaks when it is spoken to
					return
				}
				go func() {
					if _, err := io.WriteString(c, first); err == nil {
						then(c)
					}
				}()
				_, _ = io.Copy(io.Discard, c) // until the other side has gone
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.Addr().String()
}

func forever(text string) func(io.Writer) {
	many := strings.Repeat(text, 1+(32<<10)/len(text))
	return func(w io.Writer) {
		for {
			if _, err := io.WriteString(w, many); err != nil {
				return
			}
		}
	}
}

func slowly(text string) func(io.Writer) {
	return func(w io.Writer) {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			if _, err := io.WriteString(w, text); err != nil {
				return
			}
			<-tick.C
		}
	}
}

// What a server does to keep a host waiting, or to fill it, ends soon, and the
// mirror has the artifact.
func TestServersThatHoldBack(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	for name, c := range map[string]struct {
		scheme, first string
		then          func(io.Writer)
		want          string
	}{
		"headers without end":    {"http", ok, forever("X-More: of this\r\n"), "headers exceeded"},
		"one header without end": {"http", ok + "X: ", forever("x"), "headers exceeded"},
		"headers, slowly":        {"http", ok, slowly("X: y\r\n"), "nothing arrived"},
		"interim answers":        {"http", "", forever("HTTP/1.1 100 Continue\r\n\r\n"), "headers exceeded"},
		"early hints":            {"http", "", forever("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"), "headers exceeded"},
		"a body, slowly":         {"http", ok + "\r\n", slowly("x"), "less than 1024 bytes a second"},
		"chunks, slowly":         {"http", ok + "Transfer-Encoding: chunked\r\n\r\n", slowly("1\r\nx\r\n"), "less than 1024 bytes a second"},
		"a length that is more":  {"http", ok + "Content-Length: 150001\r\n\r\n" + string(body), func(io.Writer) {}, "nothing arrived"},
		"a length that is less":  {"http", ok + "Content-Length: 100\r\n\r\n" + string(body[:100]), func(io.Writer) {}, "digest is"},
		"two lengths":            {"http", ok + "Content-Length: 100\r\nContent-Length: 200\r\n\r\n", func(io.Writer) {}, "Content-Length"},
		"trailers without end":   {"http", ok + "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n", forever("X: y\r\n"), "trailer"},
		"no handshake":           {"https", "", func(io.Writer) {}, "nothing arrived"},
		"half a handshake":       {"https", "\x16\x03\x03\x40\x00\x02", slowly("x"), "nothing arrived"},
		"no HTTP":                {"http", "220 ready\r\n", func(io.Writer) {}, "malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, content)
			const patience = 2 * time.Second // enough for an honest server on a busy machine
			r.options.Stall, r.options.Timeout = patience, time.Minute
			if strings.HasPrefix(c.want, "nothing arrived") || strings.HasPrefix(c.want, "less than") {
				r.options.Stall = 200 * time.Millisecond
			}
			source := c.scheme + "://" + listen(t, c.first, c.then)
			r.fault(r.get(spec.Artifact{Source: source}), c.want)
			r.options.Stall = patience
			r.whole(r.get(spec.Artifact{Source: source, Mirrors: []string{r.server.URL}}))
		})
	}
}

// A body that says it is packed is taken as it is: nobody asked for that, and a
// kilobyte may be a gigabyte.
func TestABodyThatSaysItIsPacked(t *testing.T) {
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	zeros := make([]byte, 1<<20)
	for range 64 {
		_, _ = z.Write(zeros)
	}
	z.Close()
	r := newRig(t, func(w http.ResponseWriter, q *http.Request) {
		if got := q.Header.Get("Accept-Encoding"); got != "identity" {
			t.Errorf("asked for %q", got)
		}
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(bomb.Bytes())
	})
	r.options.MaxBytes = 1 << 20
	r.fault(r.get(spec.Artifact{}), "digest is "+digestOf(bomb.Bytes()))
}

func TestRedirectsOfASource(t *testing.T) {
	for name, c := range map[string]struct{ to, want string }{
		"link-local": {"http://169.254.169.254/latest/meta-data/", "redirects from https"},
		"metadata":   {"https://[fd00:ec2::254]/", "metadata"},
		"password":   {"https://a:b@127.0.0.1/", "a name or a password"},
		"oci":        {"oci://r.acme.example/web", "redirects from https"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, func(w http.ResponseWriter, q *http.Request) {
				w.Header().Set("Location", c.to)
				w.WriteHeader(http.StatusFound)
			})
			r.fault(r.get(spec.Artifact{}), c.want)
		})
	}
	r := newRig(t, content)
	r.fault(r.get(spec.Artifact{Source: "http://169.254.169.254/"}), "link-local")
	r.fault(r.get(spec.Artifact{Source: strings.Replace(r.server.URL, "://", "://a:b@", 1)}), "a name or a password")
	if len(r.seen) != 0 {
		t.Error("a URL with a password was asked")
	}
}

// Cookies that a server sets are not given back to anybody.
func TestNoCookies(t *testing.T) {
	var second *httptest.Server
	r := newRig(t, func(w http.ResponseWriter, q *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "a", Value: "b"})
		http.Redirect(w, q, second.URL+"/x", http.StatusFound)
	})
	second = r.serve(content)
	r.whole(r.get(spec.Artifact{}))
	for _, q := range r.seen {
		if q.Header.Get("Cookie") != "" || q.Header.Get("Referer") != "" {
			t.Errorf("sent %v", q.Header)
		}
	}
}
