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

// frozen is what freeze and unfreeze print.
type frozen struct {
	Environment string   `json:"environment"` // "" is every one
	Reason      string   `json:"reason"`
	Services    []string `json:"services"` // none is all
	Until       string   `json:"until,omitempty"`
	Commit      string   `json:"commit"`
	Pushed      bool     `json:"pushed"`
	Changed     bool     `json:"changed"`
}

func newFreeze(s streams) *cobra.Command {
	var place placeFlags
	var environment, until, output string
	var all bool
	var services []string
	cmd := &cobra.Command{
		Use:   "freeze REASON (--env ENV | --all) [--service S]… [--until TIME]",
		Short: "Stop new rollouts for a time",
		Long: `Freeze adds a freeze block to <environment>/freeze.hcl, or with --all to
freeze.hcl at the root. While it stands hosts begin no new rollout of these
services; reverts and repairs go on. A freeze that stands already is a success
without a commit.`,
		Example: `  drydock freeze "year-end closing" --env prod --until 2027-01-04T08:00:00+01:00 --push
  drydock freeze "database move" --env prod --service web --service api --until 4h`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (environment == "") != all {
				return wrong(cmd, "freeze: say which environment with --env, or --all for every one")
			}
			f := spec.Freeze{Reason: strings.TrimSpace(args[0]), Services: services}
			if f.Reason == "" {
				return wrong(cmd, "freeze: say why, for the people who will wait")
			}
			if until != "" {
				t, err := pointInTime(until, time.Now())
				if err != nil {
					return wrong(cmd, "freeze: --until %s: %v", until, err)
				}
				f.Until = t
			}
			c, err := place.open(cmd.Context(), cmd)
			if err != nil {
				return err
			}
			defer c.close()
			return freeze(cmd.Context(), s, c, environment, output, f)
		},
	}
	place.register(cmd)
	cmd.Flags().StringVarP(&environment, "env", "e", "", "the environment: a folder of the repository")
	cmd.Flags().BoolVar(&all, "all", false, "every environment")
	cmd.Flags().StringSliceVar(&services, "service", nil, "only this service; may be repeated (default: all)")
	cmd.Flags().StringVar(&until, "until", "", "when it ends: RFC 3339, or a time from now such as 4h (default: when it is lifted)")
	offerNames(cmd)
	outputFlag(cmd, &output, "text", "json")
	return cmd
}

// pointInTime reads RFC 3339 or a time from now.
func pointInTime(s string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(d).UTC().Truncate(time.Second), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, errors.New("a time is 2027-01-04T08:00:00Z, or 4h from now")
	}
	if !t.After(now) {
		return t, errors.New("that has passed already")
	}
	return t, nil
}

func freezePath(environment string) string {
	if environment == "" {
		return spec.FreezeFile
	}
	return environment + "/" + spec.FreezeFile
}

func where(environment string) string {
	if environment == "" {
		return "every environment"
	}
	return environment
}

func freeze(ctx context.Context, s streams, c *clone, environment, output string, f spec.Freeze) error {
	out, err := c.commit(ctx, func(ctx context.Context, t tree) (proposal, error) {
		if environment != "" {
			if err := checkEnvironment(t.files(), environment); err != nil {
				return proposal{}, err
			}
			for _, service := range f.Services {
				if _, err := locate(t.files(), environment, service); err != nil {
					return proposal{}, err
				}
			}
		}
		path := freezePath(environment)
		src, err := fs.ReadFile(t.files(), path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return proposal{}, err
		}
		content, err := spec.AddFreeze(src, path, f)
		if err != nil {
			return proposal{}, inFile(err, path, src)
		}
		if string(content) == string(src) {
			return settled(path), nil
		}
		subject := fmt.Sprintf("freeze %s (%s): %s", whom(f.Services), where(environment), oneLine(f.Reason))
		return one(path, content, subject+"\n"), nil
	})
	if err != nil {
		return err
	}
	if output == "json" {
		r := frozen{Environment: environment, Reason: f.Reason, Services: list(f.Services), Commit: out.commit, Pushed: out.pushed, Changed: out.changed}
		if !f.Until.IsZero() {
			r.Until = f.Until.Format(time.RFC3339)
		}
		return s.json(r)
	}
	if !out.changed {
		fmt.Fprintf(s.Out, "%s in %s: frozen for this reason already, no commit was needed\n", whom(f.Services), where(environment))
		return nil
	}
	fmt.Fprintf(s.Out, "%s  froze %s in %s%s  %s\n", spec.Short(out.commit), whom(f.Services), where(environment), untilWords(f.Until), freezePath(environment))
	whereTo(s, c, out)
	return nil
}

func whom(services []string) string {
	if len(services) == 0 {
		return "all services"
	}
	return strings.Join(services, ", ")
}

func untilWords(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return " until " + t.Format("Mon 2 Jan 2006 15:04 MST")
}

func list(s []string) []string {
	if s == nil {
		return []string{}
	}
	return slices.Clone(s)
}
