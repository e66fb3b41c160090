// Package keyring reads who may sign from a host's own files, and says whose a
// signature is: OpenSSH's allowed_signers, and OpenPGP keyrings.
package keyring

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"drydock/hostagent/openpgp"
	"drydock/hostagent/sshsig"
	"drydock/reconcile/trust"
)

// Files are where the keys stand; each absolute, and "" where there is none.
type Files struct {
	Signers string // OpenSSH's allowed_signers
	Revoked string // keys that count no longer
	OpenPGP string // public keys, armoured or not

	// Names are those that the host's roles have (trust.Policy's Names): the
	// holder of a pattern cannot claim one, though its own line is gone.
	Names []string
}

// Keys are the keys of one host. It implements trust.Keys, and hostagent.Keys;
// it does not change, and may be used by many at once.
type Keys struct {
	ssh   *sshsig.Signers  // nil: no file of them
	file  string           // its path
	named map[string]int   // the names that lines of it have, each with the first line
	roles []string         // the names that roles have
	pgp   *openpgp.Keyring // nil: none
}

// Open reads the files once; it is called again when one of them changes. Each
// must be a regular file that only root and the agent's user may change or
// exchange. One that is not understood as a whole counts for nothing: a typing
// error must not widen or narrow who is trusted.
func Open(files Files) (*Keys, error) {
	if files.Signers == "" && files.OpenPGP == "" {
		return nil, errors.New("no file says whose signatures count; write signers in the trust block of hostagent.hcl, with the path of an allowed_signers file")
	}
	k := &Keys{roles: slices.Clone(files.Names)}
	if files.Signers != "" {
		data, err := read(files.Signers, sshsig.MaxFile)
		if err != nil {
			return nil, fmt.Errorf("the file of signers: %w", err)
		}
		if k.ssh, err = sshsig.ParseAllowedSigners(data, files.Signers); err != nil {
			return nil, fmt.Errorf("the file of signers: %w", err)
		}
		k.file, k.named = files.Signers, names(k.ssh)
	}
	if files.Revoked != "" {
		data, err := read(files.Revoked, sshsig.MaxFile)
		if err != nil {
			return nil, fmt.Errorf("the file of revoked keys: %w", err)
		}
		revoked, err := sshsig.ParseRevoked(data, files.Revoked)
		if err != nil {
			return nil, fmt.Errorf("the file of revoked keys: %w", err)
		}
		if k.ssh != nil {
			k.ssh = k.ssh.Without(revoked)
		}
	}
	if files.OpenPGP != "" {
		data, err := read(files.OpenPGP, openpgp.MaxKeyring)
		if err != nil {
			return nil, fmt.Errorf("the keyring: %w", err)
		}
		if k.pgp, err = openpgp.ParseKeyring(data, files.OpenPGP); err != nil {
			return nil, fmt.Errorf("the keyring: %w", err)
		}
	}
	return k, nil
}

// names are those that the lines name literally, whether their keys count or not.
func names(s *sshsig.Signers) map[string]int {
	out := map[string]int{}
	for _, e := range s.Entries() {
		for _, p := range e.Principals {
			if _, ok := out[p.Text]; p.Literal() && !p.Negated && !ok {
				out[p.Text] = e.Line
			}
		}
	}
	return out
}

// Signers is trust.Keys: whose signature a commit has. payload is the commit's
// object without its gpgsig.
//
// They are the names of the key's lines. A pattern is nobody; the holder of a
// key that stands only behind patterns claims a name, as with ssh-keygen -Y
// verify -I: the committer's email. That counts if a pattern fits, and neither a
// line of the file nor a role has the name: who is named has a key of their own,
// and the holder of a pattern must not be able to choose to be them.
//
// Of an OpenPGP key they are the emails of its user IDs: who put the key into
// the keyring vouched for them.
func (k *Keys) Signers(payload, signature []byte, at time.Time) ([]string, error) {
	begins := func(kind string) bool { return bytes.HasPrefix(signature, []byte("-----BEGIN "+kind)) }
	switch {
	case begins("SSH SIGNATURE"):
		return k.byOpenSSH(payload, signature, at)
	case begins("PGP "):
		if k.pgp == nil {
			return nil, errors.New("it is an OpenPGP signature, and this host has no keyring for them; sign with an SSH key, or write keyring in the trust block of hostagent.hcl")
		}
		names, _, err := k.pgp.Identify(payload, signature, at)
		return names, err
	case begins("SIGNED MESSAGE"):
		return nil, errors.New("it is an X.509 signature, which is not supported; sign with an SSH key (git config gpg.format ssh)")
	}
	return nil, errors.New("it is no signature of a kind that is known; sign with an SSH key (git config gpg.format ssh)")
}

func (k *Keys) byOpenSSH(payload, signature []byte, at time.Time) ([]string, error) {
	who, _, err := k.identify("git", payload, signature, at)
	if err != nil {
		return nil, err
	}
	if named := literal(who); named != nil {
		return named, nil
	}
	c, err := trust.ParseCommit(payload)
	if err != nil {
		return nil, fmt.Errorf("%w, and what it signed names no committer: %w", k.onlyPatterns(who), err)
	}
	claimed := c.Committer.Email
	if line, ok := k.named[claimed]; ok {
		return nil, fmt.Errorf("%w, and its committer's, %s, is the name of somebody else's key (%s:%d); sign with that key, or commit under another name", k.onlyPatterns(who), claimed, k.file, line)
	}
	if slices.Contains(k.roles, claimed) {
		return nil, fmt.Errorf("%w, and its committer's, %s, is named by a role of this host and has no key in %s; give that name a line of its own, or commit under another name", k.onlyPatterns(who), claimed, k.file)
	}
	for _, p := range who {
		if p.Allows(claimed) {
			return []string{claimed}, nil
		}
	}
	return nil, fmt.Errorf("%w, and its committer's, %.64q, fits none; commit under a name that fits, or give the key a line with a name", k.onlyPatterns(who), claimed)
}

// Approvers is hostagent.Keys. They are names that the key's lines have: nobody
// is counted by a pattern, with which one key could be many people.
func (k *Keys) Approvers(f trust.ApprovalFile, at time.Time) (principals []string, key string, err error) {
	if bytes.HasPrefix(f.Signature, []byte("-----BEGIN PGP ")) {
		return nil, "", errors.New("it is an OpenPGP signature, and approvals are signed with SSH keys only; sign with drydock approve or drydock attest")
	}
	who, key, err := k.identify(trust.Namespace, f.Signed, f.Signature, at)
	if err != nil {
		return nil, key, err
	}
	if principals = literal(who); principals == nil {
		return nil, key, fmt.Errorf("%w, and a pattern approves nothing; give the key a line with a name", k.onlyPatterns(who))
	}
	return principals, key, nil
}

// identify is whose an OpenSSH signature is, and its key's fingerprint, which is
// known also of one that counts for nobody.
func (k *Keys) identify(namespace string, message, signature []byte, at time.Time) ([]sshsig.Principal, string, error) {
	if k.ssh == nil {
		return nil, "", errors.New("it is an SSH signature, and this host has no file of signers; write signers in the trust block of hostagent.hcl, with the path of an allowed_signers file")
	}
	sig, err := sshsig.Parse(signature)
	if err != nil {
		return nil, "", err
	}
	who, err := k.ssh.Identify(namespace, message, sig, at)
	return who, sig.Key().Fingerprint(), err
}

// Knows reports whether some key of the files may sign in a principal's name at
// a time: in git's namespace, or in that of statements. A pattern that fits is
// not enough, since nobody signs by one in a name that a role has.
func (k *Keys) Knows(principal, namespace string, at time.Time) bool {
	if k.pgp != nil && namespace == "git" && slices.Contains(k.pgp.Names(at), principal) {
		return true
	}
	if k.ssh == nil {
		return false
	}
	for _, e := range k.ssh.Entries() {
		who, err := k.ssh.Match(e.Key, namespace, at)
		if err == nil && slices.Contains(literal(who), principal) {
			return true
		}
	}
	return false
}

// literal are the names among principals.
func literal(who []sshsig.Principal) (names []string) {
	for _, p := range who {
		if !p.Pattern {
			names = append(names, p.Name)
		}
	}
	return names
}

// onlyPatterns says that none of who is a name.
func (k *Keys) onlyPatterns(who []sshsig.Principal) error {
	var out []string
	for _, p := range who {
		out = append(out, fmt.Sprintf("%s (%s:%d)", p.Name, k.file, p.Line))
	}
	const most = 3
	if len(out) > most {
		out = append(out[:most], "others")
	}
	return fmt.Errorf("its key stands only behind patterns, which name nobody: %s", strings.Join(out, ", "))
}
