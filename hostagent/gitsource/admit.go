package gitsource

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
)

// knownCommit reads a head that is in our clone already. A pack only comes
// into the clone once all its history is proved connected, so that having the
// commit means having all behind it.
func knownCommit(c *clone, tip plumbing.Hash) (Commit, bool, error) {
	if !c.objects.has(tip) {
		return Commit{}, false, nil
	}
	h, err := c.objects.peel(tip)
	if err != nil {
		return Commit{}, true, err
	}
	head, err := c.objects.commit(h)
	return head, true, err
}

// fetch gets a pack with what we lack of a head.
func (s *Source) fetch(ctx context.Context, c *clone, sess session, dog *watchdog, tip plumbing.Hash) (*received, error) {
	if err := c.sweep(); err != nil {
		return nil, err
	}
	haves, err := c.haves(ctx)
	if err != nil {
		return nil, localDamage{err}
	}
	stream, err := sess.pack([]plumbing.Hash{tip}, haves, c.objects)
	if err != nil {
		return nil, err
	}
	got, err := receive(ctx, c.objects, &fed{stream, dog}, s.o.MaxPack)
	if errors.Is(err, ErrCorrupt) {
		err = fmt.Errorf("the pack that was sent is not used: %w. Run git fsck on the server; what was accepted last stays in force", err)
	}
	if got == nil && errors.Is(err, ErrTooLarge) {
		err = fmt.Errorf("the pack that was sent is not used: %w", err)
	}
	return got, err
}

// haves are commits that a server may know of us, newest first.
func (c *clone) haves(ctx context.Context) ([]plumbing.Hash, error) {
	var from []plumbing.Hash
	for _, name := range []string{refHead, refAccepted} {
		if hash, err := c.ref(name); err == nil && hash != "" {
			if h := plumbing.NewHash(hash); c.objects.has(h) {
				from = append(from, h)
			}
		}
	}
	var haves []plumbing.Hash
	err := c.objects.walk(ctx, from, func(m *Commit) (bool, bool, error) {
		haves = append(haves, plumbing.NewHash(m.Hash))
		return false, len(haves) >= 64, nil
	})
	return haves, err
}

// admit judges a received pack before any of it becomes part of the clone.
func (s *Source) admit(ctx context.Context, c *clone, got *received, tip plumbing.Hash, marks []plumbing.Hash) (Commit, error) {
	view := &clone{dir: c.dir, refs: c.refs, objects: c.objects.with(got.pack)}
	if !view.objects.has(tip) {
		return Commit{}, fail(ErrCorrupt, "the server offers commit %s and sent a pack without it; nothing of it is used. Run git fsck on the server", tip)
	}
	h, err := view.objects.peel(tip)
	if err != nil {
		return Commit{}, err
	}
	before, err := c.ref(refHead)
	if err != nil {
		return Commit{}, localDamage{err}
	}
	if err := view.filled(ctx, h, before, c.objects); err != nil {
		return Commit{}, notTaken(err, "the history of commit %s is not whole: %w. A shallow repository cannot be followed (git fetch --unshallow); otherwise run git fsck on the server", tip)
	}
	head, err := view.verify(h)
	if err != nil {
		return Commit{}, notTaken(err, "commit %s is not whole: %w. Run git fsck on the server", h)
	}
	if err := judge(ctx, view, marks, h, s.o.Branch); err != nil {
		return Commit{}, err
	}
	return head, got.keep(c.objects)
}

// notTaken says why a head is not taken up: what is too large is all there.
func notTaken(err error, otherwise string, head plumbing.Hash) error {
	if errors.Is(err, ErrTooLarge) {
		otherwise = "commit %s is not taken up: %w. Take what is too large off the branch (git rebase -i, or git filter-repo if it lies far back), and push; what was accepted last stays in force"
	}
	return fmt.Errorf(otherwise, head, err)
}

// filled proves that a new head's history is whole with all its files, down to
// what was whole before. A commit without its files could never be judged, and
// a clone that has one would count as damaged for ever.
func (c *clone) filled(ctx context.Context, head plumbing.Hash, before string, old *objects) error {
	seen := map[plumbing.Hash]bool{}
	return c.objects.walk(ctx, []plumbing.Hash{head}, func(m *Commit) (bool, bool, error) {
		if m.Hash == before {
			return true, false, nil
		}
		return false, false, c.objects.present(ctx, &c.trees, m.tree, old, seen)
	})
}

// judge refuses a head that does not descend from every mark.
func judge(ctx context.Context, c *clone, marks []plumbing.Hash, head plumbing.Hash, branch string) error {
	for _, m := range marks {
		if err := descends(ctx, c, m, head, branch); err != nil {
			return err
		}
	}
	return nil
}

// descends is nil if head is mark or comes after it, and otherwise says how the
// branch went astray, and how people put it right without rewriting anything.
func descends(ctx context.Context, c *clone, mark, head plumbing.Hash, branch string) error {
	if mark == head {
		return nil
	}
	ok, err := c.objects.ancestor(ctx, mark, head)
	if err != nil || ok {
		return err
	}
	name := strings.TrimPrefix(branch, "refs/heads/")
	cure := fmt.Sprintf("Nothing newer is taken up. To go on, merge the accepted commit back: git merge %s, then push %s", mark, name)
	if !c.objects.has(mark) {
		return fail(ErrRewound, "the history of %s no longer holds the accepted commit %s: it was rewound or replaced. %s", name, short(mark.String()), cure)
	}
	if back, err := c.objects.ancestor(ctx, head, mark); err != nil {
		return err
	} else if back {
		return fail(ErrRewound, "%s went back from the accepted commit %s to its ancestor %s. %s", name, short(mark.String()), short(head.String()), cure)
	}
	related, err := c.related(ctx, mark, head)
	if err != nil {
		return err
	}
	if !related {
		return fail(ErrUnrelated, "%s at %s shares no history with the accepted commit %s: it may be another repository. Check the URL. %s (with --allow-unrelated-histories)", name, short(head.String()), short(mark.String()), cure)
	}
	return fail(ErrForced, "%s was forced away from the accepted commit %s to %s, which does not descend from it. %s", name, short(mark.String()), short(head.String()), cure)
}

// related reports whether two commits share an ancestor.
func (c *clone) related(ctx context.Context, a, b plumbing.Hash) (bool, error) {
	seen := map[string]bool{}
	err := c.objects.walk(ctx, []plumbing.Hash{a}, func(m *Commit) (bool, bool, error) {
		seen[m.Hash] = true
		return false, false, nil
	})
	if err != nil {
		return false, err
	}
	found := false
	err = c.objects.walk(ctx, []plumbing.Hash{b}, func(m *Commit) (bool, bool, error) {
		found = seen[m.Hash]
		return false, found, nil
	})
	return found, err
}
