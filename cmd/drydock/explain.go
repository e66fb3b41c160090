package main

import (
	"fmt"

	"drydock/spec"
	"github.com/spf13/cobra"
)

func newExplain(s streams) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "explain [PATH]",
		Short: "The language's reference, from its schema",
		Example: `  drydock explain
  drydock explain service.rollout
  drydock explain service.drain.file`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			path := ""
			if len(args) > 0 {
				path = args[0]
			}
			r, err := spec.Look(path)
			if err != nil {
				return err
			}
			if output == "json" {
				return s.json(r)
			}
			_, err = fmt.Fprint(s.Out, r.String())
			return err
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return referencePaths(word), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
		},
	}
	outputFlag(cmd, &output, "text", "json")
	return cmd
}

// referencePaths are the entries one step below the last dot of a word.
func referencePaths(word string) []string {
	parent := ""
	for i := len(word) - 1; i >= 0; i-- {
		if word[i] == '.' {
			parent = word[:i]
			break
		}
	}
	r, err := spec.Look(parent)
	if err != nil {
		return nil
	}
	var out []string
	for _, b := range r.Blocks {
		out = append(out, b.Path)
	}
	for _, a := range r.Attributes {
		if parent != "" {
			out = append(out, parent+"."+a.Name)
		}
	}
	return out
}
