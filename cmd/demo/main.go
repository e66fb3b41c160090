// Command demo shows a version bump converge on a host while traffic flows: a
// real git repository, the real agent, a real process, on loopback, in a
// temporary directory that it removes.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	// SIGHUP and SIGPIPE, too: a terminal that closes, or `demo | head`, must
	// not leave a directory and a service behind.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	var code int
	if len(os.Args) > 1 && os.Args[1] == serviceVerb {
		code = serviceMain(ctx, os.Args[2:])
	} else {
		code = Main(ctx, os.Args[1:], streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
	}
	stop()
	os.Exit(code)
}
