// Package sshsig reads, checks and makes OpenSSH's signatures of files (its
// PROTOCOL.sshsig), and reads allowed_signers files (ssh-keygen(1), ALLOWED
// SIGNERS): who may sign what, in whose name, and when.
//
// It accepts less than ssh-keygen does, and never more: one way to write a
// signature, no certificates, no SHA-1, security keys only with their owner's
// touch. What it writes, ssh-keygen verifies. It reads no clock.
package sshsig

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"math/big"
	"slices"

	"golang.org/x/crypto/ssh"
)

// MaxSignature is the largest armored signature, in bytes.
const MaxSignature = 16 << 10

const (
	begin    = "-----BEGIN SSH SIGNATURE-----\n"
	end      = "-----END SSH SIGNATURE-----"
	width    = 70 // of the base64 that ssh-keygen writes
	version  = 1
	nsMax    = 255
	userSeen = 1 // the flag by which a security key says that it was touched
)

var magic = [6]byte{'S', 'S', 'H', 'S', 'I', 'G'}

// A Signature is one that was well formed when it was parsed or made. Whether
// it fits a message, Verify says; whose it is, Signers.
type Signature struct {
	key             Key
	public          ssh.PublicKey // key, parsed: for some curves that takes as long as verifying
	namespace, hash string
	sig             ssh.Signature
}

// Key is the key that the signature names.
func (s *Signature) Key() Key { return s.key }

// Namespace is what the signature was made for, such as "git".
func (s *Signature) Namespace() string { return s.namespace }

// envelope is the decoded armour.
type envelope struct {
	Magic     [6]byte
	Version   uint32
	Key       []byte
	Namespace string
	Reserved  string
	Hash      string
	Signature []byte
}

// signed is what the key signs.
type signed struct {
	Magic     [6]byte
	Namespace string
	Reserved  string
	Hash      string
	Digest    []byte
}

// Parse reads one armored signature, with or without the newline after its last
// line. Anything else around it, unequal lines, CR, and every encoding but the
// shortest is refused, so that no byte of it can be changed unseen.
func Parse(armored []byte) (*Signature, error) {
	raw, err := dearmor(armored)
	if err != nil {
		return nil, err
	}
	var e envelope
	if err := ssh.Unmarshal(raw, &e); err != nil || e.Magic != magic {
		return nil, refuse(Malformed, "what the armour holds is not an SSH signature, or is cut short or too long; sign again with ssh-keygen -Y sign")
	}
	if e.Version != version {
		return nil, refuse(Unsupported, "the signature is of version %d, and only version %d is known; sign again with an OpenSSH that writes it", e.Version, version)
	}
	s := &Signature{namespace: e.Namespace, hash: e.Hash}
	if s.key, s.public, err = keyOf(e.Key); err != nil {
		return nil, err
	}
	if err := checkNamespace(e.Namespace); err != nil {
		return nil, err
	}
	if e.Reserved != "" {
		return nil, refuse(Unsupported, "the signature's reserved field is not empty, and nobody has said what would be in it; sign again with ssh-keygen -Y sign")
	}
	if digest(e.Hash, nil) == nil {
		return nil, refuse(Unsupported, "the signature hashes with %.32q, and only sha256 and sha512 are accepted; sign again with ssh-keygen -Y sign", e.Hash)
	}
	if err := ssh.Unmarshal(e.Signature, &s.sig); err != nil {
		return nil, refuse(Malformed, "the signature proper is cut short; sign again with ssh-keygen -Y sign")
	}
	if err := s.checkShape(); err != nil {
		return nil, err
	}
	return s, nil
}

func dearmor(text []byte) ([]byte, error) {
	if len(text) > MaxSignature {
		return nil, refuse(Malformed, "the signature has %d bytes, and %d is the limit; sign again with ssh-keygen -Y sign", len(text), MaxSignature)
	}
	if bytes.IndexByte(text, '\r') >= 0 {
		return nil, refuse(Malformed, `the signature has CR line ends; remove them (tr -d '\r'), and keep git from adding them (core.autocrlf)`)
	}
	text = bytes.TrimSuffix(text, []byte("\n"))
	body, ok := bytes.CutPrefix(text, []byte(begin))
	if !ok {
		return nil, refuse(Malformed, "the signature does not begin with the line %q; keep the file as ssh-keygen -Y sign wrote it", begin[:len(begin)-1])
	}
	body, ok = bytes.CutSuffix(body, []byte("\n"+end))
	if !ok {
		return nil, refuse(Malformed, "the signature does not end with the line %q; keep the file as ssh-keygen -Y sign wrote it", end)
	}
	if bytes.Contains(body, []byte("-----")) {
		return nil, refuse(Malformed, "there is more than one signature, or text around it; keep one signature a file")
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(string(body))
	if err != nil {
		return nil, refuse(Malformed, "the signature is not base64: %v; keep the file as ssh-keygen -Y sign wrote it", err)
	}
	wide := bytes.IndexByte(body, '\n')
	if wide < 0 {
		wide = len(body)
	}
	if wide == 0 || !bytes.Equal(armor(raw, wide), append(slices.Clip(text), '\n')) {
		return nil, refuse(Malformed, "the signature's lines are of unequal length or empty; keep the file as ssh-keygen -Y sign wrote it")
	}
	return raw, nil
}

func armor(raw []byte, wide int) []byte {
	out := []byte(begin)
	for line := range slices.Chunk([]byte(base64.StdEncoding.EncodeToString(raw)), wide) {
		out = append(append(out, line...), '\n')
	}
	return append(out, end+"\n"...)
}

// Armor is the signature as ssh-keygen -Y sign writes it.
func (s *Signature) Armor() []byte {
	return armor(ssh.Marshal(envelope{
		magic, version, []byte(s.key.wire), s.namespace, "", s.hash, ssh.Marshal(s.sig),
	}), width)
}

// checkNamespace holds a namespace to what can be read in a message.
func checkNamespace(ns string) error {
	if ns == "" || len(ns) > nsMax || !printable(ns) {
		return refuse(Malformed, "the signature's namespace is %.64q; a namespace is 1 to %d printable ASCII characters, such as \"git\"", ns, nsMax)
	}
	return nil
}

// printable says whether s is of ASCII that can be seen, or spaces.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// checkShape holds the signature proper to the one form that its key's type
// has; golang.org/x/crypto/ssh takes several.
func (s *Signature) checkShape() error {
	var shaped bool
	switch s.key.Type() {
	case ssh.KeyAlgoRSA:
		if s.sig.Format != ssh.KeyAlgoRSASHA256 && s.sig.Format != ssh.KeyAlgoRSASHA512 {
			return refuse(Unsupported, "the signature is of type %.64q, and of RSA only rsa-sha2-256 and rsa-sha2-512 are accepted; sign again with a newer OpenSSH", s.sig.Format)
		}
		shaped = len(s.sig.Blob) == s.public.(ssh.CryptoPublicKey).CryptoPublicKey().(*rsa.PublicKey).Size() && len(s.sig.Rest) == 0
	case ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519:
		shaped = len(s.sig.Blob) == 64
	default:
		var rs struct{ R, S *big.Int }
		shaped = ssh.Unmarshal(s.sig.Blob, &rs) == nil && rs.R.Sign() > 0 && rs.S.Sign() > 0 && bytes.Equal(ssh.Marshal(rs), s.sig.Blob)
	}
	if s.key.Type() != ssh.KeyAlgoRSA && s.sig.Format != s.key.Type() {
		return refuse(Malformed, "the signature is of type %.64q and its key of type %s; sign again with ssh-keygen -Y sign", s.sig.Format, s.key.Type())
	}
	rest := 0
	if s.key.touched() {
		rest = 5 // flags and a counter
	}
	if !shaped || len(s.sig.Rest) != rest {
		return refuse(Malformed, "the %s signature is not encoded as OpenSSH does it; sign again with ssh-keygen -Y sign", s.key.Type())
	}
	return nil
}

// digest is nil for a hash that is not accepted.
func digest(hash string, message []byte) []byte {
	switch hash {
	case "sha256":
		d := sha256.Sum256(message)
		return d[:]
	case "sha512":
		d := sha512.Sum512(message)
		return d[:]
	}
	return nil
}

// toSign is what a key signs for a message.
func toSign(namespace, hash string, message []byte) []byte {
	return ssh.Marshal(signed{magic, namespace, "", hash, digest(hash, message)})
}

// Verify says whether this is the signature of message in namespace by the key
// that it names. It says nothing of whose key that is: see Signers.
func (s *Signature) Verify(message []byte, namespace string) error {
	if namespace != s.namespace || namespace == "" {
		return refuse(WrongNamespace, "the signature is for the namespace %q, and %q is needed; sign again with -n %s", s.namespace, namespace, namespace)
	}
	if s.key.touched() && s.sig.Rest[0]&userSeen == 0 {
		return refuse(Untouched, "the security key signed without being touched (no-touch-required), and only a touch shows that a person was there; sign again, with a key made without that option")
	}
	if err := s.public.Verify(toSign(namespace, s.hash, message), &s.sig); err != nil {
		return refuse(Mismatch, "the signature does not fit: what was signed, or the signature, was changed since, or another key than %s made it; sign again", s.key.Fingerprint())
	}
	return nil
}
