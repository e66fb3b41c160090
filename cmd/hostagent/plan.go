package main

import (
	"errors"
	"io/fs"

	"github.com/spf13/cobra"

	"drydock/hostagent"
)

func planCommand(f *flags) *cobra.Command {
	var detailed bool
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Show what the agent would do, and why; change nothing",
		Long: `plan looks at the repository's newest commit and at this host, and shows what
the agent would do. It accepts no commit and changes nothing.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			brief()
			cfg, err := loadConfig(f)
			if err != nil {
				return err
			}
			rep, err := plan(cmd, f, cfg)
			if err != nil {
				return err
			}
			if err := f.show(rep, func() { printPlan(f.Out, rep) }); err != nil {
				return err
			}
			if detailed && len(rep.Steps) > 0 {
				return exit(exitChanges)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&detailed, "detailed-exitcode", false, "exit 0: nothing to do, 2: changes, 1: error")
	return cmd
}

// plan asks the running agent, or looks itself where none runs.
func plan(cmd *cobra.Command, f *flags, cfg hostagent.Config) (hostagent.PlanReport, error) {
	if rep, ran, err := planThroughAgent(cmd.Context(), cfg); ran {
		return rep, err
	}
	p, err := assemble(cfg, f, logger(f, false), true, hooks{})
	if errors.Is(err, fs.ErrNotExist) {
		// Nothing was ever done here: the journal is made now, and stays empty.
		p, err = assemble(cfg, f, logger(f, false), false, hooks{})
	}
	if err != nil {
		return hostagent.PlanReport{}, err
	}
	defer p.Close()
	return p.agent.Plan(cmd.Context())
}
