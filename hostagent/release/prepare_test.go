package release

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"drydock/reconcile"
	"drydock/spec"
)

func TestPrepare(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "file"), nil, 0o644), os.MkdirAll(filepath.Join(dir, "taken/current"), 0o755)); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		path, user, want string
		remove           bool
	}{
		"to be made":        {"srv/web", "", "", false},
		"a file":            {"file", "", "is not a directory", false},
		"below a file":      {"file/srv/web", "", "is not a directory", false},
		"somebody else's":   {"taken", "", "is not a link", false},
		"no user":           {"srv/web", "no-such-user-here", "Create it", false},
		"two at once":       {"file", "no-such-user-here", "no-such-user-here", false},
		"a removal":         {"file", "", "", true},
		"and the other one": {"file", "no-such-user-here", "is not a directory", false},
	} {
		i := NewInstaller(InstallerOptions{Env: reconcile.Env{StateDir: filepath.Join(dir, "state")}, Kind: "archive", Decode: func(spec.Block) (Block, error) {
			return Block{Path: filepath.Join(dir, c.path), User: c.user}, nil
		}})
		s := reconcile.Step{Phase: reconcile.Install, Target: spec.Service{Release: spec.Release{Version: "1", Digest: "sha256:0123456789ab"}}}
		if c.remove {
			s.Action = reconcile.Remove
		}
		err := i.Prepare(t.Context(), s)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, expected %q", name, err, c.want)
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 2 {
		t.Errorf("it made something: %v, %v", left, err)
	}
}
