package sshsig

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// Lend opens a private key file and holds its key in an ssh-agent of this
// process, at a socket, until stop is called: so that other programs, such as
// git, sign with it while a person is asked for its passphrase once. Who can
// reach the socket can sign, so it belongs into a directory of mode 0700.
// passphrase is as in FromKeyFile.
func Lend(path, socket string, passphrase func() ([]byte, error)) (key Key, stop func(), err error) {
	text, err := readPrivate(path)
	if err != nil {
		return Key{}, nil, err
	}
	defer clear(text)
	raw, err := ssh.ParseRawPrivateKey(text)
	if missing := (*ssh.PassphraseMissingError)(nil); errors.As(err, &missing) {
		raw, err = openRaw(path, text, passphrase)
		if err != nil {
			return Key{}, nil, err
		}
	}
	if err != nil {
		return Key{}, nil, fmt.Errorf("%s is not a private key that can be read here (%w); a security key or a token signs through ssh-agent or ssh-keygen", path, err)
	}
	signer, err := ssh.NewSignerFromKey(raw)
	if err == nil {
		key, _, err = keyOf(signer.PublicKey().Marshal())
	}
	if err != nil {
		return Key{}, nil, fmt.Errorf("%s: %w", path, err)
	}
	ring := agent.NewKeyring()
	if err := ring.Add(agent.AddedKey{PrivateKey: raw, Comment: path}); err != nil {
		return Key{}, nil, fmt.Errorf("%s: %w", path, err)
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return Key{}, nil, fmt.Errorf("no agent can be held at %s: %w; choose another directory for temporary files (TMPDIR)", socket, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var callers sync.WaitGroup
	callers.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			callers.Go(func() {
				defer context.AfterFunc(ctx, func() { conn.Close() })()
				defer conn.Close()
				_ = agent.ServeAgent(ring, conn)
			})
		}
	})
	return key, func() {
		cancel()
		listener.Close()
		callers.Wait()
		_ = ring.RemoveAll()
	}, nil
}

func openRaw(path string, text []byte, passphrase func() ([]byte, error)) (any, error) {
	if passphrase == nil {
		return nil, fmt.Errorf("%s is encrypted, and its passphrase cannot be asked for here; add it to ssh-agent with ssh-add %s", path, path)
	}
	secret, err := passphrase()
	if err != nil {
		return nil, fmt.Errorf("asking for the passphrase of %s: %w; add the key to ssh-agent with ssh-add %s", path, err, path)
	}
	defer clear(secret)
	raw, err := ssh.ParseRawPrivateKeyWithPassphrase(text, secret)
	if err != nil {
		return nil, fmt.Errorf("the passphrase does not open %s (%w); try again", path, err)
	}
	return raw, nil
}
