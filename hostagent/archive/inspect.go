package archive

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// inspect holds the tree to what Extract promises, as if it knew nothing of
// who made it: what an archive took over would have left what it liked. Nobody
// but the agent can reach the tree by now.
func (a apart) inspect(ctx context.Context) error {
	var top unix.Stat_t
	if err := unix.Lstat(a.dir, &top); err != nil {
		return &fs.PathError{Op: "lstat", Path: a.dir, Err: err}
	}
	limits := a.order.Limits.orDefault()
	t := newTree(ctx, nil, 0, limits, 0)
	// Directories that no entry names, and each name once more in a link.
	left, links := 2*limits.Entries+int(limits.Names/2), map[string]string{}
	inodes := map[uint64]bool{}
	err := filepath.WalkDir(a.dir, func(at string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		name := filepath.ToSlash(at[len(a.dir):])
		if left--; left < 0 {
			return odd(name, "is one thing too many")
		}
		var st unix.Stat_t
		if err := unix.Lstat(at, &st); err != nil {
			return &fs.PathError{Op: "lstat", Path: at, Err: err}
		}
		switch kind := st.Mode & unix.S_IFMT; {
		case st.Uid != top.Uid:
			return odd(name, fmt.Sprintf("is uid %d's, not %d's", st.Uid, top.Uid))
		case kind == unix.S_IFLNK:
			if links[name[1:]], err = os.Readlink(at); err != nil {
				return err
			}
		case kind != unix.S_IFREG && kind != unix.S_IFDIR:
			return odd(name, "is no file, directory or link")
		case st.Mode&0o7022 != 0 && name != "": // the agent gives the top its own
			return odd(name, fmt.Sprintf("has mode %04o", st.Mode&0o7777))
		case kind == unix.S_IFDIR:
		case !inodes[st.Ino]:
			if t.bytes += st.Size; t.bytes > limits.Bytes {
				return odd(name, "is more than the limit allows")
			}
			if st.Nlink > 1 {
				inodes[st.Ino] = true
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	t.links = links
	for name, target := range links {
		if path.IsAbs(target) {
			return odd(name, fmt.Sprintf("is a link to %.200q", target))
		}
		if why := t.leads(path.Dir(name), target); why != "" {
			return odd(name, fmt.Sprintf("is a link to %.200q, which %s", target, why))
		}
	}
	return nil
}

// odd is an error that no archive should be able to bring about.
func odd(name, why string) error {
	return bad(name, "%s, which the process that unpacks should never have made: it may have been taken over by the archive", why)
}
