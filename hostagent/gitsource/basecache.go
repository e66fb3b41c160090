package gitsource

import (
	"bufio"
	"compress/zlib"
	"io"
	"sync"

	"github.com/go-git/go-git/v5/plumbing"
)

// entryBytes is what the cache takes for an object besides its bytes, about.
const entryBytes = 128

// baseCache keeps the bases of deltas that were used last, bounded in bytes.
// What it returns is shared: never write to it.
type baseCache struct {
	inflaters sync.Pool

	mu    sync.Mutex
	limit int64
	held  int64
	items map[baseKey]*inflated
	order []baseKey // oldest first
}

type baseKey struct {
	p   *pack
	off int64
}

// inflated is an object as it is, and how many deltas it is made from.
type inflated struct {
	kind   plumbing.ObjectType
	data   []byte
	deltas int
}

func newBaseCache(limit int64) *baseCache {
	return &baseCache{limit: limit, items: map[baseKey]*inflated{}}
}

func (c *baseCache) get(p *pack, off int64) (*inflated, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d, ok := c.items[baseKey{p, off}]
	return d, ok
}

func (c *baseCache) put(p *pack, off int64, d *inflated) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := baseKey{p, off}
	if _, ok := c.items[k]; ok || int64(len(d.data)) > c.limit/2 {
		return
	}
	c.items[k] = d
	c.order = append(c.order, k)
	c.held += int64(len(d.data)) + entryBytes
	for c.held > c.limit {
		old := c.order[0]
		c.order = c.order[1:]
		c.held -= int64(len(c.items[old].data)) + entryBytes
		delete(c.items, old)
	}
}

// drop forgets everything, and with it the packs that it would keep open.
func (c *baseCache) drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.items, c.order, c.held = map[baseKey]*inflated{}, nil, 0
}

// inflater is a decompressor and its buffer, 44 KB that are used again.
type inflater struct {
	in *bufio.Reader
	z  io.ReadCloser
}

func (c *baseCache) inflater(from io.Reader) (*inflater, error) {
	f, ok := c.inflaters.Get().(*inflater)
	if !ok {
		f = &inflater{in: bufio.NewReaderSize(from, 4096)}
		var err error
		f.z, err = zlib.NewReader(f.in)
		return f, err
	}
	f.in.Reset(from)
	return f, f.z.(zlib.Resetter).Reset(f.in, nil)
}

// inflateExactly trusts a declared size only as far as bytes really come.
func inflateExactly(z io.Reader, size int64) ([]byte, error) {
	// One byte more than it says, to see the end; never twice as much.
	buf := make([]byte, 0, min(size, 1<<20)+1)
	for {
		n, err := z.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case int64(len(buf)) > size || err == io.EOF && int64(len(buf)) < size:
			return nil, fail(ErrCorrupt, "object holds %d bytes or more and says %d", len(buf), size)
		case err == io.EOF:
			return buf, nil
		case err != nil:
			return nil, fail(ErrCorrupt, "object: %w", err)
		case len(buf) == cap(buf):
			buf = append(make([]byte, 0, min(2*int64(cap(buf)), size+1)), buf...)
		}
	}
}
