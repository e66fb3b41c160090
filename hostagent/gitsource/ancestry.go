package gitsource

import (
	"context"
	"errors"
	"io/fs"

	"drydock/reconcile/trust"
)

// History is a clone's objects as trust looks at them, each hashed again as it
// is read. It implements trust.History.
type History struct {
	objects func() (*objects, error)
}

var _ trust.History = (*History)(nil)

// Commit is a commit's own bytes.
func (h *History) Commit(ctx context.Context, hash string) ([]byte, error) {
	return nil, errors.New("not built yet")
}

// Tree is a commit's tree.
func (h *History) Tree(ctx context.Context, commit string) (fs.FS, error) {
	return nil, errors.New("not built yet")
}

// Changed compares two commits' trees.
func (h *History) Changed(ctx context.Context, old, new string) ([]trust.Change, error) {
	return nil, errors.New("not built yet")
}

// Between are the commits behind head and not behind accepted, parents first.
func (h *History) Between(ctx context.Context, accepted, head string) ([]string, error) {
	return nil, errors.New("not built yet")
}

// MergeBases are the best common ancestors.
func (h *History) MergeBases(ctx context.Context, a, b string) ([]string, error) {
	return nil, errors.New("not built yet")
}

// History is the clone's, for as long as the source is open.
func (s *Source) History() *History { return &History{} }

// History is the repository's.
func (r *Repository) History() *History { return &History{} }
