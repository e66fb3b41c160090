package trust

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// repo is a history in memory. Objects have their own hashes, but a tree is
// flat: one list of paths.
type repo struct {
	t       testing.TB
	blobs   map[string][]byte
	commits map[string]*stored
	clock   time.Time
	n       int
}

type stored struct {
	raw     []byte
	parents []string
	tree    map[string]Entry
	delta   []Change // against the first parent, where it is known
}

func newRepo(t testing.TB) *repo {
	return &repo{t: t, blobs: map[string][]byte{}, commits: map[string]*stored{}, clock: noon.Add(-24 * time.Hour)}
}

// making is how a commit is made.
type making struct {
	by      string // who signs; "" nobody
	message string
	date    time.Time
	raw     func([]byte) []byte // changes what is signed
	after   func([]byte) []byte // changes what was signed
	sign    func(payload []byte) string
}

type option func(*making)

func by(who string) option     { return func(m *making) { m.by = who } }
func unsigned() option         { return by("") }
func says_(text string) option { return func(m *making) { m.message = text } }
func dated(t time.Time) option { return func(m *making) { m.date = t } }
func vouching(h string) option { return says_("vouch\n\nDrydock-Vouch: " + h + "\n") }
func signing(f func([]byte) string) option {
	return func(m *making) { m.sign = f }
}
func before(f func(string) string) option {
	return func(m *making) { m.raw = func(b []byte) []byte { return []byte(f(string(b))) } }
}
func later(f func(string) string) option {
	return func(m *making) { m.after = func(b []byte) []byte { return []byte(f(string(b))) } }
}

// files are edits: path to content. Some contents mean something else.
type files map[string]string

const (
	gone       = "\x00gone"
	link       = "\x00link"
	submodule  = "\x00submodule"
	executable = "\x00exec" // before a content
)

func hash(b []byte) string {
	sum := sha1.Sum(b)
	return hex.EncodeToString(sum[:])
}

func (r *repo) entry(content string) Entry {
	e := Entry{Mode: 0o100644}
	switch {
	case content == gone:
		return Entry{}
	case content == link:
		e.Mode = 0o120000
	case content == submodule:
		e.Mode = 0o160000
	case strings.HasPrefix(content, executable):
		e.Mode, content = 0o100755, strings.TrimPrefix(content, executable)
	}
	e.Blob = hash([]byte("blob" + content))
	r.blobs[e.Blob] = []byte(content)
	return e
}

// on makes a commit on one parent.
func (r *repo) on(parent string, edits files, options ...option) string {
	var parents []string
	if parent != "" {
		parents = []string{parent}
	}
	return r.make(parents, edits, options...)
}

// make makes a commit of the first parent's tree and some edits.
func (r *repo) make(parents []string, edits files, options ...option) string {
	m := making{by: "alice@acme", message: "a change\n"}
	r.n++
	r.clock = r.clock.Add(time.Second)
	m.date = r.clock
	for _, o := range options {
		o(&m)
	}
	tree := map[string]Entry{}
	if len(parents) > 0 {
		tree = r.commits[parents[0]].tree
		if len(edits) > 0 {
			tree = maps.Clone(tree)
		}
	}
	var delta []Change
	for _, path := range slices.Sorted(maps.Keys(edits)) {
		was, is := tree[path], r.entry(edits[path])
		if was == is {
			continue
		}
		delta = append(delta, Change{path, was, is})
		if tree[path] = is; is.Blob == "" {
			delete(tree, path)
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "tree %s\n", hash(fmt.Append(nil, r.n)))
	for _, p := range parents {
		fmt.Fprintf(&b, "parent %s\n", p)
	}
	who := strings.TrimSuffix(m.by, "@acme")
	if who == "" {
		who = "nobody"
	}
	fmt.Fprintf(&b, "author %s <%s@acme> %d +0100\ncommitter %s <%s@acme> %d +0100\n\n%s", who, who, m.date.Unix(), who, who, m.date.Unix(), m.message)
	raw := []byte(b.String())
	if m.raw != nil {
		raw = m.raw(raw)
	}
	if m.sign == nil && m.by != "" {
		m.sign = func(payload []byte) string { return armoured(m.by, payload) }
	}
	if m.sign != nil {
		raw = withSignature(raw, m.sign(raw))
	}
	if m.after != nil {
		raw = m.after(raw)
	}
	h := hash(raw)
	r.commits[h] = &stored{raw, parents, tree, delta}
	return h
}

// withSignature puts a gpgsig header where git does: last.
func withSignature(raw []byte, sig string) []byte {
	head, message, _ := bytes.Cut(raw, []byte("\n\n"))
	header := "gpgsig " + strings.ReplaceAll(strings.TrimSuffix(sig, "\n"), "\n", "\n ") + "\n"
	return slices.Concat(head, []byte("\n"+header+"\n"), message)
}

func armoured(key string, payload []byte) string {
	sum := sha256.Sum256(append([]byte(key+"\n"), payload...))
	return "-----BEGIN SSH SIGNATURE-----\n" + key + "\n" + hex.EncodeToString(sum[:]) + "\n-----END SSH SIGNATURE-----\n"
}

// merge merges theirs into ours, cleanly where one side changed a path, and
// with edits on top.
func (r *repo) merge(ours, theirs string, edits files, options ...option) string {
	bases, _ := r.MergeBases(context.Background(), ours, theirs)
	all := files{}
	if len(bases) == 1 {
		base, mine := r.commits[bases[0]].tree, r.commits[ours].tree
		changes, _ := r.Changed(context.Background(), bases[0], theirs)
		for _, c := range changes {
			if mine[c.Path] == base[c.Path] {
				all[c.Path] = r.content(c.New)
			}
		}
	}
	maps.Copy(all, edits)
	return r.make([]string{ours, theirs}, all, options...)
}

func (r *repo) content(e Entry) string {
	switch {
	case e.Blob == "":
		return gone
	case e.Mode == 0o100755:
		return executable + string(r.blobs[e.Blob])
	}
	return string(r.blobs[e.Blob])
}

var errNoObject = errors.New("no such object")

func (r *repo) Commit(_ context.Context, h string) ([]byte, error) {
	c := r.commits[h]
	if c == nil {
		return nil, fmt.Errorf("commit %s: %w", h, errNoObject)
	}
	return c.raw, nil
}

type treeFS struct {
	r    *repo
	tree map[string]Entry
}

func (f treeFS) Open(name string) (fs.File, error) {
	e, ok := f.tree[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return fstest.MapFS{name: {Data: f.r.blobs[e.Blob]}}.Open(name)
}

func (r *repo) Tree(_ context.Context, h string) (fs.FS, error) {
	c := r.commits[h]
	if c == nil {
		return nil, errNoObject
	}
	return treeFS{r, c.tree}, nil
}

func (r *repo) Changed(_ context.Context, old, new string) ([]Change, error) {
	was, is := map[string]Entry{}, r.commits[new]
	if is == nil {
		return nil, errNoObject
	}
	if old != "" {
		if len(is.parents) > 0 && is.parents[0] == old {
			return is.delta, nil
		}
		was = r.commits[old].tree
	}
	var out []Change
	for path, e := range is.tree {
		if was[path] != e {
			out = append(out, Change{path, was[path], e})
		}
	}
	for path, e := range was {
		if _, ok := is.tree[path]; !ok {
			out = append(out, Change{path, e, Entry{}})
		}
	}
	return out, nil
}

// behind is a commit and all its ancestors, parents first.
func (r *repo) behind(h string, stop map[string]bool) []string {
	var out []string
	seen := map[string]bool{}
	type frame struct {
		h    string
		done bool
	}
	todo := []frame{{h, false}}
	for len(todo) > 0 {
		f := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if f.done {
			out = append(out, f.h)
			continue
		}
		if seen[f.h] || stop[f.h] {
			continue
		}
		seen[f.h] = true
		todo = append(todo, frame{f.h, true})
		for _, p := range r.commits[f.h].parents {
			todo = append(todo, frame{p, false})
		}
	}
	return out
}

func (r *repo) Between(_ context.Context, accepted, head string) ([]string, error) {
	stop := map[string]bool{}
	if r.commits[head] == nil {
		return nil, errNoObject
	}
	if accepted != "" {
		if r.commits[accepted] == nil {
			return nil, errNoObject
		}
		for _, h := range r.behind(accepted, nil) {
			stop[h] = true
		}
	}
	return r.behind(head, stop), nil
}

func (r *repo) MergeBases(_ context.Context, a, b string) ([]string, error) {
	in := map[string]bool{}
	for _, h := range r.behind(a, nil) {
		in[h] = true
	}
	var common []string
	for _, h := range r.behind(b, nil) {
		if in[h] {
			common = append(common, h)
		}
	}
	return slices.DeleteFunc(slices.Clone(common), func(h string) bool {
		return slices.ContainsFunc(common, func(o string) bool {
			return o != h && slices.Contains(r.behind(o, nil), h)
		})
	}), nil
}

// ring is a Keys: a key's name is its principal, unless others are listed.
type ring struct {
	principals map[string][]string
	until      map[string]time.Time
	asked      int
}

func (k *ring) Signers(payload, signature []byte, at time.Time) ([]string, error) {
	k.asked++
	lines := strings.Split(string(signature), "\n")
	if len(lines) < 3 || string(signature) != armoured(lines[1], payload) {
		return nil, errors.New("it is not a signature of this commit")
	}
	if until, ok := k.until[lines[1]]; ok && at.After(until) {
		return nil, fmt.Errorf("the key of %s was valid until %s", lines[1], until)
	}
	if list, ok := k.principals[lines[1]]; ok {
		return slices.Clone(list), nil
	}
	if strings.HasPrefix(lines[1], "stranger") {
		return nil, errors.New("the key is on no line of allowed_signers")
	}
	return []string{lines[1]}, nil
}

const (
	digA = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	digB = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	digC = "sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"
)

// digestOf is another digest for each word.
func digestOf(version string) string {
	sum := sha256.Sum256([]byte(version))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// service is a declaration whose release is the version and its digest.
func service(name, version string, lines ...string) string {
	return fmt.Sprintf("# %s\nservice %q {\n  hosts = {}\n  release {\n    version = %q # by a pipeline\n    digest  = %q\n  }\n  artifact {\n    source = \"https://a.example/%s\"\n  }\n%s}\n",
		name, name, version, digestOf(version), name, strings.Join(lines, ""))
}

func policy() Policy {
	return Policy{Roles: []Role{
		{Name: "people", Principals: []string{"alice@acme", "bob@acme"}, May: []Permission{Any}, People: true},
		{Name: "leads", Principals: []string{"lead@acme"}, May: []Permission{Any}, Environments: []string{"staging"}, People: true},
		{Name: "pipeline", Principals: []string{"ci@acme"}, May: []Permission{Bump}, Environments: []string{"staging"}},
		{Name: "bumper", Principals: []string{"bumper@acme"}, May: []Permission{Bump}},
		{Name: "roller", Principals: []string{"roller@acme"}, May: []Permission{Rollback}},
		{Name: "promoter", Principals: []string{"promoter@acme"}, May: []Permission{Promote}, Environments: []string{"prod"}},
		{Name: "freezer", Principals: []string{"freezer@acme"}, May: []Permission{Freeze}, Environments: []string{"prod"}},
		{Name: "operator", Principals: []string{"operator@acme"}, May: []Permission{Operate}},
		{Name: "bots", Principals: []string{"*@bots", "!root@bots"}, May: []Permission{Bump}},
		{Name: "robot", Principals: []string{"robot@acme"}, May: []Permission{Any}},
	}}
}

func (r *repo) judge() *Judge {
	return &Judge{Policy: policy(), Keys: &ring{}, History: r}
}
