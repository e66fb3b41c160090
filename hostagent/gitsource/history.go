package gitsource

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"slices"
	"sync"

	"drydock/reconcile/trust"

	"github.com/go-git/go-git/v5/plumbing"
)

// History is a clone's objects as trust looks at them, each hashed again as it
// is read. It implements trust.History. Replace refs, grafts and the list of
// shallow commits play no part: a commit is what its own bytes say.
//
// An error that wraps trust.ErrUnfit is about what an object says, which its
// hash proves; any other one is about the store.
type History struct {
	use   func(read func(o *objects, trees *treeCache) error) error
	from  reader // for the files of trees
	limit int64  // bytes of one file
	where string // whose it is, for messages

	mu    sync.Mutex
	graph graph
}

var _ trust.History = (*History)(nil)

// History is the clone's, for as long as the source is open.
func (s *Source) History() *History { return s.history }

func (s *Source) newHistory() *History {
	p := (*proven)(s)
	return &History{
		use: func(read func(*objects, *treeCache) error) error {
			return p.use(func(c *clone) error { return read(c.objects, &c.trees) })
		},
		from: p, limit: s.o.MaxFile, where: "the clone " + s.o.Dir,
	}
}

// History is the repository's.
func (r *Repository) History() *History { return r.history }

func (r *Repository) newHistory() *History {
	return &History{
		use:  func(read func(*objects, *treeCache) error) error { return r.whole(read(r.objects, &r.trees)) },
		from: r, limit: r.limit, where: "this repository",
	}
}

// reading runs one question.
func (h *History) reading(ctx context.Context, read func(o *objects, trees *treeCache) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return h.use(read)
}

// there is a commit's hash, if the repository has it.
func (h *History) there(o *objects, commit string) (plumbing.Hash, error) {
	hash, err := parseHash(commit)
	if err != nil {
		return hash, err
	}
	if o.has(hash) {
		return hash, nil
	}
	if err := o.rescan(); err != nil {
		return hash, err
	}
	if _, known := h.graph.at[hash]; known || o.has(hash) {
		return hash, nil // reading it says what is wrong
	}
	return hash, fail(ErrUnknown, "commit %s is not in %s; a commit that a host rests on (since, or the accepted one) must be reachable from the branch", commit, h.where)
}

// Commit is a commit's own bytes.
func (h *History) Commit(ctx context.Context, commit string) (raw []byte, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	err = h.reading(ctx, func(o *objects, _ *treeCache) error {
		hash, err := h.there(o, commit)
		if err != nil {
			return err
		}
		data, err := o.commitBytes(hash)
		raw = bytes.Clone(data) // the store keeps its own
		return err
	})
	return raw, err
}

// Tree is a commit's files, as Snapshot.FS shows them.
func (h *History) Tree(ctx context.Context, commit string) (fsys fs.FS, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	err = h.reading(ctx, func(o *objects, _ *treeCache) error {
		hash, err := h.there(o, commit)
		if err != nil {
			return err
		}
		c, err := o.commit(hash)
		fsys = &treeFS{from: h.from, root: c.tree, time: c.Committer.Time, limit: h.limit}
		return err
	})
	return fsys, err
}

// Changed compares two commits' trees, path by path, sorted by path. Equal
// folders are not read. Modes are as git shows them: one that an old git wrote
// otherwise (100664) is no difference.
func (h *History) Changed(ctx context.Context, old, new string) (changes []trust.Change, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	err = h.reading(ctx, func(o *objects, trees *treeCache) error {
		d := &difference{ctx: ctx, objects: o, trees: trees}
		var roots [2]node
		for i, commit := range []string{old, new} {
			if i == 0 && commit == "" {
				continue
			}
			hash, err := h.there(o, commit)
			if err != nil {
				return err
			}
			c, err := o.commit(hash)
			if err != nil {
				return err
			}
			roots[i] = node{mode: folder, hash: c.tree}
		}
		if err := d.nodes("", roots[0], roots[1], 0); err != nil {
			return fmt.Errorf("comparing the files of commit %s with what stood before: %w", short(new), err)
		}
		changes = d.changes
		return nil
	})
	return changes, err
}

// Between are the commits behind head and not behind accepted, parents first;
// the same commits always come in the same order.
func (h *History) Between(ctx context.Context, accepted, head string) ([]string, error) {
	return h.asked(ctx, []string{head, accepted}, func(o *objects, ids []int32) ([]int32, error) {
		return h.graph.between(ctx, o, ids[1], ids[0])
	})
}

// MergeBases are the best common ancestors: several after merges criss-cross,
// none of unrelated histories. They are sorted by hash.
func (h *History) MergeBases(ctx context.Context, a, b string) ([]string, error) {
	bases, err := h.asked(ctx, []string{a, b}, func(o *objects, ids []int32) ([]int32, error) {
		return h.graph.mergeBases(ctx, o, ids[0], ids[1])
	})
	slices.Sort(bases)
	return bases, err
}

// asked puts a question to the graph, about commits that are there; "" is none.
func (h *History) asked(ctx context.Context, commits []string, ask func(o *objects, ids []int32) ([]int32, error)) (out []string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	err = h.reading(ctx, func(o *objects, _ *treeCache) error {
		ids := []int32{none, none}
		for i, commit := range commits {
			if commit == "" && i > 0 {
				continue
			}
			hash, err := h.there(o, commit)
			if err != nil {
				return err
			}
			ids[i] = h.graph.vertex(hash)
		}
		found, err := ask(o, ids)
		for _, id := range found {
			out = append(out, h.graph.vertices[id].hash.String())
		}
		return err
	})
	if len(h.graph.vertices) > maxKept {
		h.graph = graph{}
	}
	if err != nil {
		out = nil
	}
	return out, err
}
