// Package binary is the installer "binary": a release is one executable file,
// at <path>/current/<name>.
package binary

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"drydock/hostagent/download"
	"drydock/hostagent/durable"
	"drydock/hostagent/release"
	"drydock/reconcile"
	"drydock/spec"

	"golang.org/x/sys/unix"
)

// Config is the block's attributes.
type Config struct {
	Path    string        `json:"path"`
	Name    string        `json:"name"`
	Keep    int           `json:"keep"`
	User    string        `json:"user"`
	Strip   int           `json:"strip"`   // means nothing for one file
	Timeout spec.Duration `json:"timeout"` // longest wait for a download's next byte
}

// Options are what tests and the agent set besides the environment.
type Options struct {
	Env      reconcile.Env
	Release  release.Options
	Download download.Options
}

// New makes the driver for an agent.
func New(env reconcile.Env) *release.Installer { return With(Options{Env: env}) }

// With makes the driver with other limits, clock or roots.
func With(o Options) *release.Installer {
	return release.NewInstaller(release.InstallerOptions{
		Env: o.Env, Release: o.Release, Download: o.Download,
		Kind: "binary",
		Decode: func(b spec.Block) (release.Block, error) {
			var c Config
			if err := b.Decode(&c); err != nil {
				return release.Block{}, err
			}
			if c.Name == "" || c.Name == "." || c.Name == ".." || filepath.Base(c.Name) != c.Name {
				return release.Block{}, fmt.Errorf("install \"binary\": name %q must be one file name", c.Name)
			}
			return release.Block{
				Path: c.Path, Keep: c.Keep, User: c.User, Timeout: c.Timeout,
				Layout: fmt.Sprintf("install \"binary\" name=%q user=%q", c.Name, c.User),
				Unpack: func(ctx context.Context, artifact *os.File, dir string) error {
					return durable.HostFault(put(ctx, artifact, filepath.Join(dir, c.Name)))
				},
			}, nil
		},
	})
}

// put copies the artifact, executable for all.
func put(ctx context.Context, artifact *os.File, path string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, artifact)
	if err == nil {
		err = f.Chmod(0o755)
	}
	return errors.Join(err, f.Close())
}
