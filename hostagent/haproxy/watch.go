package haproxy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"drydock/reconcile"
)

// watch is one drain or undrain on its way.
type watch struct {
	place
	say   func(format string, args ...any)
	down  bool      // the server's process has ended: no session is waited for
	asked bool      // a person asked for the undrain: their maintenance ends too
	until time.Time // when the block's timeout is over

	told  string // what was said last
	when  time.Time
	error time.Time // since when no look has succeeded; zero if the last one has
}

// drain sets the server to drain and returns when nothing is left on it. It is
// looked at a second time before that is believed: a session that was given to
// the server a moment before the drain is not counted at once.
func (w *watch) drain(ctx context.Context) error {
	ours, idle := false, false
	for {
		pause := lookEvery
		v, err := w.look(ctx)
		switch {
		case err != nil:
			idle = false
			if err := w.failed(ctx, err); err != nil {
				return err
			}
		case !v.Admin.out():
			set, err := w.change(ctx, "drain")
			if err != nil {
				return err
			}
			if set && ours {
				w.say("%s: the drain was lost, as by a reload of HAProxy, and is set again", w.place)
			}
			idle, ours, pause = false, ours || set, lookAgain
		case v.left() == 0 && idle, w.down:
			return nil
		default:
			w.error, idle = time.Time{}, v.left() == 0
			if !ours && v.Admin.foreign() {
				w.once("%s %s, and not by us: it is out already, and nothing is set", w.place, v.says())
			}
			ours = ours || v.Admin.is(drained)
			if !idle && time.Now().After(w.until) {
				w.say("%s: %s left after %v; it goes on", w.place, v.leftover(), w.timeout)
				return nil
			}
			if idle {
				pause = lookAgain
			} else {
				w.progress("%s: %s left; waiting at most %v", w.place, v.leftover(), w.timeout)
			}
		}
		if err := w.sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// undrain sets the server to ready, where only our drain keeps it out, and
// returns when HAProxy counts it as up.
func (w *watch) undrain(ctx context.Context) error {
	for {
		pause := lookEvery
		v, err := w.look(ctx)
		switch {
		case err != nil:
			if err := w.failed(ctx, err); err != nil {
				return err
			}
		case v.Admin.is(drained) && !v.Admin.is(maintenance):
			if _, err := w.change(ctx, "ready"); err != nil {
				return err
			}
			pause = lookAgain
		case v.Admin.is(maintained) && w.asked:
			if _, err := w.change(ctx, "ready"); err != nil {
				return err
			}
			pause = lookAgain
		case v.Admin.out():
			w.say("%s %s, and not by us: it stays out until somebody ends that. %s", w.place, v.says(), w.ending(v))
			return nil
		case v.usable():
			if v.weightless() {
				w.say("%s has been given the weight 0, and not by us: it stays out until somebody sends `set server %s weight 100%%` to %s", w.place, w.place, w.url)
			}
			return nil
		case time.Now().After(w.until):
			return reconcile.ReleaseFault(
				fmt.Errorf("%s is ready, but HAProxy at %s does not count it as up within %v: %s", w.place, w.url, w.timeout, v.seen()),
				"Its service has passed our own check: see what HAProxy's check of this server asks for in haproxy.cfg.")
		default:
			w.error = time.Time{}
			w.progress("%s is ready; waiting at most %v until HAProxy counts it as up: %s", w.place, w.timeout, v.seen())
		}
		if err := w.sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// change sets the server's state, and reports whether HAProxy took it. What
// the next look does not show is set again, until the timeout is over.
func (w *watch) change(ctx context.Context, state string) (bool, error) {
	if time.Now().After(w.until.Add(patience)) {
		return false, reconcile.HostFault(fmt.Errorf("HAProxy at %s takes `set server %s state %s`, and does not keep to it", w.url, w.place, state),
			"See what else sets or reloads it.")
	}
	if err := w.set(ctx, state); err != nil {
		return false, w.failed(ctx, err)
	}
	w.error = time.Time{}
	return true, nil
}

// ending is what a person must do to end what keeps the server out.
func (w *watch) ending(v view) string {
	if v.Admin.is(maintained) {
		return fmt.Sprintf("`set server %s state ready`, sent to %s, does", w.place, w.url)
	}
	return "The server that it tracks must come back"
}

// failed reports whether a look that failed ends the wait: at once, if HAProxy
// said why; else once it has not answered for longer than a restart takes.
func (w *watch) failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if w.error.IsZero() {
		w.error = time.Now()
	}
	if errors.Is(err, errRefuses) || errors.Is(err, errUnknown) || time.Since(w.error) >= min(patience, w.timeout) {
		return err
	}
	return nil
}

// progress says what is waited for, at first and then every few seconds.
func (w *watch) progress(format string, args ...any) {
	if !w.when.IsZero() && time.Since(w.when) < sayEvery {
		return
	}
	w.when = time.Now()
	w.say(format, args...)
}

func (w *watch) once(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); text != w.told {
		w.told = text
		w.say("%s", text)
	}
}

func (w *watch) sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for %s at %s: %w", w.place, w.url, ctx.Err())
	}
}

// leftover is what keeps a drain waiting, for people.
func (v view) leftover() string {
	text := count(v.sessions, "session")
	if v.queued > 0 {
		text += fmt.Sprintf(" and %d queued", v.queued)
	}
	if v.old > 0 {
		text += ", and " + count(v.old, "connection") + " of workers from before a reload,"
	}
	return text
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// seen is what HAProxy makes of a server that it does not use, for people.
func (v view) seen() string {
	switch {
	case v.Admin.is(unresolved):
		return "its address cannot be resolved"
	case v.check != "":
		return v.status + ", " + v.check
	}
	return v.status
}
