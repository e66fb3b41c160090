package main

import (
	"context"
	"fmt"
	"slices"

	"drydock/spec"
	"github.com/spf13/cobra"
)

func newRollback(s streams) *cobra.Command {
	var place placeFlags
	var environment, to, output string
	cmd := &cobra.Command{
		Use:   "rollback SERVICE --env ENV [--to V]",
		Short: "Name an older release again",
		Long: `Rollback makes a new commit that names an older release, with the digest that it
had then. Without --to it is the release that stood before the present one was
first named, so that a second rollback goes further back and not forth again.

The release is looked for in the history of the file that declares the service.
History itself is never rewritten.`,
		Example: `  drydock rollback web --env prod --push
  drydock rollback web --env prod --to 1.4.1 --push`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if environment == "" {
				return wrong(cmd, "rollback: say which environment with --env")
			}
			c, err := place.open(cmd.Context(), cmd)
			if err != nil {
				return err
			}
			defer c.close()
			return moveRelease(cmd.Context(), s, c, environment, args[0], output, func(ctx context.Context, t tree, now declared) (spec.Change, string, error) {
				if to == now.release.Version {
					return now.release, "", nil
				}
				target, err := olderRelease(ctx, t, now, to)
				if err != nil {
					return spec.Change{}, "", err
				}
				next := target.release
				next.Attempt = 1
				body := fmt.Sprintf("Rollback to the release of %s.", spec.Short(target.commit))
				return next, releaseMessage(now.subject(next), body, now, next, nil), nil
			})
		},
	}
	place.register(cmd)
	cmd.Flags().StringVarP(&environment, "env", "e", "", "the environment: a folder of the repository")
	cmd.Flags().StringVar(&to, "to", "", "the version to go back to (default: the one before the present one)")
	offerNames(cmd)
	outputFlag(cmd, &output, "text", "json")
	return cmd
}

// mostNamed bounds how many older releases an error names, newest first.
const mostNamed = 10

// olderRelease finds where to go back to: a version, or without one the release
// that stood before the present one was first named.
func olderRelease(ctx context.Context, t tree, now declared, version string) (past, error) {
	had, err := releases(ctx, t, now.path, now.service, "")
	if err != nil {
		return past{}, err
	}
	var known []string
	first := -1
	for i, p := range had {
		if version != "" && p.release.Version == version {
			return p, nil
		}
		if same(p.release, now.release) {
			first = i
		}
		if v := p.release.Version; v != now.release.Version && !slices.Contains(known, v) && len(known) < mostNamed {
			known = append(known, v)
		}
	}
	if version == "" && first >= 0 && first+1 < len(had) {
		return had[first+1], nil
	}
	if t.shallow(ctx) {
		return past{}, errNoHistory
	}
	if version != "" {
		return past{}, fmt.Errorf("%s has had no %s %s%s\nA release that never ran here is a bump", now.environment, now.service, version, suggest(version, known, "it has had"))
	}
	return past{}, fmt.Errorf("%s has had no release of %s before %s: name one with drydock bump", now.environment, now.service, now.release.Version)
}
