package openpgp

import (
	"slices"
	"time"
)

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
