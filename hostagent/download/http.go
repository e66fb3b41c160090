package download

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

const maxRedirects = 10

// http receives what is missing of the artifact, or all of it.
func (t *try) http(ctx context.Context, u *url.URL) error {
	ctx, stall, stop := newStall(ctx, t.f.Stall)
	defer stop()
	err := t.exchange(ctx, u, stall)
	var url *url.Error
	if errors.As(err, &url) {
		err = url.Err // the outer one holds the whole URL, secrets and all
	}
	// Also without an error: a connection that is being closed because ctx
	// ended may still bring an orderly end of what is not whole.
	if cause := context.Cause(ctx); cause != nil && !errors.As(err, new(*diskError)) {
		return hint("The server is too slow, or something on the way is; the next try goes on from there", "%w after %d bytes", cause, t.have)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return hint("The connection was cut; the next try goes on from there", "ended early, after %d bytes", t.have)
	}
	return err
}

func (t *try) exchange(ctx context.Context, u *url.URL, stall *stall) error {
	resp, err := t.follow(ctx, u)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	stall.alive()
	switch resp.StatusCode {
	case http.StatusOK:
		if t.have > 0 { // it does not resume, or has something new
			if err := t.restart(); err != nil {
				return err
			}
		}
		t.remember(resp)
	case http.StatusPartialContent:
		if t.have == 0 || !continues(resp.Header.Get("Content-Range"), t.have) {
			return errAgain
		}
	case http.StatusRequestedRangeNotSatisfiable:
		if t.have > 0 {
			return errAgain
		}
		return statusError(resp)
	default:
		return statusError(resp)
	}
	if resp.ContentLength >= 0 {
		if err := t.room(t.have + resp.ContentLength); err != nil {
			return err
		}
	}
	return t.receive(resp.Body, stall.alive)
}

// follow makes the request and follows redirects. The artifact's headers, and
// a user in the URL, go with the first request only: a redirect often leads to
// a presigned URL of somebody else's.
func (t *try) follow(ctx context.Context, u *url.URL) (*http.Response, error) {
	for hop := 0; ; hop++ {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
		if err != nil {
			return nil, hint("Mend the artifact's URL", "the URL is not one to fetch from")
		}
		if hop == 0 {
			if err := t.setHeaders(req); err != nil {
				return nil, err
			}
		}
		req.Header.Set("User-Agent", "drydock-hostagent")
		req.Header.Set("Accept-Encoding", "identity")
		if t.have > 0 {
			req.Header.Set("Range", fmt.Sprintf("bytes=%d-", t.have))
			if v := t.validator(); v != "" {
				req.Header.Set("If-Range", v)
			}
		}
		resp, err := t.f.client.Do(req)
		if err != nil {
			return nil, err
		}
		next := resp.Header.Get("Location")
		if resp.StatusCode/100 != 3 || next == "" {
			return resp, nil
		}
		resp.Body.Close()
		to, err := u.Parse(next)
		switch {
		case err != nil || to.Host == "":
			return nil, hint("Look at the server", "it redirects to something that is no URL")
		case hop >= maxRedirects:
			return nil, hint("Look at the server: it may redirect in a loop", "redirected more than %d times", maxRedirects)
		case to.Scheme != "https" && (to.Scheme != "http" || u.Scheme == "https"):
			return nil, hint("Name the https URL itself", "redirects from %s to %s, which would give up what %s protects", u.Scheme, Redact(to.String()), u.Scheme)
		}
		to.User = nil // a relative redirect inherits it
		u = to
	}
}

func (t *try) setHeaders(req *http.Request) error {
	for name, text := range t.headers {
		value := text.Value
		if text.Credential != "" {
			if t.f.Credential == nil {
				return hint("Set credentials in the agent's configuration", "header %s needs the credential %q, and there are none here", name, text.Credential)
			}
			var err error
			if value, err = t.f.Credential(text.Credential); err != nil {
				return err
			}
			value = strings.TrimRight(value, "\r\n")
		}
		if strings.ContainsAny(value, "\r\n\x00") {
			return hint("It must be one line", "header %s has a line break", name)
		}
		req.Header.Set(name, value)
		if strings.EqualFold(name, "Host") {
			req.Host = value
		}
	}
	return nil
}

// continues reports whether a Content-Range goes on at byte have.
func continues(value string, have int64) bool {
	value, ok := strings.CutPrefix(value, "bytes ")
	from, _, found := strings.Cut(value, "-")
	n, err := strconv.ParseInt(from, 10, 64)
	return ok && found && err == nil && n == have
}

func statusError(resp *http.Response) error {
	next := "The provider has a problem; it is tried again"
	switch resp.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		next = "Check the artifact's headers and the credential they name"
	case http.StatusNotFound, http.StatusGone:
		next = "Publish the artifact there, or mend its URL"
	}
	return hint(next, "the server answered %s", resp.Status)
}
