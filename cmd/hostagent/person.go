package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func personCommand(f *flags, verb, short string, args cobra.PositionalArgs) *cobra.Command {
	use := verb
	if verb == "drain" || verb == "undrain" {
		use += " SERVICE"
	}
	return &cobra.Command{
		Use: use, Short: short, Args: args,
		RunE: func(cmd *cobra.Command, args []string) error {
			return fmt.Errorf("no agent")
		},
	}
}
