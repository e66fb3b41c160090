package process

import (
	"context"
	"fmt"
	"io"
	"time"

	"drydock/hostagent/argv"
	"drydock/reconcile"
)

const (
	firstPause = time.Second // before a process that died is started again
	longPause  = time.Minute
	// ranWell is how long a process must have run for its next death to count
	// as a first one again.
	ranWell = 2 * time.Minute
	// logEvery is how often the log's size is looked at, and logSoon while it
	// grows that fast: it lies beside the journal, and a service that only
	// prints writes gigabytes a minute.
	logEvery = 5 * time.Second
	logSoon  = time.Second
)

// pause is how long to wait before the n-th start in a row (from 0).
func pause(n int) time.Duration {
	return min(firstPause<<min(n, 16), longPause)
}

// keep replaces who keeps the service; nil is nobody.
func (v *service) keep(stop context.CancelFunc) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.stop != nil {
		v.stop()
	}
	v.stop = stop
}

// turn says that Do acts for s from now on.
func (v *service) turn(s reconcile.Step) {
	if s.Action == reconcile.Remove {
		v.keep(nil)
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.latest = identity(s)
}

// died notes how often the kept process died in a row.
func (v *service) died(n int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.deaths = n
}

// reviving is how often the process of ident died in a row while it is kept;
// 0 if nobody keeps it.
func (v *service) reviving(ident string) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.kept == nil || v.kept.Err() != nil || v.latest != "" && v.latest != ident {
		return 0
	}
	return v.deaths
}

// may reports whether a keeper of ident may start it: not if Do has started
// something else since.
func (v *service) may(ident string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.latest == "" || v.latest == ident
}

// Keep watches the process of s.Target and starts it again when it has died,
// after 1 s, doubled up to 1 m while it goes on dying. It never acts while Do
// does. While another release is in its place it rests, and goes on when Do has
// brought its own back.
func (d *Driver) Keep(ctx context.Context, s reconcile.Step) error {
	c, err := decode(s)
	if err != nil {
		return err
	}
	v := d.service(s.Service)
	ctx, cancel := context.WithCancel(ctx)
	v.keep(cancel)
	v.mu.Lock()
	v.kept, v.deaths = ctx, 0
	v.mu.Unlock()
	go d.keeper(ctx, v, s, c)
	return nil
}

func (d *Driver) keeper(ctx context.Context, v *service, s reconcile.Step, c config) {
	deaths := 0
	ident := identity(s)
	for ctx.Err() == nil {
		t, err := d.site(s).Look(ctx)
		if err == nil && t.Alive {
			began := time.Now()
			d.watch(ctx, t, d.logPath(s, c))
			if time.Since(began) >= ranWell {
				deaths = 0
			}
			if ctx.Err() == nil {
				v.died(deaths + 1)
			}
			continue
		}
		if !sleep(ctx, pause(deaths)) {
			return
		}
		if !v.may(ident) {
			continue
		}
		deaths++
		if err := d.revive(ctx, v, s, c); err != nil && ctx.Err() == nil {
			d.say(s, fmt.Sprintf("%s died and could not be started again: %v\n", s.Service, err))
		}
	}
}

// watch returns when the process is dead or ctx ended, and bounds the log
// meanwhile.
func (d *Driver) watch(ctx context.Context, t argv.Trace, log string) {
	next := logEvery
	for {
		look, cancel := context.WithTimeout(ctx, next)
		err := t.Main.Wait(look)
		cancel()
		if err == nil || ctx.Err() != nil {
			return
		}
		next = logEvery
		if boundLog(log) {
			next = logSoon
		}
	}
}

// revive starts the process again, unless somebody did meanwhile. What it left
// behind is stopped first: two of a service never run.
func (d *Driver) revive(ctx context.Context, v *service, s reconcile.Step, c config) error {
	v.acting.Lock()
	defer v.acting.Unlock()
	if ctx.Err() != nil || !v.may(identity(s)) { // Do came first
		return ctx.Err()
	}
	t, err := d.site(s).Look(ctx)
	if err != nil || t.Alive {
		return err
	}
	if err := d.site(s).Stop(ctx, time.Duration(c.StopTimeout)); err != nil {
		return err
	}
	started, err := d.start(ctx, s, c)
	if err == nil {
		d.say(s, fmt.Sprintf("%s died and was started again as %v\n", s.Service, started.ID))
	}
	return err
}

func (d *Driver) say(s reconcile.Step, text string) {
	if d.env.Output == nil {
		return
	}
	if w := d.env.Output(s); w != nil {
		_, _ = io.WriteString(w, text)
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
