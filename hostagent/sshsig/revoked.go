package sshsig

import (
	"bytes"
	"fmt"
	"strings"
)

// RevokedKeys are keys that count no longer, on whatever line they stand.
type RevokedKeys struct {
	name  string
	lines map[Key]int
}

// ParseRevoked reads a list of revoked keys as ssh-keygen -Y verify -r takes
// it: one public key a line, as its .pub file has it. A binary KRL is refused.
func ParseRevoked(data []byte, name string) (*RevokedKeys, error) {
	if bytes.HasPrefix(data, []byte("SSHKRL\n\x00")) {
		return nil, fmt.Errorf("%s is a binary KRL, which is not supported; list the revoked public keys in it, one a line, as their .pub files have them", name)
	}
	r := &RevokedKeys{name: name, lines: map[Key]int{}}
	err := eachLine(data, name, func(n int, line string) error {
		typ, rest := field(line)
		encoded, _ := field(rest)
		if !isKeyType(typ) {
			return fmt.Errorf("%.64q is not a key's type; list public keys, one a line, as their .pub files have them", typ)
		}
		wire, err := keyBytes(typ, encoded)
		if err != nil {
			return err
		}
		key, _, err := keyOf(wire)
		switch {
		case err == nil:
			r.lines[key] = n
		case ReasonOf(err) == Unsupported && !strings.HasSuffix(typ, certSuffix):
			// It can sign nothing here anyway.
		default:
			return err
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}
