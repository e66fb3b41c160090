package release

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"drydock/hostagent/durable"
	"drydock/reconcile"

	"golang.org/x/sys/unix"
)

// build hands a filled tree to its owner and lets p.Build run in it.
func build(ctx context.Context, p Place, tree string, own owner) error {
	if own.uid >= 0 && !p.Apart {
		// Nobody else can enter until the root is handed over, which is last, so
		// that names mean what they meant.
		err := filepath.WalkDir(tree, func(path string, _ fs.DirEntry, err error) error {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil || path == tree {
				return err
			}
			return os.Lchown(path, own.uid, own.gid)
		})
		if err == nil {
			err = os.Lchown(tree, own.uid, own.gid)
		}
		if err != nil {
			return durable.HostFault(err)
		}
	}
	temp := durable.TempName(p.tree())
	err := os.Mkdir(temp, 0o700)
	if err == nil && own.uid >= 0 {
		err = os.Chown(temp, own.uid, own.gid)
	}
	if err != nil {
		return durable.HostFault(err)
	}
	// By their own names: the build is another process, and may ask where it is.
	known := func(path string) string { return filepath.Join(p.Path, "releases", filepath.Base(path)) }
	if own.uid < 0 && os.Geteuid() == 0 {
		err = durable.Safe(known(tree))
	}
	if err == nil {
		err = p.Build(ctx, known(tree), known(temp))
	}
	os.RemoveAll(temp) // what stays goes with the next sweep
	return err
}

// scanBuilt is scan for a tree in which the release's own code has run as its
// owner, and may still be running if it fled. Whoever can rename in the tree
// could make a change by name hit any file of the host, so nothing is given
// away any more, and modes are only changed through an open file that is the
// owner's: what others could write to, and setuid, setgid and sticky bits.
func (m *manifest) scanBuilt(ctx context.Context, root string, own owner, saw *seen) error {
	uid := uint32(os.Geteuid())
	if own.uid >= 0 {
		uid = uint32(own.uid)
	}
	if err := tame(root, uid, 0o755, 0o755); err != nil {
		return err
	}
	return m.walk(ctx, root, saw, func(path string, d fs.DirEntry) error {
		var st unix.Stat_t
		if err := lstat(path, &st); err != nil {
			return err
		}
		if st.Uid != uid {
			return foreign(strings.TrimPrefix(path[len(root):], "/"), st.Uid, uid)
		}
		kind, _ := kindOf(st.Mode)
		if kind != 'f' && kind != 'd' || st.Mode&0o7022 == 0 {
			return nil
		}
		return tame(path, uid, 0, 0o755)
	})
}

func foreign(path string, is, want uint32) error {
	return reconcile.ReleaseFault(fmt.Errorf("the build left %.200q with uid %d as its owner, not %d", path, is, want),
		"What a build leaves must be its own user's: make it so, or leave it out, and bump to that commit")
}

// tame adds bits to a mode and takes away what most does not have, if the file
// is uid's.
func tame(path string, uid, add, most uint32) error {
	fault := func(op string, err error) error { return &fs.PathError{Op: op, Path: path, Err: err} }
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return fault("open", err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fault("stat", err)
	}
	if st.Uid != uid {
		return foreign(path, st.Uid, uid)
	}
	if err := unix.Fchmod(fd, (st.Mode|add)&most); err != nil {
		return fault("chmod", err)
	}
	return nil
}
