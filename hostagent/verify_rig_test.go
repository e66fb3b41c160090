package hostagent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing/fstest"
	"time"

	"drydock/reconcile/trust"
)

// dag is a history with forks and merges, of a host whose source hands out
// whatever is called the head: what must not be accepted is for trust to see.
type dag struct {
	*host
	of    map[string]*node
	order []string
	slow  bool // what is between two commits is never found out
	opens int  // how often a snapshot was opened, by the resolver and not by the judge
	asked int  // how often a judge asked what is between two commits

	fromBeginning int // of those, how often from the beginning
}

type node struct {
	parents []string
	by      string // who signed it; "" nobody
	message string
	at      time.Time
}

// trusted is a host with a history of its own, and its options.
func (h *host) trusted() (*dag, Options, *worded) {
	d := &dag{host: h, of: map[string]*node{}}
	o, keys := h.options(), &worded{lost: map[string]bool{}}
	o.Source, o.Trust = d, &Trust{Policy: people(), Keys: keys, History: d}
	return d, o, keys
}

// on makes a commit of one version of web on a parent, and the head.
func (d *dag) on(parent, by, version, message string) string {
	var parents []string
	if parent != "" {
		parents = []string{parent}
	}
	hash := d.services([2]string{"web", version})
	d.put(hash, &node{parents, by, message, time.Now()})
	return hash
}

func (d *dag) put(hash string, n *node) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.of[hash] = n
	d.order = append(d.order, hash)
}

// vouch is a commit that changes nothing and names another.
func (d *dag) vouch(parent, by, version, bad string) string {
	return d.on(parent, by, version, "vouch\n\nDrydock-Vouch: "+bad+"\n")
}

func (d *dag) point(head string) { d.set(func() { d.head = head }) }

// Head gives files that are noticed when they are opened.
func (d *dag) Head(ctx context.Context, accepted string) (Snapshot, error) {
	s, err := d.host.Head(ctx, accepted)
	return d.watched(s), err
}

func (d *dag) At(ctx context.Context, commit string) (Snapshot, error) {
	s, err := d.host.At(ctx, commit)
	return d.watched(s), err
}

func (d *dag) watched(s Snapshot) Snapshot {
	if s.FS != nil {
		s.FS = opened{s.FS, d}
		s.Time = d.of[s.Commit].at
	}
	return s
}

type opened struct {
	fs.FS
	d *dag
}

func (o opened) Open(name string) (fs.File, error) {
	o.d.set(func() { o.d.opens++ })
	return o.FS.Open(name)
}

func (d *dag) get(hash string) (*node, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := d.of[hash]; n != nil {
		return n, nil
	}
	return nil, errors.New("no such commit")
}

func (d *dag) Commit(_ context.Context, hash string) ([]byte, error) {
	n, err := d.get(hash)
	if err != nil {
		return nil, err
	}
	return commitBytes(hash, n), nil
}

// commitBytes are a commit as git would write it, but for its tree.
func commitBytes(hash string, n *node) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "tree %s\n", hash)
	for _, p := range n.parents {
		fmt.Fprintf(&b, "parent %s\n", p)
	}
	fmt.Fprintf(&b, "author x <x@acme> %d +0000\ncommitter x <x@acme> %[1]d +0000\n", n.at.Unix())
	if n.by != "" {
		b.WriteString("gpgsig " + strings.ReplaceAll(strings.TrimSuffix(string(signature(n.by)), "\n"), "\n", "\n ") + "\n")
	}
	return []byte(b.String() + "\n" + cmp.Or(n.message, "a change\n"))
}

func (d *dag) Tree(ctx context.Context, commit string) (fs.FS, error) {
	s, err := d.host.At(ctx, commit)
	return s.FS, err
}

func (d *dag) Changed(_ context.Context, old, new string) ([]trust.Change, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return changesBetween(d.commits[old], d.commits[new]), nil
}

// changesBetween compares two commits' files. A file's blob is what it holds.
func changesBetween(was, is fstest.MapFS) (out []trust.Change) {
	entry := func(tree fstest.MapFS, p string) trust.Entry {
		if tree[p] == nil {
			return trust.Entry{}
		}
		return trust.Entry{Mode: 0o100644, Blob: string(tree[p].Data) + "."}
	}
	all := fstest.MapFS{}
	maps.Copy(all, was)
	maps.Copy(all, is)
	for _, p := range slices.Sorted(maps.Keys(all)) {
		if o, n := entry(was, p), entry(is, p); o != n {
			out = append(out, trust.Change{Path: p, Old: o, New: n})
		}
	}
	return out
}

// behind are a commit and all that is behind it.
func (d *dag) behind(commit string) map[string]bool {
	seen, todo := map[string]bool{}, []string{commit}
	for len(todo) > 0 {
		c := todo[0]
		todo = todo[1:]
		if n := d.of[c]; n != nil && !seen[c] {
			seen[c] = true
			todo = append(todo, n.parents...)
		}
	}
	return seen
}

func (d *dag) Between(ctx context.Context, accepted, head string) ([]string, error) {
	if d.slow {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked++
	if accepted == "" {
		d.fromBeginning++
	}
	old, all := d.behind(accepted), d.behind(head)
	return slices.DeleteFunc(slices.Clone(d.order), func(c string) bool { return !all[c] || old[c] }), nil
}

func (d *dag) MergeBases(_ context.Context, x, y string) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	a, b := d.behind(x), d.behind(y)
	for _, c := range slices.Backward(d.order) {
		if a[c] && b[c] {
			return []string{c}, nil
		}
	}
	return nil, nil
}

// kinds counts the records of a kind.
func (h *host) kinds(kind string) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range h.records {
		if string(r.Kind) == kind {
			n++
		}
	}
	return n
}
