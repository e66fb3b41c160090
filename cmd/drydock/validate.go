package main

import (
	"fmt"
	"io/fs"
	"os"
	"strings"

	"drydock/hostagent/gitsource"
	"drydock/spec"
	"github.com/hashicorp/hcl/v2"
	"github.com/spf13/cobra"
)

// finding is one diagnostic for a program.
type finding struct {
	Severity string `json:"severity"` // error, warning
	Summary  string `json:"summary"`
	Detail   string `json:"detail,omitempty"`
	File     string `json:"file,omitempty"`
	Line     int    `json:"line,omitempty"`
	Column   int    `json:"column,omitempty"`
}

func findings(diags hcl.Diagnostics) []finding {
	out := []finding{}
	for _, d := range diags {
		f := finding{Severity: "error", Summary: d.Summary, Detail: d.Detail}
		if d.Severity == hcl.DiagWarning {
			f.Severity = "warning"
		}
		if d.Subject != nil {
			f.File, f.Line, f.Column = d.Subject.Filename, d.Subject.Start.Line, d.Subject.Start.Column
		}
		out = append(out, f)
	}
	return out
}

func newValidate(s streams) *cobra.Command {
	var host, commit, output string
	cmd := &cobra.Command{
		Use:   "validate [DIR]",
		Short: "Check a repository",
		Long: `Validate reads a directory as hosts would read a commit of it, and says what they
would not understand. Everything in the directory counts, committed or not, save
folders that begin with a dot. With --commit it reads that commit from git instead.

Values that only a host knows are checked by their type. With --host they have
their exact values, for that host alone: name=… sets its name, os=… and arch=…
its platform, anything else is a label.`,
		Example: `  drydock validate
  drydock validate --commit origin/main
  drydock validate --host name=web-1,role=web,zone=a`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := "."
			if len(args) > 0 {
				dir = args[0]
			}
			h, err := parseHost(host)
			if err != nil {
				return wrong(cmd, "validate: --host %s: %v", host, err)
			}
			fleet, diags, err := loadFrom(dir, commit)
			if err != nil {
				return err
			}
			diags = append(diags, fleet.CheckVersion(thisBuild().Version)...)
			if h == nil {
				diags = append(diags, fleet.Validate()...)
			} else {
				for _, env := range fleet.Environments() {
					h.Environment = env
					_, ds := fleet.For(*h)
					diags = append(diags, ds...)
				}
			}
			return sayValid(s, fleet, once(diags), output)
		},
	}
	cmd.Flags().StringVar(&host, "host", "", "check with this host's values: name=web-1,role=web")
	cmd.Flags().StringVar(&commit, "commit", "", "read this commit of the repository instead of the directory's files")
	outputFlag(cmd, &output, "text", "json")
	return cmd
}

func sayValid(s streams, fleet *spec.Fleet, diags hcl.Diagnostics, output string) error {
	errors, warnings, services := 0, 0, 0
	for _, d := range diags {
		if d.Severity == hcl.DiagError {
			errors++
		} else {
			warnings++
		}
	}
	envs := fleet.Environments()
	for _, env := range envs {
		list, _ := fleet.Services(env)
		services += len(list)
	}
	if output == "json" {
		if envs == nil {
			envs = []string{}
		}
		if err := s.json(map[string]any{"valid": errors == 0, "environments": envs, "services": services, "diagnostics": findings(diags)}); err != nil {
			return err
		}
	} else {
		printDiagnostics(s, diags, fleet.Files())
		switch {
		case errors > 0:
			s.note("%s, %s", plural(errors, "error"), plural(warnings, "warning"))
		case len(envs) == 0:
			fmt.Fprintln(s.Out, "Valid, but there is no environment: a folder with *.hcl files in it. To begin: drydock init")
		default:
			text := fmt.Sprintf("Valid: %s in %s", plural(services, "service"), strings.Join(envs, ", "))
			if warnings > 0 {
				text += ", " + plural(warnings, "warning")
			}
			fmt.Fprintln(s.Out, text)
		}
	}
	if errors > 0 {
		return exitCode(1)
	}
	return nil
}

func plural(n int, thing string) string { return count(fmt.Sprint(n), thing) }

// once leaves out diagnostics that were found twice.
func once(diags hcl.Diagnostics) hcl.Diagnostics {
	seen := map[string]bool{}
	var out hcl.Diagnostics
	for _, d := range diags {
		key := fmt.Sprint(d.Severity, d.Subject, d.Summary, d.Detail)
		if !seen[key] {
			seen[key] = true
			out = append(out, d)
		}
	}
	return out
}

// parseHost reads name=web-1,role=web; nil for "".
func parseHost(s string) (*spec.Host, error) {
	if s == "" {
		return nil, nil
	}
	h := &spec.Host{OS: "linux", Arch: "amd64", Labels: map[string]string{}}
	for pair := range strings.SplitSeq(s, ",") {
		k, v, ok := strings.Cut(strings.TrimSpace(pair), "=")
		if !ok || k == "" {
			return nil, fmt.Errorf("%q is not label=value", pair)
		}
		switch k {
		case "name":
			h.Name = v
		case "os":
			h.OS = v
		case "arch":
			h.Arch = v
		default:
			h.Labels[k] = v
		}
	}
	if h.Name == "" {
		return nil, fmt.Errorf("a host has a name: name=web-1,%s", s)
	}
	return h, nil
}

// loadFrom reads a directory, or a commit of the repository around it.
func loadFrom(dir, rev string) (*spec.Fleet, hcl.Diagnostics, error) {
	if rev == "" {
		if !isDir(dir) {
			return nil, nil, fmt.Errorf("%s is no directory: name your config repository", dir)
		}
		fleet, diags := spec.Load("", os.DirFS(dir))
		return fleet, diags, nil
	}
	repo, err := gitsource.OpenRepository(dir)
	if err != nil {
		return nil, nil, err
	}
	defer repo.Close()
	fsys, hash, err := commitFS(repo, rev)
	if err != nil {
		return nil, nil, err
	}
	fleet, diags := spec.Load(hash, fsys)
	return fleet, diags, nil
}

func commitFS(repo *gitsource.Repository, rev string) (fs.FS, string, error) {
	hash, err := repo.Resolve(rev)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", rev, err)
	}
	fsys, err := repo.FS(hash)
	return fsys, hash, err
}
