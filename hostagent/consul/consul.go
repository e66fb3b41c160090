// Package consul is drain "consul": Consul's maintenance mode of one service.
//
// Maintenance is a critical check, "_service_maintenance:" and the service's
// id, at the agent where the service is registered; its Notes are the reason
// it was switched on for. Ours begins with "drydock: ". Maintenance for any
// other reason is a person's: a drain finds the service out of rotation and
// leaves it so, and an undrain does not end it. Consul keeps the first reason,
// so a person who switches it on while it is on for us switches nothing on.
//
// The agent passes the check on to Consul's servers, and what asks them (DNS,
// the HTTP API) leaves the service out from then on; a drain ends when the
// servers have it. Who keeps their answers (a DNS TTL, agent caching) still
// comes for as long as that. Consul restores maintenance after a restart of
// its agent, but a service that is registered anew with other checks, as some
// do when they start, loses it: Hold puts it back.
//
// No Consul could be had for the tests of this package: they run against a
// stand-in (testdata/rig) that follows Consul's documented HTTP API.
package consul

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"drydock/reconcile"
	"drydock/spec"
)

type config struct {
	Address   string        `json:"address"`
	ServiceID string        `json:"service_id"`
	Token     spec.Text     `json:"token"`
	Timeout   spec.Duration `json:"timeout"`
}

const (
	// ours begins the reason of maintenance that a drain of ours switched on.
	ours = "drydock: "

	catalogEvery = 100 * time.Millisecond // looks at Consul's servers
	holdEvery    = time.Second
)

// Drain is drain "consul". It keeps nothing: whose maintenance it is stands in
// its reason.
type Drain struct{ env reconcile.Env }

// New is the driver of one agent.
func New(env reconcile.Env) *Drain { return &Drain{env: env} }

// reason is what people read in Consul.
func reason(s reconcile.Step) string {
	return fmt.Sprintf("%s%s %s on %s", ours, s.Service, s.Target.Release.Version, s.Host)
}

// Prepare fails, before anything is out of service, if the agent does not
// answer, does not let us look, or does not know the service. On a first
// install the service may still register itself.
func (d *Drain) Prepare(ctx context.Context, s reconcile.Step) error {
	a, err := d.agent(s)
	if err != nil {
		return err
	}
	st, err := a.look(ctx)
	if err == nil && !st.registered && s.Action != reconcile.Create && !s.Left() {
		return a.unregistered()
	}
	if err == nil && st.registered {
		_, err = a.catalog(ctx, st)
	}
	return err
}

// Done reports whether the service is in maintenance, and Consul's servers
// have that; for an undrain, whether it is in none of ours.
func (d *Drain) Done(ctx context.Context, s reconcile.Step) (bool, error) {
	a, err := d.agent(s)
	if err != nil {
		return false, err
	}
	st, err := a.look(ctx)
	switch {
	case err != nil:
		return false, err
	case !st.registered && s.Left():
		return true, nil
	case !st.registered:
		return false, a.unregistered()
	case s.Phase == reconcile.Undrain:
		return !st.ours(), nil
	case !st.maintained():
		return false, nil
	}
	k, err := a.catalog(ctx, st)
	return k != missing, err
}

// Observe says whether the service is in maintenance, and whose it is.
func (d *Drain) Observe(ctx context.Context, s reconcile.Step) (reconcile.Condition, error) {
	a, err := d.agent(s)
	if err != nil {
		return reconcile.Condition{}, err
	}
	st, err := a.look(ctx)
	switch {
	case err != nil:
		return reconcile.Condition{}, err
	case !st.registered:
		return reconcile.Condition{Is: reconcile.Unknown, Detail: a.id + " is not registered at " + a.where()}, nil
	case st.ours():
		return reconcile.Condition{Is: reconcile.Absent, Detail: "in maintenance: " + short(st.reason)}, nil
	case st.maintained():
		return reconcile.Condition{Is: reconcile.Absent, Detail: "a person put it in maintenance: " + short(st.reason)}, nil
	case st.node:
		return reconcile.Condition{Is: reconcile.Absent, Detail: "the whole node is in maintenance"}, nil
	}
	return reconcile.Condition{Is: reconcile.Present, Detail: "not in maintenance"}, nil
}

// Do switches maintenance on and waits until Consul's servers have it, or
// switches off what is ours. All that fails is the host's fault.
func (d *Drain) Do(ctx context.Context, s reconcile.Step) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	a, err := d.agent(s)
	if err != nil {
		return err
	}
	within, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	if s.Phase == reconcile.Undrain {
		err = d.leave(within, s, a)
	} else {
		err = d.enter(within, s, a)
	}
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("drain consul: %w (%v)", ctx.Err(), err)
	}
	return err
}

func (d *Drain) enter(ctx context.Context, s reconcile.Step, a *agent) error {
	st, err := a.look(ctx)
	if err == nil && !st.registered {
		return d.absent(s, a)
	}
	if err == nil && !st.maintained() {
		if err = a.maintenance(ctx, true, reason(s)); err == nil {
			st, err = a.look(ctx) // a person may have been faster
		}
	}
	switch {
	case err != nil:
		return err
	case !st.maintained():
		return fault(fmt.Errorf("%s took %s into maintenance, and it is not in it", a.where(), a.id), "See Consul's log for who ended it.")
	case !st.ours():
		d.say(s, fmt.Sprintf("a person has put %s in maintenance (%s); it stays so\n", a.id, short(st.reason)))
		return nil
	}
	return d.await(ctx, s, a, st)
}

// absent is what it means that the service is not registered.
func (d *Drain) absent(s reconcile.Step, a *agent) error {
	if !s.Left() {
		return a.unregistered()
	}
	d.say(s, a.id+" is not registered at "+a.where()+", and no drain block names it any more: nothing is to be done there\n")
	return nil
}

// await returns when Consul's servers have the maintenance.
func (d *Drain) await(ctx context.Context, s reconcile.Step, a *agent, st state) error {
	tick := time.NewTicker(catalogEvery)
	defer tick.Stop()
	for {
		k, err := a.catalog(ctx, st)
		switch {
		case err == nil && k == known:
			return nil
		case err == nil && k == hidden:
			d.say(s, "the token lacks node:read, so it cannot be seen whether Consul's servers have the maintenance; it is not waited for\n")
			return nil
		case err == nil:
			err = fmt.Errorf("the agent at %s has %s in maintenance, but Consul's servers do not show it", a.where(), a.id)
		}
		select {
		case <-ctx.Done():
			return fault(fmt.Errorf("after %v: %w", a.timeout, err),
				"See whether that agent reaches its servers (consul members, consul monitor), and whether the token has node:read.")
		case <-tick.C:
		}
	}
}

func (d *Drain) leave(ctx context.Context, s reconcile.Step, a *agent) error {
	st, err := a.look(ctx)
	switch {
	case err != nil:
		return err
	case !st.registered:
		return d.absent(s, a)
	case !st.maintained():
		return nil
	case !st.ours() && !s.Asked:
		d.say(s, fmt.Sprintf("a person has put %s in maintenance (%s), and it stays so; `consul maint -disable -service=%s` ends it\n", a.id, short(st.reason), a.id))
		return nil
	}
	if err := a.maintenance(ctx, false, ""); err != nil {
		return err
	}
	if st, err = a.look(ctx); err == nil && (st.ours() || s.Asked && st.maintained()) {
		err = fault(fmt.Errorf("%s ended the maintenance of %s, and it is still in it", a.where(), a.id), "See Consul's log for who began it again.")
	}
	return err
}

// Hold puts maintenance back where registering the service anew has lost it.
func (d *Drain) Hold(ctx context.Context, s reconcile.Step) {
	tick := time.NewTicker(holdEvery)
	defer tick.Stop()
	var said string
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := d.hold(ctx, s)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			said = ""
		} else if err.Error() != said { // once, not every second
			said = err.Error()
			d.say(s, "whether the drain still holds: "+said+"\n")
		}
	}
}

func (d *Drain) hold(ctx context.Context, s reconcile.Step) error {
	a, err := d.agent(s)
	if err != nil {
		return err
	}
	st, err := a.look(ctx)
	if err != nil || !st.registered || st.maintained() {
		return err // what is not registered gets no traffic
	}
	d.say(s, "the maintenance of "+a.id+" was lost, and is put back\n")
	return a.maintenance(ctx, true, reason(s))
}

func (d *Drain) say(s reconcile.Step, text string) {
	if d.env.Output == nil {
		return
	}
	if w := d.env.Output(s); w != nil {
		_, _ = io.WriteString(w, text)
	}
}

// short is what somebody wrote into Consul, for a person: one line of it.
func short(text string) string {
	const most = 200
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "�"))
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return fmt.Sprintf("%q", text)
}
