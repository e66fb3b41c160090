package archive

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Limits bound what an archive may cost.
type Limits struct {
	Entries int   // default 200,000
	Bytes   int64 // of all files together, unpacked; default 4 GiB
	Ratio   int64 // unpacked to packed, once 64 MiB are unpacked; default 200
	Names   int64 // bytes of all names and link targets together; default 32 MiB
}

func (l Limits) orDefault() Limits {
	if l.Entries == 0 {
		l.Entries = 200_000
	}
	if l.Bytes == 0 {
		l.Bytes = 4 << 30
	}
	if l.Ratio == 0 {
		l.Ratio = 200
	}
	if l.Names == 0 {
		l.Names = 32 << 20
	}
	return l
}

// ratioFrom is what may be unpacked before the ratio counts: small files of
// zeroes are ordinary.
const ratioFrom = 64 << 20

// maxWindow is how much memory a zstd frame may ask for. `zstd --ultra` stays
// within it, `--long=27` does not.
const maxWindow = 64 << 20

// BadError says what is wrong with an archive. The bytes are those that the
// release's digest names, so trying again does not help.
type BadError struct {
	Entry string // "" for the whole archive
	Why   string
}

func (e *BadError) Error() string {
	if e.Entry == "" {
		return "archive: " + e.Why
	}
	return fmt.Sprintf("archive: entry %.200q: %s", e.Entry, e.Why)
}

func bad(entry, format string, args ...any) error {
	return &BadError{entry, fmt.Sprintf(format, args...)}
}

// Extract unpacks a tar, tar.gz, tar.zst or zip, told by its content, into
// dst, leaving out the first strip parts of every name; entries with no more
// parts than that are left out. Nothing outside dst changes, whatever the
// archive says: see [tree]. A *BadError is the archive's fault; any other
// error came from the files read or written.
func Extract(ctx context.Context, src *os.File, dst *os.Root, strip int, limits Limits) error {
	info, err := src.Stat()
	if err != nil {
		return err
	}
	t := newTree(ctx, dst, strip, limits, info.Size())
	head := make([]byte, 512)
	n, err := src.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return err
	}
	head = head[:n]
	if bytes.HasPrefix(head, []byte("PK\x03\x04")) || bytes.HasPrefix(head, []byte("PK\x05\x06")) {
		// An offset below zero, which a zip may claim, is the end to this one.
		err = t.unzip(io.NewSectionReader(src, 0, info.Size()), info.Size())
	} else {
		err = t.untar(io.NewSectionReader(src, 0, info.Size()), head)
	}
	if err != nil {
		return err
	}
	return t.finish()
}

// untar finds out the compression, if any, and unpacks.
func (t *tree) untar(src io.Reader, head []byte) error {
	in := &reader{t: t, r: src}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(bufio.NewReaderSize(in, 64<<10))
		if err != nil {
			return in.blame(err)
		}
		return t.entries(in, z)
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return in.blame(err)
		}
		defer z.Close()
		return t.entries(in, z)
	}
	return t.entries(in, bufio.NewReaderSize(in, 64<<10))
}

// entries unpacks the tar that z yields. in, the packed side, knows whether an
// error came from the disk or from the content.
func (t *tree) entries(in *reader, z io.Reader) error {
	plain := bufio.NewReaderSize(z, 64<<10)
	head, err := plain.Peek(512)
	if err != nil && err != io.EOF {
		return in.blame(err)
	}
	if why := notTar(head); why != "" {
		return bad("", "%s", why)
	}
	return t.untarred(in, plain)
}

// untarred is entries for what is known to be a tar.
func (t *tree) untarred(in *reader, plain io.Reader) error {
	// Headers take room that no file shows: a stream of nothing but headers
	// must end too.
	capped := &meter{r: plain, left: t.limits.Bytes + 2048*int64(t.limits.Entries), why: "unpacks to more than the limit"}
	r := tar.NewReader(bufio.NewReaderSize(capped, 64<<10))
	for {
		h, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return in.blame(err)
		}
		if err := t.tarEntry(h, r); err != nil {
			return in.blame(err)
		}
	}
}

func (t *tree) tarEntry(h *tar.Header, r io.Reader) error {
	switch h.Typeflag {
	case tar.TypeXGlobalHeader:
		return t.count("")
	case tar.TypeDir:
		return t.dir(h.Name, uint32(h.Mode))
	case tar.TypeReg, tar.TypeGNUSparse:
		return t.file(h.Name, uint32(h.Mode), h.Size, h.ModTime, r)
	case tar.TypeSymlink:
		return t.symlink(h.Name, h.Linkname)
	case tar.TypeLink:
		return t.hardlink(h.Name, h.Linkname)
	case tar.TypeChar, tar.TypeBlock:
		return bad(h.Name, "is a device; a release holds files, directories and links only")
	case tar.TypeFifo:
		return bad(h.Name, "is a pipe; a release holds files, directories and links only")
	}
	return bad(h.Name, "has the unknown type %q", h.Typeflag)
}

// notTar says what the first block is instead of a tar's, or "".
func notTar(head []byte) string {
	for _, known := range []struct{ magic, name string }{
		{"\x1f\x8b", "gzip"}, {"\x28\xb5\x2f\xfd", "zstd"}, {"PK\x03\x04", "zip"}, {"BZh", "bzip2"},
		{"\xfd7zXZ", "xz"}, {"7z\xbc\xaf", "7z"}, {"!<arch>", "ar or Debian package"}, {"\x7fELF", "a program (use install \"binary\")"},
	} {
		if bytes.HasPrefix(head, []byte(known.magic)) {
			return "holds no tar but " + known.name + "; tar, tar.gz, tar.zst and zip are unpacked"
		}
	}
	if len(head) < 512 {
		return "is no tar, tar.gz, tar.zst or zip, or ends too early"
	}
	return ""
}

// reader is the packed side: it ends with the context and remembers an error
// that is the disk's and not the archive's.
type reader struct {
	t   *tree
	r   io.Reader
	err error
}

func (r *reader) Read(p []byte) (int, error) {
	if err := r.t.ctx.Err(); err != nil {
		r.err = err
		return 0, err
	}
	n, err := r.r.Read(p)
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}

// blame turns an error of unpacking into the archive's, unless reading or
// writing a file made it.
func (r *reader) blame(err error) error {
	var b *BadError
	var path *os.PathError
	var link *os.LinkError
	switch {
	case r.err != nil:
		return r.err
	case errors.As(err, &b), errors.As(err, &path), errors.As(err, &link), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, io.ErrUnexpectedEOF):
		return bad("", "ends too early")
	}
	return bad("", "%v", err)
}

// meter ends a stream that is longer than it may be.
type meter struct {
	r    io.Reader
	left int64
	why  string
}

func (m *meter) Read(p []byte) (int, error) {
	if m.left <= 0 {
		return 0, bad("", "%s", m.why)
	}
	n, err := m.r.Read(p[:min(int64(len(p)), m.left)])
	m.left -= int64(n)
	return n, err
}
