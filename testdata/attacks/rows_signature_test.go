package attacks

import (
	"bytes"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"drydock/reconcile/trust"
)

// patterns is what git thinks of them.
const patterns = "git takes the key of a pattern, and does not ask in whose name it signs"

var bumped = map[string]string{"web": "1.2"}

// bump moves prod's web to 1.2, which everybody may who may bump there.
func bump(options ...Option) func(*Repo, string) string {
	return func(r *Repo, base string) string {
		return r.On(base, Files{"prod/web.hcl": Service("web", "1.2")}, options...)
	}
}

// wrapped is a bump with a signature of a special kind.
func wrapped(e Envelope, change ...func(string) string) func(*Repo, string) string {
	return bump(Signing(func(payload []byte) string {
		s := e.Armoured(payload)
		for _, f := range change {
			s = f(s)
		}
		return s
	}))
}

func rowsOfSignatures() []row {
	bad, not := trust.BadSignature, trust.NotAllowed
	return []row{
		{name: "no signature", rule: ruleRoles, make: bump(Unsigned("alice@acme.example")), fault: trust.Unsigned,
			says: []string{"is not signed; it moves web from 1.1 to 1.2 (prod/web.hcl:5), which takes bump in prod", "drydock vouch "}},
		{name: "a signature stripped", rule: ruleRoles, make: bump(By(Bumper()), After(stripped)), fault: trust.Unsigned, says: []string{"is not signed"}},
		{name: "a stranger's key in a known name", rule: ruleRoles, make: bump(By(Mallory())), fault: bad, says: []string{"on no line of"}},
		{name: "a known key named in a stranger's signature", rule: ruleRoles, fault: bad, says: []string{"does not fit"},
			make: wrapped(Envelope{Key: Mallory(), Namespace: "git", Named: Alice().signer.PublicKey().Marshal()})},
		{name: "in the namespace of approvals", item: itemNamespace, rule: ruleNamespace, fault: bad, says: []string{`namespace "drydock"`, `"git" is needed`},
			make: wrapped(Envelope{Key: Alice(), Namespace: "drydock"})},
		{name: "in the namespace of files", item: itemNamespace, rule: ruleNamespace, fault: bad, says: []string{`namespace "file"`},
			make: wrapped(Envelope{Key: Alice(), Namespace: "file"})},
		{name: "in a namespace that begins with git", item: itemNamespace, rule: ruleNamespace, fault: bad, says: []string{`may not sign in the namespace "git", only in git@acme.example`},
			make: wrapped(Envelope{Key: named("elsewhere@acme.example"), Namespace: "git@acme.example"})},
		{name: "by a key that may sign approvals only", item: itemNamespace, rule: ruleFormat, fault: bad, says: []string{`may not sign in the namespace "git"`},
			make: bump(By(named("papers@acme.example")))},
		{name: "by a key that may sign commits only", item: itemNamespace, rule: ruleFormat, make: bump(By(named("commits@acme.example"))), runs: bumped},
		{name: "in no namespace", item: itemNamespace, rule: ruleNamespace, fault: bad, says: []string{"namespace"}, make: wrapped(Envelope{Key: Alice()})},
		{name: "of the commit before", rule: ruleRoles, fault: bad, says: []string{"does not fit"},
			make: bump(Signing(func([]byte) string { return Alice().Commit([]byte("tree\n")) }))},
		{name: "of the accepted commit, used again", rule: ruleRoles, fault: bad, says: []string{"does not fit"}, make: func(r *Repo, base string) string {
			read, err := trust.ParseCommit(r.Raw(base))
			if err != nil {
				r.T.Fatal(err)
			}
			return bump(Signing(func([]byte) string { return string(read.Signature) }))(r, base)
		}},
		{name: "with the message changed behind it", rule: ruleRoles, fault: bad, says: []string{"does not fit"}, make: bump(By(Bumper()), After(Instead("A change", "A Change")))},
		{name: "with the tree changed behind it", rule: ruleRoles, fault: bad, says: []string{"does not fit"}, make: func(r *Repo, base string) string {
			heartbeat := r.Tree(r.FilesOf(base))
			other := r.Tree(Files{"prod/web.hcl": Service("web", "6.6")})
			return r.On(base, Files{"prod/web.hcl": Service("web", "6.6")}, By(Operator()), OfTree(heartbeat), After(Instead(heartbeat, other)))
		}},
		{name: "with the parent changed behind it", rule: ruleForward, fault: bad, says: []string{"does not fit"}, make: func(r *Repo, base string) string {
			side := r.On(r.parents[base][0], nil, By(Operator()))
			c := r.On(side, Files{"prod/web.hcl": Service("web", "1.2")}, By(Bumper()))
			return r.Object("commit", bytes.Replace(r.Raw(c), []byte(side), []byte(base), 1))
		}},
		{name: "with bytes behind its end", rule: ruleRaw, fault: bad, says: []string{"too long"}, make: wrapped(Envelope{Key: Alice(), Namespace: "git", Tail: []byte{0}})},
		{name: "cut short", rule: ruleRaw, fault: bad, says: []string{"armour"}, make: bump(Signing(func(p []byte) string {
			return Armour("SSH SIGNATURE", Envelope{Key: Alice(), Namespace: "git"}.Raw(p)[:120])
		}))},
		{name: "empty", rule: ruleRaw, fault: bad, says: []string{"signature"}, make: bump(Signing(func([]byte) string { return Armour("SSH SIGNATURE", nil) }))},
		{name: "in CR line ends", rule: ruleRaw, fault: bad, says: []string{"does not count"},
			make: wrapped(Envelope{Key: Alice(), Namespace: "git"}, func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") })},
		{name: "in lines of unequal length", rule: ruleRaw, fault: bad, says: []string{"unequal length"}, git: "ssh-keygen takes base64 however it is broken",
			make: wrapped(Envelope{Key: Alice(), Namespace: "git"}, func(s string) string { return strings.Replace(s, "U1NIU0lH", "U1NI\nU0lH", 1) })},
		{name: "with text in front", rule: ruleRaw, fault: trust.Malformed, says: []string{"no signature of a kind"},
			make: wrapped(Envelope{Key: Alice(), Namespace: "git"}, func(s string) string { return "Good signature from alice\n" + s })},
		{name: "in OpenPGP's armour", rule: ruleRaw, fault: bad, make: bump(Signing(func(p []byte) string {
			return Armour("PGP SIGNATURE", Envelope{Key: Alice(), Namespace: "git"}.Raw(p))
		}))},
		{name: "in X.509's armour", rule: ruleRaw, fault: bad, make: bump(Signing(func(p []byte) string {
			return Armour("SIGNED MESSAGE", Envelope{Key: Alice(), Namespace: "git"}.Raw(p))
		}))},
		{name: "in an armour of its own kind", rule: ruleRaw, fault: trust.Malformed, says: []string{"no signature of a kind"}, make: bump(Signing(func(p []byte) string {
			return Armour("TRUSTED SIGNATURE", Envelope{Key: Alice(), Namespace: "git"}.Raw(p))
		}))},
		{name: "of two, one behind the other in one header", item: itemTwoSigs, rule: ruleRaw, fault: trust.Malformed, says: []string{"two signatures in one header"},
			make: bump(Signing(func(p []byte) string { return Bumper().Commit(p) + Alice().Commit(p) })), git: "git reads the first of several"},
		{name: "of two, in two headers", item: itemTwoSigs, rule: ruleRaw, fault: trust.Malformed, says: []string{"gpgsig stands twice"},
			make: bump(By(Bumper()), After(func(s string) string { return WithHeader(s, "gpgsig", Alice().Commit([]byte(s))) })), git: "git takes both headers out of what it checks, and reads them as one"},
		{name: "for the object's hash under SHA-256", item: itemTwoSigs, rule: ruleRaw, fault: trust.Malformed, says: []string{"signed for another hash"},
			make: bump(By(Bumper()), After(func(s string) string { return WithHeader(s, "gpgsig-sha256", Alice().Commit([]byte(s))) })), git: "git leaves the header out of what it checks"},
		{name: "of one, by a key of the host's", item: itemTwoSigs, rule: ruleRoles, make: bump(By(Bumper())), runs: bumped},
		{name: "by ECDSA", rule: ruleFormat, make: bump(By(Bob())), runs: bumped},
		{name: "by RSA with SHA-512", rule: ruleFormat, make: bump(By(Carol())), runs: bumped},
		{name: "by RSA with SHA-256", rule: ruleFormat, make: wrapped(Envelope{Key: Carol(), Namespace: "git", Algorithm: ssh.KeyAlgoRSASHA256}), runs: bumped},
		{name: "by RSA with SHA-1", rule: ruleFormat, fault: bad, says: []string{`of type "ssh-rsa"`}, make: wrapped(Envelope{Key: Carol(), Namespace: "git", Algorithm: ssh.KeyAlgoRSA})},
		{name: "over a SHA-256 of the commit", rule: ruleFormat, make: wrapped(Envelope{Key: Alice(), Namespace: "git", Hash: "sha256"}), runs: bumped},
		{name: "over a hash that nobody knows", rule: ruleFormat, fault: bad, says: []string{"only sha256 and sha512"}, make: wrapped(Envelope{Key: Alice(), Namespace: "git", Hash: "sha1"})},
		{name: "of a later version", rule: ruleFormat, fault: bad, says: []string{"version 2"}, make: wrapped(Envelope{Key: Alice(), Namespace: "git", Version: 2})},
		{name: "with something in the reserved field", rule: ruleFormat, fault: bad, says: []string{"reserved field"}, make: wrapped(Envelope{Key: Alice(), Namespace: "git", Reserved: "any"})},
		{name: "by a certificate", rule: "cert-authority refused with a clear word if not supported", fault: bad, says: []string{"certificates are not supported"},
			make: wrapped(Envelope{Key: Alice(), Namespace: "git", Named: certificate()})},
		{name: "by a key that has expired", item: itemExpired, rule: ruleSeen, fault: bad, says: []string{"was valid until 2026-11-01"}, make: bump(By(named("old@acme.example")))},
		{name: "by a key that has expired, dated before", item: itemExpired, rule: ruleSeen, fault: bad, says: []string{"was valid until"},
			make: bump(By(named("old@acme.example")), Dated(time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC))), git: "git believes the date that the commit itself claims; a host believes its clock"},
		{name: "by a key that is not valid yet", item: itemExpired, rule: ruleSeen, fault: bad, says: []string{"valid only after"}, make: bump(By(named("new@acme.example")))},
		{name: "by a key that is valid now", item: itemExpired, rule: ruleSeen, make: bump(By(named("lately@acme.example")), Dated(Noon())), runs: bumped},
		{name: "by a key that became valid after the commit's date", item: itemExpired, rule: ruleSeen, make: bump(By(named("lately@acme.example"))), runs: bumped,
			git: "git believes the date that the commit itself claims; a host believes its clock"},
		{name: "by a revoked key", item: itemExpired, rule: ruleFormat, fault: bad, says: []string{"is revoked ("}, make: bump(By(named("revoked@acme.example")))},
		{name: "by somebody's second key", item: itemTwoKeys, rule: ruleFormat, make: bump(By(named("alice's other key"))), runs: bumped},

		{name: "by a prefix of a principal", item: itemPrincipal, rule: ruleNobody, fault: not, says: []string{"ci@acme.exampl is in no role"}, make: bump(By(named("ci@acme.exampl")))},
		{name: "by a principal with more behind", item: itemPrincipal, rule: ruleNobody, fault: not, says: []string{"in no role"}, make: bump(By(named("ci@acme.example.evil.example")))},
		{name: "by a principal with more in front", item: itemPrincipal, rule: ruleNobody, fault: not, says: []string{"in no role"}, make: bump(By(named("xci@acme.example")))},
		{name: "by a principal in other letters", item: itemPrincipal, rule: ruleNobody, fault: not, says: []string{"CI@acme.example is in no role"}, make: bump(By(named("CI@acme.example")))},
		{name: "by a key of a whole domain, in the name of a person of it", item: itemPrincipal, rule: ruleLiteral, fault: bad, says: []string{"the name of somebody else's key"},
			make: bump(By(named("a whole domain")), From("alice@acme.example")), git: patterns},
		{name: "by a key of a whole domain, in the name of one who has left", item: itemPrincipal, rule: ruleLiteral, fault: bad, says: []string{"gone@acme.example"},
			make: bump(By(named("a whole domain")), From("gone@acme.example")), git: patterns},
		{name: "by a key of a whole domain, in another one's name", item: itemPrincipal, rule: ruleLiteral, fault: bad, says: []string{"fits none"},
			make: bump(By(named("a whole domain")), From("build-1@bots.acme.example")), git: patterns},
		{name: "by a key of all robots, in the name of one", item: itemPrincipal, rule: ruleLiteral, make: bump(By(named("all robots")), From("build-1@bots.acme.example")), runs: bumped},
		{name: "by one whom a pattern leaves out", item: itemPrincipal, rule: ruleLiteral, fault: not, says: []string{"root@bots.acme.example is in no role"}, make: bump(By(named("root@bots.acme.example")))},
		{name: "by one whom a pattern fits", item: itemPrincipal, rule: ruleLiteral, make: bump(By(named("deploy-7@bots.acme.example"))), runs: bumped},
		{name: "by one named literally, whom a pattern gives more", item: itemPrincipal, rule: ruleLiteral, fault: not, says: []string{"literal: freeze"}, make: bump(By(named("literal@bots.acme.example")))},
		{name: "by one named literally, in what that role may", item: itemPrincipal, rule: ruleLiteral,
			make: func(r *Repo, base string) string {
				return r.On(base, Files{"prod/freeze.hcl": Freeze("past")}, By(named("literal@bots.acme.example")))
			}},
		{name: "by a key of two names, neither of which may", item: itemPrincipal, rule: ruleLiteral, fault: not, says: []string{"takes bump in prod"}, make: bump(By(named("two names")))},
		{name: "by a look-alike of a principal", item: itemLooks, rule: ruleNobody, fault: not, says: []string{"c1@acme.example is in no role"}, make: bump(By(named("c1@acme.example")))},
		{name: "by a stranger who writes his name in other letters", item: itemLooks, rule: ruleRoles, fault: bad, says: []string{"by аlice <аlice@acme.example>"},
			make: bump(By(Mallory()), From("аlice@acme.example"))},
		{name: "by somebody with letters of her own language", item: itemLooks, rule: ruleRoles, make: bump(By(Bumper()), From("Zoë@acme.example")), runs: bumped},
		{name: "with somebody else's address in the commit", rule: ruleRoles, fault: not, says: []string{"ci@acme.example signed it, who may do less"}, make: bump(By(CI()), From("alice@acme.example"))},
		{name: "with any address in the commit", rule: ruleRoles, make: bump(By(Bumper()), From("somebody@elsewhere.example")), runs: bumped},
		{name: "by one who is listed and in no role", rule: ruleNobody, fault: not, says: []string{"guest@acme.example is in no role"}, make: bump(By(Guest()))},
		{name: "empty, by one who is listed and in no role", rule: ruleNobody, fault: not, says: []string{"guest@acme.example is in no role"},
			make: func(r *Repo, base string) string { return r.On(base, nil, By(Guest())) }},
	}
}

// stripped is a commit without its signature.
func stripped(s string) string {
	head, rest, _ := strings.Cut(s, "\ngpgsig ")
	_, message, _ := strings.Cut(rest, "\n\n")
	return head + "\n\n" + message
}

// certificate is Alice's key, certified by herself.
func certificate() []byte {
	c := &ssh.Certificate{Key: Alice().signer.PublicKey(), CertType: ssh.UserCert, ValidPrincipals: []string{"alice@acme.example"}, ValidBefore: ssh.CertTimeInfinity}
	if err := c.SignCert(bytes.NewReader(make([]byte, 64)), Alice().signer); err != nil {
		panic(err)
	}
	return c.Marshal()
}
