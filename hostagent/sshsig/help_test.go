package sshsig_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"drydock/hostagent/sshsig"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var message = []byte("deploy web 1.4.3 in prod\n")

// now is when the tests' signatures are judged.
var now = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// A hand makes signatures field by field, right and wrong ones.
type hand struct {
	Magic     [6]byte
	Version   uint32
	Key       []byte
	Namespace string
	Reserved  string
	Hash      string
	Signature []byte
}

// key is a private key that answers with the signature proper.
type key struct {
	public []byte
	sign   func(data []byte) ssh.Signature
}

func (k key) String() string {
	pub := must(ssh.ParsePublicKey(k.public))
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(pub)))
}

func digestOf(hash string, message []byte) []byte {
	if hash == "sha256" {
		d := sha256.Sum256(message)
		return d[:]
	}
	d := sha512.Sum512(message)
	return d[:]
}

// by signs as PROTOCOL.sshsig says, from fields that change may spoil before
// they are signed.
func by(k key, namespace string, message []byte, change ...func(*hand)) *hand {
	h := &hand{[6]byte([]byte("SSHSIG")), 1, k.public, namespace, "", "sha512", nil}
	for _, c := range change {
		c(h)
	}
	sig := k.sign(ssh.Marshal(struct {
		Magic                     [6]byte
		Namespace, Reserved, Hash string
		Digest                    []byte
	}{h.Magic, h.Namespace, h.Reserved, h.Hash, digestOf(h.Hash, message)}))
	h.Signature = ssh.Marshal(sig)
	return h
}

func (h *hand) armor(trailing ...byte) []byte { return wrap(append(ssh.Marshal(h), trailing...), 70) }

func wrap(raw []byte, width int) []byte {
	var b strings.Builder
	b.WriteString("-----BEGIN SSH SIGNATURE-----\n")
	for s := base64.StdEncoding.EncodeToString(raw); s != ""; {
		n := min(width, len(s))
		b.WriteString(s[:n] + "\n")
		s = s[n:]
	}
	b.WriteString("-----END SSH SIGNATURE-----\n")
	return []byte(b.String())
}

// plain is a key of Go's; algorithm may be empty.
func plain(private crypto.Signer, algorithm string) key {
	s := must(ssh.NewSignerFromSigner(private)).(ssh.AlgorithmSigner)
	if algorithm == "" {
		if algorithm = s.PublicKey().Type(); algorithm == ssh.KeyAlgoRSA {
			algorithm = ssh.KeyAlgoRSASHA512
		}
	}
	return key{s.PublicKey().Marshal(), func(data []byte) ssh.Signature {
		return *must(s.SignWithAlgorithm(rand.Reader, data, algorithm))
	}}
}

func newEd25519() key { return plain(must2(ed25519.GenerateKey(rand.Reader)), "") }

func must2(_ ed25519.PublicKey, private ed25519.PrivateKey, err error) ed25519.PrivateKey {
	return must(private, err)
}

func newECDSA(c elliptic.Curve) key { return plain(must(ecdsa.GenerateKey(c, rand.Reader)), "") }

func newRSA(bits int, algorithm string) key {
	return plain(must(rsa.GenerateKey(rand.Reader, bits)), algorithm)
}

// touch is what the owner of a security key does: the flags that it signs.
const (
	untouched = 0
	touched   = 1
	verified  = 5 // touched, and unlocked with a PIN
)

// newSecurityKey is an authenticator in software.
func newSecurityKey(ecdsaKey bool, flags byte) key {
	const app = "ssh:"
	data := func(challenge []byte) []byte {
		a, d := sha256.Sum256([]byte(app)), sha256.Sum256(challenge)
		return append(append(append(a[:], flags), binary.BigEndian.AppendUint32(nil, 7)...), d[:]...)
	}
	rest := append([]byte{flags}, binary.BigEndian.AppendUint32(nil, 7)...)
	if ecdsaKey {
		private := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
		point := must(private.PublicKey.Bytes())
		public := ssh.Marshal(struct {
			Type, Curve string
			Point       []byte
			App         string
		}{ssh.KeyAlgoSKECDSA256, "nistp256", point, app})
		return key{public, func(challenge []byte) ssh.Signature {
			d := sha256.Sum256(data(challenge))
			r, s, err := ecdsa.Sign(rand.Reader, private, d[:])
			if err != nil {
				panic(err)
			}
			return ssh.Signature{Format: ssh.KeyAlgoSKECDSA256, Blob: ssh.Marshal(struct{ R, S *big.Int }{r, s}), Rest: rest}
		}}
	}
	pub, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	public := ssh.Marshal(struct {
		Type  string
		Point []byte
		App   string
	}{ssh.KeyAlgoSKED25519, pub, app})
	return key{public, func(challenge []byte) ssh.Signature {
		return ssh.Signature{Format: ssh.KeyAlgoSKED25519, Blob: ed25519.Sign(private, data(challenge)), Rest: rest}
	}}
}

// everyKind is a key of each type that is accepted.
func everyKind() map[string]key {
	return map[string]key{
		"ed25519":      newEd25519(),
		"ecdsa-256":    newECDSA(elliptic.P256()),
		"ecdsa-384":    newECDSA(elliptic.P384()),
		"ecdsa-521":    newECDSA(elliptic.P521()),
		"rsa-512":      newRSA(2048, ssh.KeyAlgoRSASHA512),
		"rsa-256":      newRSA(2048, ssh.KeyAlgoRSASHA256),
		"sk-ed25519":   newSecurityKey(false, touched),
		"sk-ecdsa":     newSecurityKey(true, touched),
		"sk-ed-pin":    newSecurityKey(false, verified),
		"sk-ecdsa-pin": newSecurityKey(true, verified),
	}
}

// parsed is a hand-made signature that has to be well formed.
func parsed(t testing.TB, h *hand) *sshsig.Signature {
	t.Helper()
	s, err := sshsig.Parse(h.armor())
	if err != nil {
		t.Fatalf("%v\n%s", err, h.armor())
	}
	return s
}

func signers(t testing.TB, lines ...string) *sshsig.Signers {
	t.Helper()
	s, err := sshsig.ParseAllowedSigners([]byte(strings.Join(lines, "\n")+"\n"), "signers")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func write(t testing.TB, text []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// run feeds a command, and is its output with what it said of an error.
func run(in []byte, env []string, argv ...string) (string, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	var out, said bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Env = bytes.NewReader(in), &out, &said, env
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%q: %w: %s", argv, err, said.String())
	}
	return out.String(), nil
}

func readKey(t testing.TB, private string) sshsig.Key {
	t.Helper()
	text, err := os.ReadFile(private + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	k, err := sshsig.ParseKey(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func wantReason(t testing.TB, err error, want sshsig.Reason) {
	t.Helper()
	if got := sshsig.ReasonOf(err); got != want {
		t.Errorf("refused as %q, want %q: %v", got, want, err)
	}
	if err != nil && !strings.ContainsAny(err.Error(), ";") {
		t.Errorf("says not what to do next: %v", err)
	}
}

func base64Of(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// blobOf is an encoded key of a type that has nothing else in it.
func blobOf(typ string) []byte { return ssh.Marshal(struct{ T, K string }{typ, "x"}) }
