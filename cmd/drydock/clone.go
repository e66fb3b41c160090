package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

// placeFlags say in which repository a command commits.
type placeFlags struct {
	dir, repo, branch string
	push              bool
}

func (f *placeFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.dir, "directory", "C", ".", "the clone of the config repository to commit in, with its own git")
	cmd.Flags().StringVar(&f.repo, "repo", "", "commit in a temporary clone of this URL and push (no clone of your own is needed)")
	cmd.Flags().StringVar(&f.branch, "branch", "", "with --repo: the branch (default: the repository's own)")
	cmd.Flags().BoolVar(&f.push, "push", false, "push the commit; if others push at the same time, apply it to theirs again")
	_ = cmd.MarkFlagDirname("directory")
}

// clone is a repository of which one branch is worked on.
type clone struct {
	git
	own      bool   // a temporary one: its work tree is ours alone
	push     bool   // commits go to the upstream at once
	branch   string // the branch that is checked out
	remote   string // "origin"
	target   string // the branch's full name at the remote: "refs/heads/main"
	tracking string // "refs/remotes/origin/main"
	close    func()
}

// open finds or makes the clone. Its close must be called.
func (f placeFlags) open(ctx context.Context, cmd *cobra.Command) (*clone, error) {
	if f.repo != "" {
		if cmd.Flags().Changed("directory") {
			return nil, wrong(cmd, "--repo makes a clone of its own, so -C has no meaning beside it")
		}
		return openURL(ctx, f.repo, f.branch)
	}
	if f.branch != "" {
		return nil, wrong(cmd, "--branch goes with --repo; a clone stands on the branch that it has checked out")
	}
	return openDir(ctx, f.dir, f.push)
}

func openURL(ctx context.Context, url, branch string) (*clone, error) {
	dir, err := os.MkdirTemp("", "drydock-clone-*")
	if err != nil {
		return nil, err
	}
	cleanup := func() { _ = os.RemoveAll(dir) }
	if !strings.Contains(url, "://") {
		if abs, err := filepath.Abs(url); err == nil && isDir(abs) {
			url = abs
		}
	}
	args := []string{"clone", "--quiet", "--single-branch", "--no-tags"}
	if branch != "" {
		args = append(args, "--branch", branch)
	}
	if _, err := (git{dir: dir}).run(ctx, append(args, "--", url, dir)...); err != nil {
		cleanup()
		return nil, fmt.Errorf("%s could not be cloned: %w\nCheck the URL, and that git clone works from here with these credentials", url, err)
	}
	c, err := openDir(ctx, dir, true)
	if err != nil {
		cleanup()
		return nil, fmt.Errorf("%s: %w", url, err)
	}
	c.own, c.close = true, cleanup
	return c, nil
}

func isDir(p string) bool {
	info, err := os.Stat(p)
	return err == nil && info.IsDir()
}

func openDir(ctx context.Context, dir string, push bool) (*clone, error) {
	if !isDir(dir) {
		return nil, fmt.Errorf("%s is no directory: name your clone of the config repository with -C", dir)
	}
	top, err := (git{dir: dir}).run(ctx, "rev-parse", "--show-toplevel")
	if err != nil {
		var ge *gitError
		if errors.As(err, &ge) && strings.Contains(ge.stderr, "not a git repository") {
			return nil, fmt.Errorf("%s is in no git repository: name your clone with -C, or the repository with --repo URL", dir)
		}
		if errors.As(err, &ge) && strings.Contains(ge.stderr, "must be run in a work tree") {
			return nil, fmt.Errorf("%s is a bare repository, which nobody commits in: use --repo %s", dir, dir)
		}
		return nil, err
	}
	c := &clone{git: git{dir: top}, push: push, close: func() {}}
	if c.branch, err = c.run(ctx, "symbolic-ref", "--quiet", "--short", "HEAD"); err != nil {
		return nil, fmt.Errorf("%s stands on no branch (detached HEAD), so a commit would belong to none: git switch <branch> first", top)
	}
	if _, err := c.run(ctx, "rev-parse", "--verify", "--quiet", "HEAD^{commit}"); err != nil {
		return nil, fmt.Errorf("branch %s has no commit yet: commit what you have first", c.branch)
	}
	if !push {
		return c, nil
	}
	c.remote, _ = c.run(ctx, "config", "branch."+c.branch+".remote")
	c.target, _ = c.run(ctx, "config", "branch."+c.branch+".merge")
	if c.remote == "" || c.remote == "." || c.target == "" {
		return nil, fmt.Errorf("branch %s has no upstream to push to: git push --set-upstream origin %s, once", c.branch, c.branch)
	}
	if c.tracking, err = c.run(ctx, "rev-parse", "--symbolic-full-name", c.branch+"@{upstream}"); err != nil {
		// The remote has a branch of which this clone keeps no copy yet.
		c.tracking = "refs/remotes/" + c.remote + "/" + strings.TrimPrefix(c.target, "refs/heads/")
	}
	return c, nil
}

// tree is one state of the repository, checked out.
type tree struct {
	git
	head string // the commit that it is
}

func (t tree) files() fs.FS { return os.DirFS(t.dir) }

// refuseDirty says no if a file that must be edited holds work that is not
// committed: a commit of it would carry that along.
func (g git) refuseDirty(ctx context.Context, paths []string) error {
	if len(paths) == 0 {
		return nil
	}
	out, err := g.run(ctx, append([]string{"status", "--porcelain", "-z", "--untracked-files=all", "--"}, paths...)...)
	if err != nil {
		return err
	}
	if out != "" {
		entry, _, _ := strings.Cut(out, "\x00")
		return fmt.Errorf("%s has changes that are not committed, and this edit would carry them along: commit or stash them first", entry[min(3, len(entry)):])
	}
	return nil
}
