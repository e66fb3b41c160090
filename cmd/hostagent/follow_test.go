package main

import (
	"context"
	"testing"
	"time"

	"drydock/hostagent/api"
	"drydock/reconcile"
)

// busyAgent is one of which only the status is asked.
type busyAgent struct {
	api.Agent
	st chan reconcile.HostStatus
}

func (a busyAgent) Status(context.Context) (any, error) { return <-a.st, nil }

// Who waits for the running agent is told what it is at, each thing once, and
// nothing of services that were not asked about.
func TestWhoWaitsIsToldOfProgress(t *testing.T) {
	state := t.TempDir()
	a := busyAgent{st: make(chan reconcile.HostStatus)}
	server, err := api.Listen(state, a)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve() }()
	t.Cleanup(func() {
		if err := server.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	var out lockedBuffer
	stop := follow(t.Context(), api.NewClient(state), &out, "waiting until web is out of rotation", "web")
	at := func(step string) {
		select {
		case a.st <- reconcile.HostStatus{Services: []reconcile.ServiceStatus{
			{Name: "other", State: reconcile.Progressing, Step: "other/check/http"},
			{Name: "web", State: reconcile.Progressing, Step: step},
		}}:
		case <-time.After(time.Minute):
			t.Error("nobody looks any more")
		}
	}
	at("web/drain/haproxy")
	at("web/drain/haproxy")
	at("web/check/http")
	at("")
	stop()
	want := "waiting until web is out of rotation\n  web progressing: drain/haproxy\n  web progressing: check/http\n"
	if got := out.String(); got != want {
		t.Errorf("said %q, want %q", got, want)
	}
}
