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
)

// verify: a thousand new signed commits of a repository of 10,000 files, with
// as many commits behind them, judged as a host does it, rules and all, against
// git's own look at the same signatures with the same allowed signers.
func (y *yard) verify(ctx context.Context) ([]figure, error) {
	const pairs = 5
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "^BenchmarkVerify$/^a_pair$", "-benchtime", fmt.Sprintf("%dx", pairs), "./hostagent/gitsource")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%w\n%s%s", err, out, errs.Bytes())
	}
	var ours, theirs, ratio []float64
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		_, pair, ok := strings.Cut(lines.Text(), "pair ")
		if !ok {
			continue
		}
		var mine, gits float64
		if _, err := fmt.Sscan(pair, &mine, &gits); err != nil {
			return nil, fmt.Errorf("%q: %w", lines.Text(), err)
		}
		ours, theirs, ratio = append(ours, mine), append(theirs, gits), append(ratio, mine/gits)
	}
	if len(ours) == 0 {
		return nil, errors.New("the benchmark printed no pairs")
	}
	idle, err := y.trusted(ctx)
	if err != nil {
		return nil, err
	}
	const name = "7 1,000 new signed commits verified"
	return append([]figure{
		figure{Figure: name, What: "wall", Unit: "ms", Peer: "git log --format=%G?", Ours: spreadOf(ours), Theirs: spreadOf(theirs), Ratio: spreadOf(ratio), Target: 1}.judged(),
		alone("7 the same", "wall", "ms", spreadOf(ours), 1000),
	}, idle...), nil
}

// trusted: a pass with nothing new, of the same host with a trust section and
// without, in turn. What was accepted once is not looked at again.
func (y *yard) trusted(ctx context.Context) ([]figure, error) {
	key := y.path("signer")
	if _, _, err := run(ctx, nil, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", key); err != nil {
		return nil, err
	}
	public, err := os.ReadFile(key + ".pub")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(y.path("allowed_signers"), append([]byte("bench@acme.example "), public...), 0o644); err != nil {
		return nil, err
	}
	_, head, err := run(ctx, nil, "git", "-C", y.path("repo.git"), "rev-parse", "main")
	if err != nil {
		return nil, err
	}
	plain, err := os.ReadFile(y.path("plain.hcl"))
	if err != nil {
		return nil, err
	}
	section := fmt.Sprintf(`
trust {
  signers = %q
  since   = %q
  role "people" {
    principals = ["bench@acme.example"]
    may        = ["any"]
    people     = true
  }
}
`, y.path("allowed_signers"), strings.TrimSpace(head))
	if err := os.WriteFile(y.path("trusted.hcl"), append(plain, section...), 0o644); err != nil {
		return nil, err
	}
	all, err := turns(y.rounds, func(int) (sample, error) { return y.once(ctx, "trusted") }, func(int) (sample, error) { return y.once(ctx, "plain") })
	if err != nil {
		return nil, err
	}
	return compared("7 once, nothing to do, with trust", "without", all[0], all[1], 1.1, 1.1), nil
}
