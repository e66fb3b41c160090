package sql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"

	"drydock/reconcile"
)

// errMoved says that goose was given another session than the one that holds
// the lock.
var errMoved = errors.New("the session that holds the migration lock is gone")

// apply applies one migration. Its error wraps ErrUntouched if it is certain
// that nothing of it was applied, and ErrUnknown if it is not certain, and
// never will be, how far it came.
func (w *work) apply(ctx context.Context, s script) error {
	if err := ctx.Err(); err != nil {
		return untouched(w.cut(ctx, s, "it was not begun"))
	}
	s, err := w.parse(s.file)
	if err != nil {
		return untouched(err)
	}
	if !s.atomic {
		if err := w.note(ctx, noteBegun, s); err != nil {
			return untouched(err)
		}
	}
	began := time.Now()
	t, err := w.try(ctx, s)
	for err != nil && busy(err) && t.seen.count <= 1 && !t.ledger.wrote && ctx.Err() == nil {
		t, err = w.try(ctx, s) // SQLite: somebody's transaction stood before its first statement
	}
	if err != nil && ctx.Err() != nil {
		w.endSession(ctx)
	}
	if err == nil {
		w.say("%s applied in %v", s.name, time.Since(began).Round(time.Millisecond))
		return nil
	}
	refused := t.seen.count == 0 && !t.ledger.wrote || w.engine.early(err, t.seen.last, t.seen.count)
	switch {
	case s.atomic && !t.ledger.wrote:
		// The commit was never asked for, and without it nothing stays.
		return untouched(w.failed(ctx, s, t, err))
	case !s.atomic && refused:
		if err := w.note(ctx, noteRefused, s); err != nil {
			return err
		}
		return untouched(w.failed(ctx, s, t, err))
	}
	return w.settle(ctx, s, t, err)
}

// settle finds out what became of a migration that ended with neither a
// success nor a proven failure: its version row, read under the lock, decides.
func (w *work) settle(ctx context.Context, s script, t try, cause error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return w.cut(ctx, s, "how far it came is found out when the agent is back")
	}
	look, cancel := context.WithTimeout(context.WithoutCancel(ctx), returnPatience)
	defer cancel()
	there, err := w.isApplied(look, s.version)
	switch {
	case err != nil && s.atomic:
		return reconcile.HostFault(fmt.Errorf("%w; whether %s was committed is not known yet", err, s.name), "It is looked at again as soon as the database answers.")
	case err != nil || !there && !s.atomic:
		f := w.failed(ctx, s, t, cause)
		return w.unknown(s.name, bareFault(f))
	case there:
		w.say("%s applied; the connection was lost before the database could say so", s.name)
		return nil
	}
	return untouched(w.failed(ctx, s, t, cause))
}

// isApplied looks under the lock, in a new session if need be, for as long as
// ctx allows.
func (w *work) isApplied(ctx context.Context, version int64) (bool, error) {
	tick := time.NewTicker(lockEvery)
	defer tick.Stop()
	for {
		err := w.lock(ctx)
		var have []applied
		if err == nil {
			have, err = w.applied(ctx)
		}
		if err == nil {
			return holds(have, version), nil
		}
		select {
		case <-ctx.Done():
			return false, err
		case <-tick.C:
		}
	}
}

func holds(have []applied, version int64) bool {
	for _, a := range have {
		if a.version == version {
			return true
		}
	}
	return false
}

// try is one run of a migration by goose.
type try struct {
	seen   *watch
	ledger *ledger
}

func (w *work) try(ctx context.Context, s script) (try, error) {
	t := try{seen: &watch{}}
	store, err := database.NewStore(w.engine.dialect(), goose.DefaultTablename)
	if err != nil {
		return t, err
	}
	w.running = s.text
	t.ledger = &ledger{Store: store, engine: w.engine, script: s, compatible: w.config.Compatible, service: w.step.Service, release: w.step.Target.Release.Version}
	p, err := provider(goose.DialectCustom, w.db, s, goose.WithStore(t.ledger), goose.WithSessionLocker(w), goose.WithVerbose(true), goose.WithSlog(slog.New(t.seen)))
	if err != nil {
		return t, err
	}
	_, err = p.ApplyVersion(ctx, s.version, true)
	if errors.Is(err, goose.ErrAlreadyApplied) {
		err = nil
	}
	return t, err
}

// SessionLock is goose's question, before each migration, for the lock: it is
// held already, if this is still the session that took it.
func (w *work) SessionLock(ctx context.Context, c *sql.Conn) error {
	id, err := w.engine.session(ctx, c)
	if err != nil {
		return err
	}
	if id != w.session || w.unlock == nil {
		return errMoved
	}
	if err := w.engine.begin(ctx, c, w.left(ctx)); err != nil {
		return err
	}
	if e, ok := w.engine.(confiner); ok {
		return e.confine(c, w.running)
	}
	return nil
}

// confiner is an engine that runs in this process, with the agent's rights.
type confiner interface {
	confine(c *sql.Conn, script []byte) error
}

// SessionUnlock keeps the lock: it is let go with the session.
func (w *work) SessionUnlock(context.Context, *sql.Conn) error { return nil }

// left is the time that is left, for the server to know too.
func (w *work) left(ctx context.Context) time.Duration {
	if end, ok := ctx.Deadline(); ok {
		return max(time.Until(end), time.Second)
	}
	return w.timeout()
}

// endSession makes sure that nothing that was given up goes on at the server.
func (w *work) endSession(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endPatience)
	defer cancel()
	if err := w.engine.end(ctx, w.place, w.session); err != nil {
		w.say("%s: session %s could not be ended: %v", w.place.text, w.session, err)
	}
}

// failed says whose fault a failure is, where, and in whose words.
func (w *work) failed(ctx context.Context, s script, t try, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return w.cut(ctx, s, "it was stopped")
	}
	j := w.engine.judge(err)
	if errors.Is(err, errMoved) {
		j = judged{sort: lost, text: err.Error(), hint: "It is tried again."}
	}
	where, what := s.name, ""
	if t.seen.count > 0 && !t.ledger.wrote {
		where, what = s.at(t.seen.last, j.char), fmt.Sprintf(" [%s]", shorten(w.place.redact(t.seen.last)))
	}
	text := fmt.Errorf("migrate sql: %s: %s%s", where, shorten(w.place.redact(j.text)), what)
	switch j.sort {
	case theHost, lost:
		return reconcile.HostFault(fmt.Errorf("%w; %s", text, w.place.text), j.hint)
	case ended:
		return reconcile.ReleaseFault(fmt.Errorf("migrate sql: %s: it did not end within %v%s", where, w.timeout(), what),
			"Give the migrate block a longer timeout, or the migration less to do at once.")
	}
	return reconcile.ReleaseFault(text, "Nothing of it stays. Put the migration right, and release it anew.")
}

func (w *work) cut(ctx context.Context, s script, what string) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return reconcile.ReleaseFault(fmt.Errorf("migrate sql: %s: %s: the %v of the migrate block were over", s.name, what, w.timeout()), "Give the migrate block a longer timeout.")
	}
	return fmt.Errorf("migrate sql: %s: %s: %w", s.name, what, ctx.Err())
}

func (w *work) unknown(name string, cause error) error {
	text := fmt.Errorf("migrate sql: %s was begun without a transaction and did not end; how far it came is not known: %w", name, reconcile.ErrUnknown)
	if cause != nil {
		text = fmt.Errorf("migrate sql: %s runs without a transaction and did not end; how far it came is not known (%s): %w", name, strings.TrimPrefix(cause.Error(), "migrate sql: "), reconcile.ErrUnknown)
	}
	return reconcile.ReleaseFault(text, "Find out in "+w.place.text+" how far "+name+" came, and finish or undo it by hand.")
}

// bareFault is a failure without its hint.
func bareFault(err error) error {
	var f *reconcile.Fault
	if errors.As(err, &f) {
		return f.Err
	}
	return err
}

// Notes in the journal: what is about to be begun outside a transaction, and
// that it was refused before it had done anything. The attempt stands there
// because a person who asks for the release again has seen to it.
const (
	noteBegun   = "applying %s without a transaction, attempt %d"
	noteRefused = "%s was refused before it did anything, attempt %d"
)

var begunNote = regexp.MustCompile(`^applying ((\d+)_.*\.sql) without a transaction, attempt (\d+)$`)

func (w *work) attempt() int { return max(w.step.Target.Release.Attempt, 1) }

func (w *work) note(ctx context.Context, format string, s script) error {
	if w.env.Note == nil {
		return reconcile.HostFault(errors.New("migrate sql: there is no journal to write down what is begun without a transaction"), "")
	}
	if err := w.env.Note(context.WithoutCancel(ctx), w.step, fmt.Sprintf(format, s.name, w.attempt())); err != nil {
		return reconcile.HostFault(fmt.Errorf("migrate sql: the journal: %w", err), "Mend the state directory; nothing is begun that cannot be written down.")
	}
	return nil
}

// doubt is an error if the journal says that a migration was begun outside a
// transaction, in this attempt, and the database does not say that it ended.
func (w *work) doubt(have []applied) error {
	m := begunNote.FindStringSubmatch(w.step.Note)
	if m == nil {
		return nil
	}
	version, _ := strconv.ParseInt(m[2], 10, 64)
	attempt, _ := strconv.Atoi(m[3])
	if attempt < w.attempt() || holds(have, version) {
		return nil
	}
	return w.unknown(m[1], nil)
}
