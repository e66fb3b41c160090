package release

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"drydock/hostagent/durable"
	"drydock/reconcile"
)

// The service's user may own the install path, or a directory above it, and
// could put a link where the agent, as root, is about to write, give away or
// remove. So whatever changes something holds both directories open first and
// works below what it holds:
//
//   - a link on the way is followed only where nobody but root and the agent
//     could have put it;
//   - releases is the agent's own, and nobody else writes there: names in it
//     mean what they meant.

// held is the two directories of a Place, open.
type held struct{ path, releases *os.File }

// nowhere is a name below which nothing is, nor can be.
const nowhere = "/proc/self/fd/none"

// name is a path to what f holds, wherever that is by now.
func name(f *os.File) string {
	if f == nil {
		return nowhere
	}
	return fmt.Sprintf("/proc/self/fd/%d", f.Fd())
}

func (h *held) Close() {
	for _, f := range []*os.File{h.path, h.releases} {
		if f != nil {
			f.Close()
		}
	}
}

// hold returns the Place with both directories held, which the caller closes.
// One that is missing is made, or stays missing for as long as it is held.
func (p Place) hold(missing bool) (Place, error) {
	h := &held{}
	var err error
	if h.path, err = durable.OpenDir(nil, p.Path, missing); err == nil {
		h.releases, err = durable.OpenDir(h.path, "releases", missing)
	}
	if err == nil && h.releases != nil {
		err = p.own(h.releases)
	}
	if err != nil && (missing || !errors.Is(err, fs.ErrNotExist)) {
		h.Close()
		return p, durable.HostFault(err)
	}
	p.held = h
	return p, nil
}

// own fails unless releases is the agent's alone.
func (p Place) own(releases *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(releases.Fd()), &st); err != nil {
		return err
	}
	if durable.Ours(&st) {
		return nil
	}
	dir := filepath.Join(p.Path, "releases")
	who := os.Geteuid()
	return reconcile.HostFault(fmt.Errorf("%s is uid %d's with mode %04o, and others than the agent can put links there", dir, st.Uid, st.Mode&0o7777),
		fmt.Sprintf("Make it the agent's own (chown %[1]d %[2]s && chmod go-w %[2]s); the releases in it stay their user's", who, dir))
}

// told gives an error the names that people know instead of those of what is held.
func (p Place) told(err error) error {
	if err == nil || p.held == nil {
		return err
	}
	known := strings.NewReplacer(name(p.held.releases)+"/", filepath.Join(p.Path, "releases")+"/", name(p.held.path)+"/", p.Path+"/")
	var f *reconcile.Fault
	if errors.As(err, &f) {
		f.Err, f.Hint = renamed{f.Err, known}, known.Replace(f.Hint)
		return err
	}
	return renamed{err, known}
}

type renamed struct {
	err   error
	known *strings.Replacer
}

func (r renamed) Error() string { return r.known.Replace(r.err.Error()) }
func (r renamed) Unwrap() error { return r.err }
