package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"drydock/spec"
	"github.com/spf13/cobra"
)

func newUnfreeze(s streams) *cobra.Command {
	var place placeFlags
	var environment, output string
	var all bool
	var services []string
	cmd := &cobra.Command{
		Use:   "unfreeze [REASON] (--env ENV | --all) [--service S]…",
		Short: "Lift a freeze",
		Long: `Unfreeze deletes freeze blocks from <environment>/freeze.hcl, or with --all from
freeze.hcl at the root. REASON and --service say which, where there are several.
Nothing frozen is a success without a commit.`,
		Example: `  drydock unfreeze --env prod --push
  drydock unfreeze "database move" --env prod`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (environment == "") != all {
				return wrong(cmd, "unfreeze: say which environment with --env, or --all for the freezes of every one")
			}
			c, err := place.open(cmd.Context(), cmd)
			if err != nil {
				return err
			}
			defer c.close()
			reason := ""
			if len(args) > 0 {
				reason = args[0]
			}
			return unfreeze(cmd.Context(), s, c, environment, output, func(f spec.Freeze) bool {
				return (reason == "" || f.Reason == reason) && (len(services) == 0 || slices.Equal(f.Services, services))
			}, reason != "" || len(services) > 0)
		},
	}
	place.register(cmd)
	cmd.Flags().StringVarP(&environment, "env", "e", "", "the environment: a folder of the repository")
	cmd.Flags().BoolVar(&all, "all", false, "the freezes of every environment, at the root")
	cmd.Flags().StringSliceVar(&services, "service", nil, "the freeze of just these services")
	outputFlag(cmd, &output, "text", "json")
	return cmd
}

func unfreeze(ctx context.Context, s streams, c *clone, environment, output string, match func(spec.Freeze) bool, chosen bool) error {
	var gone []spec.Freeze
	out, err := c.commit(ctx, func(_ context.Context, t tree) (proposal, error) {
		if environment != "" {
			if err := checkEnvironment(t.files(), environment); err != nil {
				return proposal{}, err
			}
		}
		path := freezePath(environment)
		src, err := fs.ReadFile(t.files(), path)
		if errors.Is(err, fs.ErrNotExist) {
			gone = nil
			return proposal{path: path}, nil
		}
		if err != nil {
			return proposal{}, err
		}
		content, took, err := spec.RemoveFreeze(src, path, match)
		if err != nil {
			return proposal{}, inFile(err, path, src)
		}
		gone = took
		if len(took) > 1 && !chosen {
			var reasons []string
			for _, f := range took {
				reasons = append(reasons, fmt.Sprintf("%q", f.Reason))
			}
			return proposal{}, fmt.Errorf("%s has %d freezes: say which by its reason: %s", where(environment), len(took), strings.Join(reasons, ", "))
		}
		if len(took) == 0 {
			return proposal{path: path}, nil
		}
		if len(strings.TrimSpace(string(content))) == 0 {
			content = nil
		}
		subject := fmt.Sprintf("unfreeze %s (%s): %s", whom(took[0].Services), where(environment), oneLine(took[0].Reason))
		return proposal{path: path, content: content, message: subject + "\n"}, nil
	})
	if err != nil {
		return err
	}
	r := frozen{Environment: environment, Services: []string{}, Commit: out.commit, Pushed: out.pushed, Changed: out.changed}
	if len(gone) > 0 {
		r.Reason, r.Services = gone[0].Reason, list(gone[0].Services)
	}
	if output == "json" {
		return s.json(r)
	}
	if !out.changed {
		fmt.Fprintf(s.Out, "no such freeze in %s: no commit was needed\n", freezePath(environment))
		return nil
	}
	fmt.Fprintf(s.Out, "%s  lifted the freeze of %s in %s: %s\n", spec.Short(out.commit), whom(gone[0].Services), where(environment), gone[0].Reason)
	whereTo(s, c, out)
	return nil
}
