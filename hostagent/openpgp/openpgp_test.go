package openpgp_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"drydock/hostagent/openpgp"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	alice = "Alice <alice@acme.example>"
	bob   = "Bob (works) <bob@acme.example>"
)

// TestGood: what GnuPG signs with each kind of key that is accepted.
func TestGood(t *testing.T) {
	h := newHome(t)
	for _, kind := range []string{"ed25519", "rsa2048", "nistp256", "nistp384", "nistp521"} {
		user := kind + " <" + kind + "@acme.example>"
		h.key(user, kind, "sign")
	}
	h.key(alice, "ed25519", "cert")
	h.gpg("", "--quick-add-key", h.print(alice), "ed25519", "sign")
	h.gpg("", "--quick-add-key", h.print(alice), "cv25519", "encr")
	h.key(bob, "ed25519", "sign")
	h.gpg("", "--quick-add-uid", h.print(bob), "Bob at home <bob@home.example>")
	h.key("carol@acme.example", "ed25519", "sign")

	binary := []byte(h.gpg("", "--export"))
	first := h.print(alice)
	rest := slices.DeleteFunc(h.all(), func(print string) bool { return print == first })
	armoured := []byte("# people\n\n" + h.gpg("", "--armor", "--export", first) + "\n# and more\n" + h.gpg("", append([]string{"--armor", "--export"}, rest...)...))
	rings := map[string]*openpgp.Keyring{"binary": parse(t, binary), "armoured": parse(t, armoured)}
	for _, test := range []struct {
		user string
		want []string
		args []string
	}{
		{user: "ed25519 <ed25519@acme.example>", want: []string{"ed25519@acme.example"}},
		{user: "rsa2048 <rsa2048@acme.example>", want: []string{"rsa2048@acme.example"}},
		{user: "nistp256 <nistp256@acme.example>", want: []string{"nistp256@acme.example"}},
		{user: "nistp384 <nistp384@acme.example>", want: []string{"nistp384@acme.example"}},
		{user: "nistp521 <nistp521@acme.example>", want: []string{"nistp521@acme.example"}},
		{user: alice, want: []string{"alice@acme.example"}},
		{user: alice, want: []string{"alice@acme.example"}, args: []string{"--digest-algo", "SHA384"}},
		{user: alice, want: []string{"alice@acme.example"}, args: []string{"--no-emit-version", "--comment", "made: here"}},
		{user: bob, want: []string{"bob@acme.example", "bob@home.example"}},
		{user: "carol@acme.example", want: []string{"carol@acme.example"}},
	} {
		sig := h.sign(test.user, test.args...)
		for form, ring := range rings {
			got, key, err := ring.Identify([]byte(message), sig, now())
			if err != nil {
				t.Errorf("%s, %s: %v", test.user, form, err)
				continue
			}
			slices.Sort(got)
			if d := cmp.Diff(test.want, got); d != "" || !slices.Contains(h.prints(test.user), key) {
				t.Errorf("%s, %s, key %s: %s", test.user, form, key, d)
			}
		}
		for what, text := range map[string]string{"a byte more": message + "\n", "nothing": "", "another byte": "T" + message[1:]} {
			if _, _, err := rings["binary"].Identify([]byte(text), sig, now()); err == nil || !strings.Contains(err.Error(), "does not fit") {
				t.Errorf("%s, %s: %v", test.user, what, err)
			}
		}
	}
}

// refused holds a refusal to its words, and to a next step.
func refused(t *testing.T, ring, sig []byte, at time.Time, want string) {
	t.Helper()
	k, err := openpgp.ParseKeyring(ring, "keyring")
	if err != nil {
		t.Fatal(err)
	}
	names, _, err := k.Identify([]byte(message), sig, at)
	switch {
	case err == nil:
		t.Fatalf("accepted as %v, want: %s", names, want)
	case !strings.Contains(err.Error(), want):
		t.Errorf("got:  %v\nwant: %s", err, want)
	case !strings.Contains(err.Error(), ";"):
		t.Errorf("says not what to do next: %v", err)
	}
	if names != nil {
		t.Errorf("names with an error: %v", names)
	}
}
