// Package command is every driver called "command": one small type per role,
// all on the same plumbing, which is package argv.
package command

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"drydock/hostagent/argv"
	"drydock/hostagent/confine"
	"drydock/hostagent/durable"
	"drydock/reconcile"
	"drydock/spec"
)

// pollEvery is how often a status command is run while it is waited for.
const pollEvery = 500 * time.Millisecond

// Which of a service's commands are confined is a matter of what they are for.
// What install and start run changes the host and leaves behind a service,
// which is not the agent's to confine: rules would hold for it as long as it
// lives. All others only look, or do something once: they are confined.

// run runs one argv of a step's block, within what is left of timeout and, if
// there are any, by rules.
func run(ctx context.Context, env reconcile.Env, rules *confine.Rules, s reconcile.Step, args []string, timeout spec.Duration) (string, error) {
	return argv.Run(ctx, env, s, argv.Command{Argv: args, User: argv.User(s), Timeout: time.Duration(timeout), Within: rules})
}

// ask runs a command that answers by its exit status, and keeps it out of the
// log: it may be run every second.
func ask(ctx context.Context, rules *confine.Rules, s reconcile.Step, args []string, timeout spec.Duration) (yes bool, out string, err error) {
	out, err = run(ctx, reconcile.Env{}, rules, s, args, timeout)
	var exit *argv.ExitError
	if errors.As(err, &exit) && exit.Signal == "" {
		return false, out, nil
	}
	return err == nil, out, err
}

// await asks until the answer is want.
func await(ctx context.Context, rules *confine.Rules, s reconcile.Step, args []string, timeout spec.Duration, want bool) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(timeout))
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		yes, _, err := ask(ctx, rules, s, args, timeout)
		if err == nil && yes == want {
			return nil
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s did not say so within %v: %w", args[0], timeout, ctx.Err())
		case <-tick.C:
		}
	}
}

// note is a small durable text that says what was last brought to its end.
type note struct{ path string }

// noteOf is the note of a step's block; another one if it is declared anew.
func noteOf(env reconcile.Env, s reconcile.Step, kind string) note {
	sum := sha256.Sum256([]byte(s.Block.ID() + "\x00" + string(s.Block.Config)))
	return note{filepath.Join(env.StateDir, s.Service, kind+"-"+hex.EncodeToString(sum[:6]))}
}

func (n note) says(text string) (bool, error) {
	data, err := os.ReadFile(n.path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, stateFault(err)
	}
	return string(data) == text, nil
}

func (n note) write(text string) error {
	if err := durable.MkdirAll(filepath.Dir(n.path), 0o700); err != nil {
		return stateFault(err)
	}
	if err := durable.WriteFile(n.path, []byte(text), 0o600); err != nil {
		return stateFault(err)
	}
	return nil
}

func (n note) clear() error {
	if err := durable.Remove(n.path); err != nil {
		return stateFault(err)
	}
	return nil
}

func stateFault(err error) error {
	return reconcile.HostFault(fmt.Errorf("keep a note of what was done: %w", err), "Mend the state directory.")
}

// hostsFault puts a command's failure on the host: what a command that moves
// traffic says is a load balancer's word, never the release's.
func hostsFault(err error, hint string) error {
	var exit *argv.ExitError
	if errors.As(err, &exit) {
		return reconcile.HostFault(exit, hint)
	}
	if errors.Is(err, context.Canceled) || err == nil || reconcile.BlameOf(err) != reconcile.Transient {
		return err
	}
	return reconcile.HostFault(err, hint)
}

func firstLine(out string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(out), "\n")
	return strings.TrimSpace(line)
}
