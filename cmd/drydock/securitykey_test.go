package main

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"io"
	"os"

	"golang.org/x/crypto/ssh"
)

// securityKey is `skkeygen pub`, which prints the public key, and the part of
// ssh-keygen that signs (-Y sign -n NAMESPACE -f FILE [MESSAGE]) by an
// authenticator in software, which is touched at once.
func securityKey() {
	const app = "ssh:"
	private := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	public := ssh.Marshal(struct {
		Type  string
		Point []byte
		App   string
	}{ssh.KeyAlgoSKED25519, private.Public().(ed25519.PublicKey), app})
	if os.Args[1] == "pub" {
		fmt.Println(ssh.KeyAlgoSKED25519, base64.StdEncoding.EncodeToString(public))
		return
	}
	namespace, message, out := "", os.Stdin, os.Stdout
	for i, arg := range os.Args {
		if arg == "-n" {
			namespace = os.Args[i+1]
		}
	}
	if last := os.Args[len(os.Args)-1]; os.Args[len(os.Args)-2] != "-f" {
		// Git names a file for the message, and reads the signature beside it.
		var err error
		if message, err = os.Open(last); err != nil {
			panic(err)
		}
		if out, err = os.Create(last + ".sig"); err != nil {
			panic(err)
		}
	}
	text, err := io.ReadAll(message)
	if err != nil {
		panic(err)
	}
	digest := sha512.Sum512(text)
	challenge := sha256.Sum256(append([]byte("SSHSIG"), ssh.Marshal(struct {
		Namespace, Reserved, Hash string
		Digest                    []byte
	}{namespace, "", "sha512", digest[:]})...))
	touched := []byte{1, 0, 0, 0, 7}
	of := sha256.Sum256([]byte(app))
	sig := ed25519.Sign(private, append(append(of[:], touched...), challenge[:]...))
	inner := append(ssh.Marshal(struct {
		Format string
		Blob   []byte
	}{ssh.KeyAlgoSKED25519, sig}), touched...)
	blob := append([]byte("SSHSIG"), ssh.Marshal(struct {
		Version                   uint32
		Key                       []byte
		Namespace, Reserved, Hash string
		Signature                 []byte
	}{1, public, namespace, "", "sha512", inner})...)
	fmt.Fprintln(out, "-----BEGIN SSH SIGNATURE-----")
	for armor := base64.StdEncoding.EncodeToString(blob); armor != ""; {
		n := min(70, len(armor))
		fmt.Fprintln(out, armor[:n])
		armor = armor[n:]
	}
	fmt.Fprintln(out, "-----END SSH SIGNATURE-----")
}
