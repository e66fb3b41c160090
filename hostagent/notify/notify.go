// Package notify tells systemd how the agent is (sd_notify): ready, reloading,
// stopping, what it does, and that it lives. Without $NOTIFY_SOCKET all of it
// does nothing. The protocol is one datagram of NAME=value lines, too little
// to take a dependency for.
package notify

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const maxStatus = 1024

// Notifier sends to one socket; the zero value and nil send nothing.
type Notifier struct {
	socket   string
	watchdog time.Duration
}

// FromEnv reads $NOTIFY_SOCKET, $WATCHDOG_USEC and $WATCHDOG_PID through
// getenv. The caller unsets them, so that no child takes them for its own.
func FromEnv(getenv func(string) string) *Notifier {
	n := &Notifier{socket: getenv("NOTIFY_SOCKET")}
	if pid := getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return n // meant for another process
	}
	if usec, err := strconv.ParseInt(getenv("WATCHDOG_USEC"), 10, 64); err == nil && usec > 0 && usec < int64(24*time.Hour/time.Microsecond) {
		n.watchdog = time.Duration(usec) * time.Microsecond
	}
	return n
}

// Variables are what FromEnv reads.
func Variables() []string { return []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} }

// Ready says that start-up, or a reload, is over.
func (n *Notifier) Ready() error { return n.send("READY=1") }

// Reloading says that the configuration is read again; Ready ends it.
func (n *Notifier) Reloading() error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return err
	}
	return n.send(fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", now.Nano()/1000))
}

// Stopping says that the agent ends.
func (n *Notifier) Stopping() error { return n.send("STOPPING=1") }

// Extend asks for more time to stop, or to start, than the unit allows: for at
// least so long from now.
func (n *Notifier) Extend(d time.Duration) error {
	return n.send(fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", d.Microseconds()))
}

// Status is the one line that systemctl status shows.
func (n *Notifier) Status(line string) error {
	line = strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' ' // a newline would begin another assignment
		}
		return r
	}, line)
	return n.send("STATUS=" + line[:min(len(line), maxStatus)])
}

// Watchdog pings at half the time that systemd allows, for as long as alive
// returns nil, until ctx ends. If the agent hangs, alive must say so, and
// systemd ends and starts it again. Without a watchdog it returns at once.
func (n *Notifier) Watchdog(ctx context.Context, alive func() error) {
	if n == nil || n.socket == "" || n.watchdog == 0 {
		return
	}
	tick := time.NewTicker(n.watchdog / 2)
	defer tick.Stop()
	for {
		if err := alive(); err == nil {
			_ = n.send("WATCHDOG=1")
		} else {
			_ = n.Status("not alive: " + err.Error())
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (n *Notifier) send(state string) error {
	if n == nil || n.socket == "" {
		return nil
	}
	name := n.socket
	if strings.HasPrefix(name, "@") {
		name = "\x00" + name[1:] // the abstract namespace
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("tell systemd through %s: %w", n.socket, err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte(state)); err != nil {
		return fmt.Errorf("tell systemd through %s: %w", n.socket, err)
	}
	return nil
}
