package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"drydock/testdata/rig"
)

// TestApproversPushAtTheSameTime: everybody lands, and whoever has to push again
// signs no second time for the same statement; but is shown the service again if
// it has become another.
func TestApproversPushAtTheSameTime(t *testing.T) {
	for _, kv := range gitTestEnv(t.TempDir()) {
		k, v, _ := strings.Cut(kv, "=")
		t.Setenv(k, v)
	}
	t.Setenv("SSH_AUTH_SOCK", "")
	declared := strings.ReplaceAll(release("web", "1.0"), strings.Repeat("0", 64), strings.Repeat("1", 64))
	declared = strings.Replace(declared, "  hosts = {}\n", "  hosts = {}\n  install \"archive\" {\n    path = \"/srv/web\"\n  }\n  artifact {\n    source = \"https://a.example/web.tar.gz\"\n  }\n", 1)
	origin := newOrigin(t, map[string]string{"prod/web.hcl": declared})
	dir := t.TempDir()
	ask := filepath.Join(dir, "ask")
	if err := os.WriteFile(ask, fmt.Appendf(nil, "#!/bin/sh\necho \"$1\" >>%s/asked\necho horse\n", dir), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSH_ASKPASS", ask)
	t.Setenv("SSH_ASKPASS_REQUIRE", "force")
	const people = 5
	var wg sync.WaitGroup
	for range people {
		key := rig.SSHKey(t, "horse", "-t", "ed25519", "-a", "1")
		clone := filepath.Join(t.TempDir(), "clone")
		gitIn(t, dir, "clone", "--quiet", origin, clone)
		wg.Go(func() {
			_, stderr, code := drydock(t.Context(), "approve", "web", "--env", "prod", "--key", key, "--yes", "--push", "-C", clone)
			if code != 0 {
				t.Errorf("exit %d: %s", code, stderr)
			}
			if n := strings.Count(stderr, "approval of web 1.0 in prod  (prod/web.hcl"); n != 1 {
				t.Errorf("the statement was shown %d times:\n%s", n, stderr)
			}
		})
	}
	wg.Wait()
	asked, err := os.ReadFile(filepath.Join(dir, "asked"))
	if err != nil || strings.Count(string(asked), "\n") != people {
		t.Errorf("%d people were asked for their passphrase: %s (%v)", people, asked, err)
	}
	if n := strings.Count(gitIn(t, origin, "ls-tree", "-r", "--name-only", "main"), ".sig"); n != people {
		t.Errorf("%d approvals landed instead of %d", n, people)
	}
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "drydock-*")); left != nil {
		t.Errorf("left behind: %v", left)
	}
}
