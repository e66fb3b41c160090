package web

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"drydock/reconcile"
	"drydock/spec"
)

type checkConfig struct {
	URL    string `json:"url"`
	Expect struct {
		Status int    `json:"status"`
		Body   string `json:"body"`
	} `json:"expect"`
	Interval spec.Duration `json:"interval"`
	Timeout  spec.Duration `json:"timeout"`
}

// Check is check "http".
type Check struct{}

// Probe asks the URL once, with GET. Status and, if one is expected, body must
// both be right; the body is searched in its first MiB.
func (Check) Probe(ctx context.Context, s reconcile.Step) error {
	var c checkConfig
	if err := s.Block.Decode(&c); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(c.Timeout))
	defer cancel()
	status, body, err := ask(ctx, http.MethodGet, c.URL)
	if err != nil {
		return err
	}
	want := c.Expect.Status
	if want == 0 {
		want = http.StatusOK
	}
	if status != want {
		return fmt.Errorf("%s answered status %d, expected %d", c.URL, status, want)
	}
	if !word(body, c.Expect.Body) {
		return fmt.Errorf("%s answered without the word %q: does the old process answer? It said %s", c.URL, c.Expect.Body, excerpt(body))
	}
	return nil
}
