package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"drydock/spec"
	"github.com/hashicorp/hcl/v2"
)

// declared is a service's release block as one state of the repository has it.
type declared struct {
	service, environment string
	path                 string
	content              []byte
	release              spec.Change
}

// find reads a service's release from a tree.
func find(t tree, environment, service string) (declared, error) {
	fsys := t.files()
	if err := checkEnvironment(fsys, environment); err != nil {
		return declared{}, err
	}
	path, err := locate(fsys, environment, service)
	if err != nil {
		return declared{}, err
	}
	content, err := fs.ReadFile(fsys, path)
	if err != nil {
		return declared{}, err
	}
	release, _, err := spec.ReleaseIn(content, path, service)
	if err != nil {
		return declared{}, inFile(err, path, content)
	}
	return declared{service, environment, path, content, release}, nil
}

// locate finds the file that declares a service. Where there is none, a file
// that does not parse may be the one, so that is said first.
func locate(fsys fs.FS, environment, service string) (string, error) {
	path, known, err := spec.Locate(fsys, environment, service)
	if path != "" {
		return path, err
	}
	none := fmt.Sprintf("%s has no service %q%s", environment, service, suggest(service, known, "its services are"))
	var broken hcl.Diagnostics
	switch {
	case err == nil:
		return "", errors.New(none)
	case !errors.As(err, &broken):
		return "", err
	}
	files := map[string]*hcl.File{}
	for _, d := range broken {
		content, _ := fs.ReadFile(fsys, d.Subject.Filename)
		files[d.Subject.Filename] = &hcl.File{Bytes: content}
	}
	return "", &fileError{append(broken, &hcl.Diagnostic{Severity: hcl.DiagError, Summary: none, Detail: "What does not parse may declare it: mend that first."}), files}
}

// environments are the top-level folders that may hold services.
func environments(fsys fs.FS) []string {
	entries, _ := fs.ReadDir(fsys, ".")
	var names []string
	for _, e := range entries {
		if e.IsDir() && e.Name() != "approvals" && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names
}

func checkEnvironment(fsys fs.FS, environment string) error {
	known := environments(fsys)
	if slices.Contains(known, environment) {
		return nil
	}
	return fmt.Errorf("the repository has no environment %q%s", environment, suggest(environment, known, "its environments are"))
}

// suggest ends an error about an unknown word with the nearest known one, or
// with all of them where none is near and they are few.
func suggest(word string, known []string, intro string) string {
	near := spec.DidYouMean(word, known)
	switch {
	case near != "":
		return ";" + strings.Replace(near, " D", " d", 1)
	case len(known) == 0:
		return ", and nothing else of the kind"
	case len(known) <= 12:
		return "; " + intro + " " + strings.Join(known, ", ")
	}
	return fmt.Sprintf("; there are %d others", len(known))
}

// digestWords is a release's digest as trailers and people have it: the digest,
// each platform's, or "-".
func digestWords(c spec.Change) string {
	if len(c.Digests) > 0 {
		var words []string
		for _, p := range slices.Sorted(maps.Keys(c.Digests)) {
			words = append(words, p+"="+c.Digests[p])
		}
		return strings.Join(words, " ")
	}
	if c.Digest == "" {
		return "-"
	}
	return c.Digest
}

// subject is the first line of a commit that moves a release.
func (d declared) subject(to spec.Change) string {
	switch {
	case d.release.Version != to.Version:
	case placeholder(d.release):
		return fmt.Sprintf("%s %s (%s): its first artifact, %s", d.service, to.Version, d.environment, shortDigest(to.Digest, to.Digests))
	default:
		return fmt.Sprintf("%s %s (%s): another artifact, %s in place of %s", d.service, to.Version, d.environment, shortDigest(to.Digest, to.Digests), shortDigest(d.release.Digest, d.release.Digests))
	}
	return fmt.Sprintf("%s %s -> %s (%s)", d.service, d.release.Version, to.Version, d.environment)
}

// releaseMessage is the commit message of everything that moves a release.
func releaseMessage(subject, body string, d declared, to spec.Change, changes []change) string {
	var b strings.Builder
	b.WriteString(subject + "\n\n")
	if body != "" {
		b.WriteString(body + "\n\n")
	}
	fmt.Fprintf(&b, "Drydock-Release: %s/%s %s %s %s\n", d.environment, d.service, d.release.Version, to.Version, digestWords(to))
	for _, c := range changes {
		b.WriteString("Drydock-Change: " + c.trailer(d.service) + "\n")
	}
	return b.String()
}

// moved is what bump, rollback and retry print.
type moved struct {
	Service     string            `json:"service"`
	Environment string            `json:"environment"`
	From        string            `json:"from"`
	To          string            `json:"to"`
	Digest      string            `json:"digest"`
	Digests     map[string]string `json:"digests,omitempty"`
	Attempt     int               `json:"attempt,omitempty"`
	Changes     int               `json:"changes,omitempty"`
	Commit      string            `json:"commit"`
	Pushed      bool              `json:"pushed"`
	Changed     bool              `json:"changed"`
	subject     string            // of the commit
}

// decide says what a service's release should become, from what it is.
type decide func(ctx context.Context, t tree, now declared) (to spec.Change, message string, err error)

// moveRelease is the one way in which a release block is changed: find it in
// the newest state, decide, splice, commit, print.
func moveRelease(ctx context.Context, s streams, c *clone, environment, service, output string, next decide) error {
	var m moved
	var path string
	out, err := c.commit(ctx, func(ctx context.Context, t tree) (proposal, error) {
		now, err := find(t, environment, service)
		if err != nil {
			return proposal{}, err
		}
		to, message, err := next(ctx, t, now)
		if err != nil {
			return proposal{}, err
		}
		path = now.path
		m = moved{Service: service, Environment: environment, From: now.release.Version, To: to.Version, Digest: to.Digest, Digests: to.Digests,
			Changes: strings.Count(message, "\nDrydock-Change: ")}
		m.subject, _, _ = strings.Cut(message, "\n")
		if to.Attempt > 1 {
			m.Attempt = to.Attempt
		}
		if to.Equal(now.release) {
			return settled(path), nil
		}
		content, err := spec.Bump(now.content, path, service, to)
		if err != nil {
			return proposal{}, inFile(err, path, now.content)
		}
		return one(path, content, message), nil
	})
	if err != nil {
		return err
	}
	m.Commit, m.Pushed, m.Changed = out.commit, out.pushed, out.changed
	if output == "json" {
		return s.json(m)
	}
	say(s, c, m, path, out)
	return nil
}

func say(s streams, c *clone, m moved, path string, out outcome) {
	if !m.Changed {
		fmt.Fprintf(s.Out, "%s is at %s in %s already: no commit was needed\n", m.Service, m.To, m.Environment)
		return
	}
	fmt.Fprintf(s.Out, "%s  %s  %s\n", spec.Short(m.Commit), m.subject, path)
	whereTo(s, c, out)
}

// whereTo tells a person where the commit is now, and what is left to do.
func whereTo(s streams, c *clone, out outcome) {
	switch {
	case out.behind:
		s.note("pushed to %s; this clone could not follow it (git pull when you are ready)", strings.TrimPrefix(c.target, "refs/heads/"))
	case out.pushed:
		s.note("pushed to %s of %s", strings.TrimPrefix(c.target, "refs/heads/"), c.remote)
	default:
		s.note("committed on %s; it deploys once it is pushed (git push)", c.branch)
	}
}

// errNoHistory asks for the commits that a shallow clone has not.
var errNoHistory = errors.New("this is a shallow clone, which has no history to find it in: git fetch --unshallow first")
