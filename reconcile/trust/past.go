package trust

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"drydock/spec"
)

// A Past remembers which releases each environment has ever named, so that a
// bump that goes back is seen as what it is. The zero value remembers nothing;
// [Judge] lets it learn what the accepted commit has behind it when the first
// release moves, and then what each accepted commit adds. Keep one for as long
// as a repository is followed. It is for one goroutine at a time.
type Past struct {
	tip   string // all behind it is known
	names names
}

// names says where releases were named.
type names struct {
	at       map[string][]string // release of a service, by version and by digest -> commits
	keys     map[string][]string // path -> "prod/web"
	paths    map[string][]string // "prod/web" -> paths
	services map[string][]string // "web" -> "prod/web", "staging/web"
	moved    map[string][]string // "prod/store", or "*/store" -> "shop", which is its name of before
	words    map[string][]string // "prod/web" -> versions and digests
	again    map[string]bool     // "prod/web": something of it was named twice
}

func add(m map[string][]string, key, v string) {
	if list := m[key]; !slices.Contains(list, v) {
		m[key] = append(list, v)
	}
}

func (n *names) init() {
	*n = names{map[string][]string{}, map[string][]string{}, map[string][]string{}, map[string][]string{}, map[string][]string{}, map[string][]string{}, map[string]bool{}}
}

// record notes that a commit's tree names a release that its parent's did not.
func (n *names) record(commit, path, env, service string, c spec.Change) {
	if n.at == nil {
		n.init()
	}
	key := env + "/" + service
	add(n.keys, path, key)
	add(n.paths, key, path)
	add(n.services, service, key)
	for _, word := range wordsOf(c) {
		at := key + "\x00" + word
		n.at[at] = append(n.at[at], commit)
		if len(n.at[at]) > 1 {
			n.again[key] = true
		} else {
			n.words[key] = append(n.words[key], word)
		}
	}
}

// wordsOf are the version and the digests by which a release is known again.
func wordsOf(c spec.Change) []string {
	return append(digestsOf(c), c.Version)
}

func digestsOf(c spec.Change) []string {
	var out []string
	if c.Digest != "" {
		out = append(out, c.Digest)
	}
	for _, d := range c.Digests {
		if !slices.Contains(out, d) {
			out = append(out, d)
		}
	}
	slices.Sort(out)
	return out
}

// stride is how many commits are learned at once: a host that is cut off, or
// takes longer than it may, goes on from the last whole stride.
const stride = 1000

// Learn reads what the Past does not know yet of all that is behind a commit.
// With an error it knows some of that, and the next call goes on from there.
func (p *Past) Learn(ctx context.Context, h History, commit string) error {
	way, err := p.way(ctx, h, commit)
	if err != nil {
		return err
	}
	for i := min(stride, len(way)); i < len(way); i += stride {
		if err := p.learn(ctx, h, way[i-1]); err != nil {
			return err
		}
	}
	return p.learn(ctx, h, commit)
}

// way is the line of first parents from what is known to a commit, which is its
// end; only the commit where the line does not meet what is known.
func (p *Past) way(ctx context.Context, h History, commit string) ([]string, error) {
	way := []string{}
	for at := commit; at != p.tip; {
		raw, err := h.Commit(ctx, at)
		if err != nil {
			return nil, err
		}
		way = append(way, at)
		parents, err := Parents(raw)
		if err != nil || len(parents) == 0 {
			if p.tip != "" {
				return []string{commit}, nil
			}
			break
		}
		at = parents[0]
	}
	slices.Reverse(way)
	return way, nil
}

func (p *Past) learn(ctx context.Context, h History, commit string) error {
	if p.tip == commit {
		return nil
	}
	if p.tip != "" {
		// What it knows must be behind the commit, or it would know too much.
		// A tip that the history does not have is of another one.
		ahead, err := h.Between(ctx, commit, p.tip)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil || len(ahead) > 0 {
			*p = Past{}
		}
	}
	all, err := h.Between(ctx, p.tip, commit)
	if err != nil {
		return err
	}
	r := &reader{history: h, past: &Past{}}
	var found []note // all of it or nothing: half of it would be known twice
	for _, c := range all {
		raw, err := h.Commit(ctx, c)
		if err != nil {
			return err
		}
		parents, err := Parents(raw)
		if err != nil {
			continue // nobody could take it up
		}
		changes, err := r.brought(ctx, parents, c)
		if errors.Is(err, ErrUnfit) {
			continue // nor this
		}
		if err != nil {
			return err
		}
		more, err := r.names(ctx, c, changes)
		if err != nil {
			return err
		}
		found = append(found, more...)
	}
	p.names.take(found)
	p.tip = commit
	return nil
}

// record notes the releases that a commit's edits name.
func (r *reader) record(ctx context.Context, into *names, c string, edits []edit) error {
	found, err := r.names(ctx, c, edits)
	if err == nil {
		into.take(found)
	}
	return err
}

// note is a release that a commit named, or another name of a service.
type note struct {
	commit, path, env, service string
	release                    spec.Change
	was                        string // its name of before; "" where a release is noted
}

func (n *names) take(found []note) {
	for _, f := range found {
		if f.was != "" {
			if n.at == nil {
				n.init()
			}
			add(n.moved, f.env+"/"+f.service, f.was)
			continue
		}
		n.record(f.commit, f.path, f.env, f.service, f.release)
	}
}

// names are the releases that a commit's edits name newly.
func (r *reader) names(ctx context.Context, c string, edits []edit) (found []note, err error) {
	for _, e := range edits {
		env, language := placeOf(e.Path)
		if !language || !regular(e.New.Mode) {
			continue
		}
		parts, err := r.parts(ctx, e.after, e.Path, e.New)
		if err != nil {
			return nil, err
		}
		for _, m := range parts.Moves() {
			found = append(found, note{commit: c, path: e.Path, env: env, service: m.To, was: m.From})
		}
		if env == Everywhere {
			continue
		}
		is, err := r.releases(ctx, e.after, e.Path, e.New)
		if err != nil {
			return nil, err
		}
		was, err := r.releases(ctx, e.before, e.Path, e.Old)
		if err != nil {
			return nil, err
		}
		for _, service := range slices.Sorted(maps.Keys(is)) {
			release := is[service]
			if old, ok := was[service]; !ok || !sameRelease(old, release) {
				found = append(found, note{commit: c, path: e.Path, env: env, service: service, release: release})
			}
		}
	}
	return found, nil
}

func sameRelease(a, b spec.Change) bool {
	a.Attempt, b.Attempt = 0, 0
	return a.Equal(b)
}

// left finds the commit that named a release which was given up by the time of
// another commit, where `from` stands; "" if it never was there.
func (r *reader) left(ctx context.Context, key string, from, to spec.Change, at string) (string, error) {
	if at == "" {
		return "", nil
	}
	if err := r.learn(ctx); err != nil {
		return "", err
	}
	stands, keys := wordsOf(from), r.ever(key)
	for _, word := range wordsOf(to) {
		if slices.Contains(stands, word) {
			continue
		}
		for _, n := range []names{r.past.names, r.fresh} {
			for _, key := range keys {
				for _, commit := range n.at[key+"\x00"+word] {
					if ok, err := r.ancestor(ctx, commit, at); ok || err != nil {
						return commit, err
					}
				}
			}
		}
	}
	return "", nil
}

// ever is a service under all its names: what moved to a new one has left what
// it left under the old one.
func (r *reader) ever(key string) []string {
	env, _, _ := strings.Cut(key, "/")
	keys := []string{key}
	for i := 0; i < len(keys); i++ {
		_, service, _ := strings.Cut(keys[i], "/")
		for _, n := range []names{r.past.names, r.fresh} {
			for _, was := range slices.Concat(n.moved[env+"/"+service], n.moved[Everywhere+"/"+service]) {
				if !slices.Contains(keys, env+"/"+was) {
					keys = append(keys, env+"/"+was)
				}
			}
		}
	}
	return keys
}

func (r *reader) learn(ctx context.Context) error {
	if r.accepted == "" {
		return nil
	}
	return r.past.Learn(ctx, r.history, r.accepted)
}

// runs reports whether another environment runs a release of a service, by the
// declarations of a commit.
func (r *reader) runs(ctx context.Context, env, service string, c spec.Change, at string) (string, error) {
	if err := r.learn(ctx); err != nil {
		return "", err
	}
	tree, err := r.history.Tree(ctx, at)
	if err != nil {
		return "", err
	}
	for _, n := range []names{r.past.names, r.fresh} {
		for _, key := range n.services[service] {
			other, _, _ := strings.Cut(key, "/")
			if other == env {
				continue
			}
			for _, path := range n.paths[key] {
				data, err := read(tree, path)
				if errors.Is(err, fs.ErrNotExist) {
					continue
				}
				if err != nil {
					return "", err
				}
				if found, err := spec.ReleasesIn(data, path); err == nil && sameRelease(found[service], c) {
					return other, nil
				}
			}
		}
	}
	return "", nil
}
