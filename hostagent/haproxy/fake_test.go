package haproxy_test

import (
	"bufio"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// fake is a socket that answers each command as no HAProxy in good order does.
func fake(t *testing.T, answer func(c net.Conn, command string)) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "fake")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				if command, err := bufio.NewReader(c).ReadString('\n'); err == nil {
					answer(c, command)
				}
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		all.Wait()
		os.RemoveAll(dir)
	})
	return path
}

// flood writes until nobody reads any more.
func flood(c net.Conn, _ string) {
	line := []byte(strings.Repeat("x", 1<<16) + "\n")
	for {
		if _, err := c.Write(line); err != nil {
			return
		}
	}
}

// refusing is a socket whose process has died.
func refusing(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	return "unix://" + path
}

func refusingTCP(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "tcp://" + l.Addr().String()
}

// asNobody runs f from a thread that is nobody's, who may enter dir but open
// nothing in it. The thread ends with it.
func asNobody(t *testing.T, dir string, f func() error) error {
	t.Helper()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked
		if err := unix.Setfsuid(65534); err != nil {
			result <- err
			return
		}
		result <- f()
	}()
	return <-result
}
