package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"drydock/spec"
	"github.com/spf13/cobra"
)

// mostOverride is for how long glass may stay broken: over a weekend. What takes
// longer is no emergency, and changes the declaration.
const mostOverride = 72 * time.Hour

// overridden is what override prints.
type overridden struct {
	Environment string   `json:"environment"`
	Reason      string   `json:"reason"`
	Services    []string `json:"services"` // none is all
	Skip        []string `json:"skip"`
	Until       string   `json:"until"`
	Opens       []string `json:"opens,omitempty"`
	Commit      string   `json:"commit"`
	Pushed      bool     `json:"pushed"`
	Changed     bool     `json:"changed"`
}

// overrideFlags are the command's.
type overrideFlags struct {
	place       placeFlags
	key         keyFlags
	environment string
	services    []string
	skip        []string
	period      time.Duration
	until       string
	end, yes    bool
	output      string
}

func newOverride(s streams) *cobra.Command {
	var f overrideFlags
	cmd := &cobra.Command{
		Use:   "override REASON --env ENV [--service S]… --skip GATE… (--for 2h | --until TIME) | override [REASON] --env ENV --end",
		Short: "Break the glass: pass gates for a time",
		Long: `Override adds an override block to <environment>/override.hcl: until it ends, at
most 72 hours from now, hosts pass the gates that --skip names for these services:
window, freeze, bake, approval-expiry. It never stands in for an approval that
nobody gave, nor for a signature.

What it opens is shown first, and asked about. The commit is signed, and its
subject says OVERRIDE, so that nobody has to look for it. The block ends by itself;
--end takes it away before, and tidies up one that has ended.`,
		Example: `  drydock override "checkout is down, fix is in 1.4.3" --env prod --service web --skip window,freeze --for 2h --push
  drydock override --end --env prod --push`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.environment == "" {
				return wrong(cmd, "override: say which environment with --env; there is none for all of them at once")
			}
			reason := ""
			if len(args) > 0 {
				reason = strings.TrimSpace(args[0])
			}
			o, err := f.block(cmd, reason, time.Now())
			if err != nil {
				return err
			}
			c, err := f.place.open(cmd.Context(), cmd)
			if err != nil {
				return err
			}
			defer c.close()
			if f.end {
				return f.endIt(cmd.Context(), s, c, reason)
			}
			return f.breakGlass(cmd.Context(), s, c, o)
		},
	}
	f.place.register(cmd)
	f.key.register(cmd)
	cmd.Flags().StringVarP(&f.environment, "env", "e", "", "the environment: a folder of the repository")
	cmd.Flags().StringSliceVar(&f.services, "service", nil, "only this service; may be repeated (default: all)")
	cmd.Flags().StringSliceVar(&f.skip, "skip", nil, "the gates to pass: "+strings.Join(spec.Skips(), ", "))
	cmd.Flags().DurationVar(&f.period, "for", 0, "for how long, at most 72h")
	cmd.Flags().StringVar(&f.until, "until", "", "when it ends instead: RFC 3339, or a time from now such as 4h")
	cmd.Flags().BoolVar(&f.end, "end", false, "take the override away")
	cmd.Flags().BoolVarP(&f.yes, "yes", "y", false, "do not ask, for scripts")
	offerNames(cmd)
	_ = cmd.RegisterFlagCompletionFunc("skip", cobra.FixedCompletions(spec.Skips(), cobra.ShellCompDirectiveNoFileComp))
	outputFlag(cmd, &f.output, "text", "json")
	return cmd
}

// block is the override that the flags ask for.
func (f *overrideFlags) block(cmd *cobra.Command, reason string, now time.Time) (o spec.Override, err error) {
	if f.end {
		if f.period != 0 || f.until != "" || len(f.skip) > 0 {
			return o, wrong(cmd, "override: --end takes one away; it has no --skip, --for or --until")
		}
		return o, nil
	}
	switch {
	case reason == "":
		return o, wrong(cmd, "override: say why, for the people who will ask")
	case len(f.skip) == 0:
		return o, wrong(cmd, "override: say with --skip which gates: %s", strings.Join(spec.Skips(), ", "))
	case (f.period == 0) == (f.until == ""):
		return o, wrong(cmd, "override: say when it ends, with --for 2h or with --until")
	}
	for _, gate := range f.skip {
		if !slices.Contains(spec.Skips(), gate) {
			return o, wrong(cmd, "override: no override opens %q%s", gate, suggest(gate, spec.Skips(), "it opens"))
		}
	}
	until := now.Add(f.period)
	if f.until != "" {
		if until, err = pointInTime(f.until, now); err != nil {
			return o, wrong(cmd, "override: --until %s: %v", f.until, err)
		}
	}
	if !until.After(now) || until.Sub(now) > mostOverride {
		return o, wrong(cmd, "override: it would end %s; an override lasts from now on, at most 72h: what takes longer is a change of the declaration", until.UTC().Format(time.RFC3339))
	}
	return spec.Override{Reason: reason, Services: f.services, Skip: unique(f.skip), Until: until.UTC().Truncate(time.Second)}, nil
}

func overridePath(environment string) string { return environment + "/" + spec.OverrideFile }

// edit reads the environment's file, changes it and signs the commit of it.
func (f *overrideFlags) edit(ctx context.Context, s streams, c *clone, change func(t tree, path string, src []byte) (content []byte, message string, err error)) (outcome, error) {
	return c.commit(ctx, func(ctx context.Context, t tree) (proposal, error) {
		if err := checkEnvironment(t.files(), f.environment); err != nil {
			return proposal{}, err
		}
		for _, service := range f.services {
			if _, err := locate(t.files(), f.environment, service); err != nil {
				return proposal{}, err
			}
		}
		path := overridePath(f.environment)
		src, err := fs.ReadFile(t.files(), path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return proposal{}, err
		}
		content, message, err := change(t, path, src)
		if err != nil || message == "" {
			return settled(path), err
		}
		p := one(path, content, message)
		p.sign, err = f.key.forCommit(ctx, s, t.git, nil)
		return p, err
	})
}

func (f *overrideFlags) breakGlass(ctx context.Context, s streams, c *clone, o spec.Override) error {
	var opens []string
	agreed := false
	out, err := f.edit(ctx, s, c, func(t tree, path string, src []byte) ([]byte, string, error) {
		content, err := spec.AddOverride(src, path, o)
		if err != nil {
			return nil, "", inFile(err, path, src)
		}
		if string(content) == string(src) {
			return nil, "", nil
		}
		if opens, err = opened(t, f.environment, o, time.Now()); err != nil {
			return nil, "", err
		}
		if !agreed {
			if err := f.agree(ctx, s, o, opens); err != nil {
				return nil, "", err
			}
			agreed = true
		}
		return content, overrideMessage(f.environment, o, opens), nil
	})
	if err != nil {
		return err
	}
	if f.output == "json" {
		return s.json(overridden{f.environment, o.Reason, list(o.Services), o.Skip, o.Until.Format(time.RFC3339), list(opens), out.commit, out.pushed, out.changed})
	}
	if !out.changed {
		fmt.Fprintf(s.Out, "%s in %s: overridden for this reason already, no commit was needed\n", whom(o.Services), f.environment)
		return nil
	}
	fmt.Fprintf(s.Out, "%s  OVERRIDE of %s for %s in %s%s  %s\n", spec.Short(out.commit), strings.Join(o.Skip, ", "), whom(o.Services), f.environment, untilWords(o.Until), overridePath(f.environment))
	whereTo(s, c, out)
	s.note("it ends by itself; before that: drydock override --end --env %s", f.environment)
	return nil
}

func (f *overrideFlags) agree(ctx context.Context, s streams, o spec.Override, opens []string) error {
	s.note("This override opens, for %s in %s%s:", whom(o.Services), f.environment, untilWords(o.Until))
	for _, line := range opens {
		s.note("  - %s", line)
	}
	if f.yes {
		return nil
	}
	yes, err := s.confirm(ctx, "Break the glass?")
	if err == nil && !yes {
		err = errDeclined
	}
	return err
}

// overrideMessage is loud: an override is read about before it is looked for.
func overrideMessage(environment string, o spec.Override, opens []string) string {
	return fmt.Sprintf("OVERRIDE %s for %s (%s) until %s: %s\n\nIt opens:\n- %s\n",
		strings.Join(o.Skip, ", "), whom(o.Services), environment, o.Until.Format(time.RFC3339), oneLine(o.Reason), strings.Join(opens, "\n- "))
}

// opened says what stands there now that an override opens.
func opened(t tree, environment string, o spec.Override, now time.Time) ([]string, error) {
	fleet, _ := spec.Load("", t.files())
	if faults := fleet.Faults(environment); len(faults) > 0 {
		return nil, &fileError{faults, fleet.Files()} // hosts hold it, and would not read the override either
	}
	means := func(names []string, service string) bool { return len(names) == 0 || slices.Contains(names, service) }
	var lines []string
	all, _ := fleet.Services(environment)
	for _, gate := range o.Skip {
		before := len(lines)
		if gate == "freeze" {
			w, _ := fleet.For(spec.Host{Environment: environment})
			for _, f := range w.Freezes {
				touches := len(o.Services) == 0 || slices.ContainsFunc(o.Services, func(s string) bool { return means(f.Services, s) })
				if touches && (f.Until.IsZero() || f.Until.After(now)) {
					lines = append(lines, fmt.Sprintf("the freeze %q of %s%s (%s)", f.Reason, whom(f.Services), untilWords(f.Until), f.Origin))
				}
			}
		}
		for _, d := range all {
			if means(o.Services, d.Name) {
				lines = append(lines, gateLines(gate, d)...)
			}
		}
		if len(lines) == before {
			lines = append(lines, gate+": nothing that stands there now")
		}
	}
	if more := len(lines) - mostNeeds; more > 0 {
		lines = append(lines[:mostNeeds], fmt.Sprintf("and %d more", more))
	}
	return lines, nil
}

// gateLines are what one service has of a gate.
func gateLines(gate string, d spec.Declared) []string {
	var out []string
	switch gate {
	case "window":
		for _, w := range d.Rollout.Windows {
			days := strings.Join(w.Days, " ")
			if days == "" {
				days = "every day"
			}
			out = append(out, fmt.Sprintf("the window of %s: %s %s-%s %s (%s)", d.Name, days, w.From, w.To, w.Zone, w.Origin))
		}
	case "bake":
		if r := d.Rollout; r.Canary > 0 && r.Bake > 0 {
			out = append(out, fmt.Sprintf("the bake of %s: %s after its canary (%s)", d.Name, r.Bake, r.Origin))
		}
	case "approval-expiry":
		if d.Approval != nil {
			out = append(out, fmt.Sprintf("approvals of %s that have expired count again (%s)", d.Name, d.Approval.Origin))
		}
	}
	return out
}

// endIt takes an override away.
func (f *overrideFlags) endIt(ctx context.Context, s streams, c *clone, reason string) error {
	var gone []spec.Override
	out, err := f.edit(ctx, s, c, func(t tree, path string, src []byte) ([]byte, string, error) {
		content, took, err := spec.RemoveOverride(src, path, func(o spec.Override) bool {
			return (reason == "" || o.Reason == reason) && (len(f.services) == 0 || slices.Equal(o.Services, f.services))
		})
		if err != nil {
			return nil, "", inFile(err, path, src)
		}
		if gone = took; len(took) == 0 {
			return nil, "", f.refuseStanding(t, time.Now())
		}
		var reasons []string
		for _, o := range took {
			reasons = append(reasons, o.Reason)
		}
		if len(took) > 1 && reason == "" {
			return nil, "", fmt.Errorf("%s has %d overrides: say which by its reason: %q", path, len(took), reasons)
		}
		if strings.TrimSpace(string(content)) == "" {
			content = nil
		}
		return content, fmt.Sprintf("end the override of %s for %s (%s): %s\n", strings.Join(took[0].Skip, ", "), whom(took[0].Services), f.environment, oneLine(took[0].Reason)), nil
	})
	if err != nil {
		return err
	}
	r := overridden{Environment: f.environment, Services: []string{}, Skip: []string{}, Commit: out.commit, Pushed: out.pushed, Changed: out.changed}
	if len(gone) > 0 {
		r.Reason, r.Services, r.Skip, r.Until = gone[0].Reason, list(gone[0].Services), list(gone[0].Skip), gone[0].Until.Format(time.RFC3339)
	}
	if f.output == "json" {
		return s.json(r)
	}
	if !out.changed {
		fmt.Fprintf(s.Out, "nothing is overridden in %s: no commit was needed\n", f.environment)
		return nil
	}
	fmt.Fprintf(s.Out, "%s  ended the override of %s for %s in %s: %s\n", spec.Short(out.commit), strings.Join(r.Skip, ", "), whom(r.Services), f.environment, r.Reason)
	whereTo(s, c, out)
	return nil
}

// refuseStanding says no if there are overrides after all, of another reason or
// in another file: who ends one wants the gates shut.
func (f *overrideFlags) refuseStanding(t tree, now time.Time) error {
	fleet, _ := spec.Load("", t.files())
	if faults := fleet.Faults(f.environment); len(faults) > 0 {
		return &fileError{faults, fleet.Files()}
	}
	w, _ := fleet.For(spec.Host{Environment: f.environment})
	var lines []string
	for _, o := range w.Overrides {
		if o.Until.After(now) {
			lines = append(lines, fmt.Sprintf("%s  %q, of %s for %s%s", o.Origin, o.Reason, strings.Join(o.Skip, ", "), whom(o.Services), untilWords(o.Until)))
		}
	}
	if len(lines) == 0 {
		return nil
	}
	return fmt.Errorf("%s has no such override, and these stand:\n%s\nName one of that file by its reason or services; delete any other where it stands", overridePath(f.environment), strings.Join(lines, "\n"))
}
