package rig

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// ConsulAgent is a stand-in for a Consul agent and the servers behind it, as
// no Consul server can be had for tests. Of the HTTP API it has what concerns
// a service's maintenance mode, and follows Consul's documentation of it
// (API: Agent/Service, Agent/Checks, Health; commands: maint) to the status
// codes, headers and fields.
type ConsulAgent struct {
	URL  string
	Node string

	mu       sync.Mutex
	server   *httptest.Server
	tokens   map[string]string // to "write" or "read"; none: no ACLs
	services map[string]string // id to name
	checks   map[string]consulCheck
	servers  map[string]consulCheck // what the catalog has of them
	behind   bool
	blind    bool
	calls    []string
	instead  http.HandlerFunc
}

type consulCheck struct {
	Node, CheckID, Name, Status, Notes, Output, ServiceID, ServiceName, Type string
	ServiceTags                                                              []string
}

const consulMaintenance = "_service_maintenance:"

// Consul starts one on which nothing is registered. tokens maps secrets to
// "write" or "read"; with none, no ACLs are enforced.
func Consul(t testing.TB, tokens map[string]string) *ConsulAgent {
	t.Helper()
	a := &ConsulAgent{Node: "node-1", tokens: tokens, services: map[string]string{}, checks: map[string]consulCheck{}, servers: map[string]consulCheck{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/agent/service/{id...}", a.getService)
	mux.HandleFunc("GET /v1/agent/health/service/id/{id...}", a.getHealth)
	mux.HandleFunc("GET /v1/agent/checks", a.getChecks)
	mux.HandleFunc("GET /v1/health/checks/{service...}", a.getCatalog)
	mux.HandleFunc("PUT /v1/agent/service/maintenance/{id...}", a.putMaintenance)
	a.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		a.calls = append(a.calls, r.Method+" "+r.URL.RequestURI())
		instead := a.instead
		if instead == nil {
			defer a.mu.Unlock()
			mux.ServeHTTP(w, r)
			return
		}
		a.mu.Unlock()
		instead(w, r)
	}))
	a.URL = a.server.URL
	t.Cleanup(a.Close)
	return a
}

// Close ends it: connections are refused from then on.
func (a *ConsulAgent) Close() {
	a.server.CloseClientConnections()
	a.server.Close()
}

// Register registers a service with one check, as the service itself does when
// it starts; replace is the parameter replace-existing-checks.
func (a *ConsulAgent) Register(id, name string, replace bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.services[id] = name
	if replace {
		a.forget(id)
	}
	a.put(consulCheck{CheckID: "service:" + id, Name: "Service '" + name + "' check", Status: "passing", ServiceID: id, ServiceName: name})
}

// Deregister removes a service with all its checks.
func (a *ConsulAgent) Deregister(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.services, id)
	a.forget(id)
}

func (a *ConsulAgent) forget(id string) {
	for k, c := range a.checks {
		if c.ServiceID == id {
			delete(a.checks, k)
		}
	}
	a.sync()
}

func (a *ConsulAgent) put(c consulCheck) {
	c.Node = a.Node
	a.checks[c.CheckID] = c
	a.sync()
}

// sync is what the agent tells the servers after each change.
func (a *ConsulAgent) sync() {
	if a.behind {
		return
	}
	clear(a.servers)
	for k, c := range a.checks {
		a.servers[k] = c
	}
}

// Behind cuts the agent off from the servers, or lets it catch up.
func (a *ConsulAgent) Behind(yes bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.behind = yes
	a.sync()
}

// Blind takes node:read from all tokens: the catalog answers nothing, and says
// in a header that it has left something out.
func (a *ConsulAgent) Blind() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.blind = true
}

// Instead answers every request so from now on; nil ends it.
func (a *ConsulAgent) Instead(h http.HandlerFunc) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.instead = h
}

// Enter is a person's `consul maint -enable -service=id -reason=…`.
func (a *ConsulAgent) Enter(id, reason string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.maintain(id, reason)
}

// Leave is a person's `consul maint -disable -service=id`.
func (a *ConsulAgent) Leave(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.checks, consulMaintenance+id)
	a.sync()
}

// maintain changes nothing where a service is in maintenance already: as in
// Consul, the first reason stays.
func (a *ConsulAgent) maintain(id, reason string) {
	if _, on := a.checks[consulMaintenance+id]; on {
		return
	}
	if reason == "" {
		reason = "Maintenance mode is enabled for this service, but no reason was provided. This is a default message."
	}
	a.put(consulCheck{CheckID: consulMaintenance + id, Name: "Service Maintenance Mode", Status: "critical", Notes: reason, ServiceID: id, ServiceName: a.services[id], Type: "maintenance"})
}

// Maintenance is the reason for which a service is in it, and whether it is.
func (a *ConsulAgent) Maintenance(id string) (reason string, on bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	c, on := a.checks[consulMaintenance+id]
	return c.Notes, on
}

// Calls are all requests so far, method and URL.
func (a *ConsulAgent) Calls() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.calls)
}

func (a *ConsulAgent) may(r *http.Request, what string) bool {
	if len(a.tokens) == 0 {
		return true
	}
	token := r.Header.Get("X-Consul-Token")
	if bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok && token == "" {
		token = bearer
	}
	has := a.tokens[token]
	return has == "write" || has == what
}

func (a *ConsulAgent) getService(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	name, there := a.services[id]
	switch {
	case !there:
		http.Error(w, "unknown service ID: "+id, http.StatusNotFound)
	case !a.may(r, "read"):
		denied(w, "read", name)
	default:
		answer(w, http.StatusOK, a.service(id))
	}
}

func (a *ConsulAgent) service(id string) map[string]any {
	return map[string]any{"ID": id, "Service": a.services[id], "Tags": []string{}, "Meta": map[string]string{}, "Port": 8080, "Address": "", "Datacenter": "dc1"}
}

func (a *ConsulAgent) getHealth(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	name, there := a.services[id]
	if !there {
		http.Error(w, fmt.Sprintf("ServiceId %s not found", id), http.StatusNotFound)
		return
	}
	if !a.may(r, "read") {
		denied(w, "read", name)
		return
	}
	status, code, checks := "passing", http.StatusOK, []consulCheck{}
	for _, c := range a.checks {
		if c.ServiceID != id {
			continue
		}
		checks = append(checks, c)
		if c.Status == "critical" && status != "maintenance" {
			status, code = "critical", http.StatusServiceUnavailable
		}
		if strings.HasPrefix(c.CheckID, consulMaintenance) {
			status, code = "maintenance", http.StatusServiceUnavailable
		}
	}
	answer(w, code, map[string]any{"AggregatedStatus": status, "Service": a.service(id), "Checks": checks})
}

func (a *ConsulAgent) getChecks(w http.ResponseWriter, r *http.Request) {
	if !a.may(r, "read") {
		w.Header().Set("X-Consul-Results-Filtered-By-ACLs", "true")
		answer(w, http.StatusOK, map[string]consulCheck{})
		return
	}
	answer(w, http.StatusOK, a.checks)
}

func (a *ConsulAgent) getCatalog(w http.ResponseWriter, r *http.Request) {
	found := []consulCheck{}
	for _, c := range a.servers {
		want, filtered := strings.CutPrefix(r.URL.Query().Get("filter"), "CheckID == ")
		if want, err := strconv.Unquote(want); filtered && (err != nil || want != c.CheckID) {
			continue
		}
		if c.ServiceName == r.PathValue("service") {
			found = append(found, c)
		}
	}
	if a.blind || !a.may(r, "read") {
		found = found[:0]
		w.Header().Set("X-Consul-Results-Filtered-By-ACLs", "true")
	}
	answer(w, http.StatusOK, found)
}

func (a *ConsulAgent) putMaintenance(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	enable, err := strconv.ParseBool(r.URL.Query().Get("enable"))
	name, there := a.services[id]
	switch {
	case id == "":
		http.Error(w, "Missing service ID", http.StatusBadRequest)
	case !r.URL.Query().Has("enable"):
		http.Error(w, "Missing value for enable", http.StatusBadRequest)
	case err != nil:
		http.Error(w, "Invalid value for enable", http.StatusBadRequest)
	case !there:
		http.Error(w, fmt.Sprintf("Unknown service ID %q", id), http.StatusNotFound)
	case !a.may(r, "write"):
		denied(w, "write", name)
	case enable:
		a.maintain(id, r.URL.Query().Get("reason"))
	default:
		delete(a.checks, consulMaintenance+id)
		a.sync()
	}
}

func denied(w http.ResponseWriter, what, service string) {
	http.Error(w, fmt.Sprintf("Permission denied: token with AccessorID 'anonymous' lacks permission 'service:%s' on %q", what, service), http.StatusForbidden)
}

func answer(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body)
}
