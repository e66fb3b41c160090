package gitsource

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"context"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"drydock/hostagent/durable"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/idxfile"
)

const maxPackObjects = 2 << 20 // of one pack: bounds the memory of its index

// received is a pack on disk that is not part of the clone yet: it was proved
// whole, but not that it holds what was asked for.
type received struct {
	dir  string // objects/pack
	pack *pack  // of the temporary file
	name string // "pack-<hash>"
}

// receive writes a pack to a temporary file beside the others, at most limit
// bytes of it, and proves it: checksum, every object's hash, every delta.
func receive(ctx context.Context, o *objects, from io.Reader, limit int64) (*received, error) {
	dir := filepath.Join(o.dirs[0], "pack")
	f, err := os.CreateTemp(dir, "tmp_pack_*")
	if err != nil {
		return nil, err
	}
	r := &received{dir: dir, pack: &pack{path: f.Name(), file: f, cache: newBaseCache(2 * cacheBytes)}}
	if err := r.fill(ctx, o, from, limit); err != nil {
		r.drop()
		return nil, err
	}
	return r, nil
}

func (r *received) fill(ctx context.Context, o *objects, from io.Reader, limit int64) error {
	n, err := io.Copy(r.pack.file, io.LimitReader(from, limit+1))
	if err != nil {
		return err
	}
	if n > limit {
		return fail(ErrTooLarge, "the pack has more than %d bytes; if the repository really is that large, raise the limit, otherwise ask who pushed what", limit)
	}
	if r.pack.size = n; n < packHeader+packTrailer {
		return fail(ErrUnreachable, "the server sent %d bytes instead of a pack", n)
	}
	if r.pack.index, err = indexPack(ctx, r.pack, o.limit); err != nil {
		return err
	}
	r.name = fmt.Sprintf("pack-%x", r.pack.index.PackfileChecksum)
	return nil
}

// keep makes the pack part of the clone, durably. The index comes last,
// because a pack counts from when its index is there.
func (r *received) keep(o *objects) error {
	base := filepath.Join(r.dir, r.name)
	if err := r.pack.file.Chmod(0o444); err != nil {
		return err
	}
	if err := r.pack.file.Sync(); err != nil {
		return err
	}
	var buf bytes.Buffer
	if _, err := idxfile.NewEncoder(&buf).Encode(r.pack.index); err != nil {
		return err
	}
	if err := os.Rename(r.pack.path, base+".pack"); err != nil {
		return err
	}
	if err := durable.WriteFile(base+".idx", buf.Bytes(), 0o444); err != nil {
		return err
	}
	p, err := openPack(base+".pack", base+".idx", o.cache)
	if err != nil {
		return err
	}
	r.pack.file.Close()
	o.add(p)
	return nil
}

func (r *received) drop() {
	r.pack.file.Close()
	os.Remove(r.pack.path)
}

// indexer makes a pack's index by reading the pack, in two passes: all that is
// stored whole, streamed and never held; then the deltas, with their bases from
// a bounded cache. Nothing is believed but the bytes.
type indexer struct {
	pack   *pack
	limit  int64 // bytes of an object made from deltas
	writer *idxfile.Writer
	byHash map[plumbing.Hash]int64
	deltas []pending
}

type pending struct {
	offset int64
	crc    uint32
	ref    plumbing.Hash // of a REF delta
	isRef  bool
}

func indexPack(ctx context.Context, p *pack, limit int64) (*idxfile.MemoryIndex, error) {
	x := &indexer{pack: p, limit: limit, writer: &idxfile.Writer{}, byHash: map[plumbing.Hash]int64{}}
	sum, err := x.scan(ctx)
	if err != nil {
		return nil, err
	}
	if err := x.resolve(ctx); err != nil {
		return nil, err
	}
	if err := x.writer.OnFooter(sum); err != nil {
		return nil, err
	}
	return x.writer.Index()
}

// scan reads the pack from end to end, and proves its checksum.
func (x *indexer) scan(ctx context.Context) (sum plumbing.Hash, err error) {
	t := &tally{r: bufio.NewReaderSize(io.NewSectionReader(x.pack.file, 0, x.pack.size-packTrailer), 64<<10), sum: sha1.New(), crc: crc32.NewIEEE()}
	var head [packHeader]byte
	if _, err := io.ReadFull(t, head[:]); err != nil {
		return sum, err
	}
	count := binary.BigEndian.Uint32(head[8:])
	if string(head[:4]) != "PACK" || binary.BigEndian.Uint32(head[4:8]) != 2 {
		return sum, fail(ErrCorrupt, "what the server sent is not a pack of version 2")
	}
	if int64(count) > x.pack.size/9 { // the least that an object takes
		return sum, fail(ErrCorrupt, "the pack says that it has %d objects, and has no room for them", count)
	}
	if count > maxPackObjects {
		return sum, fail(ErrTooLarge, "the pack has %d objects, more than %d; follow a repository of less history", count, maxPackObjects)
	}
	if err := x.writer.OnHeader(count); err != nil {
		return sum, err
	}
	var z io.ReadCloser
	for i := range count {
		if i%256 == 0 && ctx.Err() != nil {
			return sum, context.Cause(ctx)
		}
		if z, err = x.object(ctx, t, z); err != nil {
			return sum, err
		}
	}
	copy(sum[:], t.sum.Sum(nil))
	var trailer plumbing.Hash
	if _, err := x.pack.file.ReadAt(trailer[:], x.pack.size-packTrailer); err != nil {
		return sum, err
	}
	if t.n != x.pack.size-packTrailer || trailer != sum {
		return sum, fail(ErrCorrupt, "the pack's checksum is wrong, or bytes follow it")
	}
	return sum, nil
}

// object reads one object; z is a decompressor to use again.
func (x *indexer) object(ctx context.Context, t *tally, z io.ReadCloser) (io.ReadCloser, error) {
	offset := t.n
	t.crc.Reset()
	e, err := readEntry(t, offset)
	if err != nil {
		return z, err
	}
	if z == nil {
		z, err = zlib.NewReader(t)
	} else {
		err = z.(zlib.Resetter).Reset(t, nil)
	}
	if err != nil {
		return nil, fail(ErrCorrupt, "object at %d: %w", offset, err)
	}
	var hasher plumbing.Hasher
	var into io.Writer = io.Discard
	if !e.delta() {
		hasher = plumbing.NewHasher(e.kind, e.size)
		into = hasher
	}
	n, err := io.Copy(into, io.LimitReader(&inTime{ctx, z}, e.size+1))
	if err != nil {
		return z, fail(ErrCorrupt, "object at %d: %w", offset, err)
	}
	if n != e.size {
		return z, fail(ErrCorrupt, "object at %d does not have the %d bytes that it says", offset, e.size)
	}
	crc := t.crc.Sum32()
	if e.delta() {
		x.deltas = append(x.deltas, pending{offset, crc, e.ref, e.kind == plumbing.REFDeltaObject})
		return z, nil
	}
	x.add(hasher.Sum(), offset, crc)
	return z, nil
}

func (x *indexer) add(h plumbing.Hash, offset int64, crc uint32) {
	x.byHash[h] = offset
	x.writer.Add(h, uint64(offset), crc)
}

// resolve computes the deltas' objects. A REF delta may have a base that is
// itself a delta further on, so it goes round until nothing is left.
func (x *indexer) resolve(ctx context.Context) error {
	x.pack.index = idxfile.NewMemoryIndex() // offsets of bases come from byHash meanwhile
	todo := x.deltas
	for len(todo) > 0 {
		var later []pending
		for _, d := range todo {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			ok, err := x.delta(d)
			if err != nil {
				return err
			}
			if !ok {
				later = append(later, d)
			}
		}
		if len(later) == len(todo) {
			return fail(ErrCorrupt, "the pack has deltas whose base %s it does not have", later[0].ref)
		}
		todo = later
	}
	return nil
}

// delta computes one, or reports that its base is not known yet.
func (x *indexer) delta(d pending) (bool, error) {
	kind, data, err := x.pack.readWith(d.offset, x.limit, x.limit, func(e entry) (int64, error) {
		if e.kind == plumbing.OFSDeltaObject {
			return e.base, nil
		}
		if off, ok := x.byHash[e.ref]; ok {
			return off, nil
		}
		return 0, errBaseLater
	})
	if err == errBaseLater {
		return false, nil
	}
	if errors.Is(err, ErrTooLarge) {
		return false, fail(ErrTooLarge, "a file or folder in it has %w. Keep it outside the repository: take it off the branch (git rebase -i, or git filter-repo if it lies far back), and push; what was accepted last stays in force", err)
	}
	if err != nil {
		return false, err
	}
	x.add(plumbing.ComputeHash(kind, data), d.offset, d.crc)
	return true, nil
}

var errBaseLater = fail(ErrCorrupt, "the base is not known yet")

// tally counts and sums the bytes of a pack as they are read. It reads byte by
// byte where a decompressor asks, so that no byte of the next object is eaten.
type tally struct {
	r   *bufio.Reader
	n   int64
	sum hash.Hash
	crc hash.Hash32
	one [1]byte
}

func (t *tally) Read(b []byte) (int, error) {
	n, err := t.r.Read(b)
	t.took(b[:n])
	return n, err
}

func (t *tally) ReadByte() (byte, error) {
	b, err := t.r.ReadByte()
	if err == nil {
		t.one[0] = b
		t.took(t.one[:])
	}
	return b, err
}

func (t *tally) took(b []byte) {
	t.n += int64(len(b))
	t.sum.Write(b)
	t.crc.Write(b)
}

// inTime ends a long read when its context ends: a bomb inflates for hours.
type inTime struct {
	ctx context.Context
	r   io.Reader
}

func (i *inTime) Read(b []byte) (int, error) {
	if i.ctx.Err() != nil {
		return 0, context.Cause(i.ctx)
	}
	return i.r.Read(b)
}
