package reconcile

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"

	"drydock/spec"
)

// Gate is what a plan waits for. The zero Gate is open.
type Gate struct {
	Name    string      // "approval", "freeze", "window", "depends_on", "coordination", "slot", …
	Reason  string      // a whole sentence for people: what it waits for, and what to do
	Missing []string    // who or what is missing, if it has names
	Until   time.Time   // when it opens, or is to be asked again, by itself; zero where nobody knows
	Origin  spec.Origin // the line that closed it
}

// Open reports whether nothing is waited for.
func (g Gate) Open() bool { return g.Name == "" }

// Surroundings are what gates look at besides the service itself.
type Surroundings struct {
	Now    time.Time
	Wanted spec.Wanted
	Memory Memory
	Paused bool
	// Alone is true on a host that was declared the only one
	// (`coordinate "alone" {}`); false means that nobody coordinates.
	Alone bool
	// Consent is what people have agreed to; nil: nobody was asked to say.
	Consent Consent
}

// Consent says what people have still to agree to before a plan may fetch
// anything: the gates approval, attestation and freshness. It is a function of
// the plan and its surroundings; signatures were checked when it was made.
type Consent interface {
	// Gate is open, or names who is missing. Until is when its answer changes by
	// itself: also of an open one, because what people signed expires.
	Gate(p ServicePlan, s Surroundings) Gate
}

// gate is a row of the tables below: a name, and a function that returns the
// gate if it is closed.
type gate struct {
	name string
	shut func(p ServicePlan, s Surroundings) (Gate, bool)
}

// trustGates come before anything is fetched; timingGates after that, so that
// a window which opens finds the release on the disk. A later gate is a row
// here; the slot, which is taken and not asked, is always the last and is the
// executor's.
var (
	trustGates  = []gate{{"declaration", holds}, {"consent", consent}, {"paused", paused}}
	adoptGates  = []gate{{"declaration", holds}, {"consent", consent}}
	timingGates = []gate{{"paused", paused}, {"freeze", frozen}, {"window", window}, {"depends_on", dependencies}, {"coordination", coordination}, {"splay", splay}}
)

// TrustGate is the first closed gate before fetch, or an open one.
func TrustGate(p ServicePlan, s Surroundings) Gate { return first(trustGates, p, s) }

// AdoptGate is the first closed gate before a declaration is taken for the one
// that runs here: nothing is touched, so that no time and no pause matters.
func AdoptGate(p ServicePlan, s Surroundings) Gate {
	if !p.Adopts {
		return Gate{}
	}
	return first(adoptGates, p, s)
}

// TimingGate is the first closed gate between fetch and drain, or an open one.
func TimingGate(p ServicePlan, s Surroundings) Gate { return first(timingGates, p, s) }

func first(gates []gate, p ServicePlan, s Surroundings) Gate {
	if p.Resume {
		return Gate{} // what has begun is finished, whatever was closed since
	}
	for _, g := range gates {
		if shut, closed := g.shut(p, s); closed {
			shut.Name = cmp.Or(shut.Name, g.name)
			return shut
		}
	}
	return Gate{}
}

// holds: the declaration asks for what this build does not do yet.
func holds(p ServicePlan, _ Surroundings) (Gate, bool) {
	if p.Purpose == Uninstall || len(p.Target.Holds) == 0 {
		return Gate{}, false
	}
	h := p.Target.Holds[0]
	if p.Purpose == Mend && !p.Adopts && h.Gate != "driver" {
		return Gate{}, false // what runs was let in once; a repair asks nobody
	}
	return Gate{Name: h.Gate, Reason: h.Reason, Missing: h.Missing, Origin: h.Origin}, true
}

// consent: what begins newly needs the people that the rules name.
func consent(p ServicePlan, s Surroundings) (Gate, bool) {
	if s.Consent == nil {
		return Gate{}, false
	}
	g := s.Consent.Gate(p, s)
	return g, !g.Open()
}

// consentEnds is when the consent to a plan that has it ends by itself.
func consentEnds(p ServicePlan, s Surroundings) time.Time {
	if s.Consent == nil || p.Resume {
		return time.Time{}
	}
	return s.Consent.Gate(p, s).Until
}

// sooner is the earlier of two times; zero is never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func paused(p ServicePlan, s Surroundings) (Gate, bool) {
	return Gate{Reason: "a person paused this host; `hostagent resume` goes on"}, s.Paused
}

// frozen: freezes stop rollouts and rollbacks, never a repair or a revert.
func frozen(p ServicePlan, s Surroundings) (Gate, bool) {
	if p.Purpose == Mend || p.Purpose == Revert || overridden("freeze", p, s) {
		return Gate{}, false
	}
	for _, f := range s.Wanted.Freezes {
		names := len(f.Services) == 0 || slices.Contains(f.Services, p.Service)
		if names && !s.Now.Before(f.From) && (f.Until.IsZero() || s.Now.Before(f.Until)) {
			reason := fmt.Sprintf("frozen: %s", f.Reason)
			if !f.Until.IsZero() {
				reason += fmt.Sprintf(" (until %s)", f.Until.Format(time.RFC3339))
			}
			return Gate{Reason: reason + "; `drydock unfreeze " + whereFrozen(f) + "` lifts it", Until: f.Until, Origin: f.Origin}, true
		}
	}
	return Gate{}, false
}

// whereFrozen is what drydock unfreeze calls the place of a freeze: a folder, or
// the root.
func whereFrozen(f spec.Freeze) string {
	if env, _, inside := strings.Cut(f.Origin.Range.Filename, "/"); inside {
		return "--env " + env
	}
	return "--all"
}

func overridden(skip string, p ServicePlan, s Surroundings) bool {
	return slices.ContainsFunc(s.Wanted.Overrides, func(o spec.Override) bool { return o.Skips(skip, p.Service, s.Now) })
}

func window(p ServicePlan, s Surroundings) (Gate, bool) {
	windows := p.Target.Rollout.Windows
	if len(windows) == 0 || p.Purpose != Deploy || p.Rollback || overridden("window", p, s) {
		return Gate{}, false
	}
	var next time.Time
	for _, w := range windows {
		open, at := opens(w, s.Now)
		if open {
			return Gate{}, false
		}
		if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	w := windows[0]
	return Gate{
		Reason: fmt.Sprintf("outside its window; the next opens %s", next.Format("Mon 2006-01-02 15:04 MST")),
		Until:  next, Origin: w.Origin,
	}, true
}

// opens reports whether a window is open now, and else when it opens next.
// Times are those of the window's own zone: an hour that does not exist on a
// day of a clock change begins when the clock has passed it.
func opens(w spec.Window, now time.Time) (bool, time.Time) {
	zone, err := time.LoadLocation(w.Zone)
	if err != nil {
		zone = time.UTC // refused when it was loaded
	}
	local := now.In(zone)
	var next time.Time
	for day := -1; day <= 8; day++ {
		d := time.Date(local.Year(), local.Month(), local.Day()+day, 0, 0, 0, 0, zone)
		if len(w.Days) > 0 && !slices.Contains(w.Days, strings.ToLower(d.Weekday().String()[:3])) {
			continue
		}
		from, to := clock(d, w.From, 0, zone), clock(d, w.To, 0, zone)
		if !to.After(from) {
			to = clock(d, w.To, 1, zone)
		}
		if !now.Before(from) && now.Before(to) {
			return true, now
		}
		if from.After(now) && (next.IsZero() || from.Before(next)) {
			next = from
		}
	}
	return false, next
}

func clock(day time.Time, hour string, plus int, zone *time.Location) time.Time {
	var h, m int
	_, _ = fmt.Sscanf(hour, "%d:%d", &h, &m)
	return time.Date(day.Year(), day.Month(), day.Day()+plus, h, m, 0, 0, zone)
}

// dependencies: what it depends on runs as wanted. Neither a way back nor a
// repair waits for that.
func dependencies(p ServicePlan, s Surroundings) (Gate, bool) {
	if p.Purpose != Deploy || p.Rollback || p.Retry {
		return Gate{}, false
	}
	var missing []string
	for _, dep := range p.Target.DependsOn {
		i := slices.IndexFunc(s.Wanted.Services, func(w spec.Service) bool { return w.Name == dep })
		if i < 0 {
			continue // not on this host: coordination's question
		}
		r := s.Memory.Service(dep)
		if r.committed() || r.Halt != nil || r.Running == nil || r.Running.Service.Revision() != s.Wanted.Services[i].Revision() {
			missing = append(missing, dep)
		}
	}
	return Gate{Reason: "waits until " + strings.Join(missing, ", ") + " runs as wanted on this host", Missing: missing, Origin: p.Target.Origin}, len(missing) > 0
}

// coordination: a limit that somebody wrote binds the whole fleet, so a host
// that cannot ask the others must not act on its own.
func coordination(p ServicePlan, s Surroundings) (Gate, bool) {
	if s.Alone || p.Purpose != Deploy {
		return Gate{}, false
	}
	t := p.Target
	var asks []string
	for _, w := range []string{"max_parallel", "canary", "bake"} {
		if slices.Contains(t.Rollout.Written, w) {
			asks = append(asks, w)
		}
	}
	for _, m := range t.Migrates {
		if strings.Contains(string(m.Config), `"scope":"fleet"`) {
			asks = append(asks, `scope = "fleet"`)
		}
	}
	if !p.Rollback && !p.Retry {
		for _, dep := range t.DependsOn {
			if !slices.ContainsFunc(s.Wanted.Services, func(w spec.Service) bool { return w.Name == dep }) {
				asks = append(asks, "depends_on "+dep)
			}
		}
	}
	return Gate{
		Reason:  fmt.Sprintf("%s asks for coordination between hosts, and this host has none; write `coordinate \"alone\" {}` into hostagent.hcl if it is the only one", strings.Join(asks, ", ")),
		Missing: asks, Origin: t.Rollout.Origin,
	}, len(asks) > 0
}

// splay keeps hosts that saw a commit at the same moment from starting at the
// same moment. The wait is drawn from the host and the revision, so that it is
// the same after a restart, and needs no die in here.
func splay(p ServicePlan, s Surroundings) (Gate, bool) {
	most := time.Duration(p.Target.Rollout.Splay)
	open := s.Memory.Service(p.Service).Open
	if most <= 0 || p.Purpose != Deploy || p.Rollback || open == nil {
		return Gate{}, false
	}
	rev := p.Target.Revision()
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %s %s %s", s.Wanted.Host.Name, p.Service, rev.Digest, rev.Spec))
	begin := open.Since.Add(time.Duration(binary.BigEndian.Uint64(sum[:8]) % uint64(most)))
	// A clock that was set back must not make it wait for longer than it may.
	if !s.Now.Before(begin) || s.Now.Before(open.Since) {
		return Gate{}, false
	}
	return Gate{Reason: fmt.Sprintf("splay: this host starts at %s", begin.Format(time.TimeOnly)), Until: begin, Origin: p.Target.Rollout.Origin}, true
}
