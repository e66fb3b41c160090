package release

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"drydock/hostagent/durable"
)

// made lists the manifests of an install path, the newest first. Only what has
// one was made here; nothing else is ever removed.
func (s *Store) made(p Place) ([]*manifest, error) {
	names, err := os.ReadDir(s.home(p.Path))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var all []*manifest
	for _, d := range names {
		name, ok := strings.CutSuffix(d.Name(), ".manifest")
		if !ok || name == "" {
			continue
		}
		m, err := s.load(p.Path, name)
		if err != nil {
			return nil, err
		}
		if m != nil {
			all = append(all, m)
		}
	}
	slices.SortFunc(all, func(a, b *manifest) int { return b.made.Compare(a.made) })
	return all, nil
}

// Prune removes the oldest releases beyond p.Keep, but never those named in
// keep, never what current points to, and never what this Store did not make.
func (s *Store) Prune(ctx context.Context, p Place, keep []string) (err error) {
	if p, err = p.hold(false); err != nil {
		return err
	}
	defer p.held.Close()
	defer func() { err = p.told(err) }()
	all, err := s.made(p)
	if err != nil {
		return durable.HostFault(err)
	}
	stay := map[string]bool{p.Dir: true}
	for _, name := range keep {
		stay[name] = true
	}
	if target, err := os.Readlink(p.current()); err == nil {
		if name, ours := p.named(target); ours {
			stay[name] = true
		}
	}
	var errs []error
	count := 0
	for _, m := range all {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		_, err := os.Lstat(filepath.Join(p.releases(), m.name))
		gone := errors.Is(err, fs.ErrNotExist) || strings.HasSuffix(m.name, stagedSuffix)
		if !gone {
			count++
		}
		if !gone && (stay[m.name] || count <= max(p.Keep, 1)) {
			continue
		}
		errs = append(errs, s.forget(p, m.name))
	}
	return durable.HostFault(errors.Join(errs...))
}

// forget removes a tree and then its manifest, in this order, so that a tree
// without one is never left that nobody would prune.
func (s *Store) forget(p Place, name string) error {
	if err := discard(filepath.Join(p.releases(), name)); err != nil {
		return err
	}
	home := s.home(p.Path)
	s.cache.drop(manifestFile(home, name))
	os.Remove(seenFile(home, name)) // only a cache
	return durable.Remove(manifestFile(home, name))
}

// Removed reports whether nothing of ours is left at the install path.
func (s *Store) Removed(p Place) (bool, error) {
	target, err := p.readCurrent()
	if err != nil {
		return false, err
	}
	all, err := s.made(p)
	return target == "" && len(all) == 0, durable.HostFault(err)
}

// Remove uninstalls: the link first, then every release that this Store made.
// What others put below releases/ stays, and so does the install path, which
// provisioning may have made.
func (s *Store) Remove(ctx context.Context, p Place) (err error) {
	if p, err = p.hold(false); err != nil {
		return err
	}
	defer p.held.Close()
	defer func() { err = p.told(err) }()
	if _, err := p.readCurrent(); err != nil {
		return err
	}
	if err := durable.Remove(p.current()); err != nil {
		return durable.HostFault(err)
	}
	if err := s.sweep(p); err != nil {
		return durable.HostFault(err)
	}
	all, err := s.made(p)
	if err != nil {
		return durable.HostFault(err)
	}
	for _, m := range all {
		if err := errors.Join(ctx.Err(), s.forget(p, m.name)); err != nil {
			return durable.HostFault(err)
		}
	}
	os.Remove(filepath.Join(p.path(), "releases")) // stays if somebody else has something there
	return durable.HostFault(os.RemoveAll(s.home(p.Path)))
}
