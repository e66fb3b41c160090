package sshsig

import (
	"slices"
	"time"
)

// maxPrincipal is the longest name that anybody can claim, in bytes.
const maxPrincipal = 320

// A Principal is one in whose name a key may sign.
type Principal struct {
	// Name is a name or, if Pattern, a pattern as the file has it. A pattern
	// is nobody: whoever signs has to claim a name, and Allows says whether
	// it may. A key with a pattern can claim every name that fits, so names
	// that one key claimed are not different people.
	Name    string
	Pattern bool
	Line    int // of the file

	list Patterns // of the line; its negated patterns count too
}

// Allows says whether the principal is, or its pattern fits, the claimed name.
func (p Principal) Allows(claimed string) bool {
	return checkClaim(claimed) == nil && glob(p.Name, claimed) && p.list.Match(claimed)
}

// checkClaim holds a claimed name to what a file can list as a name.
func checkClaim(name string) error {
	p := Pattern{Text: name}
	if len(name) > maxPrincipal || checkName(name, "principal") != nil || !p.Literal() {
		return refuse(OtherPrincipal, "%.64q cannot be a principal: it is no name of visible ASCII without wildcards and commas, of at most %d characters; sign in the name that the file of signers has", name, maxPrincipal)
	}
	return nil
}

// Without is these signers less the revoked keys; keys revoked by an earlier
// Without are not kept.
func (s *Signers) Without(r *RevokedKeys) *Signers {
	less := *s
	less.revoked = r
	return &less
}

// Entries are the file's lines in order, revoked ones too.
func (s *Signers) Entries() []Entry { return slices.Clone(s.entries) }

// usable are the lines by which key may sign at a time: in a namespace or, if
// it is empty, in some. The error says what is wrong with the first line that
// is not usable, if none is.
func (s *Signers) usable(key Key, namespace string, at time.Time) ([]*Entry, error) {
	if r := s.revoked; r != nil {
		if line, ok := r.lines[key]; ok {
			return nil, refuse(Revoked, "the key %s is revoked (%s:%d); sign with another key", key.Fingerprint(), r.name, line)
		}
	}
	var open []*Entry
	var first error
	for _, i := range s.of[key] {
		e := &s.entries[i]
		err := s.permits(e, namespace, at)
		if err == nil {
			open = append(open, e)
		} else if first == nil {
			first = err
		}
	}
	if open == nil && first == nil {
		first = refuse(UnknownKey, "the key %s is on no line of %s; sign with a key that is, or have it added", key.Fingerprint(), s.name)
	}
	if open != nil {
		first = nil
	}
	return open, first
}

// permits says whether the line's options let its key sign.
func (s *Signers) permits(e *Entry, namespace string, at time.Time) error {
	print := e.Key.Fingerprint
	switch now := at.Unix(); {
	case e.Namespaces != nil && namespace != "" && !e.Namespaces.Match(namespace):
		return refuse(NotPermitted, "the key %s may not sign in the namespace %q, only in %s (%s:%d); sign with another key, or have the namespace added", print(), namespace, e.Namespaces, s.name, e.Line)
	case !e.After.IsZero() && now < e.After.Unix():
		return refuse(NotYetValid, "the key %s is valid only after %s (%s:%d), and it is %s; wait, or sign with another key", print(), moment(e.After), s.name, e.Line, moment(at))
	case !e.Before.IsZero() && now > e.Before.Unix():
		return refuse(Expired, "the key %s was valid until %s (%s:%d), and it is %s; sign with another key, or have the line renewed", print(), moment(e.Before), s.name, e.Line, moment(at))
	}
	return nil
}

func moment(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// Match is everybody in whose name key may sign in namespace at a time, each
// once, in the order of the file; never empty without an error. Whether there
// is a signature by the key is not its question: see Identify.
func (s *Signers) Match(key Key, namespace string, at time.Time) ([]Principal, error) {
	if namespace == "" {
		return nil, refuse(WrongNamespace, "no namespace is asked for; name one, such as \"git\"")
	}
	open, err := s.usable(key, namespace, at)
	if err != nil {
		return nil, err
	}
	return principals(open)
}

// principals are those of the lines, each once.
func principals(open []*Entry) ([]Principal, error) {
	var all []Principal
	seen := map[string]bool{}
	for _, e := range open {
		for _, p := range e.Principals {
			one := Principal{p.Text, !p.Literal(), e.Line, e.Principals}
			// A pattern is kept for each line: those lines may exclude
			// different names.
			if p.Negated || !one.Pattern && (seen[p.Text] || !e.Principals.Match(p.Text)) {
				continue
			}
			seen[p.Text] = seen[p.Text] || !one.Pattern
			all = append(all, one)
		}
	}
	if all == nil {
		e := open[0]
		return nil, refuse(OtherPrincipal, "the line %d of the key %s excludes everybody it lists; correct it", e.Line, e.Key.Fingerprint())
	}
	return all, nil
}

// FindPrincipals is Match for a signature's own key and namespace, as
// ssh-keygen -Y find-principals does it: the signature may still be of
// something else. Identify checks that too.
func (s *Signers) FindPrincipals(sig *Signature, at time.Time) ([]Principal, error) {
	return s.Match(sig.key, sig.namespace, at)
}

// Identify says in whose name the signature of message in namespace counts at a
// time; all is checked.
func (s *Signers) Identify(namespace string, message []byte, sig *Signature, at time.Time) ([]Principal, error) {
	// Before anything that costs time: strangers' keys do not get that far.
	who, err := s.Match(sig.key, namespace, at)
	if err != nil {
		return nil, err
	}
	if err := sig.Verify(message, namespace); err != nil {
		return nil, err
	}
	return who, nil
}

// Verify says whether the signature of message in namespace counts at a time as
// the claimed principal's, as ssh-keygen -Y verify -I does it, and by what: a
// line that has the name is preferred to a pattern.
func (s *Signers) Verify(claimed, namespace string, message []byte, sig *Signature, at time.Time) (Principal, error) {
	if err := checkClaim(claimed); err != nil {
		return Principal{}, err
	}
	who, err := s.Identify(namespace, message, sig, at)
	if err != nil {
		return Principal{}, err
	}
	var found Principal
	for _, p := range who {
		if p.Allows(claimed) && (found.Name == "" || found.Pattern && !p.Pattern) {
			found = p
		}
	}
	if found.Name == "" {
		return Principal{}, refuse(OtherPrincipal, "the key %s may not sign as %q, only as %s (%s:%d); sign with a key of %s, or claim the other name", sig.key.Fingerprint(), claimed, who[0].list, s.name, who[0].Line, claimed)
	}
	return found, nil
}
