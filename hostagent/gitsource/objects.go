package gitsource

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/go-git/go-git/v5/plumbing"
)

const (
	cacheBytes    = 8 << 20 // of delta bases
	maxAlternates = 16
)

// objects reads one object database: loose objects, packs, and what its
// alternates hold. Every object's hash is computed again from the bytes that
// were read, whatever a file name or an index says.
type objects struct {
	dirs  []string // "objects" directories, the repository's own first
	limit int64    // bytes of one object
	own   bool     // no alternates
	cache *baseCache

	mu    sync.Mutex
	packs []*pack
	known map[string]bool // index files that are loaded
	fixed bool            // a view with a pack that is not part of the database
}

// errMissing is an object that is nowhere. Whether that is damage or an
// unknown name, the caller knows.
var errMissing = errors.New("object is missing")

func openObjects(dir string, limit int64) (*objects, error) {
	return readObjects(dir, &objects{limit: limit})
}

// openOwn opens the objects of a clone of our own, which is whole in itself:
// an alternate would be somebody else's to change.
func openOwn(dir string, limit int64) (*objects, error) {
	return readObjects(dir, &objects{limit: limit, own: true})
}

func readObjects(dir string, o *objects) (*objects, error) {
	o.cache, o.known = newBaseCache(cacheBytes), map[string]bool{}
	if err := o.addDir(dir); err != nil {
		return nil, err
	}
	return o, o.rescan()
}

// addDir follows objects/info/alternates, as git does, a bounded way.
func (o *objects) addDir(dir string) error {
	for _, d := range o.dirs {
		if d == dir {
			return nil
		}
	}
	if len(o.dirs) >= maxAlternates {
		return fail(ErrTooLarge, "more than %d alternates; repack the repository with git repack -ad", maxAlternates)
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return fail(ErrCorrupt, "%s is not a directory of objects", dir)
	}
	o.dirs = append(o.dirs, dir)
	if o.own {
		return nil
	}
	list, err := readSmall(filepath.Join(dir, "info", "alternates"), 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(list)) {
		if line = strings.TrimRight(line, "\r\n"); line == "" || line[0] == '#' {
			continue
		}
		if !filepath.IsAbs(line) {
			line = filepath.Join(dir, line)
		}
		if err := o.addDir(filepath.Clean(line)); err != nil {
			return err
		}
	}
	return nil
}

// rescan loads the packs that are new, and forgets the ones that are gone.
func (o *objects) rescan() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.fixed {
		return nil
	}
	found := map[string]bool{}
	for _, dir := range o.dirs {
		entries, err := os.ReadDir(filepath.Join(dir, "pack"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, e := range entries {
			name, ok := strings.CutSuffix(e.Name(), ".idx")
			if !ok || !strings.HasPrefix(name, "pack-") {
				continue
			}
			base := filepath.Join(dir, "pack", name)
			found[base] = true
			if o.known[base] {
				continue
			}
			p, err := openPack(base+".pack", base+".idx", o.cache)
			if err != nil {
				if errors.Is(err, fs.ErrNotExist) { // another git is repacking, or a pack is lost
					delete(found, base)
					continue
				}
				return err
			}
			o.packs = append(o.packs, p)
			o.known[base] = true
		}
	}
	o.forget(found)
	return nil
}

// forget drops packs whose files are gone. Their handles are left to the
// garbage collector, because a reader may be in the middle of one.
func (o *objects) forget(found map[string]bool) {
	kept := o.packs[:0:0]
	for _, p := range o.packs {
		base := strings.TrimSuffix(p.path, ".pack")
		if found[base] {
			kept = append(kept, p)
		} else {
			delete(o.known, base)
		}
	}
	if len(kept) != len(o.packs) {
		o.cache.drop()
	}
	o.packs = kept
}

func (o *objects) add(p *pack) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.packs = append(o.packs, p)
	o.known[strings.TrimSuffix(p.path, ".pack")] = true
}

// with is a view of the same objects and of one more pack.
func (o *objects) with(p *pack) *objects {
	packs := append(slices.Clone(o.list()), p)
	return &objects{dirs: o.dirs, limit: o.limit, cache: o.cache, packs: packs, fixed: true}
}

func (o *objects) list() []*pack {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.packs
}

// close ends all handles; readers that are under way fail.
func (o *objects) close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	var errs []error
	for _, p := range o.packs {
		errs = append(errs, p.file.Close())
	}
	o.packs, o.known = nil, map[string]bool{}
	o.cache.drop()
	return errors.Join(errs...)
}

// find is the pack and the offset of an object, newest pack first.
func (o *objects) find(h plumbing.Hash) (*pack, int64, bool) {
	packs := o.list()
	for i := len(packs) - 1; i >= 0; i-- {
		if off, ok := packs[i].offset(h); ok {
			return packs[i], off, true
		}
	}
	return nil, 0, false
}

func (o *objects) loose(h plumbing.Hash) (*os.File, error) {
	hex := h.String()
	for _, dir := range o.dirs {
		f, err := os.Open(filepath.Join(dir, hex[:2], hex[2:]))
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
	}
	return nil, errMissing
}

// retry runs f, and once more after a rescan if the object was not there:
// another git may have packed or pushed it meanwhile.
func (o *objects) retry(f func() error) error {
	err := f()
	if errors.Is(err, errMissing) || errors.Is(err, os.ErrClosed) {
		if rerr := o.rescan(); rerr != nil {
			return rerr
		}
		err = f()
	}
	return err
}

// has reports whether the object is there as far as is known: it is not read,
// and packs that appeared meanwhile are only seen after rescan.
func (o *objects) has(h plumbing.Hash) bool {
	if _, _, ok := o.find(h); ok {
		return true
	}
	f, err := o.loose(h)
	if err == nil {
		f.Close()
	}
	return err == nil
}

// stat is an object's type and size as its header says. Only read proves them.
func (o *objects) stat(h plumbing.Hash) (kind plumbing.ObjectType, size int64, err error) {
	err = o.retry(func() error {
		if p, off, ok := o.find(h); ok {
			kind, size, err = p.stat(off)
			return err
		}
		f, err := o.loose(h)
		if err != nil {
			return err
		}
		defer f.Close()
		kind, size, _, err = looseHeader(f)
		return err
	})
	return kind, size, named(h, err)
}

// read is an object's type and content, at most limit bytes of it (0: the
// database's own limit), with the hash checked.
func (o *objects) read(h plumbing.Hash, limit int64) (kind plumbing.ObjectType, data []byte, err error) {
	if limit <= 0 || limit > o.limit {
		limit = o.limit
	}
	err = o.retry(func() error {
		kind, data, err = o.readOnce(h, limit)
		return err
	})
	if err != nil {
		return 0, nil, named(h, err)
	}
	if got := plumbing.ComputeHash(kind, data); got != h {
		return 0, nil, fail(ErrCorrupt, "object %s holds the bytes of %s: it was tampered with, or the disk is failing", h, got)
	}
	return kind, data, nil
}

func (o *objects) readOnce(h plumbing.Hash, limit int64) (plumbing.ObjectType, []byte, error) {
	if p, off, ok := o.find(h); ok {
		return p.read(off, limit, o.limit)
	}
	f, err := o.loose(h)
	if err != nil {
		return 0, nil, err
	}
	defer f.Close()
	kind, size, r, err := looseHeader(f)
	if err != nil {
		return 0, nil, err
	}
	if size > limit {
		return 0, nil, tooLarge(size, limit)
	}
	data, err := inflateExactly(r, size)
	return kind, data, err
}

func looseHeader(f io.Reader) (plumbing.ObjectType, int64, io.Reader, error) {
	z, err := zlib.NewReader(bufio.NewReader(f))
	if err != nil {
		return 0, 0, nil, fail(ErrCorrupt, "loose object: %w", err)
	}
	r := bufio.NewReaderSize(z, 512)
	head, err := r.ReadSlice(0)
	if err != nil {
		return 0, 0, nil, fail(ErrCorrupt, "loose object: %w", err)
	}
	word, digits, _ := bytes.Cut(head[:len(head)-1], []byte(" "))
	kind, err := plumbing.ParseObjectType(string(word))
	size, serr := strconv.ParseInt(string(digits), 10, 63)
	if err != nil || serr != nil || kind > plumbing.TagObject || size < 0 {
		return 0, 0, nil, fail(ErrCorrupt, "loose object has the malformed header %q", head)
	}
	return kind, size, r, nil
}

// named puts the object's name before an error, and keeps what kind it is.
func named(h plumbing.Hash, err error) error {
	var f *failure
	switch {
	case err == nil:
		return nil
	case shortage(err):
		return err
	case errors.As(err, &f):
		return fail(f.kind, "object %s: %w", h, err)
	case errors.Is(err, errMissing):
		return fail(ErrCorrupt, "object %s: %w", h, err)
	}
	return fail(ErrCorrupt, "object %s cannot be read: %w", h, err)
}

// shortage tells what this process lacks at the moment from what is wrong with
// a repository: having too many files open is no reason to clone anew.
func shortage(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EACCES, syscall.EPERM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// readSmall reads a file that must not be large.
func readSmall(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fail(ErrTooLarge, "%s has more than %d bytes", path, limit)
	}
	return data, err
}
