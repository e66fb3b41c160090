package hostagent

import (
	"context"
	"io/fs"
	"maps"
	"slices"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"drydock/reconcile"
	"drydock/reconcile/trust"
)

// shuffled is a tree whose folders list their files in another order than by name.
type shuffled struct {
	fstest.MapFS
	order func([]fs.DirEntry)
}

func (s shuffled) ReadDir(name string) ([]fs.DirEntry, error) {
	list, err := s.MapFS.ReadDir(name)
	s.order(list)
	return list, err
}

// No further file ever closes a gate that was open, and their order means nothing.
func TestFurtherFilesCloseNothing(t *testing.T) {
	declarations := []string{declared("web", "2", two), declared("web", "2", one), declared("web", "2", ""),
		declared("web", "2", one+"\n  migrate \"command\" {\n    command = [\"m\"]\n    check = [\"c\"]\n    requires = [\"seen\"]\n  }")}
	rapid.Check(t, func(rt *rapid.T) {
		s := newScene(t)
		s.files["prod/web.hcl"] = rapid.SampledFrom(declarations).Draw(rt, "declaration")
		s.policy.Approvals = map[string]int{"prod": rapid.IntRange(0, 2).Draw(rt, "floor")}
		if rapid.Bool().Draw(rt, "override") {
			s.files["prod/o.hcl"] = "override \"x\" {\n  skip = [\"approval-expiry\"]\n  until = \"2026-12-30T00:00:00Z\"\n}\n"
		}
		switch rapid.IntRange(0, 2).Draw(rt, "past") {
		case 1:
			s.ran("1", two)
		case 2:
			s.ran("2", one)
			s.ran("3", two)
		}
		w, tree := wanted(t, s.files)
		about := trust.SubjectOf(serviceIn(t, w, "web"))
		sign := func(label string) {
			st := trust.Statement{Kind: trust.Approval, Subject: about, Expires: taken.Add(time.Duration(rapid.IntRange(-3, 3).Draw(rt, label+" days")) * day)}
			if rapid.IntRange(0, 3).Draw(rt, label+" attests") == 0 {
				st.Kind, st.Name = trust.Attestation, rapid.SampledFrom([]string{"seen", "other"}).Draw(rt, label+" what")
			}
			if rapid.IntRange(0, 5).Draw(rt, label+" of another") == 0 {
				st.Spec = about.Digest[len("sha256:"):]
			}
			files := map[string]string{}
			statement(t, files, rapid.SampledFrom([]string{"alice@acme", "alice@acme 2", "bob@acme", "carol@acme", "ci@acme", "bob@acme,carol@acme", "dan@acme"}).Draw(rt, label), st)
			for p, text := range files {
				if rapid.IntRange(0, 9).Draw(rt, label+" broken") == 0 {
					text = text[:len(text)-3]
				}
				tree[p] = &fstest.MapFile{Data: []byte(text), Mode: 0o644}
			}
		}
		for range rapid.IntRange(0, 5).Draw(rt, "signed") {
			sign("who")
		}
		p := s.plan("web", w)
		around := reconcile.Surroundings{Now: taken, Wanted: w, Memory: *s.memory}
		gate := func(fsys fs.FS) reconcile.Gate {
			c := &consents{trust: &Trust{Policy: s.policy, Keys: s.keys}, env: "prod", now: func() time.Time { return taken }}
			return c.read(context.Background(), Snapshot{Commit: "c0ffee", FS: fsys}, w, *s.memory).Gate(p, around)
		}
		before := gate(maps.Clone(tree))
		turned := gate(shuffled{tree, slices.Reverse[[]fs.DirEntry]})
		before.Reason, turned.Reason = "", "" // which of two equal files is named is anybody's guess
		if diff := cmp.Diff(before, turned); diff != "" {
			rt.Fatalf("another order says something else:\n%s", diff)
		}
		sign("further")
		if after := gate(tree); before.Open() && !after.Open() {
			rt.Fatalf("a further file closed it: %s", after.Reason)
		}
	})
}
