package main

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"

	"drydock/spec"
)

// past is one release that a service had.
type past struct {
	commit  string // that brought it
	release spec.Change
}

// same reports whether it is the same release, whatever the attempt.
func same(a, b spec.Change) bool {
	a.Attempt, b.Attempt = 1, 1
	return a.Equal(b)
}

// maxHistory bounds how many commits of one file are looked through.
const maxHistory = 20_000

// releases lists the releases that a service has had in its file, newest first,
// each once for as long as it stood. Only the line of commits that the branch
// itself went along counts: what stood on a side branch for a while was never
// deployed. containing, if not empty, passes over contents without these bytes.
func releases(ctx context.Context, t tree, path, service, containing string) ([]past, error) {
	log, err := t.run(ctx, "log", "--first-parent", "-m", "--follow", "--format=commit %H", "--name-only",
		"--max-count="+strconv.Itoa(maxHistory), t.head, "--", path)
	if err != nil {
		return nil, err
	}
	var commits []string
	var ask strings.Builder
	commit := ""
	for line := range strings.Lines(log) {
		line = strings.TrimRight(line, "\n")
		if c, ok := strings.CutPrefix(line, "commit "); ok {
			commit = c
		} else if line != "" && commit != "" && !strings.HasPrefix(line, `"`) {
			commits = append(commits, commit)
			fmt.Fprintf(&ask, "%s:%s\n", commit, line)
			commit = ""
		}
	}
	out, err := t.feed(ctx, strings.NewReader(ask.String()), "cat-file", "--batch")
	if err != nil {
		return nil, err
	}
	var list []past
	rest := []byte(out)
	for _, c := range commits {
		head, after, ok := bytes.Cut(rest, []byte("\n"))
		if !ok {
			break
		}
		rest = after
		fields := strings.Fields(string(head))
		if len(fields) != 3 || fields[1] != "blob" {
			continue // deleted in this commit
		}
		size, err := strconv.Atoi(fields[2])
		if err != nil || size >= len(rest) {
			return nil, fmt.Errorf("git cat-file answered %q: this git is not understood", head)
		}
		content := rest[:size]
		rest = rest[size+1:]
		if containing != "" && !bytes.Contains(content, []byte(containing)) {
			continue
		}
		r, _, err := spec.ReleaseIn(content, path, service)
		if err != nil {
			continue // a state that never parsed was never deployed
		}
		if n := len(list); n > 0 && same(list[n-1].release, r) {
			list[n-1].commit = c
			continue
		}
		list = append(list, past{c, r})
	}
	return list, nil
}

// shallow reports whether older commits are missing here.
func (g git) shallow(ctx context.Context) bool {
	out, _ := g.run(ctx, "rev-parse", "--is-shallow-repository")
	return out == "true"
}
