// Package archive is the installer "archive": a release is a tar, tar.gz,
// tar.zst or zip, which is downloaded, verified and unpacked in the fetch
// phase, and switched to in the install phase.
package archive

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"drydock/hostagent/download"
	"drydock/hostagent/durable"
	"drydock/hostagent/release"
	"drydock/reconcile"
	"drydock/spec"
)

// Config is the block's attributes.
type Config struct {
	Path    string        `json:"path"`
	Keep    int           `json:"keep"`
	User    string        `json:"user"`
	Strip   int           `json:"strip"`
	Timeout spec.Duration `json:"timeout"` // longest wait for a download's next byte
}

// Options are what tests and the agent set besides the environment.
type Options struct {
	Env      reconcile.Env
	Release  release.Options  // its State is set here
	Download download.Options // its Credential, and Private if empty, are set here
	Limits   Limits
}

// New makes the driver for an agent.
func New(env reconcile.Env) *release.Installer { return With(Options{Env: env}) }

// With makes the driver with other limits, clock or roots.
func With(o Options) *release.Installer {
	limits := o.Limits
	return release.NewInstaller(release.InstallerOptions{
		Env: o.Env, Release: o.Release, Download: o.Download,
		Kind: "archive",
		Decode: func(b spec.Block) (release.Block, error) {
			var c Config
			if err := b.Decode(&c); err != nil {
				return release.Block{}, err
			}
			if c.Strip < 0 {
				return release.Block{}, fmt.Errorf("strip is %d: it counts path parts, and is at least 0", c.Strip)
			}
			return release.Block{
				Path: c.Path, Keep: c.Keep, User: c.User, Timeout: c.Timeout,
				Layout: fmt.Sprintf("install \"archive\" strip=%d user=%q", c.Strip, c.User),
				Apart:  true,
				Unpack: func(ctx context.Context, artifact *os.File, dir string) error {
					return unpack(ctx, artifact, dir, c.Strip, limits)
				},
			}, nil
		},
	})
}

// unpack extracts into dir, apart from the agent, and says whose fault a
// failure is.
func unpack(ctx context.Context, artifact *os.File, dir string, strip int, limits Limits) error {
	a, err := newApart(dir, order{Strip: strip, Limits: limits})
	if err == nil {
		err = a.run(ctx, artifact)
	}
	var b *BadError
	if errors.As(err, &b) {
		return reconcile.ReleaseFault(fmt.Errorf("%s: %w", filepath.Base(artifact.Name()), b), "Pack the release again without it, and bump to that")
	}
	return durable.HostFault(err)
}
