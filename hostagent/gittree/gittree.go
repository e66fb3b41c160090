// Package gittree is the installer "git": a release is the source tree of a
// commit, which is fetched into a mirror of its repository, checked out of
// proved objects and built in the fetch phase, and switched to in the install
// phase.
package gittree

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"drydock/hostagent/archive"
	"drydock/hostagent/durable"
	"drydock/hostagent/gitsource"
	"drydock/hostagent/release"
	"drydock/reconcile"
	"drydock/spec"
)

// Config is the block's attributes.
type Config struct {
	Path    string        `json:"path"`
	URL     string        `json:"url"`
	Build   []string      `json:"build"`
	Keep    int           `json:"keep"`
	User    string        `json:"user"`
	Timeout spec.Duration `json:"timeout"` // of the fetch, and of the build
}

// Options are what the agent and tests set besides the environment.
type Options struct {
	Env     reconcile.Env
	Source  gitsource.Options // the config repository's, whose credentials serve where they may
	Release release.Options   // its State is set here
	Limits  archive.Limits    // of a tree; Ratio means nothing here
}

// Driver is install "git" for all services of a host.
type Driver struct {
	*release.Installer
	o Options
}

// New makes the driver.
func New(o Options) *Driver {
	d := &Driver{o: o}
	d.Installer = release.NewInstaller(release.InstallerOptions{
		Env: o.Env, Release: o.Release, Kind: "git", Decode: d.decode,
	})
	return d
}

func (d *Driver) decode(b spec.Block) (release.Block, error) {
	var c Config
	if err := b.Decode(&c); err != nil {
		return release.Block{}, err
	}
	r := release.Block{
		Path: c.Path, Keep: c.Keep, User: c.User, Apart: true,
		Layout: fmt.Sprintf("install \"git\" build=%q user=%q", c.Build, c.User),
		Fill: func(ctx context.Context, s reconcile.Step, dir string) error {
			return d.fill(ctx, s, c, dir)
		},
	}
	if len(c.Build) > 0 {
		r.Build = func(ctx context.Context, s reconcile.Step, dir, temp string) error {
			return d.build(ctx, s, c, dir, temp)
		}
	}
	return r, nil
}

// Do implements reconcile.Driver.
func (d *Driver) Do(ctx context.Context, s reconcile.Step) error {
	if s.Phase == reconcile.Fetch && s.Action != reconcile.Remove {
		if err := endBuilds(ctx, s); err != nil {
			return err
		}
	}
	return d.Installer.Do(ctx, s)
}

// Prune implements reconcile.Pruner.
func (d *Driver) Prune(ctx context.Context, s reconcile.Step, keep []string) error {
	return errors.Join(d.Installer.Prune(ctx, s, keep), durable.HostFault(d.pruneMirrors()))
}

// Where the repositories' mirrors are. They are caches, one a URL, so that
// services out of one repository share theirs.
func (d *Driver) mirrors() string { return filepath.Join(d.o.Env.StateDir, "mirrors") }

func (d *Driver) mirror(url string) string {
	sum := sha256.Sum256([]byte(url))
	return filepath.Join(d.mirrors(), hex.EncodeToString(sum[:8])+".git")
}

// mirrorsFor is how long a mirror is kept that no fetch used.
const mirrorsFor = 90 * 24 * time.Hour

func (d *Driver) pruneMirrors() error {
	names, err := os.ReadDir(d.mirrors())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	now := time.Now()
	if d.o.Release.Now != nil {
		now = d.o.Release.Now()
	}
	for _, e := range names {
		info, err := e.Info()
		if err != nil || now.Sub(info.ModTime()) <= mirrorsFor {
			continue
		}
		if err := os.RemoveAll(filepath.Join(d.mirrors(), e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// fill fetches the commit and checks it out.
func (d *Driver) fill(ctx context.Context, s reconcile.Step, c Config, dir string) error {
	commit, ok := strings.CutPrefix(s.Target.Release.Digest, "git:")
	if !ok || len(commit) != 40 {
		return reconcile.HostFault(fmt.Errorf("the release's digest is %q, not git: and a commit of 40 hexadecimal digits", s.Target.Release.Digest),
			"Bump with --digest git:<commit>; repositories with SHA-256 objects are not supported")
	}
	if err := d.allowed(c.URL); err != nil {
		return err
	}
	m, err := gitsource.OpenMirror(gitsource.MirrorOptions{
		URL: c.URL, Dir: d.mirror(c.URL), Own: d.o.Source, Timeout: time.Duration(c.Timeout),
	})
	if err != nil {
		return reconcile.HostFault(err, "Correct url, or source in hostagent.hcl")
	}
	defer m.Close()
	snap, err := m.Commit(ctx, commit)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return durable.HostFault(err)
	}
	return checkOut(ctx, snap, dir, d.o.Limits)
}

// allowed keeps the agent's own state out of releases.
func (d *Driver) allowed(raw string) error {
	path := raw
	if u, err := url.Parse(raw); err == nil && u.Scheme == "file" {
		path = u.Path
	}
	if !filepath.IsAbs(path) || d.o.Env.Private == "" {
		return nil
	}
	private := filepath.Clean(d.o.Env.Private)
	if real, err := filepath.EvalSymlinks(private); err == nil {
		private = real
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	if rel, err := filepath.Rel(private, path); err == nil && rel != ".." && !strings.HasPrefix(rel, "../") {
		return reconcile.HostFault(fmt.Errorf("%s lies in the agent's state directory", raw), "No release comes from there: write the URL of the service's own repository")
	}
	return nil
}
