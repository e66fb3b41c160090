package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"drydock/reconcile/trust"
	"drydock/spec"
)

// card is what a person reads before they sign.
func (e *entry) card() string {
	var b strings.Builder
	row := func(name, format string, args ...any) {
		for i, line := range strings.Split(fmt.Sprintf(format, args...), "\n") {
			if i > 0 {
				name = ""
			}
			b.WriteString(strings.TrimRight(fmt.Sprintf("  %-9s %s", name, line), " ") + "\n")
		}
	}
	fmt.Fprintf(&b, "%s  (%s)\n", e.Statement, e.origin)
	switch {
	case e.Kind == trust.Removal:
		row("does", "stops the service and uninstalls it, where the block says")
	case e.base == "":
		row("release", "%s, the first one here that is compared with nothing", e.Version)
	case e.change == nil:
		row("release", "%s, declared as it was in %s", e.Version, spec.Short(e.base))
	default:
		was := "none"
		if e.change.From != nil {
			was = version(e.change.From)
		}
		row("release", "%s -> %s, since %s", was, e.Version, spec.Short(e.base))
	}
	if e.Digest != "" {
		row("digest", "%s", strings.ReplaceAll(e.Digest, " ", "\n"))
	}
	row("spec", "%s", e.Spec)
	if e.change != nil {
		if lines := e.change.seen(); len(lines) > 0 {
			row("changes", "%s", strings.Join(lines, "\n"))
		}
	}
	if e.Kind == trust.Attestation {
		row("attests", "%s: that it is so, which no machine can see", e.Name)
	}
	for i, line := range e.who() {
		row(map[bool]string{true: "signed"}[i == 0], "%s", line)
	}
	if e.Kind == trust.Approval && e.rule == nil {
		row("missing", "nobody whom the declaration asks: it has no approval block. Hosts may ask for approvals themselves")
	} else if !e.decision.Granted {
		row("missing", "%s", strings.Join(e.decision.Missing, ", "))
	}
	row("expires", "%s", e.Expires.Format("Mon 2 Jan 2006 15:04 MST"))
	for _, w := range e.warnings {
		row("WARNING", "%s", w)
	}
	return strings.TrimRight(b.String(), "\n")
}

// seen is the comparison without what the card has elsewhere.
func (s *serviceDifference) seen() []string {
	own := *s
	own.Gates = nil
	return own.details()
}

// who are the signatures that there are, and what they are worth.
func (e *entry) who() []string {
	var out []string
	for _, c := range e.decision.Counted {
		line := fmt.Sprintf("%s until %s", c.Who, c.Expires.Format("2 Jan 2006"))
		i := slices.IndexFunc(e.votes, func(v vote) bool { return v.File == c.File })
		if i >= 0 && !e.votes[i].when.IsZero() {
			line = fmt.Sprintf("%s on %s, until %s", c.Who, e.votes[i].when.Format("2 Jan 2006"), c.Expires.Format("2 Jan 2006"))
		}
		out = append(out, line)
	}
	for _, i := range e.decision.Ignored {
		out = append(out, fmt.Sprintf("%s: not counted, %s", cmp.Or(i.Who, "somebody"), i.Why))
	}
	return out
}

// cast is what approve and attest print.
type cast struct {
	Environment string      `json:"environment"`
	Statements  []castEntry `json:"statements"`
	Commit      string      `json:"commit"`
	Pushed      bool        `json:"pushed"`
	Changed     bool        `json:"changed"`
}

type castEntry struct {
	Kind    string   `json:"kind"`
	Service string   `json:"service"`
	Name    string   `json:"attests,omitempty"`
	Version string   `json:"version,omitempty"`
	Digest  string   `json:"digest,omitempty"`
	Spec    string   `json:"spec"`
	Expires string   `json:"expires"`
	By      string   `json:"by,omitempty"` // as this clone's git knows the key's owner
	File    string   `json:"file"`
	Signed  bool     `json:"signed"`  // by this command; false: it was already
	Missing []string `json:"missing"` // who could bring it forward, by the declaration
}

// report says what was signed, and what is still missing then.
func (b *ballot) report(s streams, c *clone, all, did []*entry, out outcome) error {
	r := cast{Environment: b.environment, Commit: out.commit, Pushed: out.pushed, Changed: out.changed, Statements: []castEntry{}}
	for _, e := range all {
		signed := slices.Contains(did, e)
		if signed {
			if f, err := trust.ReadApprovalFile(e.file, e.data); err == nil {
				v, _ := voteOf(f)
				v.Principals = []string{cmp.Or(e.me, "you")}
				e.votes = append(e.votes, v)
				e.judge(time.Now())
			}
		} else {
			e.Expires, e.file = e.mine.Expires, e.mine.File
		}
		missing := e.decision.Missing
		r.Statements = append(r.Statements, castEntry{Kind: string(e.Kind), Service: e.Service, Name: e.Name, Version: e.Version, Digest: e.Digest, Spec: e.Spec,
			Expires: e.Expires.Format(time.RFC3339), By: e.me, File: e.file, Signed: signed, Missing: list(missing)})
	}
	if b.output == "json" {
		return s.json(r)
	}
	for _, e := range all {
		if e.mine != nil && !slices.Contains(did, e) {
			fmt.Fprintf(s.Out, "%s: signed by you already%s, until %s: no commit was needed\n", e.Statement, onDay(e.mine.when), e.Expires.Format("2 Jan 2006"))
			continue
		}
		fmt.Fprintf(s.Out, "%s  %s  %s\n", spec.Short(out.commit), e.Statement, e.file)
		if !e.decision.Granted {
			s.note("still missing: %s", strings.Join(e.decision.Missing, ", "))
		}
	}
	if out.changed {
		whereTo(s, c, out)
	}
	return nil
}

func onDay(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return " on " + t.Format("2 Jan 2006")
}
