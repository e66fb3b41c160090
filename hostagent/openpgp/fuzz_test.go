package openpgp_test

import (
	"bytes"
	"encoding/base64"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"drydock/hostagent/openpgp"
)

var writeCorpus = flag.Bool("write-corpus", false, "write the seeds of the fuzz targets to testdata")

// seedTime is when the seeds are judged.
var seedTime = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// whose is the seeds' signatures, and whom they name; "" nobody.
var whose = map[string]string{
	"alice": "alice@acme.example", // by a subkey
	"bob":   "bob@acme.example bob@home.example",
	"carol": "carol@acme.example",
	"ended": "",
	"lost":  "", // revoked
}

// TestWriteCorpus makes the seeds anew, by the real gpg; their keys are thrown
// away.
func TestWriteCorpus(t *testing.T) {
	if !*writeCorpus {
		t.Skip("only with -write-corpus")
	}
	h := newHome(t)
	keep := func(name string, data []byte) {
		if err := os.MkdirAll("testdata/seeds", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join("testdata/seeds", name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	past := at("20250101")
	key := func(user, kind, usage, expires string) {
		h.gpg("", append(past, "--quick-generate-key", user, kind, usage, expires)...)
	}
	key(alice, "ed25519", "cert", "never")
	h.gpg("", append(past, "--quick-add-key", h.print(alice), "ed25519", "sign", "never")...)
	h.gpg("", append(past, "--quick-add-key", h.print(alice), "cv25519", "encr", "never")...)
	key("bob@acme.example", "rsa2048", "sign", "never")
	h.gpg("", append(past, "--quick-add-uid", h.print("bob@acme.example"), "Bob <bob@home.example>")...)
	key("Carol <carol@acme.example>", "nistp256", "sign", "20300101T000000")
	key("Ended <ended@acme.example>", "ed25519", "sign", "20260101T000000")
	key("Lost <lost@acme.example>", "ed25519", "sign", "never")
	for name, user := range map[string]string{"alice": alice, "bob": "bob@acme.example", "carol": "Carol <carol@acme.example>", "ended": "Ended <ended@acme.example>", "lost": "Lost <lost@acme.example>"} {
		keep(name+".asc", h.sign(user, at("20250301")...))
	}
	h.gpg(h.interact("y\n1\n\ny\n", "--gen-revoke", h.print("Lost <lost@acme.example>")), "--import")
	keep("keyring.gpg", []byte(h.gpg("", "--export")))
	keep("keyring.asc", []byte(h.gpg("", "--armor", "--export")))
}

func seed(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata/seeds", name))
	if err != nil {
		t.Fatalf("the corpus is gone: %v; make it with go test -run TestWriteCorpus -write-corpus", err)
	}
	return data
}

// TestSeeds: what GnuPG made long ago still counts, and what did not does not.
func TestSeeds(t *testing.T) {
	for _, file := range []string{"keyring.gpg", "keyring.asc"} {
		for name, want := range whose {
			names, _, err := parse(t, seed(t, file)).Identify([]byte(message), seed(t, name+".asc"), seedTime)
			slices.Sort(names)
			if strings.Join(names, " ") != want || (err == nil) != (want != "") {
				t.Errorf("%s by %s: %v, %v", name, file, names, err)
			}
		}
	}
}

// armoured is a signature's bytes in an armour without a checksum.
func armoured(raw []byte) []byte {
	return []byte("-----BEGIN PGP SIGNATURE-----\n\n" + base64.StdEncoding.EncodeToString(raw) + "\n-----END PGP SIGNATURE-----\n")
}

func dearmoured(t testing.TB, text []byte) []byte {
	t.Helper()
	_, body, _ := bytes.Cut(text, []byte("\n\n"))
	body, _, _ = bytes.Cut(body, []byte("\n="))
	raw, err := base64.StdEncoding.DecodeString(string(body))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// FuzzSignature: never a panic; of all bytes only those count that a seed has
// where it is signed, of the seed's message, for the seed's owner; and GnuPG
// agrees.
func FuzzSignature(f *testing.F) {
	ring := seed(f, "keyring.gpg")
	keys := parse(f, ring)
	owners := map[string]bool{}
	for name, owner := range whose {
		raw := dearmoured(f, seed(f, name+".asc"))
		owners[owner] = true
		f.Add(raw, []byte(message), uint16(0), byte(0))
		f.Add(raw, []byte(message), uint16(len(raw)/2), byte(1))
		f.Add(append(slices.Clip(raw), raw...), []byte(message), uint16(0), byte(0))
	}
	f.Add([]byte("\xc8\xff\xff\xff\xff\xff\x01"), []byte(message), uint16(0), byte(0))
	f.Fuzz(func(t *testing.T, raw, text []byte, at uint16, flip byte) {
		if raw = bytes.Clone(raw); int(at) < len(raw) {
			raw[at] ^= flip
		}
		names, _, err := keys.Identify(text, armoured(raw), seedTime)
		if (err == nil) != (names != nil) {
			t.Fatalf("%v beside %v", names, err)
		}
		if err != nil {
			return
		}
		slices.Sort(names)
		if string(text) != message || !owners[strings.Join(names, " ")] {
			t.Errorf("counts for %v, and nobody made it: %x of %q", names, raw, text)
		}
		if flip != 0 && !accepts(t, ring, text, armoured(raw)) {
			t.Errorf("counts for %v, and not for gpg: %x", names, raw)
		}
	})
}

// FuzzKeyring: never a panic; whatever a file of keys has become, nobody is
// named whom the genuine one does not name.
func FuzzKeyring(f *testing.F) {
	sigs := map[string][]byte{}
	for name := range whose {
		sigs[name] = seed(f, name+".asc")
	}
	for _, file := range []string{"keyring.gpg", "keyring.asc"} {
		data := seed(f, file)
		f.Add(data, uint16(0), byte(0))
		f.Add(data, uint16(len(data)/3), byte(1))
	}
	f.Fuzz(func(t *testing.T, data []byte, at uint16, flip byte) {
		if data = bytes.Clone(data); int(at) < len(data) {
			data[at] ^= flip
		}
		keys, err := openpgp.ParseKeyring(data, "keyring")
		if err != nil {
			if !strings.HasPrefix(err.Error(), "keyring ") || keys != nil {
				t.Errorf("says not where: %v", err)
			}
			return
		}
		for name, sig := range sigs {
			names, _, err := keys.Identify([]byte(message), sig, seedTime)
			for _, who := range names {
				// A key may lose its end or its revocation with the packets that
				// said so: then it is its owner's still, and nobody else's.
				if !strings.HasPrefix(who, name+"@") {
					t.Errorf("%s's signature counts for %s", name, who)
				}
			}
			if (err == nil) != (names != nil) {
				t.Errorf("%v beside %v", names, err)
			}
		}
	})
}
