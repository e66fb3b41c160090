package main

import (
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"
)

func runCommand(f *flags) *cobra.Command {
	return &cobra.Command{
		Use:   "run",
		Short: "Run for ever: converge on every merge",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(f)
			if err != nil {
				return err
			}
			p, err := assemble(cfg, f, logger(f, true), false, nil)
			if err != nil {
				return err
			}
			defer p.Close()
			p.startAnew(cmd.Context())
			wakes := make(chan struct{}, 1)
			go func() {
				for {
					select {
					case <-cmd.Context().Done():
						return
					case <-time.After(cfg.Source.Poll):
						select {
						case wakes <- struct{}{}:
						default:
						}
					}
				}
			}()
			return p.agent.Run(cmd.Context(), wakes)
		},
	}
}

// logger writes to stderr: all that happens for a running agent, only what is
// wrong for a command, which shows its steps itself.
func logger(f *flags, running bool) *slog.Logger {
	level := slog.LevelWarn
	if running {
		level = slog.LevelInfo
	}
	if os.Getenv("DRYDOCK_DEBUG") != "" {
		level = slog.LevelDebug
	}
	o := &slog.HandlerOptions{Level: level}
	if f.output == "json" {
		return slog.New(slog.NewJSONHandler(f.Err, o))
	}
	return slog.New(slog.NewTextHandler(f.Err, o))
}

// startAnew finds again what a journal that had to be begun anew forgot.
func (p *parts) startAnew(ctx context.Context) {
	r := p.journal.Rebuilt()
	if r == nil {
		return
	}
	p.log.Error("the journal was corrupt and is rebuilt from disk and git", "cause", r.Cause, "aside", r.Aside)
	if err := p.agent.Rebuild(ctx); err != nil {
		p.log.Error("not rebuilt yet; it is tried again at the next start", "error", err)
		return
	}
	if err := p.journal.RebuildDone(ctx); err != nil {
		p.log.Error("the journal", "error", err)
	}
}
