package gitsource

import (
	"context"
	"encoding/hex"
	"errors"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/go-git/go-git/v5/plumbing"
)

const (
	maxFile   = 256 << 10 // of a file that the language reads
	maxObject = 64 << 20  // of an object that is read whole
)

// Repository reads a repository on this machine, whoever writes to it: bare,
// with a work tree, or a linked work tree with a .git file. It never writes,
// needs no git binary, and sees what others push meanwhile.
type Repository struct {
	objects *objects
	refs    refs
	trees   treeCache
	limit   int64
	history *History
}

// OpenRepository opens the repository at dir or, as git does, at the nearest
// folder above it that is one.
func OpenRepository(dir string) (*Repository, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	for at := abs; ; at = filepath.Dir(at) {
		r, err := gitDir(at)
		if err == nil {
			return openAt(r)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if at == filepath.Dir(at) {
			return nil, fail(ErrUnknown, "%s is not in a git repository; name its folder, or create one with git init", dir)
		}
	}
}

func openAt(r refs) (*Repository, error) {
	if err := supported(filepath.Join(r.common, "config")); err != nil {
		return nil, err
	}
	o, err := openObjects(filepath.Join(r.common, "objects"), maxObject)
	if err != nil {
		return nil, err
	}
	opened := &Repository{objects: o, refs: r, limit: maxFile}
	opened.history = opened.newHistory()
	return opened, nil
}

// whole says of a missing object what the reason most often is.
func (r *Repository) whole(err error) error {
	if errors.Is(err, errMissing) {
		if _, serr := os.Stat(filepath.Join(r.refs.common, "shallow")); serr == nil {
			return fail(ErrCorrupt, "%w: this repository is shallow, and all of its history is needed; run git fetch --unshallow", err)
		}
	}
	return err
}

// gitDir finds the git directory of exactly this folder; fs.ErrNotExist if
// there is none.
func gitDir(at string) (refs, error) {
	dot := filepath.Join(at, ".git")
	info, err := os.Stat(dot)
	switch {
	case err == nil && info.IsDir():
		return commonDir(dot)
	case err == nil:
		text, err := readSmall(dot, 4096)
		if err != nil {
			return refs{}, err
		}
		to, ok := strings.CutPrefix(strings.TrimSpace(string(text)), "gitdir: ")
		if !ok {
			return refs{}, fail(ErrCorrupt, "%s does not begin with gitdir:", dot)
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(at, to)
		}
		return commonDir(filepath.Clean(to))
	case !errors.Is(err, fs.ErrNotExist) && !isNotDir(err):
		return refs{}, err
	}
	if _, err := os.Stat(filepath.Join(at, "HEAD")); err != nil {
		return refs{}, fs.ErrNotExist
	}
	if info, err := os.Stat(filepath.Join(at, "objects")); err != nil || !info.IsDir() {
		return refs{}, fs.ErrNotExist
	}
	return refs{dir: at, common: at}, nil
}

func commonDir(dir string) (refs, error) {
	text, err := readSmall(filepath.Join(dir, "commondir"), 4096)
	if errors.Is(err, fs.ErrNotExist) {
		return refs{dir: dir, common: dir}, nil
	}
	if err != nil {
		return refs{}, err
	}
	to := strings.TrimSpace(string(text))
	if !filepath.IsAbs(to) {
		to = filepath.Join(dir, to)
	}
	return refs{dir: dir, common: filepath.Clean(to)}, nil
}

// supported refuses repositories whose objects or refs are stored in ways that
// this package would misread.
func supported(config string) error {
	text, err := readSmall(config, 1<<20)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for line := range strings.Lines(strings.ToLower(string(text))) {
		key, value, _ := strings.Cut(line, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if key == "objectformat" && value != "sha1" || key == "refstorage" && value != "files" {
			return fail(ErrUnknown, "%s: %s = %s is not supported; use a repository with SHA-1 objects and refs in files", config, key, value)
		}
	}
	return nil
}

func isNotDir(err error) bool { return errors.Is(err, syscall.ENOTDIR) }

// Close ends the handles. A Repository that is not closed leaves them to the
// garbage collector.
func (r *Repository) Close() error { return r.objects.close() }

// Resolve turns a revision into a full commit hash: HEAD, a branch, a tag
// (annotated or not), a remote branch, a full ref, a full or short hash; each
// followed by any of ~N, ^N and ^{}. An unknown one wraps ErrUnknown.
func (r *Repository) Resolve(rev string) (string, error) {
	base, suffix := rev, ""
	if i := strings.IndexAny(rev, "~^"); i >= 0 {
		base, suffix = rev[:i], rev[i:]
	}
	h, err := r.base(base)
	if err != nil {
		return "", err
	}
	if h, err = r.objects.peel(h); err != nil {
		return "", err
	}
	for suffix != "" {
		if h, suffix, err = r.climb(h, suffix); err != nil {
			return "", err
		}
	}
	return h.String(), nil
}

func (r *Repository) base(name string) (plumbing.Hash, error) {
	if name == "" || name == "@" {
		name = "HEAD"
	}
	if h, err := parseHash(name); err == nil {
		if !r.objects.has(h) && (r.objects.rescan() != nil || !r.objects.has(h)) {
			return h, fail(ErrUnknown, "commit %s is not in this repository; fetch it first", name)
		}
		return h, nil
	}
	for _, full := range []string{name, "refs/" + name, "refs/tags/" + name, "refs/heads/" + name, "refs/remotes/" + name, "refs/remotes/" + name + "/HEAD"} {
		if !validRef(full) {
			continue
		}
		h, err := r.refs.read(full)
		if !errors.Is(err, errNoRef) {
			return h, err
		}
	}
	if len(name) >= 4 && len(name) < 40 && strings.Trim(name, "0123456789abcdef") == "" {
		return r.objects.abbreviated(name)
	}
	return plumbing.ZeroHash, fail(ErrUnknown, "no branch, tag or commit is called %q here; see git log and git branch -a", name)
}

// climb takes one ~N, ^N or ^{…} off a suffix.
func (r *Repository) climb(h plumbing.Hash, suffix string) (plumbing.Hash, string, error) {
	if rest, ok := strings.CutPrefix(suffix, "^{}"); ok {
		return h, rest, nil
	}
	if rest, ok := strings.CutPrefix(suffix, "^{commit}"); ok {
		return h, rest, nil
	}
	end := 1
	for end < len(suffix) && suffix[end] >= '0' && suffix[end] <= '9' {
		end++
	}
	n := 1
	if end > 1 {
		var err error
		if n, err = strconv.Atoi(suffix[1:end]); err != nil || n > 1<<20 {
			return h, "", fail(ErrUnknown, "%q goes back too far", suffix)
		}
	}
	steps, parent := n, 0
	switch {
	case suffix[0] == '^':
		steps, parent = min(n, 1), n-1
	case suffix[0] != '~':
		return h, "", fail(ErrUnknown, "%q is not understood; write ~N or ^N", suffix)
	}
	for range steps {
		c, err := r.objects.commit(h)
		if err != nil {
			return h, "", err
		}
		if parent >= len(c.parents) {
			return h, "", fail(ErrUnknown, "commit %s has no such parent", short(c.Hash))
		}
		h = c.parents[parent]
	}
	return h, suffix[end:], nil
}

// FS is a commit's files, as Snapshot.FS is.
func (r *Repository) FS(commit string) (fs.FS, error) {
	h, err := parseHash(commit)
	if err != nil {
		return nil, err
	}
	c, err := r.objects.commit(h)
	if err != nil {
		return nil, err
	}
	return &treeFS{from: r, root: c.tree, time: c.Committer.Time, limit: r.limit}, nil
}

// Commit reads one commit by its full hash.
func (r *Repository) Commit(commit string) (Commit, error) {
	h, err := parseHash(commit)
	if err != nil {
		return Commit{}, err
	}
	return r.objects.commit(h)
}

// Log is the commits that head has and base has not, newest first; all of
// head's history if base is "". Both are full hashes. After an error it ends.
func (r *Repository) Log(ctx context.Context, base, head string) iter.Seq2[Commit, error] {
	return func(yield func(Commit, error) bool) {
		if err := r.whole(r.log(ctx, base, head, func(c Commit) bool { return yield(c, nil) })); err != nil {
			yield(Commit{}, err)
		}
	}
}

func (r *Repository) log(ctx context.Context, base, head string, yield func(Commit) bool) error {
	h, err := parseHash(head)
	if err != nil {
		return err
	}
	hidden := map[string]bool{}
	if base != "" {
		b, err := parseHash(base)
		if err != nil {
			return err
		}
		// All of base's history, because dates are claims: a walk that trusted
		// them would list a commit that a skewed clock put in the wrong order.
		err = r.objects.walk(ctx, []plumbing.Hash{b}, func(c *Commit) (bool, bool, error) {
			hidden[c.Hash] = true
			return false, false, nil
		})
		if err != nil {
			return err
		}
	}
	return r.objects.walk(ctx, []plumbing.Hash{h}, func(c *Commit) (bool, bool, error) {
		if hidden[c.Hash] {
			return true, false, nil
		}
		return false, !yield(*c), nil
	})
}

// Ancestor reports whether old is new or one of its ancestors; both are full
// hashes of commits in this repository.
func (r *Repository) Ancestor(ctx context.Context, old, new string) (bool, error) {
	a, err := parseHash(old)
	if err != nil {
		return false, err
	}
	b, err := parseHash(new)
	if err != nil {
		return false, err
	}
	return r.objects.ancestor(ctx, a, b)
}

func (r *Repository) tree(h plumbing.Hash) (tree, error) { return r.objects.tree(&r.trees, h) }

func (r *Repository) blob(h plumbing.Hash, limit int64) ([]byte, error) {
	return r.objects.blob(h, limit)
}

func (r *Repository) size(h plumbing.Hash) (int64, error) {
	_, size, err := r.objects.stat(h)
	return size, err
}

// blob reads a file's content.
func (o *objects) blob(h plumbing.Hash, limit int64) ([]byte, error) {
	kind, data, err := o.read(h, limit)
	if err == nil && kind != plumbing.BlobObject {
		err = malformed("object %s is a %s where a file is needed", h, kind)
	}
	return data, err
}

// abbreviated finds the one commit whose hash begins so.
func (o *objects) abbreviated(prefix string) (plumbing.Hash, error) {
	raw, _ := hex.DecodeString(prefix[:len(prefix)&^1])
	found := map[plumbing.Hash]bool{}
	for _, p := range o.list() {
		entries, err := p.index.Entries()
		if err != nil {
			return plumbing.ZeroHash, err
		}
		for {
			e, err := entries.Next()
			if err != nil {
				break
			}
			if strings.HasPrefix(string(e.Hash[:]), string(raw)) && strings.HasPrefix(e.Hash.String(), prefix) {
				found[e.Hash] = true
			}
		}
	}
	for _, dir := range o.dirs {
		files, _ := os.ReadDir(filepath.Join(dir, prefix[:2]))
		for _, f := range files {
			if h, err := parseHash(prefix[:2] + f.Name()); err == nil && strings.HasPrefix(h.String(), prefix) {
				found[h] = true
			}
		}
	}
	var one []plumbing.Hash
	for h := range found {
		if kind, _, err := o.stat(h); err == nil && (kind == plumbing.CommitObject || kind == plumbing.TagObject) {
			one = append(one, h)
		}
	}
	switch len(one) {
	case 0:
		return plumbing.ZeroHash, fail(ErrUnknown, "no commit's hash begins with %s here; fetch it first", prefix)
	case 1:
		return one[0], nil
	}
	return plumbing.ZeroHash, fail(ErrUnknown, "%d commits begin with %s; write more of the hash", len(one), prefix)
}
