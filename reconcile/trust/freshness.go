package trust

import (
	"fmt"
	"time"
)

// Freshness is whether a host has heard of something newer lately.
type Freshness struct {
	Fresh bool
	Until time.Time // when it ends if nothing newer comes; zero: never
	Why   string    // for people; "" while it is fresh
}

// Fresh says whether a host that last accepted a newer commit at a time may
// still begin rollouts and installs: it does not show that nobody holds back
// what is newer, but bounds for how long. limit 0 is no limit; accepted zero is
// a host that never accepted one. Whoever passes the earlier of when the host
// accepted its head and when that was committed is safe from a server that hands
// out old commits slowly.
//
// A clock that was put back would make everything fresh for ever, so a host
// that accepted in its own future is not.
func Fresh(accepted, now time.Time, limit time.Duration) Freshness {
	if limit <= 0 {
		return Freshness{Fresh: true}
	}
	const so = "nothing new is rolled out or installed meanwhile, and all that runs keeps running"
	f := Freshness{Until: accepted.Add(limit)}
	switch {
	case accepted.IsZero():
		return Freshness{Why: "this host has accepted no commit yet, so nobody knows how old its declarations are; " + so + "; see that it reaches its source"}
	case accepted.After(now.Add(maxAhead)):
		f.Until = time.Time{}
		f.Why = fmt.Sprintf("the last commit was accepted at %s, and this host's clock says %s; %s; mend the clock", moment(accepted), moment(now), so)
	case !now.Before(f.Until):
		f.Why = fmt.Sprintf("no newer commit has been accepted since %s, and freshness allows %s; %s; see that the source is reached and nobody holds commits back; if there is nothing newer, make a heartbeat: drydock heartbeat --push", moment(accepted), limit, so)
	default:
		f.Fresh = true
	}
	return f
}

func moment(t time.Time) string { return t.UTC().Format(time.RFC3339) }
