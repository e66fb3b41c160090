package main

// How hostagent speaks:
//   - Results go to stdout, a table for people or JSON for programs; both are
//     made from the same value. Everything else goes to stderr.
//   - One line a service. What is well needs no words; what is not says what
//     happened and what to do.
//   - Colour only on a terminal, and never where NO_COLOR is set.

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"drydock/hostagent"
	"drydock/reconcile"
	"drydock/spec"
)

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false) // "1.4.2 -> 1.4.3", for people who read it too
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// complain prints an error, each line of it, with its place where it has one.
func complain(w io.Writer, err error) {
	fmt.Fprintf(w, "%s %s\n", paint(w, red, "error:"), strings.ReplaceAll(err.Error(), "\n", "\n       "))
	var hint interface{ Hint() string }
	if errors.As(err, &hint) {
		fmt.Fprintf(w, "       %s\n", hint.Hint())
	}
}

type colour string

const (
	red    colour = "31"
	green  colour = "32"
	yellow colour = "33"
	dim    colour = "2"
)

func paint(w io.Writer, c colour, s string) string {
	if !coloured(w) {
		return s
	}
	return "\x1b[" + string(c) + "m" + s + "\x1b[0m"
}

func coloured(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0
}

func stateColour(s reconcile.State) colour {
	switch s {
	case reconcile.Converged:
		return green
	case reconcile.Reverted, reconcile.Halted, reconcile.Drifted:
		return red
	case reconcile.Orphaned:
		return dim
	}
	return yellow
}

// printStatus is `status` and the end of `once` for people. running says that
// an agent should run: after a pass of one's own it need not.
func printStatus(w io.Writer, st reconcile.HostStatus, now time.Time, running bool) {
	head := fmt.Sprintf("%s  %s", st.Host, st.Environment)
	if st.Commit != "" {
		head += "  " + spec.Short(st.Commit)
	}
	if !st.Source.Verified {
		head += "  " + paint(w, yellow, "unverified")
	}
	if st.Paused {
		head += "  " + paint(w, yellow, "paused")
	}
	if !st.Agent && running {
		head += "  " + paint(w, yellow, "no agent runs")
	}
	if by := answers(st.Source); by != "" {
		head += "  " + by
	}
	fmt.Fprintln(w, head)
	if st.Config != "" {
		fmt.Fprintf(w, "%s %s\n", paint(w, red, "configuration:"), st.Config)
	}
	printSource(w, st.Source, now)
	for _, o := range st.Overrides {
		whom := ""
		if len(o.Services) > 0 {
			whom = " for " + strings.Join(o.Services, ", ")
		}
		fmt.Fprintf(w, "%s %s%s may be passed for another %s: %s%s\n", paint(w, red, "override:"), strings.Join(o.Skip, ", "), whom,
			age(o.Until.Sub(now)), o.Reason, paint(w, dim, " ("+o.Origin.String()+")"))
	}
	if len(st.Services) == 0 && st.Commit == "" && st.Source.Blocked != "" {
		fmt.Fprintln(w, "no commit is accepted yet, so nothing is known of what should run here")
		return
	}
	if len(st.Services) == 0 {
		fmt.Fprintln(w, "no service is declared for this host")
		return
	}
	fmt.Fprintln(w)
	// The state is the last aligned column but one, and coloured after the
	// alignment, because tabwriter counts escape codes as text.
	var buf strings.Builder
	tw := tabwriter.NewWriter(&buf, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "SERVICE\tRUNNING\tWANTED\tSINCE\tSTATE\t")
	for _, s := range st.Services {
		running, since := "-", "-"
		if s.Running != nil {
			running, since = s.Running.Version, age(now.Sub(s.Running.Since))
		}
		wanted := "-"
		if s.Wanted != nil {
			wanted = s.Wanted.Version
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t\n", s.Name, running, wanted, since, stateWords(s))
	}
	_ = tw.Flush()
	lines := strings.Split(strings.TrimRight(buf.String(), "\n"), "\n")
	fmt.Fprintln(w, strings.TrimRight(lines[0], " "))
	for i, s := range st.Services {
		line := strings.TrimRight(lines[i+1], " ")
		words := stateWords(s)
		fmt.Fprintln(w, strings.TrimSuffix(line, words)+paint(w, stateColour(s.State), words))
		if s.Reason != "" && s.Reason == st.Source.Stale {
			fmt.Fprintln(w, "  as said above, of all that is new")
		} else if s.Reason != "" {
			where := ""
			if s.Origin != "" && s.State != reconcile.Converged && !strings.Contains(s.Reason, ".hcl:") && !strings.Contains(s.Reason, ".json:") {
				where = paint(w, dim, " ("+s.Origin+")")
			}
			fmt.Fprintf(w, "  %s%s\n", strings.ReplaceAll(s.Reason, "\n", "\n  "), where)
		}
		if asked(s.Gate) && len(s.Missing) > 0 {
			fmt.Fprintf(w, "  %s: %s\n", whom(s.Gate), strings.Join(s.Missing, ", "))
		}
	}
}

// answers says who answers for the commit in force; "" where nobody has to, or
// nobody does.
func answers(s reconcile.SourceStatus) string {
	switch {
	case s.How == "accepted":
		return "named by since"
	case len(s.By) == 0:
		return ""
	case s.How == "merged":
		return "merged, answered for by " + strings.Join(s.By, ", ")
	case s.How == "vouched":
		return "vouched for by " + strings.Join(s.By, ", ")
	}
	return s.How + " by " + strings.Join(s.By, ", ")
}

// printSource says what holds the host at its commit: since when, in the words of
// whoever refused it.
func printSource(w io.Writer, s reconcile.SourceStatus, now time.Time) {
	if s.How == "on trust" {
		fmt.Fprintln(w, "The commit in force was taken on trust, because `since` in hostagent.hcl names none; later ones are verified.")
	}
	if s.Error != "" {
		word := "source"
		if s.Blocked != "" {
			word = "blocked"
		}
		if s.BehindSince != nil && now.Sub(*s.BehindSince) >= time.Second {
			word += " for " + age(now.Sub(*s.BehindSince))
		}
		fmt.Fprintf(w, "%s %s\n", paint(w, red, word+":"), strings.ReplaceAll(s.Error, "\n", "\n        "))
	}
	if s.Stale != "" {
		fmt.Fprintf(w, "%s %s\n", paint(w, yellow, "stale:"), s.Stale)
	}
}

func stateWords(s reconcile.ServiceStatus) string {
	words := s.State.String()
	switch {
	case s.Step != "":
		words += ": " + strings.TrimPrefix(s.Step, s.Name+"/")
	case s.Gate != "":
		words += ": " + s.Gate
	}
	if s.Unapproved && !asked(s.Gate) {
		words += ", unapproved"
	}
	return words
}

// asked reports whether a gate waits for people, who have names.
func asked(gate string) bool { return gate == "approval" || gate == "attestation" }

// whom is what the list beside such a gate holds: people, of whom not all may be
// needed, or what somebody has to attest.
func whom(gate string) string {
	if gate == "attestation" {
		return "missing"
	}
	return "asked"
}

// age is a duration as people say it: "3m", "5h", "12d".
func age(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", max(int(d.Seconds()), 0))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// printPlan is `plan` for people.
func printPlan(w io.Writer, p hostagent.PlanReport) {
	if p.Source != "" {
		fmt.Fprintf(w, "%s %s\n", paint(w, red, "source:"), strings.ReplaceAll(p.Source, "\n", "\n        "))
	}
	quiet := 0
	var halted []string
	for _, s := range p.Services {
		steps := stepsOf(p, s.Service)
		if s.State == reconcile.Halted {
			halted = append(halted, s.Service)
		}
		if len(steps) == 0 && s.State == reconcile.Converged {
			quiet++ // also where a person holds it out of rotation, which is said below
			if s.Reason == "" {
				continue
			}
		}
		word := s.State.String()
		if len(steps) > 0 {
			word = s.Purpose.String()
		}
		fmt.Fprintf(w, "%s  %s", s.Service, paint(w, stateColour(s.State), word))
		if s.Reason != "" {
			fmt.Fprintf(w, "  %s", s.Reason)
		}
		fmt.Fprintln(w)
		if s.Gate != "" {
			fmt.Fprintf(w, "  %s %s: %s\n", paint(w, yellow, "waits for"), s.Gate, s.GateReason)
			if asked(s.Gate) && len(s.Missing) > 0 {
				fmt.Fprintf(w, "  %s: %s\n", whom(s.Gate), strings.Join(s.Missing, ", "))
			}
		}
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, st := range steps {
			fmt.Fprintf(tw, "  %s %s\t%s\t%s", sign(st.Action), st.ID, st.Action, st.Origin)
			if st.Preview != "" { // the last column has no end, so that it widens no other line
				fmt.Fprintf(tw, "\t%s", strings.ReplaceAll(st.Preview, "\n", "; "))
			}
			fmt.Fprintln(tw)
		}
		_ = tw.Flush()
	}
	switch {
	case len(p.Services) == 0:
		fmt.Fprintln(w, "No service is declared for this host.")
	case len(p.Steps) == 0 && len(halted) > 0:
		fmt.Fprintf(w, "Nothing will be done: a person is needed for %s.\n", strings.Join(halted, ", "))
	case len(p.Steps) == 0:
		fmt.Fprintf(w, "Nothing to do: %d of %d services are as commit %s wants them.\n", quiet, len(p.Services), spec.Short(p.Commit))
	default:
		fmt.Fprintf(w, "\n%d steps; %d of %d services are as commit %s wants them.\n", len(p.Steps), quiet, len(p.Services), spec.Short(p.Commit))
	}
}

func stepsOf(p hostagent.PlanReport, service string) (steps []hostagent.PlanStep) {
	for _, s := range p.Steps {
		if s.Service == service {
			steps = append(steps, s)
		}
	}
	return steps
}

func sign(a reconcile.Action) string {
	return [...]string{reconcile.Create: "+", reconcile.Update: "~", reconcile.Remove: "-", reconcile.Repair: "!"}[a]
}
