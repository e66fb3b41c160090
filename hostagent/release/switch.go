package release

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"drydock/hostagent/durable"
	"drydock/reconcile"

	"golang.org/x/sys/unix"
)

// readCurrent returns where current points; "" if it is not there.
func (p Place) readCurrent() (string, error) {
	target, err := os.Readlink(p.current())
	switch {
	case err == nil:
		return target, nil
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case errors.Is(err, unix.EINVAL):
		return "", reconcile.HostFault(fmt.Errorf("%s is not a link but a file or directory of somebody else's", p.current()),
			fmt.Sprintf("Move it away (mv %[1]s %[1]s.old); to have it as what a revert goes back to, link current to it (ln -s current.old %[1]s)", p.current()))
	}
	return "", durable.HostFault(err)
}

// named returns which name below releases/ a link's target means.
func (p Place) named(target string) (string, bool) {
	if !filepath.IsAbs(target) {
		target = filepath.Join(p.Path, target)
	}
	dir, name := filepath.Split(filepath.Clean(target))
	return name, filepath.Clean(dir) == filepath.Join(p.Path, "releases")
}

// Switched reports whether current points to the release, and the release is
// whole; or, with adopt, whether it points there.
func (s *Store) Switched(ctx context.Context, p Place, adopt string) (bool, error) {
	target, err := p.readCurrent()
	if err != nil {
		return false, err
	}
	ok := adopt != "" && target == adopt
	if name, ours := p.named(target); adopt == "" && ours && name == p.Dir {
		if ok, err = s.intact(ctx, p, p.Dir); err != nil {
			return false, err
		}
	}
	if ok { // a crash may have come between the rename and this
		err = durable.HostFault(durable.SyncDir(p.Path))
	}
	return ok && err == nil, err
}

// Switch makes current point to the release, which Make must have made, or
// with adopt to that foreign target again. The link is relative, so that the
// whole path can be moved or mounted elsewhere.
func (s *Store) Switch(ctx context.Context, p Place, adopt string) (err error) {
	if p, err = p.hold(false); err != nil {
		return err
	}
	defer p.held.Close()
	defer func() { err = p.told(err) }()
	if _, err := p.readCurrent(); err != nil {
		return err
	}
	target := p.link()
	if adopt != "" {
		target = adopt
		if !filepath.IsAbs(adopt) {
			adopt = filepath.Join(p.Path, adopt)
		}
		if _, err := os.Stat(adopt); err != nil {
			return reconcile.HostFault(fmt.Errorf("what ran before Drydock is gone: %w", err), "Bring it back, or bump to a release that works")
		}
	} else if err := s.promote(ctx, p); err != nil {
		return err
	}
	return durable.HostFault(durable.Symlink(target, p.current()))
}

// promote gives a staged tree its name, and fails unless the release stands
// whole under its name afterwards. A kill anywhere in it is made up for by
// running it again.
func (s *Store) promote(ctx context.Context, p Place) error {
	m, err := s.load(p.Path, p.Dir+stagedSuffix)
	if err != nil {
		return err
	}
	if m == nil || m.layout != p.Layout {
		return s.whole(ctx, p)
	}
	problem, err := s.check(ctx, p.tree(), m, false)
	if err != nil {
		return err
	}
	if problem != "" { // not exchanged yet
		if problem, err = s.check(ctx, p.staged(), m, false); err != nil {
			return err
		}
		if problem != "" {
			return s.whole(ctx, p)
		}
		if err := exchange(p.staged(), p.tree()); err != nil {
			return durable.HostFault(err)
		}
	}
	home := s.home(p.Path)
	m = &manifest{path: m.path, name: p.Dir, layout: m.layout, made: m.made, entries: m.entries}
	s.cache.drop(manifestFile(home, p.Dir))
	if err := durable.WriteFile(manifestFile(home, p.Dir), m.encode(), 0o600); err != nil {
		return durable.HostFault(err)
	}
	return durable.HostFault(s.forget(p, p.Dir+stagedSuffix))
}

// whole fails unless the release stands under its name as it was made.
func (s *Store) whole(ctx context.Context, p Place) error {
	ok, err := s.intact(ctx, p, p.Dir)
	if err != nil || ok {
		return err
	}
	return reconcile.HostFault(fmt.Errorf("%s is not there as it was made", p.tree()), "Something changed it since it was fetched; it is fetched again")
}

// exchange swaps two trees in one step and makes that durable.
func exchange(a, b string) error {
	err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
	if errors.Is(err, unix.ENOENT) {
		err = os.Rename(a, b) // somebody removed b
	}
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		// A filesystem without it (NFS, some overlays): two steps, between
		// which b is missing. The service is drained, and a kill between them
		// leaves a tree that promote finds staged, and renames.
		if err = discard(b); err == nil {
			err = os.Rename(a, b)
		}
	}
	if err != nil {
		return fmt.Errorf("exchanging %s and %s: %w", a, b, err)
	}
	return durable.SyncDir(filepath.Dir(b))
}

// Observe says how current and the tree below it stand. p is the running
// revision; with adopt, what runs is that foreign target, of which nothing is
// known but that it must be there. A lost manifest is made again from what is
// found, once: better than taking a serving host out for lost bookkeeping.
// Complete never trusts such a tree's content more than its stat; a
// release that is fetched again gets a manifest from its artifact.
func (s *Store) Observe(ctx context.Context, p Place, adopt string) (reconcile.Condition, error) {
	altered := func(format string, args ...any) (reconcile.Condition, error) {
		return reconcile.Condition{Is: reconcile.Altered, Detail: fmt.Sprintf(format, args...)}, nil
	}
	target, err := p.readCurrent()
	var f *reconcile.Fault
	if errors.As(err, &f) && !durable.OfDisk(err) {
		return altered("%v", err)
	}
	if err != nil {
		return reconcile.Condition{}, err
	}
	name, ours := p.named(target)
	switch {
	case target == "":
		return reconcile.Condition{Is: reconcile.Absent}, nil
	case adopt != "" && target == adopt:
		if _, err := os.Stat(p.current()); err != nil {
			return altered("current points to %s, which is missing", target)
		}
		return reconcile.Condition{Is: reconcile.Present}, nil
	case !ours || name != p.Dir && !s.known(p, name):
		return reconcile.Condition{Is: reconcile.Altered, Detail: "current points to " + target, Foreign: target}, nil
	case name != p.Dir:
		return reconcile.Condition{Is: reconcile.Altered, Detail: "current points to " + target, Current: target}, nil
	}
	altered = func(format string, args ...any) (reconcile.Condition, error) {
		return reconcile.Condition{Is: reconcile.Altered, Detail: fmt.Sprintf(format, args...), Current: target, Wanted: true}, nil
	}
	m, err := s.load(p.Path, p.Dir)
	if err == nil && m == nil {
		m, err = s.rebuild(ctx, p)
	}
	if err != nil {
		return reconcile.Condition{}, err
	}
	if m == nil {
		return altered("%s is missing", p.tree())
	}
	if m.layout != p.Layout && !m.rebuilt {
		return altered("%s was made with %s instead of %s", p.Dir, m.layout, p.Layout)
	}
	problem, err := s.check(ctx, p.tree(), m, true)
	if err != nil {
		return reconcile.Condition{}, err
	}
	if problem != "" {
		return altered("%s", problem)
	}
	return reconcile.Condition{Is: reconcile.Present, Current: target, Wanted: true}, nil
}

func (s *Store) known(p Place, name string) bool {
	_, err := os.Lstat(manifestFile(s.home(p.Path), name))
	return err == nil
}

// rebuild makes a manifest of the tree as it stands; nil if there is no tree.
// It is marked, so that a fetch of this release does not take it for proof.
func (s *Store) rebuild(ctx context.Context, p Place) (*manifest, error) {
	info, err := os.Lstat(p.tree())
	if err != nil || !info.IsDir() {
		return nil, nil
	}
	m := &manifest{path: p.Path, name: p.Dir, layout: "rebuilt", made: info.ModTime(), rebuilt: true}
	saw := &seen{full: s.now()}
	if err := m.walk(ctx, p.tree(), saw, nil); err != nil {
		return nil, durable.HostFault(err)
	}
	home := s.home(p.Path)
	if err := durable.MkdirAll(home, 0o700); err != nil {
		return nil, durable.HostFault(err)
	}
	text := m.encode()
	_ = durable.WriteCache(seenFile(home, p.Dir), saw.encode(m), 0o600)
	return m, durable.HostFault(durable.WriteFile(manifestFile(home, p.Dir), text, 0o600))
}
