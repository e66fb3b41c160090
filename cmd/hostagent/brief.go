package main

import (
	"os"
	"runtime/debug"
)

// brief is for commands that make one pass and end: the collector leaves them
// alone while they are small, which is nearly always, because their garbage
// goes with them. A large repository still meets it before long. Who sets
// GOGC or GOMEMLIMIT knows better.
func brief() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(256 << 20)
	}
}
