package trust

import (
	"context"
	"fmt"
	"slices"

	"drydock/spec"
)

// does says what a commit takes, and which edits it brings of its own; nil
// needs are a merge that adds nothing.
func (t *trial) does(ctx context.Context, c *candidate) ([]Need, []edit, error) {
	switch len(c.Parents) {
	case 0, 1:
		parent := ""
		if len(c.Parents) == 1 {
			parent = c.Parents[0]
		}
		edits, err := t.changed(ctx, parent, c.hash)
		if err != nil {
			return nil, nil, err
		}
		needs, err := t.needs(ctx, edits, c.Commit)
		return needs, edits, err
	case 2:
		bases, err := t.history.MergeBases(ctx, c.Parents[0], c.Parents[1])
		if err != nil {
			return nil, nil, err
		}
		if len(bases) == 1 {
			return t.merge(ctx, c, bases[0])
		}
	}
	// Without one base nothing says what each parent meant: all that differs
	// from any of them counts.
	var needs []Need
	for _, p := range c.Parents {
		edits, err := t.changed(ctx, p, c.hash)
		if err != nil {
			return nil, nil, err
		}
		more, err := t.adds(ctx, edits, c)
		if err != nil {
			return nil, nil, err
		}
		needs = append(needs, more...)
	}
	if needs == nil {
		needs = []Need{{Does: fmt.Sprintf("merges %d histories that have no one base", len(c.Parents))}}
	}
	edits, err := t.brought(ctx, c.Parents, c.hash)
	return needs, edits, err
}

// adds is needs, but nothing for no edits.
func (t *trial) adds(ctx context.Context, edits []edit, c *candidate) ([]Need, error) {
	if len(edits) == 0 {
		return nil, nil
	}
	return t.needs(ctx, edits, c.Commit)
}

// merge holds a merge of two parents with one base to the three-way result,
// path by path. What differs from it is the merge's own. Where both sides
// changed a path there is no such result, and the merge answers for it against
// each of them.
func (t *trial) merge(ctx context.Context, c *candidate, base string) ([]Need, []edit, error) {
	ours, theirs := c.Parents[0], c.Parents[1]
	var diffs [4][]edit
	for i, pair := range [4][2]string{{base, ours}, {base, theirs}, {ours, c.hash}, {theirs, c.hash}} {
		var err error
		if diffs[i], err = t.changed(ctx, pair[0], pair[1]); err != nil {
			return nil, nil, err
		}
	}
	left, right := byPath(diffs[0]), byPath(diffs[1])
	toOurs, toTheirs := byPath(diffs[2]), byPath(diffs[3])
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
	back, err := t.back(ctx, left, right, c, base)
	if err != nil {
		return nil, nil, err
	}
	needs, err := t.adds(ctx, own, c)
	if err != nil {
		return nil, nil, err
	}
	needs = append(needs, back...)
	for path := range left {
		if _, ok := right[path]; ok && needs == nil {
			env, _ := placeOf(path)
			needs = []Need{{Environment: env, Path: path, Does: "merges a path that both sides changed in the same way"}}
		}
	}
	if own != nil {
		own, err = t.brought(ctx, c.Parents, c.hash)
	}
	return needs, own, err
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
func (t *trial) back(ctx context.Context, left, right map[string]edit, c *candidate, base string) ([]Need, error) {
	var out []Need
	for i, other := range []map[string]edit{right, left} {
		mine := left
		if i == 1 {
			mine = right
		}
		for path, e := range other {
			if _, ok := mine[path]; ok {
				continue
			}
			more, err := t.backAt(ctx, e, c.Parents[i], base)
			if err != nil {
				return nil, err
			}
			out = append(out, more...)
		}
	}
	return out, nil
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
	if t.past.names.again[key] || t.fresh.again[key] {
		return true
	}
	// Once before, and once among the commits at hand.
	return slices.ContainsFunc(t.fresh.words[key], func(word string) bool { return len(t.past.names.at[key+"\x00"+word]) > 0 })
}
