package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"

	"drydock/reconcile"
)

// Safe fails if anybody but root and the agent could have another file or
// directory stand at path, which is absolute: if it, or a directory on the way,
// through links too, is another's or can be written to by others. In a directory
// like /tmp nobody can rename what is not theirs.
func Safe(path string) error {
	w := walker{path: path, todo: strings.Split(path, "/"), strict: true}
	var err error
	if w.fd, err = unix.Open("/", openFlags, 0); err != nil {
		return &fs.PathError{Op: "open", Path: "/", Err: err}
	}
	defer func() { unix.Close(w.fd) }()
	for err == nil && len(w.todo) > 0 {
		part := w.todo[0]
		w.todo = w.todo[1:]
		if part == "" || part == "." {
			continue
		}
		if err = w.step(part); errors.Is(err, unix.ENOTDIR) && len(w.todo) == 0 {
			var st unix.Stat_t
			if err = unix.Fstatat(w.fd, part, &st, unix.AT_SYMLINK_NOFOLLOW); err == nil {
				err = w.judge(&st)
			}
		}
	}
	var f *reconcile.Fault
	if err != nil && !errors.As(err, &f) {
		return &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return err
}

// judge fails for what others than root and the agent could change.
func (w *walker) judge(st *unix.Stat_t) error {
	dir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	if ours(st.Uid) && (!othersWrite(st) || dir && st.Mode&unix.S_ISVTX != 0) {
		return nil
	}
	who := fmt.Sprintf("uid %d, whose a part of that path is", st.Uid)
	if ours(st.Uid) {
		who = fmt.Sprintf("others, who may write to a part of that path (mode %04o)", st.Mode&0o7777)
	}
	return reconcile.HostFault(fmt.Errorf("%s could be exchanged by %s", w.path, who),
		"Name the user that it is to run as, or make all of the path root's")
}
