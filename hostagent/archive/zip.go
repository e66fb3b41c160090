package archive

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"strings"
)

// maxDirectory is how long a zip's directory may be: all of it is held in
// memory at once, at several times this.
const maxDirectory = 24 << 20

// unzip unpacks in the order of the directory at the end, which alone decides
// what a zip holds; what it says about sizes is checked by counting.
func (t *tree) unzip(src io.ReaderAt, size int64) error {
	in := &reader{t: t}
	n, err := zipClaims(src, size)
	if err != nil {
		return err
	}
	if n > uint64(t.limits.Entries) {
		return bad("", "has more than %d entries", t.limits.Entries)
	}
	dir := &directory{r: src, left: maxDirectory, disk: in}
	z, err := zip.NewReader(dir, size)
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) { // enter judges names
		return in.blame(err)
	}
	if len(z.File) > t.limits.Entries {
		return bad("", "has more than %d entries", t.limits.Entries)
	}
	dir.left = -1
	for _, f := range z.File {
		if err := t.zipEntry(f); err != nil {
			return in.blame(err)
		}
	}
	return nil
}

func (t *tree) zipEntry(f *zip.File) error {
	name, mode := f.Name, f.Mode()
	switch {
	case strings.Contains(name, `\`):
		return bad(name, "its name has a backslash, which some tools take for a separator; pack it with one that writes /")
	case f.Flags&1 != 0:
		return bad(name, "is encrypted")
	case strings.HasSuffix(name, "/") || mode.IsDir():
		return t.dir(name, uint32(mode.Perm()))
	case mode&fs.ModeSymlink != 0 && f.UncompressedSize64 > 1024:
		return bad(name, "is a link to a name that is too long")
	case mode&(fs.ModeDevice|fs.ModeCharDevice|fs.ModeNamedPipe|fs.ModeSocket) != 0:
		return bad(name, "is a device, pipe or socket; a release holds files, directories and links only")
	case f.UncompressedSize64 > uint64(t.limits.Bytes):
		return bad(name, "with it the archive unpacks to more than %d bytes", t.limits.Bytes)
	}
	r, err := f.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	if mode&fs.ModeSymlink != 0 {
		target, err := io.ReadAll(io.LimitReader(r, 1025))
		if err != nil {
			return err
		}
		return t.symlink(name, string(target))
	}
	perm := uint32(mode.Perm())
	if f.CreatorVersion>>8 != 3 && f.CreatorVersion>>8 != 19 {
		perm = 0o644 // made on a system without such modes
	}
	return t.file(name, perm, int64(f.UncompressedSize64), f.Modified, r)
}

// directory reads a zip's directory, and gives up on one that is too long,
// whatever number of entries it claims.
type directory struct {
	r    io.ReaderAt
	left int64 // -1: no limit any more
	disk *reader
}

func (d *directory) ReadAt(p []byte, off int64) (int, error) {
	if err := d.disk.t.ctx.Err(); err != nil {
		d.disk.err = err
		return 0, err
	}
	if d.left == 0 {
		return 0, bad("", "has a directory of more than %d MiB", maxDirectory>>20)
	}
	if d.left > 0 {
		d.left = max(d.left-int64(len(p)), 0)
	}
	n, err := d.r.ReadAt(p, off)
	if err != nil && err != io.EOF {
		d.disk.err = err
	}
	return n, err
}

// zipClaims is the number of entries that a zip's end says there are: room for
// them is made before the first is read.
func zipClaims(src io.ReaderAt, size int64) (uint64, error) {
	tail := make([]byte, min(size, 22+1<<16))
	if _, err := src.ReadAt(tail, size-int64(len(tail))); err != nil && err != io.EOF {
		return 0, err
	}
	at := bytes.LastIndex(tail, []byte("PK\x05\x06"))
	if at < 0 || len(tail)-at < 22 {
		return 0, bad("", "is a zip that ends too early")
	}
	n := uint64(binary.LittleEndian.Uint16(tail[at+10:]))
	if n != 0xffff || at < 20 || !bytes.Equal(tail[at-20:at-16], []byte("PK\x06\x07")) {
		return n, nil
	}
	var end [56]byte // zip64
	off := int64(binary.LittleEndian.Uint64(tail[at-12:]))
	if off < 0 || off > size-56 {
		return 0, bad("", "is a zip with a broken end")
	}
	if _, err := src.ReadAt(end[:], off); err != nil && err != io.EOF {
		return 0, err
	}
	return binary.LittleEndian.Uint64(end[32:]), nil
}
