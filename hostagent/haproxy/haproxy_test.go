package haproxy_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"drydock/hostagent/drivertest"
	"drydock/hostagent/haproxy"
	"drydock/reconcile"
	"drydock/testdata/rig"
)

func (a at) asCase(before, after reconcile.Is) drivertest.Case {
	return drivertest.Case{
		New: func(env reconcile.Env) reconcile.Driver { return haproxy.New(env) },
		Env: a.env, Step: a.drain, Back: &a.undrain, Before: before, After: after,
	}
}

func TestDriver(t *testing.T) {
	drivertest.Run(t, drivertest.Suite{
		Make: func(t *testing.T) drivertest.Case {
			return newYard(t, checked, "web-1", "web-2").at(t, "web-1", "30s").asCase(reconcile.Present, reconcile.Absent)
		},
		Hanging: func(t *testing.T) drivertest.Case {
			y := newYard(t, "", "web-1")
			y.slow(t, y.apps[0])
			return y.at(t, "web-1", "1h").asCase(reconcile.Present, reconcile.Absent)
		},
		Faults: faults(),
		Config: haproxy.Config{}, Reference: "service.drain.haproxy",
	})
}

// TCP is the same API.
func TestOverTCP(t *testing.T) {
	y := newYard(t, checked, "web-1")
	a := place(t, "tcp://"+y.TCP, "web", "web-1", "10s")
	if err := a.driver.Prepare(bounded(t), a.drain); err != nil {
		t.Fatal(err)
	}
	a.mustDrain(t)
	if s := y.Servers(t)["web/web-1"]; s.Admin != 8 {
		t.Errorf("%+v", s)
	}
	a.mustUndrain(t)
	if s := y.Servers(t)["web/web-1"]; s.Admin != 0 {
		t.Errorf("%+v", s)
	}
}

// bad is something at the address that is no HAProxy in good order.
type bad struct {
	address         func(t *testing.T) string
	backend, server string
	says            []string
}

func badInputs() map[string]bad {
	silent := func(answer func(net.Conn, string)) func(t *testing.T) string {
		return func(t *testing.T) string { return "unix://" + fake(t, answer) }
	}
	real := func(t *testing.T) string { return newYard(t, "", "web-1", "web-2").Address() }
	return map[string]bad{
		"gone": {address: func(t *testing.T) string { return "unix:///no/such/admin.sock" },
			says: []string{"there is no socket of HAProxy at unix:///no/such/admin.sock", "stats socket /no/such/admin.sock mode 660 level admin"}},
		"refusing": {address: refusing, says: []string{"connection refused", "systemctl status haproxy"}},
		"refusing over TCP": {address: func(t *testing.T) string {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			return "tcp://" + l.Addr().String()
		}, says: []string{"connection refused"}},
		"hanging": {address: func(t *testing.T) string {
			y := newYard(t, "", "web-1")
			y.Signal(syscall.SIGSTOP)
			return y.Address()
		}, says: []string{"has not answered `show ", "within 400ms"}},
		"half an answer": {address: silent(func(c net.Conn, _ string) { _, _ = c.Write([]byte("1\n# be_id be_name srv_id\n3 web 1\n")) }),
			says: []string{"broke off after 33 bytes"}},
		"no answer":   {address: silent(func(net.Conn, string) {}), says: []string{"broke off after 0 bytes"}},
		"a flood":     {address: silent(flood), says: []string{"longer than 4 MiB"}},
		"no HAProxy":  {address: silent(func(c net.Conn, _ string) { _, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\n\n")) }), says: []string{"makes no sense", "`stats socket` of a worker"}},
		"no backend":  {address: real, backend: "wep", says: []string{`backend "wep" is unknown to HAProxy at unix://`, "which has api, web. Write the backend's name as in haproxy.cfg"}},
		"no server":   {address: real, server: "web-3", says: []string{`server "web-3" is unknown to backend "web"`, "which has web-1, web-2. Write"}},
		"no name":     {address: real, server: "web-1 state maint; shutdown", says: []string{"no name that HAProxy could know"}},
		"no address":  {address: func(*testing.T) string { return "unix://admin.sock" }, says: []string{"no address of a runtime API"}},
		"not allowed": {address: func(t *testing.T) string { return "unix://" + newYard(t, "", "web-1").Operator }, says: []string{"refuses to drain and undrain web/web-1", "level admin"}},
	}
}

func (b bad) at(t *testing.T) at {
	backend, server := b.backend, b.server
	if backend == "" {
		backend = "web"
	}
	if server == "" {
		server = "web-1"
	}
	return place(t, b.address(t), backend, server, "400ms")
}

func faults() map[string]drivertest.Fault {
	all := map[string]drivertest.Fault{}
	for name, b := range badInputs() {
		all[name] = drivertest.Fault{Blame: reconcile.OfHost, Make: func(t *testing.T) drivertest.Case {
			return b.at(t).asCase(reconcile.Present, reconcile.Absent)
		}}
	}
	return all
}

// Before anything is out of service, the host says what it lacks, and how it is mended.
func TestPrepareSaysWhatIsMissing(t *testing.T) {
	for name, b := range badInputs() {
		t.Run(name, func(t *testing.T) {
			a := b.at(t)
			err := a.driver.Prepare(bounded(t), a.drain)
			if err == nil || reconcile.BlameOf(err) != reconcile.OfHost {
				t.Fatalf("%v", err)
			}
			for _, text := range b.says {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("it does not say %q: %v", text, err)
				}
			}
			if _, err := a.driver.Observe(bounded(t), a.drain); name != "not allowed" && err == nil {
				t.Error("it can be observed all the same")
			}
		})
	}
}

func TestPrepareChangesNothing(t *testing.T) {
	y := newYard(t, "", "web-1")
	a := y.at(t, "web-1", "1s")
	for _, s := range []reconcile.Step{a.drain, a.undrain} {
		if err := a.driver.Prepare(bounded(t), s); err != nil {
			t.Error(err)
		}
	}
	if s := y.Servers(t)["web/web-1"]; s.Admin != 0 {
		t.Errorf("%+v", s)
	}
}

// A socket that the agent may not open is a matter of its mode.
func TestMayNotOpen(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: run the test as root")
	}
	y := newYard(t, "", "web-1")
	a := y.at(t, "web-1", "1s")
	err := asNobody(t, filepath.Dir(y.Socket), func() error { return a.driver.Prepare(context.Background(), a.drain) })
	if err == nil || !strings.Contains(err.Error(), "may not open") || reconcile.BlameOf(err) != reconcile.OfHost {
		t.Errorf("%v", err)
	}
}

// Each way to be out, and whose it is.
func TestObserve(t *testing.T) {
	y := &yard{apps: []*app{startApp(t, "web-1"), startApp(t, "web-2")}}
	down, tracking, disabled := backendOf(y.apps[:1], checked), backendOf(y.apps[:1], "track web/web-1"), backendOf(y.apps[:1], "disabled")
	down.Name, tracking.Name, disabled.Name = "sick", "tracking", "disabled"
	down.Servers[0].Address = strings.TrimPrefix(refusingTCP(t), "tcp://")
	weight := backendOf(y.apps[:1], "weight 0")
	weight.Name = "spare"
	y.Proxy = rig.HAProxy(t, backendOf(y.apps, checked), down, tracking, disabled, weight)
	y.Await(t, "sick/web-1", func(s rig.ServerState) bool { return s.Op == 0 })
	for _, c := range []struct {
		set, backend, detail string
		is                   reconcile.Is
	}{
		{"", "web", "web/web-1 is in rotation", reconcile.Present},
		{"", "sick", "sick/web-1 is in rotation, but down by HAProxy's own check", reconcile.Present},
		{"", "spare", "spare/web-1 is in rotation", reconcile.Present},
		{"", "disabled", "disabled/web-1 is in maintenance, as haproxy.cfg has it", reconcile.Absent},
		{"set server web/web-1 state drain", "web", "web/web-1 drains", reconcile.Absent},
		{"", "tracking", "tracking/web-1 drains with the server that it tracks", reconcile.Absent},
		{"set server sick/web-1 state drain", "sick", "sick/web-1 drains", reconcile.Absent},
		{"set server web/web-1 state maint", "web", "web/web-1 is in maintenance", reconcile.Absent},
		{"", "tracking", "tracking/web-1 is in maintenance with the server that it tracks", reconcile.Absent},
		{"set server web/web-1 state ready", "web", "web/web-1 is in rotation", reconcile.Present},
		{"set server web/web-1 weight 0", "web", "web/web-1 has been given the weight 0", reconcile.Absent},
	} {
		if c.set != "" {
			if answer := y.Command(t, c.set); answer != "" {
				t.Fatalf("%s: %s", c.set, answer)
			}
		}
		if c.set == "set server web/web-1 state ready" { // it came back as down, and its check has to say otherwise
			y.Await(t, "web/web-1", func(s rig.ServerState) bool { return s.Op == 2 })
		}
		a := place(t, y.Address(), c.backend, "web-1", "1s")
		got, err := a.driver.Observe(bounded(t), a.drain)
		if err != nil || got.Is != c.is || got.Detail != c.detail {
			t.Errorf("after %q: %v %q, %v; expected %v %q", c.set, got.Is, got.Detail, err, c.is, c.detail)
		}
	}
}

// What we tell teams to write into haproxy.cfg is what HAProxy reads.
func TestExample(t *testing.T) {
	rig.HAProxyAccepts(t, "../../examples/haproxy/haproxy.cfg.example")
}

func TestALinkLocalAddressIsNotAsked(t *testing.T) {
	a := place(t, "tcp://169.254.169.254:9999", "web", "web-1", "5s")
	err := a.driver.Prepare(bounded(t), a.drain)
	if reconcile.BlameOf(err) != reconcile.OfHost || !strings.Contains(err.Error(), "which nothing here connects to") {
		t.Error(err)
	}
}
