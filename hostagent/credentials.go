package hostagent

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"drydock/reconcile"
)

const maxCredential = 64 << 10

var credentialName = word{regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]*$`), 128}

// Credentials are the secrets that provisioning has put on this host, a file
// each. They are read when a step that names them runs, and not before, so that
// one that was changed needs no restart; Secrets learns each value, and keeps it
// out of what the agent says.
type Credentials struct {
	dirs    []string
	secrets *Secrets
}

// NewCredentials makes one that looks into dirs in that order. A file in the
// first that has it is the credential, also if it must be refused: what shadows
// another must never be passed over in silence. secrets may be nil.
func NewCredentials(secrets *Secrets, dirs ...string) *Credentials {
	return &Credentials{dirs, secrets}
}

// String names the directories; a Credentials never holds a value.
func (c *Credentials) String() string { return "credentials in " + strings.Join(c.dirs, ", ") }

// Read is a credential's content, for reconcile.Env: that of a regular file of
// at most 64 KiB that only root or the agent's own user may read, in a directory
// where only they may put or exchange files; one trailing newline is not part of
// it. The errors are a host's fault, and never show content.
func (c *Credentials) Read(name string) (string, error) {
	value, err := c.read(name)
	if err != nil {
		return "", err
	}
	c.secrets.Learn(name, value)
	return value, nil
}

// Check fails as Read would.
func (c *Credentials) Check(name string) error {
	_, err := c.read(name)
	return err
}

func (c *Credentials) read(name string) (string, error) {
	fault := func(hint, format string, args ...any) error {
		return reconcile.HostFault(fmt.Errorf("credential %q: %w", name, fmt.Errorf(format, args...)), hint)
	}
	if !credentialName.MatchString(name) {
		return "", fault("", "a credential's name must match %s", credentialName)
	}
	if len(c.dirs) == 0 {
		return "", fault("Provisioning writes `credentials` in hostagent.hcl, or LoadCredential= in the agent's unit.", "no directory of credentials is configured")
	}
	for _, dir := range c.dirs {
		value, err := readCredential(dir, name)
		switch {
		case err == nil:
			return value, nil
		case !errors.Is(err, fs.ErrNotExist):
			return "", fault("", "%w", err)
		}
	}
	return "", fault(fmt.Sprintf("Provisioning puts it there: a file called %s, mode 0600, owned by root or by the agent's user.", name),
		"there is none in %s", strings.Join(c.dirs, " or "))
}

func readCredential(dir, name string) (string, error) {
	dir, err := Guarded(dir)
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, name)
	// Non-blocking, so that a pipe put there cannot hold the agent up. No link
	// is followed: where it leads, other rules may hold than were checked here.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_CLOEXEC|syscall.O_NOFOLLOW, 0)
	switch {
	case errors.Is(err, syscall.ELOOP):
		return "", fmt.Errorf("%s is a link; put the file itself there", path)
	case err != nil:
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if err := mayHold(path, info, acl(func(buf []byte) (int, error) { return unix.Fgetxattr(int(f.Fd()), aclName, buf) })); err != nil {
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
func mayHold(path string, info os.FileInfo, list []byte) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", path)
	}
	if others(info.Mode(), list) != 0 {
		return fmt.Errorf("%s may be read or written by others (mode %04o); run chmod 0600 on it", path, info.Mode().Perm())
	}
	if uid, ok := trusted(info); !ok {
		return fmt.Errorf("%s belongs to user %d; it must be root's or the agent's own", path, uid)
	}
	return nil
}

// Guarded is the directory that path leads to, through links, if nobody but
// root and the agent's user may put another file, directory or link in the
// place of any of the way; an error says where somebody may.
func Guarded(path string) (string, error) {
	if !filepath.IsAbs(path) {
		return "", fmt.Errorf("%q is not an absolute path", path)
	}
	at, rest := "/", parts(path)
	if err := guards(at, len(rest) == 0); err != nil {
		return "", err
	}
	for links := 0; len(rest) > 0; {
		next := filepath.Join(at, rest[0]) // ".." leads up, to what was looked at before
		rest = rest[1:]
		info, err := os.Lstat(next)
		if err != nil {
			return "", err
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			if err := guards(next, len(rest) == 0); err != nil {
				return "", err
			}
			at = next
			continue
		}
		if links++; links > 40 {
			return "", fmt.Errorf("%s: too many links", path)
		}
		if uid, ok := trusted(info); !ok {
			return "", fmt.Errorf("the link %s belongs to user %d; it must be root's or the agent's own", next, uid)
		}
		target, err := os.Readlink(next)
		if err != nil {
			return "", err
		}
		if filepath.IsAbs(target) {
			at = "/"
		}
		rest = append(parts(target), rest...)
	}
	return at, nil
}

func parts(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
}

// guards reports why others could exchange what stands in a directory. In a
// sticky one, such as /tmp, they can exchange only what is theirs; that will do
// on the way, but not for the credentials' own.
func guards(dir string, last bool) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a directory", dir)
	}
	if uid, ok := trusted(info); !ok {
		return fmt.Errorf("the directory %s belongs to user %d, who could exchange what stands in it; it must be root's or the agent's own", dir, uid)
	}
	list := acl(func(buf []byte) (int, error) { return unix.Lgetxattr(dir, aclName, buf) })
	if others(info.Mode(), list)&0o2 != 0 && (last || info.Mode()&fs.ModeSticky == 0) {
		return fmt.Errorf("others may write into the directory %s (mode %04o), and so exchange what stands in it; run chmod go-w on it", dir, info.Mode().Perm())
	}
	return nil
}

func trusted(info os.FileInfo) (uid uint32, ok bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return st.Uid, st.Uid == 0 || int(st.Uid) == os.Geteuid()
}

// aclName is where Linux keeps a file's access control list.
const aclName = "system.posix_acl_access"

func acl(get func(buf []byte) (int, error)) []byte {
	buf := make([]byte, 4096)
	n, err := get(buf)
	if err != nil {
		return nil // none, or a file system without
	}
	return buf[:n]
}

// others is what anybody but root and the agent's user may do with a file, as
// permission bits (4 read, 2 write, 1 execute). systemd gives a service that
// does not run as root its credentials by an access control list: then the
// mode's group bits are the list's mask, and no group's.
func others(mode fs.FileMode, list []byte) (may fs.FileMode) {
	const header, entry = 4, 8
	if len(list) < header {
		return (mode | mode>>3) & 7
	}
	mask := fs.FileMode(7)
	word := func(b []byte) fs.FileMode { return fs.FileMode(b[0]) | fs.FileMode(b[1])<<8 }
	for e := list[header:]; len(e) >= entry; e = e[entry:] {
		if word(e) == 0x10 { // the mask, over all but the owner and the rest of the world
			mask = word(e[2:])
		}
	}
	for e := list[header:]; len(e) >= entry; e = e[entry:] {
		tag, perm, id := word(e), word(e[2:]), uint32(word(e[4:]))|uint32(word(e[6:]))<<16
		switch {
		case tag == 0x02 && id != 0 && int(id) != os.Geteuid(), tag == 0x04, tag == 0x08:
			may |= perm & mask
		case tag == 0x20:
			may |= perm
		}
	}
	return may & 7
}
