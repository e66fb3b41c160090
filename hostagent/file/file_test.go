package file_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"drydock/hostagent/drivertest"
	"drydock/hostagent/file"
	"drydock/reconcile"
)

func drainCase(t *testing.T, path, wait string) drivertest.Case {
	b := drivertest.Block(t, "drain", "file", map[string]any{"path": path, "wait": wait, "timeout": "30s"})
	back := drivertest.Step(reconcile.Undrain, b)
	return drivertest.Case{
		New: func(env reconcile.Env) reconcile.Driver { return file.New(env) },
		Env: reconcile.Env{StateDir: filepath.Join(t.TempDir(), "state")}, Step: drivertest.Step(reconcile.Drain, b), Back: &back,
		Before: reconcile.Present, After: reconcile.Absent, Watched: []string{filepath.Dir(path)},
	}
}

func inRotation(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "in-rotation")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDriver(t *testing.T) {
	drivertest.Run(t, drivertest.Suite{
		Make:    func(t *testing.T) drivertest.Case { return drainCase(t, inRotation(t), "1ms") },
		Hanging: func(t *testing.T) drivertest.Case { return drainCase(t, inRotation(t), "1h") },
		Faults: map[string]drivertest.Fault{
			"a directory": {Make: func(t *testing.T) drivertest.Case { return drainCase(t, t.TempDir(), "1ms") }, Blame: reconcile.OfHost},
			"no directory": {Make: func(t *testing.T) drivertest.Case {
				c := drainCase(t, "/no/such/directory/file", "1ms")
				c.Step = *c.Back
				return c
			}, Blame: reconcile.OfHost},
		},
		Config: file.Config{}, Reference: "service.drain.file",
	})
}

func TestUndrainMakesAnEmptyReadableFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	c := drainCase(t, path, "0s")
	if err := c.New(c.Env).Do(context.Background(), *c.Back); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Size() != 0 || info.Mode() != 0o644 {
		t.Errorf("%v, %v", info, err)
	}
}

// The service is not touched before the load balancer had its time to notice.
func TestDrainWaits(t *testing.T) {
	c := drainCase(t, inRotation(t), "5s")
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		if err := c.New(c.Env).Do(t.Context(), c.Step); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("waited %v", took)
		}
		dead := c.Step
		dead.Down = true
		began = time.Now()
		if err := c.New(c.Env).Do(t.Context(), dead); err != nil || time.Since(began) != 0 {
			t.Errorf("waited %v for what does not run: %v", time.Since(began), err)
		}
	})
}

// An agent that was killed between removal and the end of the wait waits again.
func TestDrainCutOffIsNotDone(t *testing.T) {
	path := inRotation(t)
	c := drainCase(t, path, "1h")
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := c.New(c.Env).Do(ctx, c.Step); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("%v", err)
		}
	})
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Fatal("the file is still there")
	}
	if done, err := c.New(c.Env).Done(context.Background(), c.Step); done || err != nil {
		t.Errorf("done %v, %v, though it has not waited", done, err)
	}
}

// The directory that releases stand below is made by the service's own install:
// before the first one it is no lack. Any other is provisioning's.
func TestOwnInstallMakesTheDirectory(t *testing.T) {
	srv := filepath.Join(t.TempDir(), "hello")
	install := drivertest.Block(t, "install", "archive", map[string]any{"path": srv})
	prepare := func(path string) error {
		c := drainCase(t, path, "1ms")
		c.Step.Action = reconcile.Update // as check-host asks
		c.Step.Target.Install = &install
		return file.New(c.Env).Prepare(t.Context(), c.Step)
	}
	if err := prepare(filepath.Join(srv, "in-rotation")); err != nil {
		t.Errorf("%v, though the install makes %s", err, srv)
	}
	if err := prepare(filepath.Join(srv, "health", "in-rotation")); err == nil {
		t.Error("a directory that nobody makes is no lack")
	}
}
