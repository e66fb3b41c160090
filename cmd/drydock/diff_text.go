package main

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode/utf8"

	"drydock/spec"
)

// The rules of these two renderings: one row a service, read from left to right
// as a sentence (what, from, to, where, held by whom); versions before digests;
// details below, only where there are some; nothing that merging would not do.

// text is the difference for a terminal.
func (d *difference) text() string {
	if len(d.Environments) == 0 {
		return fmt.Sprintf("%s..%s %s\n", spec.Short(d.Base), spec.Short(d.Head), d.nothing())
	}
	var b strings.Builder
	for i, e := range d.Environments {
		if i > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "%s  %s..%s\n\n", e.Name, spec.Short(d.Base), spec.Short(d.Head))
		if len(e.Services) > 0 {
			var table strings.Builder
			w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "  SERVICE\tWHAT\tFROM\tTO\tHOSTS\tWAITS FOR")
			for _, s := range e.Services {
				fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%s\t%s\n", s.Service, s.Kind, version(s.From), version(s.To), s.Hosts, gateNames(s.Gates))
			}
			w.Flush()
			for line := range strings.Lines(table.String()) {
				b.WriteString(strings.TrimRight(line, " \n") + "\n")
			}
		}
		if e.Held != "" && len(e.Services) == 0 {
			fmt.Fprintf(&b, "  held: %s\n", e.Held)
		}
		for _, s := range e.Services {
			if lines := s.details(); len(lines) > 0 {
				fmt.Fprintf(&b, "\n  %s\n", s.Service)
				for _, l := range lines {
					b.WriteString("    " + l + "\n")
				}
			}
		}
		for _, f := range e.Frozen {
			fmt.Fprintf(&b, "\n  freezes %s%s: %s\n", whom(f.Services), untilWords(f.Until), f.Reason)
		}
		for _, f := range e.Unfrozen {
			fmt.Fprintf(&b, "\n  lifts the freeze of %s: %s\n", whom(f.Services), f.Reason)
		}
	}
	return b.String()
}

// nothing is what to say where no environment has a difference.
func (d *difference) nothing() string {
	if len(d.errors) > 0 {
		return "changes nothing that could be read"
	}
	return "deploys nothing"
}

// details are the lines below the table about one service.
func (s serviceDifference) details() []string {
	var out []string
	if s.Detail != "" {
		out = append(out, s.Detail)
	}
	if s.HostsBefore != "" {
		out = append(out, "hosts: "+s.HostsBefore+" -> "+s.Hosts+" (hosts that no longer match keep it running, orphaned)")
	}
	if s.Kind == spec.KindRelease && s.From.Version == s.To.Version {
		out = append(out, "the same version with another digest: "+shortDigest(s.From.Digest, s.From.Digests)+" -> "+shortDigest(s.To.Digest, s.To.Digests))
	}
	for _, p := range s.Parts {
		out = append(out, partWords(p, ""))
	}
	for _, g := range s.Gates {
		out = append(out, g.Name+": "+g.Detail)
	}
	if len(s.Changes) > 0 {
		out = append(out, fmt.Sprintf("%s by %s", plural(len(s.Changes), "change"), strings.Join(s.Authors, ", ")))
		width := 0
		for _, c := range s.Changes {
			width = max(width, utf8.RuneCountInString(c.Email))
		}
		for _, c := range s.Changes {
			line := fmt.Sprintf("  %s  %s  %-*s  %s", spec.Short(c.Hash), c.Time.Format("2006-01-02"), width, c.Email, c.Subject)
			if c.Request != "" {
				line += " (" + c.Request + ")"
			}
			out = append(out, line)
		}
	}
	return out
}

// partWords is one changed attribute: `check "http" interval: 1s -> 2s`.
func partWords(p spec.PartChange, quote string) string {
	name := strings.Replace(p.Part, "/", " ", 1)
	if p.Name != "" {
		name += " " + p.Name
	}
	q := func(s string) string { return quote + strings.ReplaceAll(s, "`", "'") + quote }
	switch {
	case p.Change == "changed":
		return name + ": " + q(clip(p.From)) + " -> " + q(clip(p.To))
	case p.Change == "added" && p.To != "":
		return name + ": " + q(clip(p.To)) + " (added)"
	}
	return name + ": " + p.Change
}

func clip(s string) string {
	if r := []rune(s); len(r) > 80 {
		return string(r[:79]) + "…"
	}
	return s
}

func version(r *spec.RevisionView) string {
	switch {
	case r == nil:
		return "-"
	case r.Attempt > 1:
		return fmt.Sprintf("%s attempt %d", r.Version, r.Attempt)
	}
	return r.Version
}

func shortDigest(digest string, digests map[string]string) string {
	if len(digests) > 0 {
		return fmt.Sprintf("%d platforms", len(digests))
	}
	_, hex, _ := strings.Cut(digest, ":")
	if hex == "" {
		return "none"
	}
	return hex[:min(12, len(hex))]
}

func gateNames(gates []spec.Gate) string {
	var names []string
	for _, g := range gates {
		if !slices.Contains(names, g.Name) {
			names = append(names, g.Name)
		}
	}
	return strings.Join(names, ", ")
}

// markdown is the difference as the comment for a pull request.
func (d *difference) markdown() string {
	var b strings.Builder
	if len(d.Environments) == 0 {
		fmt.Fprintf(&b, "**Drydock:** %s. <sub>`%s..%s`</sub>\n", "merging "+d.nothing(), spec.Short(d.Base), spec.Short(d.Head))
	} else {
		fmt.Fprintf(&b, "### Merging %s\n", d.headline())
	}
	if n := len(d.Diagnostics); n > 0 {
		fmt.Fprintf(&b, "\n> [!CAUTION]\n> %s: hosts would hold what %s about at its last good declaration.\n", plural(n, "error"), map[bool]string{true: "it is", false: "they are"}[n == 1])
		for i, f := range d.Diagnostics {
			if i == 10 {
				fmt.Fprintf(&b, "> - and %d more\n", n-10)
				break
			}
			fmt.Fprintf(&b, "> - `%s:%d` %s\n", f.File, f.Line, cell(f.Summary+": "+f.Detail))
		}
	}
	for _, e := range d.Environments {
		fmt.Fprintf(&b, "\n**%s**\n", cell(e.Name))
		if e.Held != "" && len(e.Services) == 0 {
			fmt.Fprintf(&b, "\nheld: %s\n", cell(e.Held))
		}
		if len(e.Services) > 0 {
			b.WriteString("\n| service | | from | to | hosts | waits for |\n|---|---|---|---|---|---|\n")
			for _, s := range e.Services {
				fmt.Fprintf(&b, "| **%s** | %s | %s | %s | %s | %s |\n", cell(s.Service), s.Kind, codeCell(version(s.From)), codeCell(version(s.To)), cell(s.Hosts), cell(gateDetails(s.Gates)))
			}
		}
		for _, s := range e.Services {
			s.markdownDetails(&b)
		}
		for _, f := range e.Frozen {
			fmt.Fprintf(&b, "\n❄ freezes %s%s: %s\n", cell(whom(f.Services)), untilWords(f.Until), cell(f.Reason))
		}
		for _, f := range e.Unfrozen {
			fmt.Fprintf(&b, "\nLifts the freeze of %s: %s\n", cell(whom(f.Services)), cell(f.Reason))
		}
	}
	if len(d.Environments) > 0 {
		fmt.Fprintf(&b, "\n<sub>`%s..%s`</sub>\n", spec.Short(d.Base), spec.Short(d.Head))
	}
	return b.String()
}

const holds = "holds"

// verbs are what merging does with services, in the order of the headline.
// Services of one verb and environment are counted where there are several,
// save those whose loss somebody must have meant.
var verbs = [...]struct {
	kinds      []string
	verb, into string
	version    bool
	named      bool
}{
	{[]string{spec.KindRelease, spec.KindAdded, spec.KindMoved}, "deploys", "to", true, false},
	{[]string{spec.KindAttempt}, "retries", "in", true, false},
	{[]string{spec.KindSpec}, "changes how to run", "in", false, false},
	{[]string{spec.KindRemoved}, "removes", "from", false, true},
	{[]string{spec.KindOrphaned}, "orphans", "in", false, true},
	{[]string{spec.KindHeld}, holds, "in", false, false},
}

// headline is what is below in one sentence: "deploys web 1.4.3 to prod, 3
// services to staging and removes api from prod".
func (d *difference) headline() string {
	var clauses []string
	for _, v := range verbs {
		var words []string
		for _, e := range d.Environments {
			if e.Held != "" && v.verb == holds {
				words = append(words, "all of "+cell(e.Name))
				continue
			}
			var names []string
			for _, s := range e.Services {
				if !slices.Contains(v.kinds, s.Kind) {
					continue
				}
				name := cell(s.Service)
				if v.version {
					name += " " + cell(version(s.To))
				}
				names = append(names, name)
			}
			if len(names) > 1 && !v.named {
				names = []string{plural(len(names), "service")}
			}
			if len(names) > 0 {
				words = append(words, fmt.Sprintf("%s %s %s", strings.Join(names, ", "), v.into, cell(e.Name)))
			}
		}
		if len(words) > 0 {
			clauses = append(clauses, v.verb+" "+strings.Join(words, ", "))
		}
	}
	if n := len(clauses); n > 1 {
		return strings.Join(clauses[:n-1], ", ") + " and " + clauses[n-1]
	} else if n == 1 {
		return clauses[0]
	}
	return "deploys nothing, and changes what is frozen"
}

func (s serviceDifference) markdownDetails(b *strings.Builder) {
	var notes []string
	if s.Detail != "" {
		notes = append(notes, cell(s.Detail))
	}
	if s.HostsBefore != "" {
		notes = append(notes, fmt.Sprintf("hosts were %s; those that no longer match keep it running, orphaned", cell(s.HostsBefore)))
	}
	for _, p := range s.Parts {
		notes = append(notes, partWords(p, "`"))
	}
	if len(notes) > 0 {
		fmt.Fprintf(b, "\n%s:\n", cell(s.Service))
		for _, n := range notes {
			fmt.Fprintf(b, "- %s\n", n)
		}
	}
	if len(s.Changes) == 0 {
		return
	}
	fmt.Fprintf(b, "\n<details><summary>%s: %s by %s</summary>\n\n| change | author | | subject |\n|---|---|---|---|\n",
		cell(s.Service), plural(len(s.Changes), "change"), cell(strings.Join(s.Authors, ", ")))
	for i, c := range s.Changes {
		if i == 100 { // a comment has a size
			fmt.Fprintf(b, "| | | | and %d more |\n", len(s.Changes)-100)
			break
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", spec.Short(c.Hash), cell(c.Email), cell(c.Request), cell(c.Subject))
	}
	b.WriteString("\n</details>\n")
}

func gateDetails(gates []spec.Gate) string {
	var out []string
	for _, g := range gates {
		out = append(out, g.Name+": "+g.Detail)
	}
	return strings.Join(out, "; ")
}

// cell is text that cannot end a table's cell, or become markup or a mention.
func cell(s string) string {
	return strings.NewReplacer("|", "\\|", "\n", " ", "<", "&lt;", ">", "&gt;", "*", "\\*", "_", "\\_", "`", "'", "[", "\\[", "@", "@\u200b").Replace(s)
}

func codeCell(s string) string {
	if s == "-" {
		return ""
	}
	return "`" + strings.NewReplacer("`", "'", "|", "\\|", "\n", " ").Replace(s) + "`"
}
