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

	"drydock/hostagent/outbound"
)

// http receives what is missing of the artifact, or all of it.
func (t *try) http(ctx context.Context, u *url.URL) error {
	ctx, stall, stop := newStall(ctx, t.f.Stall)
	defer stop()
	err := t.exchange(ctx, u, stall)
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
	resp, err := t.request(ctx, u)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	stall.answered()
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

// request asks for what is missing. The artifact's headers go with the first
// request only: a redirect often leads to a presigned URL of somebody else's.
func (t *try) request(ctx context.Context, u *url.URL) (*http.Response, error) {
	resp, err := t.f.client.Get(ctx, u.String(), func(req *http.Request, first bool) error {
		if first {
			if err := t.setHeaders(req); err != nil {
				return err
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
		return nil
	})
	var refused *outbound.Refused
	if errors.As(err, &refused) {
		return nil, &hinted{errors.New(refused.Why), refused.Next}
	}
	return resp, err
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
