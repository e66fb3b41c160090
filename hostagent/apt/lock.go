package apt

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"drydock/reconcile"
)

// lockHeld is a host's fault that says who holds one of dpkg's locks; nil if
// nobody does. It takes none.
func lockHeld() error {
	for _, path := range []string{"/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock"} {
		pid, err := holder(path)
		if err != nil {
			return reconcile.HostFault(err, "Mend dpkg on this host")
		}
		if pid != 0 {
			return reconcile.HostFault(fmt.Errorf("%s is held by %s", path, process(pid)), "It is tried again; end that process if it hangs")
		}
	}
	return nil
}

// holder is the process that has a lock on a file; 0 if none has.
func holder(path string) (int32, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock); err != nil {
		return 0, &fs.PathError{Op: "lock", Path: path, Err: err}
	}
	if lock.Type == unix.F_UNLCK {
		return 0, nil
	}
	return lock.Pid, nil
}

// process is a pid and what it runs.
func process(pid int32) string {
	if pid < 1 {
		return "a process that is not seen from here"
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return fmt.Sprintf("pid %d", pid)
	}
	defer f.Close()
	data, _ := io.ReadAll(io.LimitReader(f, 200))
	return fmt.Sprintf("pid %d (%s)", pid, plain(string(bytes.ReplaceAll(bytes.TrimRight(data, "\x00"), []byte{0}, []byte{' '}))))
}
