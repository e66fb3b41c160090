package apt

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"drydock/hostagent/argv"
	"drydock/hostagent/durable"
	"drydock/reconcile"
)

// What was fetched is kept until no revert can ask for it: an index may have
// only the newest version of a package, and apt's own cache is anybody's to
// clean.

var errNowhere = errors.New("is neither kept on this host nor in the index")

// dir is what the driver keeps of a service.
func (w work) dir() string  { return filepath.Join(w.env.StateDir, w.step.Service) }
func (w work) debs() string { return filepath.Join(w.dir(), "debs") }

// debName is as apt names packages in its cache.
func debName(pkg, full string) string {
	return pkg + "_" + strings.ReplaceAll(full, ":", "%3a") + ".deb"
}

// kept finds the kept package of a version, full or not.
func (w work) kept(version string) (path string, ok bool, err error) {
	names, err := os.ReadDir(w.debs())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", false, durable.HostFault(err)
	}
	for _, d := range names {
		if full, ours := w.versionOf(d.Name()); ours && matches(full, version) {
			return filepath.Join(w.debs(), d.Name()), true, nil
		}
	}
	return "", false, nil
}

func (w work) versionOf(name string) (full string, ours bool) {
	v, ok := strings.CutPrefix(name, w.Package+"_")
	v, deb := strings.CutSuffix(v, ".deb")
	return strings.ReplaceAll(v, "%3a", ":"), ok && deb
}

// source is what apt-get is told to install: the kept package, or else the
// index's version.
func (w work) source(ctx context.Context) (string, error) {
	path, ok, err := w.kept(w.want)
	if err != nil || ok {
		return path, err
	}
	all, err := w.versions(ctx)
	if err != nil {
		return "", err
	}
	if full := find(all, w.want); full != "" {
		return w.Package + "=" + full, nil
	}
	return "", reconcile.HostFault(fmt.Errorf("%s %s %w", w.Package, w.want, errNowhere),
		"Publish it again, or bump to a version that is there")
}

// keep puts a version that apt-get has downloaded beside the others. Of a file
// in its cache apt-get itself looks at the size alone, so its digest is held to
// the index once more.
func (w work) keep(ctx context.Context, full string) error {
	if err := durable.MkdirAll(w.debs(), 0o700); err != nil {
		return durable.HostFault(err)
	}
	from, err := w.cached(ctx, full)
	if err != nil {
		return err
	}
	digest, err := w.digest(ctx, full)
	if err != nil {
		return err
	}
	if from != "" && digest != "" {
		if got, err := sum(from); err != nil || got != digest {
			from = ""
		}
	}
	if from == "" { // also where a source is on this machine: then nothing is downloaded
		tmp := filepath.Join(w.dir(), "download")
		if err := errors.Join(os.RemoveAll(tmp), os.Mkdir(tmp, 0o700)); err != nil {
			return durable.HostFault(err)
		}
		defer os.RemoveAll(tmp)
		if err := w.commandIn(ctx, tmp, "download", append(aptGet(), "download", w.Package+"="+full)...); err != nil {
			return unfetched(err)
		}
		found, _ := filepath.Glob(filepath.Join(tmp, "*.deb"))
		if len(found) != 1 {
			return reconcile.HostFault(fmt.Errorf("apt-get download left %d files", len(found)), "Try it by hand on this host")
		}
		from = found[0]
	}
	out, err := w.ask(ctx, "dpkg-deb", "--field", from, "Package", "Version")
	if err != nil || !strings.Contains(out, "Package: "+w.Package+"\n") || !strings.Contains(out, "Version: "+full+"\n") {
		return reconcile.HostFault(errors.Join(fmt.Errorf("%s does not hold %s %s", from, w.Package, full), err), "Run apt-get clean; it is fetched again")
	}
	return durable.HostFault(copyFile(from, filepath.Join(w.debs(), debName(w.Package, full))))
}

// cached is where apt has the version in its cache, or "".
func (w work) cached(ctx context.Context, full string) (string, error) {
	out, err := w.ask(ctx, "apt-config", "shell", "dir", "Dir::Cache::Archives/d")
	if err != nil {
		return "", reconcile.HostFault(err, "Mend apt on this host")
	}
	dir := strings.Trim(strings.TrimPrefix(strings.TrimSpace(out), "dir="), "'")
	if !filepath.IsAbs(dir) {
		return "", nil
	}
	names, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", durable.HostFault(err)
	}
	prefix := strings.TrimSuffix(debName(w.Package, full), ".deb") + "_"
	for _, d := range names {
		if strings.HasPrefix(d.Name(), prefix) && strings.HasSuffix(d.Name(), ".deb") {
			return filepath.Join(dir, d.Name()), nil
		}
	}
	return "", nil
}

// keepOld makes sure that there is a way back to what is installed now. That
// there is none holds nothing up, and is said.
func (w work) keepOld(ctx context.Context, now status) error {
	if !now.there() || now.version == "" {
		return nil
	}
	if _, ok, err := w.kept(now.version); err != nil || ok {
		return err
	}
	all, err := w.versions(ctx)
	if err != nil {
		return err
	}
	from, err := w.cached(ctx, now.version)
	if err != nil {
		return err
	}
	if from != "" || find(all, now.version) != "" {
		if err = w.keep(ctx, now.version); err == nil || ctx.Err() != nil {
			return err
		}
	}
	w.say("%s %s, which is installed now, is neither in the index nor in apt's cache: a revert could not bring it back\n", w.Package, now.version)
	return nil
}

// say writes a line to the log of the step.
func (w work) say(format string, args ...any) {
	if w.env.Output == nil {
		return
	}
	if out := w.env.Output(w.step); out != nil {
		fmt.Fprintf(out, format, args...)
	}
}

// prune removes the kept packages of all versions but these.
func (w work) prune(stay []string) error {
	names, err := os.ReadDir(w.debs())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return durable.HostFault(err)
	}
	var errs []error
	for _, d := range names {
		full, ours := w.versionOf(d.Name())
		wanted := false
		for _, v := range stay {
			wanted = wanted || ours && matches(full, v)
		}
		if !wanted {
			errs = append(errs, os.Remove(filepath.Join(w.debs(), d.Name())))
		}
	}
	return durable.HostFault(errors.Join(errs...))
}

// digest is the SHA-256 that the index has of a version; "" if it is not in there.
func (w work) digest(ctx context.Context, full string) (string, error) {
	out, err := w.ask(ctx, "apt-cache", "show", "--no-all-versions", w.Package+"="+full)
	var exit *argv.ExitError
	if err != nil && !errors.As(err, &exit) {
		return "", err
	}
	for line := range strings.Lines(out) {
		if v, ok := strings.CutPrefix(line, "SHA256:"); ok {
			return strings.TrimSpace(v), nil
		}
	}
	return "", nil
}

func sum(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), err
}

// copyFile copies durably; a file of that name is whole.
func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	tmp := durable.TempName(to)
	out, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err == nil {
		err = out.Sync()
	}
	err = errors.Join(err, out.Close())
	if err == nil {
		err = durable.Rename(tmp, to)
	}
	if err != nil {
		os.Remove(tmp)
	}
	return err
}
