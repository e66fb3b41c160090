package sshsig

import (
	"context"
	"fmt"
	"net"
	"sync"

	"golang.org/x/crypto/ssh/agent"
)

// Lend opens a private key file and holds its key in an ssh-agent of this
// process, at a socket, until stop is called: so that other programs, such as
// git, sign with it while a person is asked for its passphrase once. Who can
// reach the socket can sign, so it belongs into a directory of mode 0700.
// passphrase is as in FromKeyFile.
func Lend(path, socket string, passphrase func() ([]byte, error)) (key Key, stop func(), err error) {
	raw, _, key, err := openPrivate(path, passphrase)
	if err != nil {
		return Key{}, nil, err
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
