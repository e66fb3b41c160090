package release

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"drydock/hostagent/download"
	"drydock/hostagent/durable"
	"drydock/reconcile"
	"drydock/spec"

	"golang.org/x/sys/unix"
)

// Block is what an installer's block asks for.
type Block struct {
	Path, User string
	Keep       int
	Timeout    spec.Duration // longest wait for a download's next byte
	Layout     string        // see Place

	// Unpack fills dir, which is empty and which the agent alone can reach, from
	// the verified artifact.
	Unpack func(ctx context.Context, artifact *os.File, dir string) error

	// Fill does it in place of Unpack for a release that is no artifact.
	Fill func(ctx context.Context, s reconcile.Step, dir string) error

	// Build, if there is one, is run in what is filled: see Place.
	Build func(ctx context.Context, s reconcile.Step, dir, temp string) error

	// Apart says that Unpack or Fill work as the owner of dir: see Place.
	Apart bool
}

// InstallerOptions make an Installer.
type InstallerOptions struct {
	Env      reconcile.Env
	Release  Options          // State is set here
	Download download.Options // Credential is set here, and Private if it is empty
	Kind     string           // "archive", "binary", "git"
	Decode   func(spec.Block) (Block, error)
}

// Installer is an install driver for releases that are directories: its
// steps are those of the phases fetch and install. It is a reconcile.Driver,
// Observer and Pruner.
type Installer struct {
	o     InstallerOptions
	store *Store
}

// NewInstaller makes one; it touches nothing yet.
func NewInstaller(o InstallerOptions) *Installer {
	o.Release.State = o.Env.StateDir
	o.Download.Credential = o.Env.Credential
	if o.Download.Private == "" {
		o.Download.Private = cmp.Or(o.Env.Private, o.Env.StateDir)
	}
	return &Installer{o: o, store: New(o.Release)}
}

// place is where a step acts, and what its block says.
func (i *Installer) place(s reconcile.Step) (Place, Block, error) {
	b, err := i.o.Decode(s.Block)
	if err != nil {
		return Place{}, b, reconcile.HostFault(err, "This agent and the declaration have come apart: update one of them")
	}
	if !filepath.IsAbs(b.Path) {
		return Place{}, b, reconcile.HostFault(fmt.Errorf("install %q: path %q is not absolute", i.o.Kind, b.Path), "Write it from the root on")
	}
	p := Place{Path: filepath.Clean(b.Path), Dir: s.Target.Release.Dir(), User: b.User, Layout: b.Layout, Keep: b.Keep, Apart: b.Apart}
	if strings.ContainsRune(p.Dir, '/') || p.Dir == "." || p.Dir == ".." {
		return p, b, reconcile.HostFault(fmt.Errorf("version %q would leave %s", s.Target.Release.Version, p.releases()), "Bump to a version without /")
	}
	return p, b, nil
}

// Done implements reconcile.Driver.
func (i *Installer) Done(ctx context.Context, s reconcile.Step) (bool, error) {
	p, _, err := i.place(s)
	switch {
	case err != nil:
		return false, err
	case s.Action == reconcile.Remove:
		return i.store.Removed(p)
	case s.Phase == reconcile.Fetch && s.Adopt != "":
		return true, nil // what others made needs no fetching
	case s.Phase == reconcile.Fetch:
		// Also where there is nothing to fetch: else that the release cannot be
		// switched to is found out with the service out of rotation.
		if err := i.store.ready(p); err != nil {
			return false, err
		}
		return i.store.Complete(ctx, p)
	}
	return i.store.Switched(ctx, p, s.Adopt)
}

// Do implements reconcile.Driver.
func (i *Installer) Do(ctx context.Context, s reconcile.Step) error {
	p, b, err := i.place(s)
	if err == nil {
		err = ctx.Err()
	}
	switch {
	case err != nil:
		return err
	case s.Action == reconcile.Remove:
		return i.store.Remove(ctx, p)
	case s.Phase == reconcile.Fetch && s.Adopt != "":
		return nil
	case s.Phase == reconcile.Fetch:
		return i.fetch(ctx, s, p, b)
	}
	return i.store.Switch(ctx, p, s.Adopt)
}

// Observe implements reconcile.Observer.
func (i *Installer) Observe(ctx context.Context, s reconcile.Step) (reconcile.Condition, error) {
	p, _, err := i.place(s)
	if err != nil {
		return reconcile.Condition{}, err
	}
	return i.store.Observe(ctx, p, s.Adopt)
}

// Prune implements reconcile.Pruner.
func (i *Installer) Prune(ctx context.Context, s reconcile.Step, keep []string) error {
	p, _, err := i.place(s)
	if err != nil {
		return err
	}
	return errors.Join(i.store.Prune(ctx, p, keep), durable.HostFault(i.pruneCache()))
}

func (i *Installer) cacheDir() string { return filepath.Join(i.o.Env.StateDir, "artifacts") }

// fetch downloads, verifies and unpacks, or fills. The artifact goes once the
// release is durable: what can be fetched again is not kept twice.
func (i *Installer) fetch(ctx context.Context, s reconcile.Step, p Place, b Block) error {
	if s.Target.Artifact == nil && b.Fill == nil {
		return reconcile.HostFault(fmt.Errorf("service %q has no artifact block", s.Service), "Say where the release is downloaded from")
	}
	if err := i.store.ready(p); err != nil {
		return err
	}
	if ok, err := i.store.Complete(ctx, p); ok || err != nil {
		return err
	}
	if b.Fill != nil {
		if b.Build != nil {
			p.Build = func(ctx context.Context, dir, temp string) error { return b.Build(ctx, s, dir, temp) }
		}
		return i.store.Make(ctx, p, func(ctx context.Context, dir string) error { return b.Fill(ctx, s, dir) })
	}
	return i.download(ctx, s, p, b)
}

// download gets the artifact and unpacks it.
func (i *Installer) download(ctx context.Context, s reconcile.Step, p Place, b Block) error {
	if err := i.pruneCache(); err != nil {
		return durable.HostFault(err)
	}
	o := i.o.Download
	if o.Stall == 0 {
		o.Stall = time.Duration(b.Timeout)
	}
	f := download.New(o)
	defer f.Close()
	_, hex, _ := strings.Cut(s.Target.Release.Digest, ":")
	if hex == "" {
		return reconcile.HostFault(errors.New("the release has no digest"), "Bump with --artifact, --fetch or --digest")
	}
	file := filepath.Join(i.cacheDir(), s.Service+"-"+hex)
	if err := f.Get(ctx, *s.Target.Artifact, s.Target.Release.Digest, file); err != nil {
		return err
	}
	artifact, err := os.Open(file)
	if err != nil {
		return durable.HostFault(err)
	}
	defer artifact.Close()
	if err := i.store.Make(ctx, p, func(ctx context.Context, dir string) error {
		return b.Unpack(ctx, artifact, dir)
	}); err != nil {
		return err
	}
	os.Remove(file) // pruneCache tries again
	return nil
}

// ready fails for what would fail after the download anyway, before it.
func (s *Store) ready(p Place) error {
	if _, err := s.owner(p.User); err != nil {
		return err
	}
	// A release that was kept needs no download, which would have met this.
	if err := unix.Access(p.Path, unix.W_OK); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return durable.HostFault(fmt.Errorf("%s cannot be written to: %w", p.Path, err))
	}
	return p.sound()
}

// sound fails for an install path that nothing could be changed in.
func (p Place) sound() error {
	p, err := p.hold(false)
	if err != nil {
		return err
	}
	defer p.held.Close()
	_, err = p.readCurrent()
	return p.told(err)
}

// cacheFor is how long an artifact that nobody finished fetching is kept.
const cacheFor = 7 * 24 * time.Hour

// pruneCache drops partial artifacts that nobody came back for.
func (i *Installer) pruneCache() error {
	names, err := os.ReadDir(i.cacheDir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	now := i.store.now()
	for _, d := range names {
		info, err := d.Info()
		if err != nil {
			continue // another service's, just gone
		}
		if age := now.Sub(info.ModTime()); age > cacheFor || durable.Leftover(d.Name()) && age > time.Hour {
			if err := os.Remove(filepath.Join(i.cacheDir(), d.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}
