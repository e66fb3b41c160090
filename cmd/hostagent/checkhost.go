package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"drydock/hostagent"
	"drydock/spec"
)

func checkHostCommand(f *flags) *cobra.Command {
	return &cobra.Command{
		Use:   "check-host",
		Short: "Find what this host lacks of what is declared for it, and what to ask provisioning for",
		Long: `check-host looks at everything that the repository's newest commit declares for
this host, and finds what provisioning has not made yet: a unit, user, directory,
socket, database, program or credential; and what the agent itself needs. It
waits for no bump and makes nothing of it: Drydock never does.

It asks the running agent, or looks itself where none runs. Before every drain
the agent looks in the same way: while something is missing the old release
serves, and the new one waits on gate "host".

Exit codes: 0 everything is there; 1 something is missing or wrong, or an error.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			brief()
			cfg, err := loadConfig(f)
			if err != nil {
				return err
			}
			rep, err := checkHost(cmd, f, cfg)
			if err != nil {
				return err
			}
			if err := f.show(rep, func() { printHostReport(f.Out, rep) }); err != nil {
				return err
			}
			if rep.Lacks() {
				return exit(exitError)
			}
			return nil
		},
	}
}

// checkHost asks the running agent, whose credentials may be its alone, or looks
// itself where none runs.
func checkHost(cmd *cobra.Command, f *flags, cfg hostagent.Config) (hostagent.HostReport, error) {
	if rep, ran, err := checkHostThroughAgent(cmd.Context(), cfg); ran {
		return rep, err
	}
	h, readOnly := hooks{}, true
	if _, err := os.Stat(filepath.Join(cfg.State, journalFile)); errors.Is(err, fs.ErrNotExist) {
		// No agent ever ran here, and this must not look as if one had.
		dir, err := os.MkdirTemp("", "hostagent-check-host-")
		if err != nil {
			return hostagent.HostReport{}, fmt.Errorf("a place for a clone of the repository: %w. Make room there, or name another with TMPDIR", err)
		}
		defer os.RemoveAll(dir)
		h.scratch, readOnly = dir, false
	}
	p, err := assemble(cfg, f, logger(f, false), readOnly, h)
	if err != nil {
		return hostagent.HostReport{}, err
	}
	defer p.Close()
	return p.agent.CheckHost(cmd.Context(), p.own())
}

// printHostReport is `check-host` for people: a row a need, and below one that
// is missing, what is wrong and what to ask for.
func printHostReport(w io.Writer, r hostagent.HostReport) {
	if r.Source != "" {
		fmt.Fprintf(w, "%s %s\n\n", paint(w, red, "source:"), strings.ReplaceAll(r.Source, "\n", "\n        "))
	}
	var buf strings.Builder
	tw := tabwriter.NewWriter(&buf, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "SERVICE\tNEEDS\tWHERE\tFOUND\t")
	for _, n := range r.Needs {
		service := n.Service
		if service == "" {
			service = "(hostagent)"
		}
		where := n.Origin
		if where == "" {
			where = "-"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t\n", service, n.Needs, where, foundWords[n.Found])
	}
	_ = tw.Flush()
	lines := strings.Split(strings.TrimRight(buf.String(), "\n"), "\n")
	fmt.Fprintln(w, strings.TrimRight(lines[0], " "))
	for i, n := range r.Needs {
		words := foundWords[n.Found]
		line := strings.TrimSuffix(strings.TrimRight(lines[i+1], " "), words)
		fmt.Fprintln(w, line+paint(w, foundColour(n.Found), words))
		if n.Found.Amiss() {
			fmt.Fprintf(w, "  %s\n", strings.ReplaceAll(sentences(n.Problem, n.Ask), "\n", "\n  "))
		}
	}
	fmt.Fprintln(w)
	switch {
	case r.Commit == "":
		fmt.Fprintln(w, "What is declared for this host is not known.")
	case r.Missing+r.Wrong > 0:
		if r.Missing > 0 {
			fmt.Fprintf(w, "Missing: %d of what commit %s asks for. Ask provisioning for it, or change the line that asks; Drydock makes none of it.\n", r.Missing, spec.Short(r.Commit))
		}
		if r.Wrong > 0 {
			fmt.Fprintf(w, "Wrong: %d in what commit %s declares or releases. Mend it there; provisioning cannot.\n", r.Wrong, spec.Short(r.Commit))
		}
	case r.Lacks():
		fmt.Fprintf(w, "Not all of commit %s can be told.\n", spec.Short(r.Commit))
	default:
		fmt.Fprintf(w, "This host has what commit %s asks for.\n", spec.Short(r.Commit))
	}
}

// sentences puts one full stop after each text.
func sentences(texts ...string) string {
	var all []string
	for _, t := range texts {
		if t = strings.TrimRight(t, ". \n"); t != "" {
			all = append(all, t+".")
		}
	}
	return strings.Join(all, " ")
}

var foundWords = map[hostagent.Found]string{
	hostagent.Ready: "yes", hostagent.Missing: "MISSING", hostagent.Wrong: "WRONG", hostagent.Later: "known after the fetch",
	hostagent.Unasked: "not asked in advance", hostagent.Unclear: "not known",
}

func foundColour(f hostagent.Found) colour {
	switch {
	case f == hostagent.Ready:
		return green
	case f.Amiss():
		return red
	}
	return dim
}
