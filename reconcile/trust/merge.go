package trust

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"drydock/spec"
)

// does finds what the commit takes, none for a merge that adds nothing, and
// answers which edits it brings of its own.
func (f *finding) does(ctx context.Context) ([]edit, error) {
	edits, err := f.edits(ctx)
	if errors.Is(err, ErrUnfit) {
		return nil, f.block(Malformed, "holds what no host takes: "+err.Error(), "Nobody can vouch for it; "+f.takeOff())
	}
	return edits, err
}

func (f *finding) edits(ctx context.Context) ([]edit, error) {
	switch len(f.Parents) {
	case 0, 1:
		parent := ""
		if len(f.Parents) == 1 {
			parent = f.Parents[0]
		}
		edits, err := f.changed(ctx, parent, f.hash)
		if err != nil {
			return nil, err
		}
		f.takes, err = f.needs(ctx, edits, f.Commit, f.hopeless)
		return edits, err
	case 2:
		bases, err := f.history.MergeBases(ctx, f.Parents[0], f.Parents[1])
		if err != nil {
			return nil, err
		}
		if len(bases) == 1 {
			return f.merge(ctx, bases[0])
		}
	}
	// Without one base nothing says what each parent meant: all that differs
	// from any of them counts.
	for _, p := range f.Parents {
		edits, err := f.changed(ctx, p, f.hash)
		if err != nil {
			return nil, err
		}
		if err := f.adds(ctx, edits); err != nil {
			return nil, err
		}
	}
	if f.takes == nil {
		f.takes = []Need{{Does: fmt.Sprintf("merges %d histories that have no one base", len(f.Parents))}}
	}
	return f.brought(ctx, f.Parents, f.hash)
}

// adds is what some edits take, which for none is nothing.
func (f *finding) adds(ctx context.Context, edits []edit) error {
	if len(edits) == 0 {
		return nil
	}
	more, err := f.needs(ctx, edits, f.Commit, f.hopeless)
	f.takes = append(f.takes, more...)
	return err
}

// merge holds a merge of two parents with one base to the three-way result,
// path by path. What differs from it is the merge's own. Where both sides
// changed a path there is no such result, and the merge answers for it against
// each of them.
func (f *finding) merge(ctx context.Context, base string) ([]edit, error) {
	ours, theirs := f.Parents[0], f.Parents[1]
	var diffs [4]map[string]edit
	for i, pair := range [4][2]string{{base, ours}, {base, theirs}, {ours, f.hash}, {theirs, f.hash}} {
		edits, err := f.changed(ctx, pair[0], pair[1])
		if err != nil {
			return nil, err
		}
		diffs[i] = byPath(edits)
	}
	left, right, toOurs, toTheirs := diffs[0], diffs[1], diffs[2], diffs[3]
	var own []edit
	for path, e := range toOurs {
		_, l := left[path]
		if _, r := right[path]; l || !r { // where only they changed it, theirs is the result
			own = append(own, e)
		}
	}
	for path, e := range toTheirs {
		if _, ok := right[path]; ok {
			own = append(own, e)
		}
	}
	slices.SortFunc(own, func(a, b edit) int {
		return cmp.Or(strings.Compare(a.Path, b.Path), strings.Compare(a.before, b.before))
	})
	if err := f.adds(ctx, own); err != nil {
		return nil, err
	}
	if err := f.back(ctx, left, right, base); err != nil {
		return nil, err
	}
	for path := range left {
		if _, ok := right[path]; ok && f.takes == nil {
			env, _ := placeOf(path)
			f.takes = []Need{{Environment: env, Path: path, Does: "merges a path that both sides changed in the same way"}}
		}
	}
	if own == nil {
		return nil, nil
	}
	return f.brought(ctx, f.Parents, f.hash)
}

func byPath(edits []edit) map[string]edit {
	m := make(map[string]edit, len(edits))
	for _, e := range edits {
		m[e.Path] = e
	}
	return m
}

// back finds releases that a merge brings back to a side which had left them:
// it named and gave one up after the base, so that nothing differs there now,
// and a signed bump of the other side would move it again without anybody
// saying so.
func (f *finding) back(ctx context.Context, left, right map[string]edit, base string) error {
	for i, sides := range [2][2]map[string]edit{{left, right}, {right, left}} {
		mine, other := sides[0], sides[1]
		for _, path := range slices.Sorted(maps.Keys(other)) {
			if _, ok := mine[path]; ok {
				continue
			}
			more, err := f.backAt(ctx, other[path], f.Parents[i], base)
			if err != nil {
				return err
			}
			f.takes = append(f.takes, more...)
		}
	}
	return nil
}

// backAt is back for one path that only the other side changed, by edit e.
func (t *trial) backAt(ctx context.Context, e edit, side, base string) ([]Need, error) {
	env, language := placeOf(e.Path)
	if !language || env == Everywhere || !regular(e.Old.Mode) || !regular(e.New.Mode) {
		return nil, nil
	}
	if err := t.learn(ctx); err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(t.past.names.keys[e.Path], t.again) && !slices.ContainsFunc(t.fresh.keys[e.Path], t.again) {
		return nil, nil // and nothing needs to be read
	}
	was, err := t.releases(ctx, e.before, e.Path, e.Old)
	if err != nil {
		return nil, err
	}
	is, err := t.releases(ctx, e.after, e.Path, e.New)
	if err != nil {
		return nil, err
	}
	var out []Need
	for service, to := range is {
		from, ok := was[service]
		if !ok || sameRelease(from, to) {
			continue
		}
		here, err := t.left(ctx, env+"/"+service, from, to, side)
		if err != nil {
			return nil, err
		}
		before, err := t.left(ctx, env+"/"+service, from, to, base)
		if err != nil {
			return nil, err
		}
		if here != "" && before == "" { // else the other side's own commit answered for it
			out = append(out, Need{Permissions: []Permission{Rollback}, Environment: env, Path: e.Path,
				Does: fmt.Sprintf("merges %s %s back, a release that %s has left (%s named it)", service, to.Version, env, spec.Short(here))})
		}
	}
	return out, nil
}

// again reports whether something of a service was named more than once.
func (t *trial) again(key string) bool {
	if t.past.names.again[key] || t.fresh.again[key] || len(t.ever(key)) > 1 {
		return true
	}
	// Once before, and once among the commits at hand.
	return slices.ContainsFunc(t.fresh.words[key], func(word string) bool { return len(t.past.names.at[key+"\x00"+word]) > 0 })
}
