package sshsig_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"math/big"
	"slices"
	"strings"
	"testing"

	"drydock/hostagent/sshsig"
	"drydock/testdata/rig"

	"golang.org/x/crypto/ssh"
)

func replace(text []byte, old, new string) []byte {
	out := bytes.Replace(text, []byte(old), []byte(new), 1)
	if bytes.Equal(out, text) {
		panic("nothing to replace: " + old)
	}
	return out
}

// TestArmor: one way to write a signature, and every other refused.
func TestArmor(t *testing.T) {
	k := newEd25519()
	h := by(k, "drydock", message)
	raw, good := ssh.Marshal(h), h.armor()
	line := string(bytes.Split(good, []byte("\n"))[1])
	for name, row := range map[string]struct {
		text []byte
		want sshsig.Reason
	}{
		"as ssh-keygen":         {good, ""},
		"no newline at its end": {bytes.TrimSuffix(good, []byte("\n")), ""},
		"64 columns, as PEM":    {wrap(raw, 64), ""},
		"76 columns":            {wrap(raw, 76), ""},
		"one line":              {wrap(raw, 1<<20), ""},

		"empty":                      {nil, sshsig.Malformed},
		"two newlines at its end":    {append(bytes.Clone(good), '\n'), sshsig.Malformed},
		"two signatures":             {append(bytes.Clone(good), good...), sshsig.Malformed},
		"two in one armour":          {replace(good, "-----END SSH SIGNATURE-----\n", string(good)), sshsig.Malformed},
		"text before":                {append([]byte("hello\n"), good...), sshsig.Malformed},
		"a blank line before":        {append([]byte("\n"), good...), sshsig.Malformed},
		"a space before":             {append([]byte(" "), good...), sshsig.Malformed},
		"text after":                 {append(bytes.Clone(good), "hello"...), sshsig.Malformed},
		"a space after":              {append(bytes.Clone(good), ' '), sshsig.Malformed},
		"CRLF":                       {bytes.ReplaceAll(good, []byte("\n"), []byte("\r\n")), sshsig.Malformed},
		"one CR":                     {replace(good, line, line+"\r"), sshsig.Malformed},
		"BOM":                        {append([]byte("\ufeff"), good...), sshsig.Malformed},
		"NUL":                        {replace(good, line, line+"\x00"), sshsig.Malformed},
		"a header inside":            {replace(good, line, "Comment: x\n"+line), sshsig.Malformed},
		"a blank line inside":        {replace(good, line, "\n"+line), sshsig.Malformed},
		"a space inside":             {replace(good, line, line[:5]+" "+line[5:]), sshsig.Malformed},
		"a tab at a line's end":      {replace(good, line, line+"\t"), sshsig.Malformed},
		"unequal lines":              {replace(good, line, line[:5]+"\n"+line[5:]), sshsig.Malformed},
		"a blank line at the end":    {replace(good, "\n-----END", "\n\n-----END"), sshsig.Malformed},
		"no header":                  {good[30:], sshsig.Malformed},
		"no footer":                  {good[:len(good)-30], sshsig.Malformed},
		"lower case header":          {replace(good, "BEGIN SSH", "BEGIN ssh"), sshsig.Malformed},
		"of PGP":                     {replace(good, "BEGIN SSH", "BEGIN PGP"), sshsig.Malformed},
		"only a frame":               {[]byte("-----BEGIN SSH SIGNATURE-----\n-----END SSH SIGNATURE-----\n"), sshsig.Malformed},
		"an empty line in a frame":   {[]byte("-----BEGIN SSH SIGNATURE-----\n\n-----END SSH SIGNATURE-----\n"), sshsig.Malformed},
		"base64 of URLs":             {replace(good, line, strings.NewReplacer("+", "-", "/", "_", "A", "-").Replace(line)), sshsig.Malformed},
		"too large":                  {wrap(make([]byte, 13<<10), 70), sshsig.Malformed},
		"as large as can be, of 0":   {wrap(make([]byte, 12<<10-512), 70), sshsig.Malformed},
		"not a signature":            {wrap([]byte("hello"), 70), sshsig.Malformed},
		"trailing bytes":             {h.armor(0), sshsig.Malformed},
		"truncated":                  {wrap(raw[:len(raw)-1], 70), sshsig.Malformed},
		"truncated in the namespace": {wrap(raw[:70], 70), sshsig.Malformed},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := sshsig.Parse(row.text)
			wantReason(t, err, row.want)
			if row.want != "" {
				return
			}
			if _, err := run(message, nil, rig.SSHKeygen(t), "-Y", "check-novalidate", "-n", "drydock", "-s", write(t, row.text)); err != nil {
				t.Errorf("ssh-keygen refuses what we accept: %v", err)
			}
		})
	}
}

// TestPadding: base64 that is padded wrongly, or whose unused bits are set.
func TestPadding(t *testing.T) {
	h := by(newEd25519(), "n", message)
	for len(ssh.Marshal(h))%3 != 1 { // ends with ==
		h.Namespace += "n"
	}
	encoded := base64.StdEncoding.EncodeToString(ssh.Marshal(h))
	bare := strings.TrimRight(encoded, "=")
	last := bare[len(bare)-1]
	for name, body := range map[string]string{
		"none": bare, "one": bare + "=", "three": bare + "===", "unused bits": bare[:len(bare)-1] + string(last+1) + "==", "inside": "====" + encoded,
	} {
		_, err := sshsig.Parse([]byte("-----BEGIN SSH SIGNATURE-----\n" + body + "\n-----END SSH SIGNATURE-----\n"))
		if sshsig.ReasonOf(err) != sshsig.Malformed {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := sshsig.Parse([]byte("-----BEGIN SSH SIGNATURE-----\n" + encoded + "\n-----END SSH SIGNATURE-----\n")); err != nil {
		t.Error(err)
	}
}

func certificate(k key) []byte {
	ca := must(ssh.NewSignerFromSigner(must2(ed25519.GenerateKey(rand.Reader))))
	c := &ssh.Certificate{Key: must(ssh.ParsePublicKey(k.public)), CertType: ssh.UserCert, ValidPrincipals: []string{"alice@acme.example"}, ValidBefore: ssh.CertTimeInfinity}
	if err := c.SignCert(rand.Reader, ca); err != nil {
		panic(err)
	}
	return c.Marshal()
}

// remade is a signature whose proper part is changed after it was made.
func remade(k key, change func(*ssh.Signature)) *hand {
	old := k.sign
	k.sign = func(data []byte) ssh.Signature {
		s := old(data)
		change(&s)
		return s
	}
	return by(k, "drydock", message)
}

// TestEnvelope: what the armour holds, field by field.
func TestEnvelope(t *testing.T) {
	ed, ec, rsaKey, sk := newEd25519(), newECDSA(elliptic.P256()), newRSA(2048, ""), newSecurityKey(false, touched)
	with := func(change func(*hand)) *hand { return by(ed, "drydock", message, change) }
	key := func(blob []byte) *hand {
		return with(func(h *hand) { h.Key = blob })
	}
	for name, row := range map[string]struct {
		h    *hand
		want sshsig.Reason
	}{
		"good":        {with(func(*hand) {}), ""},
		"sha256":      {with(func(h *hand) { h.Hash = "sha256" }), ""},
		"namespace @": {with(func(h *hand) { h.Namespace = "file@acme.example" }), ""},
		"RSA 2048":    {by(rsaKey, "drydock", message), ""},

		"other magic":         {with(func(h *hand) { h.Magic[5] = 'X' }), sshsig.Malformed},
		"version 0":           {with(func(h *hand) { h.Version = 0 }), sshsig.Unsupported},
		"version 2":           {with(func(h *hand) { h.Version = 2 }), sshsig.Unsupported},
		"no namespace":        {with(func(h *hand) { h.Namespace = "" }), sshsig.Malformed},
		"namespace, NUL":      {with(func(h *hand) { h.Namespace = "drydock\x00" }), sshsig.Malformed},
		"namespace, newline":  {with(func(h *hand) { h.Namespace = "drydock\n" }), sshsig.Malformed},
		"namespace, Cyrillic": {with(func(h *hand) { h.Namespace = "dryd\u043eck" }), sshsig.Malformed},
		"namespace, long":     {with(func(h *hand) { h.Namespace = strings.Repeat("n", 256) }), sshsig.Malformed},
		"reserved":            {with(func(h *hand) { h.Reserved = "x" }), sshsig.Unsupported},
		"no hash":             {with(func(h *hand) { h.Hash = "" }), sshsig.Unsupported},
		"sha1":                {with(func(h *hand) { h.Hash = "sha1" }), sshsig.Unsupported},
		"SHA512":              {with(func(h *hand) { h.Hash = "SHA512" }), sshsig.Unsupported},
		"no key":              {key(nil), sshsig.Malformed},
		"key, trailing":       {key(append(bytes.Clone(ed.public), 0)), sshsig.Malformed},
		"key, cut":            {key(ed.public[:40]), sshsig.Malformed},
		"key, unknown":        {key(ssh.Marshal(struct{ T, K string }{"ssh-ed448", "x"})), sshsig.Unsupported},
		"key, DSA":            {key(ssh.Marshal(struct{ T, K string }{"ssh-dss", "x"})), sshsig.Unsupported},
		"key, type too long":  {key(ssh.Marshal(struct{ T string }{strings.Repeat("t", 65)})), sshsig.Malformed},
		"key, small order":    {key(small(1)), sshsig.Unsupported},
		"certificate":         {key(certificate(ed)), sshsig.Unsupported},
		"RSA 1024":            {by(newRSA(1024, ""), "drydock", message), sshsig.Unsupported},
		"RSA 2047": {key(ssh.Marshal(struct {
			T    string
			E, N *big.Int
		}{"ssh-rsa", big.NewInt(65537), new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 2047), big.NewInt(1))})), sshsig.Unsupported},
		"RSA, negative": {key(ssh.Marshal(struct {
			T    string
			E, N *big.Int
		}{"ssh-rsa", big.NewInt(65537), new(big.Int).Neg(new(big.Int).Lsh(big.NewInt(1), 2047))})), sshsig.Unsupported},
		"RSA, padded modulus": {key(ssh.Marshal(struct {
			T string
			E *big.Int
			N []byte
		}{"ssh-rsa", big.NewInt(65537), append([]byte{0, 0}, bytes.Repeat([]byte{0xff}, 256)...)})), sshsig.Malformed},
		"RSA with SHA-1":      {by(newRSA(2048, ssh.KeyAlgoRSA), "drydock", message), sshsig.Unsupported},
		"signature, empty":    {&hand{[6]byte([]byte("SSHSIG")), 1, ed.public, "drydock", "", "sha512", nil}, sshsig.Malformed},
		"signature, other":    {remade(ed, func(s *ssh.Signature) { s.Format = ssh.KeyAlgoECDSA256 }), sshsig.Malformed},
		"signature, short":    {remade(ed, func(s *ssh.Signature) { s.Blob = s.Blob[:63] }), sshsig.Malformed},
		"signature, trailing": {remade(ed, func(s *ssh.Signature) { s.Rest = []byte{0} }), sshsig.Malformed},
		"RSA, leading zero":   {remade(rsaKey, func(s *ssh.Signature) { s.Blob = append([]byte{0}, s.Blob...) }), sshsig.Malformed},
		"RSA, short":          {remade(rsaKey, func(s *ssh.Signature) { s.Blob = s.Blob[1:] }), sshsig.Malformed},
		"RSA, trailing":       {remade(rsaKey, func(s *ssh.Signature) { s.Rest = []byte{0} }), sshsig.Malformed},
		"ECDSA, padded": {remade(ec, func(s *ssh.Signature) {
			var rs struct{ R, S *big.Int }
			if err := ssh.Unmarshal(s.Blob, &rs); err != nil {
				panic(err)
			}
			s.Blob = ssh.Marshal(struct{ R, S []byte }{append([]byte{0, 0}, rs.R.Bytes()...), append([]byte{0}, rs.S.Bytes()...)})
		}), sshsig.Malformed},
		"ECDSA, zeros":     {remade(ec, func(s *ssh.Signature) { s.Blob = make([]byte, 8) }), sshsig.Malformed},
		"ECDSA, DER":       {remade(ec, func(s *ssh.Signature) { s.Blob = []byte{0x30, 6, 2, 1, 1, 2, 1, 1} }), sshsig.Malformed},
		"sk, no flags":     {remade(sk, func(s *ssh.Signature) { s.Rest = nil }), sshsig.Malformed},
		"sk, more flags":   {remade(sk, func(s *ssh.Signature) { s.Rest = append(s.Rest, 0) }), sshsig.Malformed},
		"sk, of WebAuthn":  {remade(sk, func(s *ssh.Signature) { s.Format = "webauthn-sk-ecdsa-sha2-nistp256@openssh.com" }), sshsig.Malformed},
		"sk as plain":      {remade(sk, func(s *ssh.Signature) { s.Format, s.Rest = ssh.KeyAlgoED25519, nil }), sshsig.Malformed},
		"plain as sk":      {remade(ed, func(s *ssh.Signature) { s.Format, s.Rest = ssh.KeyAlgoSKED25519, []byte{1, 0, 0, 0, 0} }), sshsig.Malformed},
		"of a certificate": {remade(ed, func(s *ssh.Signature) { s.Format = ssh.CertAlgoED25519v01 }), sshsig.Malformed},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := sshsig.Parse(row.h.armor())
			wantReason(t, err, row.want)
			if err == nil {
				if err := s.Verify(message, row.h.Namespace); err != nil {
					t.Error(err)
				}
				if !bytes.Equal(s.Armor(), row.h.armor()) {
					t.Error("printed otherwise than it was read")
				}
			}
		})
	}
}

// small is an Ed25519 key with a low y.
func small(y byte) []byte {
	point := make([]byte, 32)
	point[0] = y
	return ssh.Marshal(struct {
		T string
		K []byte
	}{"ssh-ed25519", point})
}

// TestKeysThatFitSignaturesNobodyMade: a key of small order would let anybody
// sign, and Go's Ed25519 takes it.
func TestKeysThatFitSignaturesNobodyMade(t *testing.T) {
	neutral := small(1)[4+11+4:]
	nobodys := make([]byte, 64)
	nobodys[0] = 1
	if !ed25519.Verify(neutral, message, nobodys) {
		t.Error("Go refuses it by now: the guard may go")
	}
	// All there are, from the curve's equation.
	p := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 255), big.NewInt(19))
	d := new(big.Int).Mul(big.NewInt(-121665), new(big.Int).ModInverse(big.NewInt(121666), p))
	ys := []*big.Int{big.NewInt(0), big.NewInt(1), new(big.Int).Sub(p, big.NewInt(1)), p, new(big.Int).Add(p, big.NewInt(1))}
	ys = append(ys, order8(p, d.Mod(d, p))...)
	if len(ys) != 7 {
		t.Fatalf("%d of 7 found", len(ys))
	}
	var all [][]byte
	for _, y := range ys {
		point := y.FillBytes(make([]byte, 32))
		slices.Reverse(point)
		for _, sign := range []byte{0, 0x80} {
			signed := bytes.Clone(point)
			signed[31] |= sign
			all = append(all, append(small(0)[:len(small(0))-32], signed...))
		}
	}
	for _, blob := range all {
		_, err := sshsig.ParseKey("ssh-ed25519 " + base64.StdEncoding.EncodeToString(blob))
		wantReason(t, err, sshsig.Unsupported)
	}
	for range 50 {
		if _, err := sshsig.ParseKey(newEd25519().String()); err != nil {
			t.Error(err)
		}
	}
}

// TestNoByteCanBeChanged: whatever byte of an armored signature is another, it
// does not verify. The frame is the same for all kinds, and some curves take
// Go a hundred times as long as others: of those, some bytes will do.
func TestNoByteCanBeChanged(t *testing.T) {
	steps := map[string]int{"ecdsa-384": 7, "ecdsa-521": 41}
	for name, k := range everyKind() {
		good := by(k, "drydock", message).armor()
		if err := parsed(t, by(k, "drydock", message)).Verify(message, "drydock"); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for i := 0; i < len(good); i += max(1, steps[name]) {
			for _, b := range []byte{good[i] ^ 1, good[i] ^ 0x20, good[i] ^ 0x80, '\n', 'A', '='} {
				if b == good[i] {
					continue
				}
				text := bytes.Clone(good)
				text[i] = b
				s, err := sshsig.Parse(text)
				if err == nil {
					err = s.Verify(message, "drydock")
				}
				if err == nil {
					t.Errorf("%s: byte %d of\n%s may be %q", name, i, good, b)
				}
			}
		}
	}
}

// order8 is the y of the points of order 8, which are those whose double has
// y = 0.
func order8(p, d *big.Int) (ys []*big.Int) {
	mod := func(n *big.Int) *big.Int { return n.Mod(n, p) }
	// Doubling gives y = (y² + x²) / (1 - d x² y²), which is 0 for x² = -y².
	// With -x² + y² = 1 + d x² y² that leaves d y⁴ + 2 y² - 1 = 0.
	root := new(big.Int).ModSqrt(mod(new(big.Int).Add(big.NewInt(1), d)), p)
	inverse := new(big.Int).ModInverse(d, p)
	for _, r := range []*big.Int{root, new(big.Int).Neg(root)} {
		square := mod(new(big.Int).Mul(mod(new(big.Int).Sub(r, big.NewInt(1))), inverse))
		if y := new(big.Int).ModSqrt(square, p); y != nil {
			ys = append(ys, y, new(big.Int).Sub(p, y))
		}
	}
	return ys
}

func TestParseKey(t *testing.T) {
	k := newEd25519()
	typ, encoded, _ := strings.Cut(k.String(), " ")
	want := must(sshsig.ParseKey(k.String()))
	for _, line := range []string{k.String() + "\n", typ + "\t" + encoded + "\tcomment of it\r\n", "  " + typ + "  " + encoded} {
		if got, err := sshsig.ParseKey(line); err != nil || got != want || got.String() != k.String() {
			t.Errorf("%q: %v, %v", line, got, err)
		}
	}
	if got := want.Fingerprint(); got != ssh.FingerprintSHA256(must(ssh.ParsePublicKey(k.public))) {
		t.Error(got)
	}
	if got := (sshsig.Key{}).Fingerprint(); got != "no key" {
		t.Error(got)
	}
	for _, line := range []string{"", typ, typ + " ", typ + " !", encoded, "ssh-rsa " + encoded, "alice " + k.String()} {
		_, err := sshsig.ParseKey(line)
		wantReason(t, err, sshsig.Malformed)
	}
}
