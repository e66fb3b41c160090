package gitsource

import (
	"context"
	"io/fs"
	"slices"
	"strings"

	"drydock/reconcile/trust"

	"github.com/go-git/go-git/v5/plumbing"
)

// What one comparison may come to: more is not a config repository, and trees
// of trees of trees have more paths than there is memory.
const (
	maxChanges  = 200_000
	maxCompared = 1_000_000 // entries that were looked at
)

const folder = fs.ModeDir | 0o755

// difference compares two trees.
type difference struct {
	ctx      context.Context
	objects  *objects
	trees    *treeCache
	changes  []trust.Change
	compared int
}

// nodes compares what stands at a path in both trees; a zero node is nothing.
func (d *difference) nodes(path string, old, new node, depth int) error {
	if old.mode == new.mode && old.hash == new.hash {
		return nil
	}
	if c := (trust.Change{Path: path, Old: entryOf(old), New: entryOf(new)}); c.Old != c.New {
		if len(d.changes) == maxChanges {
			return fail(ErrTooLarge, "more than %d files differ; commit them in several steps", maxChanges)
		}
		d.changes = append(d.changes, c)
	}
	if !old.mode.IsDir() && !new.mode.IsDir() {
		return nil
	}
	if depth > maxDepth {
		return tooDeep()
	}
	if d.ctx.Err() != nil {
		return context.Cause(d.ctx)
	}
	before, err := d.folder(old)
	if err != nil {
		return err
	}
	after, err := d.folder(new)
	if err != nil {
		return err
	}
	if err := d.folders(path, before, after, depth+1); err != nil || path != "" {
		return err
	}
	slices.SortFunc(d.changes, func(a, b trust.Change) int { return strings.Compare(a.Path, b.Path) })
	return nil
}

// folder is a folder's entries; what is no folder has none.
func (d *difference) folder(n node) (tree, error) {
	if !n.mode.IsDir() {
		return nil, nil
	}
	return d.objects.tree(d.trees, n.hash)
}

// folders compares two lists of entries, both sorted by name.
func (d *difference) folders(path string, old, new tree, depth int) error {
	if d.compared += len(old) + len(new); d.compared > maxCompared {
		return fail(ErrTooLarge, "more than %d files and folders would have to be compared; keep less in one repository", maxCompared)
	}
	for len(old) > 0 || len(new) > 0 {
		var a, b node
		order := 0
		switch {
		case len(old) == 0:
			order = 1
		case len(new) == 0:
			order = -1
		default:
			order = strings.Compare(old[0].name, new[0].name)
		}
		if order <= 0 {
			a, old = old[0], old[1:]
		}
		if order >= 0 {
			b, new = new[0], new[1:]
		}
		if a.mode == b.mode && a.hash == b.hash {
			continue
		}
		at := a.name + b.name
		if order == 0 {
			at = a.name
		}
		if path != "" {
			at = path + "/" + at
		}
		if err := d.nodes(at, a, b, depth); err != nil {
			return err
		}
	}
	return nil
}

// entryOf is a node as git writes it; zero for a folder, which is its files.
func entryOf(n node) trust.Entry {
	mode := uint32(0)
	switch {
	case n.hash == plumbing.ZeroHash && n.mode == 0, n.mode.IsDir():
		return trust.Entry{}
	case n.mode.Type() == fs.ModeSymlink:
		mode = 0o120000
	case n.mode.Type() == fs.ModeIrregular:
		mode = 0o160000
	default:
		mode = 0o100000 | uint32(n.mode.Perm())
	}
	return trust.Entry{Mode: mode, Blob: n.hash.String()}
}
