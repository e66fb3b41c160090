package main

import (
	"context"
	"os"
	"os/signal"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"drydock/hostagent/archive"
	"drydock/hostagent/argv"
	"drydock/reconcile"
)

// asAgent makes the test binary the agent. killAfter ends it with SIGKILL once
// so many records are durable; atBoot is the kernel's boot id as it believes
// it, atTime what its clock says at its start, and inHurry by how much every
// delay before another try, and between two looks at rest, is shorter; walless is
// set where it is to speak as on a kernel without Landlock.
const (
	asAgent   = "DRYDOCK_TEST_AS_AGENT"
	killAfter = "DRYDOCK_TEST_KILL_AFTER"
	atBoot    = "DRYDOCK_TEST_BOOT"
	atTime    = "DRYDOCK_TEST_CLOCK"
	inHurry   = "DRYDOCK_TEST_HURRY"
	walless   = "DRYDOCK_TEST_NO_LANDLOCK"
)

func TestMain(m *testing.M) {
	if code, ours := argv.Shim(os.Args); ours {
		os.Exit(code)
	}
	if code, ours := archive.Unpacker(os.Args); ours {
		// The race detector would sleep for a second first: GORACE is in an
		// environment that an unpacker may not read.
		syscall.Exit(code)
	}
	if os.Getenv(asAgent) == "" {
		os.Exit(runTests(m))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s := Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Boot: os.Getenv(atBoot), NoLandlock: os.Getenv(walless) != ""}
	if k, err := strconv.ParseInt(os.Getenv(killAfter), 10, 64); err == nil {
		s.Watch = dieAfter(k)
	}
	if at, err := time.Parse(time.RFC3339, os.Getenv(atTime)); err == nil {
		began := time.Now()
		s.Now = func() time.Time { return at.Add(time.Since(began)) }
	}
	if n, err := strconv.Atoi(os.Getenv(inHurry)); err == nil {
		s.Jitter = func(d time.Duration) time.Duration { return d / time.Duration(n) }
	}
	os.Exit(Main(ctx, os.Args[1:], s))
}

// builtIn names the directory for what tests build once.
const builtIn = "DRYDOCK_TEST_BUILT"

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "drydock-test-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	_ = os.Setenv(builtIn, dir)
	return m.Run()
}

func dieAfter(k int64) func(reconcile.Progressed) {
	var n atomic.Int64
	return func(p reconcile.Progressed) {
		if p.Record.Kind != "" && n.Add(1) == k {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
}
