package attacks

import (
	"slices"
	"strings"
	"testing"
)

// TestCorpusIsWhole holds the rows to what the issue asks for.
func TestCorpusIsWhole(t *testing.T) {
	attacks, near := 0, 0
	names := map[string]bool{}
	tried := map[string][2]int{}
	for _, row := range rows() {
		if names[row.name] || strings.TrimSpace(row.name) == "" {
			t.Errorf("the name %q stands twice", row.name)
		}
		names[row.name] = true
		if len(row.rule) < 10 {
			t.Errorf("%s: no rule", row.name)
		}
		if row.item != "" && !slices.Contains(badInput(), row.item) {
			t.Errorf("%s: the issue has no %q", row.name, row.item)
		}
		n := tried[row.item]
		if row.attack() {
			attacks, n[0] = attacks+1, n[0]+1
		} else {
			near, n[1] = near+1, n[1]+1
		}
		tried[row.item] = n
	}
	if attacks < 60 || near < 60 {
		t.Errorf("%d attacks and %d near misses; the least is 60 of each", attacks, near)
	}
	for _, item := range badInput() {
		if n := tried[item]; n[0] == 0 || n[1] == 0 {
			t.Errorf("%s: %d attacks and %d near misses", item, n[0], n[1])
		}
	}
	t.Logf("%d attacks, %d near misses", attacks, near)
}
