package attacks

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
)

// Key is somebody's private key.
type Key struct {
	Name    string // the principal
	signer  ssh.Signer
	private crypto.PrivateKey
}

// newKey is an Ed25519 key that is always the same for a name.
func newKey(name string) *Key {
	seed := sha256.Sum256([]byte("attacks " + name))
	return keyOf(name, ed25519.NewKeyFromSeed(seed[:]))
}

func keyOf(name string, private crypto.PrivateKey) *Key {
	s, err := ssh.NewSignerFromKey(private)
	if err != nil {
		panic(err)
	}
	return &Key{name, s, private}
}

// As is the same key in another name.
func (k *Key) As(name string) *Key { return &Key{name, k.signer, k.private} }

// Public is the key as a .pub file has it, without comment.
func (k *Key) Public() string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k.signer.PublicKey())))
}

// PEM is the private key as ssh-keygen writes it.
func (k *Key) PEM() []byte {
	block, err := ssh.MarshalPrivateKey(k.private, k.Name)
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(block)
}

// Line is a line of allowed_signers; options as "namespaces=\"git\"", or "".
func (k *Key) Line(options string) string {
	return strings.Join(strings.Fields(k.Name+" "+options+" "+k.Public()), " ") + "\n"
}

// Commit signs a commit as git does.
func (k *Key) Commit(payload []byte) string { return k.Sign("git", payload) }

// Sign signs in a namespace, as ssh-keygen -Y sign does.
func (k *Key) Sign(namespace string, message []byte) string {
	return Envelope{Key: k, Namespace: namespace}.Armoured(message)
}

// Envelope is a signature of which every part may be another than it should.
type Envelope struct {
	Key       *Key
	Namespace string
	Hash      string // "" is sha512
	Algorithm string // of RSA; "" is rsa-sha2-512
	Named     []byte // the public key that it names, in the place of its own
	Tail      []byte // behind the end of it
	Reserved  string
	Version   uint32 // 0 is 1
}

// Raw is the envelope without its armour.
func (e Envelope) Raw(message []byte) []byte {
	if e.Hash == "" {
		e.Hash = "sha512"
	}
	if e.Version == 0 {
		e.Version = 1
	}
	if e.Algorithm == "" && e.Key.signer.PublicKey().Type() == ssh.KeyAlgoRSA {
		e.Algorithm = ssh.KeyAlgoRSASHA512
	}
	if e.Named == nil {
		e.Named = e.Key.signer.PublicKey().Marshal()
	}
	sum := sha512.Sum512(message)
	digest := sum[:]
	if e.Hash == "sha256" {
		short := sha256.Sum256(message)
		digest = short[:]
	}
	magic := [6]byte{'S', 'S', 'H', 'S', 'I', 'G'}
	sig, err := e.Key.signer.(ssh.AlgorithmSigner).SignWithAlgorithm(rand.Reader, ssh.Marshal(struct {
		Magic                     [6]byte
		Namespace, Reserved, Hash string
		Digest                    []byte
	}{magic, e.Namespace, e.Reserved, e.Hash, digest}), e.Algorithm)
	if err != nil {
		panic(err)
	}
	return append(ssh.Marshal(struct {
		Magic                     [6]byte
		Version                   uint32
		Key                       []byte
		Namespace, Reserved, Hash string
		Signature                 []byte
	}{magic, e.Version, e.Named, e.Namespace, e.Reserved, e.Hash, ssh.Marshal(sig)}), e.Tail...)
}

// Armoured is the envelope as a commit or a file has it.
func (e Envelope) Armoured(message []byte) string { return Armour("SSH SIGNATURE", e.Raw(message)) }

// Armour puts bytes between BEGIN and END lines, as ssh-keygen does.
func Armour(what string, raw []byte) string {
	text := base64.StdEncoding.EncodeToString(raw)
	var b strings.Builder
	fmt.Fprintf(&b, "-----BEGIN %s-----\n", what)
	for ; len(text) > 70; text = text[70:] {
		b.WriteString(text[:70] + "\n")
	}
	fmt.Fprintf(&b, "%s\n-----END %s-----\n", text, what)
	return b.String()
}

// made makes the keys whose making takes long once.
var (
	madeRSA = sync.OnceValue(func() *rsa.PrivateKey {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		return k
	})
	madeECDSA = sync.OnceValue(func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			panic(err)
		}
		return k
	})
)

// Those who may do anything, with a key of each kind.
func Alice() *Key { return newKey("alice@acme.example") }
func Bob() *Key   { return keyOf("bob@acme.example", madeECDSA()) }
func Carol() *Key { return keyOf("carol@acme.example", madeRSA()) }

// Those who may do less, and those who may nothing.
func Lead() *Key     { return newKey("lead@acme.example") }     // any, in staging
func CI() *Key       { return newKey("ci@acme.example") }       // bump, in staging
func Bumper() *Key   { return newKey("bumper@acme.example") }   // bump
func Roller() *Key   { return newKey("roller@acme.example") }   // rollback
func Promoter() *Key { return newKey("promoter@acme.example") } // promote, in prod
func Freezer() *Key  { return newKey("freezer@acme.example") }  // freeze, in prod
func Operator() *Key { return newKey("operator@acme.example") } // operate
func Robot() *Key    { return newKey("robot@acme.example") }    // any, but no person
func Guest() *Key    { return newKey("guest@acme.example") }    // listed, in no role
func Mallory() *Key  { return newKey("alice@acme.example (not)").As("alice@acme.example") }

// named is a key of a name that nobody above has.
func named(name string) *Key { return newKey(name) }

// Signers is the hosts' allowed_signers.
func Signers() string {
	var b strings.Builder
	for _, k := range []*Key{Alice(), Bob(), Carol(), Lead(), CI(), Bumper(), Roller(), Promoter(), Freezer(), Operator(), Robot(), Guest()} {
		b.WriteString(k.Line(""))
	}
	second := named("alice's other key").As("alice@acme.example")
	shared := named("shared").As("alice@acme.example,bob@acme.example")
	for _, l := range []string{
		second.Line(""), shared.Line(""),
		named("old@acme.example").Line(`valid-before="20261101Z"`),
		named("new@acme.example").Line(`valid-after="20270101Z"`),
		named("lately@acme.example").Line(`valid-after="20261122115900Z",valid-before="20270101Z"`),
		named("revoked@acme.example").Line(""),
		named("papers@acme.example").Line(`namespaces="drydock"`),
		named("commits@acme.example").Line(`namespaces="git"`),
		named("elsewhere@acme.example").Line(`namespaces="git@acme.example"`),
		named("a whole domain").As("*@acme.example").Line(""), named("all robots").As("*@bots.acme.example").Line(""),
		named("deploy-7@bots.acme.example").Line(""), named("root@bots.acme.example").Line(""),
		named("literal@bots.acme.example").Line(""),
		named("two names").As("literal@bots.acme.example,ci@acme.example").Line(""),
		named("ci@acme.exampl").Line(""), named("ci@acme.example.evil.example").Line(""),
		named("CI@acme.example").Line(""), named("c1@acme.example").Line(""), named("xci@acme.example").Line(""),
	} {
		b.WriteString(l)
	}
	return b.String()
}

// Revoked is the hosts' list of keys that count no longer.
func Revoked() string { return named("revoked@acme.example").Public() + "\n" }
