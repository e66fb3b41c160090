package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"text/tabwriter"
)

// report is everything that one run found; the table is made from it.
type report struct {
	Machine string   `json:"machine"`
	Notes   []string `json:"notes,omitempty"`
	Figures []figure `json:"figures"`
}

// figure is one thing that was measured. Where there is a peer, Ratio is ours
// through theirs, pair by pair. Target is the largest allowed Ratio, or, where
// there is no peer, the largest allowed Ours; 0 where nothing is asked.
type figure struct {
	Figure  string  `json:"figure"`
	What    string  `json:"what"` // what of it: wall, cpu, memory
	Unit    string  `json:"unit"`
	Ours    spread  `json:"ours"`
	Peer    string  `json:"peer,omitempty"`
	Theirs  spread  `json:"theirs"`
	Ratio   spread  `json:"ratio"`
	Target  float64 `json:"target,omitempty"`
	Reached bool    `json:"reached"`
}

// judged fills in whether the target is reached.
func (f figure) judged() figure {
	v := f.Ours.Median
	if f.Peer != "" {
		v = f.Ratio.Median
	}
	f.Reached = f.Target == 0 || v <= f.Target
	return f
}

// compared are the three figures of a whole process against another's.
// wallTarget and cpuTarget are ratios, 0 for none.
func compared(name, peer string, ours, theirs []sample, wallTarget, cpuTarget float64) []figure {
	var fs []figure
	for _, q := range []struct {
		what, unit string
		value      func(sample) float64
		target     float64
	}{{"wall", "ms", wall, wallTarget}, {"cpu", "ms", cpu, cpuTarget}, {"memory", "MiB", memory, 0}} {
		fs = append(fs, figure{
			Figure: name, What: q.what, Unit: q.unit, Peer: peer, Target: q.target,
			Ours: over(ours, q.value), Theirs: over(theirs, q.value), Ratio: ratios(ours, theirs, q.value),
		}.judged())
	}
	return fs
}

func alone(name, what, unit string, s spread, target float64) figure {
	return figure{Figure: name, What: what, Unit: unit, Ours: s, Target: target}.judged()
}

func machine() string {
	release, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	load, _ := os.ReadFile("/proc/loadavg")
	first, _, _ := strings.Cut(string(load), " ")
	return fmt.Sprintf("%d cores, Linux %s, %s, load %s at the start", runtime.NumCPU(), strings.TrimSpace(string(release)), runtime.Version(), first)
}

// print writes the table: medians, and the quartiles of what is judged.
func (r report) print(out io.Writer) {
	fmt.Fprintf(out, "%s\nMedians; in brackets the quartiles. Ratios are pair by pair: trust them, not the milliseconds.\n", r.Machine)
	for _, n := range r.Notes {
		fmt.Fprintln(out, n)
	}
	w := tabwriter.NewWriter(out, 2, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nfigure\t\tours\tpeer\ttheirs\tratio\ttarget\t")
	last := ""
	missed := 0
	for _, f := range r.Figures {
		name := f.Figure
		if name == last {
			name = ""
		}
		last = f.Figure
		ours, theirs, ratio, target, verdict := number(f.Ours.Median)+" "+f.Unit, "", "", "", ""
		if f.Peer != "" {
			theirs = number(f.Theirs.Median) + " " + f.Unit
			ratio = fmt.Sprintf("%.2f (%.2f-%.2f)", f.Ratio.Median, f.Ratio.Low, f.Ratio.High)
			if f.Ratio.Median < 0.05 {
				ratio = fmt.Sprintf("%.4f (%.4f-%.4f)", f.Ratio.Median, f.Ratio.Low, f.Ratio.High)
			}
		} else if f.Ours.Low != f.Ours.High {
			ours += fmt.Sprintf(" (%s-%s)", number(f.Ours.Low), number(f.Ours.High))
		}
		if f.Target != 0 {
			target, verdict = "<= "+number(f.Target), "reached"
			if f.Peer == "" {
				target += " " + f.Unit
			}
			if !f.Reached {
				verdict = "MISSED"
				missed++
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", name, f.What, ours, f.Peer, theirs, ratio, target, verdict)
	}
	w.Flush()
	if missed > 0 {
		fmt.Fprintf(out, "\n%d MISSED\n", missed)
	}
}

func number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
