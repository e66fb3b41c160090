package hostagent

import (
	"time"

	"drydock/reconcile/trust"
)

// Trust is whose signatures count on this host, and what they are checked on.
type Trust struct {
	Policy  trust.Policy
	Keys    Keys
	History trust.History
	Past    Cache // of what the releases of the past are, which takes long to find out; nil: in memory only
}

// Cache keeps bytes from one process to the next. They may be lost or damaged
// at any time: what they hold can be found out again.
type Cache interface {
	Load() ([]byte, error)
	Save([]byte) error
}

// Keys knows whose a signature is: of a commit, and of an approval file.
type Keys interface {
	trust.Keys
	// Approvers are the principals in whose name the key that signed the file
	// may sign statements (namespace trust.Namespace) at a time, and its
	// fingerprint. An error says in words why there is none.
	Approvers(f trust.ApprovalFile, at time.Time) (principals []string, key string, err error)
}

// TrustConfig is the trust block of hostagent.hcl.
type TrustConfig struct {
	trust.Policy
	Signers string // OpenSSH's allowed_signers; absolute
	Revoked string // keys that count no longer, one a line; "" for none
	Keyring string // OpenPGP public keys, armoured or not; "" for none
}
