package main

import (
	"context"
	"fmt"

	"drydock/spec"
	"github.com/spf13/cobra"
)

type bumpFlags struct {
	place               placeFlags
	environment         string
	version             string
	digests, artifacts  []string
	fetch               bool
	platforms           []string
	changesDir, changes string
	credentials         string
	output              string
}

func newBump(s streams) *cobra.Command {
	var f bumpFlags
	cmd := &cobra.Command{
		Use:   "bump SERVICE --env ENV --version V (--digest D | --artifact FILE | --fetch)",
		Short: "Name a service's next release",
		Long: `Bump writes a version and its digest into the release block of one service and
commits that one file. No byte outside the release block changes. A service that
is at this version and digest already is a success without a commit.

The digest comes from --digest, from hashing the file that was just built
(--artifact), or from downloading what the service's artifact block names for
this version (--fetch). A release with one artifact per platform gives
<os>/<arch>=… to --digest or --artifact, once for each.

Naming the version and digest that another environment runs is a promotion, and
hosts with a trust section see it as one.

With --push the commit goes to the branch's upstream. If somebody else pushes at
the same time, the bump is applied again to what they pushed, up to ten times in
60 seconds. Your own work tree, staged or not, is never part of the commit.`,
		Example: `  drydock bump web --env staging --version 1.4.3 --artifact web.tar.gz --push
  drydock bump web --env staging --version 1.4.3 --fetch --repo https://git.acme.example/ops/releases.git
  drydock bump web --env prod --version 1.4.3 --digest sha256:9f86… --changes ../web --since v1.4.2`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return bump(cmd, s, args[0], f) },
	}
	f.place.register(cmd)
	fl := cmd.Flags()
	fl.StringVarP(&f.environment, "env", "e", "", "the environment: a folder of the repository")
	fl.StringVar(&f.version, "version", "", "the version to run")
	fl.StringArrayVar(&f.digests, "digest", nil, "its digest, sha256:… or git:…; or <os>/<arch>=digest, for each platform")
	fl.StringArrayVar(&f.artifacts, "artifact", nil, "the artifact's file, to hash; or <os>/<arch>=FILE, for each platform")
	fl.BoolVar(&f.fetch, "fetch", false, "download the artifact from its declared source, and hash that")
	fl.StringSliceVar(&f.platforms, "platform", nil, "with --fetch: the platforms, where the source names them (default: those the release has now, or linux/amd64)")
	fl.StringVar(&f.credentials, "credentials", "", "with --fetch: the directory of credentials (default: $CREDENTIALS_DIRECTORY)")
	fl.StringVar(&f.changesDir, "changes", "", "a clone of the service's own source, to list the changes in the commit")
	fl.StringVar(&f.changes, "since", "", "with --changes: the commit or tag of the present release")
	offerNames(cmd)
	outputFlag(cmd, &f.output, "text", "json")
	return cmd
}

func bump(cmd *cobra.Command, s streams, service string, f bumpFlags) error {
	ctx := cmd.Context()
	switch {
	case f.environment == "":
		return wrong(cmd, "bump: say which environment with --env")
	case f.version == "":
		return wrong(cmd, "bump: say which version with --version")
	case (f.changesDir == "") != (f.changes == ""):
		return wrong(cmd, "bump: --changes and --since go together")
	case btoi(len(f.digests) > 0)+btoi(len(f.artifacts) > 0)+btoi(f.fetch) > 1:
		return wrong(cmd, "bump: --digest, --artifact and --fetch exclude each other")
	}
	want := spec.Change{Version: f.version}
	if err := givenDigests(ctx, f, &want); err != nil {
		return err
	}
	var changes []change
	if f.changesDir != "" {
		var err error
		if changes, err = changesSince(ctx, f.changesDir, f.changes); err != nil {
			return err
		}
	}
	c, err := f.place.open(ctx, cmd)
	if err != nil {
		return err
	}
	defer c.close()
	fetched := false
	return moveRelease(ctx, s, c, f.environment, service, f.output, func(ctx context.Context, t tree, now declared) (spec.Change, string, error) {
		to := want
		switch {
		case f.fetch && !fetched:
			if err := fetchDigests(ctx, s, t, now, f, &want); err != nil {
				return to, "", err
			}
			fetched, to = true, want
		case want.Digest == "" && len(want.Digests) == 0 && (now.release.Digest != "" || len(now.release.Digests) > 0):
			return to, "", wrong(cmd, "bump: the digest of %s %s is needed: --digest, --artifact FILE or --fetch", service, f.version)
		}
		if same(to, now.release) { // the same release is no new one, whichever attempt it is at
			return now.release, "", nil
		}
		if err := refuseLeft(ctx, t, now, to); err != nil {
			return to, "", err
		}
		return to, releaseMessage(now.subject(to), "", now, to, changes), nil
	})
}

// refuseLeft says no to a release that the environment has left: going back is
// a decision of its own, with a command and a permission of its own. A robot
// that is late must not undo what a newer one did.
func refuseLeft(ctx context.Context, t tree, now declared, to spec.Change) error {
	had, err := releases(ctx, t, now.path, now.service, to.Version)
	if err != nil {
		return err
	}
	for _, p := range had {
		if same(p.release, to) {
			back := to.Version
			if back == now.release.Version { // with another digest by now
				back = digestWords(to)
			}
			return fmt.Errorf("%s has left %s %s (it came with %s): going back is a rollback\nRun: drydock rollback %s --env %s --to %s",
				now.environment, now.service, to.Version, spec.Short(p.commit), now.service, now.environment, back)
		}
	}
	return nil
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
