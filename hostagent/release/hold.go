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
	if h.path, err = openDir(p.Path, missing); err == nil {
		h.releases, err = openBelow(h.path, "releases", missing)
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
	if ours(st.Uid) && !othersWrite(&st) {
		return nil
	}
	dir := filepath.Join(p.Path, "releases")
	who := os.Geteuid()
	return reconcile.HostFault(fmt.Errorf("%s is uid %d's with mode %04o, and others than the agent can put links there", dir, st.Uid, st.Mode&0o7777),
		fmt.Sprintf("Make it the agent's own (chown %[1]d %[2]s && chmod go-w %[2]s); the releases in it stay their user's", who, dir))
}

func ours(uid uint32) bool { return uid == 0 || int(uid) == os.Geteuid() }

// othersWrite reports whether another than its owner can add to a directory.
func othersWrite(st *unix.Stat_t) bool {
	group := st.Gid != 0 && int(st.Gid) != os.Getegid()
	return st.Mode&0o002 != 0 || group && st.Mode&0o020 != 0
}

// openDir opens the directory of an absolute path.
func openDir(path string, missing bool) (*os.File, error) { return open(nil, path, missing) }

// openBelow opens a directory in another.
func openBelow(dir *os.File, part string, missing bool) (*os.File, error) {
	return open(dir, part, missing)
}

// open opens what path leads to from dir, which stays open; nil is the root.
func open(dir *os.File, path string, missing bool) (*os.File, error) {
	w := walker{path: path, missing: missing}
	var err error
	if dir != nil {
		w.path = filepath.Join(dir.Name(), path)
		w.fd, err = unix.FcntlInt(dir.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	} else {
		w.fd, err = unix.Open("/", openFlags, 0)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: w.path, Err: err}
	}
	for w.todo = strings.Split(path, "/"); err == nil && len(w.todo) > 0; {
		part := w.todo[0]
		w.todo = w.todo[1:]
		if part != "" && part != "." {
			err = w.step(part)
		}
	}
	if err != nil {
		unix.Close(w.fd)
		var f *reconcile.Fault
		if !errors.As(err, &f) {
			err = &fs.PathError{Op: "open", Path: w.path, Err: err}
		}
		return nil, err
	}
	return os.NewFile(uintptr(w.fd), w.path), nil
}

const (
	openFlags = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	maxLinks  = 40 // the kernel's own
)

// walker goes down a path, holding where it is.
type walker struct {
	path    string // for people
	missing bool   // make what is not there
	fd      int
	todo    []string
	links   int
}

func (w *walker) step(part string) error {
	next, err := unix.Openat(w.fd, part, openFlags, 0)
	if errors.Is(err, unix.ENOENT) && w.missing {
		if err := unix.Mkdirat(w.fd, part, 0o755); err != nil && !errors.Is(err, unix.EEXIST) {
			return err
		}
		if err := durable.SyncDir(fmt.Sprintf("/proc/self/fd/%d", w.fd)); err != nil {
			return err
		}
		next, err = unix.Openat(w.fd, part, openFlags, 0)
	}
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return w.follow(part)
	}
	if err == nil {
		w.enter(next)
	}
	return err
}

func (w *walker) enter(fd int) {
	unix.Close(w.fd)
	w.fd = fd
}

// follow goes on where the link called part leads.
func (w *walker) follow(part string) error {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(w.fd, part, buf)
	if errors.Is(err, unix.EINVAL) {
		return unix.ENOTDIR
	}
	if err != nil {
		return err
	}
	if w.links++; w.links > maxLinks {
		return unix.ELOOP
	}
	var dir, link unix.Stat_t
	if err := errors.Join(unix.Fstat(w.fd, &dir), unix.Fstatat(w.fd, part, &link, unix.AT_SYMLINK_NOFOLLOW)); err != nil {
		return err
	}
	if !ours(dir.Uid) || othersWrite(&dir) && (dir.Mode&unix.S_ISVTX == 0 || !ours(link.Uid)) {
		return reconcile.HostFault(fmt.Errorf("%s leads through the link %q, which others than root can change", w.path, part),
			"Put a directory there, or declare the path that is meant")
	}
	target := string(buf[:n])
	if filepath.IsAbs(target) {
		root, err := unix.Open("/", openFlags, 0)
		if err != nil {
			return err
		}
		w.enter(root)
	}
	w.todo = append(strings.Split(target, "/"), w.todo...)
	return nil
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
