package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// gitDeadline bounds one call of git; a clone or fetch of a large repository
// over a slow line is the longest of them.
const gitDeadline = 5 * time.Minute

// maxGitOutput bounds what one call of git may answer.
const maxGitOutput = 64 << 20

// git runs the person's own git binary in one directory, so that their hooks,
// signing, credential helpers and SSH settings all hold.
type git struct {
	dir string
	env []string // beside the person's own
}

// with is git with more in its environment.
func (g git) with(env ...string) git {
	g.env = append(slices.Clip(g.env), env...)
	return g
}

// gitError is a call of git that failed.
type gitError struct {
	args   []string
	code   int // -1: it did not run, or was ended
	stderr string
	err    error
}

func (e *gitError) Error() string {
	text := strings.TrimSpace(e.stderr)
	if text == "" {
		text = e.err.Error()
	}
	if strings.Contains(text, "Please tell me who you are") {
		text = "git does not know who commits here, " +
			`and a job has to be told as well as a person: git config user.name "…" && git config user.email …, or GIT_AUTHOR_NAME, GIT_AUTHOR_EMAIL, GIT_COMMITTER_NAME and GIT_COMMITTER_EMAIL in its environment`
	}
	verb := e.args
	for len(verb) > 2 && verb[0] == "-c" { // settings stand before it
		verb = verb[2:]
	}
	return fmt.Sprintf("git %s: %s", verb[0], text)
}

func (e *gitError) Unwrap() error { return e.err }

// run answers git's standard output without its last line end.
func (g git) run(ctx context.Context, args ...string) (string, error) {
	out, err := g.feed(ctx, nil, args...)
	return strings.TrimRight(out, "\n"), err
}

// feed is run with a standard input, and answers the output as it is.
func (g git) feed(ctx context.Context, in io.Reader, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, gitDeadline)
	defer cancel()
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = g.dir
	cmd.Env = append(gitEnv(), g.env...)
	cmd.Stdin = in
	var stdout, stderr capped
	stdout.left, stderr.left = maxGitOutput, 64<<10
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	if err == nil && stdout.cut {
		err = errors.New("it answered more than 64 MiB")
	}
	if err == nil {
		return stdout.String(), nil
	}
	if errors.Is(err, exec.ErrNotFound) {
		err = errors.New("the git command is not installed here (on Debian: apt install git)")
	}
	if ctx.Err() == context.DeadlineExceeded {
		err = fmt.Errorf("no end after %s", gitDeadline)
	}
	code := -1
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	}
	return stdout.String(), &gitError{args, code, stderr.String(), err}
}

// gitEnv is the environment without what a surrounding git (a hook that calls
// us) says about another repository, and with messages that we can read.
func gitEnv() []string {
	var env []string
	for _, kv := range os.Environ() {
		switch name, _, _ := strings.Cut(kv, "="); name {
		case "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR",
			"GIT_QUARANTINE_PATH", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "LC_ALL", "LANGUAGE":
		default:
			env = append(env, kv)
		}
	}
	env = append(env, "LC_ALL=C")
	if !isTerminal(os.Stdin) {
		env = append(env, "GIT_TERMINAL_PROMPT=0") // nobody is there to answer
	}
	return env
}

// isTerminal asks the kernel: /dev/null is a character device too.
func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// capped keeps the beginning of what is written to it.
type capped struct {
	bytes.Buffer
	left int
	cut  bool
}

func (c *capped) Write(p []byte) (int, error) {
	n := len(p)
	if len(p) > c.left {
		p, c.cut = p[:c.left], true
	}
	c.left -= len(p)
	c.Buffer.Write(p)
	return n, nil
}
