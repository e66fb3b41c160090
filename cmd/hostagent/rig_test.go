package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"drydock/reconcile"
)

// rig is one host with a real repository, real artifacts and a real process.
type rig struct {
	t       testing.TB
	dir     string
	extra   string   // more lines of the service block
	env     []string // of the agent
	version string
	digests map[string]string
}

// patience is how long anything in a rig may take before it counts as hung.
const patience = 60 * time.Second

func newRig(t testing.TB, extra string) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), extra: extra, digests: map[string]string{}}
	for _, d := range []string{"state", "artifacts", "srv", "work/prod"} {
		must(t, os.MkdirAll(r.path(d), 0o755))
	}
	must(t, exec.Command("git", "init", "-q", "--bare", "-b", "main", r.path("repo.git")).Run())
	must(t, os.WriteFile(r.path("host.hcl"), []byte(fmt.Sprintf(`
host { name = "web-1" }
environment = "prod"
source { url = %q }
state = %q
`, r.path("repo.git"), r.path("state"))), 0o644))
	t.Cleanup(r.stopService)
	return r
}

func (r *rig) path(p string) string { return filepath.Join(r.dir, p) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// git works in the agent's own repository: a push is ten more processes, and
// the crash matrix makes hundreds of commits.
func (r *rig) git(args ...string) {
	r.t.Helper()
	cmd := exec.Command("git", append([]string{"--git-dir", r.path("repo.git"), "--work-tree", r.path("work"),
		"-c", "gc.auto=0", "-c", "maintenance.auto=false", "-c", "user.name=Robot", "-c", "user.email=robot@acme.example"}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		r.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
}

// release packs a program that answers with its version until it is told to
// end, and returns the archive's digest. A script may replace the program.
func (r *rig) release(version, script string) string {
	r.t.Helper()
	if d := r.digests[version]; d != "" {
		return d
	}
	if script == "" {
		// In one step: who asks while it is written must not hear nothing.
		script = fmt.Sprintf("#!/bin/sh\necho %s >%[2]s.$$\nmv %[2]s.$$ %[2]s\nexec sleep 1000\n", version, r.path("answer"))
	}
	var buf bytes.Buffer
	zw := gzip.NewWriter(&buf)
	tw := tar.NewWriter(zw)
	must(r.t, tw.WriteHeader(&tar.Header{Name: "bin/", Typeflag: tar.TypeDir, Mode: 0o755}))
	must(r.t, tw.WriteHeader(&tar.Header{Name: "bin/web", Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(script))}))
	_, err := tw.Write([]byte(script))
	must(r.t, err)
	must(r.t, tw.Close())
	must(r.t, zw.Close())
	must(r.t, os.WriteFile(r.path("artifacts/web-"+version+".tar.gz"), buf.Bytes(), 0o644))
	sum := sha256.Sum256(buf.Bytes())
	r.digests[version] = "sha256:" + hex.EncodeToString(sum[:])
	return r.digests[version]
}

// bump commits a version: the merge is the deployment.
func (r *rig) bump(version string) {
	r.t.Helper()
	r.version = version
	r.declare(r.declaration(version))
}

func (r *rig) declaration(version string) string {
	r.t.Helper()
	return fmt.Sprintf(`
service "web" {
  hosts = {}
  release {
    version = %q
    digest  = %q
  }
  artifact {
    source = "file://%s/web-${release.version}.tar.gz"
  }
  drain "file" {
    path = "%s"
    wait = "1ms"
  }
  install "archive" {
    path = "%s"
  }
  start "process" {
    command      = ["bin/web"]
    stop_timeout = "5s"
  }
  check "command" {
    command  = ["/bin/grep", "-qx", release.version, "%s"]
    interval = "10ms"
  }
  rollout {
    min_healthy_time = "20ms"
    healthy_deadline = "30s"
  }
%s
}
`, version, r.release(version, ""), r.path("artifacts"), r.path("rotation"), r.path("srv"), r.path("answer"), r.extra)
}

func (r *rig) declare(hcl string) {
	r.t.Helper()
	must(r.t, os.WriteFile(r.path("work/prod/web.hcl"), []byte(hcl), 0o644))
	r.git("add", "-A")
	r.git("commit", "-q", "--allow-empty", "-m", "web "+r.version)
}

// agent prepares one hostagent command.
func (r *rig) agent(args ...string) *exec.Cmd {
	r.t.Helper()
	cmd := exec.Command(agentBinary(r.t), append(args, "--config", r.path("host.hcl"))...)
	cmd.Env = append(append(os.Environ(), asAgent+"=1"), r.env...)
	return cmd
}

// run runs a hostagent command and returns stdout, stderr and its exit code;
// -1 means that a signal ended it.
func (r *rig) run(args ...string) (string, string, int) {
	r.t.Helper()
	return r.finish(r.agent(args...))
}

func (r *rig) finish(cmd *exec.Cmd) (string, string, int) {
	r.t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.WaitDelay = time.Second
	must(r.t, cmd.Start())
	hung := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	err := cmd.Wait()
	if !hung.Stop() {
		r.t.Fatalf("%v hung\n%s%s", cmd.Args, out.String(), errs.String())
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		r.t.Fatalf("%v: %v", cmd.Args, err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// pass as killable says.
func (r *rig) pass(env ...string) (string, int) {
	r.t.Helper()
	r.env = env
	defer func() { r.env = nil }()
	out, errs, code := r.run("once")
	return out + errs, code
}

// once makes a pass and wants its exit code.
func (r *rig) once(code int) {
	r.t.Helper()
	if out, errs, got := r.run("once"); got != code {
		r.t.Fatalf("once: exit %d, want %d\n%s%s", got, code, out, errs)
	}
}

func (r *rig) status() reconcile.HostStatus {
	r.t.Helper()
	out, errs, code := r.run("status", "--output", "json")
	if code != 0 {
		r.t.Fatalf("status: exit %d\n%s", code, errs)
	}
	var st reconcile.HostStatus
	must(r.t, json.Unmarshal([]byte(out), &st))
	return st
}

// serves fails unless the wanted version answers and is in rotation.
func (r *rig) serves(version string) {
	r.t.Helper()
	got, err := os.ReadFile(r.path("answer"))
	must(r.t, err)
	if strings.TrimSpace(string(got)) != version {
		r.t.Fatalf("%s answers, want %s", strings.TrimSpace(string(got)), version)
	}
	if _, err := os.Stat(r.path("rotation")); err != nil {
		r.t.Fatalf("out of rotation: %v", err)
	}
}

// stopService ends what start "process" left running, which outlives the agent
// on purpose.
func (r *rig) stopService() {
	must(r.t, os.WriteFile(r.path("work/prod/web.hcl"), []byte(`removed "web" { hosts = {} }`), 0o644))
	r.env = nil
	r.git("add", "-A")
	r.git("commit", "-q", "--allow-empty", "-m", "removed")
	if out, errs, code := r.run("once"); code != 0 {
		r.t.Errorf("removal: exit %d\n%s%s", code, out, errs)
	}
}

// agentBinary is this test binary, built again without the race detector: the
// crash matrix starts it a thousand times, and what it races with is a kill.
// (The scripts run the one with the detector.)
func agentBinary(t testing.TB) string {
	t.Helper()
	path, err := plainBinary()
	must(t, err)
	return path
}

var plainBinary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(os.Getenv(builtIn), "hostagent.test")
	if out, err := exec.Command("go", "test", "-c", "-o", path, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the agent: %w\n%s", err, out)
	}
	return path, nil
})
