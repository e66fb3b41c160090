package hostagent

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"drydock/reconcile"
)

const maxCredential = 64 << 10

var credentialName = word{regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]*$`), 128}

// ReadCredential returns a function that reads a named credential from dir,
// for reconcile.Env. It is a regular file of at most 64 KiB that only root or
// the agent's own user may read; one trailing newline is not part of it. The
// errors are a host's fault, and never show content.
func ReadCredential(dir string) func(name string) (string, error) {
	return func(name string) (string, error) {
		s, err := readCredential(dir, name)
		if err != nil {
			return "", reconcile.HostFault(fmt.Errorf("credential %q: %w", name, err), "")
		}
		return s, nil
	}
}

func readCredential(dir, name string) (string, error) {
	if !credentialName.MatchString(name) {
		return "", fmt.Errorf("a credential's name must match %s", credentialName)
	}
	if dir == "" {
		return "", errors.New("no directory of credentials is configured; write `credentials` in hostagent.hcl, or use systemd's LoadCredential")
	}
	path := filepath.Join(dir, name)
	// Non-blocking, so that a pipe put there cannot hold the agent up.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("%w; provisioning must put it there", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if err := mayHold(path, info); err != nil {
		return "", err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxCredential+1))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	if len(b) > maxCredential {
		return "", fmt.Errorf("%s is larger than %d bytes", path, maxCredential)
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r"), nil
}

// mayHold reports why a file is no safe place for a secret.
func mayHold(path string, info os.FileInfo) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", path)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s may be read or written by others (mode %04o); run chmod 0600 on it", path, info.Mode().Perm())
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to user %d; it must be root's or the agent's own", path, st.Uid)
	}
	return nil
}
