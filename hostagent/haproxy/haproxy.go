// Package haproxy is drain "haproxy": a server of an HAProxy backend is set to
// drain over the runtime API, and to ready once its service is healthy.
//
// What the server is set to is HAProxy's to know, and forgotten by every
// reload that does not load a state file. So nothing is remembered here: each
// question is asked anew, Hold puts back a drain that got lost, and sessions
// that a reload left to an old worker are looked for at that worker.
//
// Two things that both look like "out" are kept apart throughout. Drained and
// in maintenance are what somebody set; down is what HAProxy's own health
// check found, and says nothing about rotation. Maintenance is never ours.
package haproxy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"drydock/reconcile"
	"drydock/spec"
)

type config struct {
	Address string        `json:"address"`
	Backend string        `json:"backend"`
	Server  string        `json:"server"`
	Timeout spec.Duration `json:"timeout"`
}

// How often is looked. A look costs HAProxy well under a millisecond, and each
// is time that the host is out of rotation.
const (
	lookEvery  = 50 * time.Millisecond
	lookAgain  = 10 * time.Millisecond // after the first look that found no session
	sayEvery   = 5 * time.Second
	holdEvery  = 200 * time.Millisecond
	patience   = 2 * time.Second // for an HAProxy that is being restarted
	callAtMost = 5 * time.Second
)

// Drain is drain "haproxy".
type Drain struct{ env reconcile.Env }

// New is the driver of one agent.
func New(env reconcile.Env) *Drain { return &Drain{env: env} }

// Done reports, for a drain, whether the server takes no new sessions and has
// none left; for an undrain, whether it takes them as far as it is ours to say.
func (d *Drain) Done(ctx context.Context, s reconcile.Step) (bool, error) {
	p, err := placeOf(s)
	if err != nil {
		return false, err
	}
	v, err := p.look(ctx)
	if errors.Is(err, errUnknown) && s.Left() {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	if s.Phase == reconcile.Undrain {
		return !v.Admin.is(drained) && (v.Admin.out() || v.usable()), nil
	}
	return v.Admin.out() && v.left() == 0, nil
}

// Observe says whether somebody has taken the server out. One that is down by
// its health check is in rotation: nobody took it out, and it comes back by itself.
func (d *Drain) Observe(ctx context.Context, s reconcile.Step) (reconcile.Condition, error) {
	p, err := placeOf(s)
	if err != nil {
		return reconcile.Condition{}, err
	}
	r, err := p.find(ctx)
	if err != nil {
		return reconcile.Condition{}, err
	}
	is := reconcile.Present
	if r.Admin.out() || r.weightless() {
		is = reconcile.Absent
	}
	return reconcile.Condition{Is: is, Detail: p.String() + " " + r.says()}, nil
}

// Prepare fails if HAProxy does not answer at the address, does not let itself
// be told, or does not know the server.
func (d *Drain) Prepare(ctx context.Context, s reconcile.Step) error {
	p, err := placeOf(s)
	if err != nil {
		return err
	}
	level, err := p.ask(ctx, "show cli level")
	if err != nil {
		return err
	}
	if level = strings.TrimSpace(level); level == "operator" || level == "user" {
		return p.notAdmin(fmt.Sprintf("grants the level %s only", level))
	}
	if _, err = p.find(ctx); errors.Is(err, errUnknown) && s.Left() {
		return nil
	}
	return err
}

// Do drains and waits until the server has no session left, or undrains and
// waits until HAProxy counts the server as up. Sessions that do not end within
// the timeout are said, and left to what follows; a server that does not come
// up by HAProxy's own check is the release's fault: the one before it did.
func (d *Drain) Do(ctx context.Context, s reconcile.Step) error {
	p, err := placeOf(s)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	w := &watch{place: p, asked: s.Asked, down: s.Down, say: func(format string, args ...any) { d.say(s, format, args...) }, until: time.Now().Add(p.timeout)}
	if s.Phase == reconcile.Undrain {
		err = w.undrain(ctx)
	} else {
		err = w.drain(ctx)
	}
	if errors.Is(err, errUnknown) && s.Left() {
		d.say(s, "%s is gone, and not declared any more: nothing is left to do there", p)
		return nil
	}
	return err
}

// Hold puts the drain back where a reload has lost it. What a person set
// meanwhile stays.
func (d *Drain) Hold(ctx context.Context, s reconcile.Step) {
	p, err := placeOf(s)
	if err != nil {
		return // said when the step runs
	}
	ticker := time.NewTicker(holdEvery)
	defer ticker.Stop()
	for said := ""; ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		r, err := p.find(ctx)
		lost := err == nil && !r.Admin.out()
		if lost {
			err = p.set(ctx, "drain")
		}
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && err.Error() != said:
			said = err.Error()
			d.say(s, "%s is drained, and it cannot be seen whether it still is: %v", p, err)
		case err == nil:
			if lost {
				d.say(s, "%s: the drain was lost, as by a reload of HAProxy, and is set again", p)
			}
			said = ""
		}
	}
}

func (d *Drain) say(s reconcile.Step, format string, args ...any) {
	if d.env.Output == nil {
		return
	}
	if w := d.env.Output(s); w != nil {
		_, _ = fmt.Fprintf(w, format+"\n", args...)
	}
}

// placeOf is where a step acts.
func placeOf(s reconcile.Step) (place, error) {
	var c config
	if err := s.Block.Decode(&c); err != nil {
		return place{}, err
	}
	for _, name := range []string{c.Backend, c.Server} {
		if !isName(name) {
			return place{}, reconcile.HostFault(
				fmt.Errorf("%q is no name that HAProxy could know", name),
				"Write the names of backend and server as in haproxy.cfg: letters, digits and - _ . : make them up.")
		}
	}
	a, err := addressOf(c.Address)
	if err != nil {
		return place{}, err
	}
	a.limit = min(callAtMost, max(time.Duration(c.Timeout), time.Millisecond))
	return place{address: a, backend: c.Backend, server: c.Server, timeout: time.Duration(c.Timeout)}, nil
}

// isName keeps what would end a command of the runtime API, or begin another, out of it.
func isName(s string) bool {
	return s != "" && len(s) <= 256 && strings.IndexFunc(s, func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("-_.:", c))
	}) < 0
}

// What HAProxy has answered, as against what became of the asking: to ask
// again at once would change nothing.
var (
	errUnknown = errors.New("unknown")
	errRefuses = errors.New("refuses")
)
