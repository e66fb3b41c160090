package trust

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Reviewed is what was found about one commit, for people who look at a history.
type Reviewed struct {
	Commit  string
	Author  string // "" where it cannot be read
	Subject string
	Time    time.Time // the committer's
	How     How       // "" if it is blocked
	By      []string  // who answers for it, as in Verdict
	Roles   []string  // theirs, by which they do
	Does    []Need    // none: it is a merge that adds nothing; of a blocked one, as far as it was read
	Blocker *Blocker  // nil: it is good
}

// Review judges as [Judge.Judge] does, with the same verdict, and tells each, if
// that is not nil, of every commit, parents first. Then it goes on behind a
// Blocker, which no host does: what stands behind one is judged as if it were
// mended, without the releases that it named.
func (j *Judge) Review(ctx context.Context, accepted, head string, now time.Time, each func(Reviewed)) (Verdict, error) {
	if err := j.Policy.Check(); err != nil {
		return Verdict{}, fmt.Errorf("the trust section cannot be used: %w", err)
	}
	if accepted == "" {
		if accepted = j.Policy.Since; accepted == "" {
			return Verdict{Head: head, How: OnTrust}, nil
		}
	}
	if accepted == head {
		return Verdict{Head: head, How: Accepted}, nil
	}
	t := &trial{Judge: j, now: now, commits: map[string]*candidate{}, vouchers: map[string][]*candidate{},
		reader: reader{history: j.History, past: j.Past, accepted: accepted, parents: map[string][]string{}, onto: map[string]bool{}}}
	if t.past == nil {
		t.past = &Past{}
	}
	if err := t.load(ctx, accepted, head); err != nil {
		return Verdict{}, err
	}
	var first *Blocker
	for _, c := range t.order {
		f, err := t.judge(ctx, c)
		var b *Blocker
		if err != nil && (!errors.As(err, &b) || each == nil) {
			return Verdict{}, err
		}
		if first == nil {
			first = b
		}
		if each != nil {
			each(c.reviewed(f, b))
		}
	}
	if first != nil {
		return Verdict{}, first
	}
	last := t.commits[head]
	return Verdict{Head: head, Commits: len(t.order), How: last.how, By: last.by, News: t.news}, nil
}

func (c *candidate) reviewed(f *finding, b *Blocker) Reviewed {
	r := Reviewed{Commit: c.hash, How: c.how, By: c.by, Blocker: b}
	if f == nil {
		return r
	}
	r.Author, r.Subject, r.Time, r.Does = f.Author.String(), f.Subject(), f.Committer.Time, f.takes
	for _, s := range f.able {
		if !slices.Contains(c.by, s.name) || (c.how == Signed) != (s.in == "") {
			continue
		}
		for _, role := range s.roles {
			if !slices.Contains(r.Roles, role.Name) {
				r.Roles = append(r.Roles, role.Name)
			}
		}
	}
	return r
}
