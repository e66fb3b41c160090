package openpgp_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"drydock/hostagent/openpgp"
)

// at is gpg's clock for keys and signatures of another time.
func at(day string) []string {
	return []string{"--faked-system-time", day + "T100000!", "--ignore-time-conflict"}
}

func day(s string) time.Time {
	d, err := time.Parse("20060102", s)
	if err != nil {
		panic(err)
	}
	return d.Add(10 * time.Hour)
}

// TestTimes: a key, and a signature, hold at the time they are judged at.
func TestTimes(t *testing.T) {
	h := newHome(t)
	make := func(user, expires string) {
		h.gpg("", append(at("20250101"), "--quick-generate-key", user, "ed25519", "sign", expires)...)
	}
	make("one <one@acme.example>", "20260101T000000")
	h.gpg("", append(at("20250101"), "--quick-generate-key", "sub <sub@acme.example>", "ed25519", "cert", "never")...)
	h.gpg("", append(at("20250101"), "--quick-add-key", h.print("sub <sub@acme.example>"), "ed25519", "sign", "20260101T000000")...)
	make("long <long@acme.example>", "20260101T000000")
	before := h.export("long <long@acme.example>")
	h.gpg("", append(at("20250601"), "--quick-set-expire", h.print("long <long@acme.example>"), "20300101T000000")...)
	make("ever <ever@acme.example>", "never")

	ring := h.export()
	sign := func(user, when string, more ...string) []byte {
		return h.sign(user, append(at(when), more...)...)
	}
	one := sign("one <one@acme.example>", "20250301")
	for _, test := range []struct {
		name      string
		ring, sig []byte
		at        time.Time
		want      string // "" accepted
	}{
		{"while it is valid", ring, one, day("20250401"), ""},
		{"its last second", ring, one, day("20260101").Add(-10*time.Hour - time.Second), ""},
		{"the second it ends", ring, one, day("20260101").Add(-10 * time.Hour), "of a key valid until 2026-01-01T00:00:00Z"},
		{"long after", ring, one, day("20270101"), "of a key valid until 2026-01-01T00:00:00Z"},
		{"a subkey while it is valid", ring, sign("sub <sub@acme.example>", "20250301"), day("20250401"), ""},
		{"a subkey that has ended", ring, sign("sub <sub@acme.example>", "20250301"), day("20260401"), "was valid until 2026-01-01T00:00:00Z"},
		{"prolonged", ring, sign("long <long@acme.example>", "20250301"), day("20270101"), ""},
		{"prolonged, and this keyring does not know", before, sign("long <long@acme.example>", "20250301"), day("20270101"), "valid until 2026-01-01"},
		{"a signature that ends", ring, sign("ever <ever@acme.example>", "20250301", "--default-sig-expire", "7d"), day("20250305"), ""},
		{"a signature that has ended", ring, sign("ever <ever@acme.example>", "20250301", "--default-sig-expire", "7d"), day("20250309"), "itself was valid until 2025-03-08"},
		{"dated before its key", ring, sign("ever <ever@acme.example>", "20240301"), day("20250309"), "before its key was made"},
		{"dated ahead", ring, sign("ever <ever@acme.example>", "20250301"), day("20250301").Add(-11 * time.Minute), "is dated 2025-03-01T10:00:00Z, and it is"},
		{"dated a little ahead", ring, sign("ever <ever@acme.example>", "20250301"), day("20250301").Add(-9 * time.Minute), ""},
		{"judged before its key was", ring, one, day("20240101"), "is dated 2025-01-01"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.want != "" {
				refused(t, test.ring, test.sig, test.at, test.want)
				return
			}
			names, _, err := parse(t, test.ring).Identify([]byte(message), test.sig, test.at)
			if err != nil || len(names) != 1 {
				t.Errorf("%v, %v", names, err)
			}
		})
	}
	// GnuPG on the same, where its clock says 2027.
	if accepts(t, ring, []byte(message), one, at("20270101")...) {
		t.Error("gpg accepts a key that has ended")
	}
	if accepts(t, ring, []byte(message), sign("ever <ever@acme.example>", "20240301"), at("20270101")[:2]...) {
		t.Error("gpg accepts a signature older than its key")
	}
}

// TestRevoked: whatever is revoked counts no longer, whatever the reason.
func TestRevoked(t *testing.T) {
	h := newHome(t)
	user := func(name string) string { return name + " <" + name + "@acme.example>" }
	for i, name := range []string{"none", "compromised", "superseded", "retired"} {
		h.key(user(name), "ed25519", "sign")
		sig := h.sign(user(name))
		if _, _, err := parse(t, h.export(user(name))).Identify([]byte(message), sig, now()); err != nil {
			t.Fatal(err)
		}
		revocation := h.interact(fmt.Sprintf("y\n%d\n\ny\n", i), "--gen-revoke", h.print(user(name)))
		h.gpg(revocation, "--import")
		ring := h.export(user(name))
		want := []string{"no reason given", "compromised", "superseded", "no longer used"}[i]
		refused(t, ring, sig, now(), "is revoked ("+strings.TrimPrefix("for "+want, map[bool]string{true: "for ", false: ""}[i > 0]))
		refused(t, ring, sig, now().Add(-10*time.Second), "is revoked") // also before it was
		if accepts(t, ring, []byte(message), sig) {
			t.Errorf("%s: gpg accepts a revoked key", name)
		}
	}
	t.Run("subkey", func(t *testing.T) {
		h.key(user("sub"), "ed25519", "cert")
		h.gpg("", "--quick-add-key", h.print(user("sub")), "ed25519", "sign")
		sig := h.sign(user("sub"))
		h.interact("key 1\nrevkey\ny\n1\n\ny\nsave\n", "--edit-key", h.print(user("sub")))
		ring := h.export(user("sub"))
		refused(t, ring, sig, now(), "is revoked (compromised)")
		if accepts(t, ring, []byte(message), sig) {
			t.Error("gpg accepts a revoked subkey")
		}
	})
	t.Run("user ID", func(t *testing.T) {
		h.key(user("two"), "ed25519", "sign")
		h.gpg("", "--quick-add-uid", h.print(user("two")), "other <other@acme.example>")
		sig := h.sign(user("two"))
		h.gpg("", "--quick-revoke-uid", h.print(user("two")), user("two"))
		names, _, err := parse(t, h.export("other <other@acme.example>")).Identify([]byte(message), sig, now())
		if err != nil || len(names) != 1 || names[0] != "other@acme.example" {
			t.Errorf("%v, %v", names, err)
		}
	})
}

// interact answers gpg's questions.
func (h *home) interact(answers string, args ...string) string {
	h.t.Helper()
	out, err := h.run(answers, append([]string{"--no-tty", "--quiet", "--pinentry-mode", "loopback", "--command-fd", "0"}, args...))
	if err != nil {
		h.t.Fatal(err)
	}
	return out
}

// TestForms: one way to write a signature, and strong algorithms only.
func TestForms(t *testing.T) {
	h := newHome(t)
	h.key(alice, "ed25519", "sign")
	h.key(bob, "ed25519", "sign")
	h.key("weak <weak@acme.example>", "rsa1024", "sign")
	h.key("dsa <dsa@acme.example>", "dsa1024", "sign")
	h.key("old <old@acme.example>", "rsa2048", "sign", "--cert-digest-algo", "SHA1")
	h.key("coin <coin@acme.example>", "secp256k1", "sign")
	h.key("pool <pool@acme.example>", "brainpoolP256r1", "sign")
	ring := h.export()
	good := h.sign(alice)
	raw := func(armoured []byte) []byte { return []byte(h.gpg(string(armoured), "--dearmor")) }
	armour := func(raw []byte) []byte {
		text := h.gpg(string(raw), "--enarmor")
		text = strings.ReplaceAll(text, "ARMORED FILE", "SIGNATURE")
		return []byte(text)
	}
	body := raw(good)[2:]
	if raw(good)[0] != 0x88 {
		t.Fatalf("a header of %x", raw(good)[:2])
	}
	both := raw([]byte(h.gpg(message, "--local-user", "="+alice, "--local-user", "="+bob, "--armor", "--detach-sign")))
	strange := newHome(t)
	strange.key(alice, "ed25519", "sign")

	for _, test := range []struct {
		name string
		sig  []byte
		want string
		gpg  bool // GnuPG is content with it, and we are not
	}{
		{"SHA-1", h.sign(alice, "--digest-algo", "SHA1"), "SHA-1", true},
		{"SHA-224", h.sign(alice, "--digest-algo", "SHA224"), "SHA-224", true},
		{"RSA 1024", h.sign("weak <weak@acme.example>"), "RSA with 1024 bits", true},
		{"DSA 1024", h.sign("dsa <dsa@acme.example>", "--enable-dsa2", "--digest-algo", "SHA256"), "is of DSA", true},
		{"secp256k1", h.sign("coin <coin@acme.example>"), "on a curve (SecP256k1)", true},
		{"brainpool", h.sign("pool <pool@acme.example>"), "on a curve (BrainpoolP256)", true},
		{"user ID bound with SHA-1", h.sign("old <old@acme.example>"), "bound to its key by a signature that hashes with SHA-1", true},
		{"text mode", h.sign(alice, "--textmode"), "type 0x01", true},
		{"a whole message", []byte(h.gpg(message, "--local-user", "="+alice, "--armor", "--sign")), "does not begin with the line", false},
		{"clear-signed", []byte(h.gpg(message, "--local-user", "="+alice, "--clear-sign")), "does not begin with the line", false},
		{"two signatures", armour(both), "more than one signature", true},
		{"the same twice", armour(append(raw(good), raw(good)...)), "more than one signature", true},
		{"bytes after it", armour(append(raw(good), 0)), "", false},
		{"bytes in it", armour(append([]byte{0x88, byte(len(body) + 1)}, append(body, 0)...)), "bytes are left over", true},
		{"cut short", armour(raw(good)[:40]), "cut short", false},
		{"a length to the end", armour(append([]byte{0x8b}, body...)), "without a length", true},
		{"a length in parts", armour(append([]byte{0xc2, 0xe6}, append(append(append([]byte{}, body[:64]...), byte(len(body)-64)), body[64:]...)...)), "comes in parts", true},
		{"compressed", armour(append([]byte{0xa3, 0}, stored(raw(good))...)), "without a length", true},
		{"compressed, with a length", armour(append([]byte{0xc8, byte(1 + len(stored(raw(good)))), 1}, stored(raw(good))...)), "packet of type 8", true},
		{"another's key of the same name", strange.sign(alice), "is not in keyring", false},
		{"CR", []byte(strings.ReplaceAll(string(good), "\n", "\r\n")), "CR line ends", true},
		{"text before", append([]byte("x\n"), good...), "does not begin", true},
		{"text after", append(append([]byte{}, good...), 'x'), "text follows", true},
		{"a second block", append(append([]byte{}, good...), good...), "text follows", true},
		{"a wrong checksum", []byte(strings.Replace(string(good), "\n=", "\n=AAAA\n=", 1)), "", true},
		{"too large", []byte(strings.Replace(string(good), "\n\n", "\nComment: "+strings.Repeat("x", openpgp.MaxSignature)+"\n\n", 1)), "is the limit", true},
		{"nothing", nil, "does not begin", false},
		{"an empty armour", []byte("-----BEGIN PGP SIGNATURE-----\n\n\n-----END PGP SIGNATURE-----\n"), "", false},
		{"a key", []byte(strings.ReplaceAll(h.gpg("", "--armor", "--export", "="+alice), "PUBLIC KEY BLOCK", "SIGNATURE")), "more than 2 packets", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.want == "" {
				test.want = "signature"
			}
			refused(t, ring, test.sig, now(), test.want)
			if _, _, err := parse(t, ring).Identify([]byte(message), test.sig, now()); strings.Contains(err.Error(), "\n") {
				t.Errorf("several lines: %v", err)
			}
			if got := test.gpg || !accepts(t, ring, []byte(message), test.sig); !got {
				t.Error("gpg accepts it, which this table says it does not")
			}
		})
	}
}

// stored is deflate's way to say: as it is.
func stored(b []byte) []byte {
	return append([]byte{1, byte(len(b)), 0, ^byte(len(b)), 0xff}, b...)
}

// TestKeyrings: what is no keyring is refused as a whole.
func TestKeyrings(t *testing.T) {
	h := newHome(t)
	h.key(alice, "ed25519", "sign")
	ring := h.export()
	box, err := os.ReadFile(filepath.Join(h.dir, "pubring.kbx"))
	if err != nil {
		t.Fatal(err)
	}
	text := h.gpg("", "--armor", "--export")
	for _, test := range []struct {
		name string
		data []byte
		want string
	}{
		{"empty", nil, "holds no key"},
		{"comments only", []byte("# nobody yet\n"), "holds no key"},
		{"a keybox", box, "keybox"},
		{"private keys", []byte(h.gpg("", "--export-secret-keys")), "private key"},
		{"private keys, armoured", []byte("\n" + h.gpg("", "--armor", "--export-secret-keys")), "private key in line 2"},
		{"twice", append(append([]byte{}, ring...), ring...), "twice"},
		{"cut short", ring[:len(ring)-10], "cut short"},
		{"garbage behind", append(append([]byte{}, ring...), 0x55), "is no OpenPGP packet"},
		{"text behind", []byte(text + "alice\n"), "line "},
		{"without its key", ring[53:], "instead of a public key"},
		{"a signature", []byte(h.sign(alice)), "does not begin with"},
		{"a message", []byte(h.gpg(message, "--sign", "--local-user", "="+alice)), ""},
		{"a damaged line", []byte(strings.Replace(text, "\nm", "\n!", 1)), "line 1"},
		{"a packet of 4 GiB", []byte{0xc6, 0xff, 0xff, 0xff, 0xff, 0xff, 4}, "cut short"},
		{"a number of 65,535 bits", []byte{0x98, 10, 4, 0, 0, 0, 0, 1, 0xff, 0xff, 1, 1}, "cannot be read"},
		{"a key from the future", []byte{0x98, 7, 6, 0, 0, 0, 0, 27, 0}, "cannot be read"},
		{"decompress me", append([]byte{0xc8, 7, 1}, 1, 1, 0, 0xfe, 0xff, 0), "begins with a packet of type 8"},
		{"a marker among keys", append(append([]byte{}, ring...), 0xca, 3, 'P', 'G', 'P'), "packet of type 10"},
		{"too large", make([]byte, openpgp.MaxKeyring+1), "is the limit"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := openpgp.ParseKeyring(test.data, "people.gpg")
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.HasPrefix(err.Error(), "people.gpg ") || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), ";") {
				t.Errorf("%v\nwant: %s", err, test.want)
			}
		})
	}
}
