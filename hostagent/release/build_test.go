package release

import (
	"context"
	"errors"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"drydock/reconcile"
)

// built makes a release for nobody whose build is code of that user, which is
// played here, and may do what that user can.
func built(t *testing.T, build func(dir string) error) (Place, error) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: run the test as root")
	}
	dir := t.TempDir()
	p := Place{Path: filepath.Join(dir, "srv"), Dir: "1-abcdefabcdef", Keep: 5, Layout: "x", User: "nobody",
		Build: func(_ context.Context, dir, _ string) error { return build(dir) }}
	return p, New(Options{State: filepath.Join(dir, "state")}).Make(t.Context(), p, func(_ context.Context, into string) error {
		return os.WriteFile(filepath.Join(into, "web"), []byte("good"), 0o755)
	})
}

func nobody(t *testing.T) int {
	t.Helper()
	u, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	own, err := New(Options{}).owner(u.Username)
	if err != nil {
		t.Fatal(err)
	}
	return own.uid
}

// What a build leaves under another owner is refused, and never given away: it
// could be a hard link to a file of the host, made while nobody looked.
func TestABuildCannotTakeOverFiles(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "shadow")
	if err := os.WriteFile(secret, []byte("root:x"), 0o4600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(secret, 0o600|os.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	p, err := built(t, func(dir string) error { return os.Link(secret, filepath.Join(dir, "mine")) })
	if err == nil || reconcile.BlameOf(err) != reconcile.OfRelease || !strings.Contains(err.Error(), `"mine" with uid 0`) {
		t.Errorf("a file of root's: %v", err)
	}
	var st unix.Stat_t
	if err := unix.Stat(secret, &st); err != nil || st.Uid != 0 || st.Mode&0o7777 != 0o4600 {
		t.Errorf("it now has uid %d and mode %o (%v)", st.Uid, st.Mode, err)
	}
	if _, err := os.Lstat(p.tree()); err == nil {
		t.Error("the release has its name")
	}
}

// The tree is its user's while it is built, also its top.
func TestABuildOwnsItsTree(t *testing.T) {
	uid := uint32(nobody(t))
	p, err := built(t, func(dir string) error {
		for _, name := range []string{dir, filepath.Join(dir, "web")} {
			var st unix.Stat_t
			if err := unix.Stat(name, &st); err != nil || st.Uid != uid {
				t.Errorf("%s has uid %d (%v)", name, st.Uid, err)
			}
		}
		return os.Chmod(dir, 0o777)
	})
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(p.tree())
	if err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// A build can make directories that no path leads to.
func TestABuildThatDigs(t *testing.T) {
	uid := nobody(t)
	p, err := built(t, func(dir string) error {
		at, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
		for n := 0; err == nil && n < 1000; n++ {
			up := at
			if err = unix.Mkdirat(up, "down", 0o755); err == nil {
				at, err = unix.Openat(up, "down", unix.O_PATH|unix.O_DIRECTORY, 0)
			}
			if err == nil {
				err = unix.Fchownat(up, "down", uid, -1, unix.AT_SYMLINK_NOFOLLOW)
			}
			unix.Close(up)
		}
		unix.Close(at)
		return err
	})
	if reconcile.BlameOf(err) != reconcile.OfRelease || len(err.Error()) > 300 {
		t.Errorf("%v", err)
	}
	if left, err := os.ReadDir(p.releases()); err != nil || len(left) != 0 {
		t.Errorf("%v stays (%v)", left, err)
	}
}

// A build as root is not led elsewhere by whose the install path is.
func TestRootBuildsInNothingOfAUsers(t *testing.T) {
	s, p, _ := owned(t)
	p.User, p.Apart = "", true
	p.Build = func(context.Context, string, string) error { t.Error("it was run"); return nil }
	err := s.Make(t.Context(), p, func(ctx context.Context, dir string) error {
		return errors.Join(fillWeb(ctx, dir), os.Chown(filepath.Join(dir, "web"), fillerID, fillerID))
	})
	if reconcile.BlameOf(err) != reconcile.OfHost || !strings.Contains(err.Error(), "could be exchanged by uid 65534") {
		t.Errorf("%v", err)
	}
}
