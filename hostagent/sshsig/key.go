package sshsig

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// minRSA is the least length of an RSA key, in bits.
const minRSA = 2048

// accepted are the key types whose signatures count.
var accepted = []string{
	ssh.KeyAlgoED25519,
	ssh.KeyAlgoSKED25519,
	ssh.KeyAlgoSKECDSA256,
	ssh.KeyAlgoECDSA256,
	ssh.KeyAlgoECDSA384,
	ssh.KeyAlgoECDSA521,
	ssh.KeyAlgoRSA,
}

// certSuffix ends the type of every OpenSSH certificate.
const certSuffix = "-cert-v01@openssh.com"

// A Key is a public key that is accepted for signatures. Keys compare with ==
// and serve as keys of maps; the zero Key is none.
type Key struct{ wire string }

// ParseKey reads a key as a .pub file has it: type, base64 and a comment, which
// is ignored.
func ParseKey(line string) (Key, error) {
	typ, rest := field(strings.Trim(line, " \t\r\n"))
	encoded, _ := field(rest)
	wire, err := keyBytes(typ, encoded)
	if err != nil {
		return Key{}, err
	}
	key, _, err := keyOf(wire)
	return key, err
}

// keyBytes decodes a key's base64 and holds the type that stands before it to
// the one that stands in it.
func keyBytes(typ, encoded string) ([]byte, error) {
	if encoded == "" {
		return nil, refuse(Malformed, "no key stands after %q; write the key as its .pub file has it", typ)
	}
	wire, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil || strings.ContainsAny(encoded, "\r\n") {
		return nil, refuse(Malformed, "the key after %q is not base64; copy the line of its .pub file again", typ)
	}
	inner, ok := typeOf(wire)
	if !ok || inner != typ {
		return nil, refuse(Malformed, "the key after %q is of type %.64q; copy the line of its .pub file again", typ, inner)
	}
	return wire, nil
}

// typeOf is the type that an encoded key begins with.
func typeOf(wire []byte) (string, bool) {
	if len(wire) < 4 {
		return "", false
	}
	n := binary.BigEndian.Uint32(wire)
	if n > 64 || int(n) > len(wire)-4 {
		return "", false
	}
	return string(wire[4 : 4+n]), true
}

// keyOf holds an encoded key to what is accepted. A key has one encoding, so
// that it cannot be listed or revoked under another.
func keyOf(wire []byte) (Key, ssh.PublicKey, error) {
	typ, ok := typeOf(wire)
	switch {
	case !ok:
		return Key{}, nil, refuse(Malformed, "the public key is cut short or damaged; make the signature again, or copy the key's .pub file again")
	case strings.HasSuffix(typ, certSuffix):
		return Key{}, nil, refuse(Unsupported, "%s is a certificate, and certificates are not supported; use the plain key, and list it by itself", typ)
	case !slices.Contains(accepted, typ):
		return Key{}, nil, refuse(Unsupported, "keys of type %q are not accepted; use one of %s", typ, strings.Join(accepted, ", "))
	}
	pub, err := ssh.ParsePublicKey(wire)
	if err != nil || !bytes.Equal(pub.Marshal(), wire) {
		return Key{}, nil, refuse(Malformed, "the %s key is damaged or not encoded as OpenSSH does it; copy its .pub file again", typ)
	}
	switch k := pub.(ssh.CryptoPublicKey).CryptoPublicKey().(type) {
	case *rsa.PublicKey:
		if k.N.Sign() <= 0 || k.N.BitLen() < minRSA {
			return Key{}, nil, refuse(Unsupported, "the RSA key has %d bits, and %d is the least; make a new key, best with ssh-keygen -t ed25519", k.N.BitLen(), minRSA)
		}
	case ed25519.PublicKey:
		if weak(k) {
			return Key{}, nil, refuse(Unsupported, "the Ed25519 key is one of the few that fit signatures nobody made; make a new key with ssh-keygen -t ed25519")
		}
	}
	return Key{string(wire)}, pub, nil
}

// weak says whether an Ed25519 key is one of the points of small order, for
// which anyone can write signatures: Go's crypto/ed25519 takes them. Compared
// are the y coordinates, little endian; those of order 1, 2, 4, twice 8, and
// those that are 0 and 1 once more, as p and p+1.
func weak(k ed25519.PublicKey) bool {
	y := slices.Clone(k)
	y[31] &= 0x7f // the sign of x
	switch hex.EncodeToString(y) {
	case "0100000000000000000000000000000000000000000000000000000000000000",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"0000000000000000000000000000000000000000000000000000000000000000",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f":
		return true
	}
	return false
}

// public is the key for checking; keyOf has parsed it once already.
func (k Key) public() (ssh.PublicKey, error) { return ssh.ParsePublicKey([]byte(k.wire)) }

// Type is the key's type, such as "ssh-ed25519".
func (k Key) Type() string {
	typ, _ := typeOf([]byte(k.wire))
	return typ
}

// Fingerprint is the key's name in logs, as ssh-keygen -l shows it: "SHA256:…".
func (k Key) Fingerprint() string {
	pub, err := k.public()
	if err != nil {
		return "no key"
	}
	return ssh.FingerprintSHA256(pub)
}

// String is the key as a .pub file has it, without comment.
func (k Key) String() string {
	return k.Type() + " " + base64.StdEncoding.EncodeToString([]byte(k.wire))
}

// touched says whether keys of this type prove their owner's touch.
func (k Key) touched() bool {
	return k.Type() == ssh.KeyAlgoSKED25519 || k.Type() == ssh.KeyAlgoSKECDSA256
}
