package gittree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"

	"drydock/hostagent/archive"
	"drydock/hostagent/durable"
	"drydock/hostagent/gitsource"
	"drydock/reconcile"
)

// maxBytes is the size of all files of a tree where Limits says nothing, as of
// an archive.
const maxBytes = 4 << 30

// badTree says what of a commit cannot be a release. The commit will never be
// another, so trying again does not help.
func badTree(name, format string, args ...any) error {
	return reconcile.ReleaseFault(fmt.Errorf("%.200q %s", name, fmt.Sprintf(format, args...)), "Commit the tree without it, and bump to that commit")
}

// checkOut writes a commit's files into dir, as they were committed: no filter
// of .gitattributes changes them, no line ending is converted, no hook runs.
// Every file's time is the commit's, so that the same commit always gives the
// same tree.
func checkOut(ctx context.Context, snap gitsource.Snapshot, dir string, limits archive.Limits) error {
	to, err := archive.NewBuilder(ctx, dir, limits)
	if err != nil {
		return durable.HostFault(err)
	}
	c := &checkout{snap: snap, to: to, left: limits.Bytes}
	if c.left == 0 {
		c.left = maxBytes
	}
	err = to.End(fs.WalkDir(snap.FS, ".", c.entry))
	var bad *archive.BadError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &bad) && bad.Entry == "":
		return reconcile.ReleaseFault(fmt.Errorf("the tree of commit %s %s", snap.Commit, bad.Why), "Commit a smaller one, and bump to that commit")
	case errors.As(err, &bad):
		return badTree(bad.Entry, "%s", bad.Why)
	case errors.Is(err, gitsource.ErrTooLarge):
		return reconcile.ReleaseFault(err, "Keep such a file out of git and release it as an artifact (install \"archive\")")
	}
	return durable.HostFault(err)
}

type checkout struct {
	snap gitsource.Snapshot
	to   *archive.Builder
	left int64 // bytes that may still come
}

func (c *checkout) entry(name string, d fs.DirEntry, err error) error {
	if err != nil || name == "." {
		return err
	}
	switch d.Type() {
	case fs.ModeDir:
		return c.to.Dir(name, 0o755)
	case fs.ModeSymlink:
		target, err := fs.ReadLink(c.snap.FS, name)
		if err != nil {
			return err
		}
		return c.to.Symlink(name, target)
	case fs.ModeIrregular:
		return badTree(name, "is a submodule, whose files are in another repository and are not fetched")
	}
	return c.file(name, d)
}

func (c *checkout) file(name string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	if c.left -= max(info.Size(), 0); c.left < 0 {
		return badTree(name, "makes the tree larger than a release may be")
	}
	data, err := fs.ReadFile(c.snap.FS, name)
	if err != nil {
		return err
	}
	if isLFSPointer(data) {
		return badTree(name, "is a pointer of Git LFS: the file itself is not in the repository, and Drydock does not fetch it")
	}
	return c.to.File(name, uint32(info.Mode().Perm()), int64(len(data)), c.snap.Time, bytes.NewReader(data))
}

// isLFSPointer knows a pointer by its form, which git-lfs fixes to the byte.
func isLFSPointer(data []byte) bool {
	return len(data) < 1024 && bytes.HasPrefix(data, []byte("version https://git-lfs.github.com/spec/v1\n")) &&
		bytes.Contains(data, []byte("\noid sha256:")) && bytes.Contains(data, []byte("\nsize "))
}
