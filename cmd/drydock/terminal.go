package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The rules of asking: on the terminal only, so that no pipeline hangs; no is
// the default; what is asked about stands right above the question.

// confirm asks a person for a yes.
func (s streams) confirm(ctx context.Context, question string) (bool, error) {
	if !isTerminal(os.Stdin) {
		return false, fmt.Errorf("%s %w: say --yes if you have looked at it", question, errNoTerminal)
	}
	fmt.Fprintf(s.Err, "%s [y/N] ", question)
	answer := make(chan string, 1)
	go func() { // it ends with the process, if nobody answers
		line, _ := bufio.NewReader(os.Stdin).ReadString('\n')
		answer <- line
	}()
	select {
	case <-ctx.Done():
		return false, ctx.Err()
	case line := <-answer:
		line = strings.ToLower(strings.TrimSpace(line))
		return line == "y" || line == "yes", nil
	}
}

// errDeclined is a person's no.
var errDeclined = errors.New("nothing was signed, and nothing changed: the answer was no")

// askpassTime is how long a person may take over a passphrase.
const askpassTime = 2 * time.Minute

// passphrase asks for a secret: the program in $SSH_ASKPASS if there is no
// terminal or $SSH_ASKPASS_REQUIRE says so, as ssh does; else the terminal,
// without showing it.
func (s streams) passphrase(ctx context.Context, prompt string) ([]byte, error) {
	program, require := os.Getenv("SSH_ASKPASS"), os.Getenv("SSH_ASKPASS_REQUIRE")
	if program != "" && (require == "force" || require == "prefer") {
		return askpass(ctx, program, prompt)
	}
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		if program != "" && require != "never" {
			return askpass(ctx, program, prompt)
		}
		return nil, errNoTerminal
	}
	defer tty.Close()
	was, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		return nil, errNoTerminal
	}
	silent := *was
	silent.Lflag &^= unix.ECHO
	fmt.Fprint(tty, prompt)
	if err := unix.IoctlSetTermios(int(tty.Fd()), unix.TCSETS, &silent); err != nil {
		return nil, err
	}
	defer func() {
		_ = unix.IoctlSetTermios(int(tty.Fd()), unix.TCSETS, was)
		fmt.Fprintln(tty)
	}()
	type answer struct {
		line []byte
		err  error
	}
	answers := make(chan answer, 1)
	go func() { // it ends with the process, if nobody answers
		line, err := bufio.NewReader(tty).ReadBytes('\n')
		answers <- answer{line, err}
	}()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case a := <-answers:
		return bytes.TrimRight(a.line, "\r\n"), a.err
	}
}

func askpass(ctx context.Context, program, prompt string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askpassTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, prompt)
	cmd.WaitDelay = time.Second
	var out capped
	out.left = 4096
	cmd.Stdout = &out
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s (SSH_ASKPASS) gave no passphrase: %w", program, err)
	}
	return bytes.TrimRight(out.Bytes(), "\r\n"), nil
}
