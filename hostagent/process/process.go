// Package process is the start driver for hosts without systemd: it starts a
// release's program so that it outlives the agent, knows it again after the
// agent was restarted or killed, and keeps it running while an agent does.
//
// Below the driver's state directory each service has a directory: lock and
// record (see argv.Site), and output.log unless the block names a log. The
// program writes to the log itself, so that it needs no agent; the agent bounds
// it (see log.go).
package process

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/go-multierror"

	"drydock/hostagent/argv"
	"drydock/reconcile"
	"drydock/spec"
)

// config is the block's attributes.
type config struct {
	Command     []string          `json:"command"`
	Env         map[string]string `json:"env"`
	EnvFile     string            `json:"env_file"`
	User        string            `json:"user"`
	StopTimeout spec.Duration     `json:"stop_timeout"`
	Log         string            `json:"log"`
	Timeout     spec.Duration     `json:"timeout"`
}

// Driver is start "process".
type Driver struct {
	env      reconcile.Env
	mu       sync.Mutex
	services map[string]*service
}

// service is what one agent knows of a service; all of it can be lost.
type service struct {
	acting sync.Mutex // held while something is stopped or started

	mu     sync.Mutex
	stop   context.CancelFunc // ends the keeping; nil if nobody keeps
	kept   context.Context    // of the keeping; done when it ends
	deaths int                // in a row, while it is kept
	latest string             // the identity that Do started last; "" before this agent's first
}

// New is the driver of one agent.
func New(env reconcile.Env) *Driver {
	return &Driver{env: env, services: map[string]*service{}}
}

func (d *Driver) service(name string) *service {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.services[name] == nil {
		d.services[name] = &service{}
	}
	return d.services[name]
}

func (d *Driver) site(s reconcile.Step) argv.Site {
	return argv.Site{Dir: filepath.Join(d.env.StateDir, s.Service)}
}

// identity is what a running process is compared by: the release it was
// started from, and how.
func identity(s reconcile.Step) string {
	r := s.Target.Release
	data, _ := json.Marshal([]any{argv.ReleaseDir(s), r.Version, r.Digest, max(r.Attempt, 1), s.Block.Config})
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func decode(s reconcile.Step) (config, error) {
	var c config
	err := s.Block.Decode(&c)
	if c.User == "" {
		c.User = argv.User(s)
	}
	return c, err
}

// Done reports whether the running process was started for this step's release
// by this block; for a removal, whether nothing of the service runs.
func (d *Driver) Done(ctx context.Context, s reconcile.Step) (bool, error) {
	t, err := d.site(s).Look(ctx)
	if err != nil {
		return false, err
	}
	if s.Action == reconcile.Remove {
		return !t.Running(), nil
	}
	return t.Alive && t.Ident == identity(s), nil
}

// Prepare fails if the host lacks the block's user, its env_file, a program that
// is not the release's, or a place for the log.
func (d *Driver) Prepare(_ context.Context, s reconcile.Step) error {
	c, err := decode(s)
	if err != nil || s.Action == reconcile.Remove {
		return err
	}
	var all *multierror.Error
	if _, err := environment(c); err != nil {
		all = multierror.Append(all, err)
	}
	if err := argv.ProgramsAs(s, c.User, c.Command); err != nil {
		all = multierror.Append(all, err)
	}
	if err := canLog(c.Log); err != nil {
		all = multierror.Append(all, err)
	}
	return all.ErrorOrNil()
}

// Do stops what runs of the service, proves it gone, and starts the release's
// program; for a removal it only stops. From then on the service is not kept
// as another release or block than this step's: a new program that dies while
// it is checked stays dead and is seen, until the agent calls Keep for it.
func (d *Driver) Do(ctx context.Context, s reconcile.Step) error {
	c, err := decode(s)
	if err != nil {
		return err
	}
	v := d.service(s.Service)
	v.acting.Lock()
	defer v.acting.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	v.turn(s)
	grace := time.Duration(c.StopTimeout)
	ctx, cancel := context.WithTimeout(ctx, max(time.Duration(c.Timeout), time.Second)+grace)
	defer cancel()
	if err := d.site(s).Stop(ctx, grace); err != nil {
		return fmt.Errorf("stop what runs of %s: %w", s.Service, err)
	}
	if s.Action == reconcile.Remove {
		return nil
	}
	_, err = d.start(ctx, s, c)
	return err
}

// start needs acting to be held.
func (d *Driver) start(ctx context.Context, s reconcile.Step, c config) (*argv.Started, error) {
	env, err := environment(c)
	if err != nil {
		return nil, err
	}
	log, err := openLog(d.logPath(s, c))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	return d.site(s).Start(ctx, s,
		argv.Command{Argv: c.Command, Env: env, User: c.User},
		argv.Start{Ident: identity(s), Log: log})
}

// Observe says whether the process runs, and which.
func (d *Driver) Observe(ctx context.Context, s reconcile.Step) (reconcile.Condition, error) {
	t, err := d.site(s).Look(ctx)
	if n := d.service(s.Service).reviving(identity(s)); err == nil && n > 0 && !t.Alive {
		// Looked after already: a repair would only come in between.
		return reconcile.Condition{Is: reconcile.Unknown, Detail: fmt.Sprintf("it died %d times in a row and is started again; %s", n, d.lastWords(s))}, nil
	}
	switch {
	case err != nil:
		return reconcile.Condition{}, err
	case t.Alive && t.Ident == identity(s):
		return reconcile.Condition{Is: reconcile.Present, Detail: t.Main.String()}, nil
	case t.Alive:
		return reconcile.Condition{Is: reconcile.Altered, Detail: t.Main.String() + " was started from another release or by another block"}, nil
	case t.Running():
		return reconcile.Condition{Is: reconcile.Absent, Detail: "the program has ended, but " + t.LeftBehind()}, nil
	case t.Begun:
		return reconcile.Condition{Is: reconcile.Absent, Detail: "the process has ended; " + d.lastWords(s)}, nil
	}
	return reconcile.Condition{Is: reconcile.Absent, Detail: "never started"}, nil
}
