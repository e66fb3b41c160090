package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"drydock/hostagent/gitsource"
	"drydock/spec"
	"github.com/hashicorp/hcl/v2"
	"github.com/spf13/cobra"
)

// difference is what diff prints: the comparison of declarations, and what
// history says about it.
type difference struct {
	Base         string                  `json:"base"`
	Head         string                  `json:"head"`
	Environments []environmentDifference `json:"environments"`
	Diagnostics  []finding               `json:"diagnostics"` // of the head
	BaseFaults   []finding               `json:"base_diagnostics,omitempty"`
	errors       []error                 // both, with their lines
}

type environmentDifference struct {
	Name     string              `json:"name"`
	Held     string              `json:"held,omitempty"` // the fault that does
	Services []serviceDifference `json:"services"`
	Frozen   []spec.Freeze       `json:"frozen,omitempty"`
	Unfrozen []spec.Freeze       `json:"unfrozen,omitempty"`
}

type serviceDifference struct {
	spec.ServiceComparison
	Changes []change `json:"changes"` // of the service's source, newest first
	Authors []string `json:"authors"` // of these, sorted
}

// usualBase is what people compare with: what hosts follow, as it was when this
// clone last heard of it.
const usualBase = "origin/main"

func newDiff(s streams) *cobra.Command {
	var dir, host, output string
	cmd := &cobra.Command{
		Use:   "diff [BASE [HEAD]]",
		Short: "What merging would deploy",
		Long: `Diff compares what two commits declare: which services get another revision, on
which hosts, which changes and authors it carries (from the Drydock-Change
trailers of the commits between), and which gates hosts will wait for. BASE is
origin/main if not said, and HEAD the checked-out commit.

"base...head" compares with the commit where the two parted, as git does: what a
pull request brings. --output markdown is the comment for one.

Errors in either commit are said, with exit code 1, and what can be compared is
compared all the same.`,
		Example: `  drydock diff origin/main
  drydock diff origin/main...HEAD --output markdown
  drydock diff HEAD~1 --host name=web-1,role=web`,
		Args: cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				args = []string{usualBase}
			}
			base, head := args[0], "HEAD"
			merge := false
			if a, b, ok := strings.Cut(base, "..."); ok && len(args) == 1 {
				base, head, merge = a, b, true
			} else if a, b, ok := strings.Cut(base, ".."); ok && len(args) == 1 {
				base, head = a, b
			}
			if len(args) == 2 {
				head = args[1]
			}
			h, err := parseHost(host)
			if err != nil {
				return wrong(cmd, "diff: --host %s: %v", host, err)
			}
			if base == "" || head == "" {
				return wrong(cmd, "diff: two commits are compared: BASE HEAD, BASE..HEAD or BASE...HEAD")
			}
			d, err := compare(cmd.Context(), dir, base, head, merge, spec.CompareOptions{Host: h, Now: time.Now()})
			if err != nil && cmd.Flags().NArg() == 0 && strings.Contains(err.Error(), usualBase) {
				return fmt.Errorf("%w\nNo BASE was given, so that %s was taken; another is given as: drydock diff BASE", err, usualBase)
			}
			if err != nil {
				return err
			}
			return d.say(s, output)
		},
	}
	cmd.Flags().StringVarP(&dir, "directory", "C", ".", "the config repository")
	cmd.Flags().StringVar(&host, "host", "", "with this host's exact values, and only its services: name=web-1,role=web")
	outputFlag(cmd, &output, "text", "json", "markdown")
	_ = cmd.MarkFlagDirname("directory")
	return cmd
}

func (d *difference) say(s streams, output string) error {
	var err error
	switch output {
	case "json":
		err = s.json(d)
	case "markdown":
		_, err = fmt.Fprint(s.Out, d.markdown())
	default:
		_, err = fmt.Fprint(s.Out, d.text())
	}
	if err != nil || len(d.errors) == 0 {
		return err
	}
	if output != "json" { // which has them
		for _, e := range d.errors {
			report(s, e)
		}
	}
	if len(d.Diagnostics) == 0 {
		return nil // only the base has errors: this is what mends them
	}
	return exitCode(1)
}

func compare(ctx context.Context, dir, base, head string, merge bool, o spec.CompareOptions) (*difference, error) {
	ctx, cancel := context.WithTimeout(ctx, gitDeadline)
	defer cancel()
	if merge {
		fork, err := git{dir: dir}.run(ctx, "merge-base", "--end-of-options", base, head)
		if err != nil {
			return nil, fmt.Errorf("%s and %s have no commit in common here (a shallow clone? git fetch --unshallow): %w", base, head, err)
		}
		base = fork
	}
	repo, err := gitsource.OpenRepository(dir)
	if err != nil {
		return nil, err
	}
	defer repo.Close()
	baseFS, baseHash, err := commitFS(repo, base)
	if err != nil {
		return nil, err
	}
	headFS, headHash, err := commitFS(repo, head)
	if err != nil {
		return nil, err
	}
	loader := spec.NewLoader() // what both have is read once
	was, wasDiags := loader.Load(baseHash, baseFS)
	is, isDiags := loader.Load(headHash, headFS)
	wasDiags = errorsOnly(once(append(wasDiags, was.Validate()...)))
	isDiags = errorsOnly(once(append(isDiags, is.Validate()...)))
	c := spec.Compare(was, is, o)

	carried, err := changesBetween(ctx, repo, baseHash, headHash)
	if err != nil {
		return nil, err
	}
	d := &difference{Base: c.Base, Head: c.Head, Environments: []environmentDifference{}, Diagnostics: findings(isDiags), BaseFaults: findings(wasDiags)}
	if len(isDiags) > 0 {
		d.errors = append(d.errors, &fileError{isDiags, is.Files()})
	}
	if len(wasDiags) > 0 {
		d.errors = append(d.errors, fmt.Errorf("the base %s has errors", spec.Short(baseHash)), &fileError{wasDiags, was.Files()})
	}
	for _, e := range c.Environments {
		ed := environmentDifference{Name: e.Name, Held: e.Held, Services: []serviceDifference{}, Frozen: e.Frozen, Unfrozen: e.Unfrozen}
		for _, sc := range e.Services {
			sd := serviceDifference{ServiceComparison: sc, Changes: carried[e.Name+"/"+sc.Service], Authors: []string{}}
			if sd.Changes == nil || sc.Kind != spec.KindRelease && sc.Kind != spec.KindAdded && sc.Kind != spec.KindMoved {
				sd.Changes = []change{}
			}
			for _, ch := range sd.Changes {
				if !slices.Contains(sd.Authors, ch.Email) {
					sd.Authors = append(sd.Authors, ch.Email)
				}
			}
			slices.Sort(sd.Authors)
			ed.Services = append(ed.Services, sd)
		}
		d.Environments = append(d.Environments, ed)
	}
	return d, nil
}

func errorsOnly(diags hcl.Diagnostics) hcl.Diagnostics {
	return slices.DeleteFunc(diags, func(d *hcl.Diagnostic) bool { return d.Severity != hcl.DiagError })
}

// changesBetween collects the Drydock-Change trailers of the commits that head
// has and base has not, by environment/service. A change that two bumps carry
// is there once.
func changesBetween(ctx context.Context, repo *gitsource.Repository, base, head string) (map[string][]change, error) {
	out := map[string][]change{}
	for c, err := range repo.Log(ctx, base, head) {
		if err != nil {
			return nil, err
		}
		environment := ""
		for line := range strings.Lines(c.Message) {
			line = strings.TrimSpace(line)
			if r, ok := strings.CutPrefix(line, "Drydock-Release: "); ok {
				place, _, _ := strings.Cut(r, " ")
				environment, _, _ = strings.Cut(place, "/")
			}
			t, ok := strings.CutPrefix(line, "Drydock-Change: ")
			if !ok || environment == "" {
				continue
			}
			ch, ok := parseChange(t)
			key := environment + "/" + ch.Service
			if ok && !slices.ContainsFunc(out[key], func(o change) bool { return o.Hash == ch.Hash }) {
				out[key] = append(out[key], ch)
			}
		}
	}
	return out, nil
}
