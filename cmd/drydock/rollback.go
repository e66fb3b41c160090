package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"drydock/spec"
	"github.com/spf13/cobra"
)

func newRollback(s streams) *cobra.Command {
	var place placeFlags
	var environment, to, output string
	cmd := &cobra.Command{
		Use:   "rollback SERVICE --env ENV [--to V]",
		Short: "Name an older release again",
		Long: `Rollback makes a new commit that names an older release, with the digest that it
had then. Without --to it is the release that stood before the present one was
first named, so that a second rollback goes further back and not forth again.
What never ran is passed over: a digest of nothing but zeros, which a new service
begins with, and a version's digest that another one corrected.

The release is looked for in the history of the file that declares the service.
History itself is never rewritten.`,
		Example: `  drydock rollback web --env prod --push
  drydock rollback web --env prod --to 1.4.1 --push`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if environment == "" {
				return wrong(cmd, "rollback: say which environment with --env")
			}
			c, err := place.open(cmd.Context(), cmd)
			if err != nil {
				return err
			}
			defer c.close()
			return moveRelease(cmd.Context(), s, c, environment, args[0], output, func(ctx context.Context, t tree, now declared) (spec.Change, string, error) {
				if names(now.release, to) {
					return now.release, "", nil
				}
				target, err := olderRelease(ctx, t, now, to)
				if err != nil {
					return spec.Change{}, "", err
				}
				next := target.release
				next.Attempt = 1
				body := fmt.Sprintf("Rollback to the release of %s.", spec.Short(target.commit))
				return next, releaseMessage(now.subject(next), body, now, next, nil), nil
			})
		},
	}
	place.register(cmd)
	cmd.Flags().StringVarP(&environment, "env", "e", "", "the environment: a folder of the repository")
	cmd.Flags().StringVar(&to, "to", "", "the version to go back to, or its digest (default: the release before the present one)")
	offerNames(cmd)
	outputFlag(cmd, &output, "text", "json")
	return cmd
}

// mostNamed bounds how many older releases an error names, newest first.
const mostNamed = 10

// olderRelease finds where to go back to: a version or digest, or without one
// the release that stood before the present one was first named. Of a version
// that had several digests the last counts: it corrected the others.
func olderRelease(ctx context.Context, t tree, now declared, wanted string) (past, error) {
	had, err := releases(ctx, t, now.path, now.service, "")
	if err != nil {
		return past{}, err
	}
	var known []string
	var back *past
	last := map[string]spec.Change{now.release.Version: now.release}
	began := false // the present release, which may have stood several times
	for i, p := range had {
		v := p.release.Version
		if _, met := last[v]; !met && !placeholder(p.release) {
			last[v] = p.release
		}
		switch {
		case placeholder(p.release):
			continue
		case wanted != "" && names(p.release, wanted):
			return p, nil
		case same(p.release, now.release):
			began, back = true, nil
		case began && back == nil && same(last[v], p.release):
			back = &had[i]
		}
		if v != now.release.Version && !slices.Contains(known, v) && len(known) < mostNamed {
			known = append(known, v)
		}
	}
	if wanted == "" && back != nil {
		return *back, nil
	}
	if t.shallow(ctx) {
		return past{}, errNoHistory
	}
	if wanted != "" {
		return past{}, fmt.Errorf("%s has had no %s %s%s\nA release that never ran here is a bump", now.environment, now.service, wanted, suggest(wanted, known, "it has had"))
	}
	return past{}, fmt.Errorf("%s has had no release of %s before %s: name one with drydock bump", now.environment, now.service, now.release.Version)
}

// names reports whether a person's word means this release: its version, or a
// digest of it.
func names(c spec.Change, word string) bool {
	return word != "" && (c.Version == word || c.Digest == word || slices.Contains(slices.Collect(maps.Values(c.Digests)), word))
}

// placeholder reports whether a release names no artifact yet: its digests are
// nothing but zeros, as those of a service that was just declared.
func placeholder(c spec.Change) bool {
	digests := slices.Collect(maps.Values(c.Digests))
	if c.Digest != "" {
		digests = append(digests, c.Digest)
	}
	for _, d := range digests {
		if _, hash, _ := strings.Cut(d, ":"); strings.Trim(hash, "0") != "" {
			return false
		}
	}
	return len(digests) > 0
}
