package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Board is the part of the screen that moves while an act is on: what is
// planned, what is done, and how the traffic fares.
type Board struct {
	screen   *Screen
	load     *Load // nil: no traffic in this act
	from, to string
	legend   bool // say how the traffic's picture is read
	parts    []boardPart
}

// boardPart is one plan.
type boardPart struct {
	purpose string // "" until the agent has begun it
	why     string
	rows    []boardRow
}

type boardRow struct {
	id     string
	origin string
	state  rowState
	began  time.Time
	took   time.Duration
	reason string
}

type rowState int

const (
	planned rowState = iota
	begun
	done
	failed
	skipped // its plan went another way
)

// Plan sets out the steps that are to come.
func (b *Board) Plan(p plan) {
	part := boardPart{}
	for _, s := range p.Steps {
		part.rows = append(part.rows, boardRow{id: s.ID, origin: s.Origin})
	}
	b.parts = append(b.parts, part)
	if b.screen.live {
		return
	}
	b.screen.Line(fmt.Sprintf("plan: %d steps", len(part.rows)))
	for _, r := range part.rows {
		b.screen.Line("  · ", pad(stepName(r.id), 20), r.origin)
	}
}

// See takes an event of the agent's log, and returns whether it was one of a
// step or a plan.
func (b *Board) See(e event) bool {
	switch e.Message {
	case "plan":
		if last := len(b.parts) - 1; last < 0 || b.parts[last].purpose != "" {
			b.skip()
			b.parts = append(b.parts, boardPart{})
		}
		p := &b.parts[len(b.parts)-1]
		p.purpose, p.why = e.Purpose, e.Why
		if !b.screen.live {
			for _, line := range b.head(*p) {
				b.screen.Line(line)
			}
		}
	case "begun":
		b.row(e.Step).state, b.row(e.Step).began = begun, e.Time
	case "done", "failed":
		r := b.row(e.Step)
		r.state, r.reason = done, e.Error
		if e.Message == "failed" {
			r.state = failed
		}
		if !r.began.IsZero() {
			r.took = e.Time.Sub(r.began)
		}
		if !b.screen.live {
			for _, line := range b.line(*r, e.Time) {
				b.screen.Line(line)
			}
		}
	default:
		return false
	}
	return true
}

// skip marks what the plan that is on will not come to.
func (b *Board) skip() {
	if len(b.parts) == 0 {
		return
	}
	rows := b.parts[len(b.parts)-1].rows
	for i := range rows {
		if rows[i].state == planned {
			rows[i].state = skipped
		}
	}
}

// row is the step's in the plan that is on; a step that no plan foretold, as
// in a revert, gets one now.
func (b *Board) row(id string) *boardRow {
	if len(b.parts) == 0 {
		b.parts = append(b.parts, boardPart{})
	}
	p := &b.parts[len(b.parts)-1]
	i := slices.IndexFunc(p.rows, func(r boardRow) bool { return r.id == id })
	if i < 0 {
		p.rows = append(p.rows, boardRow{id: id})
		i = len(p.rows) - 1
	}
	return &p.rows[i]
}

// Steps are the steps that ended, in order.
func (b *Board) Steps() []StepFigures {
	steps := []StepFigures{}
	for _, p := range b.parts {
		for _, r := range p.rows {
			if r.state == done || r.state == failed {
				steps = append(steps, StepFigures{ID: r.id, Purpose: p.purpose, OK: r.state == done, Reason: r.reason, Millis: r.took.Milliseconds()})
			}
		}
	}
	return steps
}

// Draw shows the board as it is now, on a terminal.
func (b *Board) Draw(now time.Time) {
	if b.screen.live {
		b.screen.Draw(b.lines(now))
	}
}

// Leave shows it a last time.
func (b *Board) Leave(now time.Time) {
	if b.screen.live {
		b.screen.Draw(b.lines(now))
		b.screen.Leave()
		return
	}
	for _, line := range b.traffic() {
		b.screen.Line(line)
	}
}

func (b *Board) lines(now time.Time) (lines []string) {
	add := func(more ...string) {
		for _, line := range more {
			if line != "" {
				line = margin + line
			}
			lines = append(lines, line)
		}
	}
	for _, p := range b.parts {
		add(b.head(p)...)
		for _, r := range p.rows {
			add(b.line(r, now)...)
		}
	}
	if b.load != nil {
		add("")
		add(b.traffic()...)
	}
	return lines
}

func (b *Board) head(p boardPart) (lines []string) {
	c := cyan
	word := p.purpose
	switch word {
	case "":
		word = "plan"
	case "revert":
		c = yellow
	}
	text := wrap(strings.TrimSpace(p.why), b.screen.width-len(margin)-len(word)-2)
	for i, t := range text {
		lead := strings.Repeat(" ", len(word))
		if i == 0 {
			lead = b.screen.paint(c, word)
		}
		lines = append(lines, lead+"  "+b.screen.paint(dim, t))
	}
	return lines
}

const spinner = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏" // a turn of it is a second

func (b *Board) line(r boardRow, now time.Time) []string {
	s := b.screen
	name := pad(stepName(r.id), 20)
	took := padLeft(short(r.took), 8)
	origin := "   " + s.paint(dim, cut(r.origin, max(s.width-38, 0)))
	switch r.state {
	case begun:
		mark := string([]rune(spinner)[now.UnixMilli()/100%10])
		return []string{s.paint(cyan, mark) + " " + s.paint(bold, name) + padLeft(short(max(now.Sub(r.began), 0)), 8) + origin}
	case done:
		return []string{s.paint(green, "✓") + " " + name + s.paint(dim, took) + origin}
	case failed:
		lines := []string{s.paint(red, "✗") + " " + s.paint(red, name) + s.paint(dim, took) + origin}
		for _, t := range wrap(r.reason, s.width-len(margin)-2) {
			lines = append(lines, "  "+s.paint(red, t))
		}
		return lines
	}
	mark := "· "
	if r.state == skipped {
		mark = "– "
	}
	return []string{s.paint(dim, mark+name+padLeft("", 8)) + origin}
}

// stepName is a step's ID without its service, as columns.
func stepName(id string) string {
	parts := strings.SplitN(id, "/", 3)
	if len(parts) != 3 {
		return id
	}
	return pad(parts[1], 9) + parts[2]
}

// traffic is the load's picture and its figures.
func (b *Board) traffic() []string {
	if b.load == nil {
		return nil
	}
	s, f := b.screen, b.load.Figures()
	failed := s.paint(dim, "0 failed")
	if f.Failed > 0 {
		failed = s.paint(red, count(f.Failed)+" failed")
	}
	longest := f.Longest
	for _, sl := range b.load.Slots() {
		longest = max(longest, sl.Longest) // those that still wait, too
	}
	figures := s.paint(bold, count(f.Sent)+" sent") + "   " + failed + "   longest wait " + short(longest)
	who := pad("", 8) + s.paint(dim, "answered by ") + s.paint(blue, b.from) + s.paint(dim, ": "+count(f.Answered[b.from]))
	if n := f.Answered[b.to]; n > 0 {
		who += s.paint(dim, ", by ") + s.paint(green, b.to) + s.paint(dim, ": "+count(n))
	}
	if f.Waiting > 0 {
		who += s.paint(dim, "; ") + s.paint(yellow, count(f.Waiting)+" wait")
	}
	lines := []string{b.picture(s.width - len(margin) - 8), pad("", 8) + figures, who}
	if b.legend {
		lines = append(lines, pad("", 8)+s.paint(dim, "height: how long requests waited; ×: some failed"))
	}
	return lines
}

const heights = "▁▂▃▄▅▆▇█"

// picture draws the requests by the time they were sent: a mark's height is
// how long they waited, × says that some failed.
func (b *Board) picture(width int) string {
	slots := b.load.Slots()
	each := max((len(slots)+width-1)/width, 1)
	var highest time.Duration
	for _, sl := range slots {
		highest = max(highest, sl.Longest)
	}
	highest = max(highest, time.Second)
	var out strings.Builder
	for group := range slices.Chunk(slots, each) {
		mark, c := b.mark(group, highest)
		out.WriteString(b.screen.paint(c, string(mark)))
	}
	return b.screen.paint(dim, "traffic ") + out.String()
}

func (b *Board) mark(group []Slot, highest time.Duration) (rune, style) {
	var sum Slot
	for _, sl := range group {
		sum.Longest = max(sum.Longest, sl.Longest)
		sum.Sent += sl.Sent
		sum.Failed += sl.Failed
		sum.Waiting += sl.Waiting
		if sl.Version != "" {
			sum.Version = sl.Version
		}
	}
	steps := []rune(heights)
	height := steps[int64(sum.Longest)*int64(len(steps)-1)/int64(highest)]
	switch {
	case sum.Sent == 0:
		return ' ', ""
	case sum.Failed > 0:
		return '×', red
	case sum.Waiting > 0 && sum.Longest > slot:
		return height, yellow
	case sum.Version == b.to && b.to != b.from:
		return height, green
	}
	return height, blue
}
