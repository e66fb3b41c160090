// Package apt is the installer "apt": a release is a version of a Debian
// package. It is downloaded in the fetch phase and installed in the install
// phase, by apt-get, whose own signatures hold in place of a digest.
package apt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"drydock/hostagent/argv"
	"drydock/hostagent/durable"
	"drydock/reconcile"
	"drydock/spec"
)

// Config is the block's attributes.
type Config struct {
	Package string        `json:"package"`
	Timeout spec.Duration `json:"timeout"` // of a fetch, and of an installation
}

// Driver is install "apt" for all services of a host.
type Driver struct {
	env    reconcile.Env
	booted bool // systemd is PID 1: apt-get runs in units of its own
	seen   *seen
}

// New makes the driver.
func New(env reconcile.Env) *Driver {
	_, err := os.Stat("/run/systemd/system")
	return &Driver{env: env, booted: err == nil, seen: &seen{}}
}

// work is one step at work.
type work struct {
	*Driver
	Config
	step reconcile.Step
	want string // the version that the step must bring
}

func (d *Driver) work(s reconcile.Step) (work, error) {
	w := work{Driver: d, step: s, want: s.Target.Release.Version}
	if s.Adopt != "" {
		w.want = s.Adopt
	}
	if err := s.Block.Decode(&w.Config); err != nil {
		return w, reconcile.HostFault(err, "This agent and the declaration have come apart: update one of them")
	}
	return w, nil
}

// Done implements reconcile.Driver. A package is installed when dpkg says so
// without any reservation; it is fetched when it is installed, or kept for it.
func (d *Driver) Done(ctx context.Context, s reconcile.Step) (bool, error) {
	w, err := d.work(s)
	if err != nil {
		return false, err
	}
	now, err := w.status(ctx)
	switch {
	case err != nil:
		return false, err
	case s.Action == reconcile.Remove:
		return !now.there(), nil
	case now.good() && matches(now.version, w.want):
		return true, nil
	case s.Phase == reconcile.Fetch:
		_, ok, err := w.kept(w.want)
		return ok || s.Adopt != "", err
	}
	return false, nil
}

// Do implements reconcile.Driver.
func (d *Driver) Do(ctx context.Context, s reconcile.Step) error {
	w, err := d.work(s)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return err
	}
	outer := ctx
	ctx, cancel := context.WithTimeout(ctx, time.Duration(w.Timeout))
	defer cancel()
	switch {
	case s.Action == reconcile.Remove:
		err = w.remove(ctx)
	case s.Phase == reconcile.Fetch && s.Adopt != "":
	case s.Phase == reconcile.Fetch:
		err = w.fetch(ctx)
	default:
		err = w.install(ctx)
	}
	if outer.Err() != nil && err != nil {
		return fmt.Errorf("%w (%w)", outer.Err(), err)
	}
	return err
}

// Observe implements reconcile.Observer.
func (d *Driver) Observe(ctx context.Context, s reconcile.Step) (reconcile.Condition, error) {
	w, err := d.work(s)
	if err != nil {
		return reconcile.Condition{}, err
	}
	now, err := w.status(ctx)
	switch {
	case err != nil:
		return reconcile.Condition{}, err
	case !now.there():
		return reconcile.Condition{Is: reconcile.Absent, Detail: w.Package + " is not installed"}, nil
	case !now.good():
		return reconcile.Condition{Is: reconcile.Altered, Detail: fmt.Sprintf("%s %s is %s, not installed", w.Package, now.version, now.state)}, nil
	case !matches(now.version, w.want):
		return reconcile.Condition{Is: reconcile.Altered, Detail: fmt.Sprintf("%s %s is installed", w.Package, now.version), Foreign: now.version}, nil
	}
	return reconcile.Condition{Is: reconcile.Present, Detail: now.version, Current: now.version, Wanted: true}, nil
}

// Prepare implements reconcile.Preparer: what would make apt-get fail when the
// service is out of rotation already is found before.
func (d *Driver) Prepare(ctx context.Context, s reconcile.Step) error {
	w, err := d.work(s)
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return reconcile.HostFault(errors.New("only root can install packages, and the agent is not root"), "Run the agent as root")
	}
	now, err := w.status(ctx)
	if err != nil || s.Phase == reconcile.Fetch || now.good() && matches(now.version, w.want) && s.Action != reconcile.Remove {
		return err
	}
	if err := now.held(w.Package); err != nil {
		return err
	}
	if err := lockHeld(); err != nil {
		return err
	}
	if _, err = w.simulateStep(ctx); errors.Is(err, errNowhere) {
		return nil // not fetched yet; the fetch says it
	}
	return err
}

// Preview implements reconcile.Previewer: what happens to other packages.
func (d *Driver) Preview(ctx context.Context, s reconcile.Step) (string, error) {
	w, err := d.work(s)
	if err != nil || s.Phase != reconcile.Install || s.Action == reconcile.Remove {
		return "", err
	}
	now, err := w.status(ctx)
	if err != nil || now.good() && matches(now.version, w.want) {
		return "", err
	}
	changes, err := w.simulateStep(ctx)
	if errors.Is(err, errNowhere) {
		return "", reconcile.ErrUnfetched
	}
	return changes.beside(w.Package), err
}

// Prune implements reconcile.Pruner: of the packages that were kept, those go
// that no revert can ask for.
func (d *Driver) Prune(ctx context.Context, s reconcile.Step, keep []string) error {
	w, err := d.work(s)
	if err != nil {
		return err
	}
	now, err := w.status(ctx)
	if err != nil {
		return err
	}
	return w.prune(append([]string{w.want, now.version}, keep...))
}

// fetch gets the package, and what it needs besides, onto the host.
func (w work) fetch(ctx context.Context) error {
	now, err := w.status(ctx)
	if err != nil {
		return err
	}
	if now.good() && matches(now.version, w.want) {
		return nil
	}
	if err := now.held(w.Package); err != nil {
		return err
	}
	if err := durable.MkdirAll(w.dir(), 0o700); err != nil {
		return durable.HostFault(err)
	}
	if err := w.settle(ctx); err != nil {
		return err
	}
	if err := w.keepOld(ctx, now); err != nil {
		return err
	}
	if _, ok, err := w.kept(w.want); err != nil || ok {
		return err
	}
	full, err := w.lookUp(ctx)
	if err != nil {
		return err
	}
	if _, err := w.simulate(ctx, w.Package+"="+full); err != nil {
		return err
	}
	if err := w.apt(ctx, "download", "install", "--download-only", "--no-remove", "--allow-downgrades", w.Package+"="+full); err != nil {
		return unfetched(err)
	}
	return w.keep(ctx, full)
}

// unfetched puts a failed download on those who offer the package.
func unfetched(err error) error {
	var exit *argv.ExitError
	if errors.As(err, &exit) {
		return reconcile.HostFault(err, "See to the sources that it names, and to this host's way there; it is tried again")
	}
	return err
}

// install brings dpkg to the version, from wherever it was left.
func (w work) install(ctx context.Context) error {
	if err := durable.MkdirAll(w.dir(), 0o700); err != nil {
		return durable.HostFault(err)
	}
	if err := w.settle(ctx); err != nil {
		return err
	}
	now, err := w.status(ctx)
	if err != nil || now.good() && matches(now.version, w.want) {
		return err
	}
	if err := now.held(w.Package); err != nil {
		return err
	}
	if err := w.mend(ctx, now); err != nil {
		return err
	}
	if now, err = w.status(ctx); err != nil || now.good() && matches(now.version, w.want) {
		return err
	}
	what, err := w.source(ctx)
	if err != nil {
		return err
	}
	if _, err := w.simulate(ctx, what); err != nil {
		return err
	}
	failed := w.apt(ctx, "install", "install", "--no-remove", "--allow-downgrades", what)
	if errors.Is(failed, context.Canceled) {
		return failed
	}
	now, err = w.status(context.WithoutCancel(ctx))
	switch {
	case err != nil:
		return errors.Join(failed, err)
	case now.good() && matches(now.version, w.want):
		// Whatever else failed (another package, a hook of apt's), it is there.
		return nil
	case failed == nil:
		return reconcile.HostFault(fmt.Errorf("apt-get succeeded, and yet %s is %s", w.Package, now), "Look at /var/log/apt/term.log")
	}
	return w.blame(failed)
}

// mend finishes what an installation that was cut off has left.
func (w work) mend(ctx context.Context, now status) error {
	left, _ := filepath.Glob("/var/lib/dpkg/updates/[0-9]*")
	if len(left) == 0 && (now.good() || !now.there()) {
		return nil
	}
	// That it fails says nothing: what cannot be configured may be what the
	// next installation replaces.
	err := w.command(ctx, "configure", "dpkg", "--force-confdef", "--force-confold", "--configure", "-a")
	if ctx.Err() != nil || errors.Is(err, errLocked) {
		return err
	}
	return nil
}

// remove uninstalls the package alone.
func (w work) remove(ctx context.Context) error {
	if err := durable.MkdirAll(w.dir(), 0o700); err != nil {
		return durable.HostFault(err)
	}
	if err := w.settle(ctx); err != nil {
		return err
	}
	now, err := w.status(ctx)
	if err != nil {
		return err
	}
	if now.there() {
		if err := now.held(w.Package); err != nil {
			return err
		}
		if _, err := w.simulateStep(ctx); err != nil {
			return err
		}
		if err := w.apt(ctx, "remove", "remove", w.Package); err != nil {
			return w.blame(err)
		}
	}
	return durable.HostFault(os.RemoveAll(w.dir()))
}

// blame puts a failed installation on the release where dpkg says that it was
// the package that failed, and the disk was not full.
func (w work) blame(err error) error {
	var exit *argv.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	base := filepath.Base(w.debs())
	ours := strings.Contains(exit.Tail, "error processing package "+w.Package+" ") || strings.Contains(exit.Tail, "error processing package "+w.Package+":") ||
		strings.Contains(exit.Tail, "/"+base+"/"+w.Package+"_")
	if ours && !strings.Contains(exit.Tail, "No space left") && !strings.Contains(exit.Tail, "Read-only file system") {
		return reconcile.ReleaseFault(err, "")
	}
	return reconcile.HostFault(err, "Put it right on this host (apt-get install -f, dpkg --configure -a); it is tried again")
}
