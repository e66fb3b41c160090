package main

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode"
)

// change is a commit of a service's own source that a release carries.
type change struct {
	Service string    `json:"service"`
	Hash    string    `json:"hash"`
	Time    time.Time `json:"time"`
	Email   string    `json:"email"`
	Request string    `json:"request,omitempty"` // "#123", "!12"; "" if it came without one
	Subject string    `json:"subject"`
}

// maxChanges bounds the trailers of one commit.
const maxChanges = 1000

// trailer is the change as a Drydock-Change trailer has it.
func (c change) trailer(service string) string {
	request := c.Request
	if request == "" {
		request = "-"
	}
	return fmt.Sprintf("%s %s %s %s %s %s", service, c.Hash, c.Time.UTC().Format(time.RFC3339), c.Email, request, c.Subject)
}

// parseChange reads what trailer wrote.
func parseChange(s string) (change, bool) {
	f := strings.SplitN(s, " ", 6)
	if len(f) != 6 {
		return change{}, false
	}
	at, err := time.Parse(time.RFC3339, f[2])
	if err != nil {
		return change{}, false
	}
	c := change{Service: f[0], Hash: f[1], Time: at, Email: f[3], Request: f[4], Subject: f[5]}
	if c.Request == "-" {
		c.Request = ""
	}
	return c, true
}

var (
	requestSuffix = regexp.MustCompile(`\s*\(([#!][0-9]+)\)$`)
	requestLine   = regexp.MustCompile(`(?m)^See merge request \S*(![0-9]+)$`)
)

// changesSince lists the commits of a service's source after since, newest
// first. Merges are left out: what they bring is listed itself.
func changesSince(ctx context.Context, dir, since string) ([]change, error) {
	if !isDir(dir) {
		return nil, fmt.Errorf("--changes %s is no directory: name a clone of the service's own source", dir)
	}
	g := git{dir: dir}
	if _, err := g.run(ctx, "rev-parse", "--verify", "--quiet", "--end-of-options", since+"^{commit}"); err != nil {
		hint := "name the commit or tag that the present release was built from"
		if g.shallow(ctx) {
			hint = "this clone is shallow; git fetch --unshallow --tags may bring it"
		}
		return nil, fmt.Errorf("--since %s is no commit of %s: %s", since, dir, hint)
	}
	out, err := g.run(ctx, "log", "-z", "--no-merges", fmt.Sprintf("--max-count=%d", maxChanges+1),
		"--format=%H%n%cI%n%ae%n%s%n%b", since+"..HEAD", "--")
	if err != nil {
		return nil, err
	}
	var list []change
	for entry := range strings.SplitSeq(out, "\x00") {
		f := strings.SplitN(entry, "\n", 5)
		if len(f) < 5 {
			continue
		}
		at, err := time.Parse(time.RFC3339, f[1])
		if err != nil {
			return nil, fmt.Errorf("commit %s of %s has no readable date: %w", f[0], dir, err)
		}
		c := change{Hash: f[0], Time: at, Email: oneWord(f[2]), Subject: oneLine(f[3])}
		if m := requestSuffix.FindStringSubmatch(c.Subject); m != nil {
			c.Request, c.Subject = m[1], strings.TrimSuffix(c.Subject, m[0])
		} else if m := requestLine.FindStringSubmatch(f[4]); m != nil {
			c.Request = m[1]
		}
		list = append(list, c)
	}
	if len(list) > maxChanges {
		return nil, fmt.Errorf("%s has more than %d commits since %s: a release of so many is named wrongly, or too large to review", dir, maxChanges, since)
	}
	return list, nil
}

// oneLine is text as a trailer may hold it.
func oneLine(s string) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) }), " ")
	if r := []rune(s); len(r) > 200 {
		s = string(r[:199]) + "…"
	}
	if s == "" {
		return "(no subject)"
	}
	return s
}

func oneWord(s string) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) }), "_")
	if s == "" {
		return "-"
	}
	return s
}
