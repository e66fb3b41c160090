package consul

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"drydock/hostagent/outbound"
	"drydock/reconcile"
)

const (
	maxAnswer = 1 << 20
	callTime  = 5 * time.Second // one request; less if the step's timeout is

	checkService = "_service_maintenance:"
	checkNode    = "_node_maintenance"
)

// agent is one service at a Consul agent, for one step.
type agent struct {
	base    *url.URL
	id      string
	token   string
	named   string // the credential's name, for hints
	timeout time.Duration
}

// agent reads the block, and its credential. No error shows the token.
func (d *Drain) agent(s reconcile.Step) (*agent, error) {
	var c config
	if err := s.Block.Decode(&c); err != nil {
		return nil, err
	}
	base, err := url.Parse(c.Address)
	if err != nil || base.Host == "" {
		return nil, fault(fmt.Errorf("address %q is not a URL", c.Address), "Write the agent's address, such as http://127.0.0.1:8500.")
	}
	a := &agent{base: base, id: c.ServiceID, token: c.Token.Value, named: c.Token.Credential, timeout: time.Duration(c.Timeout)}
	if a.named != "" {
		if d.env.Credential == nil {
			return nil, fault(fmt.Errorf("the token needs the credential %q, and there are none here", a.named), "Set credentials in the agent's configuration.")
		}
		if a.token, err = d.env.Credential(a.named); err != nil {
			return nil, err
		}
		a.token = strings.TrimRight(a.token, "\r\n")
	}
	if strings.ContainsFunc(a.token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, fault(errors.New("the ACL token holds a space, a line break or something else that no header takes"), "It must be the token's secret id and nothing else.")
	}
	return a, nil
}

// where is the agent's address without anything secret.
func (a *agent) where() string { return a.base.Scheme + "://" + a.base.Host }

// state is how the Consul agent has the service.
type state struct {
	registered bool
	service    string // its name
	host       string // Consul's name of the node
	on         bool   // in maintenance
	reason     string
	node       bool // the whole node is
}

func (st state) maintained() bool { return st.on }

func (st state) ours() bool { return st.on && strings.HasPrefix(st.reason, ours) }

type check struct {
	Node      string
	CheckID   string
	Notes     string
	ServiceID string
}

// look asks the agent for the service and its checks. The status says how
// healthy it is (200, 429, 503), so what counts is the body.
func (a *agent) look(ctx context.Context) (state, error) {
	status, body, _, err := a.call(ctx, http.MethodGet, "/v1/agent/health/service/id/", a.id, nil)
	if err != nil {
		return state{}, err
	}
	switch status {
	case http.StatusNotFound:
		return state{}, nil
	case http.StatusOK, http.StatusTooManyRequests, http.StatusServiceUnavailable:
	default:
		return state{}, a.failed(status, body, "service:read")
	}
	var is struct {
		Service struct{ ID, Service string }
		Checks  []check
	}
	if err := json.Unmarshal(body, &is); err != nil || is.Service.ID != a.id {
		return state{}, a.failed(status, body, "service:read")
	}
	st := state{registered: true, service: is.Service.Service}
	for _, c := range is.Checks {
		switch c.CheckID {
		case checkService + a.id:
			st.on, st.reason, st.host = true, c.Notes, c.Node
		case checkNode:
			st.node = true
		}
	}
	return st, nil
}

// sight is what of the maintenance can be seen at Consul's servers.
type sight int

const (
	missing sight = iota
	known
	hidden // the ACLs hide it
)

// catalog asks Consul's servers whether they have the service's maintenance.
func (a *agent) catalog(ctx context.Context, st state) (sight, error) {
	id := checkService + a.id
	status, body, header, err := a.call(ctx, http.MethodGet, "/v1/health/checks/", st.service, url.Values{"filter": {"CheckID == " + strconv.Quote(id)}})
	if err != nil {
		return missing, err
	}
	var checks []check
	if status != http.StatusOK || json.Unmarshal(body, &checks) != nil {
		return missing, a.failed(status, body, "service:read and node:read")
	}
	for _, c := range checks {
		if c.CheckID == id && (c.Node == st.host || st.host == "") {
			return known, nil
		}
	}
	if header.Get("X-Consul-Results-Filtered-By-ACLs") == "true" {
		return hidden, nil
	}
	return missing, nil
}

// maintenance switches it on or off.
func (a *agent) maintenance(ctx context.Context, on bool, reason string) error {
	query := url.Values{"enable": {strconv.FormatBool(on)}}
	if on {
		query.Set("reason", reason)
	}
	status, body, _, err := a.call(ctx, http.MethodPut, "/v1/agent/service/maintenance/", a.id, query)
	if err == nil && status == http.StatusNotFound {
		return a.unregistered()
	}
	if err == nil && status != http.StatusOK {
		return a.failed(status, body, "service:write")
	}
	return err
}

// call makes one request over a connection of its own, and follows no
// redirect: the token goes to the agent that was named, and nowhere else.
func (a *agent) call(ctx context.Context, method, path, name string, query url.Values) (status int, body []byte, header http.Header, err error) {
	ctx, cancel := context.WithTimeout(ctx, min(callTime, a.timeout))
	defer cancel()
	u := *a.base
	u.Path, u.RawPath, u.RawQuery = strings.TrimSuffix(u.Path, "/")+path+name, "", query.Encode()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		return 0, nil, nil, fault(fmt.Errorf("address %s: no request can be made of it", a.where()), "Write the agent's address, such as http://127.0.0.1:8500.")
	}
	req.Header.Set("User-Agent", "drydock-hostagent")
	req.Header.Set("Accept", "application/json")
	if a.token != "" {
		req.Header.Set("X-Consul-Token", a.token)
	}
	transport := &http.Transport{
		DisableKeepAlives:      true,
		DisableCompression:     true, // a body of a few bytes that unpacks to gigabytes
		MaxResponseHeaderBytes: 64 << 10,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		DialContext:            outbound.Dialer(0).DialContext,
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = outbound.Explain(ue.Err)
		}
		return 0, nil, nil, a.silent(err)
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return 0, nil, nil, a.silent(fmt.Errorf("its answer broke off: %w", err))
	}
	if len(body) > maxAnswer {
		return 0, nil, nil, fault(fmt.Errorf("%s answers with more than %d KiB", a.where(), maxAnswer>>10), "See whether that is a Consul agent.")
	}
	return resp.StatusCode, body, resp.Header, nil
}

func (a *agent) silent(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("no answer within %v: %w", min(callTime, a.timeout), err)
	}
	return fault(fmt.Errorf("%s: %w", a.where(), a.hide(err)), "See whether the Consul agent runs there (consul members), and mend it or the address.")
}

// failed is an answer that is none of those that Consul documents for success.
func (a *agent) failed(status int, body []byte, needs string) error {
	text := short(strings.TrimSpace(a.redact(string(body))))
	switch {
	case status == http.StatusForbidden || status == http.StatusUnauthorized:
		hint := "Name an ACL token with token = credential(…), and give it " + needs + " for this service."
		if a.named != "" {
			hint = fmt.Sprintf("Give the token in the credential %q %s for this service.", a.named, needs)
		}
		return fault(fmt.Errorf("the agent at %s forbids it (status %d): %s", a.where(), status, text), hint)
	case status >= 300 && status < 400:
		return fault(fmt.Errorf("%s redirects (status %d), which is not followed: the token is for that address only", a.where(), status), "Name the Consul agent's own address.")
	case status >= 500:
		return fault(fmt.Errorf("the agent at %s answers with status %d: %s", a.where(), status, text), "See the agent's log; it may have no servers, or they no leader.")
	}
	return fault(fmt.Errorf("%s does not answer as Consul does (status %d): %s", a.where(), status, text), "See whether that is a Consul agent's HTTP API.")
}

func (a *agent) unregistered() error {
	return fault(fmt.Errorf("no service with the id %q is registered at %s", a.id, a.where()),
		"Register it at that agent (provisioning does, or the service when it starts), or correct service_id.")
}

// redact takes the token out of what a server says: some echo requests.
func (a *agent) redact(text string) string {
	if a.token == "" {
		return text
	}
	return strings.ReplaceAll(text, a.token, "[token]")
}

// hide does so for an error; one with nothing to hide keeps its kind.
func (a *agent) hide(err error) error {
	if text := err.Error(); a.redact(text) != text {
		return errors.New(a.redact(text))
	}
	return err
}

func fault(err error, hint string) error {
	return reconcile.HostFault(fmt.Errorf("drain consul: %w", err), hint)
}
