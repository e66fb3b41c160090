package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// How long a push goes on against others: a robot that loses ten races in a row
// is better off telling its pipeline.
const (
	pushTries = 10
	pushTime  = 60 * time.Second
)

// commitAndPush works in a second work tree of the clone, on the upstream's
// newest commit: the person's own work tree, index and branch are not touched
// until the commit has landed, and an interrupted run leaves nothing behind.
func (c *clone) commitAndPush(ctx context.Context, propose func(context.Context, tree) (proposal, error)) (outcome, error) {
	unlock, err := c.lock(ctx)
	if err != nil {
		return outcome{}, err
	}
	defer unlock()
	if err := c.fetch(ctx); err != nil {
		return outcome{}, err
	}
	if err := c.refuseAhead(ctx); err != nil {
		return outcome{}, err
	}
	work, done, err := c.workTree(ctx)
	if err != nil {
		return outcome{}, err
	}
	defer done()

	start := time.Now()
	var last error
	sent := ""
	for try := range pushTries {
		if try > 0 {
			if time.Since(start) > pushTime || !pause(ctx, try) {
				break
			}
			if err := c.fetch(ctx); err != nil {
				last = err
				continue
			}
			if c.landed(ctx, sent) {
				return outcome{commit: sent, pushed: true, changed: true, behind: !c.catchUp(ctx)}, nil
			}
		}
		out, err := c.try(ctx, work, propose)
		if err == nil {
			if out.changed {
				out.behind = !c.catchUp(ctx)
			}
			return out, nil
		}
		sent = out.commit
		var lost *lostRace
		if !errors.As(err, &lost) {
			return outcome{}, err
		}
		last = err
	}
	if err := ctx.Err(); err != nil {
		return outcome{}, err
	}
	return outcome{}, fmt.Errorf("others kept pushing to %s, or it could not be reached, for %d tries in %s; nothing was changed, so run the same again: %w",
		strings.TrimPrefix(c.target, "refs/heads/"), pushTries, time.Since(start).Round(time.Second), last)
}

// lock keeps several robots that share one clone from each other's refs and
// work trees, which git itself does not. The lock goes with the process.
func (c *clone) lock(ctx context.Context) (func(), error) {
	if c.own {
		return func() {}, nil
	}
	dir, err := c.run(ctx, "rev-parse", "--git-common-dir")
	if err != nil {
		return nil, err
	}
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(c.dir, dir)
	}
	f, err := os.OpenFile(filepath.Join(dir, "drydock.lock"), os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, err
	}
	for start := time.Now(); ; {
		if err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
			return func() { f.Close() }, nil
		}
		if time.Since(start) > pushTime || !pause(ctx, 1) {
			f.Close()
			return nil, fmt.Errorf("another drydock has been pushing from %s for %s: wait for it or end it, then run the same again", c.dir, pushTime)
		}
	}
}

// lostRace is a push that somebody else's made impossible, or that the network
// did; the next try finds out which.
type lostRace struct{ err error }

func (e *lostRace) Error() string { return e.err.Error() }
func (e *lostRace) Unwrap() error { return e.err }

// try is one attempt on the newest fetched state.
func (c *clone) try(ctx context.Context, work git, propose func(context.Context, tree) (proposal, error)) (outcome, error) {
	tip, err := c.run(ctx, "rev-parse", "--verify", c.tracking+"^{commit}")
	if err != nil {
		return outcome{}, fmt.Errorf("%s has no branch %s: %w", c.remote, strings.TrimPrefix(c.target, "refs/heads/"), err)
	}
	if !c.own {
		if _, err := work.run(ctx, "checkout", "--quiet", "--detach", "--force", tip); err != nil {
			return outcome{}, err
		}
	} else if _, err := work.run(ctx, "reset", "--quiet", "--hard", tip); err != nil {
		return outcome{}, err
	}
	p, err := propose(ctx, tree{work, tip})
	if err != nil {
		return outcome{}, err
	}
	defer p.sign.end()
	if !c.own {
		if err := c.refuseDirty(ctx, p.paths()); err != nil {
			return outcome{}, err
		}
	}
	if p.message == "" {
		return outcome{commit: tip, pushed: true}, nil
	}
	commit, err := work.commitOne(ctx, p)
	if err != nil {
		return outcome{}, err
	}
	said, err := c.run(ctx, "push", "--porcelain", c.remote, commit+":"+c.target)
	if err == nil {
		return outcome{commit: commit, pushed: true, changed: true}, nil
	}
	return outcome{commit: commit}, c.judge(said, err)
}

// landed reports whether a push whose answer was lost has arrived all the same.
func (c *clone) landed(ctx context.Context, commit string) bool {
	if commit == "" {
		return false
	}
	_, err := c.run(ctx, "merge-base", "--is-ancestor", commit, c.tracking)
	return err == nil
}

// judge says what a failed push means. A hook's or a forge's no is final.
func (c *clone) judge(said string, err error) error {
	for line := range strings.Lines(said) {
		if !strings.HasPrefix(line, "!") {
			continue
		}
		why := line[strings.LastIndexByte(line, '\t')+1:]
		final := strings.HasPrefix(why, "[remote rejected]")
		for _, race := range []string{"cannot lock ref", "failed to update ref", "incorrect old value", "fetch first", "non-fast-forward", "reference already exists"} {
			if strings.Contains(why, race) {
				final = false
			}
		}
		if final {
			return fmt.Errorf("%s refuses the push (%s); nothing was changed: %w", c.remote, strings.TrimSpace(why), err)
		}
		return &lostRace{fmt.Errorf("push %s", strings.TrimSpace(why))}
	}
	return &lostRace{err}
}

// pause waits a random time that grows with the tries, so that robots that
// collided do not collide again. False if the context ended first.
func pause(ctx context.Context, try int) bool {
	limit := min(100*time.Millisecond<<(try-1), 10*time.Second)
	timer := time.NewTimer(20*time.Millisecond + rand.N(limit))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

func (c *clone) fetch(ctx context.Context) error {
	_, err := c.run(ctx, "fetch", "--quiet", "--no-tags", c.remote, "+"+c.target+":"+c.tracking)
	if err != nil {
		return fmt.Errorf("%s could not be fetched: %w", c.remote, err)
	}
	return nil
}

// refuseAhead says no if the branch has commits that the upstream has not: they
// are somebody's own, and not this command's to push.
func (c *clone) refuseAhead(ctx context.Context) error {
	ahead, err := c.run(ctx, "rev-list", "--count", c.tracking+"..HEAD")
	if err != nil || ahead == "0" {
		return err
	}
	subject, _ := c.run(ctx, "log", "-1", "--format=%h %s")
	return fmt.Errorf("branch %s has %s that %s has not (the last is %q), which --push would have to carry along: git push (or git pull --rebase) first",
		c.branch, count(ahead, "commit"), strings.TrimPrefix(c.tracking, "refs/remotes/"), subject)
}

func count(n, thing string) string {
	if n != "1" {
		thing += "s"
	}
	return n + " " + thing
}

// workTree is where the commit is made.
func (c *clone) workTree(ctx context.Context) (git, func(), error) {
	if c.own {
		return c.git, func() {}, nil
	}
	parent, err := os.MkdirTemp("", "drydock-work-*")
	if err != nil {
		return git{}, nil, err
	}
	dir := filepath.Join(parent, "tree")
	done := func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		_, _ = c.run(ctx, "worktree", "remove", "--force", dir)
		_ = os.RemoveAll(parent)
	}
	if _, err := c.run(ctx, "worktree", "add", "--quiet", "--detach", dir, c.tracking); err != nil {
		done()
		return git{}, nil, err
	}
	return git{dir: dir}, done, nil
}

// catchUp moves the clone's own branch to what was pushed. Where that is not
// possible the clone is merely behind, as after anybody else's push.
func (c *clone) catchUp(ctx context.Context) bool {
	if c.own {
		return true
	}
	_, err := c.run(ctx, "merge", "--quiet", "--ff-only", c.tracking)
	return err == nil
}
