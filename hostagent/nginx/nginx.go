// Package nginx is drain "nginx": a server of an upstream is marked `down` in
// the file that lists it, and nginx is told to read it again.
//
// The edit is two insertions on one line, ` down` before the semicolon and
// ` # drained by drydock` behind it; undrain takes out exactly those. The
// comment tells our `down` from a person's, which is left alone.
//
// A reload is asynchronous: `nginx -s reload` returns when the signal is sent.
// By nginx's manual (Controlling nginx) the master then starts workers with
// the new configuration and tells the old ones to finish, whose titles end in
// "is shutting down" from then on. So the driver looks at nginx's processes:
// once a master has new workers, and none of the old ones but such that are
// shutting down, new requests go where the file says; once those are gone too,
// nothing is in flight by the old one. The first must come within the block's
// timeout, or the file is put back; for the second the rest of the timeout is
// waited, and then it goes on and says so (a websocket may last for days;
// nginx's worker_shutdown_timeout bounds it). Of several nginx on one host, a
// reload command that is nginx itself means the one with the same -p and -c;
// with another command the first that changes its workers counts. Where no
// nginx can be seen, as on another machine, only the reload command's word
// counts, which is said.
//
// The file is replaced by a rename, so one that is mounted by itself into a
// container is not seen to change there: mount its directory.
package nginx

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-multierror"

	"drydock/hostagent/durable"
	"drydock/hostagent/proc"
	"drydock/reconcile"
	"drydock/spec"
)

type config struct {
	UpstreamFile string        `json:"upstream_file"`
	Server       string        `json:"server"`
	Reload       []string      `json:"reload"`
	Timeout      spec.Duration `json:"timeout"`
}

// holdEvery is how often Hold looks at the file, and holdAtMost how rarely
// while it cannot put the drain back.
const (
	holdEvery  = time.Second
	holdAtMost = time.Minute
)

// Drain is drain "nginx". Below its state directory stands a note for each
// block whose reload is due: from before the file is written until nginx has
// taken it up. Without it an agent that was killed in between would take the
// file's word for nginx's.
type Drain struct {
	env reconcile.Env
	// one edits and reloads at a time: services may share a file, and two
	// reloads at once could not be told apart.
	one chan struct{}
}

// New is the driver of one agent.
func New(env reconcile.Env) *Drain { return &Drain{env: env, one: make(chan struct{}, 1)} }

func (d *Drain) due(s reconcile.Step) string {
	sum := sha256.Sum256([]byte(s.Block.ID() + "\x00" + string(s.Block.Config)))
	return filepath.Join(d.env.StateDir, s.Service, "reload-due-"+hex.EncodeToString(sum[:6]))
}

func (d *Drain) isDue(s reconcile.Step) (bool, error) {
	_, err := os.Lstat(d.due(s))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, stateFault(err)
}

// Prepare fails, before anything is out of service, if the file cannot be
// edited or the reload command is not there.
func (d *Drain) Prepare(_ context.Context, s reconcile.Step) error {
	var c config
	if err := s.Block.Decode(&c); err != nil {
		return err
	}
	p, err := find(c)
	if left(s, err) {
		return nil
	}
	if err == nil {
		err = p.editable()
	}
	var all *multierror.Error
	for _, err := range []error{err, runnable(s, c)} {
		if err != nil {
			all = multierror.Append(all, err)
		}
	}
	return all.ErrorOrNil()
}

// Done reports whether the server is down (for an undrain: not down because of
// us) and no reload is due.
func (d *Drain) Done(_ context.Context, s reconcile.Step) (bool, error) {
	var c config
	if err := s.Block.Decode(&c); err != nil {
		return false, err
	}
	p, err := find(c)
	if err != nil {
		if left(s, err) {
			return true, nil
		}
		return false, err
	}
	due, err := d.isDue(s)
	if s.Phase == reconcile.Undrain {
		return !p.server.ours() && !due, err
	}
	return p.server.down() && !due, err
}

// Observe says how the file has it: whose `down` it is stands in the detail.
func (d *Drain) Observe(_ context.Context, s reconcile.Step) (reconcile.Condition, error) {
	var c config
	if err := s.Block.Decode(&c); err != nil {
		return reconcile.Condition{}, err
	}
	p, err := find(c)
	switch {
	case err != nil:
		return reconcile.Condition{}, err
	case p.server.ours():
		return reconcile.Condition{Is: reconcile.Absent, Detail: p.where() + " is down, drained by drydock"}, nil
	case p.server.down():
		return reconcile.Condition{Is: reconcile.Absent, Detail: p.where() + " was marked down by a person"}, nil
	}
	return reconcile.Condition{Is: reconcile.Present, Detail: p.where() + " is up"}, nil
}

// Do marks the server down, or up again, reloads, and returns when nginx has
// taken it up; a drain, when besides nothing is in flight by the old
// configuration, or the timeout is over. All that fails is the host's fault.
func (d *Drain) Do(ctx context.Context, s reconcile.Step) error {
	var c config
	if err := s.Block.Decode(&c); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	within, cancel := context.WithTimeout(ctx, time.Duration(c.Timeout))
	defer cancel()
	old, err := d.switchOver(within, s, c)
	if err == nil && s.Phase != reconcile.Undrain {
		err = d.await(ctx, within, s, old)
	}
	if err == nil {
		err = stateFault(durable.Remove(d.due(s)))
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("drain nginx: %w (%v)", ctx.Err(), err)
	case reconcile.BlameOf(err) == reconcile.Transient:
		return reconcile.HostFault(fmt.Errorf("drain nginx: %w", err), "See why nginx does not answer; the service is not touched before it does.")
	}
	return err
}

// switchOver edits the file and has nginx take it up. It returns the workers
// that still serve what they had accepted by then.
func (d *Drain) switchOver(ctx context.Context, s reconcile.Step, c config) (old []proc.ID, err error) {
	select {
	case d.one <- struct{}{}:
		defer func() { <-d.one }()
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for another service's reload: %w", ctx.Err())
	}
	p, err := find(c)
	if left(s, err) {
		d.say(s, fmt.Sprintf("%v, and no drain block names it any more: nothing is to be done there\n", err))
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	due, err := d.isDue(s)
	if err != nil {
		return nil, err
	}
	next := p.src
	switch {
	case s.Phase == reconcile.Undrain && p.server.ours():
		next = undrained(p.src, p.server)
	case s.Phase == reconcile.Undrain && p.server.down() && s.Asked:
		next = up(p.src, p.server)
	case s.Phase == reconcile.Undrain && p.server.down():
		d.say(s, p.where()+" was marked down by a person and stays so; take `down` out and reload nginx to put it back\n")
	case s.Phase != reconcile.Undrain && !p.server.down():
		next = drained(p.src, p.server)
		d.lastOne(s, p)
	case s.Phase != reconcile.Undrain && !p.server.ours():
		d.say(s, p.where()+" was marked down by a person already\n")
	}
	if bytes.Equal(next, p.src) && !due {
		return nil, nil
	}
	return d.apply(ctx, s, c, p, next)
}

func (d *Drain) apply(ctx context.Context, s reconcile.Step, c config, p place, next []byte) (old []proc.ID, err error) {
	if err := p.editable(); err != nil {
		return nil, err
	}
	if err := durable.MkdirAll(filepath.Dir(d.due(s)), 0o700); err != nil {
		return nil, stateFault(err)
	}
	if err := durable.WriteFile(d.due(s), []byte(p.path), 0o600); err != nil {
		return nil, stateFault(err)
	}
	if !bytes.Equal(next, p.src) {
		if err := durable.Replace(p.path, next, p.info); err != nil {
			return nil, durable.HostFault(fmt.Errorf("drain nginx: write %s: %w", p.path, err))
		}
		defer func() {
			if err != nil && !errors.Is(ctx.Err(), context.Canceled) {
				err = p.putBack(next, err)
			}
		}()
	}
	before := crews()
	if err := d.reload(ctx, s, c); err != nil {
		return nil, err
	}
	if len(before) == 0 {
		d.say(s, "no nginx can be seen on this host, so the reload command's word counts: requests in flight are not waited for\n")
		return nil, nil
	}
	return takenUp(ctx, before, c)
}

// await waits for the old workers to end. It goes on after the block's own
// timeout; only the caller's is an error.
func (d *Drain) await(ctx, within context.Context, s reconcile.Step, old []proc.ID) error {
	left := 0
	for _, id := range old {
		if err := id.Wait(within); err != nil && id.Alive() {
			left++
		}
	}
	if ctx.Err() != nil && left > 0 {
		return fmt.Errorf("waiting for nginx's old workers: %w", ctx.Err())
	}
	if left > 0 {
		d.say(s, fmt.Sprintf("%d old worker(s) of nginx still serve what they had accepted; the timeout is over and it goes on\n", left))
	}
	return nil
}

// lastOne says so if nothing will be left to serve in the server's upstream.
func (d *Drain) lastOne(s reconcile.Step, p place) {
	for _, other := range p.all {
		if other.upstream == p.server.upstream && other.end != p.server.end && !other.down() {
			return
		}
	}
	d.say(s, p.where()+" is the last server there that is not down: nginx answers 502 until it is back\n")
}

// Hold puts the drain back where somebody else wrote the file anew.
func (d *Drain) Hold(ctx context.Context, s reconcile.Step) {
	pause := holdEvery
	for {
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		pause = holdEvery
		c, err := d.Observe(ctx, s)
		if err != nil || c.Is != reconcile.Present {
			continue // a file that cannot be read is not reloaded by us either
		}
		d.say(s, "the drain was lost ("+c.Detail+"), and is put back\n")
		if err := d.Do(ctx, s); err != nil && ctx.Err() == nil {
			d.say(s, fmt.Sprintf("it could not be put back: %v\n", err))
			pause = holdAtMost
		}
	}
}

func (d *Drain) say(s reconcile.Step, text string) {
	if d.env.Output == nil {
		return
	}
	if w := d.env.Output(s); w != nil {
		_, _ = io.WriteString(w, text)
	}
}

func stateFault(err error) error {
	if err == nil {
		return nil
	}
	return reconcile.HostFault(fmt.Errorf("drain nginx: keep a note that a reload is due: %w", err), "Mend the state directory.")
}
