package gitsource

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"drydock/hostagent/keyring"
	"drydock/hostagent/sshsig"
	"drydock/reconcile/trust"

	"golang.org/x/crypto/ssh"
)

// signedRig is a repository of many services, with bumps behind since that
// nobody signed, and bumps after it that are signed as git does it.
type signedRig struct {
	*origin
	since, head string
	signers     string // the file of allowed signers
	keys        *keyring.Keys
}

func newSignedRig(t testing.TB, services, behind, after int) *signedRig {
	t.Helper()
	dir := t.TempDir()
	r := &signedRig{origin: newOrigin(t), signers: filepath.Join(dir, "allowed_signers")}
	k := newKey(t)
	must(os.WriteFile(r.signers, fmt.Appendf(nil, "ci@acme.example namespaces=\"git\" %s", ssh.MarshalAuthorizedKey(k.PublicKey())), 0o600))
	keyFile := filepath.Join(dir, "key")
	must(os.WriteFile(keyFile, pem.EncodeToMemory(k.block), 0o600))
	signer, err := sshsig.FromKeyFile(keyFile, nil)
	must(err)
	r.keys, err = keyring.Open(keyring.Files{Signers: r.signers})
	if err != nil {
		t.Fatal(err)
	}
	r.bump(services, behind+after)
	r.sign(signer, after)
	return r
}

func (r *signedRig) path(i int) string { return fmt.Sprintf("staging/team-%02d/s%05d.hcl", i%50, i) }

// bump makes the services, and then one commit a bump, with git's own import.
func (r *signedRig) bump(services, bumps int) {
	r.t.Helper()
	var in bytes.Buffer
	at := time.Now().Unix() - int64(bumps) - 10
	commit := func(i int) {
		fmt.Fprintf(&in, "commit refs/heads/main\ncommitter CI <ci@acme.example> %d +0000\ndata 4\nbump\n", at+int64(i))
	}
	file := func(i, version int) {
		text := fmt.Sprintf("service \"s%[1]d\" {\n  hosts = {}\n  release {\n    version = \"1.0.%[2]d\"\n    digest  = \"sha256:%[3]x\"\n  }\n  artifact {\n    source = \"https://a.example/s%[1]d-${release.version}.tar.gz\"\n  }\n  install \"archive\" {\n    path = \"/srv/s%[1]d\"\n  }\n}\n",
			i, version, sha256.Sum256(fmt.Appendf(nil, "%d %d", i, version)))
		fmt.Fprintf(&in, "M 100644 inline %s\ndata %d\n%s\n", r.path(i), len(text), text)
	}
	commit(0)
	for i := range services {
		file(i, 0)
	}
	versions := map[int]int{}
	for i := range bumps {
		commit(i + 1)
		s := i * 7 % services
		versions[s]++
		file(s, versions[s])
	}
	cmd := exec.Command("git", "fast-import", "--quiet")
	cmd.Dir, cmd.Env, cmd.Stdin = r.dir, clean(), &in
	if out, err := cmd.CombinedOutput(); err != nil {
		r.t.Fatalf("fast-import: %v\n%s", err, out)
	}
}

// sign makes the last commits anew, each with a signature.
func (r *signedRig) sign(by sshsig.Signer, n int) {
	r.t.Helper()
	p := &pen{filepath.Join(r.dir, ".git")}
	r.since = r.git("rev-parse", fmt.Sprint("main~", n))
	parent := r.since
	now := time.Now().Unix() - int64(n)
	for i, tree := range strings.Fields(r.git("log", "--reverse", "--format=%T", r.since+"..main")) {
		head := fmt.Sprintf("tree %s\nparent %s\nauthor CI <ci@acme.example> %d +0000\ncommitter CI <ci@acme.example> %[3]d +0000\n", tree, parent, now+int64(i))
		sig, err := by.Sign(context.Background(), "git", []byte(head+"\nbump\n"))
		must(err)
		armour := strings.ReplaceAll(strings.TrimSpace(string(sig.Armor())), "\n", "\n ")
		parent = p.object("commit", []byte(head+"gpgsig "+armour+"\n\nbump\n"))
	}
	r.head = parent
	r.git("update-ref", "refs/heads/main", r.head)
	r.git("repack", "-adq", "--window=5")
}

func (r *signedRig) judge(h trust.History, past *trust.Past) *trust.Judge {
	return &trust.Judge{History: h, Keys: r.keys, Past: past, Policy: trust.Policy{Since: r.since, Roles: []trust.Role{
		{Name: "people", Principals: []string{"ann@acme.example"}, May: []trust.Permission{trust.Any}, People: true},
		{Name: "pipeline", Principals: []string{"ci@acme.example"}, May: []trust.Permission{trust.Bump}, Environments: []string{"staging"}},
	}}}
}

// TestAHostJudgesWhatItCloned: the rules, the keys and the objects together.
func TestAHostJudgesWhatItCloned(t *testing.T) {
	t.Parallel()
	r := newSignedRig(t, 20, 10, 30)
	s := follow(t, r.dir)
	head(t, s, "", r.head)
	past := &trust.Past{}
	v, err := r.judge(s.History(), past).Judge(t.Context(), "", r.head, time.Now())
	if err != nil || v.Commits != 30 || v.How != trust.Signed {
		t.Fatalf("%+v, %v", v, err)
	}
	if out := r.verified(t); out != strings.Repeat("G", 30) {
		t.Fatalf("git itself says %s", out)
	}

	// A commit in the middle whose files nobody can read twice the same way.
	p := &pen{s.o.Dir}
	bad := p.commit(p.tree(penEntry{"100644 ..", p.object("blob", nil)}), int(time.Now().Unix()), r.head)
	var b *trust.Blocker
	if _, err := r.judge(s.History(), past).Judge(t.Context(), r.head, bad, time.Now()); !errors.As(err, &b) || b.Commit != bad || b.Fault != trust.Malformed {
		t.Fatalf("%v", err)
	}
	if !strings.Contains(b.Error(), "take it off the branch") {
		t.Errorf("what to do? %v", b)
	}
	if _, err := s.current(); err != nil {
		t.Errorf("the clone counts as damaged: %v", err)
	}
}

// verified is a letter a commit, as git itself judges the signatures.
func (r *signedRig) verified(t testing.TB) string {
	t.Helper()
	out := run(t, r.dir, "git", "-c", "gpg.format=ssh", "-c", "gpg.ssh.allowedSignersFile="+r.signers, "log", "--format=%G?", r.since+".."+r.head)
	return strings.ReplaceAll(out, "\n", "")
}

// BenchmarkVerify is a thousand new signed commits of a repository of 10,000
// files with as many commits behind; testdata/bench reads its pairs.
func BenchmarkVerify(b *testing.B) {
	const after = 1000
	r := newSignedRig(b, many, many, after)
	s := follow(b, r.dir)
	head(b, s, "", r.head)
	first := &trust.Past{}
	must(first.Learn(b.Context(), s.History(), r.since))
	kept, err := first.MarshalBinary()
	must(err)
	learnt := func(*History) *trust.Past { // as a process that was started has it, out of its file
		past := &trust.Past{}
		must(past.UnmarshalBinary(kept))
		return past
	}
	again := func() *Source { return open(b, s.o) }
	judge := func(b *testing.B, h trust.History, past *trust.Past) {
		if v, err := r.judge(h, past).Judge(b.Context(), "", r.head, time.Now()); err != nil || v.Commits != after {
			b.Fatal(v, err)
		}
	}
	b.Run("a running agent", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			h := again().History()
			past := learnt(h)
			b.StartTimer()
			judge(b, h, past)
		}
	})
	b.Run("after a start", func(b *testing.B) {
		for b.Loop() {
			h := again().History()
			judge(b, h, learnt(h))
		}
	})
	b.Run("after a start, the past forgotten", func(b *testing.B) {
		for b.Loop() {
			judge(b, again().History(), nil)
		}
	})
	b.Run("the history alone", func(b *testing.B) {
		for b.Loop() {
			h := again().History()
			all, err := h.Between(b.Context(), r.since, r.head)
			must(err)
			parent := r.since
			for _, c := range all {
				must(second(h.Commit(b.Context(), c)))
				must(second(h.Changed(b.Context(), parent, c)))
				parent = c
			}
		}
	})
	b.Run("merge bases, all behind", func(b *testing.B) {
		for b.Loop() {
			must(second(again().History().MergeBases(b.Context(), r.since, r.head)))
		}
	})
	b.Run("nothing new", func(b *testing.B) {
		h := again().History()
		for b.Loop() {
			if _, err := r.judge(h, nil).Judge(b.Context(), r.head, r.head, time.Now()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("a pair", func(b *testing.B) {
		for b.Loop() {
			h := again().History()
			past := learnt(h)
			began := time.Now()
			judge(b, h, past)
			ours := time.Since(began)
			began = time.Now()
			if out := r.verified(b); out != strings.Repeat("G", after) {
				b.Fatal(out)
			}
			fmt.Printf("pair %f %f\n", ours.Seconds()*1e3, time.Since(began).Seconds()*1e3)
		}
	})
}
