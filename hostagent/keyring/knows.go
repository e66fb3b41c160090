package keyring

import (
	"slices"
	"time"
)

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
