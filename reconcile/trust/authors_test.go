package trust

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"drydock/spec"
)

// stateOf is the declaration by a commit, as the files of the rig have it: what
// stands in prod/web.hcl and in the locals beside it, but the release.
func stateOf(r *repo) func(context.Context, string) (string, error) {
	return func(_ context.Context, commit string) (string, error) {
		c := r.commits[commit]
		if c == nil {
			return "", errNoObject
		}
		return fmt.Sprint(c.tree["prod/spec.hcl"].Blob), nil
	}
}

func spelled(n int) string { return fmt.Sprintf("locals {\n  n = %d\n}\n", n) }

// bumped is the message of a bump that says what it carries.
func bumped(key, from, to string, emails ...string) option {
	text := fmt.Sprintf("a bump\n\nDrydock-Release: %s %s %s -\n", key, from, to)
	for _, e := range emails {
		text += "Drydock-Change: web 0c1f 2026-11-20T10:00:00Z " + e + " - mend it\n"
	}
	return says_(text)
}

func TestAuthors(t *testing.T) {
	ci := by("ci@acme")
	at := func(v string) files { return files{"prod/web.hcl": service("web", v)} }
	for _, row := range []struct {
		name string
		// make adds commits on the one by which the host took web 1.1, and
		// returns the wanted one.
		make   func(r *repo, from string) string
		want   []string
		spec   bool // the declaration differs too
		back   bool
		nobody bool // took it here before
	}{
		{"one bump", func(r *repo, from string) string {
			return r.on(from, at("1.2"), ci, bumped("prod/web", "1.1", "1.2", "ann@acme", "ben@acme", "ann@acme"))
		}, []string{"ann@acme", "ben@acme"}, false, false, false},
		{"each bump of the batch", func(r *repo, from string) string {
			a := r.on(from, at("1.2"), ci, bumped("prod/web", "1.1", "1.2", "ann@acme"))
			b := r.on(a, files{"prod/api.hcl": service("api", "1.2")}, ci, bumped("prod/api", "1.1", "1.2", "api@acme"))
			return r.on(b, at("1.3"), ci, bumped("prod/web", "1.2", "1.3", "ben@acme"))
		}, []string{"ann@acme", "ben@acme"}, false, false, false},
		{"another environment's", func(r *repo, from string) string {
			a := r.on(from, files{"staging/web.hcl": service("web", "1.2")}, ci, bumped("staging/web", "1.1", "1.2", "ann@acme"))
			return r.on(a, at("1.2"), ci, bumped("prod/web", "1.1", "1.2", "ben@acme"))
		}, []string{"ben@acme"}, false, false, false},
		{"two services in one commit", func(r *repo, from string) string {
			return r.on(from, at("1.2"), ci, says_("b\n\nDrydock-Release: prod/web 1.1 1.2 -\nDrydock-Release: prod/api 1 2 -\nDrydock-Change: web 0 t ann@acme - x\nDrydock-Change: api 0 t ben@acme - x\n"))
		}, []string{"ann@acme"}, false, false, false},
		{"a bump that names no change", func(r *repo, from string) string { return r.on(from, at("1.2"), ci, bumped("prod/web", "1.1", "1.2")) }, []string{"ci@acme"}, false, false, false},
		{"a release moved by hand", func(r *repo, from string) string { return r.on(from, at("1.2"), by("bob@acme")) }, []string{"bob@acme"}, false, false, false},
		{"trailers of another release", func(r *repo, from string) string {
			return r.on(from, at("1.2"), by("bob@acme"), bumped("prod/web", "1.1", "1.9", "ann@acme"))
		}, []string{"ann@acme", "bob@acme"}, false, false, false},
		{"a way back", func(r *repo, from string) string {
			return r.on(from, at("1.0"), by("bob@acme"), bumped("prod/web", "1.1", "1.0"))
		}, nil, false, true, false},
		{"a release moved with its file", func(r *repo, from string) string {
			return r.on(from, files{"prod/web.hcl": gone, "prod/w.hcl": service("web", "1.2")}, by("bob@acme"))
		}, []string{"bob@acme"}, false, false, false},
		{"a file that moved", func(r *repo, from string) string {
			a := r.on(from, files{"prod/web.hcl": gone, "prod/w.hcl": service("web", "1.1")}, by("bob@acme"))
			return r.on(a, files{"prod/w.hcl": service("web", "1.2")}, ci, bumped("prod/web", "1.1", "1.2", "ann@acme"))
		}, []string{"ann@acme"}, false, false, false},
		{"a release that is no plain value", func(r *repo, from string) string {
			return r.on(from, files{"prod/web.hcl": strings.Replace(service("web", "1.2"), `"1.2"`, `("1.2")`, 1)}, by("bob@acme"))
		}, []string{"bob@acme"}, false, false, false},
		{"a change of the declaration", func(r *repo, from string) string {
			return r.on(from, files{"prod/spec.hcl": spelled(2)}, by("bob@acme"))
		}, []string{"bob@acme"}, true, false, false},
		{"changes of other declarations", func(r *repo, from string) string {
			a := r.on(from, files{"prod/other.hcl": spelled(2)}, by("carol@acme"))
			b := r.on(a, files{"staging/spec.hcl": spelled(2)}, by("carol@acme"))
			c := r.on(b, files{"prod/spec.hcl": spelled(2)}, by("bob@acme"))
			return r.on(c, files{"README.md": "x"}, by("carol@acme"))
		}, []string{"bob@acme"}, true, false, false},
		{"at the root", func(r *repo, from string) string {
			return r.on(from, files{"prod/spec.hcl": spelled(2), "profiles.hcl": spelled(2)}, by("bob@acme"))
		}, []string{"bob@acme"}, true, false, false},
		{"on a branch, and merged", func(r *repo, from string) string {
			a := r.on(from, files{"prod/spec.hcl": spelled(2)}, by("bob@acme"))
			b := r.on(from, files{"README.md": "x"}, by("carol@acme"))
			return r.merge(b, a, nil, unsigned())
		}, []string{"bob@acme"}, true, false, false},
		{"a merge that changes it besides", func(r *repo, from string) string {
			a := r.on(from, files{"prod/spec.hcl": spelled(2)}, by("bob@acme"))
			b := r.on(from, files{"README.md": "x"}, by("ci@acme"))
			return r.merge(b, a, files{"prod/spec.hcl": spelled(3)}, by("carol@acme"))
		}, []string{"bob@acme", "carol@acme"}, true, false, false},
		{"whom an unsigned commit names", func(r *repo, from string) string {
			return r.on(from, files{"prod/spec.hcl": spelled(2)}, unsigned())
		}, []string{"nobody@acme"}, true, false, false},
		{"whoever vouched for it", func(r *repo, from string) string {
			a := r.on(from, files{"prod/spec.hcl": spelled(2)}, unsigned())
			return r.on(a, nil, by("bob@acme"), vouching(a))
		}, []string{"bob@acme", "nobody@acme"}, true, false, false},
		{"whoever vouched for another commit", func(r *repo, from string) string {
			a := r.on(from, files{"README.md": "x"}, unsigned())
			b := r.on(a, files{"prod/spec.hcl": spelled(2)}, by("carol@acme"))
			return r.on(b, nil, by("bob@acme"), vouching(a))
		}, []string{"carol@acme"}, true, false, false},
		{"on a new host", func(r *repo, from string) string {
			a := r.on(from, files{"prod/spec.hcl": spelled(2)}, by("carol@acme"))
			b := r.on(a, files{"prod/spec.hcl": spelled(3)}, by("bob@acme"))
			c := r.on(b, at("1.2"), ci, bumped("prod/web", "1.1", "1.2", "ann@acme"))
			d := r.on(c, at("1.3"), ci, bumped("prod/web", "1.2", "1.3", "ben@acme"))
			return r.on(d, files{"README.md": "x"})
		}, []string{"ben@acme", "bob@acme"}, true, false, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := newRepo(t)
			root := r.on("", files{"prod/web.hcl": service("web", "1.0"), "prod/spec.hcl": spelled(1)})
			from := r.on(root, at("1.1"), bumped("prod/web", "1.0", "1.1", "old@acme"))
			b := Batch{Environment: "prod", Service: "web", Version: "1.2", From: from, To: row.make(r, from), Back: row.back, At: noon}
			if row.spec {
				b.State = stateOf(r)
			}
			if row.nobody {
				b.From, b.Version = "", "1.3"
			}
			w := &Writers{History: r, Keys: &ring{}}
			for range 2 { // what it remembers changes nothing
				got, err := w.Authors(t.Context(), b)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(row.want, got); diff != "" {
					t.Fatal(diff)
				}
			}
		})
	}
}

// More than can be looked at counts as changed: whoever floods the history with
// commits hides nobody behind them.
func TestAuthorsAreNotHiddenByMany(t *testing.T) {
	r := newRepo(t)
	from := r.on("", files{"prod/spec.hcl": spelled(1)})
	to := r.on(from, files{"prod/spec.hcl": spelled(2)}, by("bob@acme"))
	for i := range maxStates + 5 {
		to = r.on(to, files{"prod/other.hcl": spelled(i)}, by("carol@acme"))
	}
	asked := 0
	b := Batch{Environment: "prod", Service: "web", From: from, To: to, At: noon, State: func(ctx context.Context, c string) (string, error) {
		asked++
		return stateOf(r)(ctx, c)
	}}
	got, err := (&Writers{History: r, Keys: &ring{}}).Authors(t.Context(), b)
	if err != nil || !slices.Equal(got, []string{"bob@acme", "carol@acme"}) || asked > 2*maxStates {
		t.Fatalf("%v, %v, asked %d times", got, err, asked)
	}
}

// Who makes a service, below any number of commits that say nothing, is its
// author also on a host that never took it.
func TestAuthorsOfWhatIsNew(t *testing.T) {
	r := newRepo(t)
	from := r.on("", files{"README.md": "x"})
	to := r.on(from, files{"prod/web.hcl": service("web", "1.0")}, by("bob@acme"))
	to = r.on(to, files{"prod/spec.hcl": spelled(1)}, by("dan@acme"))
	for range maxAlone + 5 {
		to = r.on(to, nil, by("carol@acme"))
	}
	for i := range maxStates + 5 {
		to = r.on(to, files{"prod/other.hcl": spelled(i)}, by("carol@acme"))
	}
	b := Batch{Environment: "prod", Service: "web", Version: "1.0", To: to, At: noon, State: stateOf(r)}
	got, err := (&Writers{History: r, Keys: &ring{}}).Authors(t.Context(), b)
	if err != nil || !slices.Equal(got, []string{"bob@acme", "carol@acme", "dan@acme"}) {
		t.Fatal(got, err)
	}
}

// endless is a history of more commits than anybody reads.
type endless struct {
	History
	last string
}

func (e endless) Between(context.Context, string, string) ([]string, error) {
	return slices.Repeat([]string{e.last}, maxBatch+1), nil
}

func TestAuthorsBehindMoreThanIsRead(t *testing.T) {
	r := newRepo(t)
	from := r.on("", files{"prod/web.hcl": service("web", "1.0"), "prod/spec.hcl": spelled(1)})
	b := Batch{Environment: "prod", Service: "web", Version: "1.0", From: from, To: r.on(from, nil, by("carol@acme")), At: noon}
	w := &Writers{History: endless{r, from}, Keys: &ring{}}
	made, err := w.Authors(t.Context(), b)
	if err != nil || !slices.Contains(made, Anybody) {
		t.Fatal(made, err)
	}
	d := policy().Approve(Ask{Kind: Approval, Subject: web, Rules: []spec.Approval{{Required: 1, From: []string{"alice@acme"}}}, Authors: []string{Anybody}, Now: noon},
		[]SignedStatement{{Statement: Statement{Kind: Approval, Subject: web, Expires: noon.Add(time.Hour)}, Principals: []string{"alice@acme"}, Key: "k", File: "f"}})
	if d.Granted || !strings.Contains(d.Why, "more commits have come than are read") || len(d.Authors) > 0 {
		t.Fatalf("%+v", d)
	}
}

// Whose key has gone since is still the author, whoever the commit names.
func TestAuthorsByKeysThatHaveGone(t *testing.T) {
	r := newRepo(t)
	from := r.on("", files{"prod/spec.hcl": spelled(1)})
	to := r.on(from, files{"prod/spec.hcl": spelled(2)}, by("bob@acme"), dated(noon.AddDate(0, -1, 0)), before(func(s string) string { return strings.ReplaceAll(s, "<bob@acme>", "<carol@acme>") }))
	w := &Writers{History: r, Keys: &ring{until: map[string]time.Time{"bob@acme": noon.AddDate(0, 0, -1)}}}
	got, err := w.Authors(t.Context(), Batch{Environment: "prod", Service: "web", From: from, To: to, At: noon, State: stateOf(r)})
	if err != nil || !slices.Equal(got, []string{"bob@acme"}) {
		t.Fatal(got, err)
	}
}

// Where the store fails nobody knows who made it; that is no answer.
func TestAuthorsOfABrokenStore(t *testing.T) {
	r := newRepo(t)
	from := r.on("", files{"prod/spec.hcl": spelled(1)})
	to := r.on(from, files{"prod/spec.hcl": spelled(2)})
	broken := errors.New("input/output error")
	for name, b := range map[string]Batch{
		"a commit that is gone": {From: from, To: hash([]byte("x"))},
		"no declaration":        {From: from, To: to, State: func(context.Context, string) (string, error) { return "", broken }},
	} {
		b.Environment, b.Service, b.At = "prod", "web", noon
		if got, err := (&Writers{History: r, Keys: &ring{}}).Authors(t.Context(), b); err == nil {
			t.Errorf("%s: %v", name, got)
		}
	}
}
