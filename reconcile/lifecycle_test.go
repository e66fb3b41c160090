package reconcile

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var arrow = regexp.MustCompile(`(?m)^\s*(\w+) -> (\w+) \[label = "(\w+)"\]$`)

func TestDrawingIsTheTable(t *testing.T) {
	data, err := os.ReadFile("lifecycle.dot")
	if err != nil {
		t.Fatal(err)
	}
	var drawn, table []string
	for _, m := range arrow.FindAllStringSubmatch(string(data), -1) {
		drawn = append(drawn, fmt.Sprintf("%s on %s to %s", m[1], m[3], m[2]))
	}
	for _, tr := range transitions {
		table = append(table, fmt.Sprintf("%s on %s to %s", tr.from, tr.on, tr.to))
	}
	slices.Sort(drawn)
	slices.Sort(table)
	if d := cmp.Diff(table, drawn); d != "" {
		t.Errorf("lifecycle.dot (-table +drawing):\n%s", d)
	}
	for s := range stageNames {
		if !regexp.MustCompile(`(?m)^\s*` + Stage(s).String() + `\s+\[label`).Match(data) {
			t.Errorf("the drawing has no %s", Stage(s))
		}
	}
}

func TestNextIsOnlyWhatIsDrawn(t *testing.T) {
	n := 0
	for from := range stageNames {
		for on := range eventNames {
			if _, err := next(Stage(from), Event(on)); err == nil {
				n++
			}
		}
	}
	if n != len(transitions) {
		t.Errorf("%d ways, %d drawn: two arrows leave one stage on one event", n, len(transitions))
	}
}
