package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"drydock/reconcile"
)

// OpenDir opens the directory that path leads to from dir, which stays open; nil
// is the root, for an absolute path. One that is missing is made if missing is
// set. A link on the way is followed only where nobody but root and the agent
// could have put it: who owns a directory that the agent works in as root must
// not lead it elsewhere. What is below is reached through Below.
func OpenDir(dir *os.File, path string, missing bool) (*os.File, error) {
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
	strict  bool   // see Safe
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
		if err := SyncDir(fmt.Sprintf("/proc/self/fd/%d", w.fd)); err != nil {
			return err
		}
		next, err = unix.Openat(w.fd, part, openFlags, 0)
	}
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return w.follow(part)
	}
	if err != nil {
		return err
	}
	w.enter(next)
	if w.strict {
		var st unix.Stat_t
		if err := unix.Fstat(w.fd, &st); err != nil {
			return err
		}
		return w.judge(&st)
	}
	return nil
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

// Below is a path to a name in an open directory, wherever that is by now.
func Below(dir *os.File, name string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), name)
}

// Ours reports whether a directory is root's or the agent's, and nobody else
// can put anything into it.
func Ours(st *unix.Stat_t) bool { return ours(st.Uid) && !othersWrite(st) }

func ours(uid uint32) bool { return uid == 0 || int(uid) == os.Geteuid() }

// othersWrite reports whether another than its owner can add to a directory.
func othersWrite(st *unix.Stat_t) bool {
	group := st.Gid != 0 && int(st.Gid) != os.Getegid()
	return st.Mode&0o002 != 0 || group && st.Mode&0o020 != 0
}
