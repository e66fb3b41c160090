package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"drydock/hostagent/api"
	"drydock/reconcile"
)

// personCommand is a word that a person says to the running agent. What the
// agent made of it is shown as status.
func personCommand(f *flags, verb, short string, args cobra.PositionalArgs) *cobra.Command {
	use := verb
	if verb == "drain" || verb == "undrain" {
		use += " SERVICE"
	}
	return &cobra.Command{
		Use: use, Short: short, Args: args,
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := loadConfig(f)
			if err != nil {
				return err
			}
			c := api.NewClient(cfg.State)
			told := func() {}
			switch verb {
			case "drain":
				told = follow(cmd.Context(), c, f.Err, "waiting until "+args[0]+" is out of rotation", args[0])
			case "undrain":
				told = follow(cmd.Context(), c, f.Err, "waiting until "+args[0]+" is back in rotation", args[0])
			}
			note, err := say(cmd.Context(), c, verb, args)
			told()
			if err != nil {
				if errors.Is(err, api.ErrNoAgent) {
					return fmt.Errorf("%w (%s). Start it with `hostagent run`; until then nothing follows what you say", api.ErrNoAgent, cfg.State)
				}
				return err
			}
			if note != "" {
				fmt.Fprintln(f.Err, note)
			}
			if verb == "sync" {
				fmt.Fprintln(f.Err, "the agent looks again now; this is how it stood before, and `hostagent status` says what comes of it")
			}
			var st reconcile.HostStatus
			if err := c.Status(cmd.Context(), &st); err != nil {
				return err
			}
			return f.show(st, func() { printStatus(f.Out, st, time.Now(), true) })
		},
	}
}

// say returns what the agent has to say about it besides its status; mostly "".
func say(ctx context.Context, c *api.Client, verb string, args []string) (note string, err error) {
	switch verb {
	case "sync":
		return "", c.Sync(ctx)
	case "pause":
		return "", c.Pause(ctx)
	case "resume":
		return "", c.Resume(ctx)
	case "drain":
		return "", c.Drain(ctx, args[0])
	}
	return c.Undrain(ctx, args[0])
}
