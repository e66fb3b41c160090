package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"drydock/hostagent/sshsig"
	"github.com/spf13/cobra"
)

// keyFlags say with whose key a command signs.
type keyFlags struct {
	file     string
	unsigned bool
}

func (f *keyFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.file, "key", "", "the SSH key to sign with: a private key file, or a .pub file whose private half the ssh-agent has\n(default: git's user.signingkey, else the ssh-agent's only key)")
	cmd.Flags().BoolVar(&f.unsigned, "no-sign", false, "leave the commit itself unsigned, for a repository whose hosts check no signatures")
}

// A hand is a person's key. What signs with it is there once it was unlocked.
type hand struct {
	key    sshsig.Key
	from   string // where it was found, for people
	name   string // of its owner, as git knows them
	unlock func(context.Context) error

	signer sshsig.Signer
	file   string   // what ssh-keygen is given as the key
	agent  string   // the socket of the agent that has the private half; "": the file has it
	close  []func() // in reverse order
}

// sign asks for a passphrase, a touch or nothing, and signs.
func (h *hand) sign(ctx context.Context, s streams, what, namespace string, message []byte) (*sshsig.Signature, error) {
	if err := h.ready(ctx); err != nil {
		return nil, err
	}
	if h.touches() {
		s.note("touch your security key, for the %s", what)
	}
	return h.signer.Sign(ctx, namespace, message)
}

// ready unlocks the key, once.
func (h *hand) ready(ctx context.Context) error {
	if h.unlock == nil {
		return nil
	}
	err := h.unlock(ctx)
	if err == nil {
		h.unlock = nil
	}
	return err
}

// touches says whether the key waits for its owner's finger.
func (h *hand) touches() bool { return strings.HasPrefix(h.key.Type(), "sk-") }

func (h *hand) end() {
	for i := len(h.close) - 1; i >= 0; i-- {
		h.close[i]()
	}
}

// find is the key that a person signs with. Its end must be called.
func (f keyFlags) find(ctx context.Context, s streams, g git) (*hand, error) {
	named, from, beside := f.file, "--key", ""
	if named == "" {
		beside = g.dir // where git looks from
		if format, _ := g.run(ctx, "config", "--get", "gpg.format"); format == "ssh" {
			named, _ = g.run(ctx, "config", "--type=path", "--get", "user.signingkey")
			from = "git's user.signingkey"
		}
	}
	h := &hand{}
	if err := h.take(ctx, s, named, from, beside); err != nil {
		h.end()
		return nil, err
	}
	h.name = g.me(ctx)
	return h, nil
}

// me is the email that this clone's commits are made with; "" without one.
func (g git) me(ctx context.Context) string {
	ident, _ := g.run(ctx, "var", "GIT_AUTHOR_IDENT")
	_, ident, _ = strings.Cut(ident, "<")
	email, _, _ := strings.Cut(ident, ">")
	return email
}

// take finds the private half of what is named, a key or a path from a folder;
// "" names the agent's only key.
func (h *hand) take(ctx context.Context, s streams, named, from, folder string) error {
	if named == "" {
		return h.only(ctx)
	}
	literal := strings.TrimPrefix(named, "key::")
	if key, err := sshsig.ParseKey(literal); err == nil {
		return h.ofAgent(ctx, key, from)
	} else if literal != named {
		return fmt.Errorf("%s is no key that can sign here: %w", from, err)
	}
	if !filepath.IsAbs(named) {
		named = filepath.Join(folder, named)
	}
	named, err := filepath.Abs(named) // git and ssh-keygen are called elsewhere
	if err != nil {
		return err
	}
	key, private, err := keyIn(named)
	if err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	if private == "" {
		beside := strings.TrimSuffix(named, ".pub")
		if _, err := os.Stat(beside); beside != named && err == nil {
			private = beside
		}
	}
	err = h.ofAgent(ctx, key, from+", "+named)
	switch {
	case err == nil:
		return nil
	case strings.HasPrefix(key.Type(), "sk-"):
		if private == "" {
			private = named
		}
		h.signer, h.key, h.from, h.file = sshsig.FromKeygen("ssh-keygen", private, s.Err), key, private, private
		return nil
	case private == "":
		return err
	}
	h.key, h.from = key, private
	h.unlock = func(ctx context.Context) error { return h.open(ctx, s, key, private) }
	return nil
}

// agentSocket is where the person's ssh-agent listens; "" without one.
func agentSocket() string { return os.Getenv("SSH_AUTH_SOCK") }

// only is the agent's key, if it has one and no more.
func (h *hand) only(ctx context.Context) error {
	const how = "name one with --key FILE, or once for all: git config --global gpg.format ssh && git config --global user.signingkey ~/.ssh/id_ed25519.pub"
	if agentSocket() == "" {
		return fmt.Errorf("no key to sign with is known: %s", how)
	}
	keys, err := sshsig.AgentKeys(ctx, agentSocket())
	switch {
	case err != nil:
		return err
	case len(keys) == 0:
		return fmt.Errorf("the ssh-agent has no key that can sign here: add one with ssh-add, or %s", how)
	case len(keys) > 1:
		return fmt.Errorf("the ssh-agent has %d keys, and nobody says which of them is to sign: %s", len(keys), how)
	}
	return h.ofAgent(ctx, keys[0].Key, "the ssh-agent's only key")
}

// ofAgent signs through the person's agent, which must have the key.
func (h *hand) ofAgent(ctx context.Context, key sshsig.Key, from string) error {
	socket := agentSocket()
	if socket == "" {
		return fmt.Errorf("%s is a public key, and no ssh-agent is here to sign with its private half: start one, ssh-add the key, or name the private key's file with --key", from)
	}
	keys, err := sshsig.AgentKeys(ctx, socket)
	if err != nil {
		return err
	}
	for _, k := range keys {
		if k.Key == key {
			return h.through(socket, key, from)
		}
	}
	return fmt.Errorf("%s: the ssh-agent does not have the private half of %s: add it with ssh-add, or name the private key's file with --key", from, key.Fingerprint())
}

// through signs by an agent. Git is told the key by a file of its own, which
// every version of ssh-keygen understands.
func (h *hand) through(socket string, key sshsig.Key, from string) error {
	dir, err := os.MkdirTemp("", "drydock-key-*")
	if err != nil {
		return err
	}
	h.close = append(h.close, func() { _ = os.RemoveAll(dir) })
	file := filepath.Join(dir, "key.pub")
	if err := os.WriteFile(file, []byte(key.String()+"\n"), 0o600); err != nil {
		return err
	}
	h.signer, h.key, h.from, h.file, h.agent = sshsig.FromAgent(socket, key), key, from, file, socket
	return nil
}

// open holds a private key file's key in an agent of this process's own, so that
// a passphrase is asked for once: git signs the commit through it too.
func (h *hand) open(ctx context.Context, s streams, key sshsig.Key, private string) error {
	dir, err := os.MkdirTemp("", "drydock-key-*")
	if err != nil {
		return err
	}
	h.close = append(h.close, func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "agent")
	held, stop, err := sshsig.Lend(private, socket, func() ([]byte, error) { return s.passphrase(ctx, "Passphrase of "+private+": ") })
	if err != nil {
		return err
	}
	h.close = append(h.close, stop)
	if held != key {
		return fmt.Errorf("%s holds the private half of another key than %s: name the right one with --key", private, key.Fingerprint())
	}
	return h.through(socket, key, private)
}

// maxKeyFile bounds a key's file.
const maxKeyFile = 64 << 10

// keyIn reads whose key a file is: a public key, or a private one of which the
// path is returned. It asks for no passphrase.
func keyIn(path string) (key sshsig.Key, private string, err error) {
	text, err := readBounded(path, maxKeyFile)
	if err != nil {
		return key, "", fmt.Errorf("%w; name a key's file, such as ~/.ssh/id_ed25519", err)
	}
	defer clear(text)
	block, _ := pem.Decode(text)
	if block == nil {
		if key, err = sshsig.ParseKey(string(text)); err != nil {
			return key, "", fmt.Errorf("%s: %w", path, err)
		}
		return key, "", nil
	}
	defer clear(block.Bytes)
	if line := publicOf(block); line != "" {
		key, err = sshsig.ParseKey(line)
	} else if beside, readErr := os.ReadFile(path + ".pub"); readErr == nil {
		key, err = sshsig.ParseKey(string(beside))
	} else {
		err = fmt.Errorf("whose key it is cannot be read without its passphrase; write that beside it: ssh-keygen -y -f %s >%s.pub", path, path)
	}
	if err != nil {
		return key, "", fmt.Errorf("%s: %w", path, err)
	}
	return key, path, nil
}

// readBounded reads a plain file that somebody named.
func readBounded(path string, most int64) ([]byte, error) {
	info, err := os.Stat(path) // before it is opened, which a pipe might hold up
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no file", path)
	}
	if err == nil && info.Size() > most {
		err = fmt.Errorf("%s has %d bytes, and %d is the limit", path, info.Size(), most)
	}
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, most))
}

// publicOf is the public key that stands in clear at the beginning of an OpenSSH
// private key (PROTOCOL.key); "" for the older formats, which have none.
func publicOf(block *pem.Block) string {
	rest, ok := bytes.CutPrefix(block.Bytes, []byte("openssh-key-v1\x00"))
	if !ok || block.Type != "OPENSSH PRIVATE KEY" {
		return ""
	}
	next := func() []byte {
		if len(rest) < 4 {
			return nil
		}
		n := binary.BigEndian.Uint32(rest)
		if rest = rest[4:]; uint64(n) > uint64(len(rest)) {
			rest = nil
			return nil
		}
		word := rest[:n]
		rest = rest[n:]
		return word
	}
	next() // cipher
	next() // how the passphrase is stretched
	next() // and with what
	if len(rest) < 4 {
		return ""
	}
	rest = rest[4:] // how many keys: one
	wire := next()
	rest = wire
	return string(next()) + " " + base64.StdEncoding.EncodeToString(wire)
}

// signing is how git is to sign a commit; nil: as the clone is set up.
type signing struct {
	key   string // what ssh-keygen is given
	agent string // the socket of the agent to ask, "" for none
	close func() // ends what holds the key; nil: somebody else does
}

// settings are git's, before its verb.
func (s *signing) settings() []string {
	if s == nil {
		return nil
	}
	return []string{"-c", "gpg.format=ssh", "-c", "user.signingkey=" + s.key}
}

func (s *signing) environment() []string {
	if s == nil || s.agent == "" {
		return nil
	}
	return []string{"SSH_AUTH_SOCK=" + s.agent}
}

// end must be called after the commit.
func (s *signing) end() {
	if s != nil && s.close != nil {
		s.close()
	}
}

// forCommit says how the commits of this command are signed. A clone that signs
// by itself is left to do so; else its person's key does, which is found here
// unless there is one.
func (f keyFlags) forCommit(ctx context.Context, s streams, g git, h *hand) (*signing, error) {
	if f.unsigned {
		return nil, nil
	}
	if f.file == "" {
		if signs, _ := g.run(ctx, "config", "--type=bool", "--get", "commit.gpgsign"); signs == "true" {
			return nil, nil
		}
	}
	made := &signing{}
	if h == nil {
		var err error
		if h, err = f.find(ctx, s, g); err != nil {
			return nil, fmt.Errorf("this commit has to be signed, for the hosts that check who made it: %w\nFor hosts that check no signatures there is --no-sign", err)
		}
		made.close = h.end
	}
	if err := h.ready(ctx); err != nil {
		made.end()
		return nil, err
	}
	if h.touches() {
		s.note("touch your security key, for the commit")
	}
	made.key, made.agent = h.file, h.agent
	return made, nil
}

var errNoTerminal = errors.New("there is no terminal to ask on")
