package gittree

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"drydock/hostagent/argv"
	"drydock/hostagent/confine"
	"drydock/hostagent/proc"
	"drydock/reconcile"
)

// markEnv is the variable by which the builds of a release are found again, if
// the agent was killed while one was running.
const markEnv = "DRYDOCK_BUILD="

// mark ends with a slash because marks are prefixes.
func mark(s reconcile.Step) string { return markEnv + s.Target.ReleaseDir() + "/" }

// build runs the block's command in the tree, as its user. $DRYDOCK_RELEASE_DIR
// is where the tree will stand, not where it is built.
func (d *Driver) build(ctx context.Context, s reconcile.Step, c Config, dir, temp string) error {
	rules, env, err := argv.WithinBuild(d.o.Env, c.User, confine.Room{
		Tree: dir, Temp: temp, Releases: filepath.Dir(dir), FileSize: cmp.Or(d.o.Limits.Bytes, maxBytes),
	})
	if err != nil {
		return err
	}
	_, err = argv.Run(ctx, d.o.Env, s, argv.Command{
		Argv: c.Build, User: c.User, Dir: dir, Timeout: time.Duration(c.Timeout), Env: append(env, mark(s)), Within: rules,
	})
	var exit *argv.ExitError
	var late *argv.TimeoutError
	switch {
	case err == nil || ctx.Err() != nil && !errors.As(err, &late):
		return err
	case errors.As(err, &exit):
		return reconcile.ReleaseFault(fmt.Errorf("the build failed: %w", err), "The old release stays. Mend the build and bump to that commit; this one is tried again")
	case errors.As(err, &late):
		return &reconcile.Fault{Err: fmt.Errorf("the build does not end: %w", err), Hint: "The old release stays. Mend the build and bump to that commit, or raise `timeout`; this one is tried again"}
	}
	return err
}

// endTime bounds how long a build that was left behind may take to die.
const endTime = 10 * time.Second

// endBuilds kills what is left of a build that was cut off with its agent: it
// would go on writing into what is now removed.
func endBuilds(ctx context.Context, s reconcile.Step) error {
	ctx, cancel := context.WithTimeout(ctx, endTime)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		kin, err := proc.Find(proc.Trait{Mark: mark(s)})
		if err != nil || len(kin) == 0 {
			return err
		}
		for _, k := range kin {
			_ = k.Signal(unix.SIGKILL)
		}
		select {
		case <-ctx.Done():
			if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return ctx.Err()
			}
			return reconcile.HostFault(fmt.Errorf("a build that an earlier agent began does not die (%v)", kin[0].ID), "Look what it hangs in (cat /proc/<pid>/stack); it is tried again")
		case <-tick.C:
		}
	}
}
