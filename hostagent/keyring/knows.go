package keyring

import (
	"slices"
	"time"
)

// Knows reports whether some key of the files may sign in a principal's name at
// a time: in git's namespace, or in that of statements.
func (k *Keys) Knows(principal, namespace string, at time.Time) bool {
	if k.pgp != nil && namespace == "git" && slices.Contains(k.pgp.Names(at), principal) {
		return true
	}
	if k.ssh == nil {
		return false
	}
	for _, e := range k.ssh.Entries() {
		if !e.Principals.Match(principal) {
			continue
		}
		if _, err := k.ssh.Match(e.Key, namespace, at); err == nil {
			return true
		}
	}
	return false
}
