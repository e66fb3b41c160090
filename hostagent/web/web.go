// Package web is drain "http" and check "http": what is asked and told over
// HTTP.
//
// Every request has a connection of its own, goes through no proxy and follows
// no redirect: an answer must come from the process that was asked, and from
// now. A redirect is judged as the status that it is.
package web

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"drydock/hostagent/outbound"
)

// maxBody is how much of an answer is read.
const maxBody = 1 << 20

// ask makes one request and returns status and body, cut at maxBody.
func ask(ctx context.Context, method, target string) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, method, target, nil)
	if err != nil {
		return 0, "", fmt.Errorf("%s: %w", target, err)
	}
	req.Header.Set("User-Agent", "drydock-hostagent")
	req.Close = true
	transport := &http.Transport{
		DisableKeepAlives:      true,
		DisableCompression:     true, // a body of a few bytes that unpacks to gigabytes
		MaxResponseHeaderBytes: 64 << 10,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		DialContext:            outbound.Dialer(0).DialContext,
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = outbound.Explain(ue.Err)
		}
		return 0, "", fmt.Errorf("%s %s: %w", method, target, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return 0, "", fmt.Errorf("%s %s: the answer broke off: %w", method, target, err)
	}
	return resp.StatusCode, string(body), nil
}

// nobody reports whether err says that nothing listens there, and there is
// this very machine: then nothing is in flight either.
func nobody(err error, target string) bool {
	u, parseErr := url.Parse(target)
	if parseErr != nil || !errors.Is(err, syscall.ECONNREFUSED) {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || (ip != nil && ip.IsLoopback())
}

// word reports whether body holds text as a whole word: not as part of a
// longer one made of what versions are made of. A full stop that ends a
// sentence does not make it longer.
func word(body, text string) bool {
	if text == "" {
		return true
	}
	for from := 0; ; {
		i := strings.Index(body[from:], text)
		if i < 0 {
			return false
		}
		start := from + i
		before, after := body[:start], body[start+len(text):]
		if !joins(before, len(before)-1) && !continues(after) {
			return true
		}
		from = start + 1
	}
}

// continues reports whether after goes on with the word it follows.
func continues(after string) bool {
	if strings.HasPrefix(after, ".") {
		return joins(after, 1)
	}
	return joins(after, 0)
}

// joins reports whether s has a character at i that belongs to a version.
func joins(s string, i int) bool {
	if i < 0 || i >= len(s) {
		return false
	}
	c := s[i]
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' ||
		c >= 0x80 || strings.IndexByte(".+~_-", c) >= 0
}

// sleep waits, and reports whether ctx let it.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// excerpt of an answer, for an error.
func excerpt(body string) string {
	const most = 200
	body = strings.ToValidUTF8(strings.TrimSpace(body), "�")
	if len(body) > most {
		body = strings.ToValidUTF8(body[:most], "") + "…"
	}
	return fmt.Sprintf("%q", body)
}
