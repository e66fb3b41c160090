package process

import (
	"os"
	"path/filepath"
	"testing"
)

// The directory of a log may be its service's: a link that the service's user
// puts there must not lead what the agent opens, empties or removes as root.
func TestALogFollowsNoLinkOfItsUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root writes where others may not")
	}
	home, roots := t.TempDir(), t.TempDir()
	if err := os.Chown(home, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(roots, filepath.Join(home, "log")); err != nil {
		t.Fatal(err)
	}
	big := filepath.Join(roots, "web")
	if err := os.WriteFile(big, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(big, 2*maxLog); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(home, "log", "web")
	if f, err := openLog(path); err == nil {
		f.Close()
		t.Error("it opened what the link leads to")
	}
	if boundLog(path) {
		t.Error("it emptied what the link leads to")
	}
	if info, err := os.Stat(big); err != nil || info.Size() != 2*maxLog {
		t.Errorf("%v, %v", info, err)
	}
	// Root's own link is followed.
	if err := os.Symlink(roots, filepath.Join(filepath.Dir(roots), "to-logs")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(big); err != nil {
		t.Fatal(err)
	}
	f, err := openLog(filepath.Join(filepath.Dir(roots), "to-logs", "web"))
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if _, err := os.Stat(big); err != nil {
		t.Error(err)
	}
}
