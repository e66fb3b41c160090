package sshsig

import (
	"errors"
	"fmt"
)

// A Reason says why a signature does not count. The words are for records and
// pages; the error's text is for people.
type Reason string

const (
	Malformed      Reason = "malformed"          // not what OpenSSH writes, or too large
	Unsupported    Reason = "unsupported"        // a certificate, an algorithm or a key too weak to count
	WrongNamespace Reason = "wrong namespace"    // made for another purpose
	Mismatch       Reason = "mismatch"           // not a signature of this message by this key
	Untouched      Reason = "untouched"          // a security key signed without its owner's touch
	UnknownKey     Reason = "unknown key"        // on no line of the file
	OtherPrincipal Reason = "other principal"    // the key is listed, for somebody else
	NotPermitted   Reason = "namespace not open" // the key's lines are for other namespaces
	NotYetValid    Reason = "not yet valid"
	Expired        Reason = "expired"
	Revoked        Reason = "revoked"
)

// A Refusal is the error of everything in this package that judges a key or a
// signature.
type Refusal struct {
	Reason Reason
	What   string // what happened, and what to do next
}

func (r *Refusal) Error() string { return r.What }

// ReasonOf is the Reason of the Refusal in err, or "" if there is none.
func ReasonOf(err error) Reason {
	var r *Refusal
	if errors.As(err, &r) {
		return r.Reason
	}
	return ""
}

func refuse(why Reason, format string, args ...any) error {
	return &Refusal{why, fmt.Sprintf(format, args...)}
}
