package trust

import (
	"fmt"
	"strings"
	"time"

	"drydock/spec"
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
	Until   time.Time // when it may be found good without anybody doing anything; zero: never
}

func (b *Blocker) Error() string {
	s := "commit " + spec.Short(b.Commit)
	if b.Author != "" {
		s += fmt.Sprintf(" by %s (%q)", b.Author, b.Subject)
	}
	return s + " " + b.Why + ". " + b.Next
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

// block is the finding's Blocker.
func (f *finding) block(fault Fault, why, next string) *Blocker {
	return &Blocker{Commit: f.hash, Author: f.Author.String(), Subject: f.Subject(), Fault: fault, Why: why, Next: next}
}

// next says who could help.
func (f *finding) next(needs []Need) string {
	for _, s := range f.able {
		if s.in != "" {
			return fmt.Sprintf("%s vouched for it in %s, and may not do that either (%s); somebody who may has to, or %s", shown(s.name), spec.Short(s.in), unmet(s.roles, needs)[0], f.takeOff())
		}
	}
	var roles []string
	for _, r := range f.Policy.Roles {
		if mayVouch([]Role{r}) && len(unmet([]Role{r}, needs)) == 0 {
			roles = append(roles, r.Name)
		}
	}
	if len(roles) == 0 {
		return "No people role of this host may do that, so nobody can vouch for it; " + f.takeOff()
	}
	return fmt.Sprintf("If it is meant, somebody of role %s runs: drydock vouch %s --push; if not, %s", strings.Join(roles, " or "), f.hash, f.takeOff())
}

// takeOff is how a commit that no host should take leaves the branch: undoing
// it in a further commit would leave it there to be judged.
func (t *trial) takeOff() string {
	if t.Unmarked {
		return "take it off the branch, which may be forced back to the commit that hosts have in force (hostagent status) and no further; if they accepted this one long ago, let since name a commit after it"
	}
	return fmt.Sprintf("take it off the branch: this host has accepted nothing after %s, so the branch may be forced back to that", spec.Short(t.accepted))
}
