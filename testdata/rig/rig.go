// Package rig starts the real things that tests need around Drydock: systemd
// hosts, load balancers and databases, each from Debian's packages, on loopback
// or in namespaces of their own, and gone when the test ends. One file a
// technology.
package rig

import (
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
)

// need finds a program, also where Debian keeps those of administrators and of
// PostgreSQL; without it the test is skipped, with what installs it.
func need(t testing.TB, program, debian string) string {
	t.Helper()
	for _, dir := range []string{"", "/usr/sbin/", "/sbin/", "/usr/lib/postgresql/15/bin/"} {
		if path, err := exec.LookPath(dir + program); err == nil && !strings.HasPrefix(path, "/usr/local/") {
			return path
		}
	}
	t.Skipf("needs %s: apt-get install %s", program, debian)
	return ""
}

// needRoot skips a test whose real part can only be had by root.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: run the test as root")
	}
}

// launch starts a process from a thread that lives as long as it does: the
// signal that ends it with the test's process (Pdeathsig) comes when the thread
// ends that started it. The channel is closed when the process is gone.
func launch(t testing.TB, cmd *exec.Cmd) <-chan struct{} {
	t.Helper()
	started, ended := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	return ended
}
