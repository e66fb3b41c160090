// Package attacks builds, byte by byte, the repositories of people who mean
// harm, and those of people who only look as if they did. Its tests serve each
// to a real agent and hold it to what design and issue say: every attack is
// refused for the right reason, and every near miss is taken.
//
// Objects are written here without git and without the code under test, so that
// a commit may be what no git would write, and a mistake is not made twice.
package attacks

import (
	"bytes"
	"compress/zlib"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Noon is the present, for whoever judges.
func Noon() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) }

// Repo is a bare repository. Its commits are a day older than Noon.
type Repo struct {
	T   testing.TB
	Dir string

	clock   time.Time
	trees   map[string]Files    // commit -> all its files
	parents map[string][]string // of commits
	made    []string            // commits, in order
	seen    map[string]bool     // objects that are written
}

// Files are contents by path. Some contents mean something else.
type Files map[string]string

// Entry is a tree's entry for the path "" of its folder: nobody else writes it.
func (r *Repo) Entry(mode, name, kind, content string) string {
	raw, _ := hex.DecodeString(r.Object(kind, []byte(content)))
	return mode + " " + name + "\x00" + string(raw)
}

// Tag writes a tag object, signed as git does.
func (r *Repo) Tag(k *Key, name, kind, hash string) string {
	text := fmt.Sprintf("object %s\ntype %s\ntag %s\ntagger %s <%s> %d +0000\n\nA release\n", hash, kind, name, "x", k.Name, r.clock.Unix())
	return r.Object("tag", []byte(text+k.Commit([]byte(text))))
}

// Remove takes an object, or another file, out of the repository.
func (r *Repo) Remove(name string) {
	r.T.Helper()
	if len(name) == 40 {
		delete(r.seen, name)
		name = filepath.Join("objects", name[:2], name[2:])
	}
	if err := os.RemoveAll(filepath.Join(r.Dir, name)); err != nil {
		r.T.Fatal(err)
	}
}

// Contents that are no plain file's.
const (
	Gone       = "\x00gone"
	Submodule  = "\x00submodule"
	Executable = "\x00exec:" // before a content
	Link       = "\x00link:" // before a target
	OddMode    = "\x00odd:"  // before a content: mode 100664, which git once wrote
)

// NewRepo is an empty repository in a directory that need not be there yet.
func NewRepo(t testing.TB, dir string) *Repo {
	t.Helper()
	r := &Repo{T: t, Dir: dir, clock: Noon().Add(-24 * time.Hour), trees: map[string]Files{}, parents: map[string][]string{}, seen: map[string]bool{}}
	r.WriteFile("HEAD", "ref: refs/heads/main\n")
	r.WriteFile("config", "[core]\n\trepositoryformatversion = 0\n\tbare = true\n")
	for _, d := range []string{"objects/pack", "refs/heads", "refs/tags"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// Copy is another repository with the same content.
func (r *Repo) Copy(t testing.TB, dir string) *Repo {
	t.Helper()
	if err := os.CopyFS(dir, os.DirFS(r.Dir)); err != nil {
		t.Fatal(err)
	}
	return &Repo{T: t, Dir: dir, clock: r.clock, trees: maps.Clone(r.trees), parents: maps.Clone(r.parents), made: slices.Clone(r.made), seen: maps.Clone(r.seen)}
}

// WriteFile writes a file of the repository itself, such as "info/grafts".
func (r *Repo) WriteFile(name, content string) {
	r.T.Helper()
	p := filepath.Join(r.Dir, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		r.T.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
		r.T.Fatal(err)
	}
}

// Push makes a commit, or another object, what a branch is at.
func (r *Repo) Push(hash string) { r.WriteFile("refs/heads/main", hash+"\n") }

// Object writes one object and answers its hash.
func (r *Repo) Object(kind string, content []byte) string {
	r.T.Helper()
	whole := append(fmt.Appendf(nil, "%s %d\x00", kind, len(content)), content...)
	sum := sha1.Sum(whole)
	hash := hex.EncodeToString(sum[:])
	if !r.seen[hash] {
		r.seen[hash] = true
		r.Loose(hash, whole)
	}
	return hash
}

// Loose writes bytes in the place of an object, whether or not they are its own.
func (r *Repo) Loose(hash string, whole []byte) {
	r.T.Helper()
	var b bytes.Buffer
	z, _ := zlib.NewWriterLevel(&b, zlib.BestSpeed)
	_, _ = z.Write(whole)
	_ = z.Close()
	p := filepath.Join(r.Dir, "objects", hash[:2], hash[2:])
	_ = os.Remove(p)
	r.WriteFile(filepath.Join("objects", hash[:2], hash[2:]), b.String())
}

// Raw is an object's content, as it was written.
func (r *Repo) Raw(hash string) []byte {
	r.T.Helper()
	data, err := os.ReadFile(filepath.Join(r.Dir, "objects", hash[:2], hash[2:]))
	if err != nil {
		r.T.Fatal(err)
	}
	z, err := zlib.NewReader(bytes.NewReader(data))
	if err != nil {
		r.T.Fatal(err)
	}
	whole, err := io.ReadAll(z)
	if err != nil {
		r.T.Fatal(err)
	}
	_, content, _ := bytes.Cut(whole, []byte{0})
	return content
}

// Tree writes a tree of files with all its folders, as git sorts them.
func (r *Repo) Tree(all Files) string {
	type entry struct{ mode, name, hash string }
	var list []entry
	folders := map[string]Files{}
	for path, content := range all {
		if path == "" { // an entry as its bytes are
			continue
		}
		if top, below, ok := strings.Cut(path, "/"); ok {
			if folders[top] == nil {
				folders[top] = Files{}
			}
			folders[top][below] = content
			continue
		}
		mode := "100644"
		if rest, ok := strings.CutPrefix(content, Executable); ok {
			mode, content = "100755", rest
		} else if rest, ok := strings.CutPrefix(content, Link); ok {
			mode, content = "120000", rest
		} else if rest, ok := strings.CutPrefix(content, OddMode); ok {
			mode, content = "100664", rest
		}
		if content == Submodule {
			list = append(list, entry{"160000", path, strings.Repeat("5", 40)})
			continue
		}
		list = append(list, entry{mode, path, r.Object("blob", []byte(content))})
	}
	for name, files := range folders {
		list = append(list, entry{"40000", name, r.Tree(files)})
	}
	order := func(e entry) string {
		if e.mode == "40000" {
			return e.name + "/"
		}
		return e.name
	}
	slices.SortFunc(list, func(a, b entry) int { return strings.Compare(order(a), order(b)) })
	var b bytes.Buffer
	b.WriteString(all[""])
	for _, e := range list {
		raw, _ := hex.DecodeString(e.hash)
		fmt.Fprintf(&b, "%s %s\x00%s", e.mode, e.name, raw)
	}
	return r.Object("tree", b.Bytes())
}

// making is how a commit is made.
type making struct {
	key     *Key   // nil: not signed
	who     string // as author and committer
	message string
	date    time.Time
	before  []func(string) string // change what will be signed
	after   []func(string) string // change what was signed
	sign    func(payload []byte) string
	tree    string // in the place of its own
}

// Option changes how a commit is made.
type Option func(*making)

// By makes somebody sign it, and be its author.
func By(k *Key) Option { return func(m *making) { m.key, m.who = k, k.Name } }

// Unsigned leaves the signature out; the author is whom it claims.
func Unsigned(who string) Option { return func(m *making) { m.key, m.who = nil, who } }

// From claims another author and committer than signs.
func From(who string) Option { return func(m *making) { m.who = who } }

// Says is the message.
func Says(text string) Option { return func(m *making) { m.message = text } }

// Vouching is the message by which a commit vouches for another.
func Vouching(hash string) Option {
	return Says("Vouch for " + hash[:12] + "\n\nDrydock-Vouch: " + hash + "\n")
}

// Dated is the date of both author and committer.
func Dated(t time.Time) Option { return func(m *making) { m.date = t } }

// Before changes what is signed.
func Before(f func(string) string) Option {
	return func(m *making) { m.before = append(m.before, f) }
}

// After changes what was signed.
func After(f func(string) string) Option { return func(m *making) { m.after = append(m.after, f) } }

// Signing writes another signature.
func Signing(f func(payload []byte) string) Option { return func(m *making) { m.sign = f } }

// OfTree is a commit of another tree than its files'.
func OfTree(hash string) Option { return func(m *making) { m.tree = hash } }

// Instead changes some text, once.
func Instead(old, new string) func(string) string {
	return func(s string) string { return strings.Replace(s, old, new, 1) }
}

// On makes a commit on a parent; "" is none.
func (r *Repo) On(parent string, edits Files, options ...Option) string {
	r.T.Helper()
	if parent == "" {
		return r.Make(nil, edits, options...)
	}
	return r.Make([]string{parent}, edits, options...)
}

// Make makes a commit of its first parent's files and some edits.
func (r *Repo) Make(parents []string, edits Files, options ...Option) string {
	r.T.Helper()
	r.clock = r.clock.Add(time.Second)
	m := making{key: Alice(), who: Alice().Name, message: "A change\n", date: r.clock}
	for _, o := range options {
		o(&m)
	}
	files := Files{}
	if len(parents) > 0 {
		files = maps.Clone(r.FilesOf(parents[0]))
	}
	for path, content := range edits {
		if files[path] = content; content == Gone {
			delete(files, path)
		}
	}
	if m.tree == "" {
		m.tree = r.Tree(files)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "tree %s\n", m.tree)
	for _, p := range parents {
		fmt.Fprintf(&b, "parent %s\n", p)
	}
	name, _, _ := strings.Cut(m.who, "@")
	for _, role := range []string{"author", "committer"} {
		fmt.Fprintf(&b, "%s %s <%s> %d +0100\n", role, name, m.who, m.date.Unix())
	}
	fmt.Fprintf(&b, "\n%s", m.message)
	raw := b.String()
	for _, f := range m.before {
		raw = f(raw)
	}
	if m.sign == nil && m.key != nil {
		m.sign = m.key.Commit
	}
	if m.sign != nil {
		raw = WithHeader(raw, "gpgsig", m.sign([]byte(raw)))
	}
	for _, f := range m.after {
		raw = f(raw)
	}
	hash := r.Object("commit", []byte(raw))
	r.trees[hash], r.parents[hash] = files, parents
	r.made = append(r.made, hash)
	return hash
}

// WithHeader puts a header of many lines where git does: last.
func WithHeader(raw, name, value string) string {
	head, message, _ := strings.Cut(raw, "\n\n")
	return head + "\n" + name + " " + strings.ReplaceAll(strings.TrimSuffix(value, "\n"), "\n", "\n ") + "\n\n" + message
}

// FilesOf are all files of a commit.
func (r *Repo) FilesOf(commit string) Files {
	r.T.Helper()
	files, ok := r.trees[commit]
	if !ok {
		r.T.Fatalf("no commit %q was made here", commit)
	}
	return files
}

// Edit is a file of a commit with some text replaced.
func (r *Repo) Edit(commit, path, old, new string) Files {
	r.T.Helper()
	was, ok := r.FilesOf(commit)[path]
	if !ok || !strings.Contains(was, old) {
		r.T.Fatalf("%s has no %q", path, old)
	}
	return Files{path: strings.Replace(was, old, new, 1)}
}

// Merge merges theirs into ours: path by path what the side that changed it has,
// ours where both did, and some edits on top.
func (r *Repo) Merge(ours, theirs string, edits Files, options ...Option) string {
	r.T.Helper()
	base, mine, other := r.FilesOf(r.fork(ours, theirs)), r.FilesOf(ours), r.FilesOf(theirs)
	all := Files{}
	for path := range maps.Keys(other) {
		if mine[path] == base[path] && other[path] != mine[path] {
			all[path] = other[path]
		}
	}
	for path := range maps.Keys(base) {
		if _, ok := other[path]; !ok && mine[path] == base[path] {
			all[path] = Gone
		}
	}
	maps.Copy(all, edits)
	return r.Make([]string{ours, theirs}, all, options...)
}

// fork is the newest commit that stands behind both.
func (r *Repo) fork(a, b string) string {
	behind := r.behind(a)
	both := r.behind(b)
	for _, c := range slices.Backward(r.made) {
		if behind[c] && both[c] {
			return c
		}
	}
	r.T.Fatalf("%s and %s have nothing in common", a, b)
	return ""
}

func (r *Repo) behind(c string) map[string]bool {
	seen, todo := map[string]bool{}, []string{c}
	for len(todo) > 0 {
		c := todo[0]
		todo = todo[1:]
		if !seen[c] {
			seen[c] = true
			todo = append(todo, r.parents[c]...)
		}
	}
	return seen
}
