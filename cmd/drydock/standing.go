package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"drydock/hostagent/gitsource"
	"drydock/hostagent/sshsig"
	"drydock/reconcile/trust"
	"drydock/spec"
	"github.com/hashicorp/hcl/v2"
)

// standing is one commit as hosts will read it: from git's objects, whatever
// the work tree holds.
type standing struct {
	tree
	repo  *gitsource.Repository
	fleet *spec.Fleet
	fsys  fs.FS
}

// stand reads a tree's commit. Its close must be called.
func stand(t tree) (*standing, error) {
	repo, err := gitsource.OpenRepository(t.dir)
	if err != nil {
		return nil, err
	}
	fsys, _, err := commitFS(repo, t.head)
	if err != nil {
		repo.Close()
		return nil, err
	}
	fleet, _ := spec.Load(t.head, fsys)
	return &standing{tree: t, repo: repo, fleet: fleet, fsys: fsys}, nil
}

func (st *standing) close() { _ = st.repo.Close() }

// declared is a service as the commit declares it; a fault of its declaration
// is an error, as nobody knows what hosts would make of it.
func (st *standing) declared(environment, service string) (spec.Declared, error) {
	if err := checkEnvironment(st.fsys, environment); err != nil {
		return spec.Declared{}, err
	}
	if faults := st.fleet.Faults(environment); len(faults) > 0 {
		return spec.Declared{}, &fileError{faults, st.fleet.Files()}
	}
	path, err := locate(st.fsys, environment, service)
	if err != nil {
		return spec.Declared{}, err
	}
	all, diags := st.fleet.Services(environment)
	for _, d := range all {
		if d.Name == service {
			return d, nil
		}
	}
	its := slices.DeleteFunc(errorsOnly(diags), func(d *hcl.Diagnostic) bool { return d.Subject != nil && d.Subject.Filename != path })
	if len(its) == 0 {
		its = errorsOnly(diags)
	}
	return spec.Declared{}, &fileError{its, st.fleet.Files()}
}

// removals are the removed blocks of a service.
func (st *standing) removals(environment, service string) ([]spec.Removed, error) {
	if err := checkEnvironment(st.fsys, environment); err != nil {
		return nil, err
	}
	all, diags := st.fleet.Removals(environment)
	if diags.HasErrors() {
		return nil, &fileError{diags, st.fleet.Files()}
	}
	var its []spec.Removed
	var names []string
	for _, r := range all {
		if names = append(names, r.Name); r.Name == service {
			its = append(its, r)
		}
	}
	if its == nil {
		return nil, fmt.Errorf("%s removes no service %q%s", environment, service, suggest(service, names, "it removes"))
	}
	return its, nil
}

// vote is an approval or attestation that the commit holds.
type vote struct {
	trust.SignedStatement
	key  sshsig.Key
	when time.Time // it was committed
	in   string    // the commit that added it
}

// maxVotes is how many signatures on one service are looked at, of all releases.
const maxVotes = 5000

// votes reads what people signed for a service, whichever release it was for.
// signers say who they are; without them it is who committed the file.
func (st *standing) votes(ctx context.Context, environment, service string, signers *sshsig.Signers, now time.Time) ([]vote, error) {
	folder := "approvals/" + environment + "/" + service
	var out []vote
	releases, err := fs.ReadDir(st.fsys, folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, release := range releases {
		files, _ := trust.ReadApprovals(st.fsys, folder+"/"+release.Name())
		for _, f := range files {
			if v, ok := voteOf(f); ok && len(out) < maxVotes {
				out = append(out, v)
			}
		}
	}
	if len(out) == 0 {
		return nil, nil
	}
	added, err := st.additions(ctx, folder)
	if err != nil {
		return nil, err
	}
	for i := range out {
		v := &out[i]
		by := added[v.File]
		v.in, v.when = by.commit, by.when
		if signers == nil {
			v.Principals = []string{by.email}
		} else if v.Principals = namesOf(signers, v.key, now); v.Principals == nil {
			v.Why = "its key is not among git's gpg.ssh.allowedSignersFile"
		}
	}
	return out, nil
}

// voteOf holds a file's signature to its statement.
func voteOf(f trust.ApprovalFile) (v vote, ok bool) {
	sig, err := sshsig.Parse(f.Signature)
	if err != nil || sig.Verify(f.Signed, trust.Namespace) != nil {
		return v, false
	}
	v.SignedStatement = f.SignedBy(nil, sig.Key().Fingerprint(), nil)
	v.key = sig.Key()
	return v, true
}

// namesOf are the names in which a key may sign statements.
func namesOf(signers *sshsig.Signers, key sshsig.Key, now time.Time) []string {
	who, _ := signers.Match(key, trust.Namespace, now)
	var names []string
	for _, p := range who {
		if !p.Pattern {
			names = append(names, p.Name)
		}
	}
	return names
}

// addition is the commit by which a file came.
type addition struct {
	commit, email string
	when          time.Time
}

// additions are the last ones of each file below a folder.
func (st *standing) additions(ctx context.Context, folder string) (map[string]addition, error) {
	log, err := st.run(ctx, "-c", "core.quotePath=false", "log", "--first-parent", "-m", "--no-renames", "--diff-filter=A", "--name-only",
		"--format=commit %H %aI %ae", st.head, "--", folder)
	if err != nil {
		return nil, err
	}
	out := map[string]addition{}
	var a addition
	for line := range strings.Lines(log) {
		line = strings.TrimRight(line, "\n")
		if rest, ok := strings.CutPrefix(line, "commit "); ok {
			f := strings.SplitN(rest, " ", 3)
			if len(f) == 3 {
				a = addition{commit: f[0], email: f[2]}
				a.when, _ = time.Parse(time.RFC3339, f[1])
			}
		} else if _, met := out[line]; line != "" && !met {
			out[line] = a
		}
	}
	return out, nil
}

// before finds what a service is compared with: the commit that brought the last
// approval of something else than is declared now, or else the one before the
// present release. "" if there is none.
func (st *standing) before(ctx context.Context, d spec.Declared, votes []vote) (string, error) {
	now := trust.SubjectOf(d.Service)
	last := vote{}
	for _, v := range votes {
		if v.Kind == trust.Approval && v.Subject != now && v.in != "" && (last.in == "" || v.when.After(last.when)) {
			last = v
		}
	}
	if last.in != "" {
		return last.in, nil
	}
	had, err := releases(ctx, st.tree, d.File, d.Name, "")
	if err != nil || len(had) == 0 {
		return "", err
	}
	parent, err := st.run(ctx, "rev-parse", "--verify", "--quiet", had[0].commit+"^1")
	if err != nil {
		return "", nil // the first commit, or all that a shallow clone has
	}
	return parent, nil
}

// knownSigners are those by which this clone's git names keys; nil: none.
func knownSigners(ctx context.Context, g git) (*sshsig.Signers, error) {
	path, err := g.run(ctx, "config", "--type=path", "--get", "gpg.ssh.allowedSignersFile")
	if err != nil || path == "" {
		return nil, nil
	}
	data, err := readBounded(path, sshsig.MaxFile)
	if err != nil {
		return nil, fmt.Errorf("git's gpg.ssh.allowedSignersFile: %w", err)
	}
	return sshsig.ParseAllowedSigners(data, path)
}
