package attacks

import (
	"strings"
	"testing/fstest"
	"time"

	"drydock/reconcile/trust"
	"drydock/spec"
)

// Subject is what people sign for a service of prod as a commit declares it.
func (r *Repo) Subject(commit, service string) trust.Subject {
	r.T.Helper()
	tree := fstest.MapFS{}
	for path, content := range r.FilesOf(commit) {
		if strings.HasSuffix(path, ".hcl") || strings.HasSuffix(path, ".json") {
			tree[path] = &fstest.MapFile{Data: []byte(content), Mode: 0o644}
		}
	}
	fleet, _ := spec.Load(commit, tree)
	wanted, diags := fleet.For(spec.Host{Name: "web-1", Environment: "prod", OS: "linux", Arch: "amd64"})
	for _, s := range wanted.Services {
		if s.Name == service {
			return trust.SubjectOf(s)
		}
	}
	for _, removed := range wanted.Removed {
		if removed.Name == service {
			return trust.RemovalOf("prod", removed)
		}
	}
	r.T.Fatalf("%s declares no %s: %v", commit, service, diags)
	return trust.Subject{}
}

// Approving is people's approval of a service, for a month.
func (r *Repo) Approving(commit, service string) trust.Statement {
	r.T.Helper()
	return trust.Statement{Kind: trust.Approval, Subject: r.Subject(commit, service), Expires: Noon().Add(30 * 24 * time.Hour)}
}

// Approved are files by which people approve a service as a commit declares it.
func (r *Repo) Approved(commit, service string, who ...*Key) Files {
	r.T.Helper()
	return r.Signed(r.Approving(commit, service), who...)
}

// Signed are files with a statement that people signed.
func (r *Repo) Signed(s trust.Statement, who ...*Key) Files {
	r.T.Helper()
	all := Files{}
	for _, k := range who {
		text, err := s.Text()
		if err != nil {
			r.T.Fatal(err)
		}
		path, data, err := trust.WriteApprovalFile(s, []byte(k.Sign(trust.Namespace, text)))
		if err != nil {
			r.T.Fatal(err)
		}
		all[path] = string(data)
	}
	return all
}
