package gitsource

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"github.com/go-git/go-git/v5/plumbing"
)

const (
	maxTree        = 32 << 20 // bytes of one tree object
	maxCachedNodes = 100_000  // entries of decoded trees kept, about 10 MB
	maxDepth       = 64       // folders below one another
)

// node is one entry of a tree.
type node struct {
	name string
	mode fs.FileMode // type and permissions, as the file system shows them
	hash plumbing.Hash
}

// tree is a folder's entries, sorted by name.
type tree []node

func (t tree) find(name string) (node, bool) {
	i, ok := slices.BinarySearchFunc(t, name, func(n node, s string) int { return strings.Compare(n.name, s) })
	if !ok {
		return node{}, false
	}
	return t[i], true
}

// decodeTree reads a tree object, and refuses what no honest git writes: names
// that would mean something else to a file system, twice the same name, or an
// unknown mode.
func decodeTree(data []byte) (tree, error) {
	t := make(tree, 0, len(data)/40)
	for len(data) > 0 {
		sp := bytes.IndexByte(data, ' ')
		if sp < 5 || sp > 6 {
			return nil, fail(ErrCorrupt, "an entry has no mode")
		}
		mode, ok := modeOf(string(data[:sp]))
		if !ok {
			return nil, fail(ErrCorrupt, "an entry has the unknown mode %q", data[:sp])
		}
		nul := bytes.IndexByte(data, 0)
		if nul < 0 || len(data) < nul+21 {
			return nil, fail(ErrCorrupt, "an entry is cut off")
		}
		n := node{name: string(data[sp+1 : nul]), mode: mode}
		copy(n.hash[:], data[nul+1:])
		if err := checkName(n.name); err != nil {
			return nil, err
		}
		t = append(t, n)
		data = data[nul+21:]
	}
	slices.SortFunc(t, func(a, b node) int { return strings.Compare(a.name, b.name) })
	for i := 1; i < len(t); i++ {
		if t[i].name == t[i-1].name {
			return nil, fail(ErrCorrupt, "the name %q stands in a folder twice", t[i].name)
		}
	}
	return t, nil
}

// modeOf is git's mode in the words of io/fs. A submodule is neither file nor
// folder here: its commit is in another repository.
func modeOf(git string) (fs.FileMode, bool) {
	switch git {
	case "40000":
		return fs.ModeDir | 0o755, true
	case "100644", "100664": // the second was written by old gits
		return 0o644, true
	case "100755":
		return 0o755, true
	case "120000":
		return fs.ModeSymlink | 0o777, true
	case "160000":
		return fs.ModeIrregular, true
	}
	return 0, false
}

func checkName(name string) error {
	switch {
	case name == "", name == ".", name == "..", strings.ContainsAny(name, "/\x00"), strings.EqualFold(name, ".git"):
		return fail(ErrCorrupt, "an entry has the forbidden name %q", name)
	}
	return nil
}

// treeCache keeps decoded trees by hash, so that a walk after one change reads
// only the folders on the way to it.
type treeCache struct {
	mu    sync.Mutex
	held  int
	trees map[plumbing.Hash]*cachedTree
	clock uint64
}

type cachedTree struct {
	tree tree
	used uint64
}

func (c *treeCache) get(h plumbing.Hash) (tree, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t, ok := c.trees[h]
	if !ok {
		return nil, false
	}
	c.clock++
	t.used = c.clock
	return t.tree, true
}

func (c *treeCache) put(h plumbing.Hash, t tree) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.trees == nil {
		c.trees = map[plumbing.Hash]*cachedTree{}
	}
	if _, ok := c.trees[h]; ok {
		return
	}
	c.clock++
	c.trees[h] = &cachedTree{t, c.clock}
	c.held += len(t) + 1
	if c.held <= maxCachedNodes {
		return
	}
	// Rare, so simple: the older half goes, but never what was just read.
	ages := make([]uint64, 0, len(c.trees))
	for _, t := range c.trees {
		ages = append(ages, t.used)
	}
	slices.Sort(ages)
	middle := ages[len(ages)/2]
	for k, t := range c.trees {
		if t.used < middle && k != h {
			c.held -= len(t.tree) + 1
			delete(c.trees, k)
		}
	}
}

// tree reads a folder, from the cache or from the objects.
func (o *objects) tree(cache *treeCache, h plumbing.Hash) (tree, error) {
	if t, ok := cache.get(h); ok {
		return t, nil
	}
	kind, data, err := o.read(h, maxTree)
	if err != nil {
		return nil, err
	}
	if kind != plumbing.TreeObject {
		return nil, malformed("object %s is a %s where a tree is needed", h, kind)
	}
	t, err := decodeTree(data)
	if err != nil {
		return nil, malformed("tree %s: %w", h, err)
	}
	cache.put(h, t)
	return t, nil
}

func tooDeep() error {
	return fail(ErrTooLarge, "it has folders more than %d deep; move what is below them up", maxDepth)
}

// malformed is the error of an object that its hash proves.
func malformed(format string, args ...any) error {
	return fail(ErrMalformed, "%w", fail(ErrCorrupt, format, args...))
}

// complete checks that a tree and all below it is there: trees by reading
// them, files by asking for them (their bytes are proved when they are read).
func (o *objects) complete(cache *treeCache, h plumbing.Hash) error {
	return o.completeBelow(cache, h, map[plumbing.Hash]bool{}, 0)
}

func (o *objects) completeBelow(cache *treeCache, h plumbing.Hash, seen map[plumbing.Hash]bool, depth int) error {
	if seen[h] {
		return nil
	}
	seen[h] = true
	if depth > maxDepth {
		return tooDeep()
	}
	t, err := o.tree(cache, h)
	if err != nil {
		return err
	}
	for _, n := range t {
		if n.mode.IsDir() {
			err = o.completeBelow(cache, n.hash, seen, depth+1)
		} else {
			err = o.completeFile(n, seen)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// completeFile checks that what an entry names is there; a submodule's commit
// need not be.
func (o *objects) completeFile(n node, seen map[plumbing.Hash]bool) error {
	switch {
	case n.mode.Type() == fs.ModeIrregular || seen[n.hash]:
	case !o.has(n.hash):
		return fail(ErrCorrupt, "%s: object %s is missing", n.name, n.hash)
	default:
		seen[n.hash] = true
	}
	return nil
}

// present checks that all a new tree names is there, with what is in old taken
// as whole. What is there and makes no sense is for whoever judges its commit.
// It holds its own stack: the depth is the server's to choose.
func (o *objects) present(ctx context.Context, cache *treeCache, root plumbing.Hash, old *objects, seen map[plumbing.Hash]bool) error {
	for todo := []plumbing.Hash{root}; len(todo) > 0; {
		h := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if seen[h] {
			continue
		}
		if seen[h] = true; old.has(h) {
			continue
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		t, err := o.tree(cache, h)
		if errors.Is(err, ErrMalformed) || errors.Is(err, ErrTooLarge) {
			continue
		}
		if err != nil {
			return err
		}
		for _, n := range t {
			if n.mode.IsDir() {
				todo = append(todo, n.hash)
			} else if err := o.completeFile(n, seen); err != nil {
				return err
			}
		}
	}
	return nil
}
