package gitsource

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"drydock/hostagent/durable"

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
		return Snapshot{}, fail(ErrFuture, "%s: commit %s is dated %s, more than %s ahead of this host's clock (%s). It is taken up when its time has come; if its date is wrong, commit again on top of it, and if the clock is wrong, set it",
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
	tip, err := sess.tip(s.o.Branch)
	if err != nil {
		return answer{}, because(ctx, err)
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
	stream, err := sess.pack(tip, haves, c.objects)
	if err != nil {
		return nil, err
	}
	got, err := receive(ctx, c.objects, &fed{stream, dog}, s.o.MaxPack)
	if errors.Is(err, ErrCorrupt) {
		err = fmt.Errorf("the pack that was sent is not used: %w. Run git fsck on the server; what was accepted last stays in force", err)
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
	if err := view.connected(ctx, h, before); err != nil {
		return Commit{}, fmt.Errorf("the history of commit %s is not whole: %w. A shallow repository cannot be followed (git fetch --unshallow); otherwise run git fsck on the server", tip, err)
	}
	head, err := view.verify(h)
	if err != nil {
		return Commit{}, fmt.Errorf("commit %s is not whole: %w. Run git fsck on the server", h, err)
	}
	if err := judge(ctx, view, marks, h, s.o.Branch); err != nil {
		return Commit{}, err
	}
	return head, got.keep(c.objects)
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
