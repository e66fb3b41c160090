package metrics

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"drydock/reconcile"
	"drydock/spec"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type agent struct {
	status  reconcile.HostStatus
	err     error
	healthy error
	ready   error
}

func (a *agent) Status(context.Context) (reconcile.HostStatus, error) { return a.status, a.err }
func (a *agent) Healthy() error                                       { return a.healthy }
func (a *agent) Ready() error                                         { return a.ready }

type journal struct{}

func (journal) Size() (int, int) { return 4096, 7 }

var now = time.Unix(1_800_000_000, 0)

func newMetrics(a *agent) *Metrics {
	return New(Options{Version: "1.2.3", Agent: a, Journal: journal{}, Now: func() time.Time { return now }})
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	client := http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func serve(t *testing.T, m *Metrics) string {
	t.Helper()
	s, err := Listen(t.Context(), "127.0.0.1:0", m.Handler())
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve() }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := errors.Join(s.Close(ctx), <-done); err != nil {
			t.Error(err)
		}
	})
	return "http://" + s.Addr()
}

func TestMetricsSayWhatStatusSays(t *testing.T) {
	behind := now.Add(-90 * time.Second)
	web := reconcile.ServiceStatus{Name: "web", State: reconcile.Reverted,
		Running: &reconcile.Running{Revision: spec.Revision{Version: "1.4.2", Digest: "sha256:ab", Spec: "cd"}, Since: now}}
	a := &agent{status: reconcile.HostStatus{Environment: "prod", Commit: "4f2a", Paused: true,
		Source: reconcile.SourceStatus{BehindSince: &behind, Verified: true, Blocked: "5a1b", Stale: "for a week"}, Services: []reconcile.ServiceStatus{web, web, {Name: "new", State: reconcile.Waiting}}}}
	m := newMetrics(a)
	m.Watch(reconcile.Progressed{Record: reconcile.Record{Kind: reconcile.Done, Service: "web", Phase: reconcile.Migrate}, Elapsed: 2 * time.Second})
	m.Watch(reconcile.Progressed{Record: reconcile.Record{Kind: reconcile.Begun, Service: "web", Phase: reconcile.Migrate}})
	m.Passed(3*time.Millisecond, nil)
	m.Polled(errors.New("no route"))
	url := serve(t, m)
	status, body := get(t, url+"/metrics")
	if status != 200 {
		t.Fatal(status, body)
	}
	for _, want := range []string{
		`drydock_build_info{version="1.2.3"} 1`,
		`drydock_service_state{service="web",state="reverted"} 1`,
		`drydock_service_state{service="web",state="converged"} 0`,
		`drydock_service_state{service="new",state="waiting"} 1`,
		`drydock_service_revision_info{digest="sha256:ab",service="web",spec="cd",version="1.4.2"} 1`,
		`drydock_commit_info{commit="4f2a",environment="prod"} 1`,
		`drydock_paused 1`, `drydock_source_behind_seconds 90`, `drydock_source_verified 1`, `drydock_source_blocked 1`, `drydock_source_stale 1`, `drydock_status_up 1`,
		`drydock_journal_bytes 4096`, `drydock_journal_records 7`,
		`drydock_step_duration_seconds_sum{outcome="done",phase="migrate",service="web"} 2`,
		`drydock_step_duration_seconds_count{outcome="done",phase="migrate",service="web"} 1`,
		`drydock_passes_total{outcome="ok"} 1`, `drydock_passes_total{outcome="error"} 0`,
		`drydock_source_polls_total{outcome="error"} 1`,
	} {
		if !strings.Contains(body, want+"\n") {
			t.Errorf("missing %s", want)
		}
	}
	a.err = errors.New("hangs")
	if status, body := get(t, url+"/metrics"); status != 200 || !strings.Contains(body, "drydock_status_up 0\n") {
		t.Errorf("without a status: %d", status)
	}
}

func TestHealthAndReadiness(t *testing.T) {
	a := &agent{ready: errors.New("first pass is not over")}
	url := serve(t, newMetrics(a))
	if status, body := get(t, url+"/healthz"); status != 200 || body != "ok\n" {
		t.Error(status, body)
	}
	if status, body := get(t, url+"/readyz"); status != 503 || body != "first pass is not over\n" {
		t.Error(status, body)
	}
	a.ready, a.healthy = nil, errors.New("the loop hangs")
	if status, _ := get(t, url+"/readyz"); status != 200 {
		t.Error(status)
	}
	if status, _ := get(t, url+"/healthz"); status != 503 {
		t.Error(status)
	}
	if status, _ := get(t, url+"/other"); status != 404 {
		t.Error(status)
	}
}

func TestSlowClientHoldsUpNobody(t *testing.T) {
	s, err := Listen(t.Context(), "127.0.0.1:0", newMetrics(&agent{}).Handler())
	if err != nil {
		t.Fatal(err)
	}
	if s.http.ReadHeaderTimeout == 0 || s.http.ReadTimeout == 0 || s.http.WriteTimeout == 0 || s.http.IdleTimeout == 0 || s.http.MaxHeaderBytes == 0 {
		t.Error("a deadline or limit is missing")
	}
	s.http.ReadHeaderTimeout = 50 * time.Millisecond // the deadline itself, in a time that a test can wait
	done := make(chan error, 1)
	go func() { done <- s.Serve() }()
	conn, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost:"); err != nil {
		t.Fatal(err)
	}
	if status, _ := get(t, "http://"+s.Addr()+"/healthz"); status != 200 {
		t.Error(status)
	}
	_ = conn.SetReadDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.ReadAll(conn); err != nil {
		t.Errorf("it was not cut off: %v", err)
	}
	if err := errors.Join(s.Close(t.Context()), <-done); err != nil {
		t.Error(err)
	}
}

func TestTakenAddressSaysWhatToDo(t *testing.T) {
	s, err := Listen(t.Context(), "127.0.0.1:0", http.NotFoundHandler())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(t.Context())
	if _, err := Listen(t.Context(), s.Addr(), http.NotFoundHandler()); err == nil || !strings.Contains(err.Error(), "`listen`") {
		t.Error(err)
	}
}
