package main

import (
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// newMan writes the man pages when the packages are built.
func newMan(streams) *cobra.Command {
	return &cobra.Command{
		Use:    "man DIR",
		Short:  "Write man pages into a directory",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			cmd.Root().DisableAutoGenTag = true
			// Dated by $SOURCE_DATE_EPOCH, which the packages' build sets.
			return doc.GenManTree(cmd.Root(), &doc.GenManHeader{Section: "1", Source: "Drydock", Manual: "Drydock"}, args[0])
		},
	}
}
