package sshsig

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/crypto/ssh"
)

// maxKeyFile is the largest file with a private key, in bytes.
const maxKeyFile = 64 << 10

// A Signer makes signatures with one key.
type Signer interface {
	// Sign signs message in namespace, as ssh-keygen -Y sign does, and checks
	// the signature before it returns it. It may wait for a person's touch or
	// passphrase, for as long as ctx lets it.
	Sign(ctx context.Context, namespace string, message []byte) (*Signature, error)
}

// signWith makes a signature from what a key or an agent answers.
func signWith(key Key, namespace string, message []byte, answer func(data []byte, algorithm string) (*ssh.Signature, error)) (*Signature, error) {
	if err := checkNamespace(namespace); err != nil {
		return nil, err
	}
	s := &Signature{key: key, namespace: namespace, hash: "sha512"}
	algorithm := key.Type()
	if algorithm == ssh.KeyAlgoRSA {
		algorithm = ssh.KeyAlgoRSASHA512
	}
	sig, err := answer(toSign(namespace, s.hash, message), algorithm)
	if err != nil {
		return nil, err
	}
	s.sig = *sig
	return checked(s.Armor(), namespace, message)
}

// checked parses a new signature as those who receive it will.
func checked(armored []byte, namespace string, message []byte) (*Signature, error) {
	s, err := Parse(armored)
	if err == nil {
		err = s.Verify(message, namespace)
	}
	if err != nil {
		return nil, fmt.Errorf("the new signature would be refused: %w", err)
	}
	return s, nil
}

// keySigner holds a private key.
type keySigner struct {
	key     Key
	private ssh.AlgorithmSigner
}

// FromKeyFile reads an OpenSSH private key file, and calls passphrase only if
// the file is encrypted; nil stands for "cannot ask". Keys that are in a
// security key or a PKCS#11 token need FromAgent or FromKeygen.
func FromKeyFile(path string, passphrase func() ([]byte, error)) (Signer, error) {
	_, private, key, err := openPrivate(path, passphrase)
	if err != nil {
		return nil, err
	}
	able, ok := private.(ssh.AlgorithmSigner)
	if !ok {
		return nil, fmt.Errorf("%s: keys of type %s cannot sign here; use ssh-agent", path, key.Type())
	}
	return &keySigner{key, able}, nil
}

// openPrivate reads a private key file: the key as an agent takes it, what signs
// with it, and its public half.
func openPrivate(path string, passphrase func() ([]byte, error)) (raw any, private ssh.Signer, key Key, err error) {
	text, err := readPrivate(path)
	if err != nil {
		return nil, nil, Key{}, err
	}
	defer clear(text)
	raw, err = ssh.ParseRawPrivateKey(text)
	if missing := (*ssh.PassphraseMissingError)(nil); errors.As(err, &missing) {
		if raw, err = decrypt(path, text, passphrase); err != nil {
			return nil, nil, Key{}, err
		}
	}
	if err != nil {
		return nil, nil, Key{}, fmt.Errorf("%s is not a private key that can be read here (%w); a security key or a token signs through ssh-agent or ssh-keygen", path, err)
	}
	private, err = ssh.NewSignerFromKey(raw)
	if err == nil {
		key, _, err = keyOf(private.PublicKey().Marshal())
	}
	if err != nil {
		return nil, nil, Key{}, fmt.Errorf("%s: %w", path, err)
	}
	return raw, private, key, nil
}

func decrypt(path string, text []byte, passphrase func() ([]byte, error)) (any, error) {
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

// readPrivate refuses, as ssh does, a key that others can read.
func readPrivate(path string) ([]byte, error) {
	info, err := os.Stat(path) // before it is opened, which a pipe might hold up
	if err != nil {
		return nil, fmt.Errorf("%w; name the file of a private key, such as ~/.ssh/id_ed25519", err)
	}
	switch {
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a file; name the file of a private key", path)
	case info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("%s can be read by others (mode %04o); chmod 600 it, and make a new key if others may have read it", path, info.Mode().Perm())
	case info.Size() > maxKeyFile:
		return nil, fmt.Errorf("%s has %d bytes, too many for a private key; name another file", path, info.Size())
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w; sign as the user whose key it is", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return nil, fmt.Errorf("%w; name another key", err)
	}
	return text, nil
}

func (k *keySigner) Sign(ctx context.Context, namespace string, message []byte) (*Signature, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return signWith(k.key, namespace, message, func(data []byte, algorithm string) (*ssh.Signature, error) {
		return k.private.SignWithAlgorithm(rand.Reader, data, algorithm)
	})
}
