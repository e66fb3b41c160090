package release

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"drydock/hostagent/durable"
	"drydock/reconcile"
)

// fillerID is whom trees are filled as where the agent is root: a user and a
// group that no host has (systemd leaves it free, and Debian reserves it), so
// that no other process can look into one that fills, or send it signals. The
// service's user could otherwise open the tree in /proc, and nobody's daemons
// what is unpacked for root.
const fillerID = 65533

// inside is the tree's name in the directory that only the agent may enter.
const inside = "tree"

// filled has the tree filled, and returns where it is: tmp, or a directory in
// it. From then on it is own's, or the agent's.
//
// Apart, the tree lies in a directory that only the agent may enter, and who
// fills it has a descriptor of it: no process of the service's user can get at
// it, neither while it is filled nor while it is hashed afterwards.
func filled(ctx context.Context, p Place, tmp string, own owner, fill func(ctx context.Context, dir string) error) (string, error) {
	if !p.Apart {
		return tmp, fill(ctx, tmp)
	}
	tree := filepath.Join(tmp, inside)
	if err := os.Mkdir(tree, 0o700); err != nil {
		return "", durable.HostFault(err)
	}
	maker, owner := own, own
	if os.Geteuid() == 0 {
		maker.uid, maker.gid = fillerID, fillerID
		if own.uid < 0 {
			owner.uid, owner.gid = 0, os.Getegid()
		}
	}
	if maker.uid >= 0 {
		if err := os.Chown(tree, maker.uid, maker.gid); err != nil {
			return "", durable.HostFault(err)
		}
	}
	if err := fill(ctx, tree); err != nil {
		return "", err
	}
	if maker == owner {
		return tree, nil
	}
	return tree, durable.HostFault(handOver(ctx, tree, maker, owner))
}

// handOver gives all of a tree that only the agent can reach to another owner,
// if it is what who filled it may have made: a hard link to what was somebody
// else's must not be given away.
func handOver(ctx context.Context, tree string, from, to owner) error {
	linked := map[uint64]bool{} // inodes with several names that are handed over
	return filepath.WalkDir(tree, func(path string, _ fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		var st unix.Stat_t
		if err == nil {
			err = lstat(path, &st)
		}
		switch {
		case err != nil:
			return err
		case int(st.Uid) != from.uid && !linked[st.Ino]:
			return reconcile.ReleaseFault(fmt.Errorf("%.200q came to be uid %d's, not %d's, while it was unpacked", filepath.Base(path), st.Uid, from.uid),
				"No release should bring that about: look at where it came from before it is tried again")
		}
		if st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			linked[st.Ino] = true
		}
		return os.Lchown(path, to.uid, to.gid)
	})
}

// alone moves a tree out of the directory that only the agent may enter, and
// returns where it is from then on. It must have happened before the tree gets
// its name, so that a crash leaves nothing that the next sweep is not for.
func (p Place) alone(tree string) (string, error) {
	if filepath.Base(tree) != inside {
		return tree, nil
	}
	out := durable.TempName(p.tree())
	err := os.Rename(tree, out)
	if err == nil {
		err = os.Remove(filepath.Dir(tree))
	}
	return out, durable.HostFault(err)
}
