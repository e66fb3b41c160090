package hostagent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"drydock/reconcile"
	"drydock/reconcile/trust"
	"drydock/spec"
)

const (
	// judging is how long one judgement may take: a server can make a history
	// long, and must not make a host read it for ever.
	judging = 2 * time.Minute
	// tooSlow is how long a head is left alone that could not be judged in time.
	tooSlow = 15 * time.Minute
	// reasonKept is how much of a refusal the journal keeps.
	reasonKept = 2 << 10
)

// verifier stands between the head that the source offers and all that is read
// from it. It changes nothing outside itself: what it decided is written by the
// resolver, after all checks. It is for one goroutine at a time.
//
// Where hosts know of each other, this is the place to compare heads: two that
// were accepted by hosts of one fleet, and of which neither is behind the other,
// are a fork, whoever signed them.
type verifier struct {
	*Trust
	now  func() time.Time
	past trust.Past // of releases; kept, so that each commit is read once
	kept string     // the commit up to which the cache holds the past
	last finding

	loaded bool // the cache was looked into
}

// finding is on the head that failed last, so that it is not judged at every poll.
type finding struct {
	head, base string
	err        error
	until      time.Time // when it is worth judging again; zero: never
}

// Refused says that the source's head is not accepted, and names what blocks it.
type Refused struct {
	Head  string
	Since time.Time // when this host first saw it, or what it stands on, refused; zero: now
	Again time.Time // when it is judged again by itself; zero: when it changes
	Err   error     // a *trust.Blocker, or why it could not be judged
}

// Error says what blocks, and what stays in force.
func (r *Refused) Error() string { return r.Err.Error() }

// Unwrap is the blocker.
func (r *Refused) Unwrap() error { return r.Err }

// needs reports whether a head is to be judged: it is another one than what was
// accepted, or nobody looked when that was.
func (v *verifier) needs(m reconcile.Memory, accepted, head string) bool {
	return v != nil && (head != accepted || !v.looked(m, accepted))
}

// looked reports whether accepted went through trust when it was accepted; where
// there is no trust, nobody has to look.
func (v *verifier) looked(m reconcile.Memory, accepted string) bool {
	return v == nil || m.Accepted == accepted && m.Warrant != nil && !(m.Warrant.Loose && v.Policy.Since != "")
}

// judge says who answers for a head; an error is a *Refused, or the agent stops.
//
//	head ── accepted, and looked at ──────────────▶ in force; not asked (needs)
//	 │
//	 ├── refused before, and not due again ───────▶ refused, and nothing is read
//	 ▼
//	all from base to head: base is the accepted commit; since, where what was
//	 │ accepted was not looked at; nothing, on trust, where since names nothing
//	 │
//	 ├── each commit good ──▶ Warrant ────────────▶ accept: ref, then record; in force
//	 ├── a Blocker ──▶ Sighted ───────────────────▶ refused until the head is another,
//	 │                                              or the Blocker's Until
//	 ├── not done within judging ─────────────────▶ refused for tooSlow
//	 └── the store's trouble, or the policy's ────▶ refused until the next look
func (v *verifier) judge(ctx context.Context, m reconcile.Memory, accepted string, head Snapshot) (*reconcile.Warrant, error) {
	base := accepted
	if !v.looked(m, accepted) && v.Policy.Since != "" {
		base = v.Policy.Since // nobody knows what was let in since then
	}
	now := v.now()
	if l := v.last; l.err != nil && l.head == head.Commit && l.base == base && (l.until.IsZero() || now.Before(l.until)) {
		return nil, v.refuse(m, l)
	}
	v.last = finding{}
	verdict, err := v.ask(ctx, m, base, accepted, head.Commit, now)
	if err == nil {
		w := &reconcile.Warrant{How: string(verdict.How), By: verdict.By, News: verdict.News}
		if verdict.Commits == 0 {
			w.News = head.Time // the first: its date is all there is
		}
		if verdict.How == trust.Accepted && v.Policy.Since == "" {
			w.How = string(trust.OnTrust) // there was no trust when it was accepted, and no since
		}
		w.Loose = v.Policy.Since == "" && (!v.looked(m, accepted) || m.Warrant.Loose)
		return w, nil
	}
	if ctx.Err() != nil {
		return nil, err // the agent stops; this says nothing about the head
	}
	l := finding{head: head.Commit, base: base, err: err}
	var b *trust.Blocker
	switch {
	case errors.As(err, &b):
		l.until = b.Until
	case errors.Is(err, context.DeadlineExceeded):
		l.until = now.Add(tooSlow)
		l.err = fmt.Errorf("the commits between %s and %s could not be verified within %s; it is tried again at %s. If the history is what it should be, this host is too slow or too busy; if not, take it off the branch",
			orBeginning(base), spec.Short(head.Commit), judging, l.until.UTC().Format(time.RFC3339))
	default:
		l.until = now // the store's trouble, or the policy's: it may be over at the next look
	}
	v.last = l
	return nil, v.refuse(m, l)
}

// refuse is what is said of a head that failed.
func (v *verifier) refuse(m reconcile.Memory, l finding) error {
	r := &Refused{Head: l.head, Err: l.err}
	if l.until.After(v.now()) {
		r.Again = l.until
	}
	if m.Refused != nil {
		r.Since = m.Refused.Since
	}
	return r
}

// ask holds all checks of a head.
func (v *verifier) ask(ctx context.Context, m reconcile.Memory, base, accepted, head string, now time.Time) (trust.Verdict, error) {
	ctx, cancel := context.WithTimeout(ctx, judging)
	defer cancel()
	if base != accepted { // the judge itself holds the head to its base, in words for one that was accepted
		for _, mark := range []struct{ commit, what string }{
			{base, "since in this host's trust section names"}, {accepted, "this host has accepted"},
		} {
			if mark.commit == "" {
				continue
			}
			if err := v.descends(ctx, mark.commit, head, mark.what); err != nil {
				return trust.Verdict{}, err
			}
		}
	}
	v.remember()
	j := &trust.Judge{Policy: v.Policy, Keys: v.Keys, History: v.History, Past: &v.past, Seen: v.seen(ctx, m, base), Unmarked: base != accepted && accepted != ""}
	return j.Judge(ctx, base, head, now)
}

// remember takes the past up where an earlier process left it. One that cannot
// be used is found out again from the history.
func (v *verifier) remember() {
	if v.loaded || v.Trust.Past == nil {
		return
	}
	v.loaded = true
	if data, err := v.Trust.Past.Load(); err == nil && v.past.UnmarshalBinary(data) == nil {
		v.kept = v.past.Tip()
	}
}

// keep leaves the past to later processes. Without it they only take longer.
func (v *verifier) keep() {
	if v == nil || v.Trust.Past == nil || v.past.Tip() == v.kept {
		return
	}
	if data, err := v.past.MarshalBinary(); err == nil && v.Trust.Past.Save(data) == nil {
		v.kept = v.past.Tip()
	}
}

// descends holds a head to a commit that it must have behind it.
func (v *verifier) descends(ctx context.Context, mark, head, what string) error {
	if mark == head {
		return nil
	}
	if _, err := v.History.Commit(ctx, mark); err != nil {
		if ctx.Err() != nil {
			return err
		}
		return fmt.Errorf("nothing can be verified from the commit that %s: %w. See that url and branch are the right ones, and that since names a commit of that branch", what, err)
	}
	bases, err := v.History.MergeBases(ctx, mark, head)
	if err != nil {
		return err
	}
	if len(bases) != 1 || bases[0] != mark {
		return &trust.Blocker{Commit: head, Fault: trust.NotForward,
			Why:  fmt.Sprintf("does not descend from %s, which %s", mark, what),
			Next: fmt.Sprintf("Nothing newer is taken up; to go on, merge that commit back (git merge %s) and push", mark)}
	}
	return nil
}

// seen is when this host first saw a commit that was refused before, alone or
// with what stood on it. The clone may have let go of what left the branch:
// that is seen anew.
func (v *verifier) seen(ctx context.Context, m reconcile.Memory, base string) func(string) time.Time {
	if len(m.Sighted) == 0 {
		return nil
	}
	var at map[string]time.Time
	return func(commit string) time.Time {
		if at == nil {
			at = map[string]time.Time{}
			for _, s := range m.Sighted {
				behind, err := v.History.Between(ctx, base, s.Commit)
				if err != nil {
					continue
				}
				for _, c := range behind {
					if _, earlier := at[c]; !earlier {
						at[c] = s.At
					}
				}
			}
		}
		return at[commit]
	}
}

// sighting is the record of a refused head, if the journal does not have it.
func sighting(m reconcile.Memory, r *Refused) (reconcile.Record, bool) {
	var b *trust.Blocker
	if !errors.As(r.Err, &b) || b.Fault == trust.Ahead {
		// Nothing was found out about it; or this host's clock is behind, and
		// must not say when it saw a key.
		return reconcile.Record{}, false
	}
	reason := r.Error()
	if len(reason) > reasonKept {
		reason = strings.ToValidUTF8(reason[:reasonKept], "") + "…"
	}
	rec := reconcile.Record{Kind: reconcile.Sighted, Commit: r.Head, Reason: reason}
	was := m.Refused
	return rec, was == nil || was.Commit != rec.Commit || was.Reason != rec.Reason
}

func orBeginning(commit string) string {
	if commit == "" {
		return "the beginning"
	}
	return spec.Short(commit)
}

// answered is the source's status with who answers for what was accepted; a.mu
// is held.
func (a *Agent) answered(m reconcile.Memory) reconcile.SourceStatus {
	st := a.source
	if a.Trust == nil || m.Accepted == "" {
		return st
	}
	if m.Warrant != nil {
		st.Verified, st.How, st.By = m.Warrant.Verified(), m.Warrant.How, m.Warrant.By
	}
	st.Stale = trust.Fresh(m.Heard, a.Now(), a.Trust.Policy.Freshness).Why
	return st
}

// staleAt is when freshness ends; zero if it does not, or has ended.
func (a *Agent) staleAt(m reconcile.Memory, now time.Time) time.Time {
	if a.Trust == nil {
		return time.Time{}
	}
	if f := trust.Fresh(m.Heard, now, a.Trust.Policy.Freshness); f.Fresh {
		return f.Until
	}
	return time.Time{}
}

// says is a warrant for people: "signed by alice@acme.example".
func says(w *reconcile.Warrant) string {
	switch {
	case w == nil:
		return "unverified"
	case w.How == string(trust.Accepted):
		return "since names it"
	case len(w.By) == 0:
		return w.How
	}
	return w.How + " by " + strings.Join(w.By, ", ")
}

// how is who answers for what was just taken up, for the log.
func (a *Agent) how(r resolved) string {
	switch {
	case a.Trust == nil:
		return "unverified: this host has no trust block"
	case r.warrant != nil && r.warrant.How == string(trust.OnTrust):
		return "on trust: since names no commit, and this is the first"
	case r.warrant != nil:
		return says(r.warrant)
	}
	return says(a.Journal.Memory().Warrant) // by an earlier process
}
