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

// rotation: how long a bump keeps a host with systemd out of rotation, as
// HAProxy sees it, against a plain restart of the same unit in turn with it,
// plus the check that was asked for. What is left is our own.
func (y *yard) rotation(ctx context.Context) ([]figure, error) {
	if os.Geteuid() != 0 {
		y.notes = append(y.notes, "Figure 6 needs root, to boot a host with systemd.")
		return nil, nil
	}
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "^BenchmarkOutOfRotation$", "-benchtime", fmt.Sprintf("%dx", y.rounds), "./cmd/hostagent")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%w\n%s%s", err, out, errs.Bytes())
	}
	var whole, plain, own, ratio []float64
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		_, pair, ok := strings.Cut(lines.Text(), "pair ")
		if !ok {
			continue
		}
		var took, restart, check float64
		if _, err := fmt.Sscan(pair, &took, &restart, &check); err != nil {
			return nil, fmt.Errorf("%q: %w", lines.Text(), err)
		}
		whole, plain = append(whole, took), append(plain, restart+check)
		own, ratio = append(own, took-restart-check), append(ratio, took/(restart+check))
	}
	if len(whole) == 0 {
		return nil, errors.New("the benchmark printed no pairs")
	}
	return []figure{
		figure{
			Figure: "6 a bump on a systemd host", What: "out of rotation", Unit: "ms", Peer: "restart and check",
			Ours: spreadOf(whole), Theirs: spreadOf(plain), Ratio: spreadOf(ratio),
		}.judged(),
		alone("6 the same", "our own of it", "ms", spreadOf(own), 100),
	}, nil
}
