package keyring_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"drydock/hostagent"
	"drydock/hostagent/keyring"
	"drydock/hostagent/sshsig"
	"drydock/reconcile/trust"
	"drydock/testdata/rig"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var _ hostagent.Keys = (*keyring.Keys)(nil)

// now is when signatures are judged.
var now = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// A pen is somebody's SSH key.
type pen struct {
	path, line string // of the private key; and the public one, as a file lists it
	sshsig.Signer
}

func newPen(t *testing.T) pen {
	t.Helper()
	path := rig.SSHKey(t, "", "-t", "ed25519")
	signer, err := sshsig.FromKeyFile(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return pen{path, public(t, path), signer}
}

func public(t *testing.T, path string) string {
	t.Helper()
	line, err := os.ReadFile(path + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(line))
}

func (p pen) sign(t *testing.T, namespace string, text []byte) []byte {
	t.Helper()
	s, err := p.Sign(context.Background(), namespace, text)
	if err != nil {
		t.Fatal(err)
	}
	return s.Armor()
}

func run(t *testing.T, env []string, dir string, argv ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath(argv[0]); err != nil {
		if os.Getenv("DRYDOCK_TEST_FULL") == "1" {
			t.Fatalf("%v; run: apt-get install git openssh-client gnupg", err)
		}
		t.Skipf("%v; run: apt-get install git openssh-client gnupg", err)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		t.Fatalf("%q: %v: %s", argv, err, said.String())
	}
	return out.Bytes()
}

// place is a directory that nobody else may change, as the files need it.
func place(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func file(t *testing.T, lines ...string) string {
	t.Helper()
	path := filepath.Join(place(t), "file")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t *testing.T, f keyring.Files) *keyring.Keys {
	t.Helper()
	k, err := keyring.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// payload is a commit without its signature.
func payload(email string) []byte {
	who := "Somebody <" + email + "> 1795341600 +0000\n"
	return []byte("tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor " + who + "committer " + who + "\nA commit\n")
}

// refused holds an error to its words, and to a next step.
func refused(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case err == nil:
		t.Errorf("accepted; want: %s", want)
	case !strings.Contains(err.Error(), want):
		t.Errorf("got:  %v\nwant: %s", err, want)
	case !strings.Contains(err.Error(), ";"):
		t.Errorf("says not what to do next: %v", err)
	}
}

// TestWhose: in whose name a commit's signature counts.
func TestWhose(t *testing.T) {
	key, other := newPen(t), newPen(t)
	for _, test := range []struct {
		name, email string
		lines       []string
		names       string
		want        string // the refusal
	}{
		{name: "a name", email: "whoever@acme.example", lines: []string{"alice@acme.example KEY"}, names: "alice@acme.example"},
		{name: "two names", lines: []string{"alice@acme.example,deploy KEY"}, names: "alice@acme.example deploy"},
		{name: "a name on two lines", lines: []string{"alice@acme.example KEY", "alice@acme.example KEY"}, names: "alice@acme.example"},
		{name: "two names on two lines", lines: []string{"alice@acme.example KEY", "bob@acme.example KEY"}, names: "alice@acme.example bob@acme.example"},
		{name: "case counts", lines: []string{"Alice@Acme.example KEY"}, names: "Alice@Acme.example"},
		{name: "one of two lines has ended", lines: []string{`alice@acme.example valid-before="20200101Z" KEY`, "bob@acme.example KEY"}, names: "bob@acme.example"},
		{name: "nobody's key", lines: []string{"alice@acme.example OTHER"}, want: "is on no line of"},
		{name: "an empty file", lines: []string{"# nobody yet"}, want: "is on no line of"},
		{name: "another namespace", lines: []string{`alice@acme.example namespaces="drydock,file" KEY`}, want: `may not sign in the namespace "git"`},
		{name: "git among namespaces", lines: []string{`alice@acme.example namespaces="git,drydock" KEY`}, names: "alice@acme.example"},
		{name: "ended", lines: []string{`alice@acme.example valid-before="20261122095959Z" KEY`}, want: "was valid until 2026-11-22T09:59:59Z"},
		{name: "not begun", lines: []string{`alice@acme.example valid-after="20261122100001Z" KEY`}, want: "is valid only after 2026-11-22T10:00:01Z"},
		{name: "the last second", lines: []string{`alice@acme.example valid-before="20261122100000Z" KEY`}, names: "alice@acme.example"},
		{name: "the first second", lines: []string{`alice@acme.example valid-after="20261122100000Z" KEY`}, names: "alice@acme.example"},
		{name: "never", lines: []string{`alice@acme.example valid-after="20261122100000Z",valid-before="20261122100000Z" KEY`}, want: "never valid"},
		{name: "local time", lines: []string{`alice@acme.example valid-after="20261122100000" KEY`}, want: ":1: valid-after is"},

		{name: "a pattern, claimed", email: "web@bots.example", lines: []string{"*@bots.example KEY"}, names: "web@bots.example"},
		{name: "a pattern, claimed by another", email: "web@acme.example", lines: []string{"*@bots.example KEY"}, want: "fits none"},
		{name: "a pattern's own text", email: "*@bots.example", lines: []string{"*@bots.example KEY"}, want: "fits none"},
		{name: "a pattern by its suffix", email: "web@bots.example.evil.example", lines: []string{"*@bots.example KEY"}, want: "fits none"},
		{name: "a pattern and whom it excludes", email: "root@bots.example", lines: []string{"*@bots.example,!root@* KEY"}, want: "fits none"},
		{name: "a pattern and a name of somebody else", email: "alice@acme.example", lines: []string{"*@acme.example KEY", "alice@acme.example OTHER"}, want: "is the name of somebody else's key"},
		{name: "and of somebody who was", email: "alice@acme.example", lines: []string{"*@acme.example KEY", `alice@acme.example valid-before="20200101Z" OTHER`}, want: "is the name of somebody else's key"},
		{name: "a pattern behind a name", email: "web@bots.example", lines: []string{"ci@acme.example,*@bots.example KEY"}, names: "ci@acme.example"},
		{name: "a pattern that has ended", email: "web@bots.example", lines: []string{`*@bots.example valid-before="20200101Z" KEY`}, want: "was valid until"},
		{name: "everybody", email: "web@bots.example", lines: []string{"* KEY"}, names: "web@bots.example"},
		{name: "everybody, and no email", email: "", lines: []string{"* KEY"}, want: "fits none"},
		{name: "everybody, and a list", email: "a@acme.example,b@acme.example", lines: []string{"* KEY"}, want: "fits none"},
		{name: "everybody, and a look-alike", email: "аlice@acme.example", lines: []string{"* KEY"}, want: "fits none"},
	} {
		t.Run(test.name, func(t *testing.T) {
			for i, line := range test.lines {
				line = strings.ReplaceAll(line, "OTHER", other.line)
				test.lines[i] = strings.ReplaceAll(line, "KEY", key.line)
			}
			if test.email == "" && !strings.Contains(test.name, "no email") {
				test.email = "whoever@acme.example"
			}
			text := payload(test.email)
			k, err := keyring.Open(keyring.Files{Signers: file(t, test.lines...)})
			var names []string
			if err == nil {
				names, err = k.Signers(text, key.sign(t, "git", text), now)
			}
			if test.want != "" {
				refused(t, err, test.want)
				if names != nil {
					t.Errorf("names with an error: %v", names)
				}
				return
			}
			if err != nil || strings.Join(names, " ") != test.names {
				t.Errorf("%v, %v, want %s", names, err, test.names)
			}
		})
	}
}

// TestKinds: what else a commit's header can hold.
func TestKinds(t *testing.T) {
	key := newPen(t)
	text := payload("alice@acme.example")
	signers := file(t, "alice@acme.example "+key.line)
	k := open(t, keyring.Files{Signers: signers})
	good := key.sign(t, "git", text)
	if names, err := k.Signers(text, good, now); err != nil || !slices.Equal(names, []string{"alice@acme.example"}) {
		t.Fatal(names, err)
	}
	for _, test := range []struct {
		name            string
		payload, signed []byte
		want            string
	}{
		{"another payload", payload("bob@acme.example"), good, "does not fit"},
		{"made for drydock", text, key.sign(t, "drydock", text), `not sign in the namespace`},
		{"made for files", text, key.sign(t, "file", text), `is for the namespace "file"`},
		{"PGP", text, []byte("-----BEGIN PGP SIGNATURE-----\n\n-----END PGP SIGNATURE-----\n"), "no keyring"},
		{"X.509", text, []byte("-----BEGIN SIGNED MESSAGE-----\n"), "X.509"},
		{"nothing", text, nil, "no signature"},
		{"prose", text, []byte("alice was here\n"), "no signature"},
		{"two", text, append(append([]byte{}, good...), good...), "more than one signature"},
		{"CR", text, bytes.ReplaceAll(good, []byte("\n"), []byte("\r\n")), "CR line ends"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := k.Signers(test.payload, test.signed, now)
			if test.name == "made for drydock" {
				test.want = `is for the namespace "drydock"`
			}
			refused(t, err, test.want)
		})
	}
	t.Run("revoked", func(t *testing.T) {
		k := open(t, keyring.Files{Signers: signers, Revoked: file(t, "# lost in a train", key.line)})
		_, err := k.Signers(text, good, now)
		refused(t, err, "is revoked (")
		refused(t, err, "file:2")
	})
	t.Run("weak", func(t *testing.T) {
		old := rig.SSHKey(t, "", "-t", "rsa", "-b", "1024")
		_, err := keyring.Open(keyring.Files{Signers: file(t, "alice@acme.example "+public(t, old))})
		refused(t, err, ":1: the RSA key has 1024 bits")
	})
}

// TestApprovers: names only, and the key with them.
func TestApprovers(t *testing.T) {
	key, bot := newPen(t), newPen(t)
	k := open(t, keyring.Files{Signers: file(t,
		"alice@acme.example,alice@home.example "+key.line,
		"*@bots.example "+bot.line,
	)})
	text := []byte("a statement\n")
	print := strings.Fields(string(run(t, nil, "", "ssh-keygen", "-l", "-f", key.path)))[1]

	who, by, err := k.Approvers(trust.ApprovalFile{Signed: text, Signature: key.sign(t, trust.Namespace, text)}, now)
	if err != nil || !slices.Equal(who, []string{"alice@acme.example", "alice@home.example"}) || by != print {
		t.Errorf("%v by %s (want %s), %v", who, by, print, err)
	}
	for _, test := range []struct {
		name string
		file trust.ApprovalFile
		want string
	}{
		{"a pattern", trust.ApprovalFile{Signed: text, Signature: bot.sign(t, trust.Namespace, text)}, "a pattern approves nothing"},
		{"made for git", trust.ApprovalFile{Signed: text, Signature: key.sign(t, "git", text)}, `is for the namespace "git"`},
		{"another statement", trust.ApprovalFile{Signed: []byte("another\n"), Signature: key.sign(t, trust.Namespace, text)}, "does not fit"},
		{"PGP", trust.ApprovalFile{Signed: text, Signature: []byte("-----BEGIN PGP SIGNATURE-----\n")}, "SSH keys only"},
		{"nothing", trust.ApprovalFile{Signed: text}, "does not begin"},
	} {
		t.Run(test.name, func(t *testing.T) {
			who, _, err := k.Approvers(test.file, now)
			refused(t, err, test.want)
			if who != nil {
				t.Errorf("principals with an error: %v", who)
			}
		})
	}
}

// TestGit: commits that the real git signs are read by the rules that hosts
// have, and what git verifies they do too.
func TestGit(t *testing.T) {
	if _, err := exec.LookPath("gpgconf"); err != nil && os.Getenv("DRYDOCK_TEST_FULL") != "1" {
		t.Skipf("%v; run: apt-get install gnupg", err)
	}
	home, err := os.MkdirTemp("", "gpg") // short, for a socket's sake
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"GNUPGHOME=" + home, "HOME=" + home, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "LC_ALL=C"}
	t.Cleanup(func() {
		run(t, env, "", "gpgconf", "--kill", "all")
		os.RemoveAll(home)
	})
	run(t, env, "", "gpg", "--batch", "--quiet", "--passphrase", "", "--quick-generate-key", "Alice <alice@acme.example>", "ed25519", "sign", "never")
	ring := filepath.Join(place(t), "ring.gpg")
	if err := os.WriteFile(ring, run(t, env, "", "gpg", "--batch", "--armor", "--export"), 0o644); err != nil {
		t.Fatal(err)
	}
	key := newPen(t)
	signers := file(t, "bob@acme.example "+key.line)
	k := open(t, keyring.Files{Signers: signers, OpenPGP: ring})
	both := map[string][]string{
		"alice@acme.example": {"-c", "gpg.format=openpgp", "-c", "user.signingkey=alice@acme.example"},
		"bob@acme.example":   {"-c", "gpg.format=ssh", "-c", "user.signingkey=" + key.path, "-c", "gpg.ssh.allowedSignersFile=" + signers},
	}
	for who, config := range both {
		t.Run(who, func(t *testing.T) {
			dir := t.TempDir()
			git := func(args ...string) []byte {
				t.Helper()
				return run(t, env, dir, slices.Concat([]string{"git", "-c", "user.name=Ålice", "-c", "user.email=someone@acme.example"}, config, args)...)
			}
			git("init", "-q", "-b", "main")
			git("commit", "-q", "--allow-empty", "-S", "-m", "One\n\nwith a body\n")
			git("verify-commit", "HEAD")
			c, err := trust.ParseCommit(git("cat-file", "commit", "HEAD"))
			if err != nil {
				t.Fatal(err)
			}
			names, err := k.Signers(c.Payload, c.Signature, time.Now().Add(time.Minute))
			if err != nil || !slices.Equal(names, []string{who}) {
				t.Errorf("%v, %v", names, err)
			}
			_, err = k.Signers(bytes.Replace(c.Payload, []byte("One"), []byte("Two"), 1), c.Signature, time.Now().Add(time.Minute))
			refused(t, err, "does not fit")
		})
	}
}

// TestKnows: who can sign, by name.
func TestKnows(t *testing.T) {
	key, lost := newPen(t), newPen(t)
	k := open(t, keyring.Files{Revoked: file(t, lost.line), Signers: file(t,
		"alice@acme.example,!root@acme.example "+key.line,
		"*@acme.example "+key.line,
		"lost@acme.example "+lost.line,
		`git@acme.example namespaces="git" `+key.line,
		`ended@acme.example valid-before="20260101Z" `+key.line,
	)})
	for _, test := range []struct {
		who, namespace string
		want           bool
	}{
		{"alice@acme.example", "git", true},
		{"alice@acme.example", trust.Namespace, true},
		{"git@acme.example", "git", true},
		{"git@acme.example", trust.Namespace, false},
		{"ended@acme.example", "git", false},
		{"lost@acme.example", "git", false},
		{"bob@acme.example", "git", false}, // a pattern fits
		{"*@acme.example", "git", false},
		{"root@acme.example", "git", false},
	} {
		if got := k.Knows(test.who, test.namespace, now); got != test.want {
			t.Errorf("%s in %s: %v", test.who, test.namespace, got)
		}
	}
}
