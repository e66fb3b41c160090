package archive

import (
	"context"
	"io"
	"math"
	"os"
	"time"
)

// Builder makes a tree entry by entry by the rules of Extract, for releases
// that come otherwise than packed. Errors are those of Extract. Paths are
// relative, with slashes; parents come by themselves.
type Builder struct{ t *tree }

// NewBuilder builds in dst; limits.Ratio means nothing here.
func NewBuilder(ctx context.Context, dst *os.Root, limits Limits) *Builder {
	return &Builder{&tree{ctx: ctx, root: dst, limits: limits.orDefault(), packed: math.MaxInt64,
		kinds: map[string]kind{".": isDir}, links: map[string]string{}, buf: make([]byte, 128<<10)}}
}

// Dir makes a directory.
func (b *Builder) Dir(path string, mode uint32) error { return b.t.dir(path, mode) }

// File writes a file of size bytes, as r has them.
func (b *Builder) File(path string, mode uint32, size int64, modified time.Time, r io.Reader) error {
	return b.t.file(path, mode, size, modified, r)
}

// Symlink notes a link; Finish makes it if it stays inside.
func (b *Builder) Symlink(path, target string) error { return b.t.symlink(path, target) }

// Finish makes the links. An empty tree is an error.
func (b *Builder) Finish() error { return b.t.finish() }
