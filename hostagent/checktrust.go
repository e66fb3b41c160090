package hostagent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"drydock/reconcile"
	"drydock/reconcile/trust"
	"drydock/spec"
)

// directory is what Keys may know besides: whether a key of the host's files may
// sign in a principal's name, in a namespace ("git", or trust.Namespace).
type directory interface {
	Knows(principal, namespace string, at time.Time) bool
}

// trustNeeds are what trust needs to ever accept anything, and what keeps it
// from accepting the newest commit.
func (a *Agent) trustNeeds(ctx context.Context, r resolved) []HostNeed {
	if a.Trust == nil {
		return nil
	}
	var all []HostNeed
	need := func(what string, err error) {
		n := NeedOf(what, err)
		n.Origin = "hostagent.hcl"
		all = append(all, n)
	}
	if since := a.Trust.Policy.Since; since != "" && r.head == nil {
		_, err := a.Trust.History.Commit(ctx, since)
		if err != nil {
			err = reconcile.HostFault(err, "Write one of the branch's commits, as git rev-parse prints it.")
		}
		need("since", err)
	}
	if d, ok := a.Trust.Keys.(directory); ok {
		for _, role := range a.Trust.Policy.Roles {
			need(fmt.Sprintf("keys of role %q", role.Name), a.keyless(d, role))
		}
		for _, env := range slices.Sorted(maps.Keys(a.Trust.Policy.Approvals)) {
			need("people who can approve in "+env, a.approvable(d, env))
		}
	}
	if folders, known := a.folders(ctx, r.want.Commit); known {
		if names := a.placesOfTrust(); len(names) > 0 {
			need("environments that trust names", strange(names, folders))
		}
	}
	if r.blocked != nil {
		all = append(all, blockedNeed(r.blocked))
	}
	return all
}

func blockedNeed(r *Refused) HostNeed {
	n := HostNeed{Needs: "signed commits", Origin: "hostagent.hcl", Found: Unclear, Problem: r.Error()}
	var b *trust.Blocker
	if errors.As(r.Err, &b) {
		n.Problem, n.Ask = strings.TrimSuffix(b.Error(), b.Next), b.Next
	}
	return n
}

// keyless finds principals who are named and could never sign.
func (a *Agent) keyless(d directory, role trust.Role) error {
	var none []string
	for _, who := range role.Principals {
		if isName(who) && !d.Knows(who, "git", a.Now()) && !d.Knows(who, trust.Namespace, a.Now()) {
			none = append(none, who)
		}
	}
	if none == nil {
		return nil
	}
	return reconcile.HostFault(fmt.Errorf("no key that is valid now is in the name of %s", strings.Join(none, ", ")), "Add a line for each to the file of signers, or take the name out of the role.")
}

// approvable finds a floor that the people who could approve do not reach.
func (a *Agent) approvable(d directory, env string) error {
	people := map[string]bool{}
	for _, role := range a.Trust.Policy.Roles {
		if !role.People || len(role.Environments) > 0 && !slices.Contains(role.Environments, env) {
			continue
		}
		for _, who := range role.Principals {
			switch {
			case isName(who):
				people[who] = d.Knows(who, trust.Namespace, a.Now())
			case !strings.HasPrefix(who, "!"):
				return nil // a pattern: nobody can count whom it fits
			}
		}
	}
	able := 0
	for _, ok := range people {
		if ok {
			able++
		}
	}
	if floor := a.Trust.Policy.Approvals[env]; able < floor {
		return reconcile.HostFault(fmt.Errorf("%d have a key for it, and approvals asks for %d, so nothing can ever be approved there", able, floor),
			"Add keys of more people (their lines must allow the namespace drydock), or lower approvals.")
	}
	return nil
}

// placesOfTrust are the environments that floors and roles name, sorted.
func (a *Agent) placesOfTrust() []string {
	names := slices.Collect(maps.Keys(a.Trust.Policy.Approvals))
	for _, role := range a.Trust.Policy.Roles {
		names = append(names, role.Environments...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// folders are the top-level ones of a commit; false where they cannot be read.
func (a *Agent) folders(ctx context.Context, commit string) (names []string, known bool) {
	if commit == "" {
		return nil, false
	}
	snap, err := a.Source.At(ctx, commit)
	if err != nil {
		return nil, false
	}
	top, err := fs.ReadDir(snap.FS, ".")
	for _, e := range top {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, err == nil
}

// strange finds environments that no folder is: a floor under a name with a typo
// is a floor under nothing.
func strange(names, folders []string) error {
	for _, name := range names {
		if !slices.Contains(folders, name) {
			return reconcile.HostFault(fmt.Errorf("the repository has no folder %q, so what trust says of it holds for nothing.%s", name, strings.TrimRight(spec.DidYouMean(name, folders), " ")),
				"Correct the name in approvals or in the role, or make the folder.")
		}
	}
	return nil
}

func isName(who string) bool { return !strings.ContainsAny(who, "*?!") }
