package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"drydock/spec"
	"github.com/spf13/cobra"
)

// offerNames completes --env, and the service, from the files of the clone. A
// shell that completes wants words or nothing: never an error, never the network.
func offerNames(cmd *cobra.Command) {
	services := func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return servicesAround(cmd), cobra.ShellCompDirectiveNoFileComp
	}
	_ = cmd.RegisterFlagCompletionFunc("env", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return environments(filesAround(cmd)), cobra.ShellCompDirectiveNoFileComp
	})
	if cmd.Flags().Lookup("service") != nil { // its argument is a reason
		_ = cmd.RegisterFlagCompletionFunc("service", services)
		cmd.ValidArgsFunction = cobra.NoFileCompletions
		return
	}
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return services(cmd, args, word)
	}
}

// servicesAround are those of --env or, before that is said, of all.
func servicesAround(cmd *cobra.Command) []string {
	fsys := filesAround(cmd)
	envs := environments(fsys)
	if env := cmd.Flag("env").Value.String(); env != "" {
		envs = []string{env}
	}
	var names []string
	for _, env := range envs {
		_, known, _ := spec.Locate(fsys, env, "")
		names = append(names, known...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// filesAround is the clone that the command would work in; empty if there is
// none, or it is to be made yet.
func filesAround(cmd *cobra.Command) fs.FS {
	none := os.DirFS("")
	dir, err := filepath.Abs(cmd.Flag("directory").Value.String())
	if err != nil || cmd.Flag("repo").Changed {
		return none
	}
	for {
		if _, err := os.Lstat(filepath.Join(dir, ".git")); err == nil {
			return os.DirFS(dir)
		}
		up := filepath.Dir(dir)
		if up == dir {
			return none
		}
		dir = up
	}
}
