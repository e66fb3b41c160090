package systemd_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"drydock/hostagent/systemd"
	"drydock/reconcile"
	"drydock/testdata/rig"
)

// socket listens, and gives each connection to serve.
func socket(t testing.TB, serve func(net.Conn)) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bus")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			all.Go(func() {
				defer c.Close()
				serve(c)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return "unix:path=" + path
}

// relay is a bus before the real one, that hangs up as soon as it hears word,
// so many times.
func relay(t testing.TB, to, word string, times int32) string {
	t.Helper()
	var heard atomic.Int32
	return socket(t, func(c net.Conn) {
		up, err := net.Dial("unix", strings.TrimPrefix(to, "unix:path="))
		if err != nil {
			return
		}
		defer up.Close()
		go func() { _, _ = io.Copy(c, up) }()
		buf := make([]byte, 64<<10)
		for {
			n, err := c.Read(buf)
			if err != nil || bytes.Contains(buf[:n], []byte(word)) && heard.Add(1) <= times {
				return
			}
			if _, err := up.Write(buf[:n]); err != nil {
				return
			}
		}
	})
}

// TestNoBus: a bus that is missing, refuses, is silent or stops in the middle
// of an answer is the host's fault, within a bound, and leaves nothing behind.
func TestNoBus(t *testing.T) {
	dead := filepath.Join(t.TempDir(), "dead")
	if l, err := net.Listen("unix", dead); err != nil {
		t.Fatal(err)
	} else {
		l.(*net.UnixListener).SetUnlinkOnClose(false)
		_ = l.Close()
	}
	for name, c := range map[string]struct{ address, says string }{
		"missing":  {"unix:path=" + filepath.Join(t.TempDir(), "none"), "no such file"},
		"refuses":  {"unix:path=" + dead, "refused"},
		"silent":   {socket(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }), "no answer within"},
		"hangs up": {socket(t, func(net.Conn) {}), ""},
		"half an answer": {socket(t, func(c net.Conn) {
			_, _ = c.Write([]byte("OK 0123"))
			_, _ = io.Copy(io.Discard, c)
		}), "no answer within"},
		"nonsense": {socket(t, func(c net.Conn) { _, _ = c.Write(bytes.Repeat([]byte("nonsense\r\n"), 100)) }), ""},
	} {
		t.Run(name, func(t *testing.T) {
			defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
			d := systemd.New(reconcile.Env{StateDir: t.TempDir()}, systemd.At(c.address), systemd.Within(300*time.Millisecond))
			defer d.Close()
			s := step(t, "web.service", "restart")
			ctx := within(t)
			_, done := d.Done(ctx, s)
			_, observed := d.Observe(ctx, s)
			for _, err := range []error{done, observed, d.Prepare(ctx, s), d.Do(ctx, s)} {
				if reconcile.BlameOf(err) != reconcile.OfHost || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "systemd") {
					t.Errorf("it blames the %v: %v", reconcile.BlameOf(err), err)
				}
			}
			ended, cancel := context.WithCancel(ctx)
			cancel()
			if err := d.Prepare(ended, s); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
}

// TestOneConnection: it is kept, made anew when it broke, and no goroutine is
// left when it is closed.
func TestOneConnection(t *testing.T) {
	h := host(t)
	unit := unitOf(t, h, simple)
	var mu sync.Mutex
	var made []net.Conn
	address := socket(t, func(c net.Conn) {
		up, err := net.Dial("unix", strings.TrimPrefix(h.Bus(), "unix:path="))
		if err != nil {
			return
		}
		mu.Lock()
		made = append(made, c)
		mu.Unlock()
		go func() { _, _ = io.Copy(c, up); _ = c.Close() }()
		_, _ = io.Copy(up, c)
		_ = up.Close()
	})
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	d := systemd.New(reconcile.Env{StateDir: t.TempDir()}, systemd.At(address))
	defer d.Close()
	s := step(t, unit, "restart")
	count := func() int { mu.Lock(); defer mu.Unlock(); return len(made) }
	for range 3 {
		if err := d.Do(within(t), s); err != nil {
			t.Fatal(err)
		}
	}
	if n := count(); n != 2 { // calls on the one, signals on the other
		t.Errorf("%d sockets", n)
	}
	mu.Lock()
	_ = made[0].Close()
	mu.Unlock()
	for range 3 { // whether or not it has noticed by now
		if c, err := d.Observe(within(t), s); err != nil || c.Is != reconcile.Present {
			t.Fatalf("%+v, %v", c, err)
		}
	}
	if n := count(); n != 4 {
		t.Errorf("%d sockets", n)
	}
}

// TestAskedAgain: a question that is cut off is put once more, and no oftener.
func TestAskedAgain(t *testing.T) {
	h := host(t)
	s := step(t, unitOf(t, h, simple), "restart")
	for times, ok := range map[int32]bool{1: true, 2: false} {
		d := systemd.New(reconcile.Env{StateDir: t.TempDir()}, systemd.At(relay(t, h.Bus(), "GetAll", times)))
		if c, err := d.Observe(within(t), s); (err == nil) != ok || ok && c.Is != reconcile.Absent || !ok && reconcile.BlameOf(err) != reconcile.OfHost {
			t.Errorf("cut off %d times: %+v, %v", times, c, err)
		}
		d.Close()
	}
}

// TestBusGoesAway runs in the host: D-Bus is stopped in the middle of a start,
// and what came of that is found out over systemd's own socket, as it is on a
// host that never had D-Bus.
func TestBusGoesAway(t *testing.T) {
	if !rig.Inside(t, func(t testing.TB) *rig.Host {
		h := rig.NewHost(t, rig.HostOptions{Name: "busless", Private: true})
		h.Unit(t, "slow.service", "[Service]\nType=notify\nNotifyAccess=all\nExecStart=sh -c 'while ! test -e /run/go; do sleep 0.05; done; systemd-notify --ready; exec sleep infinity'\n")
		h.Unit(t, "crash.service", "[Service]\nType=notify\nExecStart=sh -c 'echo no database; exit 3'\n")
		h.Unit(t, "unmet.service", "[Unit]\nConditionPathExists=/etc/web.conf\n"+simple)
		return h
	}) {
		return
	}
	systemctl := func(args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(within(t), "systemctl", args...).CombinedOutput()
		if err != nil {
			t.Fatalf("systemctl %v: %v: %s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	env := reconcile.Env{StateDir: t.TempDir()}
	v := systemd.New(env)
	defer v.Close()
	s := step(t, "slow.service", "restart")
	ended := make(chan error, 1)
	go func() { ended <- v.Do(within(t), s) }()
	until(t, "it is on its way", func() bool { return systemctl("show", "--value", "-p", "SubState", "slow") == "start" })
	systemctl("stop", "dbus.socket", "dbus.service")
	if err := os.WriteFile("/run/go", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	next := systemd.New(env) // which never knew D-Bus
	defer next.Close()
	if done, err := next.Done(within(t), s); !done || err != nil {
		t.Errorf("done: %v, %v", done, err)
	}
	if err := next.Do(within(t), revised(s, "2")); err != nil {
		t.Error(err)
	}
	if c, err := next.Observe(within(t), s); err != nil || c.Is != reconcile.Present {
		t.Errorf("%+v, %v", c, err)
	}
	if err := next.Do(within(t), step(t, "crash.service", "restart")); reconcile.BlameOf(err) != reconcile.OfRelease || !strings.Contains(err.Error(), "no database") {
		t.Errorf("a crash: %v", err)
	}
	if err := next.Do(within(t), step(t, "unmet.service", "restart")); reconcile.BlameOf(err) != reconcile.OfHost || !strings.Contains(err.Error(), "condition") {
		t.Errorf("an unmet condition: %v", err)
	}
	if err := next.Do(within(t), *removal(s)); err != nil {
		t.Error(err)
	}
	// And with systemd's own socket gone too, it is the host's.
	if err := os.Remove("/run/systemd/private"); err != nil {
		t.Fatal(err)
	}
	next.Close()
	if _, err := next.Observe(within(t), s); reconcile.BlameOf(err) != reconcile.OfHost || !strings.Contains(err.Error(), "apt-get install dbus") {
		t.Errorf("%v", err)
	}
}

// TestSystemdHangs: PID 1 answers nobody. Every call ends, and blames the host.
func TestSystemdHangs(t *testing.T) {
	h := rig.NewHost(t, rig.HostOptions{Name: "hung", Private: true})
	d := agentOf(t, h)
	s := step(t, unitOf(t, h, simple), "restart")
	warm := systemd.New(d.env, systemd.At(h.Bus()), systemd.Within(500*time.Millisecond))
	defer warm.Close()
	if err := warm.Do(within(t), s); err != nil {
		t.Fatal(err)
	}
	h.Signal(t, syscall.SIGSTOP)
	for name, v := range map[string]*systemd.Driver{
		"a connection that was there": warm,
		"a new connection":            systemd.New(d.env, systemd.At(h.Bus()), systemd.Within(500*time.Millisecond)),
	} {
		_, err := v.Observe(within(t), s)
		for _, err := range []error{err, v.Prepare(within(t), s), v.Do(within(t), s)} {
			if reconcile.BlameOf(err) != reconcile.OfHost || !strings.Contains(err.Error(), "answer") {
				t.Errorf("%s: it blames the %v: %v", name, reconcile.BlameOf(err), err)
			}
		}
		v.Close()
	}
	h.Signal(t, syscall.SIGCONT)
	if err := warm.Do(within(t), s); err != nil {
		t.Errorf("after it came back: %v", err)
	}
}

// TestReboot: what was done before a boot is not done after it, unless the
// host started the unit itself.
func TestReboot(t *testing.T) {
	h := rig.NewHost(t, rig.HostOptions{Name: "reboots", Private: true})
	d := agentOf(t, h)
	s := step(t, unitOf(t, h, simple), "restart")
	other := step(t, unitOf(t, h, simple+"[Install]\nWantedBy=multi-user.target\n"), "restart")
	other.Service = "other"
	h.Must(t, "systemctl", "enable", unitName(other))
	v := d.next(d.env)
	for _, s := range []reconcile.Step{s, other} {
		if err := v.Do(within(t), s); err != nil {
			t.Fatal(err)
		}
	}
	h.Kill()
	h.Boot(t)
	mustBe(t, d, s, false)
	mustBe(t, d, other, true)
	if c, err := d.next(d.env).Observe(within(t), s); err != nil || c.Is != reconcile.Absent {
		t.Errorf("%+v, %v", c, err)
	}
}
