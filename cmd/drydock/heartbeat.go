package main

import (
	"context"
	"fmt"
	"time"

	"drydock/spec"
	"github.com/spf13/cobra"
)

// beat is what heartbeat prints.
type beat struct {
	Last    string `json:"last"` // when the newest commit was made before
	Commit  string `json:"commit"`
	Pushed  bool   `json:"pushed"`
	Changed bool   `json:"changed"`
}

func newHeartbeat(s streams) *cobra.Command {
	var place placeFlags
	var key keyFlags
	var every time.Duration
	var output string
	cmd := &cobra.Command{
		Use:   "heartbeat [--every 24h] [--push]",
		Short: "Show hosts that nobody holds commits back",
		Long: `Heartbeat makes a signed commit that changes nothing. Hosts whose trust section
sets freshness begin no rollout once nothing newer was accepted for so long; a
scheduled job that runs this keeps them fresh through quiet weeks. It asks nobody
anything: its key is a robot's, with the permission operate.

With --every it is a success without a commit while the newest commit, whoever
made it, is younger.`,
		Example: `  drydock heartbeat --every 24h --push --key /etc/drydock/heartbeat_key
  drydock heartbeat --every 24h --repo https://git.acme.example/ops/releases.git --key /etc/drydock/heartbeat_key`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if every < 0 {
				return wrong(cmd, "heartbeat: --every %s is less than nothing", every)
			}
			c, err := place.open(cmd.Context(), cmd)
			if err != nil {
				return err
			}
			defer c.close()
			return heartbeat(cmd.Context(), s, c, key, every, output)
		},
	}
	place.register(cmd)
	key.register(cmd)
	cmd.Flags().DurationVar(&every, "every", 0, "only if the newest commit is at least so old")
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	outputFlag(cmd, &output, "text", "json")
	return cmd
}

func heartbeat(ctx context.Context, s streams, c *clone, key keyFlags, every time.Duration, output string) error {
	var last time.Time
	out, err := c.commit(ctx, func(ctx context.Context, t tree) (proposal, error) {
		when, err := t.run(ctx, "log", "-1", "--format=%cI", t.head)
		if err != nil {
			return proposal{}, err
		}
		if last, err = time.Parse(time.RFC3339, when); err != nil {
			return proposal{}, fmt.Errorf("commit %s has no readable date: %w", spec.Short(t.head), err)
		}
		if every > 0 && time.Since(last) < every {
			return proposal{}, nil
		}
		p := proposal{message: "heartbeat " + time.Now().UTC().Format(time.RFC3339) + "\n"}
		p.sign, err = key.forCommit(ctx, s, t.git, nil)
		return p, err
	})
	if err != nil {
		return err
	}
	if output == "json" {
		return s.json(beat{last.UTC().Format(time.RFC3339), out.commit, out.pushed, out.changed})
	}
	if !out.changed {
		fmt.Fprintf(s.Out, "the newest commit is of %s: no heartbeat was needed\n", last.UTC().Format(time.RFC3339))
		return nil
	}
	fmt.Fprintf(s.Out, "%s  heartbeat\n", spec.Short(out.commit))
	whereTo(s, c, out)
	return nil
}
