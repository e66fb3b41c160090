package sql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"drydock/reconcile"
)

// How long is waited for the database to answer.
const (
	connectPatience = 10 * time.Second
	endPatience     = 10 * time.Second // for the server to end what was given up
	returnPatience  = 30 * time.Second // for a server that is gone to come back
	lockEvery       = 250 * time.Millisecond
)

// lockShare is how much of the time a statement has it may spend waiting for
// locks, so that it is told apart from one that is merely slow.
func lockShare(patience int64) int64 { return max(patience*3/4, 1) }

// work is one call of the driver: a database, one session there, and the lock.
type work struct {
	env    reconcile.Env
	step   reconcile.Step
	config config
	engine engine
	place  place

	have    []applied // before anything was done
	running []byte    // the migration at hand

	db      *sql.DB
	session string // that holds the lock
	unlock  func() // nil: it is not held
}

// close ends the session, and with it whatever it holds.
func (w *work) close() {
	if w.unlock != nil {
		w.unlock()
	}
	if w.db != nil {
		_ = w.db.Close()
	}
}

// name is what the server's administrator sees of us.
func (w *work) name() string {
	return fmt.Sprintf("drydock: %s %s on %s", w.step.Service, w.step.Target.Release.Version, w.step.Host)
}

// connect opens the database, if it is not open, and makes sure that it
// answers. There is one session at a time, because the lock is the session's.
func (w *work) connect(ctx context.Context) error {
	if w.db == nil {
		w.db = w.engine.open(w.place, w.name(), func(notice string) { w.say("%s", notice) })
		w.db.SetMaxOpenConns(1)
	}
	return w.with(ctx, func(c *sql.Conn) error { return w.engine.begin(ctx, c, w.timeout()) })
}

// with calls f with the session. Its error is the host's fault: nothing here
// is what the release says.
func (w *work) with(ctx context.Context, f func(*sql.Conn) error) error {
	c, err := w.db.Conn(ctx)
	if err == nil {
		err = f(c)
		_ = c.Close()
	}
	if err == nil {
		return nil
	}
	if ctx.Err() != nil && errors.Is(context.Cause(ctx), context.Canceled) {
		return ctx.Err()
	}
	return w.fault(err)
}

// fault puts what a database says on the host.
func (w *work) fault(err error) error {
	j := w.engine.judge(err)
	switch {
	case j.sort == ended:
		j.text, j.hint = "it did not answer in time", "See why it is slow, or whether it hangs."
	case j.hint == "":
		j.hint = "See the database server's log."
	}
	return reconcile.HostFault(fmt.Errorf("migrate sql: %s: %s", w.place.text, shorten(w.place.redact(j.text))), j.hint)
}

// lock takes the migration lock, and returns when this session has it. Whoever
// has it first is waited for until ctx ends: a session that was cut off keeps
// it until the server has done with it, so that what is read under the lock is
// final.
func (w *work) lock(ctx context.Context) error {
	if err := w.connect(ctx); err != nil {
		return err
	}
	if w.unlock != nil {
		w.unlock()
		w.unlock = nil
	}
	said := ""
	tick := time.NewTicker(lockEvery)
	defer tick.Stop()
	for {
		var holder string
		err := w.with(ctx, func(c *sql.Conn) (err error) {
			if w.unlock, holder, err = w.engine.lock(ctx, c, w.place, w.name()); err == nil && w.unlock != nil {
				w.session, err = w.engine.session(ctx, c)
			}
			return err
		})
		if err != nil || w.unlock != nil {
			return err
		}
		if holder == "" {
			holder = "whose is not known"
		}
		holder = shorten(w.place.redact(holder)) // anybody may call a session anything
		if holder != said {
			w.say("another migration is running: %s; waiting for it", holder)
			said = holder
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return ctx.Err()
			}
			return reconcile.HostFault(fmt.Errorf("migrate sql: %s: another migration is running: %s; it has not ended within %v", w.place.text, holder, w.timeout()),
				"It is tried again; if that one hangs, end it.")
		}
	}
}

// applied is what the database says was applied.
func (w *work) applied(ctx context.Context) (have []applied, err error) {
	err = w.with(ctx, func(c *sql.Conn) error {
		have, err = history(ctx, w.engine, c)
		return err
	})
	return have, err
}

// pending is what is to be applied, read and parsed. That a release cannot be
// applied to this database is said here.
func (w *work) pending(ctx context.Context, files []file, have []applied) ([]script, error) {
	todo, err := decide(files, have)
	if err != nil {
		return nil, err
	}
	if len(todo) > 0 {
		var why string
		if err := w.with(ctx, func(c *sql.Conn) (err error) { why, err = w.engine.readOnly(ctx, c, w.place); return err }); err != nil {
			return nil, err
		}
		if why != "" {
			return nil, reconcile.HostFault(fmt.Errorf("migrate sql: %s cannot be written: %s", w.place.text, why), "Name the primary in the url, or make the database writable.")
		}
	}
	scripts := make([]script, 0, len(todo))
	for _, f := range todo {
		s, err := w.parse(f)
		if err != nil {
			return nil, err
		}
		s.text, s.statements = nil, nil // read again when it is its turn: all of them at once may be a lot
		scripts = append(scripts, s)
	}
	return scripts, nil
}

func (w *work) parse(f file) (script, error) {
	text, err := f.read()
	if err != nil {
		return script{}, err
	}
	s, err := parse(f, text, w.engine.atomic())
	if err != nil {
		return s, faulty(w.config.Directory, f.name, err)
	}
	return s, nil
}

// run is Do: lock, look, decide, and then one after the other.
func (w *work) run(ctx context.Context) error {
	if err := w.lock(ctx); err != nil {
		return untouched(err)
	}
	have, err := w.applied(ctx)
	if err != nil {
		return untouched(err)
	}
	w.have = have
	if err := w.doubt(have); err != nil {
		return err
	}
	files, err := w.files()
	if errors.Is(err, reconcile.ErrUnfetched) {
		err = reconcile.HostFault(err, "See who removed the release; it is fetched again with the next plan.")
	}
	if err != nil {
		return untouched(err)
	}
	pending, err := w.pending(ctx, files, have)
	if err != nil {
		return untouched(err)
	}
	if len(pending) == 0 {
		w.say("nothing pending")
		return nil
	}
	if err := w.with(ctx, func(c *sql.Conn) error { return w.create(ctx, c) }); err != nil {
		return untouched(err)
	}
	for i, s := range pending {
		err := w.apply(ctx, s)
		if err != nil && i > 0 && errors.Is(err, reconcile.ErrUntouched) {
			err = after(i, err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *work) create(ctx context.Context, c *sql.Conn) error {
	if there, err := w.engine.has(ctx, c, ours); err != nil || there {
		return err
	}
	_, err := c.ExecContext(ctx, createOurs)
	return err
}

// after is the error of a migration that was taken back, when others before it
// had been applied, which stay.
func after(n int, err error) error {
	return altered(err, fmt.Sprintf("%d before it %s applied, and %s", n, plural(n, "was", "were"), plural(n, "stays", "stay")))
}

// altered is an error that claims no more that nothing was applied, and why.
func altered(err error, why string) error {
	var f *reconcile.Fault
	if !errors.As(err, &f) {
		return fmt.Errorf("%v (%s)", err, why)
	}
	return &reconcile.Fault{Blame: f.Blame, Err: fmt.Errorf("%w (%s)", f.Err, why), Hint: f.Hint}
}

// honest takes the claim back that nothing was applied, where the release that
// ran before does not know what stands in the schema: a release in between may
// have applied it, and failed later.
func (w *work) honest(err error) error {
	if !errors.Is(err, reconcile.ErrUntouched) || w.step.Previous == "" || len(w.have) == 0 {
		return err
	}
	t := w.step.Target
	releases := filepath.Dir(t.ReleaseDir())
	dirs, _ := os.ReadDir(releases)
	for _, d := range dirs {
		dir := filepath.Join(releases, d.Name())
		if dir == t.ReleaseDir() || !strings.HasPrefix(d.Name(), w.step.Previous+"-") {
			continue
		}
		files, rerr := readFiles(dir, path.Clean(w.config.Directory), nil)
		if rerr != nil {
			files = nil // it brought none
		}
		own := make(map[int64]bool, len(files))
		for _, f := range files {
			own[f.version] = true
		}
		if odd := strangers(files, w.have, own); len(odd) > 0 {
			return altered(err, fmt.Sprintf("%s would not do on this schema: %s", w.step.Previous, names(odd)))
		}
	}
	return err
}
