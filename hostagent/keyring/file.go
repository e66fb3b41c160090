package keyring

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"drydock/hostagent"
	"drydock/hostagent/durable"
)

// read is a file's content, if only root and the agent's user may have written
// it, or put it there. It is not secret; whoever writes it decides what runs.
func read(path string, most int64) ([]byte, error) {
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("%q is not an absolute path; write all of it", path)
	}
	dir, err := hostagent.Guarded(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	at := filepath.Join(dir, filepath.Base(path))
	// Non-blocking, so that a pipe put there cannot hold the agent up. No link
	// is followed: where it leads, other rules may hold than were checked here.
	f, err := os.OpenFile(at, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_CLOEXEC|syscall.O_NOFOLLOW, 0)
	switch {
	case errors.Is(err, syscall.ELOOP):
		return nil, fmt.Errorf("%s is a link; put the file itself there", path)
	case err != nil:
		return nil, fmt.Errorf("%w; provisioning puts it there: mode 0644, owned by root or by the agent's user", err)
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, fmt.Errorf("stat %s: %w", path, err)
	}
	switch mode := st.Mode & 0o7777; {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return nil, fmt.Errorf("%s is not a regular file; put one there", path)
	case st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return nil, fmt.Errorf("%s belongs to user %d; it must be root's or the agent's own: run chown root on it", path, st.Uid)
	case !durable.Ours(&st):
		return nil, fmt.Errorf("others may write to %s (mode %04o), and so decide whose signatures count; run chmod go-w on it", path, mode)
	case st.Size > most:
		return nil, fmt.Errorf("%s has %d bytes, and %d is the limit; remove the keys of people who have left", path, st.Size, most)
	}
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", path, err)
	case int64(len(data)) > most:
		return nil, fmt.Errorf("%s has more than %d bytes, which is the limit; remove the keys of people who have left", path, most)
	}
	return data, nil
}
