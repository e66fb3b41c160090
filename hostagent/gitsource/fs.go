package gitsource

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
)

// treeFS shows one commit's tree as a file system. Every byte comes from git
// objects whose hash was computed again; nothing is ever checked out, and links
// are shown but not followed.
type treeFS struct {
	from  reader
	root  plumbing.Hash
	time  time.Time // of the commit: git keeps no other
	limit int64     // bytes of one file
}

// reader is where a treeFS gets its objects: it outlives the clone that stood
// in place when the snapshot was made.
type reader interface {
	tree(h plumbing.Hash) (tree, error)
	blob(h plumbing.Hash, limit int64) ([]byte, error)
	size(h plumbing.Hash) (int64, error)
}

var (
	_ fs.ReadDirFS  = (*treeFS)(nil)
	_ fs.ReadFileFS = (*treeFS)(nil)
	_ fs.StatFS     = (*treeFS)(nil)
	_ fs.ReadLinkFS = (*treeFS)(nil)
)

// lookup finds a path's node. Each folder on the way is looked up by itself,
// so that damage is an error and never an empty folder.
func (f *treeFS) lookup(op, name string) (node, error) {
	n := node{name: ".", mode: fs.ModeDir | 0o755, hash: f.root}
	if !fs.ValidPath(name) {
		return n, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	if name == "." {
		return n, nil
	}
	for part := range strings.SplitSeq(name, "/") {
		if !n.mode.IsDir() {
			return n, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
		}
		t, err := f.from.tree(n.hash)
		if err != nil {
			return n, &fs.PathError{Op: op, Path: name, Err: err}
		}
		var ok bool
		if n, ok = t.find(part); !ok {
			return n, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
		}
	}
	return n, nil
}

// Open opens a file or folder. A link or a submodule is an error, because
// there is nothing behind it in this tree.
func (f *treeFS) Open(name string) (fs.File, error) {
	n, err := f.lookup("open", name)
	if err != nil {
		return nil, err
	}
	if n.mode.IsDir() {
		entries, err := f.ReadDir(name)
		if err != nil {
			return nil, err
		}
		return &openDir{info: info{f, n}, entries: entries}, nil
	}
	data, err := f.content("open", name, n)
	if err != nil {
		return nil, err
	}
	return &openFile{info: info{f, n}, Reader: bytes.NewReader(data)}, nil
}

// ReadFile is a file's content, a copy of the caller's own. A file over the
// limit is an error that wraps ErrTooLarge, found before it is read.
func (f *treeFS) ReadFile(name string) ([]byte, error) {
	n, err := f.lookup("read", name)
	if err != nil {
		return nil, err
	}
	data, err := f.content("read", name, n)
	return bytes.Clone(data), err
}

var (
	errLink      = errors.New("it is a symbolic link, which is never followed; commit a file in its place")
	errSubmodule = errors.New("it is a submodule, whose files are in another repository; commit them here")
	errFolder    = errors.New("it is a folder")
)

func (f *treeFS) content(op, name string, n node) ([]byte, error) {
	var err error
	var data []byte
	switch n.mode.Type() {
	case fs.ModeDir:
		err = errFolder
	case fs.ModeSymlink:
		err = errLink
	case fs.ModeIrregular:
		err = errSubmodule
	default:
		data, err = f.from.blob(n.hash, f.limit)
	}
	if err != nil {
		return nil, &fs.PathError{Op: op, Path: name, Err: err}
	}
	return data, nil
}

// ReadDir is a folder's entries, sorted by name.
func (f *treeFS) ReadDir(name string) ([]fs.DirEntry, error) {
	n, err := f.lookup("readdir", name)
	if err != nil {
		return nil, err
	}
	if !n.mode.IsDir() {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: errors.New("it is not a folder")}
	}
	t, err := f.from.tree(n.hash)
	if err != nil {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: err}
	}
	infos := make([]info, len(t))
	entries := make([]fs.DirEntry, len(t))
	for i, n := range t {
		infos[i] = info{f, n}
		entries[i] = &infos[i]
	}
	return entries, nil
}

// Stat describes a file, folder, link or submodule.
func (f *treeFS) Stat(name string) (fs.FileInfo, error) {
	n, err := f.lookup("stat", name)
	if err != nil {
		return nil, err
	}
	n.name = path.Base(name)
	return &info{f, n}, nil
}

// Lstat is Stat: links are never followed.
func (f *treeFS) Lstat(name string) (fs.FileInfo, error) { return f.Stat(name) }

// ReadLink is what a symbolic link says, at most 4 KiB.
func (f *treeFS) ReadLink(name string) (string, error) {
	n, err := f.lookup("readlink", name)
	if err != nil {
		return "", err
	}
	if n.mode.Type() != fs.ModeSymlink {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: fs.ErrInvalid}
	}
	data, err := f.from.blob(n.hash, 4096)
	if err != nil {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: err}
	}
	return string(data), nil
}

// Object is what FileInfo.Sys returns: which git object a name stands for.
// The same hash is the same content, so it serves as the key of a cache.
type Object struct{ hash plumbing.Hash }

// BlobHash is the object's hash, 40 hexadecimal digits; of a folder its
// tree's, of a submodule its commit's.
func (o Object) BlobHash() string { return o.hash.String() }

// info is both DirEntry and FileInfo of one node.
type info struct {
	f *treeFS
	n node
}

func (i *info) Name() string               { return i.n.name }
func (i *info) IsDir() bool                { return i.n.mode.IsDir() }
func (i *info) Type() fs.FileMode          { return i.n.mode.Type() }
func (i *info) Mode() fs.FileMode          { return i.n.mode }
func (i *info) Info() (fs.FileInfo, error) { return i, nil }
func (i *info) ModTime() time.Time         { return i.f.time }
func (i *info) Sys() any                   { return Object{i.n.hash} }
func (i *info) String() string             { return fs.FormatDirEntry(i) }

// Size is looked up when it is asked for, because a walk over 10,000 names
// rarely needs it. It is -1 where the object's header cannot be read; reading
// the file then says why.
func (i *info) Size() int64 {
	if t := i.n.mode.Type(); t == fs.ModeDir || t == fs.ModeIrregular {
		return 0
	}
	size, err := i.f.from.size(i.n.hash)
	if err != nil {
		return -1
	}
	return size
}

type openFile struct {
	info
	*bytes.Reader
}

func (o *openFile) Stat() (fs.FileInfo, error) { return &o.info, nil }
func (o *openFile) Close() error               { return nil }
func (o *openFile) Size() int64                { return o.info.Size() }

type openDir struct {
	info
	entries []fs.DirEntry
}

func (o *openDir) Stat() (fs.FileInfo, error) { return &o.info, nil }
func (o *openDir) Close() error               { return nil }
func (o *openDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: o.n.name, Err: errFolder}
}

// ReadDir as fs.ReadDirFile has it.
func (o *openDir) ReadDir(n int) ([]fs.DirEntry, error) {
	if n <= 0 || n > len(o.entries) {
		if n > 0 && len(o.entries) == 0 {
			return nil, io.EOF
		}
		n = len(o.entries)
	}
	got := o.entries[:n]
	o.entries = o.entries[n:]
	return got, nil
}
