package trust

import (
	"context"
	"fmt"
	"io/fs"
	"sort"
	"testing"
	"testing/fstest"
)

// line is a history of bumps, one after another, of a repository with many
// files, at the cost that a good store has: by path, not by tree.
type line struct {
	*repo
	place map[string]int
	order []string
	paths map[string][]int    // path -> places of the commits that changed it
	texts map[string][]string // what they wrote
	delta []Change
}

func newLine(b *testing.B, services, bumps int) *line {
	l := &line{repo: newRepo(b), place: map[string]int{}, paths: map[string][]int{}, texts: map[string][]string{}}
	version := map[string]int{}
	write := func(parent, path, text string, o ...option) string {
		was := Entry{}
		if n := len(l.texts[path]); n > 0 {
			was = l.entry(l.texts[path][n-1])
		}
		var parents []string
		if parent != "" {
			parents = []string{parent}
		}
		h := l.repo.make(parents, nil, o...)
		i := len(l.order)
		l.place[h], l.order = i, append(l.order, h)
		l.paths[path], l.texts[path] = append(l.paths[path], i), append(l.texts[path], text)
		l.delta = append(l.delta, Change{path, was, l.entry(text)})
		return h
	}
	head := ""
	path := func(i int) string { return fmt.Sprintf("staging/team-%d/s%d.hcl", i%50, i) }
	for i := range services {
		head = write(head, path(i), service(fmt.Sprint("s", i), "0"), unsigned())
	}
	for i := range bumps {
		p := i * 7 % services
		name := fmt.Sprint("s", p)
		version[name]++
		head = write(head, path(p), service(name, fmt.Sprint(version[name])), ci)
	}
	return l
}

type lineFS struct {
	l *line
	i int
}

func (f lineFS) Open(name string) (fs.File, error) {
	at := f.l.paths[name]
	k := sort.SearchInts(at, f.i+1) - 1
	if k < 0 {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return fstest.MapFS{name: {Data: []byte(f.l.texts[name][k])}}.Open(name)
}

func (l *line) Tree(_ context.Context, h string) (fs.FS, error) { return lineFS{l, l.place[h]}, nil }

func (l *line) Changed(_ context.Context, _, new string) ([]Change, error) {
	return l.delta[l.place[new] : l.place[new]+1], nil
}

func (l *line) Between(_ context.Context, accepted, head string) ([]string, error) {
	from := 0
	if accepted != "" {
		from = l.place[accepted] + 1
	}
	return l.order[min(from, l.place[head]+1) : l.place[head]+1], nil
}

// A thousand new commits of a repository of 10,000 files: what the rules cost
// beside the cryptography.
func BenchmarkJudge(b *testing.B) {
	const services, bumps = 10_000, 1_000
	l := newLine(b, services, bumps)
	accepted, head := l.order[services-1], l.order[len(l.order)-1]
	judge := func(b *testing.B, past *Past) {
		j := &Judge{Policy: policy(), Keys: &ring{}, History: l, Past: past}
		if v, err := j.Judge(b.Context(), accepted, head, noon); err != nil || v.Commits != bumps {
			b.Fatal(v, err)
		}
	}
	b.Run("1000 commits", func(b *testing.B) {
		past := &Past{}
		if err := past.Learn(b.Context(), l, accepted); err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			judge(b, past)
		}
	})
	b.Run("after a start, with 10000 behind", func(b *testing.B) {
		for b.Loop() {
			judge(b, &Past{})
		}
	})
	b.Run("nothing new", func(b *testing.B) {
		j := &Judge{Policy: policy(), Keys: &ring{}, History: l}
		for b.Loop() {
			if _, err := j.Judge(b.Context(), head, head, noon); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkParseCommit(b *testing.B) {
	raw := []byte(treeLine + parentLine + authorLine + commitLine + sigHeader + "\nsubject\n\nbody\n\nDrydock-Release: a/b 1 2 -\n")
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseCommit(raw); err != nil {
			b.Fatal(err)
		}
	}
}
