package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"syscall"

	"drydock/hostagent"
	"drydock/hostagent/durable"
	"drydock/hostagent/keyring"
)

// keys are the keys that a host's trust block names, read once, and how the
// files looked that they were read from.
type keys struct {
	ring *keyring.Keys
	seal string // changes whenever a file does
}

// openKeys reads who may sign; nil for a host without a trust block. The seal
// is taken first, so that a change in between is found at the next look.
func openKeys(cfg hostagent.Config) (*keys, error) {
	t := cfg.Trust
	if t == nil {
		return nil, nil
	}
	seal := sealOf(t.Signers, t.Revoked, t.Keyring)
	ring, err := keyring.Open(keyring.Files{Signers: t.Signers, Revoked: t.Revoked, OpenPGP: t.Keyring, Names: t.Policy.Names()})
	if err != nil {
		return nil, fmt.Errorf("trust cannot be used: %w", err)
	}
	return &keys{ring, seal}, nil
}

const maxSealed = 16 << 20

// sealOf is a hash over files; one that cannot be read is as good as none.
func sealOf(paths ...string) string {
	sum := sha256.New()
	for _, p := range paths {
		h := sha256.New()
		if f, err := os.OpenFile(p, os.O_RDONLY|syscall.O_NONBLOCK, 0); err == nil { // a pipe must not hold the agent up
			_, _ = io.Copy(h, io.LimitReader(f, maxSealed))
			_ = f.Close()
		}
		sum.Write(h.Sum([]byte{0}))
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// same reports whether both are the same keys.
func (k *keys) same(other *keys) bool {
	return (k == nil) == (other == nil) && (k == nil || k.seal == other.seal)
}

// cacheFile is a hostagent.Cache.
type cacheFile string

// maxCache is more than any cache that is kept.
const maxCache = 300 << 20

// Load reads the file.
func (c cacheFile) Load() ([]byte, error) {
	f, err := os.Open(string(c))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxCache))
}

// Save puts the bytes in the file's place.
func (c cacheFile) Save(data []byte) error { return durable.WriteCache(string(c), data, 0o600) }
