// Package file is drain "file": a file that exists while the service is in
// rotation, and that a load balancer's health check reads.
package file

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"drydock/hostagent/durable"
	"drydock/reconcile"
	"drydock/spec"
)

type config struct {
	Path    string        `json:"path"`
	Wait    spec.Duration `json:"wait"`
	Timeout spec.Duration `json:"timeout"`
}

// Drain is drain "file". Below its state directory stands a note for each
// service and block that has been drained and has waited: without it an agent
// that was killed while it waited would touch the service too soon.
type Drain struct{ env reconcile.Env }

// New is the driver of one agent.
func New(env reconcile.Env) *Drain { return &Drain{env: env} }

func (d *Drain) note(s reconcile.Step) string {
	sum := sha256.Sum256([]byte(s.Block.ID() + "\x00" + string(s.Block.Config)))
	return filepath.Join(d.env.StateDir, s.Service, "drained-"+hex.EncodeToString(sum[:6]))
}

// Done reports whether the file is gone and the wait over; for an undrain,
// whether the file is there.
func (d *Drain) Done(ctx context.Context, s reconcile.Step) (bool, error) {
	var c config
	if err := s.Block.Decode(&c); err != nil {
		return false, err
	}
	there, err := exists(c.Path)
	if err != nil || s.Phase == reconcile.Undrain {
		return there && err == nil, err
	}
	waited, err := os.ReadFile(d.note(s))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fault(err)
	}
	return !there && string(waited) == c.Path, nil
}

// Prepare fails if the file's directory is missing or cannot be written to: what
// leaves rotation could not come back. On a first install the release may still
// bring it; and the directory that releases are installed below is made by the
// install itself.
func (d *Drain) Prepare(_ context.Context, s reconcile.Step) error {
	var c config
	if err := s.Block.Decode(&c); err != nil || s.Action == reconcile.Create {
		return err
	}
	dir := filepath.Dir(c.Path)
	if info, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) && s.Target.InstallPath() == dir {
		return nil // whether it can be made is what the install asks
	} else if err != nil {
		return reconcile.HostFault(fmt.Errorf("drain file: %w", err), "Make it (mkdir -p "+dir+"), writable for the agent; below /run it goes with every boot.")
	} else if !info.IsDir() {
		return reconcile.HostFault(fmt.Errorf("drain file: %s is no directory", dir), "Make it one, writable for the agent.")
	}
	if err := durable.CanMake(dir); err != nil {
		return reconcile.HostFault(fmt.Errorf("drain file: %w", err), "Make it writable for the agent.")
	}
	_, err := exists(c.Path)
	return err
}

// Do removes the file durably and waits, or makes it: empty, 0644, durably.
func (d *Drain) Do(ctx context.Context, s reconcile.Step) error {
	var c config
	if err := s.Block.Decode(&c); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := durable.Remove(d.note(s)); err != nil {
		return fault(err)
	}
	if s.Phase == reconcile.Undrain {
		if there, err := exists(c.Path); err != nil || there {
			return err
		}
		return fault(durable.WriteFile(c.Path, nil, 0o644))
	}
	if _, err := exists(c.Path); err != nil {
		return err
	}
	if err := durable.Remove(c.Path); err != nil {
		return fault(err)
	}
	if s.Down {
		c.Wait = 0 // who is still sent to it finds nobody there, drained or not
	}
	timer := time.NewTimer(time.Duration(c.Wait))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return fmt.Errorf("waiting for the load balancer to notice that %s is gone: %w", c.Path, ctx.Err())
	}
	if err := durable.MkdirAll(filepath.Dir(d.note(s)), 0o700); err != nil {
		return fault(err)
	}
	return fault(durable.WriteFile(d.note(s), []byte(c.Path), 0o600))
}

// Observe says whether the service is in rotation: present if the file is.
func (d *Drain) Observe(ctx context.Context, s reconcile.Step) (reconcile.Condition, error) {
	var c config
	if err := s.Block.Decode(&c); err != nil {
		return reconcile.Condition{}, err
	}
	there, err := exists(c.Path)
	switch {
	case err != nil:
		return reconcile.Condition{}, err
	case there:
		return reconcile.Condition{Is: reconcile.Present, Detail: c.Path + " exists"}, nil
	}
	return reconcile.Condition{Is: reconcile.Absent, Detail: c.Path + " does not exist"}, nil
}

func exists(path string) (bool, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err == nil && info.IsDir() {
		err = fmt.Errorf("%s is a directory", path)
	}
	if err != nil {
		return false, fault(err)
	}
	return true, nil
}

func fault(err error) error {
	if err == nil {
		return nil
	}
	hint := "Provisioning makes the file's directory, writable for the agent."
	var path *fs.PathError
	if errors.As(err, &path) && errors.Is(err, fs.ErrNotExist) {
		dir := filepath.Dir(path.Path)
		return reconcile.HostFault(fmt.Errorf("drain file: there is no directory %s", dir), "Make it (mkdir -p "+dir+"), writable for the agent.")
	}
	return reconcile.HostFault(fmt.Errorf("drain file: %w", err), hint)
}
