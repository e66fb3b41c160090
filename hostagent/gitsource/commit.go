package gitsource

import (
	"bytes"
	"container/heap"
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"drydock/reconcile/trust"

	"github.com/go-git/go-git/v5/plumbing"
)

const (
	maxCommit  = 4 << 20 // bytes of a commit or tag
	maxParents = 1024
	maxWaiting = 16 << 20 // of commits that a walk has read before their turn: a server may make each as large as it can be
)

// Commit is one commit of a repository.
type Commit struct {
	Hash      string
	Tree      string
	Parents   []string
	Author    trust.Ident
	Committer trust.Ident
	Subject   string // the message's first line
	Message   string // all of it, subject included

	tree    plumbing.Hash
	parents []plumbing.Hash
	again   bool // only its place in a walk is kept: it is read again
}

// size is about what a commit that was read holds of memory.
func (c *Commit) size() int { return len(c.Message) + 100*len(c.parents) }

// commit reads and decodes a commit.
func (o *objects) commit(h plumbing.Hash) (Commit, error) {
	data, err := o.commitBytes(h)
	if err != nil {
		return Commit{}, err
	}
	c, err := decodeCommit(h, data)
	if err != nil {
		return Commit{}, malformed("commit %s: %w", h, err)
	}
	return c, nil
}

// commitBytes are a commit's own; never write to them.
func (o *objects) commitBytes(h plumbing.Hash) ([]byte, error) {
	kind, data, err := o.read(h, maxCommit)
	if err == nil && kind != plumbing.CommitObject {
		err = malformed("object %s is a %s where a commit is needed", h, kind)
	}
	return data, err
}

func decodeCommit(h plumbing.Hash, data []byte) (Commit, error) {
	c := Commit{Hash: h.String()}
	head, message, _ := bytes.Cut(data, []byte("\n\n"))
	c.Message = string(message)
	c.Subject, _, _ = strings.Cut(strings.TrimLeft(c.Message, "\n"), "\n")
	var err error
	if c.Parents, err = trust.Parents(data); err != nil {
		return c, err
	}
	for _, p := range c.Parents {
		c.parents = append(c.parents, plumbing.NewHash(p))
	}
	for line := range strings.SplitSeq(string(head), "\n") {
		switch key, value, _ := strings.Cut(line, " "); {
		case key == "tree" && c.Tree == "":
			c.Tree, c.tree = value, plumbing.NewHash(value)
		case key == "author" && c.Committer.Time.IsZero():
			c.Author = decodeIdent(value)
		case key == "committer" && c.Committer.Time.IsZero():
			c.Committer = decodeIdent(value)
		}
	}
	if c.Committer.Time.IsZero() || len(c.parents) > maxParents {
		return c, errors.New("it has no committer with a date, or too many parents")
	}
	return c, nil
}

// decodeIdent reads "Name <mail> seconds zone" however it was written, for
// whoever looks at a history; trust.ParseCommit is strict. A date that does not
// parse leaves the zero time.
func decodeIdent(s string) trust.Ident {
	var who trust.Ident
	open, end := strings.IndexByte(s, '<'), strings.LastIndexByte(s, '>')
	if open < 0 || end < open {
		return who
	}
	who.Name = strings.TrimSpace(s[:open])
	who.Email = s[open+1 : end]
	seconds, zone, _ := strings.Cut(strings.TrimSpace(s[end+1:]), " ")
	n, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil || n < 0 || n > 1<<40 {
		return who
	}
	who.Time = time.Unix(n, 0).UTC()
	if z, err := strconv.Atoi(zone); err == nil && z > -10000 && z < 10000 {
		who.Time = who.Time.In(time.FixedZone(zone, (z/100*60+z%100)*60))
	}
	return who
}

// peel follows annotated tags to what they tag.
func (o *objects) peel(h plumbing.Hash) (plumbing.Hash, error) {
	for range 8 {
		kind, data, err := o.read(h, maxCommit)
		if err != nil {
			return h, err
		}
		if kind != plumbing.TagObject {
			if kind != plumbing.CommitObject {
				return h, fail(ErrUnknown, "%s is a %s, not a commit", h, kind)
			}
			return h, nil
		}
		line, _, _ := strings.Cut(string(data), "\n")
		name, ok := strings.CutPrefix(line, "object ")
		next, err := parseHash(name)
		if !ok || err != nil {
			return h, fail(ErrCorrupt, "tag %s does not name what it tags", h)
		}
		h = next
	}
	return h, fail(ErrCorrupt, "tag %s: tags of tags, more than eight deep", h)
}

// parseHash is strict: forty lower-case hexadecimal digits.
func parseHash(s string) (plumbing.Hash, error) {
	if len(s) != 40 || strings.Trim(s, "0123456789abcdef") != "" {
		return plumbing.ZeroHash, fail(ErrUnknown, "%q is not a full commit hash of 40 lower-case hexadecimal digits", s)
	}
	return plumbing.NewHash(s), nil
}

// walk visits commits from a set of heads, newest first, each once, and stops
// when visit says so. A commit whose parents are not wanted returns skip.
func (o *objects) walk(ctx context.Context, from []plumbing.Hash, visit func(c *Commit) (skip, stop bool, err error)) error {
	seen := map[plumbing.Hash]bool{}
	var q newestFirst
	held := 0 // bytes of those in q
	push := func(h plumbing.Hash) error {
		if seen[h] {
			return nil
		}
		seen[h] = true
		c, err := o.commit(h)
		if err != nil {
			return err
		}
		if held+c.size() > maxWaiting {
			c = Commit{Hash: c.Hash, Committer: c.Committer, again: true}
		}
		held += c.size()
		heap.Push(&q, &c)
		return nil
	}
	for _, h := range from {
		if err := push(h); err != nil {
			return err
		}
	}
	for len(q) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		c := heap.Pop(&q).(*Commit)
		held -= c.size()
		if c.again {
			whole, err := o.commit(plumbing.NewHash(c.Hash))
			if err != nil {
				return err
			}
			c = &whole
		}
		skip, stop, err := visit(c)
		if err != nil || stop {
			return err
		}
		if skip {
			continue
		}
		for _, p := range c.parents {
			if err := push(p); err != nil {
				return err
			}
		}
	}
	return nil
}

// ancestor reports whether old is new or one of its ancestors.
func (o *objects) ancestor(ctx context.Context, old, new plumbing.Hash) (bool, error) {
	found := false
	err := o.walk(ctx, []plumbing.Hash{new}, func(c *Commit) (bool, bool, error) {
		found = c.Hash == old.String()
		return false, found, nil
	})
	return found, err
}

// newestFirst is a heap of commits by committer date. The order only decides
// how soon something is found, never what: dates are claims.
type newestFirst []*Commit

func (q newestFirst) Len() int           { return len(q) }
func (q newestFirst) Less(i, j int) bool { return q[i].Committer.Time.After(q[j].Committer.Time) }
func (q newestFirst) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *newestFirst) Push(x any)        { *q = append(*q, x.(*Commit)) }
func (q *newestFirst) Pop() any {
	old := *q
	c := old[len(old)-1]
	*q = old[:len(old)-1]
	return c
}
