package tcp_test

import (
	"net"
	"testing"

	"drydock/hostagent/drivertest"
	"drydock/hostagent/tcp"
	"drydock/reconcile"
)

func TestProbe(t *testing.T) {
	drivertest.Attributes(t, "service.check.tcp", tcp.Config{})
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
