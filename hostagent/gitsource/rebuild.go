package gitsource

import (
	"context"
	"os"
	"path/filepath"

	"drydock/hostagent/durable"

	"github.com/go-git/go-git/v5/plumbing"
)

// rebuild clones anew beside a damaged clone, and swaps the two when the new
// one is whole. If that fails the damaged one stays: what still proves itself
// by its hash can be read out of it.
func (s *Source) rebuild(ctx context.Context, marks []plumbing.Hash, why error) (Snapshot, error) {
	failed := func(err error) (Snapshot, error) {
		return Snapshot{}, fail(ErrCorrupt, "the clone is damaged (%v), and cloning anew failed: %w. The damaged one is kept in %s, and it is tried again at the next poll", why, err, s.o.Dir)
	}
	if err := os.RemoveAll(s.next()); err != nil {
		return failed(err)
	}
	fresh, err := openClone(s.next(), s.o.MaxObject)
	if err != nil {
		return failed(err)
	}
	s.mu.Lock()
	s.proved = plumbing.ZeroHash
	s.mu.Unlock()
	snap, err := s.headOf(ctx, fresh, marks)
	if err == nil && len(marks) > 0 {
		// The head descends from all marks, so the newest of them is the one
		// that descends from the others.
		err = fresh.setRef(refAccepted, newest(ctx, fresh, marks).String())
	}
	if err == nil {
		err = durable.WriteFile(filepath.Join(s.next(), "complete"), nil, 0o600)
	}
	fresh.objects.close()
	if err != nil {
		os.RemoveAll(s.next())
		return failed(err)
	}
	if err := s.swap(); err != nil {
		return failed(err)
	}
	os.Remove(filepath.Join(s.o.Dir, "complete"))
	c, err := openClone(s.o.Dir, s.o.MaxObject)
	if err != nil {
		return failed(err)
	}
	s.mu.Lock()
	s.clone, s.broken = c, nil
	s.mu.Unlock()
	return snap, nil
}

func newest(ctx context.Context, c *clone, marks []plumbing.Hash) plumbing.Hash {
	best := marks[0]
	for _, m := range marks[1:] {
		if ok, err := c.objects.ancestor(ctx, best, m); err == nil && ok {
			best = m
		}
	}
	return best
}
