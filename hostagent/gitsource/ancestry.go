package gitsource

import (
	"container/heap"
	"context"
	"slices"

	"github.com/go-git/go-git/v5/plumbing"
)

// maxKept is how many commits a graph remembers from one question to the next,
// about 80 bytes each.
const maxKept = 500_000

// maxLinks is how many parents the commits of a graph may name, four bytes each.
// Repositories of people have hardly more than commits; one that is made to have
// a thousand for each would take a host's memory.
const maxLinks = 16 << 20

// graph is who stands behind whom, of commits that were read, and so proved,
// in this process: what a commit's bytes say never changes. It believes no date
// and no generation that somebody wrote down. It is for one goroutine at a time.
type graph struct {
	at       map[plumbing.Hash]int32
	vertices []vertex
	asked    uint32 // how many walks there were
	links    int    // parents that were read
}

// none is no commit's vertex.
const none int32 = -1

// vertex is one commit.
type vertex struct {
	hash    plumbing.Hash
	parents []int32
	read    bool
	depth   int32  // one more than its deepest parent; 0 while not all behind it is read
	seen    uint32 // the last walk that came by
}

func (g *graph) vertex(h plumbing.Hash) int32 {
	if id, ok := g.at[h]; ok {
		return id
	}
	if g.at == nil {
		g.at = map[plumbing.Hash]int32{}
	}
	id := int32(len(g.vertices))
	g.vertices = append(g.vertices, vertex{hash: h})
	g.at[h] = id
	return id
}

// parents reads a commit's, once.
func (g *graph) parents(o *objects, id int32) ([]int32, error) {
	if !g.vertices[id].read {
		c, err := o.commit(g.vertices[id].hash)
		if err != nil {
			return nil, err
		}
		if g.links += len(c.parents); g.links > maxLinks {
			return nil, fail(ErrTooLarge, "the commits of this history name more than %d parents, and no history of people does; take them off the branch", maxLinks)
		}
		ids := make([]int32, 0, len(c.parents))
		for _, p := range c.parents {
			ids = append(ids, g.vertex(p))
		}
		v := &g.vertices[id]
		v.parents, v.read = ids, true
	}
	return g.vertices[id].parents, nil
}

// walk visits a commit and what is behind it, each once and after all its
// parents. Where stop says so, it does not go on, nor visit.
func (g *graph) walk(ctx context.Context, o *objects, from int32, stop func(id int32) bool, visit func(id int32)) error {
	type step struct {
		id   int32
		next int // of its parents
	}
	g.asked++
	var path []step
	enter := func(id int32) {
		if v := &g.vertices[id]; v.seen != g.asked {
			if v.seen = g.asked; !stop(id) {
				path = append(path, step{id: id})
			}
		}
	}
	for enter(from); len(path) > 0; {
		top := &path[len(path)-1]
		if err := ctx.Err(); top.next == 0 && err != nil {
			return context.Cause(ctx)
		}
		parents, err := g.parents(o, top.id)
		if err != nil {
			return err
		}
		if top.next < len(parents) {
			top.next++
			enter(parents[top.next-1])
			continue
		}
		visit(top.id)
		path = path[:len(path)-1]
	}
	return nil
}

// between are the commits behind head and not behind accepted, parents first.
func (g *graph) between(ctx context.Context, o *objects, accepted, head int32) ([]int32, error) {
	var out []int32
	past := false // something beside or below accepted was reached
	stop := func(id int32) bool { return id == accepted }
	visit := func(id int32) {
		out = append(out, id)
		past = past || len(g.vertices[id].parents) == 0
	}
	// If every way down ends at accepted, none of the commits on it is behind
	// accepted, and nothing older needs to be read.
	if err := g.walk(ctx, o, head, stop, visit); err != nil || !past || accepted == none {
		return out, err
	}
	behind := map[int32]bool{}
	err := g.walk(ctx, o, accepted, func(int32) bool { return false }, func(id int32) { behind[id] = true })
	return slices.DeleteFunc(out, func(id int32) bool { return behind[id] }), err
}

// settle reads all that is behind a commit, and counts its depth.
func (g *graph) settle(ctx context.Context, o *objects, id int32) error {
	known := func(id int32) bool { return g.vertices[id].depth > 0 }
	return g.walk(ctx, o, id, known, func(id int32) {
		depth := int32(0)
		for _, p := range g.vertices[id].parents {
			depth = max(depth, g.vertices[p].depth)
		}
		g.vertices[id].depth = depth + 1
	})
}

// What mergeBases knows of a commit.
const (
	behindA = 1 << iota
	behindB
	behindBase
	both = behindA | behindB
)

// mergeBases are the common ancestors that are behind no other one. The walk
// takes the deepest commit first: whatever could be in front of it was there
// before, so that what is known of it is all.
func (g *graph) mergeBases(ctx context.Context, o *objects, a, b int32) ([]int32, error) {
	for _, id := range []int32{a, b} {
		if err := g.settle(ctx, o, id); err != nil {
			return nil, err
		}
	}
	var bases []int32
	known := map[int32]uint8{}
	q := deepestFirst{g: g}
	open := 0 // those in q that may still lead to a base
	tell := func(id int32, what uint8) {
		was, queued := known[id]
		if !queued {
			heap.Push(&q, id)
		}
		is := was | what
		known[id] = is
		switch wasOpen, isOpen := queued && was&behindBase == 0, is&behindBase == 0; {
		case isOpen && !wasOpen:
			open++
		case wasOpen && !isOpen:
			open--
		}
	}
	tell(a, behindA)
	tell(b, behindB)
	for open > 0 {
		id := heap.Pop(&q).(int32)
		what := known[id]
		if what&behindBase == 0 {
			open--
			if what == both {
				bases = append(bases, id)
				what |= behindBase
			}
		}
		for _, p := range g.vertices[id].parents {
			tell(p, what)
		}
	}
	return bases, nil
}

// deepestFirst is a heap of commits by depth.
type deepestFirst struct {
	g   *graph
	ids []int32
}

func (q *deepestFirst) Len() int { return len(q.ids) }
func (q *deepestFirst) Less(i, j int) bool {
	return q.g.vertices[q.ids[i]].depth > q.g.vertices[q.ids[j]].depth
}
func (q *deepestFirst) Swap(i, j int) { q.ids[i], q.ids[j] = q.ids[j], q.ids[i] }
func (q *deepestFirst) Push(x any)    { q.ids = append(q.ids, x.(int32)) }
func (q *deepestFirst) Pop() any {
	last := q.ids[len(q.ids)-1]
	q.ids = q.ids[:len(q.ids)-1]
	return last
}
