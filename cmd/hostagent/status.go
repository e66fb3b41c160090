package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"drydock/hostagent"
)

func statusCommand(f *flags) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show what runs here, what is wanted, and what holds it back",
		Long: `status asks the running agent, or reads the state directory where none runs.

The first line has the commit in force and who answers for it. "unverified" says
that nobody does: this host has no trust section, or had none when it took the
commit up, and whoever can push can deploy. Below it stands what holds the host at
that commit. "unapproved" beside a state says that people have still to agree to
what is wanted, whatever else it waits for.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(f)
			if err != nil {
				return err
			}
			st, ran, err := statusThroughAgent(cmd.Context(), cfg)
			if !ran {
				p, aerr := assemble(cfg, f, logger(f, false), true, hooks{})
				if errors.Is(aerr, fs.ErrNotExist) {
					return nothingYet(cfg)
				}
				if aerr != nil {
					return aerr
				}
				defer p.Close()
				st, err = p.agent.Look(cmd.Context())
			}
			if err != nil && len(st.Services) == 0 && st.Source.Blocked == "" {
				return err
			}
			if !ran && st.Commit == "" && len(st.Services) == 0 && st.Source.Blocked == "" {
				return nothingYet(cfg)
			}
			return f.show(st, func() { printStatus(f.Out, st, time.Now(), true) })
		},
	}
}

func nothingYet(cfg hostagent.Config) error {
	return fmt.Errorf("nothing was done on this host yet (%s). Start `hostagent run`, or make one pass with `hostagent once`", cfg.State)
}

func versionCommand(f *flags) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Show this build's version", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := buildVersion()
			return f.show(v, func() { fmt.Fprintf(f.Out, "hostagent %s (%s)\n", v.Version, v.Go) })
		},
	}
}

type version struct {
	Version string `json:"version"`
	Go      string `json:"go"`
}

// released is the version that packages are built as, given to the linker
// (-X main.released=v1.2.3); "" leaves it to what Go knows of the source.
var released string

func buildVersion() version {
	v := version{Version: "unknown"}
	if b, ok := debug.ReadBuildInfo(); ok {
		v.Version, v.Go = b.Main.Version, b.GoVersion
	}
	v.Version = cmp.Or(released, v.Version)
	return v
}
