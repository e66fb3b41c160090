package main

import (
	"bytes"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// heard is what a process wrote, readable while it writes.
type heard struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (h *heard) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.all.Write(p)
}

func (h *heard) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.all.String()
}

// TestWatchdogIsFedUntilTheLastPlanEnds: a new configuration waits for the
// plan that has begun, and that may take longer than systemd waits for a word.
func TestWatchdogIsFedUntilTheLastPlanEnds(t *testing.T) {
	r := newRig(t, "")
	r.extra = `
  run "gate" {
    before  = "start"
    command = ["/bin/sh", "-c", "touch $1; while ! test -e $2; do sleep 0.02; done", "sh", "` + r.path("held") + `", "` + r.path("open") + `"]
  }
`
	r.bump("1.0.0")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: r.path("notify"), Net: "unixgram"})
	must(t, err)
	defer socket.Close()
	var fed atomic.Int64
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := socket.Read(buf)
			if err != nil {
				return
			}
			if string(buf[:n]) == "WATCHDOG=1" {
				fed.Add(1)
			}
		}
	}()

	r.env = []string{"NOTIFY_SOCKET=" + r.path("notify"), "WATCHDOG_USEC=100000"}
	cmd := r.agent("run")
	var log heard
	cmd.Stderr = &log
	must(t, cmd.Start())
	defer func() {
		must(t, os.WriteFile(r.path("open"), nil, 0o644))
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}()
	until := func(what string, ok func() bool) {
		t.Helper()
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for began := time.Now(); !ok(); <-tick.C {
			if time.Since(began) > patience/2 {
				t.Fatalf("never: %s\n%s", what, log.String())
			}
		}
	}
	until("the plan stands at its gate", func() bool { _, err := os.Stat(r.path("held")); return err == nil })
	config, err := os.ReadFile(r.path("host.hcl"))
	must(t, err)
	must(t, os.WriteFile(r.path("host.hcl"), bytes.Replace(config, []byte("web-1"), []byte("web-9"), 1), 0o644))
	until("the new configuration was seen", func() bool { return strings.Contains(log.String(), "the configuration was changed") })
	// One more may have been under way; three have not.
	before := fed.Load()
	until("the watchdog is fed", func() bool { return fed.Load() >= before+3 })
	must(t, os.WriteFile(r.path("open"), nil, 0o644))
	until("the new configuration is in force", func() bool { return strings.Contains(log.String(), "host=web-9") })
}
