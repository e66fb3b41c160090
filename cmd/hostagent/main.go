// Command hostagent is one host's agent: it follows a config repository and
// converges the host on every merge.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // windows name zones, and a minimal host may have no zoneinfo

	"drydock/hostagent/archive"
	"drydock/hostagent/argv"
)

func main() {
	// Started again by itself, to become a service's program (see argv.Shim) or to
	// unpack a release (see archive.Unpacker).
	if code, ours := argv.Shim(os.Args); ours {
		os.Exit(code)
	}
	if code, ours := archive.Unpacker(os.Args); ours {
		os.Exit(code)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := Main(ctx, os.Args[1:], Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
	stop()
	os.Exit(code)
}
