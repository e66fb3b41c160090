package trust

import (
	"context"
	"io"
	"io/fs"
	"slices"

	"drydock/spec"
)

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

	files map[string][]byte     // by blob
	apart map[string]spec.Parts // by blob and path
	held  int                   // bytes of both, about
}

const (
	// maxFile is one byte more than a file of the language may have, so that the
	// language can say that it is too large.
	maxFile = 256<<10 + 1
	// maxHeld is about how many bytes are kept to be read once only.
	maxHeld = 32 << 20
	// apartness is about how many bytes one byte of a file takes, taken apart.
	apartness = 40
)

// changed is the history's Changed, with where each side stands.
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
		r.files, r.apart, r.held = map[string][]byte{}, map[string]spec.Parts{}, n
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

// parts are a file's, taken apart.
func (r *reader) parts(ctx context.Context, commit, path string, e Entry) (spec.Parts, error) {
	key := e.Blob + path
	if found, ok := r.apart[key]; ok {
		return found, nil
	}
	data, err := r.file(ctx, commit, path, e)
	if err != nil {
		return spec.Parts{}, err
	}
	found := spec.PartsOf(data, path)
	r.keep(apartness * len(data))
	r.apart[key] = found
	return found, nil
}

// releases are those that a file names; one that does not parse names none.
func (r *reader) releases(ctx context.Context, commit, path string, e Entry) (map[string]spec.Change, error) {
	if !regular(e.Mode) {
		return nil, nil
	}
	parts, err := r.parts(ctx, commit, path, e)
	if err != nil {
		return nil, err
	}
	found, _ := parts.Releases()
	return found, nil
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
