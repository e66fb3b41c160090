package notify

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func listen(t *testing.T, name string) (recv func() string) {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: strings.Replace(name, "@", "\x00", 1), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return func() string {
		t.Helper()
		buf := make([]byte, 4096)
		_ = conn.SetReadDeadline(time.Now().Add(30 * time.Second))
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		return string(buf[:n])
	}
}

func env(m map[string]string) func(string) string { return func(k string) string { return m[k] } }

func TestMessages(t *testing.T) {
	for _, name := range []string{filepath.Join(t.TempDir(), "notify"), fmt.Sprintf("@drydock-test-%d", os.Getpid())} {
		recv := listen(t, name)
		n := FromEnv(env(map[string]string{"NOTIFY_SOCKET": name}))
		for _, c := range []struct {
			send func() error
			want string
		}{
			{n.Ready, "READY=1"},
			{n.Reloading, "RELOADING=1\nMONOTONIC_USEC="},
			{n.Stopping, "STOPPING=1"},
			{func() error { return n.Status("all well\nREADY=1") }, "STATUS=all well READY=1"},
		} {
			if err := c.send(); err != nil {
				t.Fatal(err)
			}
			if got := recv(); !strings.HasPrefix(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		}
	}
}

func TestWatchdogPingsOnlyWhileAlive(t *testing.T) {
	name := filepath.Join(t.TempDir(), "notify")
	recv := listen(t, name)
	n := FromEnv(env(map[string]string{"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "2000", "WATCHDOG_PID": fmt.Sprint(os.Getpid())}))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	hung := make(chan struct{})
	go func() {
		defer close(done)
		n.Watchdog(ctx, func() error {
			select {
			case <-hung:
				return errors.New("no pass for an hour")
			default:
				return nil
			}
		})
	}()
	for range 3 {
		if got := recv(); got != "WATCHDOG=1" {
			t.Errorf("got %q", got)
		}
	}
	close(hung)
	for n := 0; recv() == "WATCHDOG=1"; n++ { // those under way
		if n > 500 {
			cancel()
			t.Fatal("a hung agent is reported alive")
		}
	}
	for range 3 {
		if got := recv(); got != "STATUS=not alive: no pass for an hour" {
			t.Errorf("a hung agent sent %q", got)
		}
	}
	cancel()
	<-done
}

func TestSilentWithoutSystemd(t *testing.T) {
	var none *Notifier
	for _, n := range []*Notifier{none, FromEnv(env(nil)),
		FromEnv(env(map[string]string{"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}))} {
		if err := errors.Join(n.Ready(), n.Reloading(), n.Stopping(), n.Status("x")); err != nil {
			t.Error(err)
		}
		n.Watchdog(t.Context(), func() error { t.Error("asked"); return nil })
	}
	if err := FromEnv(env(map[string]string{"NOTIFY_SOCKET": "/nowhere/notify"})).Ready(); err == nil {
		t.Error("a dead socket is no error")
	}
}
