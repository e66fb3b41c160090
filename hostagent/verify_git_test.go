package hostagent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"drydock/hostagent/gitsource"
	"drydock/hostagent/sshsig"
	"drydock/reconcile"
	"drydock/reconcile/trust"
)

// forge is a real repository of real commits, signed by git with ssh-keygen's
// keys, and a host that follows it.
type forge struct {
	t    *testing.T
	dir  string
	host *host
	opts Options
	pol  trust.Policy
}

// gitHead is the real source as the agent wants it.
type gitHead struct{ *gitsource.Source }

func (g gitHead) Head(ctx context.Context, accepted string) (Snapshot, error) {
	s, err := g.Source.Head(ctx, accepted)
	return Snapshot(s), err
}

func (g gitHead) At(ctx context.Context, commit string) (Snapshot, error) {
	s, err := g.Source.At(ctx, commit)
	return Snapshot(s), err
}

func (g gitHead) Accepted(context.Context) (string, error) { return g.Source.Accepted() }

// realKeys are those of a file, without what package keyring, which this one
// cannot import, does besides.
type realKeys struct{ file *sshsig.Signers }

func (k realKeys) Signers(payload, signature []byte, at time.Time) (names []string, err error) {
	sig, err := sshsig.Parse(signature)
	if err != nil {
		return nil, err
	}
	all, err := k.file.Identify("git", payload, sig, at)
	for _, p := range all {
		names = append(names, p.Name)
	}
	return names, err
}

func (realKeys) Approvers(trust.ApprovalFile, time.Time) ([]string, string, error) {
	return nil, "", errors.New("nobody")
}

func newForge(t *testing.T) *forge {
	t.Helper()
	for _, program := range []string{"git", "ssh-keygen"} {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("DRYDOCK_TEST_FULL") != "" {
				t.Fatal(err)
			}
			t.Skip("apt-get install git openssh-client")
		}
	}
	f := &forge{t: t, dir: t.TempDir(), host: newHost(t)}
	for _, who := range []string{"alice", "ci", "stranger"} {
		f.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", who, "-f", f.path(who))
	}
	f.signers("alice", "ci")
	f.run("git", "init", "-q", "-b", "main", f.path("repo"))
	source, err := gitsource.Open(gitsource.Options{URL: f.path("repo"), Dir: f.path("clone.git")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = source.Close() })
	f.pol = trust.Policy{Roles: []trust.Role{
		{Name: "people", Principals: []string{"alice@acme"}, May: []trust.Permission{trust.Any}, People: true},
		{Name: "pipeline", Principals: []string{"ci@acme"}, May: []trust.Permission{trust.Bump}},
	}}
	f.opts = f.host.options()
	f.opts.Source = gitHead{source}
	f.opts.Trust = &Trust{History: source.History()}
	return f
}

// agent is one that reads the files of keys as they are now.
func (f *forge) agent() *Agent {
	f.t.Helper()
	data, err := os.ReadFile(f.path("signers"))
	if err != nil {
		f.t.Fatal(err)
	}
	signers, err := sshsig.ParseAllowedSigners(data, "signers")
	if err != nil {
		f.t.Fatal(err)
	}
	o := f.opts
	o.Trust = &Trust{Policy: f.pol, Keys: realKeys{signers}, History: f.opts.Trust.History}
	return New(o)
}

func (f *forge) path(name string) string { return filepath.Join(f.dir, name) }

func (f *forge) run(name string, args ...string) string {
	f.t.Helper()
	cmd := exec.CommandContext(f.t.Context(), name, args...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "HOME="+f.dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		f.t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (f *forge) git(args ...string) string {
	f.t.Helper()
	return f.run("git", append([]string{"-C", f.path("repo")}, args...)...)
}

// signers writes who may sign, in lines of "name", or "name options".
func (f *forge) signers(lines ...string) {
	f.t.Helper()
	var b strings.Builder
	for _, l := range lines {
		who, options, _ := strings.Cut(l, " ")
		pub, err := os.ReadFile(f.path(who) + ".pub")
		if err != nil {
			f.t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s@acme %s %s", who, options, pub)
	}
	if err := os.WriteFile(f.path("signers"), []byte(b.String()), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

// commit makes a commit that declares web at a version ("": as it is), signed by
// who unless that begins with "-".
func (f *forge) commit(who, version, message string) string {
	f.t.Helper()
	name, unsigned := strings.CutPrefix(who, "-")
	if version != "" {
		text := strings.NewReplacer(`"1s"`, `"1ms"`, `address = "127.0.0.1:80"`, "address = \"127.0.0.1:80\"\n    interval = \"10ms\"").Replace(declared("web", version, ""))
		if err := os.MkdirAll(f.path("repo/prod"), 0o700); err != nil {
			f.t.Fatal(err)
		}
		if err := os.WriteFile(f.path("repo/prod/web.hcl"), []byte(text), 0o600); err != nil {
			f.t.Fatal(err)
		}
		f.git("add", "-A")
	}
	args := []string{"-c", "user.name=" + name, "-c", "user.email=" + name + "@acme", "-c", "gpg.format=ssh", "-c", "user.signingkey=" + f.path(name),
		"commit", "-q", "--allow-empty", "-m", message}
	if !unsigned {
		args = append(args, "-S")
	}
	f.git(args...)
	return f.git("rev-parse", "HEAD")
}

func TestRealCommits(t *testing.T) {
	f := newForge(t)
	first := f.commit("-alice", "1", "first, signed by nobody")
	f.pol.Since = first
	a := f.agent()
	pass(t, a)
	is(t, a, "web", reconcile.Converged, "1")
	if s := sourceOf(t, a); !s.Verified || s.How != "accepted" {
		t.Fatalf("%+v", s)
	}

	f.commit("ci", "2", "web 1 -> 2 (prod)")
	pass(t, a)
	is(t, a, "web", reconcile.Converged, "2")
	if s := sourceOf(t, a); !s.Verified || strings.Join(s.By, " ") != "ci@acme" {
		t.Fatalf("%+v", s)
	}

	bad := f.commit("stranger", "3", "web 2 -> 3 (prod)")
	pass(t, a)
	is(t, a, "web", reconcile.Converged, "2")
	if s := sourceOf(t, a); s.Blocked != bad || !strings.Contains(s.Error, "stranger <stranger@acme>") || !strings.Contains(s.Error, "is on no line of") {
		t.Fatalf("%+v", s)
	}
	vouched := f.commit("alice", "", "vouch\n\nDrydock-Vouch: "+bad)
	pass(t, a)
	is(t, a, "web", reconcile.Converged, "3")

	// The branch's owner puts it back.
	f.git("reset", "-q", "--hard", first)
	pass(t, a)
	is(t, a, "web", reconcile.Converged, "3")
	if s := sourceOf(t, a); s.Error == "" || a.Status(t.Context()).Commit != vouched {
		t.Fatalf("%+v", s)
	}
	f.git("reset", "-q", "--hard", vouched)

	// A merge of signed branches that adds nothing, by whoever has the button.
	f.git("checkout", "-q", "-b", "side")
	if err := os.WriteFile(f.path("repo/notes.md"), []byte("x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f.git("add", "-A")
	f.commit("alice", "", "notes")
	f.git("checkout", "-q", "main")
	f.commit("ci", "4", "web 3 -> 4 (prod)")
	f.git("-c", "user.name=button", "-c", "user.email=button@forge", "merge", "-q", "--no-ff", "-m", "merge", "side")
	pass(t, a)
	is(t, a, "web", reconcile.Converged, "4")
	if s := sourceOf(t, a); s.How != "merged" || strings.Join(s.By, " ") != "alice@acme ci@acme" {
		t.Fatalf("%+v", s)
	}

	// The robot's key is taken away: what is accepted stays, what comes is refused.
	f.signers("alice")
	a = f.agent()
	pass(t, a)
	is(t, a, "web", reconcile.Converged, "4")
	if s := sourceOf(t, a); !s.Verified || s.Error != "" {
		t.Fatalf("%+v", s)
	}
	late := f.commit("ci", "5", "web 4 -> 5 (prod)")
	pass(t, a)
	is(t, a, "web", reconcile.Converged, "4")
	if s := sourceOf(t, a); s.Blocked != late {
		t.Fatalf("%+v", s)
	}
	// And given back, with an end that is over, which it was not when the host
	// saw the commit first.
	f.signers("alice", "ci valid-before="+`"`+time.Now().Add(time.Minute).UTC().Format("20060102150405")+`Z"`)
	f.opts.Now = func() time.Time { return time.Now().Add(time.Hour) }
	a = f.agent()
	pass(t, a)
	is(t, a, "web", reconcile.Converged, "5")
	f.commit("ci", "6", "web 5 -> 6 (prod)")
	pass(t, a)
	is(t, a, "web", reconcile.Converged, "5")
	if s := sourceOf(t, a); !strings.Contains(s.Error, "was valid until") {
		t.Fatalf("%+v", s)
	}
}
