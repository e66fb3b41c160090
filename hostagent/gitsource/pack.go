package gitsource

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/idxfile"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
)

const (
	packHeader  = 12   // "PACK", version, count
	packTrailer = 20   // SHA-1 over all before it
	maxChain    = 4095 // deltas on deltas; git's own ceiling
)

// pack is one packfile and its index. The handle stays open: reopening is what
// makes polling dear, and an open file survives its own deletion.
type pack struct {
	path  string // of the .pack
	file  *os.File
	size  int64
	mu    sync.Mutex // MemoryIndex builds its reverse table lazily
	index *idxfile.MemoryIndex
	cache *baseCache
}

// openPack opens a pack whose index stands beside it.
func openPack(path, indexPath string, cache *baseCache) (*pack, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	p := &pack{path: path, file: f, cache: cache}
	if err := p.load(indexPath); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

func (p *pack) load(indexPath string) error {
	info, err := p.file.Stat()
	if err != nil {
		return err
	}
	p.size = info.Size()
	raw, err := os.Open(indexPath)
	if err != nil {
		return err
	}
	defer raw.Close()
	p.index = idxfile.NewMemoryIndex()
	if err := idxfile.NewDecoder(bufio.NewReader(raw)).Decode(p.index); err != nil {
		return fail(ErrCorrupt, "index: %w", err)
	}
	// The index names its pack's trailer: a truncated or exchanged pack is
	// noticed here, without reading it.
	var trailer [packTrailer]byte
	if p.size < packHeader+packTrailer {
		return fail(ErrCorrupt, "pack has only %d bytes", p.size)
	}
	if _, err := p.file.ReadAt(trailer[:], p.size-packTrailer); err != nil {
		return fail(ErrCorrupt, "pack: %w", err)
	}
	if trailer != p.index.PackfileChecksum {
		return fail(ErrCorrupt, "the pack is not the one that its index was made for; it may be truncated")
	}
	return nil
}

// offset of an object, or false.
func (p *pack) offset(h plumbing.Hash) (int64, bool) {
	if ok, err := p.index.Contains(h); err != nil || !ok {
		return 0, false
	}
	// FindOffset writes the index's own cache of offsets.
	p.mu.Lock()
	defer p.mu.Unlock()
	off, err := p.index.FindOffset(h)
	return off, err == nil
}

// entry is the head of one object in a pack.
type entry struct {
	kind plumbing.ObjectType
	size int64         // inflated, of what is stored: for a delta, of the delta
	base int64         // offset of an OFS delta's base
	ref  plumbing.Hash // hash of a REF delta's base
	data int64         // offset of the deflated bytes
}

func (p *pack) entry(off int64) (entry, error) {
	if off < packHeader || off >= p.size-packTrailer {
		return entry{}, fail(ErrCorrupt, "offset %d is outside the pack", off)
	}
	var buf [64]byte
	n, err := p.file.ReadAt(buf[:min(64, p.size-packTrailer-off)], off)
	if err != nil && !errors.Is(err, io.EOF) {
		return entry{}, err
	}
	r := bytes.NewReader(buf[:n])
	e, err := readEntry(r, off)
	if err != nil {
		return entry{}, err
	}
	e.data = off + int64(n-r.Len())
	return e, nil
}

// readEntry reads the head of an object that starts at off.
func readEntry(r io.ByteReader, off int64) (entry, error) {
	var e entry
	b, err := r.ReadByte()
	if err != nil {
		return e, fail(ErrCorrupt, "object at %d: %w", off, err)
	}
	e.kind = plumbing.ObjectType(b >> 4 & 7)
	e.size = int64(b & 15)
	for shift := 4; b&0x80 != 0; shift += 7 {
		if b, err = r.ReadByte(); err != nil || shift > 55 {
			return e, fail(ErrCorrupt, "object at %d has a malformed size", off)
		}
		e.size |= int64(b&0x7f) << shift
	}
	switch e.kind {
	case plumbing.CommitObject, plumbing.TreeObject, plumbing.BlobObject, plumbing.TagObject:
	case plumbing.OFSDeltaObject:
		var back int64
		for i := 0; ; i++ {
			if b, err = r.ReadByte(); err != nil || i > 8 {
				return e, fail(ErrCorrupt, "object at %d has a malformed base", off)
			}
			back |= int64(b & 0x7f)
			if b&0x80 == 0 {
				break
			}
			back = (back + 1) << 7
		}
		if e.base = off - back; back <= 0 || e.base < packHeader {
			return e, fail(ErrCorrupt, "object at %d has its base outside the pack", off)
		}
	case plumbing.REFDeltaObject:
		for i := range e.ref {
			if e.ref[i], err = r.ReadByte(); err != nil {
				return e, fail(ErrCorrupt, "object at %d has a malformed base", off)
			}
		}
	default:
		return e, fail(ErrCorrupt, "object at %d has the unknown type %d", off, e.kind)
	}
	return e, nil
}

func (e entry) delta() bool {
	return e.kind == plumbing.OFSDeltaObject || e.kind == plumbing.REFDeltaObject
}

// inflate reads at most limit bytes of an entry's content; whole says that it
// must be all there is.
func (p *pack) inflate(e entry, limit int64, whole bool) ([]byte, error) {
	f, err := p.cache.inflater(io.NewSectionReader(p.file, e.data, p.size-packTrailer-e.data))
	if err != nil {
		return nil, fail(ErrCorrupt, "pack: %w", err)
	}
	defer p.cache.inflaters.Put(f)
	if !whole {
		data, err := io.ReadAll(io.LimitReader(f.z, limit))
		if err != nil {
			return nil, fail(ErrCorrupt, "pack: %w", err)
		}
		return data, nil
	}
	return inflateExactly(f.z, e.size)
}

// baseOf finds the offset of an entry's base.
func (p *pack) baseOf(e entry) (int64, error) {
	if e.kind == plumbing.OFSDeltaObject {
		return e.base, nil
	}
	if off, ok := p.offset(e.ref); ok {
		return off, nil
	}
	return 0, fail(ErrCorrupt, "the base %s of an object is not in its pack", e.ref)
}

// chain lists the entries from the one at off down to its undeltified base, or
// with atHand to before the first that is in the cache, which it returns: of a
// chain of thousands each object would otherwise cost thousands of reads.
func (p *pack) chain(off int64, baseOf func(entry) (int64, error), atHand bool) (entries []entry, offsets []int64, held *inflated, err error) {
	for {
		if held, ok := p.cache.get(p, off); atHand && ok {
			if len(entries)+held.deltas > maxChain {
				return nil, nil, nil, tooLong()
			}
			return entries, offsets, held, nil
		}
		e, err := p.entry(off)
		if err != nil {
			return nil, nil, nil, err
		}
		entries, offsets = append(entries, e), append(offsets, off)
		if !e.delta() {
			return entries, offsets, nil, nil
		}
		if len(entries) > maxChain {
			return nil, nil, nil, tooLong()
		}
		if off, err = baseOf(e); err != nil {
			return nil, nil, nil, err
		}
	}
}

func tooLong() error { return fail(ErrCorrupt, "more than %d deltas on one another", maxChain) }

// stat is an object's type and size, without inflating it.
func (p *pack) stat(off int64) (plumbing.ObjectType, int64, error) {
	entries, _, _, err := p.chain(off, p.baseOf, false)
	if err != nil {
		return 0, 0, err
	}
	kind := entries[len(entries)-1].kind
	if len(entries) == 1 {
		return kind, entries[0].size, nil
	}
	head, err := p.inflate(entries[0], 20, false)
	if err != nil {
		return 0, 0, err
	}
	_, size, err := deltaSizes(head)
	return kind, size, err
}

// deltaSizes reads the sizes of base and result at a delta's beginning.
func deltaSizes(delta []byte) (base, result int64, err error) {
	b, n := binary.Uvarint(delta)
	if n <= 0 {
		return 0, 0, fail(ErrCorrupt, "malformed delta")
	}
	r, m := binary.Uvarint(delta[n:])
	if m <= 0 || b > 1<<40 || r > 1<<40 {
		return 0, 0, fail(ErrCorrupt, "malformed delta")
	}
	return int64(b), int64(r), nil
}

// read is an object's whole content, at most limit bytes of it; none that it
// is made from may exceed most. The caller checks the hash.
func (p *pack) read(off, limit, most int64) (plumbing.ObjectType, []byte, error) {
	return p.readWith(off, limit, most, p.baseOf)
}

// readWith is read with another way to find bases, for a pack that has no
// index yet.
func (p *pack) readWith(off, limit, most int64, baseOf func(entry) (int64, error)) (plumbing.ObjectType, []byte, error) {
	entries, offsets, held, err := p.chain(off, baseOf, true)
	if err != nil {
		return 0, nil, err
	}
	allowed := func(i int) int64 {
		if i == 0 {
			return limit
		}
		return most
	}
	from := len(entries)
	if held == nil {
		from--
		if entries[from].size > allowed(from) {
			return 0, nil, tooLarge(entries[from].size, allowed(from))
		}
		held = &inflated{kind: entries[from].kind}
		if held.data, err = p.inflate(entries[from], 0, true); err != nil {
			return 0, nil, err
		}
		if from > 0 {
			p.cache.put(p, offsets[from], held)
		}
	}
	for i := from - 1; i >= 0; i-- {
		data, err := p.patch(entries[i], held.data, allowed(i), most)
		if err != nil {
			return 0, nil, err
		}
		held = &inflated{held.kind, data, held.deltas + 1}
		p.cache.put(p, offsets[i], held) // a result is often the next object's base
	}
	if int64(len(held.data)) > limit {
		return 0, nil, tooLarge(int64(len(held.data)), limit)
	}
	return held.kind, held.data, nil
}

func tooLarge(size, limit int64) error {
	return fail(ErrTooLarge, "%d bytes, more than the limit of %d", size, limit)
}

func (p *pack) patch(e entry, base []byte, limit, most int64) ([]byte, error) {
	if e.size > most {
		return nil, tooLarge(e.size, most)
	}
	delta, err := p.inflate(e, 0, true)
	if err != nil {
		return nil, err
	}
	src, result, err := deltaSizes(delta)
	if err != nil {
		return nil, err
	}
	if src != int64(len(base)) {
		return nil, fail(ErrCorrupt, "delta for a base of %d bytes on one of %d", src, len(base))
	}
	if result > limit {
		return nil, tooLarge(result, limit)
	}
	out, err := packfile.PatchDelta(base, delta)
	if err != nil {
		return nil, fail(ErrCorrupt, "delta: %w", err)
	}
	if int64(len(out)) != result {
		return nil, fail(ErrCorrupt, "delta made %d bytes and says %d", len(out), result)
	}
	return out, nil
}
