package archive

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"os"
	"time"
)

// Builder makes a tree entry by entry by the rules of Extract, and apart from
// the agent as archives are unpacked, for releases that come otherwise than
// packed. Errors are those of Extract, and may come later than what they are
// about. Paths are relative, with slashes; parents come by themselves.
type Builder struct {
	pipe  *os.File
	tar   *tar.Writer
	ended chan struct{}
	err   error // of unpacking; valid once ended is closed
}

// NewBuilder builds in dir; limits.Ratio means nothing here. End must be called.
func NewBuilder(ctx context.Context, dir string, limits Limits) (*Builder, error) {
	a, err := newApart(dir, order{Limits: limits, Stream: true})
	if err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	b := &Builder{pipe: w, tar: tar.NewWriter(w), ended: make(chan struct{})}
	go func() {
		defer close(b.ended)
		defer r.Close() // so that no write waits for one who is gone
		b.err = a.run(ctx, r)
	}()
	return b, nil
}

// Dir makes a directory.
func (b *Builder) Dir(path string, mode uint32) error {
	return b.told(b.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: path + "/", Mode: int64(mode)}))
}

// File writes a file of size bytes, as r has them.
func (b *Builder) File(path string, mode uint32, size int64, modified time.Time, r io.Reader) error {
	err := b.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: path, Mode: int64(mode), Size: size, ModTime: modified})
	if err == nil {
		_, err = io.Copy(b.tar, r)
	}
	return b.told(err)
}

// Symlink makes a link, at the end and if it stays inside.
func (b *Builder) Symlink(path, target string) error {
	return b.told(b.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: path, Linkname: target}))
}

// End returns when the tree is made, or, if failed is not nil, given up; it
// then returns failed. An empty tree is an error.
func (b *Builder) End(failed error) error {
	if failed == nil {
		failed = b.told(b.tar.Close())
	}
	// Without the tar's own end, what reads it fails.
	b.pipe.Close()
	<-b.ended
	if failed != nil {
		return failed
	}
	return b.err
}

// told is why the other end is gone, where that is why writing failed.
func (b *Builder) told(err error) error {
	if errors.Is(err, os.ErrClosed) || err == nil {
		return err
	}
	var path *os.PathError
	if !errors.As(err, &path) {
		return bad("", "cannot be handed over to be unpacked: %v", err)
	}
	<-b.ended
	return b.err
}
