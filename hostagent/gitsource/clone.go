package gitsource

import (
	"context"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"drydock/hostagent/durable"

	"github.com/go-git/go-git/v5/plumbing"
	"golang.org/x/sys/unix"
)

const (
	refAccepted = "refs/drydock/accepted" // the high-water mark
	refHead     = "refs/drydock/head"     // the last head that was fetched whole

	damagedFile = "drydock-damaged" // why the clone must not be trusted any more
	lockFile    = "drydock.lock"
	maxPacks    = 50 // past it, the packs are joined
)

// clone is the agent's own repository: bare, full history of one branch. Any
// git can read it.
type clone struct {
	dir     string
	objects *objects
	refs    refs
	trees   treeCache
}

// openClone opens the clone at dir, which it makes if there is none.
func openClone(dir string, limit int64) (*clone, error) {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		if err := initClone(dir); err != nil {
			return nil, err
		}
	}
	c := &clone{dir: dir, refs: refs{dir: dir, common: dir}}
	if why, err := readSmall(filepath.Join(dir, damagedFile), 4096); err == nil {
		return c, fail(ErrCorrupt, "found before: %s", strings.TrimSpace(string(why)))
	}
	o, err := openOwn(filepath.Join(dir, "objects"), limit)
	if shortage(err) {
		return c, err
	}
	if err != nil {
		return c, fail(ErrCorrupt, "%w", err)
	}
	c.objects = o
	return c, nil
}

func initClone(dir string) error {
	for _, d := range []string{"objects/pack", "objects/info", "refs/heads", "refs/tags", "refs/drydock"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return err
		}
	}
	config := "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n[gc]\n\tauto = 0\n"
	if err := durable.WriteFile(filepath.Join(dir, "config"), []byte(config), 0o600); err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, "HEAD"), []byte("ref: refs/heads/main\n"), 0o600)
}

// ref is a ref's hash, or "" where there is none.
func (c *clone) ref(name string) (string, error) {
	h, err := c.refs.read(name)
	if errors.Is(err, errNoRef) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return h.String(), nil
}

func (c *clone) setRef(name, hash string) error {
	path := filepath.Join(c.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return durable.WriteFile(path, []byte(hash+"\n"), 0o600)
}

// mark remembers across restarts that the clone is damaged.
func (c *clone) mark(why error) {
	// If even this cannot be written, the damage is found again.
	_ = durable.WriteFile(filepath.Join(c.dir, damagedFile), []byte(why.Error()+"\n"), 0o600)
}

// lock keeps another process from fetching into the same clone, and waits for
// one that does.
func (c *clone) lock(ctx context.Context, patience time.Duration) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(c.dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			f.Close()
			return nil, fail(ErrUnreachable, "another process is fetching into %s (%w); it is tried again", c.dir, err)
		}
	}
	return func() {
		// Said outright: a child that was forked just now holds the file too.
		_ = unix.Flock(int(f.Fd()), unix.LOCK_UN)
		f.Close()
	}, nil
}

// sweep removes what a fetch left that was killed. Only under the lock.
func (c *clone) sweep() error {
	dirs := []string{"objects/pack", "refs/drydock", "."}
	for _, d := range dirs {
		entries, err := os.ReadDir(filepath.Join(c.dir, d))
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			return err
		}
		for _, e := range entries {
			path := filepath.Join(c.dir, d, e.Name())
			orphan := false
			if base, ok := strings.CutSuffix(path, ".pack"); ok && d == "objects/pack" {
				_, err := os.Stat(base + ".idx")
				orphan = errors.Is(err, fs.ErrNotExist)
			}
			if orphan || strings.HasPrefix(e.Name(), "tmp_pack_") || durable.Leftover(e.Name()) {
				if err := os.Remove(path); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// verify proves that a head is there whole: its commit, its folders, and that
// no file is missing.
func (c *clone) verify(h plumbing.Hash) (Commit, error) {
	head, err := c.objects.commit(h)
	if err != nil {
		return head, err
	}
	return head, c.objects.complete(&c.trees, head.tree)
}

// join makes one pack of all when there are many, because go-git and git both
// slow down with their number. It copies the packed bytes as they are, so that
// deltas stay deltas and memory stays small, and proves the result like a pack
// from the network. Killed anywhere, nothing is lost: the old packs go last.
func (c *clone) join(ctx context.Context, limit int64) error {
	old := c.objects.list()
	if len(old) <= maxPacks {
		return nil
	}
	r, w := io.Pipe()
	go func() { w.CloseWithError(concatenate(w, old)) }()
	got, err := receive(ctx, c.objects, r, 2*limit)
	r.CloseWithError(err)
	if err != nil {
		return err
	}
	if err := got.keep(c.objects); err != nil {
		got.drop()
		return err
	}
	for _, p := range old {
		base := strings.TrimSuffix(p.path, ".pack")
		if base == filepath.Join(got.dir, got.name) {
			continue
		}
		// The index first: a pack without one does not count, and is swept.
		if err := errors.Join(os.Remove(base+".idx"), os.Remove(base+".pack")); err != nil {
			return err
		}
	}
	return c.objects.rescan()
}

// concatenate writes one pack with the objects of all. Deltas name their base
// by its distance or by its hash; both stay right when a pack's objects are
// copied in one piece.
func concatenate(w io.Writer, packs []*pack) error {
	var count uint32
	for _, p := range packs {
		var head [packHeader]byte
		if _, err := p.file.ReadAt(head[:], 0); err != nil {
			return err
		}
		count += binary.BigEndian.Uint32(head[8:])
	}
	sum := sha1.New()
	both := io.MultiWriter(w, sum)
	head := binary.BigEndian.AppendUint32([]byte("PACK\x00\x00\x00\x02"), count)
	if _, err := both.Write(head); err != nil {
		return err
	}
	for _, p := range packs {
		if _, err := io.Copy(both, io.NewSectionReader(p.file, packHeader, p.size-packHeader-packTrailer)); err != nil {
			return err
		}
	}
	_, err := w.Write(sum.Sum(nil))
	return err
}
