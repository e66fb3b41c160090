package main

import (
	"strings"
	"testing"
)

// TestAKernelWithoutLandlockIsSaid, once by an agent and by check-host, and
// keeps nobody from anything.
func TestAKernelWithoutLandlockIsSaid(t *testing.T) {
	r := newRig(t, "")
	r.bump("1.0.0")
	for _, r.env = range [][]string{nil, {walless + "=1"}} {
		_, log, code := r.run("once")
		said, want := strings.Count(log, "this kernel has no Landlock"), len(r.env)
		if said != want || code != exitOK {
			t.Errorf("with %v it says so %d times, exit %d:\n%s", r.env, said, code, log)
		}
		out, _, code := r.run("check-host")
		if strings.Contains(out, "confinement: this kernel has no Landlock") != (want > 0) || code != exitOK {
			t.Errorf("with %v check-host, exit %d:\n%s", r.env, code, out)
		}
	}
}
