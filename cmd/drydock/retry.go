package main

import (
	"context"
	"fmt"

	"drydock/spec"
	"github.com/spf13/cobra"
)

func newRetry(s streams) *cobra.Command {
	var place placeFlags
	var environment, output string
	cmd := &cobra.Command{
		Use:   "retry SERVICE --env ENV",
		Short: "Try the same release once more",
		Long: `Retry counts up the attempt of the present release. Hosts that have quarantined
the release because it failed on them take it up again. It is for a release that
was right, after what was wrong around it was mended.`,
		Example: `  drydock retry web --env prod --push`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if environment == "" {
				return wrong(cmd, "retry: say which environment with --env")
			}
			c, err := place.open(cmd.Context(), cmd)
			if err != nil {
				return err
			}
			defer c.close()
			return moveRelease(cmd.Context(), s, c, environment, args[0], output, func(_ context.Context, _ tree, now declared) (spec.Change, string, error) {
				next := now.release
				next.Attempt = max(next.Attempt, 1) + 1
				subject := fmt.Sprintf("%s %s attempt %d (%s)", now.service, next.Version, next.Attempt, now.environment)
				return next, releaseMessage(subject, "", now, next, nil), nil
			})
		},
	}
	place.register(cmd)
	cmd.Flags().StringVarP(&environment, "env", "e", "", "the environment: a folder of the repository")
	offerNames(cmd)
	outputFlag(cmd, &output, "text", "json")
	return cmd
}
