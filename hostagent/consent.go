package hostagent

import (
	"context"
	"errors"
	"io/fs"
	"reflect"
	"slices"
	"strings"
	"time"

	"drydock/reconcile"
	"drydock/reconcile/trust"
	"drydock/spec"
)

// consents reads what people have signed, from each commit that is taken up.
// It is for one goroutine at a time.
type consents struct {
	trust *Trust // nil: nobody's signature can be checked here
	env   string
	now   func() time.Time

	// signed are files that were read before, by name, which is a hash of what
	// they hold: whose a signature is does not change while the keys do not.
	signed map[string]trust.SignedStatement
	keys   Keys // that signed was made by

	// Who changed a declaration: of older commits, what they declared for this
	// host, by commit.
	declared map[string]map[string]string
	loader   *spec.Loader
	writers  *trust.Writers
	again    bool // the history could not be read: the same commit is read again
}

// consent is what people agreed to by one commit: a [reconcile.Consent]. It is
// a value; nothing in it changes once it was read.
type consent struct {
	commit  string
	policy  *trust.Policy // nil: this host has no trust section
	signed  map[string][]trust.SignedStatement
	ignored map[string][]trust.Ignored // by folder, as signed
	authors map[trust.Subject][]string
	doubts  map[trust.Subject]string // why nobody knows who the authors are
	unread  string                   // why nothing could be read; "" if all was
}

// unread consents to nothing that anybody has to be asked for.
func (c *consents) unread(why string) *consent {
	out := &consent{unread: why}
	if c.trust != nil {
		out.policy = &c.trust.Policy
	}
	return out
}

// read looks for the statements that what is wanted may need: those of the
// releases and removals of this host, and of no other.
func (c *consents) read(ctx context.Context, snap Snapshot, want spec.Wanted, m reconcile.Memory) *consent {
	out := &consent{commit: snap.Commit, signed: map[string][]trust.SignedStatement{}, ignored: map[string][]trust.Ignored{}, authors: map[trust.Subject][]string{}, doubts: map[trust.Subject]string{}}
	c.again = false
	if c.trust == nil {
		return out
	}
	out.policy = &c.trust.Policy
	seen := map[string]trust.SignedStatement{}
	for _, s := range want.Services {
		c.folder(out, seen, snap.FS, trust.Statement{Kind: trust.Approval, Subject: trust.SubjectOf(s)}.Folder())
	}
	for _, r := range want.Removed {
		if m.Services[r.Name] != nil {
			s := trust.Statement{Kind: trust.Removal, Subject: trust.RemovalOf(want.Host.Environment, r)}
			c.folder(out, seen, snap.FS, s.Folder())
			c.spend(ctx, out, s, m.Services[r.Name])
		}
	}
	if !c.known() {
		c.writers = nil
	}
	c.signed, c.keys = seen, c.trust.Keys
	c.authors(ctx, out, want, m)
	return out
}

// spend takes out what people signed for an earlier removal: the statement of
// the next one is the same, and what stood there when this host took the service
// up again was not about that.
func (c *consents) spend(ctx context.Context, out *consent, s trust.Statement, r *reconcile.Remembered) {
	folder := s.Folder()
	taken := whatRan(r).Origin.Commit
	if taken == "" || c.trust.History == nil || len(out.signed[folder]) == 0 {
		return
	}
	if _, err := c.trust.History.Commit(ctx, taken); err != nil && ctx.Err() == nil {
		return // not in its history any more
	}
	tree, err := c.trust.History.Tree(ctx, taken)
	if err != nil {
		c.again, out.doubts[s.Subject] = true, err.Error()
		return
	}
	out.signed[folder] = slices.DeleteFunc(out.signed[folder], func(f trust.SignedStatement) bool {
		_, err := fs.Stat(tree, f.File)
		stood := !errors.Is(err, fs.ErrNotExist)
		if stood {
			out.ignored[folder] = append(out.ignored[folder], trust.Ignored{File: f.File, Who: strings.Join(f.Principals, " and "), Why: "it stood there already when this host took the service, so it is on an earlier removal"})
		}
		return stood
	})
}

// known reports whether what was read before was read by the keys of now.
func (c *consents) known() bool {
	return c.keys != nil && reflect.TypeOf(c.keys).Comparable() && c.keys == c.trust.Keys
}

// folder takes up the files of one release, or of one removal.
func (c *consents) folder(out *consent, seen map[string]trust.SignedStatement, fsys fs.FS, folder string) {
	if _, done := out.signed[folder]; done {
		return
	}
	var files []trust.ApprovalFile
	files, out.ignored[folder] = trust.ReadApprovals(fsys, folder)
	out.signed[folder] = nil
	for _, f := range files {
		s, ok := c.signed[f.File]
		if !ok || !c.known() {
			s = f.SignedBy(c.trust.Keys.Approvers(f, c.now()))
		}
		seen[f.File] = s
		out.signed[folder] = append(out.signed[folder], s)
	}
}
