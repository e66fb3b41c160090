package trust

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestReview: of every commit it says what Judge would, also behind a blocker,
// and its verdict is Judge's.
func TestReview(t *testing.T) {
	r := newRepo(t)
	since := r.on("", files{"staging/web.hcl": service("web", "1.0"), "prod/web.hcl": service("web", "1.0")})
	bump := r.on(since, files{"staging/web.hcl": service("web", "1.1")}, by("ci@acme"))
	squash := r.on(bump, files{"prod/web.hcl": service("web", "1.1")}, unsigned())
	robot := r.on(squash, files{"prod/web.hcl": service("web", "1.2")}, by("ci@acme"))
	head := r.on(robot, nil, by("alice@acme"), vouching(squash))

	j := r.judge()
	tell := func(head string) (rows []string, v Verdict, err error) {
		v, err = j.Review(context.Background(), since, head, noon, func(c Reviewed) {
			verdict := string(c.How)
			if c.Blocker != nil {
				verdict = "BLOCKED " + string(c.Blocker.Fault)
			}
			who := ""
			for i, by := range c.By {
				who += " " + by
				if i < len(c.Roles) {
					who += "=" + c.Roles[i]
				}
			}
			rows = append(rows, verdict+who+": "+c.Does[0].Does)
		})
		return rows, v, err
	}
	rows, _, err := tell(head)
	want := []string{
		"signed ci@acme=pipeline: moves web from 1.0 to 1.1",
		"vouched alice@acme=people: moves web from 1.0 to 1.1",
		"BLOCKED not allowed: moves web from 1.1 to 1.2",
		"signed alice@acme=people: changes nothing, and vouches for " + squash[:7],
	}
	if d := cmp.Diff(want, rows); d != "" {
		t.Error(d)
	}
	var got, judged *Blocker
	_, judgedErr := j.Judge(context.Background(), since, head, noon)
	if !errors.As(err, &got) || !errors.As(judgedErr, &judged) || got.Commit != robot || judged.Commit != robot {
		t.Errorf("the verdict is %v, and Judge's %v", err, judgedErr)
	}
	if rows, v, err := tell(bump); err != nil || v.Commits != 1 || len(rows) != 1 {
		t.Errorf("%v %v %v", rows, v, err)
	}
}

// TestAdvice: a host knows how far its branch may be forced back. Who rehearses
// elsewhere does not, and following the wrong advice would leave hosts with a
// branch that they cannot go on with.
func TestAdvice(t *testing.T) {
	r := newRepo(t)
	since := r.on("", files{"prod/web.hcl": service("web", "1.0")})
	head := r.on(since, files{"prod/web.hcl": service("web", "1.1")}, unsigned())
	j := r.judge()
	for unmarked, want := range map[bool]string{
		false: "runs: drydock vouch " + head + " --push; if not, take it off the branch: this host has accepted nothing after " + since[:7] + ", so",
		true:  "runs: drydock vouch " + head + " --push; if not, take it off the branch, which may be forced back to the commit that hosts have in force",
	} {
		j.Unmarked = unmarked
		_, err := j.Judge(context.Background(), since, head, noon)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("unmarked %t: %v\nwant %s", unmarked, err, want)
		}
	}
}
