package openpgp_test

import (
	"bytes"
	"crypto"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	pgp "github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// made is when the keys of these tests were.
var made = time.Date(2025, 1, 1, 10, 0, 0, 0, time.UTC)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// plain leaves out the salt that SHA-1 has no place for.
func plain() *packet.Config {
	no := false
	return &packet.Config{NonDeterministicSignaturesViaNotation: &no}
}

// newSecret is a private key.
func newSecret(sub bool) *packet.PrivateKey {
	e := must(pgp.NewEntity("x", "", "x@example", &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, Time: func() time.Time { return made }}))
	e.PrivateKey.IsSubkey, e.PrivateKey.PublicKey.IsSubkey = sub, sub
	return e.PrivateKey
}

type serializer interface{ Serialize(io.Writer) error }

// bytesOf is packets, one after the other.
func bytesOf(parts ...serializer) []byte {
	var b bytes.Buffer
	for _, p := range parts {
		if err := p.Serialize(&b); err != nil {
			panic(err)
		}
	}
	return b.Bytes()
}

// by is an unsigned signature by a key, which change may spoil.
func by(k *packet.PrivateKey, kind packet.SignatureType, change ...func(*packet.Signature)) *packet.Signature {
	s := &packet.Signature{Version: 4, SigType: kind, PubKeyAlgo: k.PubKeyAlgo, Hash: crypto.SHA256, CreationTime: made,
		IssuerKeyId: &k.KeyId, IssuerKeyVersion: 4, IssuerFingerprint: k.Fingerprint}
	for _, c := range change {
		c(s)
	}
	return s
}

func user1(id string) *packet.UserId { return &packet.UserId{Id: id} }

// self signs a user ID.
func self(k *packet.PrivateKey, id string, change ...func(*packet.Signature)) *packet.Signature {
	s := by(k, packet.SigTypePositiveCert, append([]func(*packet.Signature){signs}, change...)...)
	if err := s.SignUserId(id, &k.PublicKey, k, plain()); err != nil {
		panic(err)
	}
	return s
}

// revokes takes a signature of a user ID back.
func revokes(k *packet.PrivateKey, id string) *packet.Signature {
	s := by(k, packet.SigTypeCertificationRevocation)
	if err := s.SignUserId(id, &k.PublicKey, k, plain()); err != nil {
		panic(err)
	}
	return s
}

// direct signs a key, or revokes it.
func direct(k *packet.PrivateKey, over *packet.PublicKey, kind packet.SignatureType, change ...func(*packet.Signature)) *packet.Signature {
	s := by(k, kind, change...)
	if err := s.SignDirectKeyBinding(over, k, plain()); err != nil {
		panic(err)
	}
	return s
}

// back is a subkey's signature for its primary key.
func back(sub *packet.PrivateKey, primary *packet.PublicKey, change ...func(*packet.Signature)) *packet.Signature {
	s := by(sub, packet.SigTypePrimaryKeyBinding, change...)
	if err := s.CrossSignKey(&sub.PublicKey, primary, sub, plain()); err != nil {
		panic(err)
	}
	return s
}

// binds binds a subkey.
func binds(k *packet.PrivateKey, sub *packet.PublicKey, back *packet.Signature, change ...func(*packet.Signature)) *packet.Signature {
	s := by(k, packet.SigTypeSubkeyBinding, append([]func(*packet.Signature){signs, func(s *packet.Signature) { s.EmbeddedSignature = back }}, change...)...)
	if err := s.SignKey(sub, k, plain()); err != nil {
		panic(err)
	}
	return s
}

// over signs the message.
func over(k *packet.PrivateKey, change ...func(*packet.Signature)) []byte {
	s := by(k, packet.SigTypeBinary, change...)
	h := must(s.PrepareSign(plain()))
	h.Write([]byte(message))
	if err := s.Sign(h, k, plain()); err != nil {
		panic(err)
	}
	var b bytes.Buffer
	w := must(armor.Encode(&b, "PGP SIGNATURE", nil))
	must(w.Write(bytesOf(s)))
	if err := w.Close(); err != nil {
		panic(err)
	}
	return append(b.Bytes(), '\n')
}

// posing is a key that gives itself out for another.
func posing(k *packet.PrivateKey, id uint64, print []byte) *packet.PrivateKey {
	other := *k
	other.KeyId, other.Fingerprint = id, print
	return &other
}

func signs(s *packet.Signature)   { s.FlagsValid, s.FlagSign = true, true }
func crypts(s *packet.Signature)  { s.FlagSign, s.FlagEncryptCommunications = false, true }
func noFlags(s *packet.Signature) { s.FlagsValid, s.FlagSign = false, false }
func sha1(s *packet.Signature)    { s.Hash = crypto.SHA1 }
func later(s *packet.Signature)   { s.CreationTime = made.Add(time.Hour) }
func life(d time.Duration) func(*packet.Signature) {
	return func(s *packet.Signature) { n := uint32(d / time.Second); s.KeyLifetimeSecs = &n }
}
func ends(d time.Duration) func(*packet.Signature) {
	return func(s *packet.Signature) { n := uint32(d / time.Second); s.SigLifetimeSecs = &n }
}

const mallory = "Mallory <mallory@evil.example>"

// TestHandMade: keys that GnuPG would not make, and somebody else might.
func TestHandMade(t *testing.T) {
	a, m, sub, other := newSecret(false), newSecret(false), newSecret(true), newSecret(true)
	key, id := &a.PublicKey, user1(alice)
	good := bytesOf(key, id, self(a, alice), &sub.PublicKey, binds(a, &sub.PublicKey, back(sub, key)))
	year := 365 * 24 * time.Hour
	type row struct {
		name      string
		ring, sig []byte
		want      string // refused with it, or the names
		gpg       bool   // GnuPG accepts it
	}
	for _, test := range []row{
		{"the primary key", good, over(a), "alice@acme.example", true},
		{"the subkey", good, over(sub), "alice@acme.example", true},
		{"a subkey that did not sign in turn", bytesOf(key, id, self(a, alice), &sub.PublicKey, binds(a, &sub.PublicKey, nil)), over(sub), "did not sign for its primary key in turn", false},
		{"a subkey for which another signed", bytesOf(key, id, self(a, alice), &sub.PublicKey, binds(a, &sub.PublicKey, back(other, key))), over(sub), "did not sign for its primary key in turn", false},
		{"a subkey that signed in turn for another", bytesOf(&m.PublicKey, user1(mallory), self(m, mallory), &sub.PublicKey, binds(m, &sub.PublicKey, back(sub, key))), over(sub), "did not sign for its primary key in turn", false},
		{"a subkey that signed in turn with SHA-1", bytesOf(key, id, self(a, alice), &sub.PublicKey, binds(a, &sub.PublicKey, back(sub, key, sha1))), over(sub), "signs for its primary key by a signature that hashes with SHA-1", true},
		{"a subkey bound with SHA-1", bytesOf(key, id, self(a, alice), &sub.PublicKey, binds(a, &sub.PublicKey, back(sub, key), sha1)), over(sub), "is bound to its key by a signature that hashes with SHA-1", true},
		{"a subkey bound by somebody else", bytesOf(key, id, self(a, alice), &sub.PublicKey, binds(m, &sub.PublicKey, back(sub, key))), over(sub), "is not bound to it by a signature", false},
		{"a subkey that nothing binds", bytesOf(key, id, self(a, alice), &sub.PublicKey), over(sub), "is not bound to it by a signature", false},
		{"a subkey for encryption", bytesOf(key, id, self(a, alice), &sub.PublicKey, binds(a, &sub.PublicKey, nil, crypts)), over(sub), "not made for signing", false},
		{"a subkey for nothing", bytesOf(key, id, self(a, alice), &sub.PublicKey, binds(a, &sub.PublicKey, nil, noFlags)), over(sub), "not made for signing", false},
		{"a subkey made for signing once, and now not", bytesOf(key, id, self(a, alice), &sub.PublicKey, binds(a, &sub.PublicKey, nil, crypts, later), binds(a, &sub.PublicKey, back(sub, key))), over(sub), "not made for signing", false},
		{"a subkey whose own signature ends", bytesOf(key, id, self(a, alice), &sub.PublicKey, binds(a, &sub.PublicKey, back(sub, key, ends(time.Hour)))), over(sub), "was valid until 2025-01-01T11:00:00Z", true},
		{"a subkey of an ended key", bytesOf(key, id, self(a, alice, life(time.Hour)), &sub.PublicKey, binds(a, &sub.PublicKey, back(sub, key))), over(sub), "of a key valid until 2025-01-01T11:00:00Z", false},
		{"a primary key for encryption", bytesOf(key, id, self(a, alice, crypts)), over(a), "primary key not made for signing", false},
		{"a primary key for nothing", bytesOf(key, id, self(a, alice, noFlags)), over(a), "primary key not made for signing", true},
		{"a key that says so over itself", bytesOf(key, direct(a, key, packet.SigTypeDirectSignature, signs), id, self(a, alice, noFlags)), over(a), "alice@acme.example", true},
		{"a key that denies it over itself", bytesOf(key, direct(a, key, packet.SigTypeDirectSignature, signs, crypts), id, self(a, alice)), over(a), "primary key not made for signing", false},
		{"a key that ended over itself", bytesOf(key, direct(a, key, packet.SigTypeDirectSignature, signs, life(time.Hour)), id, self(a, alice)), over(a), "of a key valid until 2025-01-01T11:00:00Z", false},
		{"ended, said last", bytesOf(key, id, self(a, alice, later, life(time.Hour)), self(a, alice, life(10*year))), over(a), "of a key valid until 2025-01-01T11:00:00Z", false},
		{"prolonged, said last", bytesOf(key, id, self(a, alice, later, life(10*year)), self(a, alice, life(time.Hour))), over(a), "alice@acme.example", true},
		{"said last with SHA-1", bytesOf(key, id, self(a, alice), self(a, alice, sha1, later)), over(a), "bound to its key by a signature that hashes with SHA-1", true},
		{"a user ID said for an hour", bytesOf(key, id, self(a, alice, ends(time.Hour))), over(a), "is signed until 2025-01-01T11:00:00Z only", true},
		{"no user ID", bytesOf(key, direct(a, key, packet.SigTypeDirectSignature, signs)), over(a), "it has no user ID", false},
		{"a user ID that nobody signed", bytesOf(key, id), over(a), "is not signed by its own key", false},
		{"a user ID that another signed", bytesOf(key, id, self(m, alice)), over(a), "is not signed by its own key", false},
		{"another's user ID, signature and all", bytesOf(&m.PublicKey, user1(mallory), self(m, mallory), id, self(a, alice)), over(m), "mallory@evil.example", true},
		{"another's user ID, the signature renamed", bytesOf(&m.PublicKey, user1(mallory), self(m, mallory), id, self(m, mallory)), over(m), "mallory@evil.example", true},
		{"another's key for a self-signed name", bytesOf(&m.PublicKey, user1(mallory), self(m, mallory)), over(a), "is not in keyring", false},
		{"a critical notation", good, over(a, func(s *packet.Signature) {
			s.Notations = []*packet.Notation{{Name: "only@acme.example", Value: []byte("tests"), IsCritical: true, IsHumanReadable: true}}
		}), "critical notation", false},
		{"a notation", good, over(a, func(s *packet.Signature) {
			s.Notations = []*packet.Notation{{Name: "only@acme.example", Value: []byte("tests"), IsHumanReadable: true}}
		}), "alice@acme.example", true},
		{"another issuer", good, over(posing(a, sub.KeyId, sub.Fingerprint)), "does not fit", false},
		{"a key ID only", good, over(posing(a, a.KeyId, nil)), "does not name the key", true},
		{"revoked by a stranger", bytesOf(key, direct(m, key, packet.SigTypeKeyRevocation), id, self(a, alice)), over(a), "is revoked", true},
		{"revoked behind its user ID", bytesOf(key, id, self(a, alice), direct(a, key, packet.SigTypeKeyRevocation)), over(a), "is revoked", false},
		{"revoked with SHA-1", bytesOf(key, direct(a, key, packet.SigTypeKeyRevocation, sha1), id, self(a, alice)), over(a), "is revoked", false},
		{"a user ID twice, revoked once", bytesOf(key, id, self(a, alice), id, revokes(a, alice)), over(a), "is revoked", true},
		{"a user ID revoked before it was signed again", bytesOf(key, id, revokes(a, alice), self(a, alice, later)), over(a), "is revoked", true},
		{"a user ID revoked by a stranger", bytesOf(key, id, self(a, alice), revokes(m, alice)), over(a), "alice@acme.example", true},
		{"a name certified by others too", bytesOf(key, id, self(m, alice, later), self(a, alice), self(m, alice)), over(a), "alice@acme.example", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			if !strings.Contains(test.want, "@") {
				refused(t, test.ring, test.sig, now(), test.want)
			} else if names, _, err := parse(t, test.ring).Identify([]byte(message), test.sig, now()); err != nil || strings.Join(names, " ") != test.want {
				t.Errorf("%v, %v, want %s", names, err, test.want)
			}
			if got := accepts(t, test.ring, []byte(message), test.sig); got != test.gpg {
				t.Errorf("gpg accepts: %v, want %v", got, test.gpg)
			}
		})
	}
}

// TestEmails: a user ID names who is written in it, or nobody.
func TestEmails(t *testing.T) {
	a := newSecret(false)
	for id, want := range map[string]string{
		"alice@acme.example":                         "alice@acme.example",
		"<alice@acme.example>":                       "alice@acme.example",
		"Alice <alice@acme.example>":                 "alice@acme.example",
		"Alice (ops) <alice@acme.example>":           "alice@acme.example",
		"Ålice, \"A\" <alice@acme.example>":          "alice@acme.example",
		"Alice <Alice@Acme.example>":                 "Alice@Acme.example", // case is not ours to change
		"Alice <alice+ci@acme.example>":              "alice+ci@acme.example",
		"Alice":                                      "",
		"":                                           "",
		"<>":                                         "",
		"Alice <alice>":                              "",
		"Alice <@acme.example>":                      "",
		"Alice <alice@>":                             "",
		"Alice <alice@acme.example":                  "",
		"Alice<alice@acme.example>":                  "",
		"Alice <alice@acme.example> ":                "",
		"Alice <alice@acme.example>\n":               "",
		"Bob <bob@x> <alice@acme.example>":           "",
		"Bob <bob@x>, <alice@acme.example>":          "",
		"Alice <alice@acme.example@x>":               "",
		"Alice <*@acme.example>":                     "",
		"Alice <?lice@acme.example>":                 "",
		"Alice <!alice@acme.example>":                "",
		"Alice <alice@acme.example,bob@x>":           "",
		"Alice <alice@acme.example x>":               "",
		"Alice <alice@acme.example\x00>":             "",
		"Alice <аlice@acme.example>":                 "", // Cyrillic а
		"Alice <alice@acme\u200b.example>":           "",
		"Alice <alice@acme.example\u202e>":           "",
		"alice@acme.example (ops)":                   "",
		"Alice <" + strings.Repeat("a", 400) + "@x>": "",
	} {
		names, _, err := parse(t, bytesOf(&a.PublicKey, user1(id), self(a, id))).Identify([]byte(message), over(a), now())
		switch {
		case want == "" && err == nil:
			t.Errorf("%q names %v", id, names)
		case want != "" && (err != nil || !slices.Equal(names, []string{want})):
			t.Errorf("%q: %v, %v", id, names, err)
		case want == "" && !strings.Contains(err.Error(), "gpg --quick-add-uid"):
			t.Errorf("%q: says not what to do: %v", id, err)
		case err != nil && strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' || r > 0x2000 && r < 0x2100 }):
			t.Errorf("%q: the error shows what is not to be seen: %q", id, err)
		}
	}
}

// TestManyKeys: of a large keyring each is found, also side by side.
func TestManyKeys(t *testing.T) {
	var ring []byte
	secrets := make([]*packet.PrivateKey, 300)
	for i := range secrets {
		secrets[i] = newSecret(false)
		id := fmt.Sprintf("p%d@acme.example", i)
		ring = append(ring, bytesOf(&secrets[i].PublicKey, user1(id), self(secrets[i], id))...)
	}
	k := parse(t, ring)
	var all sync.WaitGroup
	for i, secret := range secrets {
		all.Go(func() {
			if names, _, err := k.Identify([]byte(message), over(secret), now()); err != nil || names[0] != fmt.Sprintf("p%d@acme.example", i) {
				t.Error(names, err)
			}
		})
	}
	all.Wait()
}
