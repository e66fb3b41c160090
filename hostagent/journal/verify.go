package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
)

// bbolt's page format (version 2), as far as it takes to know that bbolt can
// walk a file without a wild pointer, a loop, or a page that is used twice.
// bbolt checks none of this when it opens a file, and its own check panics in
// goroutines of its own.
const (
	pageHeader   = 16
	elementSize  = 16
	bucketHeader = 16
	metaSize     = 64
	flagBranch   = 1
	flagLeaf     = 2
	leafIsBucket = 1
	boltMagic    = 0xED0CDAED
	boltVersion  = 2
	maxDepth     = 32
)

var le = binary.LittleEndian

type walker struct {
	image    []byte
	pageSize uint64
	used     []bool // by page; its length is the file's high-water mark
}

// verify reports what is wrong with a bbolt file's structure. Both meta pages
// must be whole: each lies in one sector, which a power cut leaves old or new,
// and falling back to the older one would lose the last commit silently.
func verify(image []byte) error {
	if len(image) < 2*1024 {
		return fmt.Errorf("it has only %d bytes", len(image))
	}
	size := le.Uint32(image[pageHeader+8:])
	if size < 1024 || size > 1<<16 || size&(size-1) != 0 || 2*uint64(size) > uint64(len(image)) {
		return fmt.Errorf("page size %d", size)
	}
	m0, err0 := readMeta(image, size)
	m1, err1 := readMeta(image[size:], size)
	if err := errors.Join(err0, err1); err != nil {
		return err
	}
	m := m0
	if m1.txid > m0.txid {
		m = m1
	}
	if m.pages < 3 || m.pages > uint64(len(image))/uint64(size) {
		return fmt.Errorf("it has %d bytes for %d pages", len(image), m.pages)
	}
	w := &walker{image: image, pageSize: uint64(size), used: make([]bool, m.pages)}
	w.used[0], w.used[1] = true, true
	return w.page(m.root, bounds{}, maxDepth)
}

type meta struct{ root, pages, txid uint64 }

func readMeta(page []byte, size uint32) (meta, error) {
	b := page[pageHeader : pageHeader+metaSize]
	h := fnv.New64a()
	_, _ = h.Write(b[:metaSize-8])
	switch {
	case le.Uint32(b) != boltMagic, le.Uint32(b[4:]) != boltVersion, le.Uint32(b[8:]) != size:
		return meta{}, errors.New("a meta page is not one")
	case le.Uint64(b[metaSize-8:]) != h.Sum64():
		return meta{}, errors.New("a meta page's checksum differs")
	}
	return meta{root: le.Uint64(b[16:]), pages: le.Uint64(b[40:]), txid: le.Uint64(b[48:])}, nil
}

// bounds are the keys that a page may hold: from <= key < to; nil is open.
type bounds struct{ from, to []byte }

func (b bounds) hold(key []byte) bool {
	return (b.from == nil || bytes.Compare(b.from, key) <= 0) && (b.to == nil || bytes.Compare(key, b.to) < 0)
}

func (w *walker) page(id uint64, within bounds, depth int) error {
	if id < 2 || id >= uint64(len(w.used)) || depth == 0 {
		return fmt.Errorf("page %d is out of place", id)
	}
	at := id * w.pageSize
	overflow := uint64(le.Uint32(w.image[at+12:]))
	if le.Uint64(w.image[at:]) != id || overflow >= uint64(len(w.used))-id {
		return fmt.Errorf("page %d is not one", id)
	}
	for p := id; p <= id+overflow; p++ {
		if w.used[p] {
			return fmt.Errorf("page %d is used twice", p)
		}
		w.used[p] = true
	}
	return w.elements(id, w.image[at:at+(overflow+1)*w.pageSize], within, depth)
}

// elements checks the content of a page, or of a bucket small enough to stand
// inside its parent's value.
func (w *walker) elements(id uint64, b []byte, within bounds, depth int) error {
	if len(b) < pageHeader {
		return fmt.Errorf("page %d is cut short", id)
	}
	flags, count := le.Uint16(b[8:]), int(le.Uint16(b[10:]))
	if flags != flagLeaf && flags != flagBranch || flags == flagBranch && count == 0 || pageHeader+count*elementSize > len(b) {
		return fmt.Errorf("page %d has kind %d and %d elements", id, flags, count)
	}
	keys := make([][]byte, count)
	values := make([][]byte, count)
	for i := range count {
		at := pageHeader + i*elementSize
		e := b[at : at+elementSize]
		pos, ksize, vsize := uint64(le.Uint32(e[4:])), uint64(le.Uint32(e[8:])), uint64(le.Uint32(e[12:]))
		if flags == flagBranch {
			pos, ksize, vsize = uint64(le.Uint32(e)), uint64(le.Uint32(e[4:])), 0
		}
		start := uint64(at) + pos
		if pos < elementSize || ksize == 0 || start+ksize+vsize > uint64(len(b)) {
			return fmt.Errorf("page %d: element %d is out of place", id, i)
		}
		keys[i], values[i] = b[start:start+ksize], b[start+ksize:start+ksize+vsize]
		if !within.hold(keys[i]) || i > 0 && bytes.Compare(keys[i-1], keys[i]) >= 0 {
			return fmt.Errorf("page %d: element %d is out of order", id, i)
		}
	}
	for i := range count {
		var err error
		e := b[pageHeader+i*elementSize:]
		switch {
		case flags == flagBranch:
			to := within.to
			if i+1 < count {
				to = keys[i+1]
			}
			err = w.page(le.Uint64(e[8:]), bounds{keys[i], to}, depth-1)
		case le.Uint32(e) == leafIsBucket:
			err = w.bucket(id, values[i], depth)
		case le.Uint32(e) != 0:
			err = fmt.Errorf("page %d: element %d is of no known kind", id, i)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) bucket(id uint64, value []byte, depth int) error {
	if len(value) < bucketHeader {
		return fmt.Errorf("page %d: a bucket is cut short", id)
	}
	if root := le.Uint64(value); root != 0 {
		return w.page(root, bounds{}, depth-1)
	}
	return w.elements(id, value[bucketHeader:], bounds{}, depth-1)
}
