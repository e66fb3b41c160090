package release

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"drydock/hostagent/durable"

	"golang.org/x/sys/unix"
)

// manifest is what one release brought. On disk it is one line a thing, which
// reads several times faster than JSON (a pass reads one for every service):
//
//	drydock-manifest 1 <made> <rebuilt> "path" "name" "layout"
//	f <mode> <size> <sha256> "bin/web"
//	d <mode> "bin"
//	l "bin/latest" "web"
//	end <sha256 of all lines above>
type manifest struct {
	path, name, layout string
	made               time.Time
	rebuilt            bool // from what was found, because the first one was lost
	entries            []entry
	sum                string // of the encoded form; binds a seen to it
}

type entry struct {
	kind   byte   // 'f', 'd' or 'l'
	path   string // relative, with slashes
	mode   uint32 // permission bits; 0 for links
	size   int64
	digest string // 64 hex digits
	target string
}

func manifestFile(home, name string) string { return filepath.Join(home, name+".manifest") }
func seenFile(home, name string) string     { return filepath.Join(home, name+".seen") }

func (m *manifest) encode() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "drydock-manifest 1 %d %t %q %q %q\n", m.made.UnixNano(), m.rebuilt, m.path, m.name, m.layout)
	for _, e := range m.entries {
		switch e.kind {
		case 'f':
			fmt.Fprintf(&b, "f %o %d %s %q\n", e.mode, e.size, e.digest, e.path)
		case 'd':
			fmt.Fprintf(&b, "d %o %q\n", e.mode, e.path)
		case 'l':
			fmt.Fprintf(&b, "l %q %q\n", e.path, e.target)
		}
	}
	sum := sha256.Sum256(b.Bytes())
	m.sum = hex.EncodeToString(sum[:])
	fmt.Fprintf(&b, "end %s\n", m.sum)
	return b.Bytes()
}

var errManifest = errors.New("damaged manifest")

func decodeManifest(data []byte) (*manifest, error) {
	body, end, ok := strings.Cut(string(data), "\nend ")
	sum := sha256.Sum256([]byte(body + "\n"))
	m := &manifest{sum: hex.EncodeToString(sum[:])}
	if !ok || end != m.sum+"\n" {
		return nil, errManifest
	}
	var made int64
	lines := strings.Split(body, "\n")
	_, err := fmt.Sscanf(lines[0], "drydock-manifest 1 %d %t %q %q %q", &made, &m.rebuilt, &m.path, &m.name, &m.layout)
	if err != nil {
		return nil, errManifest
	}
	m.made = time.Unix(0, made)
	m.entries = make([]entry, 0, len(lines)-1)
	for _, line := range lines[1:] {
		e, err := decodeEntry(line)
		if err != nil {
			return nil, errManifest
		}
		m.entries = append(m.entries, e)
	}
	return m, nil
}

func decodeEntry(line string) (e entry, err error) {
	kind, rest, _ := strings.Cut(line, " ")
	field := func() (s string) {
		s, rest, _ = strings.Cut(rest, " ")
		return s
	}
	quoted := func() string {
		q, err2 := strconv.QuotedPrefix(rest)
		rest = strings.TrimPrefix(rest[len(q):], " ")
		s, err3 := strconv.Unquote(q)
		err = errors.Join(err, err2, err3)
		return s
	}
	number := func(base int) int64 {
		n, err2 := strconv.ParseInt(field(), base, 64)
		err = errors.Join(err, err2)
		return n
	}
	switch kind {
	case "f":
		e = entry{kind: 'f', mode: uint32(number(8)), size: number(10), digest: field()}
		e.path = quoted()
	case "d":
		e = entry{kind: 'd', mode: uint32(number(8))}
		e.path = quoted()
	case "l":
		e = entry{kind: 'l', path: quoted()}
		e.target = quoted()
	default:
		err = errManifest
	}
	return e, err
}

// load reads the manifest of the tree called name, or nil if there is none
// that can be trusted; one that is damaged counts as lost.
func (s *Store) load(path, name string) (*manifest, error) {
	home := s.home(path)
	file := manifestFile(home, name)
	if m := s.cache.get(file); m != nil {
		return m, nil
	}
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, durable.HostFault(err)
	}
	m, err := decodeManifest(data)
	if err != nil || m.path != path || m.name != name {
		return nil, nil
	}
	s.cache.put(file, m)
	return m, nil
}

// scan fills the manifest from a tree that only the agent can reach, hands
// every file to its owner, and strips setuid, setgid and sticky bits. The root
// is handed over last: whoever can enter it can put a link to elsewhere where
// the walk is about to go.
func (m *manifest) scan(ctx context.Context, root string, own owner, saw *seen) error {
	err := m.walk(ctx, root, saw, func(path string, d fs.DirEntry) error {
		if path == root {
			return nil
		}
		if own.uid >= 0 {
			if err := os.Lchown(path, own.uid, own.gid); err != nil {
				return err
			}
		}
		if d.Type()&fs.ModeSymlink != 0 {
			return nil
		}
		info, err := d.Info()
		if err != nil || info.Mode()&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky) == 0 {
			return err
		}
		return os.Chmod(path, info.Mode().Perm())
	})
	if err == nil && own.uid >= 0 {
		err = os.Lchown(root, own.uid, own.gid)
	}
	if err != nil {
		return err
	}
	return os.Chmod(root, 0o755)
}

// walk describes everything below root, after visit has seen it.
func (m *manifest) walk(ctx context.Context, root string, saw *seen, visit func(string, fs.DirEntry) error) error {
	buf := make([]byte, 256<<10)
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err == nil && visit != nil {
			err = visit(path, d)
		}
		if err != nil || path == root {
			return err
		}
		e := entry{path: filepath.ToSlash(path[len(root)+1:])}
		st, err := e.take(path, buf)
		if err != nil || e.kind == 0 {
			return err
		}
		m.entries = append(m.entries, e)
		saw.stats = append(saw.stats, statOf(st))
		return nil
	})
}

// take describes what is at path; kind stays 0 for what is no file, directory or link.
func (e *entry) take(path string, buf []byte) (*unix.Stat_t, error) {
	st := new(unix.Stat_t)
	err := lstat(path, st)
	if err != nil {
		return nil, err
	}
	e.kind, _ = kindOf(st.Mode)
	switch e.kind {
	case 'f':
		e.mode, e.size = st.Mode&0o7777, st.Size
		e.digest, err = hashFile(path, buf)
	case 'd':
		e.mode = st.Mode & 0o7777
	case 'l':
		e.target, err = os.Readlink(path)
	}
	return st, err
}

func lstat(path string, st *unix.Stat_t) error {
	if err := unix.Lstat(path, st); err != nil {
		return &fs.PathError{Op: "lstat", Path: path, Err: err}
	}
	return nil
}

// hashFile follows no link and waits for no pipe: a service may have put one there.
func hashFile(path string, buf []byte) (string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return "", errors.Join(err, fmt.Errorf("%s is no regular file", path))
	}
	h := sha256.New()
	if _, err := io.CopyBuffer(h, struct{ io.Reader }{f}, buf); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// cache spares a pass inside the running agent reading the manifests again. It
// holds what the files hold: every write drops, and an unlinked or replaced
// file is noticed by its stat.
type cache struct {
	mu   sync.Mutex
	held map[string]cached
}

type cached struct {
	stat stat
	m    *manifest
}

func (c *cache) get(file string) *manifest {
	c.mu.Lock()
	defer c.mu.Unlock()
	was, ok := c.held[file]
	if !ok {
		return nil
	}
	var st unix.Stat_t
	if unix.Lstat(file, &st) != nil || statOf(&st) != was.stat {
		delete(c.held, file)
		return nil
	}
	return was.m
}

func (c *cache) put(file string, m *manifest) {
	var st unix.Stat_t
	if unix.Lstat(file, &st) != nil || len(m.entries) > 20_000 {
		return // a large one would stay in memory for good
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held == nil || len(c.held) > 256 {
		c.held = map[string]cached{}
	}
	c.held[file] = cached{statOf(&st), m}
}

func (c *cache) drop(file string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.held, file)
}
