package binary

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"drydock/hostagent/drivertest"
	"drydock/reconcile"
	"drydock/spec"
)

// rig is a step that installs a file:// artifact as current/web.
func rig(t *testing.T, phase reconcile.Phase, name string) (reconcile.Env, reconcile.Step, string) {
	t.Helper()
	dir := t.TempDir()
	artifact := filepath.Join(dir, "web-1.0.0")
	if err := os.WriteFile(artifact, []byte("#!/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte("#!/bin/sh\n"))
	path := filepath.Join(dir, "srv")
	block := drivertest.Block(t, "install", "binary", map[string]any{"path": path, "name": name, "keep": 5, "user": "", "strip": 0, "timeout": "30s"})
	s := drivertest.Step(phase, block)
	s.Target.Release = spec.Release{Version: "1.0.0", Digest: "sha256:" + hex.EncodeToString(sum[:]), Attempt: 1}
	s.Target.Artifact = &spec.Artifact{Source: "file://" + artifact}
	return reconcile.Env{StateDir: filepath.Join(dir, "state")}, s, path
}

func newDriver(env reconcile.Env) reconcile.Driver { return New(env) }

func TestSuite(t *testing.T) {
	suite := func(phase reconcile.Phase) drivertest.Suite {
		return drivertest.Suite{Config: Config{}, Reference: "service.install.binary", Make: func(t *testing.T) drivertest.Case {
			env, s, path := rig(t, phase, "web")
			c := drivertest.Case{New: newDriver, Env: env, Step: s, Watched: []string{path}, Before: reconcile.Absent, After: reconcile.Absent}
			if phase == reconcile.Install {
				fetch := s
				fetch.Phase = reconcile.Fetch
				if err := New(env).Do(t.Context(), fetch); err != nil {
					t.Fatal(err)
				}
				c.After = reconcile.Present
			}
			return c
		}}
	}
	t.Run("fetch", func(t *testing.T) { drivertest.Run(t, suite(reconcile.Fetch)) })
	t.Run("install", func(t *testing.T) { drivertest.Run(t, suite(reconcile.Install)) })
}

func TestOneExecutableFile(t *testing.T) {
	env, s, path := rig(t, reconcile.Fetch, "web")
	d := New(env)
	for _, s.Phase = range []reconcile.Phase{reconcile.Fetch, reconcile.Install} {
		if err := d.Do(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(filepath.Join(path, "current/web"))
	if err != nil || info.Mode() != 0o755 {
		t.Fatalf("%v, %v", info, err)
	}
	if err := os.Chmod(filepath.Join(path, "current/web"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := d.Observe(t.Context(), s)
	if err != nil || c.Is != reconcile.Altered || c.Detail != "web: mode is 0600 instead of 0755" {
		t.Errorf("observed %+v, %v", c, err)
	}
}

func TestNameStaysInside(t *testing.T) {
	for _, name := range []string{"", ".", "..", "../web", "a/b", "/web"} {
		env, s, path := rig(t, reconcile.Fetch, name)
		err := New(env).Do(t.Context(), s)
		if err == nil || !strings.Contains(err.Error(), "one file name") {
			t.Errorf("%q: %v", name, err)
		}
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%q: it wrote something", name)
		}
	}
}
