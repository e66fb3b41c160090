package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"drydock/spec"
	"github.com/google/go-cmp/cmp"
)

// gitIn runs git for a test, the same everywhere.
func gitIn(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), gitTestEnv(dir)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func release(service, version string) string {
	return fmt.Sprintf("# %s is ours\nservice %q {\n  hosts = {}\n  release {\n    version = %q\n    digest  = \"sha256:%064d\"\n  }\n}\n", service, service, version, 0)
}

// newOrigin is a bare repository with these files.
func newOrigin(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	origin, work := filepath.Join(dir, "up.git"), filepath.Join(dir, "work")
	gitIn(t, dir, "init", "--quiet", "--bare", "--initial-branch=main", origin)
	gitIn(t, dir, "init", "--quiet", "--initial-branch=main", work)
	for name, content := range files {
		if err := replaceFile(filepath.Join(work, name), []byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	gitIn(t, work, "add", ".")
	gitIn(t, work, "commit", "--quiet", "--message=first")
	gitIn(t, work, "push", "--quiet", origin, "main")
	return origin
}

// drydock runs a command in the process of the test.
func drydock(ctx context.Context, args ...string) (stdout, stderr string, code int) {
	var out, err strings.Builder
	code = run(ctx, args, streams{&out, &err})
	return out.String(), err.String(), code
}

// Robots bump at the same bare repository at the same time, some of them the
// same service to the same version, some through a clone and some without one.
// Each lands, once, and no commit carries anybody else's work.
func TestRobotsPushAtTheSameTime(t *testing.T) {
	for _, kv := range gitTestEnv(t.TempDir()) {
		k, v, _ := strings.Cut(kv, "=")
		t.Setenv(k, v)
	}
	files := map[string]string{}
	for i := range 8 {
		files[fmt.Sprintf("staging/s%d.hcl", i)] = release(fmt.Sprintf("s%d", i), "1.0")
	}
	origin := newOrigin(t, files)

	var wg sync.WaitGroup
	digest := "sha256:" + strings.Repeat("a", 64)
	for i := range 12 { // s0 to s3 have two robots each
		service := fmt.Sprintf("s%d", i%8)
		where := []string{"--repo", origin}
		if i%2 == 0 {
			clone := filepath.Join(t.TempDir(), "clone")
			gitIn(t, t.TempDir(), "clone", "--quiet", origin, clone)
			where = []string{"-C", clone, "--push"}
		}
		wg.Go(func() {
			args := append([]string{"bump", service, "--env", "staging", "--version", "2.0", "--digest", digest}, where...)
			if _, stderr, code := drydock(t.Context(), args...); code != 0 {
				t.Errorf("robot %d: exit %d: %s", i, code, stderr)
			}
		})
	}
	wg.Wait()

	if n := gitIn(t, origin, "rev-list", "--count", "main"); n != "9" {
		t.Errorf("%s commits instead of the first and one a service", n)
	}
	for i := range 8 {
		service := fmt.Sprintf("s%d", i)
		path := "staging/" + service + ".hcl"
		want, err := spec.Bump([]byte(release(service, "1.0")), path, service, spec.Change{Version: "2.0", Digest: digest})
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(strings.TrimSpace(string(want)), gitIn(t, origin, "show", "main:"+path)); d != "" {
			t.Errorf("%s: %s", service, d)
		}
	}
	for line := range strings.Lines(gitIn(t, origin, "log", "--format=%x00%s", "--name-only", "main~8..main", "-z")) {
		for entry := range strings.SplitSeq(line, "\x00\x00") {
			subject, rest, ok := strings.Cut(strings.Trim(entry, "\x00\n"), "\x00")
			if !ok {
				continue
			}
			service, _, _ := strings.Cut(subject, " ")
			if got := strings.Trim(rest, "\x00\n"); got != "staging/"+service+".hcl" {
				t.Errorf("commit %q holds %q", subject, got)
			}
		}
	}
}

// The same clone may serve several robots of one machine.
func TestRobotsShareAClone(t *testing.T) {
	for _, kv := range gitTestEnv(t.TempDir()) {
		k, v, _ := strings.Cut(kv, "=")
		t.Setenv(k, v)
	}
	files := map[string]string{}
	for i := range 4 {
		files[fmt.Sprintf("staging/s%d.hcl", i)] = release(fmt.Sprintf("s%d", i), "1.0")
	}
	origin := newOrigin(t, files)
	clone := filepath.Join(t.TempDir(), "clone")
	gitIn(t, t.TempDir(), "clone", "--quiet", origin, clone)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			_, stderr, code := drydock(t.Context(), "bump", fmt.Sprintf("s%d", i), "-e", "staging", "--version", "2.0", "--digest", "sha256:"+strings.Repeat("a", 64), "-C", clone, "--push")
			if code != 0 {
				t.Errorf("robot %d: exit %d: %s", i, code, stderr)
			}
		})
	}
	wg.Wait()
	if n := gitIn(t, origin, "rev-list", "--count", "main"); n != "5" {
		t.Errorf("%s commits instead of 5", n)
	}
	if trees := gitIn(t, clone, "worktree", "list"); strings.Contains(trees, "drydock-work") {
		t.Errorf("left behind:\n%s", trees)
	}
}

// A push that arrived although its answer was lost is this run's own commit,
// and not one that somebody else made before.
func TestPushWhoseAnswerWasLost(t *testing.T) {
	for _, kv := range gitTestEnv(t.TempDir()) {
		k, v, _ := strings.Cut(kv, "=")
		t.Setenv(k, v)
	}
	origin := newOrigin(t, map[string]string{"staging/web.hcl": release("web", "1.0")})
	// A transport that takes the push and then dies, once.
	dir := t.TempDir()
	script := fmt.Sprintf("#!/bin/sh\ngit receive-pack \"$@\"\nif [ ! -e %[1]s/died ]; then touch %[1]s/died; exit 1; fi\n", dir)
	pack := filepath.Join(dir, "receive-pack")
	if err := os.WriteFile(pack, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	clone := filepath.Join(dir, "clone")
	gitIn(t, dir, "clone", "--quiet", origin, clone)
	gitIn(t, clone, "config", "remote.origin.receivepack", pack)
	stdout, stderr, code := drydock(t.Context(), "bump", "web", "-e", "staging", "--version", "2.0", "--digest", "sha256:"+strings.Repeat("a", 64), "-C", clone, "--push", "-o", "json")
	if code != 0 || !strings.Contains(stdout, `"changed": true`) || !strings.Contains(stdout, gitIn(t, origin, "rev-parse", "main")) {
		t.Errorf("exit %d: %s%s", code, stdout, stderr)
	}
	if _, err := os.Stat(filepath.Join(dir, "died")); err != nil {
		t.Error("the answer was not lost, so nothing was tested")
	}
	if n := gitIn(t, origin, "rev-list", "--count", "main"); n != "2" {
		t.Errorf("%s commits instead of 2", n)
	}
}
