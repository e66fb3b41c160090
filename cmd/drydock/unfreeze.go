package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

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
Nothing frozen is a success without a commit; a freeze that still stands is not.`,
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
	offerNames(cmd)
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
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
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
			return settled(path), refuseStanding(t.files(), environment, time.Now())
		}
		if len(strings.TrimSpace(string(content))) == 0 {
			content = nil
		}
		subject := fmt.Sprintf("unfreeze %s (%s): %s", whom(took[0].Services), where(environment), oneLine(took[0].Reason))
		return one(path, content, subject+"\n"), nil
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
		fmt.Fprintf(s.Out, "nothing is frozen in %s: no commit was needed\n", where(environment))
		return nil
	}
	fmt.Fprintf(s.Out, "%s  lifted the freeze of %s in %s: %s\n", spec.Short(out.commit), whom(gone[0].Services), where(environment), gone[0].Reason)
	whereTo(s, c, out)
	return nil
}

// refuseStanding says no if there are freezes after all, of another reason or
// in another file: who lifts one wants things to move.
func refuseStanding(fsys fs.FS, environment string, now time.Time) error {
	fleet, _ := spec.Load("", fsys)
	envs := []string{environment}
	if environment == "" {
		envs = fleet.Environments()
	}
	if faults := fleet.Faults(environment); environment != "" && len(faults) > 0 {
		return &fileError{faults, fleet.Files()} // nobody knows what is frozen
	}
	var lines []string
	for _, env := range envs {
		w, _ := fleet.For(spec.Host{Environment: env})
		for _, f := range w.Freezes {
			at := f.Origin.String()
			if !f.Until.IsZero() && !f.Until.After(now) || environment == "" && strings.Contains(at, "/") {
				continue
			}
			line := fmt.Sprintf("%s  %q, of %s%s", at, f.Reason, whom(f.Services), untilWords(f.Until))
			if !slices.Contains(lines, line) {
				lines = append(lines, line)
			}
		}
	}
	if len(lines) == 0 {
		return nil
	}
	return fmt.Errorf("%s has no such freeze, and these stand:\n%s\nName one of that file by its reason or services (with --all those of %s); delete any other where it stands",
		freezePath(environment), strings.Join(lines, "\n"), freezePath(""))
}
