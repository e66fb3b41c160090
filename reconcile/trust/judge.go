package trust

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"drydock/spec"
)

// maxAhead is how far ahead of the host's clock a commit may be dated.
const maxAhead = 10 * time.Minute

// A Judge says whether a head may be accepted after a commit that was. It
// changes nothing: the caller writes what it decided after all checks.
type Judge struct {
	Policy  Policy
	Keys    Keys
	History History
	Past    *Past // kept from one judgement to the next; nil: read again each time a release moves

	// Seen is when the host first saw a commit: keys are judged by that time.
	// nil, or a zero time: now.
	Seen func(commit string) time.Time
}

// A Verdict is on a head that may be accepted.
type Verdict struct {
	Head    string
	Commits int      // that were verified, the head among them
	How     How      // for the head
	By      []string // who answers for the head; of a merge that adds nothing, for its parents; sorted
}

// How a commit was found good.
type How string

// The ways.
const (
	Accepted How = "accepted" // it was already
	OnTrust  How = "on trust" // the first commit of a host whose policy names none
	Signed   How = "signed"
	Vouched  How = "vouched"
	Merged   How = "merged" // a merge that adds nothing to what its parents verified
)

// A Fault is what is wrong with a commit.
type Fault string

// The faults.
const (
	Malformed    Fault = "malformed"     // its bytes are not what git writes
	Ahead        Fault = "ahead"         // dated later than now
	Unsigned     Fault = "unsigned"      // and must not be
	BadSignature Fault = "bad signature" // none that counts
	NotAllowed   Fault = "not allowed"   // the signer's roles don't cover it
	NotForward   Fault = "not forward"   // the head does not descend from the accepted commit
)

// A Blocker is the first commit that fails; nothing after it is looked at. Its
// text is for people: what happened, and what to do next.
type Blocker struct {
	Commit  string
	Author  string // "" where it cannot be read
	Subject string
	Fault   Fault
	Needs   []Need // that nobody covered
	Why     string
	Next    string
}

func (b *Blocker) Error() string {
	s := "commit " + spec.Short(b.Commit)
	if b.Author != "" {
		s += fmt.Sprintf(" by %s (%q)", b.Author, b.Subject)
	}
	return s + " " + b.Why + ". " + b.Next
}

// Judge verifies every commit that can be reached from head and not from
// accepted, parents first. accepted "" is a new host: it begins at the policy's
// Since, or takes head on trust. An error that is no [*Blocker] is the store's
// or the policy's: it says nothing about the commits.
func (j *Judge) Judge(ctx context.Context, accepted, head string, now time.Time) (Verdict, error) {
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
	t := &trial{Judge: j, now: now, commits: map[string]*candidate{},
		reader: reader{history: j.History, past: j.Past, accepted: accepted, parents: map[string][]string{}, onto: map[string]bool{}}}
	if t.past == nil {
		t.past = &Past{}
	}
	if err := t.load(ctx, accepted, head); err != nil {
		return Verdict{}, err
	}
	t.vouches()
	for _, c := range t.order {
		if err := t.judge(ctx, c); err != nil {
			return Verdict{}, err
		}
	}
	last := t.commits[head]
	return Verdict{Head: head, Commits: len(t.order), How: last.how, By: last.by}, nil
}

// trial is one judgement.
type trial struct {
	*Judge
	reader
	now     time.Time
	order   []*candidate // parents first
	commits map[string]*candidate
	vouched map[string][]vouch
}

// candidate is a commit that is being judged.
type candidate struct {
	Commit
	hash  string
	fault error // its bytes cannot be read
	how   How
	by    []string
	known []signer // who signed, once asked
	no    error    // why nobody did
	asked bool
	valid bool // there is a signature, by somebody
}

// signer is a principal and its roles.
type signer struct {
	name  string
	roles []Role
}

type vouch struct {
	commit string
	signer
}

// load reads the commits, and holds their order to what the rules rest on.
func (t *trial) load(ctx context.Context, accepted, head string) error {
	all, err := t.history.Between(ctx, accepted, head)
	if err != nil {
		return err
	}
	for _, hash := range all {
		raw, err := t.history.Commit(ctx, hash)
		if err != nil {
			return err
		}
		c := &candidate{hash: hash}
		if c.Commit, c.fault = ParseCommit(raw); c.fault != nil {
			c.Parents = parentsOf(raw)
		}
		t.order, t.commits[hash], t.parents[hash] = append(t.order, c), c, c.Parents
		for _, p := range c.Parents {
			t.onto[hash] = t.onto[hash] || p == accepted || t.onto[p]
		}
	}
	if !t.onto[head] {
		return &Blocker{Commit: head, Fault: NotForward,
			Why:  fmt.Sprintf("does not descend from %s, which this host has accepted", accepted),
			Next: fmt.Sprintf("Nothing newer is taken up; to go on, merge the accepted commit back (git merge %s) and push", accepted)}
	}
	place := map[string]int{}
	for i, c := range t.order {
		place[c.hash] = i + 1
	}
	for i, c := range t.order {
		for _, p := range c.Parents {
			if place[p] > i {
				return fmt.Errorf("the history's commits came in a wrong order: %s before its parent %s; this is a fault of the agent", spec.Short(c.hash), spec.Short(p))
			}
		}
	}
	if len(place) != len(all) || all[len(all)-1] != head {
		return errors.New("the history's commits came twice, or without their head; this is a fault of the agent")
	}
	return nil
}

// signers are those whose signature counts on a commit.
func (t *trial) signers(c *candidate) ([]signer, error) {
	if c.asked {
		return c.known, c.no
	}
	c.asked = true
	if c.Signature == nil {
		c.no = errors.New("is not signed")
		return nil, c.no
	}
	at := t.now
	if t.Seen != nil {
		if seen := t.Seen(c.hash); !seen.IsZero() {
			at = seen
		}
	}
	names, err := t.Keys.Signers(c.Payload, c.Signature, at)
	if err != nil || len(names) == 0 {
		if err == nil {
			err = errors.New("its key belongs to nobody")
		}
		c.no = fmt.Errorf("has a signature that does not count: %w", err)
		return nil, c.no
	}
	c.valid = true
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		roles, err := t.Policy.rolesOf(name)
		if err != nil {
			c.no = fmt.Errorf("is signed by somebody without a role here: %w", err)
			continue
		}
		c.known = append(c.known, signer{name, roles})
	}
	if len(c.known) > 0 {
		c.no = nil
	}
	return c.known, c.no
}

// vouches finds the commits that an `any` person signed for.
func (t *trial) vouches() {
	t.vouched = map[string][]vouch{}
	for _, c := range t.order {
		if c.fault != nil {
			continue
		}
		for _, hash := range c.Trailers("Drydock-Vouch") {
			if t.commits[hash] == nil || hash == c.hash {
				continue
			}
			known, _ := t.signers(c)
			for _, s := range known {
				if mayVouch(s.roles) {
					t.vouched[hash] = append(t.vouched[hash], vouch{c.hash, s})
				}
			}
		}
	}
}

// judge finds one commit good, or is its Blocker.
func (t *trial) judge(ctx context.Context, c *candidate) error {
	if c.fault != nil {
		return &Blocker{Commit: c.hash, Fault: Malformed, Why: "is not what git writes: " + c.fault.Error(),
			Next: "Nobody can vouch for what two programs may read as two commits; " + t.takeOff()}
	}
	if at := c.Committer.Time; at.After(t.now.Add(maxAhead)) {
		return t.block(c, Ahead, fmt.Sprintf("is dated %s, and it is %s here, so it is not accepted yet", at.UTC().Format(time.RFC3339), t.now.UTC().Format(time.RFC3339)),
			"If the date is right, set this host's clock; otherwise "+t.takeOff())
	}
	needs, edits, err := t.does(ctx, c)
	if err != nil {
		return err
	}
	if needs == nil {
		c.how = Merged
		for _, p := range c.Parents {
			if parent := t.commits[p]; parent != nil {
				c.by = append(c.by, parent.by...)
			}
		}
		slices.Sort(c.by)
		c.by = slices.Compact(c.by)
		return nil
	}
	if err := t.answer(c, needs); err != nil {
		return err
	}
	return t.record(ctx, &t.fresh, c.hash, edits)
}

// answer looks for somebody who may do all that a commit does.
func (t *trial) answer(c *candidate, needs []Need) error {
	known, no := t.signers(c)
	for _, s := range known {
		if len(unmet(s.roles, needs)) == 0 {
			c.by = append(c.by, s.name)
		}
	}
	c.how = Signed
	if c.by == nil {
		c.how = Vouched
		for _, v := range t.vouched[c.hash] {
			if len(unmet(v.roles, needs)) == 0 && !slices.Contains(c.by, v.name) {
				c.by = append(c.by, v.name)
			}
		}
	}
	if c.by != nil {
		slices.Sort(c.by)
		return nil
	}
	if len(known) == 0 {
		fault := BadSignature
		switch {
		case c.Signature == nil:
			fault = Unsigned
		case c.valid:
			fault = NotAllowed
		}
		b := t.block(c, fault, no.Error()+"; it "+list(needs), t.next(c, needs))
		b.Needs = needs
		return b
	}
	least := unmet(known[0].roles, needs)
	who := known[0]
	for _, s := range known[1:] {
		if u := unmet(s.roles, needs); len(u) < len(least) {
			least, who = u, s
		}
	}
	b := t.block(c, NotAllowed, fmt.Sprintf("%s; %s signed it, who may do less (%s)", list(least), shown(who.name), says(who.roles)), t.next(c, needs))
	b.Needs = least
	return b
}

// list is what a commit does, the first few things.
func list(needs []Need) string {
	const most = 3
	var out []string
	for _, n := range needs[:min(most, len(needs))] {
		out = append(out, n.String())
	}
	s := strings.Join(out, "; it ")
	if more := len(needs) - most; more > 0 {
		s += fmt.Sprintf("; and %d more", more)
	}
	return s
}

func (t *trial) block(c *candidate, f Fault, why, next string) *Blocker {
	return &Blocker{Commit: c.hash, Author: c.Author.String(), Subject: c.Subject(), Fault: f, Why: why, Next: next}
}

// next says who could help.
func (t *trial) next(c *candidate, needs []Need) string {
	for _, v := range t.vouched[c.hash] {
		if left := unmet(v.roles, needs); len(left) > 0 {
			return fmt.Sprintf("%s vouched for it in %s, and may not do that either (%s); somebody who may has to, or %s", shown(v.name), spec.Short(v.commit), left[0], t.takeOff())
		}
	}
	var roles []string
	for _, r := range t.Policy.Roles {
		if mayVouch([]Role{r}) && len(unmet([]Role{r}, needs)) == 0 {
			roles = append(roles, r.Name)
		}
	}
	if len(roles) == 0 {
		return "No people role of this host may do that, so nobody can vouch for it; " + t.takeOff()
	}
	return fmt.Sprintf("If it is meant, somebody of role %s runs: drydock vouch %s; if not, %s", strings.Join(roles, " or "), c.hash, t.takeOff())
}

// takeOff is how a commit that no host should take leaves the branch: undoing
// it in a further commit would leave it there to be judged.
func (t *trial) takeOff() string {
	return fmt.Sprintf("take it off the branch: this host has accepted nothing after %s, so the branch may be forced back to that, without it", spec.Short(t.accepted))
}
