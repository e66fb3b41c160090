package openpgp_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"drydock/hostagent/openpgp"
)

// A home is a throwaway GnuPG home, with its own agent.
type home struct {
	t   testing.TB
	dir string
}

func newHome(t testing.TB) *home {
	t.Helper()
	for _, name := range []string{"gpg", "gpgconf"} {
		if _, err := exec.LookPath(name); err != nil {
			if os.Getenv("DRYDOCK_TEST_FULL") == "1" {
				t.Fatalf("%v; run: apt-get install gnupg", err)
			}
			t.Skipf("%v; run: apt-get install gnupg", err)
		}
	}
	// Its agent's socket is in it, and a socket's path may not be long.
	dir, err := os.MkdirTemp("", "gpg")
	if err != nil {
		t.Fatal(err)
	}
	h := &home{t, dir}
	t.Cleanup(func() {
		kill := exec.Command("gpgconf", "--kill", "all")
		kill.Env = h.env()
		if out, err := kill.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		os.RemoveAll(dir)
	})
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *home) env() []string { return append(os.Environ(), "GNUPGHOME="+h.dir, "LC_ALL=C") }

// try runs gpg, and is its output.
func (h *home) try(stdin string, args ...string) (string, error) {
	return h.run(stdin, append([]string{"--batch", "--no-tty", "--quiet", "--pinentry-mode", "loopback", "--passphrase", "", "--trust-model", "always"}, args...))
}

func (h *home) run(stdin string, args []string) (string, error) {
	cmd := exec.Command("gpg", args...)
	cmd.Env, cmd.Stdin = h.env(), strings.NewReader(stdin)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return out.String(), &failed{args, err, said.String()}
	}
	return out.String(), nil
}

type failed struct {
	args []string
	err  error
	said string
}

func (f *failed) Error() string {
	return "gpg " + strings.Join(f.args, " ") + ": " + f.err.Error() + ": " + f.said
}

func (h *home) gpg(stdin string, args ...string) string {
	h.t.Helper()
	out, err := h.try(stdin, args...)
	if err != nil {
		h.t.Fatal(err)
	}
	return out
}

// key makes one, of no passphrase, that is valid for ever.
func (h *home) key(user, algorithm, usage string, more ...string) string {
	h.t.Helper()
	h.gpg("", append(more, "--quick-generate-key", user, algorithm, usage, "never")...)
	return h.print(user)
}

// print is the fingerprint of a user's primary key.
func (h *home) print(user string) string {
	h.t.Helper()
	return h.prints(user)[0]
}

// prints are those of a user's subkeys too.
func (h *home) prints(user string) []string {
	h.t.Helper()
	_, all := h.list("=" + user)
	return all
}

// all are the primary keys.
func (h *home) all() []string {
	h.t.Helper()
	primary, _ := h.list()
	return primary
}

func (h *home) list(users ...string) (primary, all []string) {
	h.t.Helper()
	kind := ""
	for line := range strings.Lines(h.gpg("", append([]string{"--with-colons", "--fingerprint", "--fingerprint", "--list-keys"}, users...)...)) {
		switch f := strings.Split(line, ":"); f[0] {
		case "pub", "sub":
			kind = f[0]
		case "fpr":
			if all = append(all, f[9]); kind == "pub" {
				primary = append(primary, f[9])
			}
		}
	}
	return primary, all
}

func (h *home) sign(user string, more ...string) []byte {
	h.t.Helper()
	return []byte(h.gpg(message, append(more, "--local-user", "="+user, "--armor", "--detach-sign")...))
}

func (h *home) export(users ...string) []byte {
	h.t.Helper()
	args := []string{"--export"}
	for _, u := range users {
		args = append(args, "="+u)
	}
	return []byte(h.gpg("", args...))
}

// accepts asks gpg, as git does: exit code and status lines.
func accepts(t testing.TB, keyring, text, signature []byte, more ...string) bool {
	t.Helper()
	h := newHome(t)
	if _, err := h.try(string(keyring), "--import"); err != nil {
		t.Logf("import: %v", err)
	}
	file := filepath.Join(h.dir, "sig")
	if err := os.WriteFile(file, signature, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := h.try(string(text), append(more, "--status-fd", "1", "--verify", file, "-")...)
	good := err == nil && strings.Contains(out, "[GNUPG:] GOODSIG ") && strings.Contains(out, "[GNUPG:] VALIDSIG ")
	if !good {
		t.Logf("gpg: %v\n%s", err, out)
	}
	return good
}

func parse(t testing.TB, data []byte) *openpgp.Keyring {
	t.Helper()
	k, err := openpgp.ParseKeyring(data, "keyring")
	if err != nil {
		t.Fatal(err)
	}
	return k
}

const message = "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n\nA commit\n"

// now is later than whatever a test makes.
func now() time.Time { return time.Now().Add(time.Minute) }
