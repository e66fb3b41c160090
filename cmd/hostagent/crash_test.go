package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"drydock/reconcile"
)

// migrating appends a line to a file that tells how often each release's
// migration was started; it takes long enough to be caught in the middle.
func migrating(r *rig) string {
	return fmt.Sprintf(`
  migrate "command" {
    command    = ["/bin/sh", "-c", "echo $DRYDOCK_VERSION >>%[1]s; sleep 0.03; touch %[1]s-$DRYDOCK_VERSION"]
    check      = ["/usr/bin/test", "-e", "%[1]s-${release.version}"]
    compatible = true
  }
`, r.path("migrations"))
}

// TestKilledAfterEachRecord is the crash matrix: for each k, SIGKILL after the
// k-th record of a plan, start again, see it converge. Every migration is
// started once, and nothing stays out of rotation without a record that says why.
func TestKilledAfterEachRecord(t *testing.T) {
	t.Run("bump", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, "")
		r.extra = migrating(r)
		r.bump("0.0.0")
		r.once(0)
		r.matrix(func(k int) string {
			version := fmt.Sprintf("1.0.%d", k)
			r.bump(version)
			return version
		}, 0)
		r.migratedOnce()
	})
	t.Run("broken", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, "")
		r.bump("0.0.0")
		r.once(0)
		r.matrix(func(k int) string {
			version := fmt.Sprintf("1.0.%d", k)
			r.release(version, fmt.Sprintf("#!/bin/sh\n# %d\nexit 1\n", k))
			r.bump(version)
			return "0.0.0"
		}, 1)
	})
	t.Run("first", func(t *testing.T) {
		t.Parallel()
		var r *rig
		matrix(t, func(k int) (killable, string) {
			if r != nil {
				r.migratedOnce()
			}
			r = newRig(t, "")
			r.extra = migrating(r)
			r.bump("1.0.0")
			return r, "1.0.0"
		}, 0)
	})
}

func (r *rig) matrix(begin func(k int) string, code int) {
	matrix(r.t, func(k int) (killable, string) { return r, begin(k) }, code)
}

// killable is a host whose agent can be killed.
type killable interface {
	// pass is one pass with these variables in the agent's environment; -1
	// means that a signal ended it.
	pass(env ...string) (said string, code int)
	outOfRotation() bool
	status() reconcile.HostStatus
	serves(version string) // or the test fails
}

// matrix kills after the k-th record for every k until a pass is not killed
// any more. begin makes the work and says which version serves in the end;
// code is how the pass that converges ends.
func matrix(t testing.TB, begin func(k int) (killable, string), code int) {
	t.Helper()
	for k := 1; ; k++ {
		h, version := begin(k)
		served := !h.outOfRotation()
		said, got := h.pass(fmt.Sprintf("%s=%d", killAfter, k))
		if got == code {
			if k < 12 {
				t.Fatalf("only %d records\n%s", k, said)
			}
			h.serves(version)
			t.Logf("%d records", k-1)
			return
		}
		if got != -1 {
			t.Fatalf("k=%d: exit %d instead of a kill\n%s", k, got, said)
		}
		if served && h.outOfRotation() {
			if st := h.status(); len(st.Services) != 1 || st.Services[0].State != reconcile.Progressing {
				t.Fatalf("k=%d: drained, and status says %+v", k, st)
			}
		}
		if said, got := h.pass(); got != code {
			t.Fatalf("k=%d: exit %d after the kill, want %d\n%s", k, got, code, said)
		}
		h.serves(version)
	}
}

// TestKilledAtRandomMoments does the same wherever the kill happens to fall,
// 300 times in all, one agent after another over the same state.
func TestKilledAtRandomMoments(t *testing.T) {
	const lanes, kills = 4, 75 // 300 in all
	for lane := range lanes {
		t.Run(fmt.Sprint(lane), func(t *testing.T) {
			t.Parallel()
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			random := rand.New(rand.NewPCG(seed, uint64(lane)))
			r := newRig(t, "")
			r.extra = migrating(r)
			r.bump("0.0.0")
			r.once(0)
			longest := 300 * time.Millisecond
			for i := range kills {
				version := fmt.Sprintf("1.%d.%d", lane, i)
				r.bump(version)
				began := time.Now()
				if r.killAfter(time.Duration(random.Int64N(int64(longest)))) {
					r.once(0)
				} else {
					longest = max(time.Since(began), 50*time.Millisecond)
				}
				r.serves(version)
			}
			r.migratedOnce()
		})
	}
}

// killAfter runs a pass and kills it after d; false if it ended before.
func (r *rig) killAfter(d time.Duration) bool {
	r.t.Helper()
	cmd := r.agent("once")
	must(r.t, cmd.Start())
	kill := time.AfterFunc(d, func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	_ = cmd.Wait()
	return !cmd.ProcessState.Success()
}

func (r *rig) outOfRotation() bool {
	_, err := os.Stat(r.path("rotation"))
	return err != nil
}

func (r *rig) migratedOnce() {
	r.t.Helper()
	data, err := os.ReadFile(r.path("migrations"))
	must(r.t, err)
	seen := map[string]int{}
	for _, v := range strings.Fields(string(data)) {
		if seen[v]++; seen[v] > 1 {
			r.t.Errorf("the migration of %s was started %d times", v, seen[v])
		}
	}
	if len(seen) == 0 {
		r.t.Error("no migration was started")
	}
}
