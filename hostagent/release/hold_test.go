package release

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"drydock/reconcile"
)

// owned is an install path that belongs to the service's user, and beside it a
// directory of root's with what that user wants.
func owned(t *testing.T) (s *Store, p Place, elsewhere string) {
	t.Helper()
	uid := nobody(t)
	dir := t.TempDir()
	elsewhere = filepath.Join(dir, "etc")
	p = Place{Path: filepath.Join(dir, "srv"), Dir: "1-abcdefabcdef", Keep: 1, Layout: "x", User: "nobody"}
	err := errors.Join(os.Chmod(dir, 0o755), os.Mkdir(elsewhere, 0o755), os.WriteFile(filepath.Join(elsewhere, "shadow"), []byte("root's"), 0o600),
		os.Mkdir(p.Path, 0o755), os.Chown(p.Path, uid, uid))
	if err != nil {
		t.Fatal(err)
	}
	return New(Options{State: filepath.Join(dir, "state")}), p, elsewhere
}

func (p Place) with(dir string) Place {
	p.Dir = dir
	return p
}

func fillWeb(_ context.Context, into string) error {
	return os.WriteFile(filepath.Join(into, "web"), []byte("good"), 0o755)
}

// TestAnUsersLinkLeadsNowhere puts links where the user of a service can, and
// looks whether root does there what the user may not.
func TestAnUsersLinkLeadsNowhere(t *testing.T) {
	s, p, elsewhere := owned(t)
	two := p.with("2-abcdefabcdef")
	for _, p := range []Place{p, two} {
		if err := s.Make(t.Context(), p, fillWeb); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Switch(t.Context(), two, ""); err != nil {
		t.Fatal(err)
	}
	// What a prune, a sweep and a removal would take for theirs.
	bait := []string{filepath.Join(elsewhere, p.Dir), filepath.Join(elsewhere, "x.tmp-0123456789abcdef")}
	for _, dir := range bait {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	before, err := os.ReadDir(elsewhere)
	if err != nil {
		t.Fatal(err)
	}
	check := func(t *testing.T) {
		t.Helper()
		for what, err := range map[string]error{
			"make":    s.Make(t.Context(), p.with("3-abcdefabcdef"), fillWeb),
			"prune":   s.Prune(t.Context(), two, nil),
			"switch":  s.Switch(t.Context(), two, ""),
			"prepare": p.sound(),
			"remove":  s.Remove(t.Context(), two),
		} {
			if reconcile.BlameOf(err) != reconcile.OfHost {
				t.Errorf("%s: %v, not the host's fault", what, err)
			}
		}
		after, err := os.ReadDir(elsewhere)
		if err != nil || len(after) != len(before) {
			t.Errorf("the directory of root's holds %v, before %v (%v)", after, before, err)
		}
	}
	t.Run("releases", func(t *testing.T) {
		releases := filepath.Join(p.Path, "releases")
		if err := errors.Join(os.Rename(releases, releases+".old"), os.Symlink(elsewhere, releases), os.Lchown(releases, nobody(t), -1)); err != nil {
			t.Fatal(err)
		}
		check(t)
		if err := errors.Join(os.Remove(releases), os.Rename(releases+".old", releases)); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("a releases of its own", func(t *testing.T) {
		releases := filepath.Join(p.Path, "releases")
		if err := errors.Join(os.Rename(releases, releases+".old"), os.Mkdir(releases, 0o755), os.Chown(releases, nobody(t), -1)); err != nil {
			t.Fatal(err)
		}
		check(t)
		if err := s.Make(t.Context(), p.with("3-abcdefabcdef"), fillWeb); err == nil || !strings.Contains(err.Error(), "chown 0 "+releases) {
			t.Errorf("%v, which does not say how to mend it", err)
		}
		if err := errors.Join(os.Remove(releases), os.Rename(releases+".old", releases)); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("the path, below a directory of its own", func(t *testing.T) {
		home := filepath.Join(filepath.Dir(p.Path), "home")
		if err := errors.Join(os.Mkdir(home, 0o755), os.Chown(home, nobody(t), -1), os.Symlink(elsewhere, filepath.Join(home, "srv"))); err != nil {
			t.Fatal(err)
		}
		p.Path, two.Path = filepath.Join(home, "srv"), filepath.Join(home, "srv")
		check(t)
	})
}

// TestRootsLinkIsFollowed has an install path and releases on another disk, as
// provisioning may put them.
func TestRootsLinkIsFollowed(t *testing.T) {
	dir := t.TempDir()
	big := filepath.Join(dir, "big")
	p := Place{Path: filepath.Join(dir, "srv", "web"), Dir: "1-abcdefabcdef", Keep: 1, Layout: "x"}
	err := errors.Join(os.MkdirAll(filepath.Join(big, "web"), 0o755), os.Symlink("big", filepath.Join(dir, "srv")),
		os.Mkdir(filepath.Join(dir, "releases"), 0o755), os.Symlink(filepath.Join(dir, "releases"), filepath.Join(big, "web", "releases")))
	if err != nil {
		t.Fatal(err)
	}
	s := New(Options{State: filepath.Join(dir, "state")})
	if err := errors.Join(s.Make(t.Context(), p, fillWeb), s.Switch(t.Context(), p, "")); err != nil {
		t.Fatal(err)
	}
	if ok, err := s.Switched(t.Context(), p, ""); !ok || err != nil {
		t.Errorf("switched: %v, %v", ok, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "releases", p.Dir, "web")); err != nil {
		t.Error(err)
	}
}

// TestTheRootIsHandedOverLast listens to who is given what in which order: the
// user who can enter a tree could put a link to elsewhere where the agent is
// about to give something away.
func TestTheRootIsHandedOverLast(t *testing.T) {
	for name, build := range map[string]func(context.Context, string, string) error{
		"filled": nil,
		"built":  func(context.Context, string, string) error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			s, p, _ := owned(t)
			p.Build = build
			ear, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(ear)
			err = s.Make(t.Context(), p, func(_ context.Context, into string) error {
				_, err := unix.InotifyAddWatch(ear, into, unix.IN_ATTRIB)
				return errors.Join(err, os.WriteFile(filepath.Join(into, "a"), nil, 0o600), os.WriteFile(filepath.Join(into, "b"), nil, 0o600))
			})
			if err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 64<<10)
			n, err := unix.Read(ear, buf)
			if err != nil {
				t.Fatal(err)
			}
			// Each event: watch, mask, cookie, length of the name; the root's own has no name.
			var order []string
			for at := 0; at < n; {
				size := int(binary.NativeEndian.Uint32(buf[at+12:]))
				order = append(order, strings.TrimRight(string(buf[at+16:at+16+size]), "\x00"))
				at += 16 + size
			}
			first := slices.Index(order, "")
			if first < 0 || slices.Index(order, "a") < 0 || slices.Index(order, "b") < 0 || slices.Index(order[:first], "a") < 0 || slices.Index(order[:first], "b") < 0 {
				t.Errorf("%q: the root comes before what is in it", order)
			}
		})
	}
}

// TestNoProcessOfTheUserReachesWhoFills: through /proc the user would have the
// descriptor of the tree from a process of its own, and would put into it what
// the manifest then vouches for.
func TestNoProcessOfTheUserReachesWhoFills(t *testing.T) {
	s, p, _ := owned(t)
	uid := uint32(nobody(t))
	p.Apart = true
	err := s.Make(t.Context(), p, func(ctx context.Context, dir string) error {
		var st unix.Stat_t
		if err := unix.Stat(dir, &st); err != nil {
			return err
		}
		filler := exec.CommandContext(ctx, "/bin/cat")
		filler.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: st.Uid, Gid: st.Gid}}
		end, err := filler.StdinPipe()
		if err == nil {
			err = filler.Start()
		}
		if err != nil {
			return err
		}
		for _, crime := range []string{"ls /proc/%d/fd/", "kill -0 %d"} {
			thief := exec.CommandContext(ctx, "/bin/sh", "-c", fmt.Sprintf(crime, filler.Process.Pid))
			thief.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
			if out, err := thief.CombinedOutput(); err == nil {
				t.Errorf("%s: %s", crime, out)
			}
		}
		return errors.Join(end.Close(), filler.Wait(), fillWeb(ctx, dir), os.Chown(filepath.Join(dir, "web"), int(st.Uid), int(st.Gid)))
	})
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	for _, name := range []string{p.tree(), filepath.Join(p.tree(), "web")} {
		if err := unix.Lstat(name, &st); err != nil || st.Uid != uid || st.Gid != uid {
			t.Errorf("%s is uid %d's, group %d: %v", name, st.Uid, st.Gid, err)
		}
	}
}
