package rig

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// insideEnv is set for a test's own binary where it runs in a host.
const insideEnv = "DRYDOCK_RIG_INSIDE"

// testBinary is where a host has the binary of the tests that run in it.
const testBinary = "/usr/local/lib/drydock.test"

// Inside runs a test on a host itself, for drivers that act on the machine
// they are on:
//
//	func TestX(t *testing.T) {
//		if !rig.Inside(t, host) {
//			return // it ran in the host, and this test has its result
//		}
//		… // in the host, as its root
//	}
//
// Outside, it runs the test's own binary again, in the host, with this one test,
// fails t if it failed or did not run, and returns false. In the host it
// returns true. The host has none of the test's files but its binary.
func Inside(t *testing.T, host func(testing.TB) *Host) bool {
	t.Helper()
	if os.Getenv(insideEnv) == t.Name() {
		return true
	}
	h := host(t)
	h.copied.Do(func() { h.copyBinary(t) })
	patience := 10 * time.Minute
	if end, ok := t.Deadline(); ok {
		patience = time.Until(end) - 5*time.Second
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	only := "^" + strings.ReplaceAll(t.Name(), "/", "$/^") + "$"
	out, err := h.Run(ctx, "env", insideEnv+"="+t.Name(), "DRYDOCK_TEST_FULL="+os.Getenv("DRYDOCK_TEST_FULL"),
		testBinary, "-test.v", "-test.run", only, "-test.timeout", patience.String())
	// What the test said is shown with -v, or when it failed; a skip in there
	// counts as a failure, as nothing was tested.
	passed := strings.Contains(out, "--- PASS: "+t.Name()+" ") && !strings.Contains(out, "--- SKIP: "+t.Name()+" ")
	t.Logf("in %s:\n%s", h.Name(), out)
	if err != nil || !passed {
		t.Errorf("in %s it did not pass: %v", h.Name(), err)
	}
	return false
}

func (h *Host) copyBinary(t testing.TB) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	from, err := os.Open(self)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	path := filepath.Join(h.Root(), testBinary)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	to, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(to, from)
	if closed := to.Close(); err == nil {
		err = closed
	}
	if err != nil {
		t.Fatal(err)
	}
}
