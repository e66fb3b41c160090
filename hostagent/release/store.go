// Package release keeps the releases of one install path: directories below
// <path>/releases, each whole before it has its name, the symlink
// <path>/current that is switched in one step, and for each release a manifest
// of what it brought, kept where the service cannot write. The installers that
// put directories there (archive, binary) are thin layers on top of it.
package release

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"time"

	"drydock/hostagent/durable"
	"drydock/reconcile"

	"golang.org/x/sys/unix"
)

// Options of a Store.
type Options struct {
	State  string                                // directory of the manifests, made when first needed
	Now    func() time.Time                      // default time.Now
	Full   time.Duration                         // how often every file is hashed again; default 24 h
	Lookup func(name string) (*user.User, error) // default user.Lookup
}

// Store is all release directories of one installer on one host. It keeps no
// state but its files, so that a killed agent finds everything again.
type Store struct {
	state  string
	now    func() time.Time
	full   time.Duration
	lookup func(name string) (*user.User, error)
	cache  cache
}

// New makes a Store; it touches nothing yet.
func New(o Options) *Store {
	s := &Store{state: o.State, now: o.Now, full: o.Full, lookup: o.Lookup}
	if s.now == nil {
		s.now = time.Now
	}
	if s.full == 0 {
		s.full = 24 * time.Hour
	}
	if s.lookup == nil {
		s.lookup = user.Lookup
	}
	return s
}

// Place is one release of one install path.
type Place struct {
	Path string // absolute; holds releases/ and current
	Dir  string // the release's name below releases/, as spec.Release.Dir gives it
	User string // owns the files; "" the agent's own

	// Layout says how the release was unpacked (installer, strip, name, user):
	// a directory made with another one is not this release, though it has its name.
	Layout string
	Keep   int // releases that Prune leaves, the running one among them

	// Build, if there is one, is run by Make in the filled tree dir, which is
	// User's own by then, before anything is hashed; temp is a directory of its
	// own that is removed afterwards.
	Build func(ctx context.Context, dir, temp string) error

	// Apart says that what fills the tree does so as the tree's owner, from
	// without: Make gives it a directory that, where the agent is root, is a
	// user's that nothing else runs as, and hands it to User afterwards.
	Apart bool

	held *held // nil while nothing is changed
}

const stagedSuffix = ".staged"

// path and releases are what p holds, or else where it should be.
func (p Place) path() string {
	if p.held != nil {
		return name(p.held.path)
	}
	return p.Path
}

func (p Place) releases() string {
	if p.held != nil {
		return name(p.held.releases)
	}
	return filepath.Join(p.Path, "releases")
}

func (p Place) current() string { return filepath.Join(p.path(), "current") }
func (p Place) link() string    { return "releases/" + p.Dir }
func (p Place) tree() string    { return filepath.Join(p.releases(), p.Dir) }
func (p Place) staged() string  { return p.tree() + stagedSuffix }

// home is where the manifests of an install path are; hashed, because a path
// may be longer than a name can be.
func (s *Store) home(path string) string {
	sum := sha256.Sum256([]byte(filepath.Clean(path)))
	return filepath.Join(s.state, "manifests", hex.EncodeToString(sum[:8]))
}

// Complete reports whether the release is there as it was made, ready to be
// switched to: under its name, or staged beside a tree of that name that
// differs. Only files whose stat differs are hashed.
func (s *Store) Complete(ctx context.Context, p Place) (bool, error) {
	for _, name := range []string{p.Dir, p.Dir + stagedSuffix} {
		ok, err := s.intact(ctx, p, name)
		if err != nil {
			return false, err
		}
		if ok {
			// A crash may have come between the rename and this.
			return true, durable.HostFault(durable.SyncDir(p.releases()))
		}
	}
	return false, nil
}

// intact reports whether the tree called name below releases/ is what the
// manifest of that name says, in p's layout. Without a manifest it is not: a
// tree is only given its name after its manifest is durable.
func (s *Store) intact(ctx context.Context, p Place, name string) (bool, error) {
	m, err := s.load(p.Path, name)
	if err != nil || m == nil || m.layout != p.Layout {
		return false, err
	}
	problem, err := s.check(ctx, filepath.Join(p.releases(), name), m, false)
	return err == nil && problem == "", err
}

// Make makes the release: fill puts its files into a new directory that nobody
// else can enter; then p.Build runs; then everything is hashed, owned and
// durable, and only then renamed to its name. If a tree of that name is there
// already and differs (drift, or another layout), it is not touched, as a
// service may be running from it: the new one is staged beside it until Switch
// exchanges the two.
func (s *Store) Make(ctx context.Context, p Place, fill func(ctx context.Context, dir string) error) (err error) {
	own, err := s.owner(p.User)
	if err != nil {
		return err
	}
	if p, err = p.hold(true); err != nil {
		return err
	}
	defer p.held.Close()
	defer func() { err = p.told(err) }()
	if err := s.sweep(p); err != nil {
		return durable.HostFault(err)
	}
	tmp := durable.TempName(p.tree())
	if err := os.Mkdir(tmp, 0o700); err != nil {
		return durable.HostFault(err)
	}
	if err = s.make(ctx, p, tmp, own, fill); err != nil {
		os.RemoveAll(tmp) // what stays after a failure here goes with the next sweep
	}
	return err
}

func (s *Store) make(ctx context.Context, p Place, tmp string, own owner, fill func(ctx context.Context, dir string) error) (err error) {
	tree, err := filled(ctx, p, tmp, own, fill)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(tree)
		}
	}()
	m := &manifest{path: p.Path, name: p.Dir, layout: p.Layout, made: s.now()}
	if _, err := os.Lstat(p.tree()); err == nil {
		m.name += stagedSuffix
	}
	saw := &seen{full: m.made}
	scan := m.scan
	if p.Build != nil {
		if tree, err = p.alone(tree); err != nil {
			return err
		}
		if err := build(ctx, p, tree, own); err != nil {
			return err
		}
		scan = m.scanBuilt
	}
	switch err := scan(ctx, tree, own, saw); {
	case errors.Is(err, unix.ENAMETOOLONG): // and the error would show the path
		return reconcile.ReleaseFault(errors.New("the tree is so deep that paths in it are longer than the kernel takes (4,095 bytes)"),
			"See what builds directories in directories, and bump to a commit without it")
	case err != nil:
		return durable.HostFault(err)
	}
	if tree, err = p.alone(tree); err != nil {
		return err
	}
	if err := s.store(m, saw, tree); err != nil {
		return durable.HostFault(err)
	}
	if m.name != p.Dir {
		if err := discard(p.staged()); err != nil {
			return durable.HostFault(err)
		}
	}
	return durable.HostFault(durable.Rename(tree, filepath.Join(p.releases(), m.name)))
}

// store makes tree and manifest durable, the manifest's name included. On one
// filesystem that is one call for both.
func (s *Store) store(m *manifest, saw *seen, tree string) error {
	home := s.home(m.path)
	if err := durable.MkdirAll(home, 0o700); err != nil {
		return err
	}
	file, text := manifestFile(home, m.name), m.encode()
	s.cache.drop(file)
	if err := durable.WriteCache(seenFile(home, m.name), saw.encode(m), 0o600); err != nil {
		return err
	}
	if sameFilesystem(home, tree) {
		if err := durable.WriteCache(file, text, 0o600); err != nil {
			return err
		}
		return durable.SyncFilesystem(tree)
	}
	if err := durable.SyncTree(tree); err != nil {
		return err
	}
	return durable.WriteFile(file, text, 0o600)
}

func sameFilesystem(a, b string) bool {
	var x, y unix.Stat_t
	return unix.Stat(a, &x) == nil && unix.Stat(b, &y) == nil && x.Dev == y.Dev
}

// discard removes a tree so that a half-removed one never has its name.
func discard(tree string) error {
	if _, err := os.Lstat(tree); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	tmp := durable.TempName(tree)
	if err := os.Rename(tree, tmp); err != nil {
		return err
	}
	return os.RemoveAll(tmp)
}

// sweep removes what a killed Make, Switch or Prune left below releases/ and
// in the manifests' directory. Our services share no path, so nobody is at work there.
func (s *Store) sweep(p Place) error {
	for _, dir := range []string{p.releases(), s.home(p.Path), p.path()} {
		names, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, d := range names {
			ours := dir != p.path() || strings.HasPrefix(d.Name(), "current.tmp-")
			if ours && durable.Leftover(d.Name()) {
				if err := os.RemoveAll(filepath.Join(dir, d.Name())); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// owner is who gets a release's files; uid -1 leaves them the agent's.
type owner struct{ uid, gid int }

func (s *Store) owner(name string) (owner, error) {
	if name == "" {
		return owner{-1, -1}, nil
	}
	u, err := s.lookup(name)
	if err != nil {
		return owner{}, reconcile.HostFault(fmt.Errorf("user %q: %w", name, err),
			fmt.Sprintf("Create it (useradd --system %s), as provisioning should have; Drydock makes no users", name))
	}
	var own owner
	if _, err := fmt.Sscan(u.Uid+" "+u.Gid, &own.uid, &own.gid); err != nil {
		return owner{}, reconcile.HostFault(fmt.Errorf("user %q has uid %q and gid %q", name, u.Uid, u.Gid), "Both must be numbers")
	}
	if os.Geteuid() != 0 && own.uid != os.Geteuid() {
		return owner{}, reconcile.HostFault(fmt.Errorf("the release's files are to be %s's, and the agent is not root", name),
			"Run the agent as root or as that user, or leave out user")
	}
	return own, nil
}
