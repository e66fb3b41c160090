// Command drydock works on a config repository: it checks and formats it, shows
// what merging would deploy, and makes the commits that are Drydock's only way
// to change anything.
//
// A file a verb. What several of them share stands in files of its own:
//
//	root, complete, man, terminal, colour, diagnostic     how all of them speak and ask
//	clone, git, commit, push                              one commit, and its way to the upstream
//	release, digest, fetch, changes, history              a release: bump, rollback, retry, diff
//	standing, makers, ballot, entry, card                 a statement: approve, attest
//	key                                                   whose key signs it, and the commit
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], streams{os.Stdout, os.Stderr})
	stop()
	os.Exit(code)
}
