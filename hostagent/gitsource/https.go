package gitsource

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"drydock/hostagent/outbound"

	"github.com/go-git/go-git/v5/plumbing"
)

const serviceName = "git-upload-pack"

// httpClient trusts the system's roots and the CA file, and follows a redirect
// only within a host, of the listing only, and without credentials.
func httpClient(o Options) (*http.Client, error) {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DialContext = outbound.Dialer(30 * time.Second).DialContext
	t.MaxResponseHeaderBytes = 64 << 10 // a header is small, or it is an attack
	t.MaxIdleConnsPerHost = 1
	t.IdleConnTimeout = 90 * time.Second
	t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CA != "" {
		pem, err := readSmall(o.CA, 4<<20)
		if err != nil {
			return nil, fmt.Errorf("source: ca: %w", err)
		}
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("source: ca: %s holds no PEM certificate", o.CA)
		}
		t.TLSClientConfig.RootCAs = pool
	}
	return &http.Client{Transport: t, CheckRedirect: sameOrigin}, nil
}

func sameOrigin(req *http.Request, via []*http.Request) error {
	from := via[0]
	req.Header.Del("Authorization")
	switch {
	case req.URL.User != nil:
		return fail(ErrDenied, "%s redirects to a URL with a name or a password, which is not followed", from.URL.Host)
	case req.URL.Scheme != from.URL.Scheme || req.URL.Host != from.URL.Host:
		return fail(ErrDenied, "%s redirects to another place, %s://%s, which is not followed. Write the new address into the URL if it is right", from.URL.Host, req.URL.Scheme, req.URL.Host)
	case from.Method != http.MethodGet: // git itself follows redirects of the first request only
		return fail(ErrDenied, "%s redirects a fetch, which is not followed", from.URL.Host)
	case len(via) > outbound.MaxRedirects:
		return fail(ErrDenied, "%s redirects in a loop", from.URL.Host)
	}
	return nil
}

// httpRemote speaks git's smart HTTP.
type httpRemote struct {
	client  *http.Client
	base    *url.URL
	token   func() (string, error)
	timeout time.Duration
}

type httpSession struct {
	*httpRemote
	ctx    context.Context
	base   *url.URL // after redirects
	auth   func(*http.Request)
	adv    advertised
	bodies []io.Closer
}

func (r *httpRemote) dial(ctx context.Context) (session, error) {
	s := &httpSession{httpRemote: r, ctx: ctx, auth: func(*http.Request) {}}
	base := *r.base
	user, password, given := "", "", false
	if base.User != nil {
		user = base.User.Username()
		password, given = base.User.Password()
		base.User = nil
	}
	s.base = &base
	if r.token != nil {
		token, err := r.token()
		if err != nil {
			return nil, fail(ErrDenied, "the token: %w", err)
		}
		if token = strings.TrimSpace(token); token != "" {
			password, given = token, true
			if u, p, ok := strings.Cut(token, ":"); ok {
				user, password = u, p
			}
		}
	}
	if given || user != "" {
		user = cmp.Or(user, "git")
		s.auth = func(req *http.Request) { req.SetBasicAuth(user, password) }
	}
	if !given {
		password = ""
	}
	return &challenged{s, password}, nil
}

// challenged tries once more with a bearer token where the server asks for
// that and not for basic.
type challenged struct {
	*httpSession
	token string
}

func (c *challenged) list(ref string) (advertised, error) {
	a, err := c.httpSession.list(ref)
	var status *statusError
	if c.token == "" || !errors.As(err, &status) || !status.bearer {
		return a, err
	}
	c.auth = func(req *http.Request) { req.Header.Set("Authorization", "Bearer "+c.token) }
	return c.httpSession.list(ref)
}

func (s *httpSession) list(ref string) (a advertised, err error) {
	at := s.base.JoinPath("info", "refs")
	at.RawQuery = "service=" + serviceName
	res, err := s.do(http.MethodGet, at, nil, "application/x-"+serviceName+"-advertisement")
	if err != nil {
		return a, err
	}
	defer res.Body.Close()
	if to := res.Request.URL; to.String() != at.String() {
		s.auth = func(*http.Request) {} // the pack is asked for where the redirect led
		if p, ok := strings.CutSuffix(to.Path, "/info/refs"); ok {
			moved := *to
			moved.Path, moved.RawPath, moved.RawQuery = p, "", ""
			s.base = &moved
		}
	}
	line, flush, err := packet(res.Body, make([]byte, maxPacket))
	if err != nil {
		return a, err
	}
	if flush || strings.TrimSpace(string(line)) != "# service="+serviceName {
		return a, errors.New("the server does not speak git's smart HTTP")
	}
	if _, flush, err = packet(res.Body, make([]byte, maxPacket)); err != nil || !flush {
		return a, errors.New("the server does not speak git's smart HTTP")
	}
	s.adv, err = readAdvertised(res.Body, ref)
	return s.adv, err
}

func (s *httpSession) pack(wants, haves []plumbing.Hash, _ *objects) (io.Reader, error) {
	res, err := s.do(http.MethodPost, s.base.JoinPath(serviceName), request(s.adv.caps, wants, haves), "application/x-"+serviceName+"-result")
	if err != nil {
		return nil, err
	}
	s.bodies = append(s.bodies, res.Body)
	return readPack(res.Body, s.adv.caps)
}

func (s *httpSession) do(method string, at *url.URL, body []byte, wanted string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(s.ctx, method, at.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/x-"+serviceName+"-request")
	}
	req.Header.Set("User-Agent", "git/drydock") // some servers tell git from browsers by it
	s.auth(req)
	res, err := s.client.Do(req)
	if err != nil {
		return nil, plain(err)
	}
	if err := checkResponse(res, wanted); err != nil {
		res.Body.Close()
		if to := res.Request.URL; to.String() != at.String() && errors.Is(err, ErrDenied) {
			return nil, fail(ErrDenied, "it redirects to %s, and a token follows no redirect: %w. Write that address into the URL if it is right", to.Redacted(), err)
		}
		return nil, err
	}
	return res, nil
}

// plain takes the URL out of net/http's errors; ours name the mirror already.
func plain(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if refused := outbound.Explain(err); refused != err {
		return fail(ErrDenied, "%w", refused)
	}
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	if errors.As(err, &unknown) || errors.As(err, &name) || errors.As(err, &invalid) {
		return fail(ErrDenied, "the server's certificate is not trusted: %w. Name its authority's file as source.ca if it is right", err)
	}
	return err
}

// statusError is a response other than 200.
type statusError struct {
	status string
	bearer bool // the server wants a bearer token, and no basic
}

func (e *statusError) Error() string { return "HTTP status " + e.status }

func checkResponse(res *http.Response, wanted string) error {
	why := &statusError{status: res.Status}
	for _, c := range res.Header.Values("WWW-Authenticate") {
		scheme, _, _ := strings.Cut(strings.ToLower(c), " ")
		why.bearer = why.bearer || scheme == "bearer"
	}
	for _, c := range res.Header.Values("WWW-Authenticate") {
		if strings.HasPrefix(strings.ToLower(c), "basic") {
			why.bearer = false
		}
	}
	switch code := res.StatusCode; {
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		return fail(ErrDenied, "%w: the server does not accept the token, or it may not read this repository", why)
	case code == http.StatusNotFound:
		return fail(ErrDenied, "%w: no such repository, or none that this token may see. Check the URL", why)
	case code != http.StatusOK:
		return why
	}
	if got := res.Header.Get("Content-Type"); got != wanted {
		return fmt.Errorf("the server answers with %.60q where git's smart HTTP has %q: that is not a git repository's URL, or a page of a proxy", got, wanted)
	}
	return nil
}

func (s *httpSession) close() {
	for _, b := range s.bodies {
		b.Close()
	}
}
