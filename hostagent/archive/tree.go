package archive

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// tree is a release while it is unpacked. Two things keep it inside its root:
// every call goes through os.Root, and symlinks are only made when everything
// else stands, so that nothing is ever written through one. What os.Root does
// not do is done here: it would make links that lead out, and keep setuid.
type tree struct {
	ctx    context.Context
	root   *os.Root
	strip  int
	limits Limits
	packed int64

	seen  int
	bytes int64
	names int64
	kinds map[string]kind   // every path made so far, parents among them
	links map[string]string // symlinks still to make: path -> target
	order []string          // of links, as the archive has them
	buf   []byte
}

func newTree(ctx context.Context, root *os.Root, strip int, limits Limits, packed int64) *tree {
	return &tree{ctx: ctx, root: root, strip: strip, limits: limits.orDefault(), packed: packed,
		kinds: map[string]kind{".": isDir}, links: map[string]string{}, buf: make([]byte, 128<<10)}
}

type kind byte

const (
	isDir  kind = iota + 1
	isFile      // hard links among them
	isLink
)

// count takes an entry and its name into the limits.
func (t *tree) count(names string) error {
	t.seen++
	t.names += int64(len(names))
	if err := t.ctx.Err(); err != nil {
		return err
	}
	if t.seen > t.limits.Entries {
		return bad("", "has more than %d entries", t.limits.Entries)
	}
	if t.names > t.limits.Names {
		return bad("", "has more than %d MiB of names", t.limits.Names>>20)
	}
	return nil
}

// enter checks a name and returns the path below the root, "" for one that
// strip leaves out.
func (t *tree) enter(name string) (string, error) {
	if err := t.count(name); err != nil {
		return "", err
	}
	return t.local(name)
}

func (t *tree) local(name string) (string, error) {
	switch {
	case len(name) > 1024:
		return "", bad(name, "its name is longer than 1,024 bytes")
	case strings.ContainsRune(name, 0):
		return "", bad(name, "its name has a zero byte")
	case path.IsAbs(name):
		return "", bad(name, "its name is absolute")
	}
	var parts []string
	for part := range strings.SplitSeq(name, "/") {
		switch {
		case part == "" || part == ".":
		case part == "..":
			return "", bad(name, "its name has .. in it")
		case len(part) > 255:
			return "", bad(name, "a part of its name is longer than 255 bytes")
		default:
			parts = append(parts, part)
		}
	}
	if len(parts) <= t.strip {
		return "", nil
	}
	return strings.Join(parts[t.strip:], "/"), nil
}

// parents makes the directories above p.
func (t *tree) parents(entry, p string) error {
	dir := path.Dir(p)
	switch t.kinds[dir] {
	case isDir:
		return nil
	case isFile, isLink:
		return bad(entry, "%q is a directory here, and something else elsewhere in the archive", dir)
	}
	if err := t.parents(entry, dir); err != nil {
		return err
	}
	return t.mkdir(dir, 0o755)
}

func (t *tree) mkdir(dir string, mode fs.FileMode) error {
	if t.names += int64(len(dir)); t.names > t.limits.Names {
		return bad("", "has more than %d MiB of names", t.limits.Names>>20)
	}
	if err := t.root.Mkdir(dir, 0o700); err != nil {
		return err
	}
	t.kinds[dir] = isDir
	return t.root.Chmod(dir, mode)
}

// dir makes a directory; one that is there already only gets its mode. It
// never takes the owner's own right to it.
func (t *tree) dir(name string, mode uint32) error {
	p, err := t.enter(name)
	if err != nil || p == "" {
		return err
	}
	m := fs.FileMode(mode)&0o755 | 0o700
	switch t.kinds[p] {
	case isDir:
		return t.root.Chmod(p, m)
	case isFile, isLink:
		return bad(name, "is a directory here, and something else elsewhere in the archive")
	}
	if err := t.parents(name, p); err != nil {
		return err
	}
	return t.mkdir(p, m)
}

// fresh says that p must not be there yet, and makes its parents.
func (t *tree) fresh(entry, p string) error {
	if t.kinds[p] != 0 {
		return bad(entry, "is in the archive twice")
	}
	return t.parents(entry, p)
}

// file writes a regular file with the bits of mode that a release may have:
// no setuid, setgid or sticky, and no right to write for any but its owner.
func (t *tree) file(name string, mode uint32, size int64, modified time.Time, r io.Reader) error {
	p, err := t.enter(name)
	if err != nil || p == "" {
		return err
	}
	if err := t.fresh(name, p); err != nil {
		return err
	}
	if size > t.limits.Bytes-t.bytes {
		return bad(name, "with it the archive unpacks to more than %d bytes", t.limits.Bytes)
	}
	return t.write(name, p, mode, modified, r)
}

func (t *tree) write(name, p string, mode uint32, modified time.Time, r io.Reader) error {
	f, err := t.root.OpenFile(p, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	t.kinds[p] = isFile
	err = t.copy(f, r, name)
	if err == nil {
		err = f.Chmod(fs.FileMode(mode)&0o755 | 0o400)
	}
	if err == nil && modified.Year() >= 1970 && modified.Year() < 2100 {
		at := unix.NsecToTimeval(modified.UnixNano())
		err = unix.Futimes(int(f.Fd()), []unix.Timeval{at, at})
		if err != nil {
			err = &fs.PathError{Op: "utimes", Path: p, Err: err}
		}
	}
	return errors.Join(err, f.Close())
}

// copy counts what really comes, whatever size the archive claimed.
func (t *tree) copy(f *os.File, r io.Reader, name string) error {
	for {
		if err := t.ctx.Err(); err != nil {
			return err
		}
		n, err := r.Read(t.buf)
		t.bytes += int64(n)
		if t.bytes > t.limits.Bytes {
			return bad(name, "with it the archive unpacks to more than %d bytes", t.limits.Bytes)
		}
		if t.bytes > ratioFrom && t.bytes/max(t.packed, 1) >= t.limits.Ratio {
			return bad(name, "with it the archive unpacks to more than %d times its size", t.limits.Ratio)
		}
		if n > 0 {
			if _, err := f.Write(t.buf[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// hardlink links to a file that the archive brought before.
func (t *tree) hardlink(name, target string) error {
	p, err := t.enter(name)
	if err != nil || p == "" {
		return err
	}
	to, err := t.local(target)
	if err != nil {
		return bad(name, "is a hard link that leads out of the release, to %.200q", target)
	}
	if to == "" || t.kinds[to] != isFile {
		return bad(name, "is a hard link to %.200q, which is no file before it in the archive", target)
	}
	if err := t.fresh(name, p); err != nil {
		return err
	}
	err = t.root.Link(to, p)
	if errors.Is(err, unix.EXDEV) { // the first Landlock lets none lead into another directory
		return t.again(name, to, p)
	}
	t.kinds[p] = isFile
	return err
}

// again copies what cannot be linked to.
func (t *tree) again(name, from, p string) error {
	f, err := t.root.OpenFile(from, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return t.write(name, p, uint32(info.Mode().Perm()), info.ModTime(), f)
}

// symlink notes a link; finish makes it.
func (t *tree) symlink(name, target string) error {
	p, err := t.enter(name)
	if err != nil || p == "" {
		return err
	}
	if err := t.fresh(name, p); err != nil {
		return err
	}
	switch {
	case target == "" || len(target) > 1024 || strings.ContainsRune(target, 0):
		return bad(name, "is a link to nothing, or to a name that is too long")
	case path.IsAbs(target):
		return bad(name, "is a link to the absolute path %.200q, which leads out of the release", target)
	}
	t.names += int64(len(target))
	t.kinds[p], t.links[p], t.order = isLink, target, append(t.order, p)
	return nil
}

// finish makes the links, each of which must stay inside however many other
// links it leads through.
func (t *tree) finish() error {
	if len(t.kinds) == 1 {
		return bad("", "holds nothing, or nothing below the %d parts that strip takes off", t.strip)
	}
	for _, p := range t.order {
		if err := t.ctx.Err(); err != nil {
			return err
		}
		if why := t.leads(path.Dir(p), t.links[p]); why != "" {
			return bad(p, "is a link to %.200q, which %s", t.links[p], why)
		}
	}
	for _, p := range t.order {
		if err := t.root.Symlink(t.links[p], p); err != nil {
			return err
		}
	}
	return nil
}

// leads walks a link's target as the kernel would, from dir, and says why it
// must not be, or "". What does not exist counts as a directory.
func (t *tree) leads(dir, target string) string {
	at := strings.Split(dir, "/")
	if dir == "." {
		at = nil
	}
	todo := strings.Split(target, "/")
	for hops := 0; len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			if len(at) == 0 {
				return "leads out of the release"
			}
			at = at[:len(at)-1]
			continue
		}
		at = append(at[:len(at):len(at)], part)
		next, ok := t.links[strings.Join(at, "/")]
		if !ok {
			continue
		}
		if hops++; hops > 40 {
			return "goes round in circles"
		}
		at = at[:len(at)-1]
		todo = append(strings.Split(next, "/"), todo...)
	}
	return ""
}
