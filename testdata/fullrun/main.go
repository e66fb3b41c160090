// Command fullrun is `go test` for the full run: it shows what failed and one
// line a package, and counts a test that was skipped for want of something
// that could be installed as a failure.
//
//	go run ./testdata/fullrun [flags and packages of go test]
//
// With DRYDOCK_TEST_FULL empty, skips are only listed.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// event is a line of go test -json.
type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64 // seconds
}

func main() {
	if err := run(os.Args[1:], os.Getenv("DRYDOCK_TEST_FULL") != ""); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string, full bool) error {
	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	skipped, passed, failed, slow := read(bufio.NewScanner(out))
	err = cmd.Wait()
	missing := wanting(skipped)
	for _, s := range missing {
		fmt.Println("skipped:", s)
	}
	fmt.Println("the slowest: " + strings.Join(slowest(slow), ", "))
	fmt.Printf("%d passed, %d failed, %d skipped\n", passed, failed, len(skipped))
	if full && len(missing) > 0 {
		err = errors.Join(err, fmt.Errorf("the full run skips nothing that can be installed: make deps, as root"))
	}
	return err
}

func read(lines *bufio.Scanner) (skipped []string, passed, failed int, slow []event) {
	lines.Buffer(nil, 16<<20)
	said := map[string]string{} // package and test -> output
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			fmt.Println(lines.Text())
			continue
		}
		key := e.Package + " " + e.Test
		if e.Elapsed > 1 && e.Test != "" && !strings.Contains(e.Test, "/") {
			slow = append(slow, e)
		}
		switch e.Action {
		case "output", "build-output":
			if e.Test == "" && (strings.HasPrefix(e.Output, "ok ") || strings.HasPrefix(e.Output, "FAIL") || e.Action == "build-output") {
				fmt.Print(e.Output)
			}
			said[key] += e.Output
		case "pass":
			if e.Test != "" {
				passed++
			}
			delete(said, key)
		case "skip":
			if e.Test != "" {
				skipped = append(skipped, e.Package+"."+e.Test+": "+why(said[key]))
			}
			delete(said, key)
		case "fail":
			if e.Test != "" {
				failed++
			}
			fmt.Print(said[key])
			delete(said, key)
		}
	}
	return skipped, passed, failed, slow
}

// slowest are the tests to look at when the run grows too long.
func slowest(all []event) (lines []string) {
	slices.SortFunc(all, func(a, b event) int { return cmp.Compare(b.Elapsed, a.Elapsed) })
	for _, e := range all[:min(len(all), 15)] {
		lines = append(lines, fmt.Sprintf("%s.%s %.0fs", strings.TrimPrefix(e.Package, "drydock/"), e.Test, e.Elapsed))
	}
	return lines
}

// why is the line in which a test says why it was skipped.
func why(output string) string {
	for line := range strings.Lines(output) {
		if _, text, ok := strings.Cut(line, ".go:"); ok {
			return strings.TrimSpace(text)
		}
	}
	return strings.TrimSpace(output)
}

// wanting are the skips that an installation, or root, would have spared. A
// test that only runs as a child of another says "only", and one that asks too
// much of a kernel says so.
func wanting(skipped []string) []string {
	return slices.DeleteFunc(slices.Clone(skipped), func(s string) bool {
		return strings.Contains(s, ": only ") || strings.Contains(s, "kernel") || strings.Contains(s, " only as ") || strings.Contains(s, " only with ")
	})
}
