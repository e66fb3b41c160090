package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"drydock/spec"
)

// manCommand writes the man pages when the packages are built.
func manCommand() *cobra.Command {
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
			if err := doc.GenManTree(cmd.Root(), &doc.GenManHeader{Section: "8", Source: "Drydock", Manual: "Drydock"}, args[0]); err != nil {
				return err
			}
			page, err := configPage("hostagent.hcl")
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(args[0], "hostagent.hcl.5"), []byte(page), 0o644)
		},
	}
}

// configPage is the man page of the host's own file, from the language's
// reference: what `drydock explain` says, for a host that has no drydock.
func configPage(root string) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH %q 5 \"\" \"Drydock\" \"Drydock\"\n.SH NAME\n%s \\- the host's own configuration\n", strings.ToUpper(root), roff(root))
	paths := []string{root}
	for len(paths) > 0 {
		r, err := spec.Look(paths[0])
		if err != nil {
			return "", err
		}
		paths = paths[1:]
		heading := "DESCRIPTION"
		if name, ok := strings.CutPrefix(r.Path, root+"."); ok {
			heading = name
			for _, label := range r.Labels {
				heading += " " + strings.ToUpper(label)
			}
		}
		fmt.Fprintf(&b, ".SH %q\n%s%s\n", roff(heading), roff(r.Doc), unbuilt(r.Built))
		for _, a := range r.Attributes {
			fmt.Fprintf(&b, ".TP\n\\fB%s\\fP (%s)\n%s\n", roff(a.Name), roff(strings.Join(kindOf(a), ", ")), roff(a.Doc))
		}
		for _, block := range r.Blocks {
			paths = append(paths, block.Path)
		}
	}
	b.WriteString(".SH \"SEE ALSO\"\n\\fBhostagent(8)\\fP, /usr/share/doc/hostagent/examples/hostagent.hcl\n")
	return b.String(), nil
}

func unbuilt(built bool) string {
	if built {
		return ""
	}
	return "\n(Not built yet.)"
}

func kindOf(a spec.AttributeReference) []string {
	words := []string{a.Type}
	if a.Form != "" {
		words = append(words, a.Form)
	}
	if a.Required {
		words = append(words, "required")
	}
	if a.Default != "" {
		words = append(words, "default "+a.Default)
	}
	if len(a.Words) > 0 {
		words = append(words, "one of "+strings.Join(a.Words, ", "))
	}
	return words
}

// roff is text that means nothing to troff but itself.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}
