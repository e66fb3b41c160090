package gitsource

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
)

// localDamage marks an error that is our own clone's fault. Damage in what a
// server sends is the server's, and must never cost us the clone.
type localDamage struct{ error }

func (l localDamage) Unwrap() error { return l.error }

// Head is the newest commit that may be taken up: the head of URL, or of a
// mirror where URL fails or has nothing newer. It lists refs, fetches only what
// is new, and refuses what does not descend from accepted (the journal's
// high-water mark, "" on a new host) and from the clone's own mark. With an
// error, everything stays as it was; see the Err values for what it can be.
//
// Mirrors: while URL answers, the first mirror that has something newer wins;
// while it does not, the newest of all. One that lags behind is no error.
func (s *Source) Head(ctx context.Context, accepted string) (Snapshot, error) {
	s.fetching.Lock()
	defer s.fetching.Unlock()
	marks, damaged, err := s.marks(accepted)
	if err != nil {
		return Snapshot{}, err
	}
	c, broken := s.current()
	if broken == nil {
		broken = damaged
	}
	if broken == nil {
		snap, err := s.headOf(ctx, c, marks)
		var local localDamage
		if !errors.As(err, &local) {
			return snap, err
		}
		broken = err
	}
	s.damage(c, broken)
	return s.rebuild(ctx, marks, broken)
}

// marks are the commits that a head must descend from. damaged is why the
// clone's own one could not be read, where the journal's stands in for it.
func (s *Source) marks(accepted string) (marks []plumbing.Hash, damaged, err error) {
	own, err := s.Accepted()
	if err != nil {
		if accepted == "" {
			return nil, nil, err
		}
		own, damaged = "", err
	}
	for _, m := range []string{own, accepted} {
		if m == "" || m == own && len(marks) > 0 {
			continue
		}
		h, err := parseHash(m)
		if err != nil {
			return nil, nil, err
		}
		marks = append(marks, h)
	}
	return marks, damaged, nil
}

func (s *Source) headOf(ctx context.Context, c *clone, marks []plumbing.Hash) (Snapshot, error) {
	unlock, err := c.lock(ctx, s.o.Timeout)
	if errors.Is(err, fs.ErrNotExist) {
		return Snapshot{}, localDamage{fail(ErrCorrupt, "the clone is gone: %w", err)}
	}
	if err != nil {
		return Snapshot{}, err
	}
	defer unlock()
	if err := s.prove(c); err != nil {
		return Snapshot{}, localDamage{fmt.Errorf("the clone %s: %w", c.dir, err)}
	}
	a, err := s.choose(ctx, c, marks)
	if err != nil {
		return Snapshot{}, err
	}
	if limit := s.o.Now().Add(ahead); a.head.Committer.Time.After(limit) {
		return Snapshot{}, fail(ErrFuture, "%s: commit %s is dated %s, more than %s ahead of this host's clock (%s). It is taken up when its time has come; if its date is wrong, take it off the branch and make it again (git commit --amend --reset-author), and if the clock is wrong, set it",
			a.from, short(a.head.Hash), a.head.Committer.Time.UTC().Format(time.RFC3339), ahead, s.o.Now().UTC().Format(time.RFC3339))
	}
	if err := c.setRefTo(refHead, a.head.Hash); err != nil {
		return Snapshot{}, err
	}
	s.mu.Lock()
	s.proved = plumbing.NewHash(a.head.Hash)
	s.mu.Unlock()
	if a.fetched {
		// A join that fails (a full disk) is tried again after the next fetch.
		if err := c.join(ctx, s.o.MaxPack); errors.Is(err, ErrCorrupt) {
			return Snapshot{}, localDamage{err}
		}
	}
	return s.snapshot(a.head, a.from), nil
}

// prove checks once per process, and after each change, that the last head is
// whole in our clone.
func (s *Source) prove(c *clone) error {
	was, err := c.ref(refHead)
	if err != nil {
		return err
	}
	s.mu.RLock()
	done := s.proved.String() == was
	s.mu.RUnlock()
	if was == "" || done {
		return nil
	}
	_, err = c.verify(plumbing.NewHash(was))
	return err
}

// setRefTo is setRef without the cost of an fsync where nothing changes.
func (c *clone) setRefTo(name, hash string) error {
	if was, err := c.ref(name); err == nil && was == hash {
		return nil
	}
	return c.setRef(name, hash)
}

// answer is what one mirror offers.
type answer struct {
	head    Commit
	from    string // the mirror's URL
	newer   bool   // than every mark
	fetched bool
}

// choose asks URL and its mirrors, as documented on Head.
func (s *Source) choose(ctx context.Context, c *clone, marks []plumbing.Hash) (answer, error) {
	var best *answer
	var failures []error
	reached := false // URL answered, whatever it said
	for i, r := range s.remotes {
		if i > 0 && reached && s.resting(r) {
			continue
		}
		a, err := s.ask(ctx, c, r, marks)
		var local localDamage
		if errors.As(err, &local) {
			return answer{}, err
		}
		if ctx.Err() != nil {
			return answer{}, fail(ErrUnreachable, "%s: %w", r.name, context.Cause(ctx))
		}
		if i == 0 {
			reached = err == nil || !errors.Is(err, ErrUnreachable) && !errors.Is(err, ErrDenied)
		}
		s.noteFailure(r, err)
		switch {
		case err != nil:
			if i > 0 && errors.Is(err, ErrRewound) && !reached && best == nil {
				best = s.lagging(c, r, marks) // it answers, and has nothing newer
			}
			failures = append(failures, err)
		case a.newer && reached:
			return a, nil // in order
		case best == nil || s.isNewer(ctx, c, best.head.Hash, a.head.Hash):
			best = &a
		}
	}
	if best != nil && (best.newer || !reached || len(failures) == 0 || !isFirst(failures[0], s.remotes[0])) {
		return *best, nil
	}
	return answer{}, together(failures)
}

// lagging is the answer of a mirror that is behind: what was accepted stays.
func (s *Source) lagging(c *clone, r remote, marks []plumbing.Hash) *answer {
	for _, m := range marks {
		if head, err := c.verify(m); err == nil {
			return &answer{head: head, from: r.name}
		}
	}
	return nil
}

func (s *Source) isNewer(ctx context.Context, c *clone, old, new string) bool {
	if old == new {
		return false
	}
	ok, err := c.objects.ancestor(ctx, plumbing.NewHash(old), plumbing.NewHash(new))
	return err == nil && ok
}

// resting keeps a dead mirror from costing a timeout at each poll while URL
// works.
func (s *Source) resting(r remote) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	at, failed := s.failed[r.name]
	return failed && s.o.Now().Sub(at) < quietly
}

func (s *Source) noteFailure(r remote, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if errors.Is(err, ErrUnreachable) || errors.Is(err, ErrDenied) {
		s.failed[r.name] = s.o.Now()
	} else {
		delete(s.failed, r.name)
	}
}

// remoteError says which mirror an error came from.
type remoteError struct {
	name string
	err  error
}

func (e *remoteError) Error() string { return e.name + ": " + e.err.Error() }
func (e *remoteError) Unwrap() error { return e.err }

func isFirst(err error, r remote) bool {
	var e *remoteError
	return errors.As(err, &e) && e.name == r.name
}

// together is one error for all mirrors; its kind is the first one's.
func together(errs []error) error {
	if len(errs) == 1 {
		return errs[0]
	}
	var text []string
	for _, e := range errs {
		text = append(text, e.Error())
	}
	return &failure{kind: errs[0], text: strings.Join(text, "; "), err: nil}
}

// ask lists one mirror's refs, and fetches if its head is new to us.
func (s *Source) ask(ctx context.Context, c *clone, r remote, marks []plumbing.Hash) (answer, error) {
	a, err := s.askOnce(ctx, c, r, marks)
	var local localDamage
	switch {
	case err == nil, errors.As(err, &local):
		return a, err
	case !typed(err) && diskTrouble(err):
		err = fail(ErrUnreachable, "%w. Make room on the disk of the state directory, or mend it; what was accepted last stays in force", err)
	case !typed(err):
		err = fail(ErrUnreachable, "%w. Check the URL, the network and the server; what was accepted last stays in force", err)
	case errors.Is(err, ErrUnreachable):
		err = fail(ErrUnreachable, "%w; what was accepted last stays in force", err)
	}
	return a, &remoteError{r.name, err}
}

// diskTrouble reports whether it is this host that could not take what a
// server sent.
func diskTrouble(err error) bool {
	for _, e := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EIO} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func typed(err error) bool {
	var f *failure
	return errors.As(err, &f)
}

func (s *Source) askOnce(ctx context.Context, c *clone, r remote, marks []plumbing.Hash) (answer, error) {
	ctx, dog, cancel := watch(ctx, s.o.Timeout, s.o.FetchTimeout)
	defer cancel()
	sess, err := r.dial(ctx)
	if err != nil {
		return answer{}, because(ctx, err)
	}
	defer sess.close()
	listed, err := sess.list(s.o.Branch)
	if err != nil {
		return answer{}, because(ctx, err)
	}
	tip, err := listed.tip(s.o.Branch)
	if err != nil {
		return answer{}, err
	}
	a := answer{from: r.name}
	head, known, err := knownCommit(c, tip)
	if err != nil {
		return answer{}, localDamage{err}
	}
	if !known {
		dog.alive()
		got, err := s.fetch(ctx, c, sess, dog, tip)
		if err != nil {
			return answer{}, because(ctx, err)
		}
		head, err = s.admit(ctx, c, got, tip, marks)
		if err != nil {
			got.drop()
			return answer{}, because(ctx, err)
		}
		a.fetched = true
	} else if err := judge(ctx, c, marks, plumbing.NewHash(head.Hash), s.o.Branch); err != nil {
		return answer{}, because(ctx, err)
	}
	a.head, a.newer = head, true
	for _, m := range marks {
		a.newer = a.newer && m.String() != head.Hash
	}
	if known && (len(marks) == 0 || a.newer) {
		// Ours already, but a newer one than the last proved.
		if _, err := c.verify(plumbing.NewHash(head.Hash)); err != nil {
			return answer{}, localDamage{err}
		}
	}
	return a, nil
}
