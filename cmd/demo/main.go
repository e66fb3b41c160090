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
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var code int
	if len(os.Args) > 1 && os.Args[1] == serviceVerb {
		code = serviceMain(ctx, os.Args[2:])
	} else {
		code = Main(ctx, os.Args[1:], streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
	}
	stop()
	os.Exit(code)
}
