// Command bench measures Drydock against others that do the same work: on the
// same archives, the same repository and the same git server, in turn and in
// one run, so that a busy or slow machine changes the milliseconds and hardly
// the ratios. Targets that are missed are marked; whether that matters is for
// people to judge, so the exit code only says whether it could measure.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// options are what the command line says.
type options struct {
	rounds  int
	rest    time.Duration
	resting int // services of the agent at rest
	passes  int
	many    int // files of the large repository
	only    string
	keep    bool
}

func main() {
	if len(os.Args) > 2 && os.Args[1] == "many" {
		os.Exit(exitCode(many(os.Args[2:])))
	}
	o := options{resting: 20, passes: 300, many: 10_000}
	quick := flag.Bool("quick", false, "rest for 20s instead of 60s")
	asJSON := flag.Bool("json", false, "print JSON instead of a table")
	flag.IntVar(&o.rounds, "rounds", 15, "`rounds` of each pair, at least 7")
	flag.StringVar(&o.only, "only", "1,2,3,4,5,6,7", "the `figures` to measure")
	flag.BoolVar(&o.keep, "keep", false, "leave the temporary directory in place")
	flag.Parse()
	o.rest = 60 * time.Second
	if *quick {
		o.rest = 20 * time.Second
	}
	if o.rounds < 7 || flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "bench: --rounds is at least 7, and there are no arguments")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	r, err := measure(ctx, o)
	stop()
	if err == nil || len(r.Figures) > 0 {
		if *asJSON {
			enc := json.NewEncoder(os.Stdout)
			enc.SetIndent("", "  ")
			err = errors.Join(err, enc.Encode(r))
		} else {
			r.print(os.Stdout)
		}
	}
	os.Exit(exitCode(err))
}

func exitCode(err error) int {
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, "bench:", err)
	return 1
}

// measure makes the work, takes all figures that were asked for, and removes
// every trace.
func measure(ctx context.Context, o options) (r report, err error) {
	y, err := newYard(ctx, o)
	if y != nil {
		defer func() { err = errors.Join(err, y.close()) }()
	}
	if err != nil {
		return r, err
	}
	r.Machine, r.Notes = machine(), y.notes
	r.Notes = append(r.Notes, fmt.Sprintf("No process shows less memory than this bench's own %.0f MiB, out of which Linux makes it.", memory(spent())))
	for _, f := range []struct {
		name string
		take func(context.Context) ([]figure, error)
	}{{"1", y.noop}, {"2", y.bumps}, {"3", y.passes}, {"4", y.many}, {"5", y.rest}, {"6", y.rotation}, {"7", y.verify}} {
		if !strings.Contains(o.only, f.name) {
			continue
		}
		fs, err := f.take(ctx)
		r.Figures = append(r.Figures, fs...)
		if err != nil {
			return r, fmt.Errorf("figure %s: %w", f.name, err)
		}
	}
	return r, nil
}
