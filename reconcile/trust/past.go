package trust

import (
	"context"
	"errors"
	"io"
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
	words    map[string][]string // "prod/web" -> versions and digests
	again    map[string]bool     // "prod/web": something of it was named twice
}

func add(m map[string][]string, key, v string) {
	if list := m[key]; !slices.Contains(list, v) {
		m[key] = append(list, v)
	}
}

func (n *names) init() {
	*n = names{map[string][]string{}, map[string][]string{}, map[string][]string{}, map[string][]string{}, map[string][]string{}, map[string]bool{}}
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

// brought are the paths where a commit's tree is none of its parents'.
func (r *reader) brought(ctx context.Context, parents []string, c string) ([]edit, error) {
	if len(parents) == 0 {
		return r.changed(ctx, "", c)
	}
	first, err := r.changed(ctx, parents[0], c)
	for _, p := range parents[1:] {
		if err != nil || len(first) == 0 {
			break
		}
		var more []edit
		more, err = r.changed(ctx, p, c)
		also := map[string]bool{}
		for _, e := range more {
			also[e.Path] = true
		}
		first = slices.DeleteFunc(first, func(e edit) bool { return !also[e.Path] })
	}
	return first, err
}

// record notes the releases that a commit's edits name.
func (r *reader) record(ctx context.Context, into *names, c string, edits []edit) error {
	found, err := r.names(ctx, c, edits)
	if err == nil {
		into.take(found)
	}
	return err
}

// note is a release that a commit named.
type note struct {
	commit, path, env, service string
	release                    spec.Change
}

func (n *names) take(found []note) {
	for _, f := range found {
		n.record(f.commit, f.path, f.env, f.service, f.release)
	}
}

// names are the releases that a commit's edits name newly.
func (r *reader) names(ctx context.Context, c string, edits []edit) (found []note, err error) {
	for _, e := range edits {
		env, language := placeOf(e.Path)
		if !language || env == Everywhere || !regular(e.New.Mode) {
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
				found = append(found, note{c, e.Path, env, service, release})
			}
		}
	}
	return found, nil
}

func sameRelease(a, b spec.Change) bool {
	a.Attempt, b.Attempt = 0, 0
	return a.Equal(b)
}

// edit is one changed path, and the commits that its versions are read from.
type edit struct {
	Change
	before, after string
}

// reader looks into a history, each file once.
type reader struct {
	history History
	past    *Past
	fresh   names // of the commits that are being judged

	// The commits that are being judged, and what they stand on.
	accepted string
	parents  map[string][]string
	onto     map[string]bool // descends from accepted

	files map[string][]byte
	named map[string]map[string]spec.Change
	held  int
}

// maxFile is one byte more than a file of the language may have, so that the
// language can say that it is too large.
const (
	maxFile = 256<<10 + 1
	maxHeld = 32 << 20
)

func (r *reader) changed(ctx context.Context, old, new string) ([]edit, error) {
	changes, err := r.history.Changed(ctx, old, new)
	if err != nil {
		return nil, err
	}
	out := make([]edit, len(changes))
	for i, c := range changes {
		out[i] = edit{c, old, new}
	}
	return out, nil
}

// file is a file's content, nil where none stands.
func (r *reader) file(ctx context.Context, commit, path string, e Entry) ([]byte, error) {
	if e.Blob == "" {
		return nil, nil
	}
	if data, ok := r.files[e.Blob]; ok {
		return data, nil
	}
	tree, err := r.history.Tree(ctx, commit)
	if err != nil {
		return nil, err
	}
	data, err := read(tree, path)
	if err != nil {
		return nil, err
	}
	r.keep(len(data))
	r.files[e.Blob] = data
	return data, nil
}

// keep makes room: what is read again costs time, never the answer.
func (r *reader) keep(n int) {
	if r.held += n + 200; r.held > maxHeld || r.files == nil {
		r.files, r.named, r.held = map[string][]byte{}, map[string]map[string]spec.Change{}, n
	}
}

// read is a file's first maxFile bytes. A store may refuse to open one that is
// longer; then how large it is says all.
func read(tree fs.FS, path string) ([]byte, error) {
	none := &fs.PathError{Op: "read", Path: path, Err: fs.ErrNotExist}
	f, err := tree.Open(path)
	if err != nil {
		switch info, serr := fs.Stat(tree, path); {
		case serr != nil:
		case !info.Mode().IsRegular():
			return nil, none
		case info.Size() >= maxFile:
			return make([]byte, maxFile), nil
		}
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, none
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile))
	if data == nil {
		data = []byte{}
	}
	return data, err
}

// releases are those that a file names; one that does not parse names none.
func (r *reader) releases(ctx context.Context, commit, path string, e Entry) (map[string]spec.Change, error) {
	if !regular(e.Mode) {
		return nil, nil
	}
	key := e.Blob + path
	if found, ok := r.named[key]; ok {
		return found, nil
	}
	data, err := r.file(ctx, commit, path, e)
	if err != nil {
		return nil, err
	}
	found, err := spec.ReleasesIn(data, path)
	if err != nil {
		found = nil
	}
	r.keep(500)
	r.named[key] = found
	return found, nil
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
	stands := wordsOf(from)
	for _, word := range wordsOf(to) {
		if slices.Contains(stands, word) {
			continue
		}
		for _, n := range []names{r.past.names, r.fresh} {
			for _, commit := range n.at[key+"\x00"+word] {
				if ok, err := r.ancestor(ctx, commit, at); ok || err != nil {
					return commit, err
				}
			}
		}
	}
	return "", nil
}

func (r *reader) learn(ctx context.Context) error {
	if r.accepted == "" {
		return nil
	}
	return r.past.Learn(ctx, r.history, r.accepted)
}

// ancestor reports whether a commit is another or stands behind it.
func (r *reader) ancestor(ctx context.Context, old, new string) (bool, error) {
	_, oldIsNew := r.parents[old]
	_, newIsNew := r.parents[new]
	switch {
	case old == new:
		return true, nil
	case oldIsNew && !newIsNew:
		return false, nil
	case oldIsNew:
		return r.behind(old, new), nil
	case new == r.accepted || r.onto[new]:
		return true, nil // the Past holds what is behind accepted
	}
	bases, err := r.history.MergeBases(ctx, old, new)
	return len(bases) == 1 && bases[0] == old, err
}

// behind walks among the commits that are being judged.
func (r *reader) behind(old, new string) bool {
	seen, todo := map[string]bool{}, []string{new}
	for len(todo) > 0 {
		c := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if c == old {
			return true
		}
		if !seen[c] {
			seen[c] = true
			todo = append(todo, r.parents[c]...)
		}
	}
	return false
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
