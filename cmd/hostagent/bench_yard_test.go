package main

import (
	"context"
	"fmt"
	"testing"
	"time"
)

// BenchmarkOutOfRotation is how long a bump keeps a real host out of rotation,
// as HAProxy sees it, and how much of that is neither the restart of the
// service nor its check. The restart is systemctl's, on the same host and in
// turn with ours; the check is min_healthy_time, which a user asked for. Each
// round is printed, in milliseconds: out of rotation, restart, check.
func BenchmarkOutOfRotation(b *testing.B) {
	const healthy = 300 * time.Millisecond
	y := newYard(b, "north")
	z := y.zones[0]
	want := map[string]bumped{"web": y.make("web", "1.0.0")}
	y.declare(z, want)
	y.start()
	y.await(z, "the first release", runs(want))
	var out, restart []time.Duration
	n := 0
	for b.Loop() {
		n++
		began := time.Now()
		z.host.Must(b, "systemctl", "restart", "web")
		restart = append(restart, time.Since(began))

		want = map[string]bumped{"web": y.make("web", fmt.Sprintf("1.0.%d", n))}
		watched := y.watchRotation(b, "web/"+z.name)
		y.declare(z, want)
		y.await(z, "the bump", runs(want))
		out = append(out, <-watched)
		if n == 1 {
			out, restart = nil, nil // the first warms up
			continue
		}
		b.Logf("pair %.2f %.2f %.2f", milliseconds(out[len(out)-1]), milliseconds(restart[len(restart)-1]), milliseconds(healthy))
	}
}

// watchRotation says how long a server was out, once it was and is back.
func (y *yard) watchRotation(t testing.TB, server string) <-chan time.Duration {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	took := make(chan time.Duration, 1)
	tick := time.NewTicker(time.Millisecond)
	go func() {
		defer cancel()
		defer tick.Stop()
		var since time.Time
		for {
			switch in := y.haproxy.Servers(t)[server].Admin == 0; {
			case !in && since.IsZero():
				since = time.Now()
			case in && !since.IsZero():
				took <- time.Since(since)
				return
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				close(took)
				return
			}
		}
	}()
	return took
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
