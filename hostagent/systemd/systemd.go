// Package systemd is the start and check driver for hosts with systemd, over
// D-Bus. A start is more than a job that systemd calls done: it is proven that
// a new process runs, and where it does not, whose fault that is.
//
// Below the driver's state directory each service has a directory with one
// file, asked, which says what was asked of systemd last (see record.go).
package systemd

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"drydock/reconcile"
	"drydock/spec"
)

// config is the start block's attributes.
type config struct {
	Unit    string        `json:"unit"`
	Action  string        `json:"action"`
	Timeout spec.Duration `json:"timeout"`
}

// The actions of a block.
const (
	restart = "restart"
	reload  = "reload"
	none    = "none"
)

// Driver is start "systemd".
type Driver struct {
	env     reconcile.Env
	bus     *bus
	journal []string // the command that reads systemd's journal

	mu    sync.Mutex
	units map[string]chan struct{} // holds one token while nobody acts on the unit
}

// Option changes what New makes; a host's own agent needs none.
type Option func(*Driver)

// At names the D-Bus addresses that are tried in turn ("unix:path=…") instead
// of the host's system bus and systemd's own socket.
func At(addresses ...string) Option { return func(d *Driver) { d.bus.addresses = addresses } }

// Within bounds each call of systemd; default 8 s.
func Within(patience time.Duration) Option { return func(d *Driver) { d.bus.patience = patience } }

// Journalctl is the command that reads the journal; default journalctl.
func Journalctl(argv ...string) Option { return func(d *Driver) { d.journal = argv } }

// New is the driver of one agent. It connects when it is first needed.
func New(env reconcile.Env, options ...Option) *Driver {
	d := &Driver{env: env, bus: newBus(), journal: []string{"journalctl"}, units: map[string]chan struct{}{}}
	for _, o := range options {
		o(d)
	}
	return d
}

// Check is check "systemd", over the same connection.
func (d *Driver) Check() Check { return Check{d.bus} }

// Close ends the connection; the next call makes a new one.
func (d *Driver) Close() { d.bus.close() }

func decode(s reconcile.Step) (config, error) {
	var c config
	err := s.Block.Decode(&c)
	return c, err
}

// Done reports whether a process runs that was started, or reloaded, after it
// was asked for this step's revision; for a removal, whether none runs that
// would be stopped. Action none is always done.
func (d *Driver) Done(ctx context.Context, s reconcile.Step) (bool, error) {
	c, err := decode(s)
	if err != nil || c.Action == none {
		return err == nil, err
	}
	r, err := d.read(s)
	if err != nil {
		return false, err
	}
	u, err := d.bus.unit(ctx, c.Unit)
	if err != nil {
		return false, err
	}
	if s.Action == reconcile.Remove {
		return !u.up() || spares(c, r), nil
	}
	switch {
	case r.Ident != identity(s) || u.job != 0:
		return false, nil
	case u.spent():
		return r.After != "", nil // it has run, and keeps nothing running
	case !u.running():
		return false, nil
	case r.After != "":
		return true, nil // it, or what somebody started since: of the same release
	}
	return u.invocation != r.Before, nil
}

// Prepare fails if the unit is missing, masked or broken, or cannot do what
// the block asks of it. A unit that the install step brings may be missing.
func (d *Driver) Prepare(ctx context.Context, s reconcile.Step) error {
	c, err := decode(s)
	if err != nil || s.Action == reconcile.Remove {
		return err
	}
	u, err := d.bus.unit(ctx, c.Unit)
	if err != nil {
		return err
	}
	if u.load == "not-found" && brings(s) {
		return nil
	}
	return lacks(u, c.Action)
}

// brings reports whether the step's release may bring its unit with it, as a
// package does.
func brings(s reconcile.Step) bool {
	i := s.Target.Install
	return i != nil && (i.Driver == "apt" || i.Driver == "command")
}

// Do restarts or reloads the unit and proves that it took effect; for a
// removal it stops the unit. A unit that is to be reloaded and does not run is
// started; on removal one that ran already, when it was first reloaded, is
// left running: it serves others too.
func (d *Driver) Do(ctx context.Context, s reconcile.Step) error {
	c, err := decode(s)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil || c.Action == none {
		return err
	}
	free, err := d.alone(ctx, c.Unit)
	if err != nil {
		return err
	}
	defer free()
	if s.Action == reconcile.Remove {
		return d.stop(ctx, s, c)
	}
	before, err := d.bus.unit(ctx, c.Unit)
	if err != nil {
		return err
	}
	if err := lacks(before, c.Action); err != nil {
		return err
	}
	if before.stale {
		d.say(s, c.Unit+" was changed on disk since systemd read it, and is started as systemd knows it. If that is not meant, run: systemctl daemon-reload\n")
	}
	return d.act(ctx, s, c, before)
}

// act gives systemd the job, waits for its end, and looks at what came of it.
func (d *Driver) act(ctx context.Context, s reconcile.Step, c config, before unit) error {
	r, err := d.read(s)
	if err != nil {
		return err
	}
	verb := c.Action
	if !before.running() {
		verb = restart
	}
	ours := before.down()
	if r.Ident != "" && r.Unit == c.Unit {
		ours = r.Ours // as it was at first
	}
	r = record{Ident: identity(s), Unit: c.Unit, Before: before.invocation, Ours: ours}
	if err := d.write(s, r); err != nil {
		return err
	}
	// An old failure, or ten releases in a row, must not make systemd refuse
	// this start for coming too often.
	if err := d.bus.reset(ctx, c.Unit); err != nil {
		return err
	}
	defer d.bus.hold(ctx, c.Unit)()
	j, err := d.bus.job(ctx, verb, c.Unit, time.Duration(c.Timeout))
	if err != nil {
		return err
	}
	// The job has ended, so what follows is short; a caller that has gone
	// meanwhile is told so, and Done finds out the rest.
	after, err := d.bus.unit(ctx, c.Unit)
	if err != nil {
		return err
	}
	if err := verdict(j, before, after); err != nil {
		return d.explained(ctx, s, j, after, err)
	}
	r.After = after.invocation
	return d.write(s, r)
}

// stop is a removal.
func (d *Driver) stop(ctx context.Context, s reconcile.Step, c config) error {
	r, err := d.read(s)
	if err != nil {
		return err
	}
	u, err := d.bus.unit(ctx, c.Unit)
	if err != nil {
		return err
	}
	switch {
	case spares(c, r):
		d.say(s, c.Unit+" ran before this service was deployed, and is left running\n")
	case u.up():
		j, err := d.bus.job(ctx, stop, c.Unit, time.Duration(c.Timeout))
		if err != nil {
			return err
		}
		if u, err = d.bus.unit(ctx, c.Unit); err != nil {
			return err
		}
		if u.up() {
			return reconcile.HostFault(fmt.Errorf("%s did not stop: systemd calls the job %s, and the unit is %s", c.Unit, j.result, u.state()),
				"See journalctl -u "+c.Unit+"; it is tried again.")
		}
	}
	return d.forget(s)
}

// spares reports whether a removal leaves the unit running.
func spares(c config, r record) bool { return c.Action == reload && !r.Ours }

// alone is held while something is done to a unit: of two services that share
// one, one's job must not replace the other's.
func (d *Driver) alone(ctx context.Context, unit string) (free func(), err error) {
	d.mu.Lock()
	turn := d.units[unit]
	if turn == nil {
		turn = make(chan struct{}, 1)
		d.units[unit] = turn
	}
	d.mu.Unlock()
	select {
	case turn <- struct{}{}:
		return func() { <-turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Observe says whether the unit runs, and of one that died what it said last. What a person or systemd starts anew at
// this moment is neither there nor gone.
func (d *Driver) Observe(ctx context.Context, s reconcile.Step) (reconcile.Condition, error) {
	c, err := decode(s)
	if err != nil {
		return reconcile.Condition{}, err
	}
	u, err := d.bus.unit(ctx, c.Unit)
	if err != nil {
		return reconcile.Condition{}, err
	}
	seen := reconcile.Condition{Is: reconcile.Absent, Detail: u.detail(), Run: u.invocation, Restarts: u.restarts}
	switch {
	case u.running():
		seen.Is = reconcile.Present
		return seen, nil
	case c.Action == none:
		seen.Is, seen.Restarts = reconcile.Unknown, 0
	case u.job != 0 && u.sub != "auto-restart":
		seen.Is = reconcile.Unknown
	case u.spent():
		seen.Is = reconcile.Unknown
		seen.Detail += "; a oneshot keeps nothing running, unless its unit has RemainAfterExit=yes"
	}
	seen.Detail += d.lastWords(ctx, u)
	return seen, nil
}

func (d *Driver) say(s reconcile.Step, text string) {
	if d.env.Output == nil {
		return
	}
	if w := d.env.Output(s); w != nil {
		_, _ = io.WriteString(w, text)
	}
}
