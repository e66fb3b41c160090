package hostagent

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"drydock/reconcile/trust"
	"drydock/spec"
)

// The tests of consent have people who sign with keys of their own, in words:
// a signature says who made it by which key. Whether real ones hold is sshsig's.

// people is a policy of three people and a robot.
func people() trust.Policy {
	return trust.Policy{Roles: []trust.Role{
		{Name: "people", Principals: []string{"alice@acme", "bob@acme", "carol@acme"}, May: []trust.Permission{trust.Any}, People: true},
		{Name: "pipeline", Principals: []string{"ci@acme"}, May: []trust.Permission{trust.Bump, trust.Promote, trust.Rollback}},
	}}
}

// worded are keys whose signatures are words. Who is in lost has no key any more.
type worded struct {
	lost  map[string]bool
	asked int
}

// signature is one by a person's key; "alice@acme" and "alice@acme 2" are two
// keys of one person, "alice@acme,bob@acme" one key of two.
func signature(who string) []byte {
	return []byte("-----BEGIN SSH SIGNATURE-----\n" + base64.StdEncoding.EncodeToString([]byte(who)) + "\n-----END SSH SIGNATURE-----\n")
}

func (k *worded) read(armoured []byte) (names []string, key string, err error) {
	lines := strings.Split(string(armoured), "\n")
	if len(lines) < 3 {
		return nil, "", errors.New("no signature")
	}
	text, err := base64.StdEncoding.DecodeString(strings.TrimSpace(lines[1]))
	if err != nil {
		return nil, "", err
	}
	first, _, _ := strings.Cut(string(text), " ")
	if k.lost[string(text)] {
		return nil, "", errors.New("its key has been revoked")
	}
	return strings.Split(first, ","), string(text), nil
}

func (k *worded) Signers(_, signature []byte, _ time.Time) ([]string, error) {
	names, _, err := k.read(signature)
	return names, err
}

func (k *worded) Approvers(f trust.ApprovalFile, _ time.Time) ([]string, string, error) {
	k.asked++
	return k.read(f.Signature)
}

// statement puts a person's word into files.
func statement(t testing.TB, files map[string]string, who string, s trust.Statement) (path string) {
	t.Helper()
	if s.Expires.IsZero() {
		s.Expires = time.Now().Add(30 * 24 * time.Hour)
	}
	s.Expires = s.Expires.UTC().Truncate(time.Second)
	path, data, err := trust.WriteApprovalFile(s, signature(who))
	if err != nil {
		t.Fatal(err)
	}
	files[path] = string(data)
	return path
}

// wanted is what the test host should run by some files.
func wanted(t testing.TB, files map[string]string) (spec.Wanted, fstest.MapFS) {
	t.Helper()
	tree := fstest.MapFS{}
	for name, text := range files {
		tree[name] = &fstest.MapFile{Data: []byte(text), Mode: 0o644}
	}
	fleet, diags := spec.Load("c0ffee", tree)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	w, diags := fleet.For(spec.Host{Name: "web-1", Environment: "prod", OS: "linux", Arch: "amd64"})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	return w, tree
}

// serviceIn is one of them.
func serviceIn(t testing.TB, w spec.Wanted, name string) spec.Service {
	t.Helper()
	i := slices.IndexFunc(w.Services, func(s spec.Service) bool { return s.Name == name })
	if i < 0 {
		t.Fatalf("no %s in what is wanted", name)
	}
	return w.Services[i]
}

// subject is what people sign for a service of some files.
func subject(t testing.TB, files map[string]string, name string) trust.Subject {
	t.Helper()
	w, _ := wanted(t, files)
	return trust.SubjectOf(serviceIn(t, w, name))
}

// agree adds each person's approval of a service as the files declare it.
func agree(t testing.TB, files map[string]string, name string, who ...string) {
	t.Helper()
	s := subject(t, files, name)
	for _, w := range who {
		statement(t, files, w, trust.Statement{Kind: trust.Approval, Subject: s})
	}
}

// annals is the history of a host's commits, one after the other, as a judge
// reads it: all that consent needs. A dag has forks and merges.
type annals struct {
	*host
	by      map[string]string // commit -> who signed it; "": alice
	message map[string]string
}

func (a annals) Commit(_ context.Context, hash string) ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	if _, err := fmt.Sscanf(hash, "%x", &n); err != nil || a.commits[hash] == nil {
		return nil, errors.New("no such commit")
	}
	made := &node{by: cmp.Or(a.by[hash], "alice@acme"), message: a.message[hash], at: time.Now()}
	if made.by == "nobody" {
		made.by = ""
	}
	if n > 1 {
		made.parents = []string{fmt.Sprintf("%040x", n-1)}
	}
	return commitBytes(hash, made), nil
}

func (a annals) Tree(ctx context.Context, commit string) (fs.FS, error) {
	s, err := a.At(ctx, commit)
	return s.FS, err
}

func (a annals) Changed(_ context.Context, old, new string) ([]trust.Change, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return changesBetween(a.commits[old], a.commits[new]), nil
}

func (a annals) Between(_ context.Context, accepted, head string) ([]string, error) {
	from, to := 0, 0
	if accepted != "" {
		if _, err := fmt.Sscanf(accepted, "%x", &from); err != nil {
			return nil, err
		}
	}
	if _, err := fmt.Sscanf(head, "%x", &to); err != nil {
		return nil, err
	}
	var out []string
	for i := from + 1; i <= to; i++ {
		out = append(out, fmt.Sprintf("%040x", i))
	}
	return out, nil
}

func (a annals) MergeBases(_ context.Context, x, y string) ([]string, error) {
	return []string{min(x, y)}, nil
}

// trusting are a host's options with people to ask, and their keys.
func (h *host) trusting() (Options, *worded) {
	o, keys := h.options(), &worded{lost: map[string]bool{}}
	o.Trust = &Trust{Policy: people(), Keys: keys, History: annals{host: h, by: map[string]string{}, message: map[string]string{}}}
	return o, keys
}
