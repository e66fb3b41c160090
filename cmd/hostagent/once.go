package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"drydock/reconcile"
)

func onceCommand(f *flags) *cobra.Command {
	return &cobra.Command{
		Use:   "once",
		Short: "Make one pass: converge every service as far as it comes",
		Long: `once looks at the repository's newest commit and converges every service as far
as it comes, through the running agent if there is one.

Exit codes: 0 all converged (orphans alone are 0 too); 3 some wait on a gate
and none failed; 1 an error, or any service reverted, halted or drifted.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			brief()
			cfg, err := loadConfig(f)
			if err != nil {
				return err
			}
			st, ran, err := onceThroughAgent(cmd.Context(), f, cfg)
			if !ran {
				p, aerr := assemble(cfg, f, logger(f, false), false, hooks{watch: newTicker(f.Err).watch, quiet: true})
				if aerr != nil {
					return aerr
				}
				defer p.Close()
				p.startAnew(cmd.Context())
				st, err = p.agent.Once(cmd.Context())
			}
			if err != nil {
				return err
			}
			if err := f.show(st, func() { printStatus(f.Out, st, time.Now(), false) }); err != nil {
				return err
			}
			if code := st.ExitCode(); code != exitOK {
				return exit(code)
			}
			return nil
		},
	}
}

// show prints a result as a table for people, or as JSON.
func (f *flags) show(v any, text func()) error {
	if f.output == "json" {
		return printJSON(f.Out, v)
	}
	text()
	return nil
}

// ticker tells people what goes on, a line a step, as it ends.
type ticker struct {
	w     io.Writer
	mu    sync.Mutex
	began map[string]time.Time
}

func newTicker(w io.Writer) *ticker { return &ticker{w: w, began: map[string]time.Time{}} }

func (t *ticker) watch(p reconcile.Progressed) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := p.Record
	switch r.Kind {
	case reconcile.Planned:
		fmt.Fprintf(t.w, "%s: %s %s\n", r.Service, r.Plan.Purpose, r.Plan.Reason)
	case reconcile.Begun:
		t.began[r.Step] = r.Time
	case reconcile.Done:
		took := r.Time.Sub(t.began[r.Step])
		fmt.Fprintf(t.w, "  %s %-32s %s\n", paint(t.w, green, "✓"), r.Step, paint(t.w, dim, round(took)))
	case reconcile.Failed:
		fmt.Fprintf(t.w, "  %s %-32s %s\n", paint(t.w, red, "✗"), r.Step, strings.ReplaceAll(r.Reason, "\n", "\n    "))
	case reconcile.Stopped:
		fmt.Fprintf(t.w, "  %s %s\n", paint(t.w, red, "halted:"), r.Reason)
	}
}

func round(d time.Duration) string {
	if d < time.Second {
		return d.Round(time.Millisecond).String()
	}
	return d.Round(100 * time.Millisecond).String()
}
