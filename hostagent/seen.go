package hostagent

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"drydock/reconcile"
)

// What no journal holds and people ask for: what the checks of a plan in hand
// see before they pass or fail for good, and what a service waits for.

// sees keeps the last failed look of each check that goes on; a record about a
// step, or the end of a plan, is newer than any look.
func (s *service) sees(r reconcile.Record, l *reconcile.Look) {
	switch {
	case l != nil && l.Failing != "":
		if s.seen == nil {
			s.seen = map[string]string{}
		}
		s.seen[l.Step] = strings.TrimPrefix(l.Step, r.Service+"/") + ": " + l.Failing
	case l != nil:
		delete(s.seen, l.Step)
	case r.Kind == reconcile.Closed, r.Kind == reconcile.Stopped, r.Kind == reconcile.Planned:
		clear(s.seen)
		clear(s.told)
	default:
		delete(s.seen, r.Step)
		delete(s.told, r.Step)
	}
	s.live.Failing = strings.Join(slices.Sorted(maps.Values(s.seen)), "; ")
}

// failing is what the checks of a service's plan in hand saw last, or "".
func (a *Agent) failing(service string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s := a.services[service]; s != nil {
		return s.live.Failing
	}
	return ""
}

// say logs a look that saw something else than the one logged before.
func (a *Agent) say(service string, l *reconcile.Look) {
	if l == nil {
		return
	}
	a.mu.Lock()
	s := a.service(service)
	now := told{passing.ReplaceAllString(l.Failing, "#"), s.told[l.Step].lines + 1}
	if now.text == s.told[l.Step].text || now.lines > linesPerStep {
		a.mu.Unlock()
		return
	}
	if s.told == nil {
		s.told = map[string]told{}
	}
	s.told[l.Step] = now
	a.mu.Unlock()
	if l.Failing == "" {
		a.Log.Info("healthy now", "service", service, "step", l.Step)
		return
	}
	a.Log.Info("not healthy yet", "service", service, "step", l.Step, "saw", l.Failing)
}

// told is what was logged last of a check that goes on, and how often.
type told struct {
	text  string
	lines int
}

// linesPerStep: a check that sees something else every time fills no log.
const linesPerStep = 20

// waits logs what a service waits for, when that begins and when it changes.
// l.mu is held.
func (l *loop) waits(s *service, out reconcile.Outcome) {
	now := ""
	if g := out.Gate; !g.Open() {
		now = g.Name + " " + passing.ReplaceAllString(g.Reason, "#")
	}
	was := s.waits
	s.waits = now
	if now != "" && now != was && !l.Quiet {
		l.Log.Info("waits", "service", out.Service, "gate", out.Gate.Name, "why", out.Gate.Reason, "origin", out.Gate.Origin.String())
	}
}

// passing are long numbers (ports, process ids, times): a look that differs
// only there says nothing new.
var passing = regexp.MustCompile(`[0-9]{5,}`)
