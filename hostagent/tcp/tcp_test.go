package tcp_test

import (
	"net"
	"strings"
	"testing"

	"drydock/hostagent/drivertest"
	"drydock/hostagent/tcp"
	"drydock/reconcile"
	"drydock/spec"
)

func TestSuite(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	block := func(l net.Listener) spec.Block {
		return drivertest.Block(t, "check", "tcp", map[string]any{"address": l.Addr().String(), "interval": "1s", "timeout": "10s"})
	}
	drivertest.Probes(t, drivertest.ProbeSuite{
		Path: "service.check.tcp", Config: tcp.Config{}, New: func() reconcile.Prober { return tcp.Check{} },
		Healthy: block(l), Sick: block(closed),
	})
}

func TestProbe(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := drivertest.Step(reconcile.Check, drivertest.Block(t, "check", "tcp", map[string]any{"address": l.Addr().String(), "interval": "1s", "timeout": "5s"}))
	if err := (tcp.Check{}).Probe(t.Context(), s); err != nil {
		t.Error(err)
	}
	l.Close()
	if err := (tcp.Check{}).Probe(t.Context(), s); err == nil {
		t.Error("a closed port passes")
	}
}

func TestALinkLocalAddressIsNotAsked(t *testing.T) {
	s := drivertest.Step(reconcile.Check, drivertest.Block(t, "check", "tcp", map[string]any{"address": "169.254.169.254:80", "interval": "1s", "timeout": "5s"}))
	if err := (tcp.Check{}).Probe(t.Context(), s); err == nil || !strings.Contains(err.Error(), "which nothing here connects to") {
		t.Error(err)
	}
}
