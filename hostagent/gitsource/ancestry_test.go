package gitsource

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"drydock/reconcile/trust"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// drawn is a history as it was drawn: what is right is looked up in it.
type drawn struct {
	parents [][]int
	dates   []int
	files   []map[string]string // path -> "mode content"
}

// histories draws them: merges of any parents, roots beside others, dates that
// say nothing, and files that become folders.
func histories() *rapid.Generator[drawn] {
	paths := []string{"a", "a.b", "a/b", "a/c/d", "a0", "b/x.hcl", "b/y.hcl", "b.hcl", "é/ü"}
	bodies := []string{"100644 1", "100644 2", "100755 1", "120000 a", "160000 s"}
	return rapid.Custom(func(t *rapid.T) drawn {
		n := rapid.IntRange(1, 20).Draw(t, "commits")
		d := drawn{}
		for i := range n {
			var parents []int
			if i > 0 && rapid.IntRange(0, 9).Draw(t, "root") > 0 {
				parents = rapid.SliceOfNDistinct(rapid.IntRange(max(0, i-6), i-1), 1, min(i, 3), rapid.ID).Draw(t, "parents")
			}
			files := map[string]string{}
			if len(parents) > 0 {
				files = maps.Clone(d.files[parents[0]])
			}
			for range rapid.IntRange(0, 3).Draw(t, "edits") {
				path := rapid.SampledFrom(paths).Draw(t, "path")
				maps.DeleteFunc(files, func(other, _ string) bool {
					return strings.HasPrefix(other, path+"/") || strings.HasPrefix(path, other+"/")
				})
				if delete(files, path); rapid.Bool().Draw(t, "put") {
					files[path] = rapid.SampledFrom(bodies).Draw(t, "body")
				}
			}
			d.parents = append(d.parents, parents)
			d.dates = append(d.dates, rapid.IntRange(1, 50).Draw(t, "date")*1000+i)
			d.files = append(d.files, files)
		}
		return d
	})
}

func (d drawn) write(p *pen) (hashes []string) {
	for i, parents := range d.parents {
		var of []string
		for _, j := range parents {
			of = append(of, hashes[j])
		}
		h := p.commit(p.files(d.files[i]), d.dates[i], of...)
		hashes = append(hashes, h)
		p.branch(fmt.Sprint("c", i), h)
	}
	return hashes
}

// behind are a commit and all its ancestors.
func (d drawn) behind(i int) map[int]bool {
	out := map[int]bool{i: true}
	for _, p := range d.parents[i] {
		maps.Copy(out, d.behind(p))
	}
	return out
}

func (d drawn) between(accepted, head int) (out []int) {
	old := map[int]bool{}
	if accepted >= 0 {
		old = d.behind(accepted)
	}
	for _, i := range slices.Sorted(maps.Keys(d.behind(head))) {
		if !old[i] {
			out = append(out, i)
		}
	}
	return out
}

func (d drawn) bases(a, b int) (out []int) {
	var common []int
	inA := d.behind(a)
	for i := range d.behind(b) {
		if inA[i] {
			common = append(common, i)
		}
	}
	for _, i := range common {
		if !slices.ContainsFunc(common, func(j int) bool { return j != i && d.behind(j)[i] }) {
			out = append(out, i)
		}
	}
	return out
}

// lawOfHistory: what a History yields of each pair is what was drawn, and
// always in the same order, whatever was asked before.
func lawOfHistory(t interface {
	Fatalf(string, ...any)
}, d drawn, hashes []string, open func() *History) {
	ctx := context.Background()
	named := func(ids []int) (out []string) {
		for _, i := range ids {
			out = append(out, hashes[i])
		}
		slices.Sort(out)
		return out
	}
	h := open()
	for head := range d.parents {
		for accepted := -1; accepted < len(d.parents); accepted++ {
			from := ""
			if accepted >= 0 {
				from = hashes[accepted]
			}
			got, err := h.Between(ctx, from, hashes[head])
			if err != nil {
				t.Fatalf("between: %v", err)
			}
			if fresh, err := open().Between(ctx, from, hashes[head]); err != nil || !slices.Equal(fresh, got) {
				t.Fatalf("between depends on what was asked before: %v, %v, %v", got, fresh, err)
			}
			place := map[string]int{}
			for i, c := range got {
				place[c] = i
			}
			for i := range d.parents {
				for _, p := range d.parents[i] {
					at, in := place[hashes[i]]
					if before, also := place[hashes[p]]; in && also && before >= at {
						t.Fatalf("%d stands before its parent %d", i, p)
					}
				}
			}
			slices.Sort(got)
			if want := named(d.between(accepted, head)); !slices.Equal(got, want) {
				t.Fatalf("between %d and %d: %v, want %v", accepted, head, got, want)
			}
			if accepted < 0 {
				continue
			}
			bases, err := h.MergeBases(ctx, from, hashes[head])
			if want := named(d.bases(accepted, head)); err != nil || !slices.Equal(bases, want) {
				t.Fatalf("merge bases of %d and %d: %v (%v), want %v", accepted, head, bases, err, want)
			}
		}
	}
}

func historyOf(t testing.TB, dir string) *History { return repository(t, dir).History() }

// raw is what git diff-tree -r --raw prints.
func raw(changes []trust.Change) string {
	var lines []string
	for _, c := range changes {
		letter := "M"
		switch zero := (trust.Entry{}); {
		case c.Old == zero:
			letter, c.Old.Blob = "A", strings.Repeat("0", 40)
		case c.New == zero:
			letter, c.New.Blob = "D", strings.Repeat("0", 40)
		case c.Old.Mode&0o170000 != c.New.Mode&0o170000:
			letter = "T"
		}
		lines = append(lines, fmt.Sprintf(":%06o %06o %s %s %s\t%s", c.Old.Mode, c.New.Mode, c.Old.Blob, c.New.Blob, letter, c.Path))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func TestAHistoryIsWhatGitSaysItIs(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	emptyTree := "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
	for seed := range 12 {
		d := histories().Example(seed)
		p := newPen(t)
		p.tree()
		hashes := d.write(p)
		if seed%2 == 1 {
			p.git(t, "", "repack", "-adq")
		}
		h := historyOf(t, p.dir)
		lawOfHistory(t, d, hashes, func() *History { return historyOf(t, p.dir) })

		// Against git itself: all differences at once, and some of the rest.
		var in strings.Builder
		var ours []string
		for i, a := range append([]string{""}, hashes...) {
			for j, b := range hashes {
				if i > 0 && (i+j+seed)%3 > 0 {
					continue
				}
				changes, err := h.Changed(ctx, a, b)
				if err != nil {
					t.Fatal(err)
				}
				if !slices.IsSortedFunc(changes, func(a, b trust.Change) int { return strings.Compare(a.Path, b.Path) }) {
					t.Fatalf("not sorted: %v", changes)
				}
				old := emptyTree
				if a != "" {
					old = p.treeOf(t, h, a)
				}
				new := p.treeOf(t, h, b)
				fmt.Fprintf(&in, "%s %s\n", old, new)
				ours = append(ours, fmt.Sprintf("%s %s", old, new))
				if text := raw(changes); text != "" {
					ours = append(ours, text)
				}
			}
		}
		var theirs []string
		var lines []string
		for line := range strings.SplitSeq(p.git(t, in.String(), "-c", "core.quotePath=false", "diff-tree", "--stdin", "-r", "--raw", "--no-abbrev", "--no-renames")+"\n", "\n") {
			if strings.HasPrefix(line, ":") {
				lines = append(lines, line)
				continue
			}
			if slices.Sort(lines); lines != nil {
				theirs, lines = append(theirs, strings.Join(lines, "\n")), nil
			}
			if line != "" {
				theirs = append(theirs, line)
			}
		}
		if diff := cmp.Diff(theirs, ours); diff != "" {
			t.Fatalf("git diff-tree says otherwise (-git +ours):\n%s", diff)
		}
		last := len(hashes) - 1
		for _, i := range []int{0, last / 2} {
			got, err := h.Between(ctx, hashes[i], hashes[last])
			if err != nil {
				t.Fatal(err)
			}
			slices.Sort(got)
			want := strings.Fields(p.git(t, "", "rev-list", "--topo-order", hashes[last], "^"+hashes[i]))
			if slices.Sort(want); !slices.Equal(got, want) {
				t.Fatalf("between: %v, and git has %v", got, want)
			}
			bases, err := h.MergeBases(ctx, hashes[i], hashes[last])
			if err != nil {
				t.Fatal(err)
			}
			theirs := strings.Fields(p.git(t, "", "merge-base", "--all", hashes[i], hashes[last]))
			if slices.Sort(theirs); !slices.Equal(bases, theirs) {
				t.Fatalf("merge bases: %v, and git has %v", bases, theirs)
			}
		}
	}
}

// treeOf is the tree that a commit's bytes name.
func (p *pen) treeOf(t testing.TB, h *History, commit string) string {
	t.Helper()
	data, err := h.Commit(t.Context(), commit)
	if err != nil {
		t.Fatal(err)
	}
	return string(data[len("tree "):45])
}

func FuzzHistory(f *testing.F) {
	dir := f.TempDir()
	for i := range 4 { // long enough to draw a whole history from: a shorter one is skipped
		seed := make([]byte, 1<<16)
		_, _ = rand.NewChaCha8([32]byte{byte(i)}).Read(seed)
		f.Add(seed)
	}
	f.Fuzz(rapid.MakeFuzz(func(t *rapid.T) {
		d := histories().Draw(t, "history")
		at, err := os.MkdirTemp(dir, "")
		must(err)
		defer os.RemoveAll(at)
		p := &pen{filepath.Join(at, "pen.git")}
		must(initClone(p.dir))
		hashes := d.write(p)
		lawOfHistory(t, d, hashes, func() *History {
			r, err := OpenRepository(p.dir)
			must(err)
			return r.History()
		})
	}))
}

func TestCrissCross(t *testing.T) {
	t.Parallel()
	p := newPen(t)
	tree := p.tree()
	base := p.commit(tree, 5)
	a, b := p.commit(tree, 9, base), p.commit(tree, 1, base)
	left, right := p.commit(tree, 3, a, b), p.commit(tree, 4, b, a)
	other := p.commit(tree, 77)
	h := historyOf(t, p.dir)
	want := []string{a, b}
	slices.Sort(want)
	for _, c := range []struct {
		a, b string
		want []string
	}{
		{left, right, want}, {left, left, []string{left}}, {left, a, []string{a}}, {a, b, []string{base}}, {left, other, nil},
	} {
		if got, err := h.MergeBases(t.Context(), c.a, c.b); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%v, %v; want %v", got, err, c.want)
		}
	}
	if got, err := h.Between(t.Context(), left, right); err != nil || !slices.Equal(got, []string{right}) {
		t.Errorf("between = %v, %v", got, err)
	}
}

// TestBetweenReadsNothingOld: the cost of a bump must not grow with the
// history behind it.
func TestBetweenReadsNothingOld(t *testing.T) {
	t.Parallel()
	p := newPen(t)
	tree := p.tree()
	accepted := p.commit(tree, 1, strings.Repeat("ab", 20)) // whose parent is not even there
	side := p.commit(tree, 2, accepted)
	head := p.commit(tree, 3, p.commit(tree, 4, accepted), side)
	h := historyOf(t, p.dir)
	if got, err := h.Between(t.Context(), accepted, head); err != nil || len(got) != 3 {
		t.Fatalf("%v, %v", got, err)
	}
	// Once something beside it is reached, only all of it can tell.
	beside := p.commit(tree, 5, head, p.commit(tree, 6))
	if _, err := h.Between(t.Context(), accepted, beside); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("a history that is not whole: %v", err)
	}
}

// TestNothingBesideTheObjectsCounts: what git lets people lay over a history
// changes what git shows, and nothing here.
func TestNothingBesideTheObjectsCounts(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	evil := o.commit("a.hcl", "evil\n")
	o.git("update-ref", "refs/heads/evil", evil)
	o.git("checkout", "-q", "--orphan", "good")
	first := o.commit("a.hcl", "1\n")
	second := o.commit("a.hcl", "2\n")
	third := o.commit("a.hcl", "3\n")
	o.git("update-ref", "refs/heads/main", third)
	o.git("update-ref", "refs/heads/mending", o.git("commit-tree", "-m", "other parents", "-p", first, third+"^{tree}"))
	o.git("replace", third, "mending")
	o.git("replace", o.git("rev-parse", first+":a.hcl"), o.git("rev-parse", evil+":a.hcl"))
	s := follow(t, o.dir)
	head(t, s, "", third)
	want := o.git("log", "--format=%P", "-1", third)
	if want == second {
		t.Fatal("git does not replace the commit, so this test tests nothing")
	}
	dirs := []string{filepath.Join(o.dir, ".git"), s.o.Dir}
	for _, dir := range dirs {
		for name, text := range map[string]string{"info/grafts": second + " " + evil + "\n", "shallow": second + "\n"} {
			must(os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o700))
			must(os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
		}
	}
	must(os.MkdirAll(filepath.Join(s.o.Dir, "refs/replace"), 0o700))
	must(os.WriteFile(filepath.Join(s.o.Dir, "refs/replace", third), []byte(first+"\n"), 0o600))
	for name, h := range map[string]*History{"repository": historyOf(t, o.dir), "source": s.History(), "source, opened again": open(t, s.o).History()} {
		t.Run(name, func(t *testing.T) {
			got, err := h.Between(t.Context(), "", third)
			if err != nil || !slices.Equal(got, []string{first, second, third}) {
				t.Errorf("between = %v, %v", got, err)
			}
			fsys, err := h.Tree(t.Context(), first)
			if err != nil {
				t.Fatal(err)
			}
			content(t, fsys, "a.hcl", "1\n")
			data, err := h.Commit(t.Context(), third)
			if err != nil || !strings.Contains(string(data), "parent "+second+"\n") {
				t.Errorf("%s, %v", data, err)
			}
			changes, err := h.Changed(t.Context(), "", first)
			if err != nil || len(changes) != 1 || changes[0].New.Blob != p1(t, "1\n") {
				t.Errorf("%v, %v", changes, err)
			}
		})
	}
}

func p1(t testing.TB, body string) string { return newPen(t).object("blob", []byte(body)) }

// TestTheCloneHasNoAlternates: objects that lie elsewhere may be gone or be
// others tomorrow.
func TestTheCloneHasNoAlternates(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	first := o.commit("a.hcl", "1\n")
	s := follow(t, o.dir)
	head(t, s, "", first)
	elsewhere := newPen(t)
	c := elsewhere.commit(elsewhere.tree(), 5)
	must(os.MkdirAll(filepath.Join(s.o.Dir, "objects/info"), 0o700))
	must(os.WriteFile(filepath.Join(s.o.Dir, "objects/info/alternates"), []byte(filepath.Join(elsewhere.dir, "objects")+"\n"), 0o600))
	s = open(t, s.o)
	if _, err := s.History().Commit(t.Context(), c); !errors.Is(err, ErrUnknown) {
		t.Errorf("a commit of an alternate: %v", err)
	}
	if _, err := s.History().Commit(t.Context(), first); err != nil {
		t.Error(err)
	}
}

func TestAHistoryThatIsDamaged(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"commit", "tree"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			o := newOrigin(t)
			first := o.commit("prod/a.hcl", "1\n")
			second := o.commit("prod/a.hcl", "2\n")
			third := o.commit("prod/a.hcl", "3\n")
			s := follow(t, o.dir)
			head(t, s, "", third)
			dir := s.o.Dir
			loosen(t, dir)
			victim, other := second, first
			if what == "tree" {
				victim, other = o.git("rev-parse", second+":prod"), o.git("rev-parse", first+":prod")
			}
			overwrite(t, loosePath(dir, victim), func([]byte) []byte {
				data, err := os.ReadFile(loosePath(dir, other))
				must(err)
				return data
			})
			s.Close()
			s = open(t, s.o)
			ask := func() error {
				if what == "commit" {
					_, err := s.History().Between(t.Context(), first, third)
					return err
				}
				_, err := s.History().Changed(t.Context(), first, second)
				return err
			}
			if err := ask(); !errors.Is(err, ErrCorrupt) || errors.Is(err, trust.ErrUnfit) {
				t.Fatalf("%s exchanged: %v", what, err)
			}
			head(t, s, first, third) // heals
			if err := ask(); err != nil {
				t.Errorf("after healing: %v", err)
			}
		})
	}
}

// TestWhatNoHostTakes: such a commit is refused as what it is. It does no harm
// to the clone, which would be made anew for ever, and none to what is asked
// about others.
func TestWhatNoHostTakes(t *testing.T) {
	t.Parallel()
	for name, tree := range map[string]func(p *pen) string{
		"a forbidden name": func(p *pen) string {
			return p.tree(penEntry{"40000 prod", p.tree(penEntry{"100644 .git", p.object("blob", nil)})})
		},
		"a mode that git does not write": func(p *pen) string { return p.tree(penEntry{"040000 prod", p.tree()}) },
		"a file for a folder":            func(p *pen) string { return p.tree(penEntry{"40000 prod", p.object("blob", nil)}) },
		"too deep": func(p *pen) string {
			h := p.tree(penEntry{"100644 x", p.object("blob", nil)})
			for range maxDepth + 1 {
				h = p.tree(penEntry{"40000 d", h})
			}
			return h
		},
		"too many paths": func(p *pen) string {
			h := p.tree(penEntry{"100644 x", p.object("blob", nil)})
			for range 20 {
				h = p.tree(penEntry{"40000 a", h}, penEntry{"40000 b", h}, penEntry{"40000 c", h})
			}
			return h
		},
		"too many empty folders": func(p *pen) string {
			h := p.tree()
			for range 40 {
				h = p.tree(penEntry{"40000 a", h}, penEntry{"40000 b", h})
			}
			return h
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPen(t)
			good := p.files(map[string]string{"prod/a.hcl": "100644 1"})
			first := p.commit(good, 1)
			p.branch("main", first)
			s := follow(t, p.dir)
			head(t, s, "", first)
			p.dir = s.o.Dir // not every way into the clone lets such objects pass
			bad := p.commit(tree(p), 2, first)
			last := p.commit(good, 3, bad)
			h := s.History()
			for _, pair := range [][2]string{{first, bad}, {bad, last}, {"", bad}} {
				_, err := h.Changed(t.Context(), pair[0], pair[1])
				if !errors.Is(err, trust.ErrUnfit) {
					t.Fatalf("changed: %v", err)
				}
				if !strings.Contains(err.Error(), short(pair[1])) {
					t.Errorf("which commit? %v", err)
				}
			}
			if _, err := s.current(); err != nil {
				t.Errorf("the clone counts as damaged: %v", err)
			}
			if got, err := h.Changed(t.Context(), first, last); err != nil || len(got) != 0 {
				t.Errorf("what is on both sides of it: %v, %v", got, err)
			}
		})
	}
}

func TestAHistoryEndsWithItsContext(t *testing.T) {
	t.Parallel()
	p := newPen(t)
	c := p.commit(p.tree(), 1)
	h := historyOf(t, p.dir)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("the pass has ended")
	cancel(why)
	_, between := h.Between(ctx, "", c)
	_, bases := h.MergeBases(ctx, c, c)
	_, commit := h.Commit(ctx, c)
	_, tree := h.Tree(ctx, c)
	_, changed := h.Changed(ctx, "", c)
	for i, err := range []error{between, bases, commit, tree, changed} {
		if !errors.Is(err, why) {
			t.Errorf("%d: %v", i, err)
		}
	}
}

func TestAHistorySaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.commit("a.hcl", "1\n")
	last := o.commit("a.hcl", "2\n")
	s := follow(t, o.dir)
	head(t, s, "", last)
	unknown := strings.Repeat("ab", 20)
	for _, err := range []error{
		second(s.History().Between(t.Context(), unknown, last)),
		second(s.History().Changed(t.Context(), unknown, last)),
		second(s.History().Commit(t.Context(), "HEAD")),
	} {
		if !errors.Is(err, ErrUnknown) {
			t.Errorf("%v", err)
		}
	}
	if _, err := s.current(); err != nil {
		t.Errorf("an unknown commit is no damage: %v", err)
	}
	shallow := filepath.Join(t.TempDir(), "shallow")
	run(t, "", "git", "clone", "-q", "--depth", "1", "file://"+o.dir, shallow)
	_, err := historyOf(t, shallow).Between(t.Context(), "", last)
	if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "git fetch --unshallow") {
		t.Errorf("a shallow repository: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

// TestCommitsThatAreReadTwoWays: one reader of parents decides, so that what
// is walked is what is judged; and it is git's way to read them.
func TestCommitsThatAreReadTwoWays(t *testing.T) {
	t.Parallel()
	p := newPen(t)
	tree := p.tree()
	a, b := p.commit(tree, 1), p.commit(tree, 2)
	who := "author A <a@b> 5 +0000\ncommitter A <a@b> 5 +0000\n"
	for name, text := range map[string]string{
		"plain":                     "tree %t\nparent %a\nparent %b\n%w\nm\n",
		"a parent behind":           "tree %t\nparent %a\n%wparent %b\n\nm\n",
		"a parent after another":    "tree %t\nparent %a\nx y\nparent %b\n%w\nm\n",
		"a parent before":           "parent %a\ntree %t\n%w\nm\n",
		"two trees":                 "tree %t\nparent %a\ntree %t\nparent %b\n%w\nm\n",
		"a tree behind":             "tree %t\nparent %a\n%wtree %t\n\nm\n",
		"a continued parent":        "tree %t\nparent %a\n %b\n%w\nm\n",
		"a NUL":                     "tree %t\nparent %a\n%w\nm\x00\nparent %b\n",
		"a NUL in the headers":      "tree %t\x00\nparent %a\n%w\nm\n",
		"capitals":                  "tree %t\nparent %A\n%w\nm\n",
		"a short parent":            "tree %t\nparent %a\nparent abcd\n%w\nm\n",
		"a long parent":             "tree %t\nparent %a0\n%w\nm\n",
		"CR":                        "tree %t\r\nparent %a\r\n%w\nm\n",
		"twice the same":            "tree %t\nparent %a\nparent %a\n%w\nm\n",
		"tabs":                      "tree %t\nparent\t%a\n%w\nm\n",
		"two spaces":                "tree %t\nparent  %a\n%w\nm\n",
		"in the message":            "tree %t\n%w\nparent %a\n",
		"an empty line between":     "tree %t\n\nparent %a\n%w\nm\n",
		"an author before":          "tree %t\nauthor A <a@b> 5 +0000\nparent %a\n%w\nm\n",
		"an author without a name":  "tree %t\nauthor <> 5 +0000\nparent %a\n%w\nm\n",
		"an author without a thing": "tree %t\nauthor \nparent %a\n%w\nm\n",
		"nothing but parents":       "tree %t\nparent %a\n",
	} {
		text = strings.NewReplacer("%t", tree, "%a", a, "%b", b, "%A", strings.ToUpper(a), "%w", who).Replace(text)
		h := p.object("commit", []byte(text))
		if !lawOfParents(t, []byte(text)) {
			continue
		}
		var want []string
		said := p.git(t, h+"^1\n"+h+"^2\n"+h+"^3\n", "cat-file", "--batch-check=%(objectname)")
		for line := range strings.SplitSeq(said, "\n") {
			if !strings.HasSuffix(line, "missing") {
				want = append(want, line)
			}
		}
		if got, _ := trust.Parents([]byte(text)); !slices.Equal(got, want) {
			t.Errorf("%s: parents %v, and git reads %v", name, got, want)
		}
	}
}

// lawOfParents: a commit that trust takes, the source takes, with the same tree
// and the same parents; and what the source walks are those that trust counts.
func lawOfParents(t testing.TB, data []byte) (walked bool) {
	t.Helper()
	c, err := decodeCommit([20]byte{}, data)
	judged, jerr := trust.ParseCommit(data)
	parents, perr := trust.Parents(data)
	switch {
	case jerr == nil && (err != nil || c.Tree != judged.Tree || !slices.Equal(c.Parents, judged.Parents) || !c.Committer.Time.Equal(judged.Committer.Time)):
		t.Fatalf("judged as %v %v, and walked as %v %v (%v): %q", judged.Tree, judged.Parents, c.Tree, c.Parents, err, data)
	case err == nil && (perr != nil || !slices.Equal(c.Parents, parents)):
		t.Fatalf("walked to %v, and counted %v (%v): %q", c.Parents, parents, perr, data)
	}
	for i, p := range c.parents {
		if err == nil && p.String() != c.Parents[i] {
			t.Fatalf("walks to %s, and says %s", p, c.Parents[i])
		}
	}
	return err == nil
}

func FuzzParents(f *testing.F) {
	h := strings.Repeat("ab", 20)
	who := "author A <a@b> 5 +0000\ncommitter A <a@b> 5 +0000\n"
	for _, s := range []string{
		"tree " + h + "\nparent " + h + "\n" + who + "\nm\n", "tree " + h + "\n" + who + "parent " + h + "\n\nm\n",
		"tree " + h + "\nparent " + h + "\ntree " + h + "\n" + who + "\nm", "tree " + h + "\n" + who + "gpgsig -----BEGIN SSH SIGNATURE-----\n x\n\nm\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) { lawOfParents(t, data) })
}

// FuzzTrees: no tree ends the walk, what is decoded is sorted, unique and
// bounded by its bytes, and a difference to itself is none.
func FuzzTrees(f *testing.F) {
	f.Add(treeOf("100644 a", "40000 b"), treeOf("100755 a", "100644 b"))
	f.Add(treeOf("120000 a", "160000 b"), []byte{})
	f.Add(treeOf("100644 ..", "40000 .git"), []byte("100644 a"))
	f.Fuzz(func(t *testing.T, one, two []byte) {
		a, aerr := decodeTree(one)
		b, berr := decodeTree(two)
		if aerr != nil || berr != nil {
			return
		}
		if len(a) > len(one)/27 {
			t.Fatal("more entries than bytes for them")
		}
		d := &difference{ctx: t.Context(), objects: &objects{limit: 1, cache: newBaseCache(1)}, trees: &treeCache{}}
		if err := d.folders("", a, a, 0); err != nil || len(d.changes) > 0 {
			t.Fatalf("from itself: %v %v", d.changes, err)
		}
		plain := func(t tree) (out tree) {
			for _, n := range t {
				if !n.mode.IsDir() {
					out = append(out, n)
				}
			}
			return out
		}
		a, b = plain(a), plain(b)
		must(d.folders("", a, b, 0))
		names := map[string]bool{}
		for _, c := range d.changes {
			was, _ := a.find(c.Path)
			is, _ := b.find(c.Path)
			if names[c.Path] || entryOf(was) != c.Old || entryOf(is) != c.New || c.Old == c.New || !fs.ValidPath(c.Path) {
				t.Fatalf("%+v of %v and %v", c, was, is)
			}
			names[c.Path] = true
		}
		for _, n := range append(slices.Clone(a), b...) {
			was, _ := a.find(n.name)
			is, _ := b.find(n.name)
			if names[n.name] != (entryOf(was) != entryOf(is)) {
				t.Fatalf("%q: %v, %v", n.name, was, is)
			}
		}
	})
}

// TestWhatIsTooLargeSaysWhatToDo: wherever in the history it is.
func TestWhatIsTooLargeSaysWhatToDo(t *testing.T) {
	t.Parallel()
	deep := func(p *pen) string {
		h := p.tree(penEntry{"100644 x", p.object("blob", nil)})
		for range maxDepth + 1 {
			h = p.tree(penEntry{"40000 d", h})
		}
		return h
	}
	large := func(p *pen) string {
		text := noise(5000)
		return p.tree(penEntry{"100644 a", p.object("blob", []byte(text))}, penEntry{"100644 b", p.object("blob", []byte(text+"more\n"))})
	}
	for name, c := range map[string]struct {
		tree     func(p *pen) string
		at, back bool // at the head; behind it
		git      bool // through a server
		want     string
	}{
		"deep, a path":            {deep, true, false, false, "more than 64 deep"},
		"deep, behind, a path":    {deep, false, true, false, "in every commit of the branch"},
		"deep, a server":          {deep, true, false, true, "git filter-repo"},
		"large, a server":         {large, true, false, true, "git filter-repo"},
		"large, behind, a server": {large, false, true, true, "git filter-repo"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPen(t)
			good, bad := p.files(map[string]string{"a.hcl": "100644 1"}), c.tree(p)
			if c.back {
				good, bad = bad, good
			}
			tip := p.commit(bad, 2, p.commit(good, 1))
			p.branch("main", tip)
			url := p.dir
			if c.git {
				p.git(t, "", "repack", "-adfq")
				url = gitDaemon(t, filepath.Dir(p.dir)) + filepath.Base(p.dir)
			}
			err := refuse(t, follow(t, url, func(o *Options) { o.MaxObject = 4000 }), "", ErrTooLarge)
			if !strings.Contains(err.Error(), c.want) || errors.Is(err, ErrCorrupt) || strings.Contains(err.Error(), "fsck") {
				t.Errorf("%v", err)
			}
		})
	}
	// Behind the head, and from a server that packs it so, it is in nobody's way.
	p := newPen(t)
	tip := p.commit(p.tree(), 2, p.commit(deep(p), 1))
	p.branch("main", tip)
	head(t, follow(t, gitDaemon(t, filepath.Dir(p.dir))+filepath.Base(p.dir)), "", tip)
}
