package trust

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"drydock/spec"
)

const (
	// maxAhead is how far ahead of the host's clock a commit may be dated.
	maxAhead = 10 * time.Minute

	// What a stranger can make a host look at: so many commits, so many vouches
	// for one of them, and so much of a commit that nobody may make.
	maxCommits = 200_000
	maxLinks   = 4 * maxCommits // from commits to their parents
	maxVouches = 100
	maxUnmet   = 10
)

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

	// Unmarked: where judgement begins is not what hosts have in force. Somebody
	// rehearses it elsewhere, or a host begins anew at since. Then no advice may
	// rest on how far the branch may be forced back.
	Unmarked bool
}

// A Verdict is on a head that may be accepted.
type Verdict struct {
	Head    string
	Commits int      // that were verified, the head among them
	How     How      // for the head
	By      []string // who answers for the head; of a merge that adds nothing, for its parents; sorted

	// News is the newest date of a commit among them that somebody signed who
	// may; zero for none. A merge that adds nothing is anybody's to make and to
	// date, so it is no news.
	News time.Time
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

// Judge verifies every commit that can be reached from head and not from
// accepted, parents first. accepted "" is a new host: it begins at the policy's
// Since, or takes head on trust. An error that is no [*Blocker] is the store's
// or the policy's: it says nothing about the commits.
func (j *Judge) Judge(ctx context.Context, accepted, head string, now time.Time) (Verdict, error) {
	return j.Review(ctx, accepted, head, now, nil)
}

// trial is one judgement.
type trial struct {
	*Judge
	reader
	now      time.Time
	news     time.Time    // as Verdict has it
	order    []*candidate // parents first
	commits  map[string]*candidate
	vouchers map[string][]*candidate // commit -> those whose trailers name it
}

// candidate is a commit that is being judged. There may be very many, so each
// is read again when its turn comes.
type candidate struct {
	hash  string
	how   How
	by    []string
	asked bool // who signed it
	known []signer
	valid bool  // there is a signature that counts, by somebody
	no    error // why known is empty
}

// signer is a principal and its roles.
type signer struct {
	name  string
	roles []Role
	in    string // the commit that vouches; "" for the commit's own
}

// load reads the commits, and holds their order to what the rules rest on.
func (t *trial) load(ctx context.Context, accepted, head string) error {
	all, err := t.history.Between(ctx, accepted, head)
	if err != nil {
		return err
	}
	if len(all) > maxCommits {
		return fmt.Errorf("%d commits follow the accepted one, and %d is the limit; if they are what they should be, set trust's since to a newer commit on a host without state", len(all), maxCommits)
	}
	names := make(map[string]string, len(all))
	for _, hash := range all {
		names[hash] = hash
	}
	links := 0
	for _, hash := range all {
		raw, err := t.history.Commit(ctx, hash)
		if err != nil {
			return err
		}
		c := &candidate{hash: hash}
		t.order, t.commits[hash] = append(t.order, c), c
		parents := parentsOf(raw)
		if links += len(parents); links > maxLinks {
			return fmt.Errorf("the %d commits that follow the accepted one name more than %d parents, and no history of people does; take them off the branch", len(all), maxLinks)
		}
		if read, err := ParseCommit(raw); err == nil {
			for _, v := range read.Trailers("Drydock-Vouch") {
				// Of what is not at hand nothing is remembered, nor is any message.
				if v := names[v]; v != "" && len(t.vouchers[v]) < maxVouches && v != hash {
					t.vouchers[v] = append(t.vouchers[v], c)
				}
			}
		}
		t.parents[hash] = parents
		for _, p := range parents {
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
		for _, p := range t.parents[c.hash] {
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

// signers are those whose signature counts on a commit, and are asked for once.
func (t *trial) signers(c *candidate, read Commit) []signer {
	if c.asked {
		return c.known
	}
	c.asked = true
	if read.Signature == nil {
		c.no = errors.New("is not signed")
		return nil
	}
	at := t.now
	if t.Seen != nil {
		if seen := t.Seen(c.hash); !seen.IsZero() {
			at = seen
		}
	}
	names, err := t.Keys.Signers(read.Payload, read.Signature, at)
	if err != nil || len(names) == 0 {
		if err == nil {
			err = errors.New("its key belongs to nobody")
		}
		c.no = fmt.Errorf("has a signature that does not count: %w", err)
		return nil
	}
	c.valid = true
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		roles, err := t.Policy.rolesOf(name)
		if err != nil {
			c.no = fmt.Errorf("is signed by somebody without a role here: %w", err)
			continue
		}
		c.known = append(c.known, signer{name: name, roles: roles})
	}
	return c.known
}

// vouches are the `any` people who signed for a commit.
func (t *trial) vouches(ctx context.Context, c *candidate) ([]signer, error) {
	var out []signer
	for _, v := range t.vouchers[c.hash] {
		raw, err := t.history.Commit(ctx, v.hash)
		if err != nil {
			return nil, err
		}
		read, err := ParseCommit(raw)
		if err != nil {
			continue
		}
		if nothing, err := t.changesNothing(ctx, v.hash, read); err != nil {
			return nil, err
		} else if !nothing {
			continue
		}
		for _, s := range t.signers(v, read) {
			if mayVouch(s.roles) {
				out = append(out, signer{s.name, s.roles, v.hash})
			}
		}
	}
	return out, nil
}

// changesNothing reports whether a commit is one that may vouch: it stands on
// its one parent as drydock vouch made it. A trailer that comes with a change is
// the change's author's, and was signed by whoever took the patch over.
func (t *trial) changesNothing(ctx context.Context, hash string, c Commit) (bool, error) {
	if len(c.Parents) != 1 {
		return false, nil
	}
	changes, err := t.history.Changed(ctx, c.Parents[0], hash)
	if errors.Is(err, ErrUnfit) {
		return false, nil // what it holds is said when its own turn comes
	}
	return len(changes) == 0, err
}

// judge finds one commit good, or is its Blocker. What it found is answered in
// any case but of a commit that cannot be read.
func (t *trial) judge(ctx context.Context, c *candidate) (*finding, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	raw, err := t.history.Commit(ctx, c.hash)
	if err != nil {
		return nil, err
	}
	read, err := ParseCommit(raw)
	if err != nil {
		return nil, &Blocker{Commit: c.hash, Fault: Malformed, Why: "is not what git writes: " + err.Error(),
			Next: "Nobody can vouch for what two programs may read as two commits; " + t.takeOff()}
	}
	f := &finding{trial: t, candidate: c, Commit: read}
	if at := read.Committer.Time; at.After(t.now.Add(maxAhead)) {
		b := f.block(Ahead, fmt.Sprintf("is dated %s, and it is %s here, so it is not accepted yet", at.UTC().Format(time.RFC3339), t.now.UTC().Format(time.RFC3339)),
			"If the date is right, set this host's clock; otherwise "+t.takeOff())
		b.Until = at.Add(-maxAhead)
		return f, b
	}
	own := t.signers(c, read)
	vouching, err := t.vouches(ctx, c)
	if err != nil {
		return f, err
	}
	f.able = append(slices.Clip(own), vouching...)
	edits, err := f.does(ctx)
	if err != nil {
		return f, err
	}
	if f.takes == nil {
		c.how = Merged
		for _, p := range read.Parents {
			if parent := t.commits[p]; parent != nil {
				c.by = append(c.by, parent.by...)
			}
		}
		slices.Sort(c.by)
		c.by = slices.Compact(c.by)
		return f, nil
	}
	if b := f.answer(); b != nil {
		return f, b
	}
	if at := read.Committer.Time; c.how == Signed && at.After(t.news) {
		t.news = at
	}
	return f, t.record(ctx, &t.fresh, c.hash, edits)
}

// finding is what is found about one commit.
type finding struct {
	*trial
	*candidate
	Commit
	able  []signer // who signed it, and who vouches for it
	takes []Need
}

// hopeless reports whether enough is known to refuse the commit: a stranger
// must not be able to make a host read on and on.
func (f *finding) hopeless(so []Need) bool {
	return len(so) >= maxUnmet && !slices.ContainsFunc(f.able, func(s signer) bool { return len(unmet(s.roles, so)) < maxUnmet })
}

// answer looks for somebody who may do all that the commit does.
func (f *finding) answer() *Blocker {
	var best *signer
	var least []Need
	for i, s := range f.able {
		left := unmet(s.roles, f.takes)
		if len(left) == 0 && (f.by == nil || f.how == Signed == (s.in == "")) {
			f.how = Signed
			if s.in != "" {
				f.how = Vouched
			}
			f.by = append(f.by, s.name)
		}
		if s.in == "" && (best == nil || len(left) < len(least)) {
			best, least = &f.able[i], left
		}
	}
	if f.by != nil {
		slices.Sort(f.by)
		f.by = slices.Compact(f.by)
		return nil
	}
	if best == nil {
		fault := BadSignature
		switch {
		case f.Signature == nil:
			fault = Unsigned
		case f.valid:
			fault = NotAllowed
		}
		b := f.block(fault, f.no.Error()+"; it "+list(f.takes), f.next(f.takes))
		b.Needs = f.takes
		return b
	}
	b := f.block(NotAllowed, fmt.Sprintf("%s; %s signed it, who may do less (%s)", list(least), shown(best.name), says(best.roles)), f.next(f.takes))
	b.Needs = least
	return b
}
