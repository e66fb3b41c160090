// Package sql is migrate "sql": the migration files of a release, in goose's
// form, applied to PostgreSQL, MySQL (or MariaDB) or SQLite.
//
// What is to be done is decided by one pure function (decide), from the files
// of the release and from what the database says was applied. goose parses and
// runs each file and writes its version row; beside that row, in the same
// transaction, stands a row of ours with the file's digest and with whether it
// was declared compatible. So a file that was edited after it was applied is
// found, and a release that is older than the schema knows whether it may run.
package sql

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"drydock/reconcile"
	"drydock/spec"
)

type config struct {
	Engine     string        `json:"engine"`
	URL        spec.Text     `json:"url"`
	Directory  string        `json:"directory"`
	Scope      string        `json:"scope"`
	Compatible bool          `json:"compatible"`
	Requires   []string      `json:"requires"`
	Timeout    spec.Duration `json:"timeout"`
}

// Migrate is migrate "sql". It keeps nothing on the host: what was applied
// stands in the database, and what was begun outside a transaction in the
// journal, by Env.Note.
//
// scope, compatible and requires are the engine's to keep; compatible is also
// written beside each migration that is applied.
type Migrate struct{ env reconcile.Env }

// New is the driver of one agent.
func New(env reconcile.Env) *Migrate { return &Migrate{env} }

// Done reports whether every migration of the release is applied. It waits for
// a session that an earlier agent left at work on the server. The error wraps
// reconcile.ErrUnknown if a migration was begun outside a transaction and its
// version is not there.
func (d *Migrate) Done(ctx context.Context, s reconcile.Step) (bool, error) {
	w, err := d.work(s)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, w.timeout())
	defer cancel()
	defer w.close()
	if err := w.lock(ctx); err != nil {
		return false, err
	}
	have, err := w.applied(ctx)
	if err != nil {
		return false, err
	}
	if err := w.doubt(have); err != nil {
		return false, err
	}
	files, err := w.files()
	if err != nil {
		return false, nil // Do says it
	}
	pending, err := decide(files, have)
	return err == nil && len(pending) == 0, nil
}

// Do applies what is pending, file by file. An error wraps
// reconcile.ErrUntouched if it is certain that nothing was applied, and
// reconcile.ErrUnknown if it is not certain how far a migration came.
func (d *Migrate) Do(ctx context.Context, s reconcile.Step) error {
	if err := ctx.Err(); err != nil {
		return untouched(err)
	}
	w, err := d.work(s)
	if err != nil {
		return untouched(err)
	}
	outer := ctx
	ctx, cancel := context.WithTimeout(ctx, w.timeout())
	defer cancel()
	defer w.close()
	err = w.honest(w.run(ctx))
	if err != nil && outer.Err() != nil && !errors.Is(err, outer.Err()) {
		return fmt.Errorf("%w: %v", outer.Err(), err) // stopped from outside: nobody's fault
	}
	return err
}

// Prepare fails if the database cannot be reached or written, or if what
// stands in it and the release's files do not go together.
func (d *Migrate) Prepare(ctx context.Context, s reconcile.Step) error {
	_, _, err := d.look(ctx, s)
	return err
}

// Preview says which migrations are pending.
func (d *Migrate) Preview(ctx context.Context, s reconcile.Step) (string, error) {
	pending, fetched, err := d.look(ctx, s)
	if err == nil && !fetched {
		err = reconcile.ErrUnfetched
	}
	if err != nil {
		return "", err
	}
	return list(pending), nil
}

// look is what a step would apply, found out without changing anything; if the
// release is not fetched yet, only whether the database is there.
func (d *Migrate) look(ctx context.Context, s reconcile.Step) (pending []script, fetched bool, err error) {
	w, err := d.work(s)
	if err != nil {
		return nil, false, err
	}
	ctx, cancel := context.WithTimeout(ctx, min(w.timeout(), 30*time.Second))
	defer cancel()
	defer w.close()
	if err := w.connect(ctx); err != nil {
		return nil, false, err
	}
	have, err := w.applied(ctx)
	if err != nil {
		return nil, false, err
	}
	// Nothing is run of them yet, and the switch puts a release right that was
	// changed since it last ran.
	files, err := w.found(nil)
	if errors.Is(err, reconcile.ErrUnfetched) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	pending, err = w.pending(ctx, files, have)
	return pending, true, err
}

// work is what one call is about.
func (d *Migrate) work(s reconcile.Step) (*work, error) {
	w := &work{env: d.env, step: s}
	if err := s.Block.Decode(&w.config); err != nil {
		return nil, err
	}
	if s.Target.ReleaseDir() == "" {
		return nil, reconcile.ReleaseFault(fmt.Errorf("migrate sql: the service's install block leaves no release directory to read %s from", w.config.Directory),
			`Install it with "archive", "binary" or "git", or migrate with "command".`)
	}
	e, err := engineOf(w.config.Engine)
	if err != nil {
		return nil, err
	}
	url := w.config.URL.Value
	if name := w.config.URL.Credential; name != "" {
		if d.env.Credential == nil {
			return nil, reconcile.HostFault(fmt.Errorf("migrate sql: the url is the credential %q, and there are none here", name), "Set credentials in the agent's configuration.")
		}
		if url, err = d.env.Credential(name); err != nil {
			return nil, err
		}
	}
	if w.place, err = e.place(url); err != nil {
		return nil, reconcile.HostFault(fmt.Errorf("migrate sql: %s: %w", w.config.URL, err), e.form())
	}
	if w.config.URL.Credential == "" && w.place.told {
		return nil, reconcile.ReleaseFault(errors.New("migrate sql: a password stands in the url, where everybody who reads the repository can read it"),
			"Write url = credential(…), put the URL into that credential on the host, and change the password.")
	}
	w.engine = e
	return w, nil
}

func (w *work) timeout() time.Duration {
	if w.config.Timeout <= 0 {
		return 10 * time.Minute
	}
	return time.Duration(w.config.Timeout)
}

// files are the migrations as the release brought them, to be run.
func (w *work) files() ([]file, error) {
	var brought func(string) string
	if w.env.Brought != nil {
		var err error
		if brought, err = w.env.Brought(w.step); err != nil {
			return nil, err
		}
	}
	return w.found(brought)
}

// found are the migrations that stand in the release's directory.
func (w *work) found(brought func(string) string) ([]file, error) {
	return readFiles(w.step.Target.ReleaseDir(), path.Clean(w.config.Directory), brought)
}

// say writes a line of progress to the log.
func (w *work) say(format string, args ...any) {
	if w.env.Output == nil {
		return
	}
	if out := w.env.Output(w.step); out != nil {
		_, _ = io.WriteString(out, strings.Map(plain, w.place.redact(fmt.Sprintf(format, args...)))+"\n")
	}
}

// untouched says besides that nothing was applied.
func untouched(err error) error {
	if err == nil || errors.Is(err, reconcile.ErrUntouched) || errors.Is(err, reconcile.ErrUnknown) {
		return err
	}
	return &unchanged{err}
}

// unchanged is an error after which everything stands as it did. It reads as
// its cause does: that a migration failed is the news.
type unchanged struct{ error }

func (u *unchanged) Unwrap() []error { return []error{u.error, reconcile.ErrUntouched} }
