package command

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"drydock/hostagent/argv"
	"drydock/hostagent/durable"
	"drydock/hostagent/proc"
	"drydock/reconcile"
	"drydock/spec"
)

type startConfig struct {
	Command []string      `json:"command"`
	Stop    []string      `json:"stop"`
	Running []string      `json:"running"`
	Timeout spec.Duration `json:"timeout"`
}

// Start is start "command". What the command leaves running is left running;
// its output, and all that it left running still prints, goes to start.log in
// the service's state directory, which is emptied at each start.
type Start struct{ env reconcile.Env }

// NewStart is the driver of one agent.
func NewStart(env reconcile.Env) *Start { return &Start{env} }

// started is what the note says: running alone cannot tell the new release
// from the old one, and nothing that was started outlives a boot.
func started(s reconcile.Step) (string, error) {
	boot, err := proc.Boot()
	if err != nil {
		return "", reconcile.HostFault(err, "Mount /proc.")
	}
	data, err := json.Marshal([]any{argv.ReleaseDir(s), s.Target.Release.Version, s.Target.Release.Digest,
		max(s.Target.Release.Attempt, 1), s.Block.Config, boot})
	return string(data), err
}

// Done reports whether the command succeeded for this release, and running
// agrees; for a removal, whether running says that it does not.
func (d *Start) Done(ctx context.Context, s reconcile.Step) (bool, error) {
	var c startConfig
	if err := s.Block.Decode(&c); err != nil {
		return false, err
	}
	text, err := started(s)
	if err != nil {
		return false, err
	}
	if s.Action == reconcile.Remove {
		text = "stopped"
	}
	noted, err := noteOf(d.env, s, "start").says(text)
	if err != nil || !noted || len(c.Running) == 0 {
		return noted, err
	}
	running, _, err := ask(ctx, nil, s, c.Running, c.Timeout)
	return err == nil && running == (s.Action != reconcile.Remove), err
}

// Do runs command, which starts the release over an old one; for a removal,
// stop.
func (d *Start) Do(ctx context.Context, s reconcile.Step) error {
	var c startConfig
	if err := s.Block.Decode(&c); err != nil {
		return err
	}
	text, err := started(s)
	if err != nil {
		return err
	}
	n := noteOf(d.env, s, "start")
	if err := n.clear(); err != nil {
		return err
	}
	if s.Action == reconcile.Remove {
		if err := d.remove(ctx, s, c); err != nil {
			return err
		}
		return n.write("stopped")
	}
	log, err := d.log(s)
	if err != nil {
		return err
	}
	defer log.Close()
	_, err = argv.Run(ctx, d.env, s, argv.Command{
		Argv: c.Command, User: argv.User(s), Timeout: time.Duration(c.Timeout), Leave: true, File: log,
	})
	if err != nil {
		return err
	}
	if len(c.Running) > 0 {
		if err := await(ctx, nil, s, c.Running, c.Timeout, true); err != nil {
			return err
		}
	}
	return n.write(text)
}

func (d *Start) remove(ctx context.Context, s reconcile.Step, c startConfig) error {
	if len(c.Stop) == 0 {
		return reconcile.HostFault(fmt.Errorf("start \"command\" of %s has no stop command", s.Service), "Stop it by hand, or declare stop before it is removed.")
	}
	if _, err := run(ctx, d.env, nil, s, c.Stop, c.Timeout); err != nil {
		return err
	}
	if len(c.Running) == 0 {
		return nil
	}
	return await(ctx, nil, s, c.Running, c.Timeout, false)
}

func (d *Start) log(s reconcile.Step) (*os.File, error) {
	path := filepath.Join(d.env.StateDir, s.Service, "start.log")
	if err := durable.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, stateFault(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC|os.O_APPEND|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, stateFault(err)
	}
	return f, nil
}

// Observe asks running.
func (d *Start) Observe(ctx context.Context, s reconcile.Step) (reconcile.Condition, error) {
	var c startConfig
	if err := s.Block.Decode(&c); err != nil {
		return reconcile.Condition{}, err
	}
	if len(c.Running) == 0 {
		return reconcile.Condition{Is: reconcile.Unknown, Detail: "the block has no running command"}, nil
	}
	running, out, err := ask(ctx, nil, s, c.Running, c.Timeout)
	switch {
	case err != nil:
		return reconcile.Condition{}, err
	case running:
		return reconcile.Condition{Is: reconcile.Present, Detail: firstLine(out)}, nil
	}
	return reconcile.Condition{Is: reconcile.Absent, Detail: firstLine(out)}, nil
}
