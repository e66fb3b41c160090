package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// reverted is what an agent logs of a release that does not get healthy.
func reverted(t0 time.Time) []event {
	at := func(ms int) time.Time { return t0.Add(time.Duration(ms) * time.Millisecond) }
	return []event{
		{Time: at(0), Message: "plan", Purpose: "deploy", Why: "1.0.0 -> 1.1.0"},
		{Time: at(0), Message: "begun", Step: "web/drain/file"},
		{Time: at(500), Message: "done", Step: "web/drain/file"},
		{Time: at(500), Message: "begun", Step: "web/check/http"},
		{Time: at(2500), Message: "failed", Step: "web/check/http", Error: "not healthy within 2s"},
		{Time: at(2500), Message: "quarantined"},
		{Time: at(2500), Message: "plan", Purpose: "revert", Why: "1.1.0 -> 1.0.0"},
		{Time: at(2500), Message: "begun", Step: "web/undrain/file"},
		{Time: at(2510), Message: "done", Step: "web/undrain/file"},
		{Time: at(2510), Message: "finished"},
	}
}

func forecast(ids ...string) (p plan) {
	for _, id := range ids {
		p.Steps = append(p.Steps, struct {
			ID     string `json:"id"`
			Action string `json:"action"`
			Origin string `json:"origin"`
		}{id, "update", "demo/web.hcl:3@4f2a91c"})
	}
	return p
}

func TestBoardWithoutATerminal(t *testing.T) {
	var out bytes.Buffer
	b := &Board{screen: newScreen(&out), from: "1.0.0", to: "1.1.0"}
	b.Plan(forecast("web/drain/file", "web/check/http", "web/undrain/file"))
	for _, e := range reverted(time.Unix(0, 0)) {
		b.See(e)
	}
	b.Leave(time.Unix(3, 0))
	want := `   plan: 3 steps
     · drain    file       demo/web.hcl:3@4f2a91c
     · check    http       demo/web.hcl:3@4f2a91c
     · undrain  file       demo/web.hcl:3@4f2a91c
   deploy  1.0.0 -> 1.1.0
   ✓ drain    file          500ms   demo/web.hcl:3@4f2a91c
   ✗ check    http          2.00s   demo/web.hcl:3@4f2a91c
     not healthy within 2s
   revert  1.1.0 -> 1.0.0
   ✓ undrain  file           10ms
`
	if d := cmp.Diff(want, trimLines(out.String())); d != "" {
		t.Error(d)
	}
}

// A live board is drawn over itself by counting its lines, so each must fit.
func TestBoardOnATerminal(t *testing.T) {
	load := &Load{slots: make([]Slot, 1000), figures: Figures{Sent: 12345, Failed: 12345, Waiting: 1234, Longest: 9 * time.Second, Answered: map[string]int{"1.0.0": 600, "1.1.0": 600}}}
	for i := range load.slots {
		load.slots[i] = Slot{Sent: 20, Version: "1.0.0", Longest: time.Duration(i) * time.Millisecond}
	}
	load.slots[500].Failed = 1
	b := &Board{screen: &Screen{w: &bytes.Buffer{}, live: true, width: 60, height: 30}, load: load, from: "1.0.0", to: "1.1.0"}
	b.Plan(forecast("web/drain/file", "web/check/http", "web/undrain/file"))
	for _, e := range reverted(time.Unix(0, 0)) {
		b.See(e)
	}
	lines := b.lines(time.Unix(3, 0))
	for _, line := range lines {
		if n := utf8.RuneCountInString(line); n > 60+len(margin) {
			t.Errorf("%d wide: %q", n, line)
		}
	}
	text := strings.Join(lines, "\n")
	for _, want := range []string{"– undrain", "✗ check", "×", "12,345 failed", "1,234 wait"} {
		if !strings.Contains(text, want) {
			t.Errorf("the board does not show %q:\n%s", want, text)
		}
	}
}

func trimLines(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}
