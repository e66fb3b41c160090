package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// verify: a thousand new signed commits of a repository of 10,000 files, with
// as many commits behind them, judged as a host does it, rules and all, against
// git's own look at the same signatures with the same allowed signers.
func (y *yard) verify(ctx context.Context) ([]figure, error) {
	const pairs = 7
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
	const name = "7 1,000 new signed commits verified"
	return []figure{
		figure{Figure: name, What: "wall", Unit: "ms", Peer: "git log --format=%G?", Ours: spreadOf(ours), Theirs: spreadOf(theirs), Ratio: spreadOf(ratio), Target: 1}.judged(),
		alone("7 the same", "wall", "ms", spreadOf(ours), 1000),
	}, nil
}
