package sshsig

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"
)

type keygenSigner struct {
	program, keyFile string
	prompts          io.Writer
}

// FromKeygen signs by calling ssh-keygen -Y sign, so that whatever it can sign
// with (security keys, PKCS#11 tokens, agents, passphrases asked for on the
// terminal) works. The key file may be a .pub file whose private half an agent
// holds. What ssh-keygen asks and says goes to prompts, which may be nil.
func FromKeygen(program, keyFile string, prompts io.Writer) Signer {
	return &keygenSigner{program, keyFile, prompts}
}

func (s *keygenSigner) Sign(ctx context.Context, namespace string, message []byte) (*Signature, error) {
	if err := checkNamespace(namespace); err != nil {
		return nil, err
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	var out, said head
	cmd := exec.CommandContext(ctx, s.program, "-Y", "sign", "-n", namespace, "-f", s.keyFile)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(message), &out, &said
	if s.prompts != nil {
		cmd.Stderr = io.MultiWriter(s.prompts, &said)
	}
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		if errors.Is(err, exec.ErrNotFound) {
			return nil, fmt.Errorf("%w; install it: apt-get install openssh-client", err)
		}
		return nil, fmt.Errorf("%s -Y sign -f %s: %w: %s; see that it signs by hand, and touch the key when asked", s.program, s.keyFile, err, strings.TrimSpace(said.String()))
	}
	// On Windows ssh-keygen ends its lines with CR LF.
	return checked(bytes.ReplaceAll(out.Bytes(), []byte("\r\n"), []byte("\n")), namespace, message)
}

// head keeps what fits a signature, and drops the rest, so that a program gone
// wild fills no memory.
type head struct{ bytes.Buffer }

func (h *head) Write(p []byte) (int, error) {
	_, _ = h.Buffer.Write(p[:min(len(p), MaxSignature+1-h.Len())])
	return len(p), nil
}
