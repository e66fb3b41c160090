package reconcile

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestDecide goes through every combination. The file has one line for each
// that matters: "-" stands for all values of a column that change nothing.
func TestDecide(t *testing.T) {
	data, err := os.ReadFile("testdata/verdicts.txt")
	if err != nil {
		t.Fatal(err)
	}
	var rules [][]string
	for _, line := range strings.Split(string(data), "\n") {
		if f := strings.Fields(line); len(f) > 0 && f[0] != "#" {
			rules = append(rules, f)
		}
	}
	hit := map[int]bool{}
	for _, purpose := range purposeNames {
		for _, where := range []string{"before", "after", "migrate", "hook"} {
			for _, blame := range blameNames {
				for tries := 1; tries <= 4; tries++ {
					for bits := range 16 {
						unknown, auto, crossed, previous := bits&1 > 0, bits&2 > 0, bits&4 > 0, bits&8 > 0
						var f Failure
						_ = f.Purpose.UnmarshalText([]byte(purpose))
						_ = f.Blame.UnmarshalText([]byte(blame))
						f.Commits, f.Tries, f.Unknown, f.AutoRevert, f.Crossed, f.HasPrevious = where != "before", tries, unknown, auto, crossed, previous
						f.Phase, f.Hook = map[string]Phase{"before": Fetch, "after": Start, "migrate": Migrate, "hook": Migrate}[where], where == "hook"
						last := "no"
						if tries >= 3 {
							last = "last"
						}
						row := []string{purpose, where, blame, last, yes(unknown, "unknown"), yes(previous && auto && !crossed, "back")}
						i := match(rules, row)
						if i < 0 {
							t.Fatalf("no rule for %v", row)
						}
						hit[i] = true
						if want, got := rules[i][len(rules[i])-1], Decide(f).String(); got != want {
							t.Errorf("%v: %s, rule %d says %s", row, got, i+1, want)
						}
					}
				}
			}
		}
	}
	for i := range rules {
		if !hit[i] {
			t.Errorf("rule %d is never used: %v", i+1, rules[i])
		}
	}
}

func yes(is bool, word string) string {
	if is {
		return word
	}
	return "no"
}

func match(rules [][]string, row []string) int {
	for i, r := range rules {
		ok := true
		for c, v := range row {
			ok = ok && (r[c] == "-" || r[c] == v)
		}
		if ok {
			return i
		}
	}
	return -1
}

func TestDelay(t *testing.T) {
	var got []string
	for tries := range 9 {
		got = append(got, fmt.Sprint(Delay(tries)))
	}
	want := strings.Fields("5s 5s 10s 20s 40s 1m20s 2m40s 3m0s 3m0s")
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if Delay(1<<40) != 3*time.Minute || Delay(-1) != 5*time.Second {
		t.Error("out of bounds")
	}
}
