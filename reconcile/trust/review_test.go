package trust

import (
	"context"
	"errors"
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
		"signed alice@acme=people: changes nothing (a heartbeat)",
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
