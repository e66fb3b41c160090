package main

import (
	"slices"
	"time"

	"drydock/spec"
	"github.com/spf13/cobra"
)

func newAttest(s streams) *cobra.Command {
	var f ballotFlags
	cmd := &cobra.Command{
		Use:   "attest SERVICE NAME… --env ENV [--expires 720h | --until TIME] [--key FILE] [--yes]",
		Short: "Sign that something is true which no machine can see",
		Long: `Attest signs that what a migrate block requires is so: that an index is built, a
table was backed up, a customer was told. It is for the release and declaration
that the branch's newest commit has (with --push: the upstream's), and for no
other. Each NAME must be one that a migrate block of the service lists in
requires.

Keys, --print and --signature are as with drydock approve.`,
		Example: `  drydock attest web orders-index-built --env prod --push`,
		Args:    cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := f.ballot(cmd, time.Now())
			if err != nil {
				return err
			}
			b.services, b.names = args[:1], args[1:]
			return f.carry(cmd, s, b)
		},
	}
	f.register(cmd)
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) == 0 {
			return servicesAround(cmd), cobra.ShellCompDirectiveNoFileComp
		}
		fleet, _ := spec.Load("", filesAround(cmd))
		all, _ := fleet.Services(cmd.Flag("env").Value.String())
		for _, d := range all {
			if d.Name == args[0] {
				names := d.Requires()
				return slices.DeleteFunc(names, func(n string) bool { return slices.Contains(args[1:], n) }), cobra.ShellCompDirectiveNoFileComp
			}
		}
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return cmd
}
