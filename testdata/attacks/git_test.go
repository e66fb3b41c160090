package attacks

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"drydock/hostagent/keyring"
	"drydock/reconcile/trust"
	"drydock/testdata/rig"
)

// git runs git in a directory, at Noon, without anybody's configuration.
func git(t testing.TB, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	date := fmt.Sprintf("%d +0000", Noon().Unix())
	cmd.Dir = dir
	cmd.Env = append(environment(dir), "GIT_COMMITTER_DATE="+date, "GIT_AUTHOR_DATE="+date)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, said.String())
	}
	return strings.TrimSpace(string(out))
}

// environment has nobody's configuration in it. Git says each line at once.
func environment(home string) []string {
	return append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "HOME="+home, "LC_ALL=C", "TZ=UTC", "GIT_FLUSH=1",
		"GIT_AUTHOR_NAME=Ann", "GIT_AUTHOR_EMAIL=ann@acme.example", "GIT_COMMITTER_NAME=Ann", "GIT_COMMITTER_EMAIL=ann@acme.example")
}

// TestGitAgrees asks git and ssh-keygen about every commit with an SSH signature:
// no signature counts here that does not count there, and where it is the other
// way round, the row says why.
func TestGitAgrees(t *testing.T) {
	rig.SSHKeygen(t)
	dir := t.TempDir()
	write := func(name, content string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	signers, revoked := write("allowed_signers", Signers()), write("revoked", Revoked())
	keys, err := keyring.Open(keyring.Files{Signers: signers, Revoked: revoked, Names: Policy().Names()})
	if err != nil {
		t.Fatal(err)
	}
	r := NewRepo(t, filepath.Join(dir, "repo.git"))
	base := r.Base()
	of := map[string]int{} // commit -> row
	var order []string
	list := slices.Concat(rowsOfSignatures(), rowsOfBytes(), rowsOfVouches()) // the others' signatures are like these
	for i, row := range list {
		if row.then != nil || row.first != nil || row.other {
			continue // what is special there is no commit
		}
		from := len(r.made)
		row.make(r, base)
		for _, c := range r.made[from:] {
			if _, ok := of[c]; !ok && bytes.Contains(r.Raw(c), []byte("\ngpgsig -----BEGIN SSH SIGNATURE-----")) {
				of[c], order = i, append(order, c)
			}
		}
	}
	lines := verdicts(t, r.Dir, order, "-c", "gpg.ssh.allowedSignersFile="+signers, "-c", "gpg.ssh.revocationFile="+revoked)
	differ := map[int]bool{}
	for _, line := range lines {
		c, verdict, _ := strings.Cut(line, " ")
		row := list[of[c]]
		read, err := trust.ParseCommit(r.Raw(c))
		if err == nil {
			_, err = keys.Signers(read.Payload, read.Signature, Noon())
		}
		if (err == nil) == (verdict == "G") {
			continue
		}
		differ[of[c]] = true
		if row.git == "" && row.fault != trust.Malformed { // git checks signatures, not how a commit is written
			t.Errorf("%s: git says %s of %s, and here it is: %v", row.name, verdict, c, err)
		}
	}
	for i, row := range list {
		if row.git != "" && !differ[i] {
			t.Errorf("%s: git is said to think otherwise (%s), and does not", row.name, row.git)
		}
	}
	if len(lines) != len(order) || len(lines) < 80 {
		t.Errorf("git looked at %d of %d commits", len(lines), len(order))
	}
}

// verdicts are git's on commits: "<hash> <letter>" each. An ssh-keygen that has
// seen enough does not read what git still writes to it, and git dies of that:
// then it is asked about the rest.
func verdicts(t *testing.T, dir string, commits []string, config ...string) (lines []string) {
	t.Helper()
	for tries := 0; len(lines) < len(commits); tries++ {
		cmd := exec.Command("git", append(config, "log", "--no-walk=unsorted", "--stdin", "--format=%H %G?")...)
		cmd.Dir, cmd.Stdin, cmd.Env = dir, strings.NewReader(strings.Join(commits[len(lines):], "\n")+"\n"), environment(dir)
		var said bytes.Buffer
		cmd.Stderr = &said
		out, err := cmd.Output()
		if more := strings.TrimSpace(string(out)); more != "" {
			lines = append(lines, strings.Split(more, "\n")...)
		}
		if err != nil && (!strings.Contains(err.Error(), "broken pipe") || tries == 1000) {
			t.Fatalf("git log: %v\n%s", err, said.String())
		}
	}
	return lines
}

// TestGitSigns lets git and ssh-keygen make what hosts take, with every
// operation that people know, and what no host takes.
func TestGitSigns(t *testing.T) {
	rig.SSHKeygen(t)
	dir := t.TempDir()
	key := func(k *Key) string {
		p := filepath.Join(dir, strings.ReplaceAll(k.Name, "@", "."))
		if err := os.WriteFile(p, k.PEM(), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p+".pub", []byte(k.Public()+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	r := NewRepo(t, filepath.Join(dir, "repo.git"))
	base := r.Base()
	r.Push(base)
	work := filepath.Join(dir, "work")
	git(t, dir, "clone", "-q", r.Dir, work)
	for _, c := range [][2]string{{"gpg.format", "ssh"}, {"user.signingkey", key(Alice())}, {"commit.gpgsign", "true"}, {"merge.verifySignatures", "false"}} {
		git(t, work, "config", c[0], c[1])
	}
	bumper := "user.signingkey=" + key(Bumper())
	edit := func(path, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(work, path), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	do := func(args ...string) { t.Helper(); git(t, work, args...) }

	edit(web, Service("web", "1.2"))
	do("-c", bumper, "commit", "-qam", "web 1.1 -> 1.2 (prod)")
	do("-c", "user.signingkey="+key(Bob()), "commit", "-q", "--allow-empty", "-m", "A heartbeat by ECDSA")
	do("-c", "user.signingkey="+key(Carol()), "-c", "i18n.commitEncoding=ISO-8859-1", "commit", "-q", "--allow-empty", "-m", "Gr\xc3\xbc\xc3\x9fe by RSA")
	do("commit", "-q", "--amend", "--allow-empty", "-m", "Amended by Alice")
	do("checkout", "-q", "-b", "side", base)
	edit("prod/api.hcl", Service("api", "8"))
	do("-c", bumper, "commit", "-qam", "api 7 -> 8 (prod)")
	do("tag", "-s", "-m", "a release", "v8")
	do("checkout", "-q", "main")
	do("-c", "commit.gpgsign=false", "merge", "-q", "--no-ff", "-m", "Merge of a signed tag by nobody", "v8") // has a mergetag
	do("checkout", "-q", "-b", "other", base)
	edit("prod/js.hcl.json", JSONService("js", "1.1"))
	do("commit", "-qam", "js 1.0 -> 1.1 (prod)")
	do("rebase", "-q", "main") // signed anew
	do("checkout", "-q", "main")
	do("merge", "-q", "--ff-only", "other")
	do("notes", "add", "-m", "seen", "HEAD")
	do("revert", "--no-edit", "HEAD") // back to js 1.0, by who may
	good := git(t, work, "rev-parse", "HEAD")
	do("checkout", "-q", "-b", "picked", good)
	edit(web, Service("web", "1.3"))
	do("-c", bumper, "commit", "-qam", "web 1.2 -> 1.3 (prod)")
	picked := git(t, work, "rev-parse", "HEAD")
	do("checkout", "-q", "-b", "bad", good)
	do("-c", "commit.gpgsign=false", "commit", "-q", "--allow-empty", "-m", "Between")
	do("-c", "commit.gpgsign=false", "cherry-pick", picked) // which strips the signature
	bad := git(t, work, "rev-parse", "HEAD")
	do("push", "-q", "origin", "main", "bad")

	h := newHost(t, filepath.Join(dir, "host"), r.Dir)
	h.policy.Since = base
	h.file("revoked", Revoked()) // as another file of the host's
	synctest.Test(t, func(t *testing.T) {
		h.start()
		defer h.stop()
		st := h.pass()
		if is := h.running(); st.Commit != good || st.Source.Error != "" || is["web"] != "1.2" || is["api"] != "8" || is["js"] != "1.0" {
			t.Fatalf("what git signed is not taken: %+v, %v", st, is)
		}
		r.Push(bad)
		if st := h.pass(); st.Commit != good || !strings.Contains(st.Source.Error, "is not signed") {
			t.Fatalf("what git stripped is taken: %+v", st)
		}
	})
}

// TestKeygenAgrees makes approvals with ssh-keygen, and checks ours with it.
func TestKeygenAgrees(t *testing.T) {
	keygen := rig.SSHKeygen(t)
	dir := t.TempDir()
	write := func(name, content string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	run := func(stdin string, args ...string) (string, error) {
		cmd := exec.Command(keygen, args...)
		cmd.Stdin = strings.NewReader(stdin)
		out, err := cmd.Output()
		return string(out), err
	}
	signers, revoked := write("allowed_signers", Signers()), write("revoked", Revoked())
	keys, err := keyring.Open(keyring.Files{Signers: signers, Revoked: revoked})
	if err != nil {
		t.Fatal(err)
	}
	s := trust.Statement{Kind: trust.Approval, Expires: Noon(), Subject: trust.Subject{Environment: "prod", Service: "web", Version: "1.2", Digest: DigestOf("x"), Spec: strings.Repeat("0", 64)}}
	text, err := s.Text()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name      string
		sign      *Key
		as        string
		namespace string
		want      bool
	}{
		{"Ed25519", Alice(), "alice@acme.example", "drydock", true},
		{"ECDSA", Bob(), "bob@acme.example", "drydock", true},
		{"RSA", Carol(), "carol@acme.example", "drydock", true},
		{"a key for approvals", named("papers@acme.example"), "papers@acme.example", "drydock", true},
		{"a key for commits", named("commits@acme.example"), "commits@acme.example", "drydock", false},
		{"git's namespace", Alice(), "alice@acme.example", "git", false},
		{"a revoked key", named("revoked@acme.example"), "revoked@acme.example", "drydock", false},
		{"an expired key", named("old@acme.example"), "old@acme.example", "drydock", false},
		{"a stranger", Mallory(), "alice@acme.example", "drydock", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := write("key", string(test.sign.PEM()))
			theirs, err := run(string(text), "-Y", "sign", "-q", "-n", test.namespace, "-f", file)
			if err != nil {
				t.Fatal(err)
			}
			for whose, armoured := range map[string]string{"ssh-keygen's": theirs, "ours": test.sign.Sign(test.namespace, text)} {
				_, err := run(string(text), "-Y", "verify", "-f", signers, "-r", revoked, "-I", test.as, "-n", "drydock", "-Overify-time="+Noon().Format("20060102150405Z"), "-s", write("sig", armoured))
				if (err == nil) != test.want {
					t.Errorf("%s: ssh-keygen says: %v", whose, err)
				}
				path, data, err := trust.WriteApprovalFile(s, []byte(armoured))
				if err != nil {
					t.Fatal(err)
				}
				f, err := trust.ReadApprovalFile(path, data)
				if err != nil {
					t.Fatal(err)
				}
				who, _, err := keys.Approvers(f, Noon())
				if (err == nil && len(who) == 1 && who[0] == test.as) != test.want {
					t.Errorf("%s: here it is %q, %v", whose, who, err)
				}
			}
		})
	}
}
