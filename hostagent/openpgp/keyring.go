package openpgp

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// Limits of a keyring.
const (
	MaxKeyring = 4 << 20
	maxPackets = 20_000
	maxKeys    = 2_000
)

const export = "write the file anew with gpg --export KEY… >FILE"

// ParseKeyring reads public keys, as gpg --export writes them, with or without
// --armor; several armoured blocks may follow one another, with empty lines and
// comments (#) between. name is what errors call it. A file that is damaged is
// refused as a whole; a key that cannot count stays known, so that what it
// signed can be refused in words.
//
// Who puts a key into the file vouches for every user ID on it: its owner alone
// says whose emails they are.
func ParseKeyring(data []byte, name string) (*Keyring, error) {
	k := &Keyring{name: name, keys: map[string]*key{}}
	packets, err := packetsOf(data)
	if err == nil {
		err = k.read(packets)
	}
	if err == nil && len(k.owners) == 0 {
		err = errors.New("holds no key")
	}
	if err != nil {
		return nil, fmt.Errorf("%s %w; %s", name, err, export)
	}
	return k, nil
}

func packetsOf(data []byte) ([]framed, error) {
	switch {
	case len(data) > MaxKeyring:
		return nil, fmt.Errorf("has %d bytes, and %d is the limit: export each key with --export-options export-minimal", len(data), MaxKeyring)
	case len(data) >= 12 && string(data[8:12]) == "KBXf":
		return nil, errors.New("is GnuPG's own keybox, which only GnuPG can read")
	case len(data) > 0 && data[0]&0x80 != 0:
		return split(data, maxPackets)
	}
	var all []framed
	for rest := data; ; {
		line, after, more := bytes.Cut(rest, []byte("\n"))
		if text := bytes.TrimSpace(line); len(text) == 0 || text[0] == '#' {
			if rest = after; !more {
				return all, nil
			}
			continue
		}
		at := bytes.Count(data[:len(data)-len(rest)], []byte("\n")) + 1
		if bytes.HasPrefix(rest, []byte("-----BEGIN PGP PRIVATE KEY")) {
			return nil, fmt.Errorf("holds a private key in line %d, which must never stand here: remove it, and revoke it if others may have read it", at)
		}
		raw, next, err := dearmour(rest, "PGP PUBLIC KEY BLOCK")
		if err != nil {
			return nil, fmt.Errorf("%w (the block of line %d)", err, at)
		}
		some, err := split(raw, maxPackets-len(all))
		if err != nil {
			return nil, fmt.Errorf("%w (the block of line %d)", err, at)
		}
		all, rest = append(all, some...), next
	}
}

// reader walks over a keyring's packets.
type reader struct {
	*Keyring
	owner *owner
	user  *user
	sub   *key
}

func (k *Keyring) read(packets []framed) error {
	r := &reader{Keyring: k}
	for _, f := range packets {
		if err := r.take(f); err != nil {
			return err
		}
	}
	k.settle()
	return nil
}

// settle says what no signature has said.
func (k *Keyring) settle() {
	for _, o := range k.owners {
		for _, u := range o.users {
			if u.self == nil && u.why == "" {
				u.why = "is not signed by its own key; sign with a key that has one that is"
			}
		}
	}
	for _, one := range k.keys {
		if s := one.sub; s != nil && s.bound == nil && s.why == "" {
			s.why = "is not bound to it by a signature; have the keyring renewed, or sign with another key"
		}
	}
}

func (r *reader) take(f framed) error {
	switch f.tag {
	case tagSecret, tagSecretSub:
		return errors.New("holds a private key, which must never stand here: remove it, and revoke it if others may have read it")
	case tagPrimary:
		return r.primary(f)
	}
	if r.owner == nil {
		return fmt.Errorf("begins with a packet of type %d instead of a public key", f.tag)
	}
	switch f.tag {
	case tagUser:
		r.user, r.sub = r.owner.user(string(f.body)), nil
	case tagSubkey:
		return r.subkey(f)
	case tagAttribute: // a picture, and signatures over it
		r.user, r.sub = nil, nil
	case tagTrust: // GnuPG's own notes
	case tagSignature:
		r.signature(f)
	default:
		return fmt.Errorf("holds a packet of type %d, which is no part of a public key", f.tag)
	}
	return nil
}

// user finds or makes a user ID: what is said of it in two places is said of one.
func (o *owner) user(id string) *user {
	for _, u := range o.users {
		if u.id == id {
			return u
		}
	}
	u := &user{id: id}
	u.email, u.why = emailOf(id)
	o.users = append(o.users, u)
	return u
}

func (r *reader) primary(f framed) error {
	if len(r.owners) == maxKeys {
		return fmt.Errorf("holds more than %d keys", maxKeys)
	}
	pub, err := publicKey(f)
	if err != nil {
		return fmt.Errorf("holds a key that cannot be read (%w): remove it (gpg --list-packets shows it)", err)
	}
	o := &owner{print: fingerprintOf(pub.Fingerprint), primary: pub, unusable: unusable(pub)}
	r.owner, r.user, r.sub = o, nil, nil
	r.owners = append(r.owners, o)
	return r.add(&key{pub: pub, print: o.print, of: o})
}

func (r *reader) add(k *key) error {
	if r.keys[k.print] != nil {
		return fmt.Errorf("holds the key %s twice, and they may say different things: keep the newer", k.print)
	}
	r.keys[k.print] = k
	return nil
}

func (r *reader) subkey(f framed) error {
	r.user, r.sub = nil, nil
	pub, err := publicKey(f)
	if err != nil || !pub.CanSign() {
		return nil // for encryption, as most are
	}
	r.sub = &key{pub: pub, print: fingerprintOf(pub.Fingerprint), of: r.owner, sub: &subkey{why: unusable(pub)}}
	return r.add(r.sub)
}

func publicKey(f framed) (*packet.PublicKey, error) {
	p, err := f.parse()
	if err != nil {
		return nil, err
	}
	pub, ok := p.(*packet.PublicKey)
	if !ok || pub.Version != 4 {
		return nil, errors.New("it is not of version 4")
	}
	return pub, nil
}

// signature takes up what a signature over the key, user ID or subkey before it
// says. Others' signatures say nothing here. A revocation counts whoever may
// have made it, since one that cannot be checked may still be right.
func (r *reader) signature(f framed) {
	p, err := f.parse()
	sig, ok := p.(*packet.Signature)
	if err != nil || !ok {
		r.revoke(kindOf(f.body), nil)
		return
	}
	if r.revoke(byte(sig.SigType), sig) || !sig.CheckKeyIdOrFingerprint(r.owner.primary) {
		return
	}
	switch {
	case sig.SigType == packet.SigTypeDirectSignature:
		r.owner.overKey(sig)
	case r.sub != nil && sig.SigType == packet.SigTypeSubkeyBinding:
		r.sub.bind(sig)
	case r.user != nil && sig.SigType >= packet.SigTypeGenericCert && sig.SigType <= packet.SigTypePositiveCert:
		r.user.sign(r.owner.primary, sig)
	}
}

// kindOf is the type of a signature that cannot be read otherwise.
func kindOf(body []byte) byte {
	switch {
	case len(body) > 2 && body[0] == 3: // old: its fields begin with their length
		return body[2]
	case len(body) > 1:
		return body[1]
	}
	return 0
}

// revoke takes up a revocation, and reports whether it was one.
func (r *reader) revoke(kind byte, sig *packet.Signature) bool {
	why := "for a reason that cannot be read"
	if sig != nil {
		why = reason(sig)
	}
	switch packet.SignatureType(kind) {
	case packet.SigTypeKeyRevocation:
		r.owner.revoked = why
	case packet.SigTypeSubkeyRevocation:
		if r.sub != nil {
			r.sub.sub.revoked = why
		}
	case packet.SigTypeCertificationRevocation:
		// Also of others' signatures, which mean nothing here.
		if r.user != nil && (sig == nil || sig.CheckKeyIdOrFingerprint(r.owner.primary)) {
			r.user.revoked = true
		}
	default:
		return false
	}
	return true
}

// reason is why a key was revoked. It makes no difference, as with GnuPG: what
// was superseded may have been lost later, and nobody would say so any more.
func reason(sig *packet.Signature) string {
	if sig.RevocationReason == nil {
		return "for no reason given"
	}
	switch *sig.RevocationReason {
	case packet.KeySuperseded:
		return "superseded"
	case packet.KeyCompromised:
		return "compromised"
	case packet.KeyRetired:
		return "no longer used"
	}
	return "for no reason given"
}

// overKey takes up a signature of the key over itself.
func (o *owner) overKey(sig *packet.Signature) {
	if o.unusable != "" || o.primary.VerifyDirectKeySignature(sig) != nil {
		return
	}
	if s := selfOf(sig); o.direct == nil || !s.made.Before(o.direct.made) {
		if o.direct = s; weak(sig) != "" {
			o.unusable = weakly("says what it is for with a signature that ", sig)
		}
	}
}

// sign takes up a self-signature of a user ID: the newest is the owner's last
// word, also if it takes something away, or does not count.
func (u *user) sign(primary *packet.PublicKey, sig *packet.Signature) {
	if !primary.CanSign() || unusable(primary) != "" || primary.VerifyUserIdSignature(u.id, primary, sig) != nil {
		return
	}
	s := selfOf(sig)
	if u.self != nil && s.made.Before(u.self.made) {
		return
	}
	u.self = s
	if u.email == "" {
		return
	}
	u.why = ""
	if weak(sig) != "" {
		u.why = weakly("is bound to its key by a signature that ", sig)
	}
}

// bind takes up the signature that binds a subkey: the newest, as above.
func (k *key) bind(sig *packet.Signature) {
	primary, s := k.of.primary, k.sub
	if unusable(primary) != "" || unusable(k.pub) != "" {
		return
	}
	if s.bound != nil && sig.CreationTime.Before(s.bound.made) {
		return
	}
	err := primary.VerifyKeySignature(k.pub, sig) // with the subkey's own, if it is for signing
	back := sig.EmbeddedSignature
	switch {
	case err != nil && sig.FlagSign && verifiesAlone(primary, k.pub, sig):
		s.bound, s.why = selfOf(sig), "did not sign for its primary key in turn, so it may have been taken from somebody else's; make a new one (gpg --quick-add-key)"
	case err != nil:
		return
	case weak(sig) != "":
		s.bound, s.why = selfOf(sig), weakly("is bound to its key by a signature that ", sig)
	case sig.FlagSign && (back == nil || weak(back) != ""):
		s.bound, s.why = selfOf(sig), weakly("signs for its primary key by a signature that ", back)
	default:
		s.bound, s.why = selfOf(sig), ""
		if sig.FlagSign {
			if end := ends(back); !end.IsZero() && (s.bound.ends.IsZero() || end.Before(s.bound.ends)) {
				s.bound.ends = end
			}
		}
	}
}

// verifiesAlone says whether a binding holds but for the subkey's own signature.
func verifiesAlone(primary, sub *packet.PublicKey, sig *packet.Signature) bool {
	one := *sig
	one.FlagSign = false
	return primary.VerifyKeySignature(sub, &one) == nil
}

func weakly(what string, sig *packet.Signature) string {
	if sig == nil {
		return what + "is missing; make a new one (gpg --quick-add-key)"
	}
	return what + weak(sig) + "; renew it (gpg --cert-digest-algo SHA512 --quick-set-expire), and have the keyring renewed"
}

// emailOf is the email of a user ID that is "Name (comment) <email>", or an
// email; why says what is wrong with another.
func emailOf(id string) (email, why string) {
	email = id
	if name, rest, ok := strings.Cut(id, "<"); ok {
		mail, tail, closed := strings.Cut(rest, ">")
		if !closed || tail != "" || name != "" && !strings.HasSuffix(name, " ") || strings.Contains(name, ">") {
			return "", `is not written "Name <email>"; add one that is (gpg --quick-add-uid)`
		}
		email = mail
	}
	local, domain, ok := strings.Cut(email, "@")
	bad := strings.IndexFunc(email, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`"!#,*?<>()\;:`, r) })
	if !ok || local == "" || domain == "" || strings.Contains(domain, "@") || bad >= 0 || len(email) > 320 {
		return "", "has no email of visible ASCII without wildcards and commas; add one that has (gpg --quick-add-uid)"
	}
	return email, ""
}
