// Package trust decides what a host may accept and install: which commits may
// move it forward, and whose consent a release has. Its rules are pure: who
// signed, what a commit changed and what the time is come in from outside.
//
// Of commits: a [Judge] goes through them, parents first. ParseCommit reads one,
// needs.go and merge.go say what it does, a [Policy] whose roles allow that, and
// a [Past] which releases there were before.
//
// Of releases: Policy.Approve and Attest count the people who signed a
// [Statement], which stands in an [ApprovalFile]; [Writers] find who made what
// they sign, and Fresh says whether a host knows enough of the present.
package trust

import (
	"context"
	"errors"
	"io/fs"
	"time"
)

// Permission is what a role may do by its commits.
type Permission string

// The permissions. Any is all of them, and everything else.
const (
	Bump     Permission = "bump"
	Rollback Permission = "rollback"
	Promote  Permission = "promote"
	Freeze   Permission = "freeze"
	Operate  Permission = "operate" // forget, resolve, heartbeat, retry
	Any      Permission = "any"
)

// Role is one of the host's roles: whose commits may do what.
type Role struct {
	Name         string
	Principals   []string // literal, or patterns as OpenSSH has them
	May          []Permission
	Environments []string // none: in all of them
	People       bool     // only these count in approvals
}

// Policy is the host's own trust section. It is never read from the repository.
type Policy struct {
	// Since is the commit that is taken on trust; every later one is verified.
	// "" takes the first head that the host sees.
	Since     string
	Roles     []Role
	Approvals map[string]int // by environment: a floor under the repository's own approval blocks
	Freshness time.Duration  // 0: a host may wait for a newer commit for ever
}

// History is a repository, object by object, each hashed again as it is read.
// Its errors are the store's, and none of them means that a signature is
// missing; those about what an object says, which its hash proves, wrap ErrUnfit.
type History interface {
	// Commit is a commit's own bytes, as they were hashed.
	Commit(ctx context.Context, hash string) ([]byte, error)
	// Tree is a commit's tree, as spec.Load takes it.
	Tree(ctx context.Context, commit string) (fs.FS, error)
	// Changed compares the trees of two commits, path by path; "" is the empty tree.
	Changed(ctx context.Context, old, new string) ([]Change, error)
	// Between are the commits that can be reached from head and not from
	// accepted, parents before their children; with accepted "", all behind
	// head, and head itself.
	Between(ctx context.Context, accepted, head string) ([]string, error)
	// MergeBases are the best common ancestors of two commits.
	MergeBases(ctx context.Context, a, b string) ([]string, error)
}

// ErrUnfit is that of an object that is whole, and that no host can take: a
// malformed tree, one that is too large. Reading it again changes nothing.
var ErrUnfit = errors.New("nothing that a host can take")

// Change is one path that differs between two trees.
type Change struct {
	Path     string
	Old, New Entry
}

// Entry is what stands at a path: zero where nothing does.
type Entry struct {
	Mode uint32 // as git writes it: 0o100644, 0o100755, 0o120000, 0o160000
	Blob string // its hash
}

// Keys knows who may have signed: allowed_signers, OpenPGP keyrings.
type Keys interface {
	// Signers are the principals whose key made this signature over payload in
	// git's namespace, valid at the time `at`. They are names: a pattern of the
	// file is nobody, and one that is returned gets no role. An error says in
	// words for people why there is none: another namespace, an expired key, an
	// unknown one.
	Signers(payload, signature []byte, at time.Time) ([]string, error)
}
