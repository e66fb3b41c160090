package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"syscall"
	"time"
)

// Client talks to the agent of a state directory; each call connects anew. Its
// errors wrap ErrNoAgent where none runs, and are a *Refused where it answered
// with one.
type Client struct{ state string }

// NewClient makes a client; it connects to nothing yet.
func NewClient(state string) *Client { return &Client{state} }

// Status decodes the agent's status into a value.
func (c *Client) Status(ctx context.Context, into any) error {
	return c.call(ctx, http.MethodGet, "/v1/status", shortWait, into)
}

// Plan decodes what the agent would do.
func (c *Client) Plan(ctx context.Context, into any) error {
	return c.call(ctx, http.MethodGet, "/v1/plan", maxWait, into)
}

// CheckHost decodes what the host lacks of what is declared for it.
func (c *Client) CheckHost(ctx context.Context, into any) error {
	return c.call(ctx, http.MethodGet, "/v1/check-host", maxWait, into)
}

// Once lets the agent make a whole pass, and decodes its report.
func (c *Client) Once(ctx context.Context, into any) error {
	return c.call(ctx, http.MethodPost, "/v1/once", maxWait, into)
}

// Sync lets the agent look at its source now, and does not wait for it.
func (c *Client) Sync(ctx context.Context) error { return c.do(ctx, "/v1/sync", shortWait) }

// Pause stops all plans of the host.
func (c *Client) Pause(ctx context.Context) error { return c.do(ctx, "/v1/pause", shortWait) }

// Resume ends Pause.
func (c *Client) Resume(ctx context.Context) error { return c.do(ctx, "/v1/resume", shortWait) }

// Drain takes a service out of rotation, for a person.
func (c *Client) Drain(ctx context.Context, service string) error {
	return c.do(ctx, "/v1/drain?service="+url.QueryEscape(service), maxWait)
}

// Undrain ends Drain, and returns what the agent had to say about it: nothing,
// mostly.
func (c *Client) Undrain(ctx context.Context, service string) (note string, err error) {
	var said noted
	err = c.call(ctx, http.MethodPost, "/v1/undrain?service="+url.QueryEscape(service), maxWait, &said)
	return said.Note, err
}

func (c *Client) do(ctx context.Context, path string, wait time.Duration) error {
	return c.call(ctx, http.MethodPost, path, wait, &struct{}{})
}

func (c *Client) call(ctx context.Context, method, path string, wait time.Duration, into any) error {
	ctx, cancel := context.WithTimeout(ctx, wait+5*time.Second)
	defer cancel()
	transport := &http.Transport{DialContext: c.dial, DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, method, "http://agent"+path, nil)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return fmt.Errorf("ask the agent at %s: %w", c.socket(), err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return fmt.Errorf("ask the agent at %s: %w", c.socket(), err)
	}
	if len(body) > maxAnswer {
		return fmt.Errorf("the agent at %s answered more than %d bytes", c.socket(), maxAnswer)
	}
	if resp.StatusCode != http.StatusOK {
		var f failure
		if json.Unmarshal(body, &f) != nil || f.Error == "" {
			f.Error = fmt.Sprintf("the agent answered %s; is it of another version?", resp.Status)
		}
		return &Refused{resp.StatusCode, f.Error}
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("read the answer of the agent at %s: %w; is it of another version?", c.socket(), err)
	}
	return nil
}

func (c *Client) socket() string { return filepath.Join(c.state, SocketName) }

func (c *Client) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	dir, name, err := socketIn(c.state)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w: %w", ErrNoAgent, err)
		}
		return nil, err
	}
	defer dir.Close()
	conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "unix", name)
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, fmt.Errorf("%w: %w", ErrNoAgent, err)
	}
	return conn, err
}
