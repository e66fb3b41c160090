package main

import (
	"fmt"
	"slices"
	"strings"

	"drydock/reconcile/trust"
	"drydock/spec"
	"github.com/spf13/cobra"
)

func newExplain(s streams) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "explain [PATH | trust]",
		Short: "The language's reference, from its schema; and trust",
		Long: `Explain prints an entry of the language's reference: of all of it, a block, an
attribute, or hostagent.hcl, the host's own file. "trust" is a page for teams: which
settings of a forge keep signed commits signed, and what to do about a squash.`,
		Example: `  drydock explain
  drydock explain service.rollout
  drydock explain service.drain.file
  drydock explain trust`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := ""
			if len(args) > 0 {
				path = args[0]
			}
			for _, t := range topics() {
				if t.Topic == path && output == "json" {
					return s.json(t)
				} else if t.Topic == path {
					_, err := fmt.Fprint(s.Out, t.Text)
					return err
				}
			}
			r, err := spec.Look(path)
			if places := deeper(path); err != nil && len(places) > 0 {
				list := strings.Join(places[:min(len(places), mostPlaces)], ", ")
				if more := len(places) - mostPlaces; more > 0 {
					list += fmt.Sprintf(" and %d more", more)
				}
				return fmt.Errorf("%s does not stand at the language's top, but inside it: %s\nRun: drydock explain %s", path, list, places[0])
			}
			if err != nil {
				return elsewhere(cmd.Root(), path, err)
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

// elsewhere points to where a word is explained that is none of the language: a
// command, or what a role may do.
func elsewhere(root *cobra.Command, word string, err error) error {
	for _, c := range root.Commands() {
		if c.Name() == word && !c.Hidden {
			return fmt.Errorf("%s is a command, and no word of the language\nRun: drydock %s --help", word, word)
		}
	}
	if slices.Contains(trust.Permissions(), trust.Permission(word)) {
		return fmt.Errorf("%s is something that a role may do, and no word of the language\nRun: drydock explain hostagent.hcl.trust.role", word)
	}
	return err
}

// mostPlaces bounds how many places an error names.
const mostPlaces = 6

// deeper are the entries of the reference whose path ends in this one: who asks
// for migrate means service.migrate. A profile has what a service has, and is not
// named beside it.
func deeper(path string) (places []string) {
	next := []string{"", "hostagent.hcl"}
	for len(next) > 0 {
		r, err := spec.Look(next[0])
		next = next[1:]
		if err != nil {
			continue
		}
		var inside []string
		for _, b := range r.Blocks {
			inside = append(inside, b.Path)
			next = append(next, b.Path)
		}
		for _, a := range r.Attributes {
			inside = append(inside, r.Path+"."+a.Name)
		}
		for _, p := range inside {
			twin, ofProfile := strings.CutPrefix(p, "profile.")
			if path != "" && strings.HasSuffix(p, "."+path) && !(ofProfile && slices.Contains(places, "service."+twin)) {
				places = append(places, p)
			}
		}
	}
	slices.SortStableFunc(places, func(a, b string) int {
		return strings.Count(a, ".") - strings.Count(b, ".")
	})
	return places
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
	if parent == "" {
		for _, t := range topics() {
			out = append(out, t.Topic)
		}
	}
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
