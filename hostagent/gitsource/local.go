package gitsource

import (
	"bufio"
	"compress/zlib"
	"context"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/go-git/go-git/v5/plumbing"
)

// local is a session with a repository on this machine. It reads the other's
// objects itself and writes the pack that a server would send, so that no git
// binary is needed and the pack is proved like any other.
type local struct {
	path string
	refs refs
	repo *Repository

	gives bool // any commit was offered, not one ref

	pipe *io.PipeReader
	done chan struct{}
}

func dialLocal(path string) (session, error) {
	r, err := gitDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fail(ErrUnreachable, "%s is not a git repository. Check the URL, and that the disk is mounted", path)
	}
	if err != nil {
		return nil, err
	}
	return &local{path: path, refs: r}, nil
}

// list needs no listing to find any commit: what is there may be asked for.
func (l *local) list(ref string) (advertised, error) {
	a := advertised{any: true, caps: []string{anyCommit}}
	if l.gives = ref == ""; l.gives {
		return a, nil
	}
	h, err := l.refs.read(ref)
	if errors.Is(err, errNoRef) {
		return a, nil
	}
	a.tips = []offered{{hash: h}}
	return a, err
}

func (l *local) pack(wants, _ []plumbing.Hash, ours *objects) (io.Reader, error) {
	repo, err := openAt(l.refs)
	if err != nil {
		return nil, err
	}
	for _, h := range wants {
		_, err := repo.objects.peel(h)
		if l.gives && errors.Is(err, errMissing) {
			err = fail(ErrUnknown, "%s: not our ref", h) // as a server says it
		}
		if err != nil {
			repo.Close()
			return nil, err
		}
	}
	l.repo = repo
	r, w := io.Pipe()
	l.pipe, l.done = r, make(chan struct{})
	go func() {
		defer close(l.done)
		w.CloseWithError(repo.send(w, wants, ours))
	}()
	return r, nil
}

func (l *local) close() {
	if l.repo == nil {
		return
	}
	l.pipe.Close()
	<-l.done
	l.repo.Close()
}

// send writes a pack of all that wants need and ours has not.
func (r *Repository) send(w io.Writer, wants []plumbing.Hash, ours *objects) error {
	list, err := r.lacking(wants, ours)
	if err != nil {
		return err
	}
	set := make(map[plumbing.Hash]bool, len(list))
	for _, h := range list {
		set[h] = true
	}
	sum := sha1.New()
	out := bufio.NewWriter(io.MultiWriter(w, sum))
	head := binary.BigEndian.AppendUint32([]byte("PACK\x00\x00\x00\x02"), uint32(len(list)))
	if _, err := out.Write(head); err != nil {
		return err
	}
	// Fast rather than small: nothing crosses a network here.
	z, err := zlib.NewWriterLevel(out, zlib.BestSpeed)
	if err != nil {
		return err
	}
	for _, h := range list {
		if err := r.sendOne(out, z, h, set); err != nil {
			return err
		}
	}
	if err := out.Flush(); err != nil {
		return err
	}
	_, err = w.Write(sum.Sum(nil))
	return err
}

// sendOne writes an object, as the delta that it is stored as if its base goes
// along out of the same pack (so no circle can arise), and whole otherwise.
func (r *Repository) sendOne(out io.Writer, z *zlib.Writer, h plumbing.Hash, set map[plumbing.Hash]bool) error {
	if delta, base, ok := r.storedDelta(h, set); ok {
		if err := entryHead(out, plumbing.REFDeltaObject, len(delta)); err != nil {
			return err
		}
		if _, err := out.Write(base[:]); err != nil {
			return err
		}
		return deflate(z, out, delta)
	}
	kind, data, err := r.objects.read(h, 0)
	if err != nil {
		return err
	}
	if err := entryHead(out, kind, len(data)); err != nil {
		return err
	}
	return deflate(z, out, data)
}

func (r *Repository) storedDelta(h plumbing.Hash, set map[plumbing.Hash]bool) ([]byte, plumbing.Hash, bool) {
	var none plumbing.Hash
	p, off, ok := r.objects.find(h)
	if !ok {
		return nil, none, false
	}
	e, err := p.entry(off)
	if err != nil || !e.delta() || e.size > r.objects.limit {
		return nil, none, false
	}
	at, err := p.baseOf(e)
	if err != nil {
		return nil, none, false
	}
	p.mu.Lock()
	base, err := p.index.FindHash(at)
	p.mu.Unlock()
	if err != nil || !set[base] {
		return nil, none, false
	}
	if q, where, ok := r.objects.find(base); !ok || q != p || where != at {
		return nil, none, false
	}
	delta, err := p.inflate(e, 0, true)
	return delta, base, err == nil
}

// lacking lists the objects that wants need and ours has not: tags and commits
// first, then folders and files.
func (r *Repository) lacking(wants []plumbing.Hash, ours *objects) ([]plumbing.Hash, error) {
	var list, trees, heads []plumbing.Hash
	for _, h := range wants {
		tags, head, err := r.tagged(h)
		if err != nil {
			return nil, err
		}
		list, heads = append(list, tags...), append(heads, head)
	}
	err := r.objects.walk(context.Background(), heads, func(c *Commit) (bool, bool, error) {
		hash := plumbing.NewHash(c.Hash)
		if ours.has(hash) {
			return true, false, nil
		}
		list, trees = append(list, hash), append(trees, c.tree)
		return false, len(list) > maxPackObjects, nil
	})
	if err != nil {
		return nil, err
	}
	seen := map[plumbing.Hash]bool{}
	for _, t := range trees {
		if list, err = r.below(t, ours, seen, list, 0); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// tagged is what a ref's hash leads to, and the annotated tags on the way.
func (r *Repository) tagged(h plumbing.Hash) (tags []plumbing.Hash, head plumbing.Hash, err error) {
	for {
		kind, data, err := r.objects.read(h, maxCommit)
		if err != nil || kind != plumbing.TagObject {
			return tags, h, err
		}
		tags = append(tags, h)
		if len(data) < 47 || len(tags) > 8 {
			return nil, h, fail(ErrCorrupt, "tag %s does not name what it tags", h)
		}
		if h, err = parseHash(string(data[7:47])); err != nil {
			return nil, h, err
		}
	}
}

func (r *Repository) below(h plumbing.Hash, ours *objects, seen map[plumbing.Hash]bool, list []plumbing.Hash, depth int) ([]plumbing.Hash, error) {
	if seen[h] {
		return list, nil
	}
	if seen[h] = true; ours.has(h) {
		return list, nil
	}
	switch {
	case depth > maxDepth:
		return nil, fail(ErrTooLarge, "%w, in every commit of the branch (git filter-repo)", tooDeep())
	case len(list) > maxPackObjects:
		return nil, fail(ErrTooLarge, "the repository has more than %d objects; follow one of less history", maxPackObjects)
	}
	list = append(list, h)
	t, err := r.objects.tree(&r.trees, h)
	if err != nil {
		return nil, err
	}
	for _, n := range t {
		switch {
		case n.mode.IsDir():
			if list, err = r.below(n.hash, ours, seen, list, depth+1); err != nil {
				return nil, err
			}
		case n.mode.Type() == fs.ModeIrregular || seen[n.hash]:
		default:
			if seen[n.hash] = true; !ours.has(n.hash) {
				list = append(list, n.hash)
			}
		}
	}
	return list, nil
}

func entryHead(w io.Writer, kind plumbing.ObjectType, size int) error {
	b := []byte{byte(kind)<<4 | byte(size&15)}
	for size >>= 4; size > 0; size >>= 7 {
		b[len(b)-1] |= 0x80
		b = append(b, byte(size&0x7f))
	}
	_, err := w.Write(b)
	return err
}

func deflate(z *zlib.Writer, w io.Writer, data []byte) error {
	z.Reset(w)
	if _, err := z.Write(data); err != nil {
		return fmt.Errorf("pack: %w", err)
	}
	return z.Close()
}
