package outbound

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"sync"
	"time"
)

// MaxRedirects is how many redirects are followed.
const MaxRedirects = 5

// maxHeader is how many bytes of header an answer may have, interim ones
// included: a header is small, or it is an attack.
const maxHeader = 64 << 10

// Client gets what a URL names, and follows redirects by this package's rules.
// It keeps nothing from one answer to the next but idle connections.
type Client struct {
	proxy func(*http.Request) (*url.URL, error)
	// One transport for each floor: a connection that was made to a place that
	// was named must not serve a redirect that may not lead there.
	by map[Place]*http.Transport
}

// NewClient makes a Client. roots nil are the system's.
func NewClient(roots *x509.CertPool) *Client {
	c := &Client{proxy: http.ProxyFromEnvironment, by: map[Place]*http.Transport{}}
	for _, floor := range []Place{Here, Private, Internet} {
		c.by[floor] = &http.Transport{
			Proxy:                  func(r *http.Request) (*url.URL, error) { return c.proxy(r) },
			DialContext:            dialer(10*time.Second, floor).DialContext,
			TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    10 * time.Second,
			ResponseHeaderTimeout:  60 * time.Second,
			IdleConnTimeout:        10 * time.Second,
			MaxIdleConnsPerHost:    1,
			DisableCompression:     true, // the bytes as they are served, and no more of them than come
			ForceAttemptHTTP2:      true,
			MaxResponseHeaderBytes: maxHeader,
		}
	}
	return c
}

// CloseIdleConnections ends connections that nobody uses.
func (c *Client) CloseIdleConnections() {
	for _, t := range c.by {
		t.CloseIdleConnections()
	}
}

// Get asks for target, an http or https URL without name and password, and
// returns the first answer that is no redirect; its body is the caller's to
// close. prepare, which may be nil, fills in each request; first says that it
// goes to target itself, and only then may it carry what is secret.
//
// What is not done is a [*Refused]. No error shows a URL, which may hold
// secrets in its query.
func (c *Client) Get(ctx context.Context, target string, prepare func(req *http.Request, first bool) error) (*http.Response, error) {
	u, err := url.Parse(target)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, &Refused{"the URL is not one to fetch from", "Write https://host/path, or http://host/path."}
	}
	if u.User != nil {
		return nil, &Refused{"the URL holds a name or a password", "Give them as a header with credential(name)."}
	}
	floor := Here
	for hop := 0; ; hop++ {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
		if err != nil {
			return nil, &Refused{"the URL is not one to fetch from", "Write https://host/path, or http://host/path."}
		}
		if prepare != nil {
			if err := prepare(req, hop == 0); err != nil {
				return nil, err
			}
		}
		resp, reached, err := c.ask(req, floor)
		if err != nil {
			return nil, err
		}
		next := resp.Header.Get("Location")
		if resp.StatusCode/100 != 3 || next == "" {
			return resp, nil
		}
		resp.Body.Close()
		if u, err = follow(u, next, hop); err != nil {
			return nil, err
		}
		floor = max(floor, reached)
	}
}

// ask makes one request, and says what place it reached.
func (c *Client) ask(req *http.Request, floor Place) (*http.Response, Place, error) {
	via, err := c.proxy(req)
	if err != nil {
		return nil, 0, &Refused{"the proxy in this host's environment is no URL", "Mend HTTPS_PROXY or HTTP_PROXY."}
	}
	if err := check(req.URL.Hostname(), floor); err != nil {
		return nil, 0, err
	}
	if via != nil {
		resp, err := c.send(req, c.by[Here], nil)
		place, _ := written(req.URL.Hostname())
		return resp, place, err
	}
	var mu sync.Mutex
	reached := Nowhere
	resp, err := c.send(req, c.by[floor], func(info httptrace.GotConnInfo) {
		if ap, err := netip.ParseAddrPort(info.Conn.RemoteAddr().String()); err == nil {
			mu.Lock()
			reached = PlaceOf(ap.Addr())
			mu.Unlock()
		}
	})
	mu.Lock()
	defer mu.Unlock()
	return resp, reached, err
}

// send is RoundTrip: no client stands before it that would keep cookies, follow
// redirects or add a Referer.
func (c *Client) send(req *http.Request, t *http.Transport, got func(httptrace.GotConnInfo)) (*http.Response, error) {
	if got != nil {
		req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{GotConn: got}))
	}
	resp, err := t.RoundTrip(req)
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return resp, Explain(err)
}

// follow is where a redirect leads, if it may be followed.
func follow(from *url.URL, location string, hop int) (*url.URL, error) {
	to, err := from.Parse(location)
	switch {
	case err != nil:
		return nil, &Refused{"it redirects to something that is no URL", "Look at the server."}
	case hop >= MaxRedirects:
		return nil, &Refused{fmt.Sprintf("it redirects more than %d times", MaxRedirects), "Look at the server: it may redirect in a loop."}
	case to.Scheme != "https" && (to.Scheme != "http" || from.Scheme == "https"):
		return nil, &Refused{fmt.Sprintf("it redirects from %s to %.20q, which would give up what %s protects", from.Scheme, to.Scheme, from.Scheme), "Name the https URL itself."}
	case to.Host == "":
		return nil, &Refused{"it redirects to a URL without a host", "Look at the server."}
	case to.User != nil:
		return nil, &Refused{"it redirects to a URL with a name or a password, which is not followed", "Name that URL itself, and give them as a header with credential(name)."}
	}
	return to, nil
}
