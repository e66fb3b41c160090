// Package openpgp says whose an OpenPGP signature of a commit is, from a
// keyring of public keys.
//
// It accepts less than GnuPG does, and is meant never to accept more: keys and
// signatures of version 4, RSA from 2048 bits, Ed25519 and the NIST curves, and
// SHA-2 wherever something is signed. What a key says of itself is checked when
// the keyring is read; what the time decides, when a signature is. Framing and
// rules are this package's own; the packets' insides, and the mathematics, are
// those of ProtonMail's go-crypto. It reads no clock.
package openpgp

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// MaxSignature is the largest armoured signature, in bytes.
const MaxSignature = 16 << 10

// minRSA is the least length of an RSA key, in bits; verifying takes longer than
// anybody waits above the other.
const minRSA, maxRSA = 2048, 16384

// maxAhead is how far another's clock may be ahead.
const maxAhead = 10 * time.Minute

// Keyring is the keys of those who may sign. It does not change, and may be
// used by many at once.
type Keyring struct {
	name   string
	owners []*owner
	keys   map[string]*key // by fingerprint, subkeys too
}

// An owner is a primary key and what its self-signatures say.
type owner struct {
	print    string
	primary  *packet.PublicKey
	revoked  string // in words, "" if it is not
	direct   *self  // of the newest signature over the key itself
	users    []*user
	unusable string // why the primary key can certify nothing here
}

// A user is a user ID.
type user struct {
	id, email string
	revoked   bool
	self      *self  // of the newest self-signature; nil: none holds
	why       string // why it names nobody, whatever the time
}

// A self is what the newest signature of a kind says of a key.
type self struct {
	made, ends time.Time     // of the signature; zero: never
	life       time.Duration // of the key, from its creation; 0: for ever
	flags      bool          // it says what the key is for
	signs      bool
}

// A key is one that may make signatures: a primary key or a subkey.
type key struct {
	pub   *packet.PublicKey
	print string
	of    *owner
	sub   *subkey // nil: the primary key itself
}

// A subkey is what binds it to its owner.
type subkey struct {
	revoked string
	bound   *self
	why     string // why it signs nothing, whatever the time
}

// Identify says whose the signature of message is, and the fingerprint of the
// key that made it: the emails of each user ID that is valid at a time. The
// error says in words why there is nobody.
func (k *Keyring) Identify(message, signature []byte, at time.Time) (names []string, fingerprint string, err error) {
	sig, err := parseSignature(signature)
	if err != nil {
		return nil, "", err
	}
	if sig.IssuerKeyVersion != 4 || len(sig.IssuerFingerprint) == 0 {
		return nil, "", errors.New("the signature does not name the key that made it by its fingerprint; sign again with GnuPG 2.1.16 or later")
	}
	print := fingerprintOf(sig.IssuerFingerprint)
	by := k.keys[print]
	if by == nil {
		return nil, print, fmt.Errorf("the key %s is not in %s; sign with a key that is, or have it added", print, k.name)
	}
	if err := by.may(at); err != nil {
		return nil, print, err
	}
	if err := by.made(sig, message, at); err != nil {
		return nil, print, err
	}
	names, err = by.names(at)
	return names, print, err
}

// Names are the emails in whose name some key of the ring may sign at a time,
// sorted, each once.
func (k *Keyring) Names(at time.Time) []string {
	var all []string
	for _, one := range k.keys {
		if one.may(at) != nil {
			continue
		}
		if names, err := one.names(at); err == nil {
			all = append(all, names...)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// may says why the key signs nothing at a time.
func (k *key) may(at time.Time) error {
	o := k.of
	switch {
	case o.revoked != "":
		return fmt.Errorf("the key %s is revoked (%s); sign with another key", o.print, o.revoked)
	case o.unusable != "":
		return fmt.Errorf("the key %s %s", o.print, o.unusable)
	case o.primary.CreationTime.After(at.Add(maxAhead)):
		return fmt.Errorf("the key %s is dated %s, and it is %s; set the clock that is wrong", o.print, moment(o.primary.CreationTime), moment(at))
	case k.sub == nil:
		return nil
	}
	s := k.sub
	switch {
	case s.revoked != "":
		return fmt.Errorf("the subkey %s of %s is revoked (%s); sign with another key", k.print, o.print, s.revoked)
	case s.why != "":
		return fmt.Errorf("the subkey %s of %s %s", k.print, o.print, s.why)
	case k.pub.CreationTime.After(at.Add(maxAhead)):
		return fmt.Errorf("the subkey %s of %s is dated %s, and it is %s; set the clock that is wrong", k.print, o.print, moment(k.pub.CreationTime), moment(at))
	case !s.bound.signs:
		return fmt.Errorf("the subkey %s of %s is not made for signing; sign with one that is (gpg --list-keys shows it with an S)", k.print, o.print)
	}
	if end := s.bound.end(k.pub.CreationTime); !end.IsZero() && !at.Before(end) {
		return fmt.Errorf("the subkey %s of %s was valid until %s, and it is %s; prolong it (gpg --quick-set-expire) and have the keyring renewed, or sign with another", k.print, o.print, moment(end), moment(at))
	}
	return nil
}

// made says why the signature is none of message by the key.
func (k *key) made(sig *packet.Signature, message []byte, at time.Time) error {
	switch {
	case sig.CreationTime.Before(k.pub.CreationTime):
		return fmt.Errorf("the signature is dated %s, before its key was made (%s); set the signer's clock and sign again", moment(sig.CreationTime), moment(k.pub.CreationTime))
	case sig.CreationTime.After(at.Add(maxAhead)):
		return fmt.Errorf("the signature is dated %s, and it is %s; set the clock that is wrong, and sign again if it is the signer's", moment(sig.CreationTime), moment(at))
	}
	if end := ends(sig); !end.IsZero() && !at.Before(end) {
		return fmt.Errorf("the signature itself was valid until %s, and it is %s; sign again, without an expiry", moment(end), moment(at))
	}
	h, err := sig.PrepareVerify()
	if err != nil {
		return fmt.Errorf("the signature cannot be checked (%w); sign again", err)
	}
	h.Write(message)
	if err := k.pub.VerifySignature(h, sig); err != nil {
		return fmt.Errorf("the signature does not fit: what was signed, or the signature, was changed since, or another key than %s made it; sign again", k.print)
	}
	return nil
}

// names are the emails of the user IDs by which the owner is known at a time.
func (k *key) names(at time.Time) (names []string, err error) {
	o := k.of
	var not []string
	for _, u := range o.users {
		why := u.names(o, at, k.sub == nil)
		if why == "" && !slices.Contains(names, u.email) {
			names = append(names, u.email)
		} else if why != "" {
			not = append(not, fmt.Sprintf("its user ID %.80q %s", u.id, why))
		}
	}
	if names != nil {
		return names, nil
	}
	if not == nil {
		not = []string{"it has no user ID; add one with an email (gpg --quick-add-uid) and have the keyring renewed"}
	}
	return nil, fmt.Errorf("the key %s names nobody: %s", o.print, strings.Join(not[:min(len(not), 3)], "; "))
}

// names says why a user ID names nobody at a time; "" if it does.
func (u *user) names(o *owner, at time.Time, primarySigns bool) string {
	const renew = "prolong it (gpg --quick-set-expire) and have the keyring renewed"
	switch {
	case u.revoked:
		return "is revoked; sign with a key that has a valid one"
	case u.why != "":
		return u.why
	}
	says := []*self{u.self}
	if o.direct != nil {
		says = append(says, o.direct)
	}
	signs, flags := false, false
	for _, s := range says {
		if !s.ends.IsZero() && !at.Before(s.ends) {
			return fmt.Sprintf("is signed until %s only, and it is %s; sign it again with its own key", moment(s.ends), moment(at))
		}
		if end := s.end(o.primary.CreationTime); !end.IsZero() && !at.Before(end) {
			return fmt.Sprintf("is that of a key valid until %s, and it is %s; %s", moment(end), moment(at), renew)
		}
		if s.flags {
			signs, flags = s.signs && (signs || !flags), true
		}
	}
	if primarySigns && !signs {
		return "is that of a primary key not made for signing; sign with a subkey that is (gpg --list-keys shows it with an S)"
	}
	return ""
}

// end is when a key that was made at a time ends by this signature's word, or
// the signature itself; zero: never.
func (s *self) end(made time.Time) time.Time {
	var end time.Time
	if s.life != 0 {
		end = made.Add(s.life)
	}
	if !s.ends.IsZero() && (end.IsZero() || s.ends.Before(end)) {
		end = s.ends
	}
	return end
}

// selfOf is what a self-signature says.
func selfOf(sig *packet.Signature) *self {
	s := &self{made: sig.CreationTime, ends: ends(sig), flags: sig.FlagsValid, signs: sig.FlagSign}
	if sig.KeyLifetimeSecs != nil {
		s.life = time.Duration(*sig.KeyLifetimeSecs) * time.Second
	}
	return s
}

// ends is when a signature ends; zero: never.
func ends(sig *packet.Signature) time.Time {
	if sig.SigLifetimeSecs == nil || *sig.SigLifetimeSecs == 0 {
		return time.Time{}
	}
	return sig.CreationTime.Add(time.Duration(*sig.SigLifetimeSecs) * time.Second)
}

// parseSignature reads an armoured signature: one packet of a signature over
// bytes as they are, and nothing else.
func parseSignature(armoured []byte) (*packet.Signature, error) {
	const again = "keep it as gpg --detach-sign --armor wrote it"
	if len(armoured) > MaxSignature {
		return nil, fmt.Errorf("the signature has %d bytes, and %d is the limit; %s", len(armoured), MaxSignature, again)
	}
	raw, rest, err := dearmour(armoured, "PGP SIGNATURE")
	if err != nil {
		return nil, fmt.Errorf("the signature %w; %s", err, again)
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return nil, fmt.Errorf("text follows the signature; %s", again)
	}
	packets, err := split(raw, 2)
	if err != nil {
		return nil, fmt.Errorf("the signature %w; %s", err, again)
	}
	switch {
	case len(packets) != 1:
		return nil, fmt.Errorf("there is more than one signature; sign with one key (one local-user in gpg.conf)")
	case packets[0].tag != tagSignature:
		return nil, fmt.Errorf("what the armour holds is no signature but a packet of type %d; sign again with gpg --detach-sign", packets[0].tag)
	}
	p, err := packets[0].parse()
	sig, ok := p.(*packet.Signature)
	switch {
	case err != nil || !ok:
		return nil, fmt.Errorf("the signature is of a kind that is not supported, or damaged (%w); sign again with a current GnuPG", err)
	case sig.Version != 4:
		return nil, fmt.Errorf("the signature is of version %d, and only version 4 is known; sign again with a current GnuPG", sig.Version)
	case sig.SigType != packet.SigTypeBinary:
		return nil, fmt.Errorf("the signature is of type 0x%02x, and only one over bytes as they are (0x00) counts; sign again with gpg --detach-sign", int(sig.SigType))
	}
	if why := weak(sig); why != "" {
		return nil, fmt.Errorf("the signature %s; sign again", why)
	}
	return sig, nil
}

// weak says why a signature's form counts for nothing; "" if it does.
func weak(sig *packet.Signature) string {
	if !slices.Contains([]crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512}, sig.Hash) {
		return fmt.Sprintf("hashes with %v, and only SHA-256, SHA-384 and SHA-512 are accepted", sig.Hash)
	}
	for _, n := range sig.Notations {
		if n.IsCritical {
			return fmt.Sprintf("has the critical notation %.64q, and nobody here knows what it restricts", n.Name)
		}
	}
	return ""
}

// unusable says why signatures of a key do not count, whatever they sign; "" if
// they may.
func unusable(pub *packet.PublicKey) string {
	const next = "; make a new one, best with gpg --quick-generate-key NAME ed25519"
	switch pub.PubKeyAlgo {
	case packet.PubKeyAlgoRSA, packet.PubKeyAlgoRSASignOnly:
		n := pub.PublicKey.(*rsa.PublicKey).N.BitLen()
		if n < minRSA || n > maxRSA {
			return fmt.Sprintf("is of RSA with %d bits, and %d to %d are accepted%s", n, minRSA, maxRSA, next)
		}
		return ""
	case packet.PubKeyAlgoEdDSA, packet.PubKeyAlgoEd25519, packet.PubKeyAlgoECDSA:
		curve, err := pub.Curve()
		if err == nil && slices.Contains([]packet.Curve{packet.Curve25519, packet.CurveNistP256, packet.CurveNistP384, packet.CurveNistP521}, curve) {
			return ""
		}
		return fmt.Sprintf("is on a curve (%s) that is not accepted%s", curve, next)
	case packet.PubKeyAlgoDSA:
		return "is of DSA, which is not accepted" + next
	}
	return fmt.Sprintf("is of an algorithm (%d) that is not accepted%s", pub.PubKeyAlgo, next)
}

func fingerprintOf(b []byte) string { return strings.ToUpper(hex.EncodeToString(b)) }

func moment(t time.Time) string { return t.UTC().Format(time.RFC3339) }
