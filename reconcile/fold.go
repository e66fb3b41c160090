package reconcile

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"time"

	"drydock/spec"
)

const (
	pastReleases   = 20        // kept per service, to know a rollback from a new release
	quarantineKept = 50        // per service; the oldest fall out
	migrationsKept = 50        // per service, besides those of releases that are known
	repairHolds    = time.Hour // a repair that lasted so long starts the count anew
	sightingsKept  = 32        // the oldest: what is behind them was seen for longest
	clockMayDiffer = 10 * time.Minute
)

// NewMemory is what a host remembers before its first record.
func NewMemory() *Memory {
	return &Memory{Good: map[string]string{}, Services: map[string]*Remembered{}}
}

// Service is what is remembered of a service; never nil, and not stored by asking.
func (m *Memory) Service(name string) *Remembered {
	if r := m.Services[name]; r != nil {
		return r
	}
	return &Remembered{}
}

// Apply adds one record. It is the only place where a record gets its meaning,
// it is total (any record applies to any memory), and it reads no clock.
func (m *Memory) Apply(r Record) {
	if m.Services == nil {
		m.Services = map[string]*Remembered{}
	}
	if m.Good == nil {
		m.Good = map[string]string{}
	}
	m.Seq = max(m.Seq, r.Seq)
	switch r.Kind {
	case Accepted:
		m.accept(r)
		return
	case Sighted:
		m.sight(r)
		return
	case Good:
		m.Good[r.Service] = r.Commit
		if r.Commit == "" {
			delete(m.Good, r.Service)
		}
		return
	case Paused, Resumed:
		m.Paused = r.Kind == Paused
		return
	}
	if r.Service == "" {
		return
	}
	if r.Kind == Renamed {
		if old := m.Services[r.Reason]; old != nil {
			delete(m.Services, r.Reason)
			m.Services[r.Service] = old.renamed(r.Service)
			if c, ok := m.Good[r.Reason]; ok {
				delete(m.Good, r.Reason)
				m.Good[r.Service] = c
			}
		}
		return
	}
	s := m.Services[r.Service]
	if s == nil {
		s = &Remembered{}
		m.Services[r.Service] = s
	}
	if s.apply(r) {
		delete(m.Services, r.Service)
		delete(m.Good, r.Service)
	}
}

// accept moves the high-water mark.
func (m *Memory) accept(r Record) {
	m.Accepted, m.Warrant, m.Sighted, m.Refused = r.Commit, r.Warrant, nil, nil
	if r.Warrant == nil || r.Warrant.News.IsZero() {
		return
	}
	at := r.Warrant.News
	if r.Time.Before(at) {
		at = r.Time
	}
	// What was heard in the future was heard by a clock that is mended now.
	if at.After(m.Heard) || m.Heard.After(r.Time.Add(clockMayDiffer)) {
		m.Heard = at
	}
}

// sight notes a head that was refused.
func (m *Memory) sight(r Record) {
	if r.Reason == "" {
		m.Refused = nil
		return
	}
	refused := &Refusal{Commit: r.Commit, Reason: r.Reason, Since: r.Time}
	if m.Refused != nil {
		refused.Since = m.Refused.Since
	}
	m.Refused = refused
	known := slices.ContainsFunc(m.Sighted, func(s Sighting) bool { return s.Commit == r.Commit })
	if !known && len(m.Sighted) < sightingsKept {
		m.Sighted = append(slices.Clip(m.Sighted), Sighting{r.Commit, r.Time})
	}
}

// renamed is the same under another name, wherever the old one stands.
func (s *Remembered) renamed(to string) *Remembered {
	c := *s
	if s.Running != nil {
		d := *s.Running
		d.Service.Name, c.Running = to, &d
	}
	if s.Halt != nil {
		h := *s.Halt
		h.Target.Name, c.Halt = to, &h
	}
	if s.Open != nil {
		o := *s.Open
		id := func(id string) string { return to + strings.TrimPrefix(id, s.Open.Target.Name) }
		o.Target.Name, o.Steps, o.Progress, c.Open = to, nil, map[string]Progress{}, &o
		for _, step := range s.Open.Steps {
			o.Steps = append(o.Steps, id(step))
		}
		for step, p := range s.Open.Progress {
			o.Progress[id(step)] = p
		}
	}
	return &c
}

// apply adds a record of one service and reports whether the service is gone with it.
func (s *Remembered) apply(r Record) (gone bool) {
	switch r.Kind {
	case Planned:
		if r.Plan != nil {
			p := *r.Plan
			p.Progress = maps.Clone(p.Progress)
			s.Open = &p
		}
	case Begun, Done, Failed, Noted:
		s.progress(r)
	case Quarantined:
		if r.Revision != nil && s.quarantined(*r.Revision) == nil {
			s.Quarantine = append(s.Quarantine, Quarantine{Revision: *r.Revision, Step: r.Step, Reason: r.Reason, Since: r.Time})
			s.Quarantine = s.Quarantine[max(0, len(s.Quarantine)-quarantineKept):]
		}
	case Stopped:
		h := Halt{Step: r.Step, Reason: r.Reason, Since: r.Time}
		switch {
		case s.Open != nil:
			h.Target = s.Open.Target
		case s.Running != nil:
			h.Target = s.Running.Service
		}
		s.Open, s.Halt = nil, &h
	case Adopted:
		if r.Plan != nil {
			s.run(Deployed{Service: r.Plan.Target, Foreign: r.Plan.Foreign, Since: r.Time}, false)
			if s.Halt = nil; !s.committed() {
				s.Open = nil // a plan that was never begun and is not wanted any more
			}
		}
	case Closed:
		return s.close(r)
	case Held:
		t := r.Time
		s.Held = &t
	case Released:
		s.Held = nil
		for k := range s.Rotation {
			s.Rotation[k] = "" // by nobody's hand any more: what is out may be put back
		}
	case Settled:
		if r.Block != nil {
			if k := drainKey(*r.Block); s.Rotation[k] == "" {
				if s.Rotation == nil {
					s.Rotation = map[string]string{}
				}
				s.Rotation[k] = r.Boot
			}
		}
	}
	return false
}

// progress notes how far a step came, in the open plan and, for what must
// outlive the plan, in the service.
func (s *Remembered) progress(r Record) {
	if s.Open != nil {
		if s.Open.Progress == nil {
			s.Open.Progress = map[string]Progress{}
		}
		s.Open.Progress[r.Step] = s.Open.Progress[r.Step].next(r)
		s.Open.Committed = s.Open.Committed || r.Commits
		if s.Open.Committed && s.Open.Purpose != Mend {
			s.Halt = nil // not before: a plan may be withdrawn while it waits, and a repair mends no release
		}
		if r.Phase == Migrate && r.Block != nil {
			if s.Migrated == nil {
				s.Migrated = map[string]Progress{}
			}
			k := migrationKey(*r.Block, s.Open.Target.Release)
			p := s.Migrated[k].next(r)
			p.Attempt = max(s.Open.Target.Release.Attempt, 1)
			s.Migrated[k] = p
			if !compatible(*r.Block) && !slices.Contains(s.Crossed, k) {
				s.Crossed = append(slices.Clone(s.Crossed), k)
			}
		}
	}
	if r.Block == nil {
		return
	}
	id := drainKey(*r.Block)
	switch {
	case r.Phase == Drain && r.Kind == Begun:
		if s.Drains == nil {
			s.Drains = map[string]DrainedByUs{}
		}
		if _, open := s.Drains[id]; !open {
			s.Drains[id] = DrainedByUs{Block: *r.Block, Since: r.Time, Boot: r.Boot}
		}
	case r.Phase == Undrain && r.Kind == Done:
		if s.Rotation == nil {
			s.Rotation = map[string]string{}
		}
		delete(s.Drains, id)
		s.Rotation[id] = r.Boot
	}
}

func (p Progress) next(r Record) Progress {
	if r.Kind == Noted {
		p.Note, p.At = r.Reason, r.Time
		return p
	}
	p.Touched = p.Touched || p.Is == Begun && r.Kind == Begun || r.Kind == Failed && !r.Untouched
	if p.Is, p.At = r.Kind, r.Time; r.Kind != Begun {
		p.Reason = r.Reason // while it is tried again, people see why it had to be
	}
	if r.Kind == Done {
		p.Note = ""
	}
	if r.Kind == Begun {
		p.Tries++
	}
	if r.Kind == Failed && r.Blame != OfHost {
		p.Faults++
	}
	return p
}

// close ends the open plan; what ran before and what runs now follow from its purpose.
func (s *Remembered) close(r Record) (gone bool) {
	p := s.Open
	if p == nil {
		return false
	}
	s.Open = nil
	if p.Purpose != Mend {
		s.Halt = nil
	}
	switch p.Purpose {
	case Deploy:
		s.run(Deployed{Service: p.Target, Since: r.Time}, true)
		s.Crossed = nil
		s.Repairs, s.Mended = 0, time.Time{}
	case Revert:
		if s.Running != nil {
			s.Running.Since = r.Time
		}
	case Mend:
		if !p.touches("/install/") && !p.touches("/start/") {
			break // only its place in rotation was put right: nothing that has to hold
		}
		if d := r.Time.Sub(s.Mended); d > repairHolds && !s.Mended.IsZero() || s.MendedIn != r.Boot {
			s.Repairs = 0
		}
		s.Repairs, s.Mended, s.MendedIn = s.Repairs+1, r.Time, r.Boot
	case Uninstall:
		return true
	}
	return false
}

func (p *OpenPlan) touches(part string) bool {
	return slices.ContainsFunc(p.Steps, func(id string) bool { return strings.Contains(id, part) })
}

// changed reports whether anything but rotation was touched.
func (p *OpenPlan) changed() bool {
	for id := range p.Progress {
		if strings.Contains(id, "/install/") || strings.Contains(id, "/start/") || strings.Contains(id, "/migrate/") {
			return true
		}
	}
	return false
}

// run makes d the running revision and remembers the release it replaces.
func (s *Remembered) run(d Deployed, restarted bool) {
	if old := s.Running; old != nil && old.Foreign == "" && !sameRelease(old.Service.Release, d.Service.Release) {
		s.Past = append(slices.DeleteFunc(s.Past, func(p spec.Release) bool { return sameRelease(p, old.Service.Release) }), old.Service.Release)
		s.Past = s.Past[max(0, len(s.Past)-pastReleases):]
	} else if old != nil && !restarted {
		d.Since = old.Since
	}
	s.Running = &d
	// A place that the declaration has left is nobody's: what happens to it says nothing.
	maps.DeleteFunc(s.Rotation, func(k, _ string) bool {
		return !slices.ContainsFunc(d.Service.Drains, func(b spec.Block) bool { return drainKey(b) == k })
	})
	s.forgetMigrations()
}

// forgetMigrations drops the oldest of those that are of no more use: done, and
// of a release that neither runs nor ran here. One that halted may be wanted
// again, and one whose outcome is not known is never begun again unasked.
func (s *Remembered) forgetMigrations() {
	var idle []string
	for k, p := range s.Migrated {
		if p.Is == Done && !s.knows(k) && !slices.Contains(s.Crossed, k) {
			idle = append(idle, k)
		}
	}
	slices.SortFunc(idle, func(a, b string) int {
		return cmp.Or(s.Migrated[a].At.Compare(s.Migrated[b].At), cmp.Compare(a, b))
	})
	for _, k := range idle[:max(0, len(idle)-migrationsKept)] {
		delete(s.Migrated, k)
	}
}

func (s *Remembered) knows(key string) bool {
	rel := func(r spec.Release) bool { return releaseOfKey(key) == r.Dir() }
	return s.Running != nil && rel(s.Running.Service.Release) || slices.ContainsFunc(s.Past, rel) ||
		slices.ContainsFunc(s.Quarantine, func(q Quarantine) bool {
			return rel(spec.Release{Version: q.Revision.Version, Digest: q.Revision.Digest})
		})
}

// quarantined returns why a revision must not be tried again, or nil.
func (s *Remembered) quarantined(rev spec.Revision) *Quarantine {
	for i := range s.Quarantine {
		if s.Quarantine[i].Revision == rev {
			return &s.Quarantine[i]
		}
	}
	return nil
}

// drainKey names a place in rotation: the same block at another address is
// another place.
func drainKey(b spec.Block) string {
	sum := sha256.Sum256(b.Config)
	return b.ID() + "#" + hex.EncodeToString(sum[:4])
}

// sameRelease reports whether both are the same bits, whatever the attempt.
func sameRelease(a, b spec.Release) bool { return a.Version == b.Version && a.Digest == b.Digest }

// migrationKey names a migration of a release: "1.4.2-9f86d081884c migrate/sql".
func migrationKey(b spec.Block, r spec.Release) string { return r.Dir() + " " + b.ID() }

func releaseOfKey(key string) string {
	for i := range key {
		if key[i] == ' ' {
			return key[:i]
		}
	}
	return key
}
