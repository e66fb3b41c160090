package sshsig

import (
	"context"
	"fmt"
	"net"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// patience is how long a person may take to touch a key or to confirm, where
// the caller's context sets no deadline.
const patience = 2 * time.Minute

// An AgentKey is a key that an ssh-agent holds.
type AgentKey struct {
	Key     Key
	Comment string
}

// AgentKeys lists the keys of the ssh-agent at a socket that can sign here;
// certificates and weak keys are left out.
func AgentKeys(ctx context.Context, socket string) (keys []AgentKey, err error) {
	err = withAgent(ctx, socket, func(a agent.ExtendedAgent) error {
		all, err := a.List()
		if err != nil {
			return fmt.Errorf("the ssh-agent at %s does not list its keys: %w; see what ssh-add -l says", socket, err)
		}
		for _, k := range all {
			if key, _, err := keyOf(k.Blob); err == nil {
				keys = append(keys, AgentKey{key, k.Comment})
			}
		}
		return nil
	})
	return keys, err
}

type agentSigner struct {
	socket string
	key    Key
}

// FromAgent signs with a key that the ssh-agent at a socket ($SSH_AUTH_SOCK)
// holds, also one in a security key.
func FromAgent(socket string, key Key) Signer { return &agentSigner{socket, key} }

func (s *agentSigner) Sign(ctx context.Context, namespace string, message []byte) (made *Signature, err error) {
	pub, err := s.key.public()
	if err != nil {
		return nil, fmt.Errorf("no key is named; choose one of those that ssh-add -L lists")
	}
	err = withAgent(ctx, s.socket, func(a agent.ExtendedAgent) error {
		made, err = signWith(s.key, namespace, message, func(data []byte, algorithm string) (*ssh.Signature, error) {
			var flags agent.SignatureFlags
			if algorithm == ssh.KeyAlgoRSASHA512 {
				flags = agent.SignatureFlagRsaSha512
			}
			sig, err := a.SignWithFlags(pub, data, flags)
			if err != nil {
				return nil, fmt.Errorf("the ssh-agent at %s does not sign with %s: %w; see that ssh-add -L lists the key, and confirm or touch it when asked", s.socket, s.key.Fingerprint(), err)
			}
			return sig, nil
		})
		return err
	})
	return made, err
}

// withAgent calls do with a connection that ends with ctx or, if that has no
// deadline, when patience does.
func withAgent(ctx context.Context, socket string, do func(agent.ExtendedAgent) error) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return fmt.Errorf("no ssh-agent answers at %q: %w; start one (eval $(ssh-agent)) and add the key with ssh-add", socket, err)
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	defer conn.Close()
	err = do(agent.NewClient(conn))
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("the ssh-agent at %s was waited for in vain: %w; touch or confirm the key in time", socket, ctx.Err())
	}
	return err
}
