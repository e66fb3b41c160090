package trust

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestPolicyCheck(t *testing.T) {
	role := func(name string, people bool, principals ...string) Role {
		return Role{Name: name, Principals: principals, May: []Permission{Any}, People: people}
	}
	one := func(r Role) Policy { return Policy{Roles: []Role{r}} }
	two := func(a, b []string) Policy {
		return Policy{Roles: []Role{role("people", true, a...), role("robots", false, b...)}}
	}
	with := func(change func(*Policy)) Policy { p := policy(); change(&p); return p }
	list := func(s ...string) []string { return s }
	tests := []struct {
		name  string
		p     Policy
		wrong string // "": it can be used
	}{
		{"the usual", policy(), ""},
		{"all of it", with(func(p *Policy) {
			p.Since, p.Approvals, p.Freshness = strings.Repeat("a", 40), map[string]int{"prod": 2}, time.Hour
		}), ""},
		{"two roles without people", Policy{Roles: []Role{role("a", false, "ci"), role("b", false, "ci")}}, ""},
		{"two roles of people", Policy{Roles: []Role{role("a", true, "x"), role("b", true, "x")}}, ""},
		{"a name, and a pattern that fits it", two(list("alice@acme"), list("*@acme")), ""},
		{"a pattern, and a name that fits it", two(list("*@acme"), list("ci@acme")), ""},
		{"patterns that don't meet", two(list("*@acme"), list("*@bots")), ""},
		{"patterns that an exclusion parts", two(list("*@acme", "!ci-*"), list("ci-*@acme")), ""},

		{"no roles", Policy{}, "no role says"},
		{"since is short", with(func(p *Policy) { p.Since = "abc" }), "full commit hash"},
		{"freshness below nothing", with(func(p *Policy) { p.Freshness = -1 }), "freshness"},
		{"a role twice", Policy{Roles: []Role{role("a", false, "x"), role("a", false, "y")}}, "stands twice"},
		{"a role without a name", one(role("", true, "x")), "needs a name"},
		{"nobody in it", one(role("a", true)), "no principals"},
		{"only exclusions", one(role("a", true, "!x")), "no principals"},
		{"nothing allowed", one(Role{Name: "a", Principals: list("x")}), "may is empty"},
		{"an unknown permission", one(Role{Name: "a", Principals: list("x"), May: []Permission{"deploy"}}), `no permission "deploy"`},
		{"an empty principal", one(role("a", true, "")), "no principal"},
		{"a list as one principal", one(role("a", true, "x,y")), "no principal"},
		{"a principal with a space", one(role("a", true, "x y")), "no principal"},
		{"a principal that looks like ASCII", one(role("a", true, "аlice@acme")), "no principal: it has the character U+0430"},
		{"a principal with what nobody sees", one(role("a", true, "al\u200bice@acme")), "no principal: it has the character U+200B"},
		{"a principal with DEL", one(role("a", true, "alice\x7f@acme")), "no principal: it has the character U+007F"},
		{"an environment that is none", one(Role{Name: "a", Principals: list("x"), May: []Permission{Any}, Environments: list("a/b")}), "no environment's name"},
		{"approvals as environment", one(Role{Name: "a", Principals: list("x"), May: []Permission{Any}, Environments: list("approvals")}), "no environment's name"},
		{"a floor nobody reaches", with(func(p *Policy) { p.Approvals = map[string]int{"prod": 9} }), "nothing could ever be approved"},
		{"a floor below nothing", with(func(p *Policy) { p.Approvals = map[string]int{"prod": -1} }), "out of range"},
		{"a name in both", two(list("x", "ci"), list("ci")), `ci is in the people role "people" and in role "robots" too`},
		{"a pattern in both", two(list("*@acme"), list("*@acme")), "whoever fits"},
		{"patterns that meet", two(list("*@acme"), list("ci-*")), "whoever fits *@acme and ci-*"},
		{"patterns that meet in one word", two(list("a?c"), list("?bc")), "whoever fits"},
		{"patterns that meet beside an exclusion", two(list("*@acme", "!ci-1*"), list("ci-*@acme")), "whoever fits"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.p.Check()
			if (err == nil) != (tt.wrong == "") || err != nil && !strings.Contains(err.Error(), tt.wrong) {
				t.Errorf("want %q, got %v", tt.wrong, err)
			}
		})
	}
}

func TestRolesOf(t *testing.T) {
	p := Policy{Roles: []Role{
		{Name: "named", Principals: []string{"ci@bots"}, May: []Permission{Freeze}},
		{Name: "more", Principals: []string{"ci@bots"}, May: []Permission{Bump}},
		{Name: "bots", Principals: []string{"*@bots", "!old*"}, May: []Permission{Any}},
		{Name: "short", Principals: []string{"?@bots"}, May: []Permission{Operate}},
	}}
	for who, want := range map[string]string{
		"ci@bots":      "named more", // and nothing by the pattern
		"cj@bots":      "bots",
		"x@bots":       "bots short",
		"old@bots":     "",
		"ci@bots.evil": "",
		"CI@bots":      "bots", // another principal than ci@bots
		"*@bots":       "",
		"":             "",
	} {
		roles, err := p.rolesOf(who)
		var got []string
		for _, r := range roles {
			got = append(got, r.Name)
		}
		if strings.Join(got, " ") != want || (err == nil) != (want != "") {
			t.Errorf("%q: %v, %v", who, got, err)
		}
	}
}

// What Check cannot see, because an exclusion stands in between, holds when
// somebody comes.
func TestPeopleAndOthersByPatterns(t *testing.T) {
	p := Policy{Roles: []Role{
		{Name: "people", Principals: []string{"*@acme"}, May: []Permission{Any}, People: true},
		{Name: "robots", Principals: []string{"ci-*"}, May: []Permission{Bump}},
	}}
	if roles, err := p.rolesOf("ci-1@acme"); err == nil || !strings.Contains(err.Error(), "too") {
		t.Errorf("%v %v", roles, err)
	}
}

// meet agrees with glob: a word that fits both is found, and if there is one of
// a few letters it is said.
func TestMeetIsGlobTwice(t *testing.T) {
	pattern := rapid.StringMatching(`[ab*?]{0,4}`)
	rapid.Check(t, func(t *rapid.T) {
		a, b := pattern.Draw(t, "a"), pattern.Draw(t, "b")
		found := false
		words := []string{""}
		for len(words[0]) <= 6 && !found {
			var longer []string
			for _, w := range words {
				found = found || glob(a, w) && glob(b, w)
				longer = append(longer, w+"a", w+"b")
			}
			words = longer
		}
		if meet(a, b) != found {
			t.Fatalf("meet(%q, %q) is %v", a, b, !found)
		}
	})
}

// pieces are edits of the world that have nothing to do with each other, and
// what each takes.
func pieces() map[string]string {
	return map[string]string{
		"staging/web.hcl":    service("web", "1.3"),
		"prod/web.hcl":       service("web", "1.0"),
		"prod/freeze.hcl":    "freeze \"x\" {\n}\n",
		"prod/hosts.hcl":     "forgotten \"h\" {\n}\n",
		"prod/js.hcl.json":   strings.Replace(jsonFile, `"1.0"`, `"1.1"`, 1),
		"README.md":          "x",
		"profiles.hcl":       gone,
		"staging/x.hcl":      service("x", "1"),
		"staging/freeze.hcl": "freeze \"x\" {\n}\n",
		"approvals/prod/web/1.2-aaaaaaaaaaaa/00112233445566.sig": "s\n",
	}
}

// shuffled is a history whose changes come in another order.
type shuffled struct {
	*repo
	order func([]Change) []Change
}

func (s shuffled) Changed(ctx context.Context, old, new string) ([]Change, error) {
	c, err := s.repo.Changed(ctx, old, new)
	return s.order(slices.Clone(c)), err
}

func TestLaws(t *testing.T) {
	r := newRepo(t)
	base := world(r)
	ctx := context.Background()
	all := pieces()
	paths := slices.Sorted(maps.Keys(all))
	permission := rapid.SampledFrom(Permissions())
	environments := rapid.SampledFrom([][]string{nil, {"prod"}, {"staging"}, {"prod", "staging"}})
	rapid.Check(t, func(t *rapid.T) {
		edits := files{}
		for _, p := range rapid.SliceOfDistinct(rapid.SampledFrom(paths), rapid.ID).Draw(t, "paths") {
			edits[p] = all[p]
		}
		c := r.on(base, edits, by("x"))
		needs, err := Needs(ctx, r, nil, base, c)
		if err != nil {
			t.Fatal(err)
		}

		// The order of paths changes nothing.
		seed := rapid.Int64().Draw(t, "seed")
		again, err := Needs(ctx, shuffled{r, func(c []Change) []Change {
			slices.SortFunc(c, func(a, b Change) int {
				return strings.Compare(hash(fmt.Append(nil, seed, a.Path)), hash(fmt.Append(nil, seed, b.Path)))
			})
			return c
		}}, nil, base, c)
		if diff := cmp.Diff(needs, again); err != nil || diff != "" {
			t.Fatal(err, diff)
		}
		// A commit takes what its parts take.
		var sum []Need
		for p, content := range edits {
			part, err := Needs(ctx, r, nil, base, r.on(base, files{p: content}))
			if err != nil {
				t.Fatal(err)
			}
			sum = append(sum, part...)
		}
		slices.SortFunc(sum, func(a, b Need) int { return strings.Compare(a.Path, b.Path) })
		if diff := cmp.Diff(needs, sum); len(edits) > 0 && diff != "" {
			t.Fatal(diff)
		}

		judge := func(roles ...Role) bool {
			for i := range roles {
				roles[i].Principals = []string{"x"}
				roles[i].Name = fmt.Sprint(i)
			}
			_, err := (&Judge{Policy: Policy{Roles: roles}, Keys: &ring{}, History: r}).Judge(ctx, base, c, noon)
			return err == nil
		}
		// Any everywhere may do everything.
		if !judge(Role{May: []Permission{Any}}) {
			t.Fatal("any is refused")
		}
		// More permissions, or another role, never refuse more.
		role := Role{May: rapid.SliceOfN(permission, 1, 3).Draw(t, "may"), Environments: environments.Draw(t, "environments")}
		more := role
		more.May = append(slices.Clone(role.May), permission.Draw(t, "more"))
		wider := role
		wider.Environments = nil
		other := Role{May: []Permission{permission.Draw(t, "other")}, Environments: environments.Draw(t, "elsewhere")}
		if judge(role) && (!judge(more) || !judge(wider) || !judge(role, other)) {
			t.Fatalf("%v and %v refuse what the first alone allows", role, other)
		}
		// What is allowed is allowed need by need.
		if judge(role) != (len(unmet([]Role{role}, needs)) == 0) {
			t.Fatalf("%v: %v", role, needs)
		}
	})
}

// A merge of two good branches that touch different paths is good, whoever
// pressed the button; with anything on top it is not.
func TestLawOfMerges(t *testing.T) {
	r := newRepo(t)
	base := world(r)
	ctx := context.Background()
	all := pieces()
	paths := slices.Sorted(maps.Keys(all))
	rapid.Check(t, func(t *rapid.T) {
		left, right := files{}, files{}
		for _, p := range paths {
			switch rapid.IntRange(0, 2).Draw(t, p) {
			case 0:
				left[p] = all[p]
			case 1:
				right[p] = all[p]
			}
		}
		a, b := r.on(base, left), r.on(base, right)
		m := r.merge(a, b, nil, unsigned())
		if _, err := r.judge().Judge(ctx, base, m, noon); err != nil {
			t.Fatal(err)
		}
		p := rapid.SampledFrom(append(paths, "prod/other.hcl")).Draw(t, "path")
		evil := r.merge(a, b, files{p: rapid.SampledFrom([]string{"# evil\n", link}).Draw(t, "content")}, unsigned())
		if v, err := r.judge().Judge(ctx, base, evil, noon); err == nil {
			t.Fatalf("accepted: %+v", v)
		}
	})
}
