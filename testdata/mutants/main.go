// Command mutants removes each guard of the list in turn and wants the test
// named for it to go red. A mutant that does not compile, or whose test stays
// green, is a failure of the list.
//
//	go run ./testdata/mutants [-run REGEXP] [-j N]
//
// The lists are the *.txt files beside this one, a mutant a line:
//
//	file | exact text of one line, found once | replacement | package | test
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"
)

type mutant struct {
	list, file, old, new, pkg, test string
}

func main() {
	only := flag.String("run", "", "only mutants whose line matches this `regexp`")
	jobs := flag.Int("j", 2, "how many at once")
	flag.Parse()
	if err := run(*only, *jobs); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(only string, jobs int) error {
	match, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	mutants, err := lists(match)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	work, bad := make(chan mutant), make(chan string, len(mutants))
	for range jobs {
		dir, err := checkout()
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		wg.Go(func() {
			for m := range work {
				if why := m.try(dir); why != "" {
					bad <- fmt.Sprintf("%s: %s: %s", m.list, m.test, why)
				} else {
					fmt.Printf("red as it should be: %-60s %s\n", m.test, m.file)
				}
			}
		})
	}
	for _, m := range mutants {
		work <- m
	}
	close(work)
	wg.Wait()
	close(bad)
	n := 0
	for b := range bad {
		fmt.Println("NOT CAUGHT:", b)
		n++
	}
	fmt.Printf("%d of %d mutants caught\n", len(mutants)-n, len(mutants))
	if n > 0 {
		return fmt.Errorf("%d guards can be removed without a test going red", n)
	}
	return nil
}

func lists(match *regexp.Regexp) ([]mutant, error) {
	files, err := filepath.Glob("testdata/mutants/*.txt")
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("no lists below testdata/mutants; run from the repository's root")
	}
	var all []mutant
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		for i, line := range strings.Split(string(data), "\n") {
			if strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#") || !match.MatchString(line) {
				continue
			}
			p := strings.Split(line, " | ")
			if len(p) != 5 {
				return nil, fmt.Errorf("%s:%d: %d fields, want 5", f, i+1, len(p))
			}
			for k := range p {
				p[k] = strings.ReplaceAll(p[k], `\|`, "|")
			}
			name := strings.TrimSuffix(filepath.Base(f), ".txt")
			all = append(all, mutant{fmt.Sprintf("%s:%d", name, i+1), strings.TrimSpace(p[0]), p[1], p[2], strings.TrimSpace(p[3]), strings.TrimSpace(p[4])})
		}
	}
	return all, nil
}

// checkout copies what git would commit, so that nothing here is changed.
func checkout() (string, error) {
	dir, err := os.MkdirTemp("", "mutants-")
	if err != nil {
		return "", err
	}
	cmd := exec.Command("sh", "-c", `git ls-files -co --exclude-standard -z | xargs -0 cp --parents -t "$0"`, dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("copying the tree: %w\n%s", err, out)
	}
	return dir, nil
}

// try returns why the mutant was not caught, or "".
func (m mutant) try(dir string) string {
	path := filepath.Join(dir, m.file)
	src, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	old := strings.TrimSpace(m.old)
	if n := bytes.Count(src, []byte(old)); n != 1 {
		return fmt.Sprintf("its text stands %d times in %s", n, m.file)
	}
	mutated := bytes.Replace(src, []byte(old), []byte(strings.TrimSpace(m.new)), 1)
	if err := os.WriteFile(path, mutated, 0o644); err != nil {
		return err.Error()
	}
	defer os.WriteFile(path, src, 0o644)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	pkg := "./" + strings.TrimPrefix(strings.TrimPrefix(m.pkg, "drydock/"), "./")
	if out, err := exec.CommandContext(ctx, "go", "test", "-C", dir, "-c", "-o", os.DevNull, pkg).CombinedOutput(); err != nil {
		return fmt.Sprintf("does not compile: %s", bytes.TrimSpace(out))
	}
	test := exec.CommandContext(ctx, "go", "test", "-count=1", "-timeout=4m", "-run", "^"+strings.ReplaceAll(m.test, "/", "$/^")+"$", pkg)
	test.Dir = dir
	out, err := test.CombinedOutput()
	switch {
	case err == nil && bytes.Contains(out, []byte("no tests to run")):
		return "there is no such test"
	case err == nil:
		return "its test stays green"
	}
	return ""
}
