package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// proposal is one commit to be: the files it edits, often one, and what it says.
type proposal struct {
	files   []written
	message string   // "" if the files are as they should be already
	sign    *signing // whoever asked for the proposal ends it
}

// written is a file as it should be.
type written struct {
	path    string // relative, with slashes
	content []byte // nil deletes the file
}

// one is a proposal for a single file.
func one(path string, content []byte, message string) proposal {
	return proposal{files: []written{{path, content}}, message: message}
}

// settled is the proposal of one who finds the file as it should be.
func settled(path string) proposal { return one(path, nil, "") }

func (p proposal) paths() []string {
	var list []string
	for _, f := range p.files {
		list = append(list, f.path)
	}
	return list
}

// outcome is what became of it.
type outcome struct {
	commit  string // of the change, or the state that needed none
	pushed  bool
	changed bool
	behind  bool // pushed, but the clone's own branch could not follow
}

// commit applies propose to the newest state and commits what it says, and
// nothing else. With push, propose is called again, on the newer state, each
// time somebody else was faster.
func (c *clone) commit(ctx context.Context, propose func(context.Context, tree) (proposal, error)) (outcome, error) {
	if c.push {
		return c.commitAndPush(ctx, propose)
	}
	head, err := c.run(ctx, "rev-parse", "HEAD")
	if err != nil {
		return outcome{}, err
	}
	p, err := propose(ctx, tree{c.git, head})
	if err != nil {
		return outcome{}, err
	}
	defer p.sign.end()
	if err := c.refuseDirty(ctx, p.paths()); err != nil {
		return outcome{}, err
	}
	if p.message == "" {
		return outcome{commit: head}, nil
	}
	head, err = c.commitOne(ctx, p)
	return outcome{commit: head, changed: err == nil}, err
}

// commitOne writes and commits a proposal's files, or none for an empty commit,
// in the directory's work tree. Whatever else is staged stays staged, and out of
// the commit. If git refuses, the files are what they were.
func (g git) commitOne(ctx context.Context, p proposal) (string, error) {
	var undo undoing
	revert := func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		undo.run(ctx)
	}
	for _, f := range p.files {
		if err := g.write(ctx, f, &undo); err != nil {
			revert()
			return "", err
		}
	}
	args := append(p.sign.settings(), "commit", "--quiet", "--file=-", "--cleanup=verbatim", "--only")
	if p.sign != nil {
		args = append(args, "--gpg-sign")
	}
	if p.files == nil {
		args = append(args, "--allow-empty")
	}
	args = append(append(args, "--"), p.paths()...)
	if _, err := g.with(p.sign.environment()...).feed(ctx, strings.NewReader(p.message), args...); err != nil {
		revert()
		if len(p.files) == 0 {
			return "", fmt.Errorf("the commit was refused: %w", err)
		}
		return "", fmt.Errorf("the commit was refused, and %s is as it was: %w", strings.Join(p.paths(), ", "), err)
	}
	return g.run(ctx, "rev-parse", "HEAD")
}

// undoing is how to put back what was written so far, the last first.
type undoing []func(context.Context)

func (u undoing) run(ctx context.Context) {
	for _, do := range slices.Backward(u) {
		do(ctx)
	}
}

// write changes one file in the work tree, and notes how to put it back.
func (g git) write(ctx context.Context, f written, undo *undoing) error {
	file := filepath.Join(g.dir, filepath.FromSlash(f.path))
	old, readErr := os.ReadFile(file)
	*undo = append(*undo, func(ctx context.Context) {
		if readErr == nil {
			_ = replaceFile(file, old)
			_, _ = g.run(ctx, "reset", "--quiet", "--", f.path)
			return
		}
		_, _ = g.run(ctx, "rm", "--cached", "--quiet", "--ignore-unmatch", "--", f.path)
		_ = os.Remove(file)
	})
	if f.content == nil {
		return os.Remove(file)
	}
	if err := replaceFile(file, f.content); err != nil {
		return err
	}
	if readErr != nil { // a new file: git commit -- path takes tracked ones only
		// Forced: what a person's own ignore rules say of *.sig is not meant for this.
		_, err := g.run(ctx, "add", "--force", "--intent-to-add", "--", f.path)
		return err
	}
	return nil
}

// replaceFile changes a file in one step and keeps its mode.
func replaceFile(file string, content []byte) error {
	mode := os.FileMode(0o644)
	if info, err := os.Lstat(file); err == nil {
		if !info.Mode().IsRegular() {
			return fmt.Errorf("%s is no regular file, so it is not replaced", file)
		}
		mode = info.Mode().Perm()
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(file), ".drydock-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	if _, err := tmp.Write(content); err != nil {
		tmp.Close()
		return err
	}
	if err := errors.Join(tmp.Chmod(mode), tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), file)
}
