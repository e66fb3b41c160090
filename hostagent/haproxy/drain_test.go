package haproxy_test

import (
	"net"
	"strings"
	"syscall"
	"testing"

	"drydock/hostagent/drivertest"
	"drydock/reconcile"
	"drydock/testdata/rig"
)

const (
	maintenance = 1
	draining    = 8
)

func (y *yard) admin(t *testing.T, server string) int {
	t.Helper()
	return y.Servers(t)["web/"+server].Admin
}

func (y *yard) set(t *testing.T, command string) {
	t.Helper()
	if answer := y.Command(t, command); answer != "" {
		t.Fatalf("%s: %s", command, answer)
	}
}

// The service is not touched while somebody is being served.
func TestDrainWaitsForTheLastSession(t *testing.T) {
	y := newYard(t, "", "web-1")
	a := y.at(t, "web-1", "1h")
	answered := y.slow(t, y.apps[0])
	done := a.doing(t)
	a.heard.await(t, "web/web-1: 1 session left; waiting at most 1h")
	select {
	case err := <-done:
		t.Fatalf("it has not waited: %v", err)
	default:
	}
	if is, err := a.driver.Done(t.Context(), a.drain); is || err != nil {
		t.Errorf("done %v, %v, while a session is left", is, err)
	}
	y.apps[0].Release()
	if err := ended(t, done); err != nil {
		t.Error(err)
	}
	if err := ended(t, answered); err != nil {
		t.Errorf("the request failed: %v", err)
	}
}

// Nobody's session is waited for where nothing runs that could serve it.
func TestDrainOfWhatDoesNotRun(t *testing.T) {
	y := newYard(t, "", "web-1")
	a := y.at(t, "web-1", "1h")
	answered := y.slow(t, y.apps[0])
	a.drain.Down = true
	if err := ended(t, a.doing(t)); err != nil {
		t.Error(err)
	}
	y.apps[0].Release()
	if err := ended(t, answered); err != nil {
		t.Errorf("the request failed: %v", err)
	}
}

// A request that waits for this very server in HAProxy's queue, as a sticky
// one does, is a request that the server will get.
func TestDrainWaitsForTheQueue(t *testing.T) {
	y := newYard(t, "maxconn 1", "web-1")
	a := y.at(t, "web-1", "1h")
	first := y.slow(t, y.apps[0])
	second := make(chan error, 1)
	go func() { second <- get(t.Context(), sticky("web-1"), y.URL("web")+"/") }()
	within(t, "for the second request in the queue", func() bool { return queued(y.Command(t, "show stat web 4 -1")) })
	done := a.doing(t)
	a.heard.await(t, "web/web-1: 1 session and 1 queued left")
	y.apps[0].Release()
	for _, c := range []chan error{done, first, second} {
		if err := ended(t, c); err != nil {
			t.Error(err)
		}
	}
}

func queued(stat string) bool {
	_, row, _ := strings.Cut(stat, "\n")
	fields := strings.Split(row, ",")
	return len(fields) > 2 && fields[2] == "1"
}

// Sessions that never end hold a deployment up for as long as the block says.
func TestSessionsThatNeverEnd(t *testing.T) {
	y := newYard(t, "", "web-1")
	a := y.at(t, "web-1", "300ms")
	y.slow(t, y.apps[0])
	a.mustDrain(t)
	a.heard.expect(t, "web/web-1: 1 session left after 300ms; it goes on\n")
	if is := y.admin(t, "web-1"); is != draining {
		t.Errorf("admin state %d", is)
	}
	a.mustUndrain(t)
}

// What a reload leaves to the old worker is served to its end too: the new one
// knows nothing of it.
func TestDrainWaitsForTheOldWorker(t *testing.T) {
	y := newYard(t, "", "web-1", "web-2")
	for _, a := range y.apps {
		answered := y.slow(t, a)
		defer func() {
			if err := ended(t, answered); err != nil {
				t.Errorf("a request failed: %v", err)
			}
		}()
	}
	y.Reload(t)
	a := y.at(t, "web-1", "1h")
	done := a.doing(t)
	a.heard.await(t, "0 sessions, and 1 connection of workers from before a reload, left")
	y.apps[1].Release() // another server's sessions keep nobody waiting
	if is, err := a.driver.Done(t.Context(), a.drain); is || err != nil {
		t.Errorf("done %v, %v, while the old worker has a session", is, err)
	}
	y.apps[0].Release()
	if err := ended(t, done); err != nil {
		t.Error(err)
	}
}

// A reload in the middle of a drain that waits: with a state file the drain is
// never lost, without one it is set again; the sessions are waited for.
func TestReloadWhileDraining(t *testing.T) {
	for name, file := range map[string]bool{"with a state file": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			y := newYard(t, "", "web-1")
			y.StateFile = file
			y.Reload(t)
			a := y.at(t, "web-1", "1h")
			answered := y.slow(t, y.apps[0])
			done := a.doing(t)
			a.heard.await(t, "1 session left")
			y.Reload(t)
			if file && y.admin(t, "web-1") != draining {
				t.Error("the state file did not keep the drain")
			}
			y.Await(t, "web/web-1", func(s rig.ServerState) bool { return s.Admin == draining })
			select {
			case err := <-done:
				t.Fatalf("it has forgotten the session: %v", err)
			default:
			}
			y.apps[0].Release()
			if err := ended(t, done); err != nil {
				t.Error(err)
			}
			if err := ended(t, answered); err != nil {
				t.Error(err)
			}
			if lost := strings.Contains(a.heard.String(), "the drain was lost"); lost == file {
				t.Errorf("it says:\n%s", a.heard)
			}
			a.mustUndrain(t)
		})
	}
}

// HAProxy is started again, and then gone for good, while a drain waits.
func TestHAProxyEndsWhileDraining(t *testing.T) {
	y := newYard(t, "", "web-1")
	a := y.at(t, "web-1", "1h")
	y.slow(t, y.apps[0])
	done := a.doing(t)
	a.heard.await(t, "1 session left")
	y.Stop()
	err := ended(t, done)
	if err == nil || reconcile.BlameOf(err) != reconcile.OfHost || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("%v", err)
	}
	y.Start(t)
	if c, err := a.driver.Observe(t.Context(), a.drain); err != nil || c.Is != reconcile.Present {
		t.Errorf("the new one has it in rotation, and Observe says %v, %v", c, err)
	}
	a.mustDrain(t) // and out again
	if is := y.admin(t, "web-1"); is != draining {
		t.Errorf("admin state %d", is)
	}
}

// What a person has put in maintenance is out already, and stays the person's.
func TestMaintenanceIsThePersons(t *testing.T) {
	y := newYard(t, checked, "web-1")
	a := y.at(t, "web-1", "10s")
	y.set(t, "set server web/web-1 state maint")
	a.mustDrain(t)
	if is := y.admin(t, "web-1"); is != maintenance {
		t.Errorf("admin state %d", is)
	}
	a.heard.expect(t, "web/web-1 is in maintenance, and not by us: it is out already, and nothing is set")
	if is, err := a.driver.Done(t.Context(), a.drain); !is || err != nil {
		t.Errorf("done %v, %v", is, err)
	}
	a.mustUndrain(t)
	if is := y.admin(t, "web-1"); is != maintenance {
		t.Errorf("admin state %d", is)
	}
	a.heard.expect(t, "it stays out until somebody ends that. `set server web/web-1 state ready`, sent to "+y.Address()+", does")
	if is, err := a.driver.Done(t.Context(), a.undrain); !is || err != nil {
		t.Errorf("done %v, %v", is, err)
	}
}

// Unless the person asks for the service by its name.
func TestMaintenanceEndsWhenAsked(t *testing.T) {
	y := newYard(t, checked, "web-1")
	a := y.at(t, "web-1", "10s")
	y.set(t, "set server web/web-1 state maint")
	a.undrain.Asked = true
	a.mustUndrain(t)
	if is := y.admin(t, "web-1"); is != 0 {
		t.Errorf("admin state %d", is)
	}
}

func TestMaintenanceWhileDrained(t *testing.T) {
	y := newYard(t, checked, "web-1")
	a := y.at(t, "web-1", "10s")
	a.mustDrain(t)
	y.set(t, "set server web/web-1 state maint")
	a.mustUndrain(t)
	if is := y.admin(t, "web-1"); is != maintenance {
		t.Errorf("admin state %d", is)
	}
	a.heard.expect(t, "it stays out until somebody ends that")
}

// What holds a drain leaves everything alone that keeps the server out.
func TestHoldLeavesMaintenance(t *testing.T) {
	for _, admin := range []string{"1", "5", "2", "8", "16"} {
		t.Run("admin state "+admin, func(t *testing.T) {
			t.Parallel()
			looks := make(chan struct{}, 1000)
			path := fake(t, func(c net.Conn, command string) {
				if strings.HasPrefix(command, "set") {
					t.Error(command)
				}
				_, _ = c.Write([]byte(stateHeader + "3 web 1 web-1 127.0.0.1 0 " + admin + " 1 1 1 1 0 2 0 0 0 0 - 18083 - 0 0 - - 0\n\n"))
				looks <- struct{}{}
			})
			a := place(t, "unix://"+path, "web", "web-1", "1s")
			end := a.holding(t)
			for range 3 {
				<-looks
			}
			end()
		})
	}
}

// A weight of 0 is a person's too: our drain goes, the weight stays.
func TestWeightIsThePersons(t *testing.T) {
	y := newYard(t, "", "web-1")
	a := y.at(t, "web-1", "10s")
	y.set(t, "set server web/web-1 weight 0")
	a.mustDrain(t)
	a.mustUndrain(t)
	if is := y.admin(t, "web-1"); is != 0 {
		t.Errorf("admin state %d", is)
	}
	a.heard.expect(t, "until somebody sends `set server web/web-1 weight 100%` to "+y.Address())
}

// A server that tracks another one drains with it, which is not ours to end.
func TestDrainOfTheTrackedServer(t *testing.T) {
	y := &yard{apps: []*app{startApp(t, "web-1")}}
	other := backendOf(y.apps, checked)
	other.Name = "other"
	y.Proxy = rig.HAProxy(t, backendOf(y.apps, "track other/web-1"), other)
	a := y.at(t, "web-1", "10s")
	y.set(t, "set server other/web-1 state drain")
	a.mustDrain(t)
	a.mustUndrain(t)
	if is := y.Servers(t)["other/web-1"].Admin; is != draining {
		t.Errorf("admin state of the tracked one %d", is)
	}
	a.heard.expect(t, "drains with the server that it tracks, and not by us: it stays out")
}

// A server returns when HAProxy uses it, not when it is told to.
func TestUndrainWaitsUntilUp(t *testing.T) {
	y := newYard(t, "check inter 50ms fall 1 rise 3", "web-1")
	a := y.at(t, "web-1", "1h")
	a.mustDrain(t)
	y.apps[0].stop()
	y.Await(t, "web/web-1", func(s rig.ServerState) bool { return s.Op == 0 })
	done := make(chan error, 1)
	go func() { done <- a.driver.Do(bounded(t), a.undrain) }()
	a.heard.await(t, "web/web-1 is ready; waiting at most 1h")
	y.apps[0].start(t)
	if err := ended(t, done); err != nil {
		t.Fatal(err)
	}
	if s := y.Servers(t)["web/web-1"]; s.Admin != 0 || s.Op != 2 {
		t.Errorf("%+v", s)
	}
}

// One that HAProxy does not find healthy, though we do, serves nobody: what ran
// before comes back.
func TestUndrainOfWhatDoesNotComeUp(t *testing.T) {
	y := newYard(t, checked, "web-1")
	a := y.at(t, "web-1", "300ms")
	a.mustDrain(t)
	y.apps[0].stop()
	y.Await(t, "web/web-1", func(s rig.ServerState) bool { return s.Op == 0 })
	err := a.driver.Do(bounded(t), a.undrain)
	if err == nil || reconcile.BlameOf(err) != reconcile.OfRelease ||
		!strings.Contains(err.Error(), "does not count it as up within 300ms: DOWN, L4CON") {
		t.Fatalf("%v", err)
	}
	if is, err := a.driver.Done(t.Context(), a.undrain); is || err != nil {
		t.Errorf("done %v, %v, though it is down", is, err)
	}
	if is := y.admin(t, "web-1"); is != 0 {
		t.Errorf("admin state %d: it could not come back by itself", is)
	}
	y.apps[0].start(t)
	y.Await(t, "web/web-1", func(s rig.ServerState) bool { return s.Op == 2 })
	if is, err := a.driver.Done(t.Context(), a.undrain); !is || err != nil {
		t.Errorf("done %v, %v", is, err)
	}
}

// Between drain and undrain a reload must not send anybody to the server.
func TestHold(t *testing.T) {
	y := newYard(t, "", "web-1")
	a := y.at(t, "web-1", "10s")
	a.mustDrain(t)
	end := a.holding(t)
	for range 2 {
		y.Reload(t)
		y.Await(t, "web/web-1", func(s rig.ServerState) bool { return s.Admin == draining })
	}
	a.heard.await(t, "web/web-1: the drain was lost, as by a reload of HAProxy, and is set again\n")

	y.Stop()
	a.heard.await(t, "it cannot be seen whether it still is")
	y.Start(t)
	y.Await(t, "web/web-1", func(s rig.ServerState) bool { return s.Admin == draining })
	end()
	if n := strings.Count(a.heard.String(), "cannot be seen"); n != 1 {
		t.Errorf("it said %d times that HAProxy was gone:\n%s", n, a.heard)
	}
	a.mustUndrain(t) // and nobody drains it again
	if is := y.admin(t, "web-1"); is != 0 {
		t.Errorf("admin state %d", is)
	}
}

// The state file keeps the drain through a reload: there is nothing to put back.
func TestHoldWithAStateFile(t *testing.T) {
	y := newYard(t, "", "web-1")
	y.StateFile = true
	y.Reload(t)
	a := y.at(t, "web-1", "10s")
	a.mustDrain(t)
	a.holding(t)
	for range 3 {
		y.Reload(t)
		if is := y.admin(t, "web-1"); is != draining {
			t.Errorf("admin state %d", is)
		}
	}
	if a.heard.String() != "" {
		t.Errorf("it says:\n%s", a.heard)
	}
}

// A backend that a reload took away is said at once, not waited for.
func TestReloadWithoutTheServer(t *testing.T) {
	y := newYard(t, "", "web-1", "web-2")
	a := y.at(t, "web-1", "1h")
	y.slow(t, y.apps[0])
	done := a.doing(t)
	a.heard.await(t, "1 session left")
	y.Backends[0].Servers = y.Backends[0].Servers[1:]
	y.Reload(t)
	err := ended(t, done)
	if err == nil || reconcile.BlameOf(err) != reconcile.OfHost || !strings.Contains(err.Error(), `server "web-1" is unknown to backend "web"`) {
		t.Errorf("%v", err)
	}
}

// A place that the declaration has left, and provisioning taken away, keeps no
// plan waiting.
func TestUndrainOfAPlaceThatIsGone(t *testing.T) {
	y := newYard(t, "", "web-1", "web-2")
	a := y.at(t, "web-1", "1h")
	a.mustDrain(t)
	y.Backends[0].Servers = y.Backends[0].Servers[1:]
	y.Reload(t)
	if err := a.driver.Do(bounded(t), a.undrain); err == nil {
		t.Error("a place that is declared is gone, and nothing is said")
	}
	gone := a.undrain
	gone.Action = reconcile.Remove
	if err := a.driver.Do(bounded(t), gone); err != nil {
		t.Error(err)
	}
	if done, err := a.driver.Done(bounded(t), gone); err != nil || !done {
		t.Errorf("done %v, %v", done, err)
	}
	a.heard.await(t, "is gone, and not declared any more")
}

// Every question has an end, whatever answers.
func TestHangingSocket(t *testing.T) {
	y := newYard(t, "", "web-1")
	a := y.at(t, "web-1", "300ms")
	a.mustDrain(t)
	y.Signal(syscall.SIGSTOP)
	defer y.Signal(syscall.SIGCONT)
	for _, s := range []reconcile.Step{a.drain, a.undrain} {
		if err := a.driver.Do(bounded(t), s); err == nil || reconcile.BlameOf(err) != reconcile.OfHost {
			t.Errorf("%v: %v", s.Phase, err)
		}
		if _, err := a.driver.Done(bounded(t), s); err == nil {
			t.Errorf("%v: done is known", s.Phase)
		}
	}
}

// A success that changes nothing does not keep it going for ever.
func TestSuccessThatDoesNotHold(t *testing.T) {
	path := fake(t, liar)
	b := drivertest.Block(t, "drain", "haproxy", map[string]any{"address": "unix://" + path, "backend": "web", "server": "web-1", "timeout": "50ms"})
	a := place(t, "unix://"+path, "web", "web-1", "50ms")
	err := a.driver.Do(bounded(t), drivertest.Step(reconcile.Drain, b))
	if err == nil || reconcile.BlameOf(err) != reconcile.OfHost || !strings.Contains(err.Error(), "does not keep to it") {
		t.Errorf("%v", err)
	}
}

// liar says yes to everything, and that the server is in rotation.
func liar(c net.Conn, command string) {
	answer := "\n"
	switch {
	case strings.HasPrefix(command, "show servers state"):
		answer = stateHeader + "3 web 1 web-1 127.0.0.1 2 0 1 1 1 1 0 2 0 0 0 0 - 18083 - 0 0 - - 0\n\n"
	case strings.HasPrefix(command, "show stat"):
		answer = "# pxname,svname,qcur,scur,status\nweb,web-1,0,0,UP\n\n"
	}
	_, _ = c.Write([]byte(answer))
}

const stateHeader = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight srv_time_since_last_change" +
	" srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state bk_f_forced_id srv_f_forced_id srv_fqdn srv_port" +
	" srvrecord srv_use_ssl srv_check_port srv_check_addr srv_agent_addr srv_agent_port\n"
