package hostagent

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"drydock/reconcile"
	"drydock/spec"
)

// ErrRunning says that this agent's loop runs already.
var ErrRunning = errors.New("the agent's loop runs already")

// Run converges on every wake until ctx ends. A wake carries nothing: it only
// says that it is time to look again. What has begun when ctx ends comes to
// its end first, for as long as Grace.
func (a *Agent) Run(ctx context.Context, wakes <-chan struct{}) error {
	return a.loop(ctx, wakes, true)
}

// Once makes one pass: the newest commit, every service as far as it comes.
// Where the loop runs already, that loop makes the pass.
func (a *Agent) Once(ctx context.Context) (reconcile.HostStatus, error) {
	err := a.loop(ctx, nil, false)
	if errors.Is(err, ErrRunning) {
		err = a.ask(ctx, "")
	}
	return a.Status(ctx), err
}

// loop is the one place that starts work and hears of its end; everything else
// is a goroutine that reports here.
type loop struct {
	*Agent
	ctx     context.Context // ends when the agent is asked to stop
	life    context.Context // ends Grace later
	forever bool

	fetching, again bool
	began           time.Time // of the pass; zero between passes
	changes         uint64    // how often a slot or a dependency may have become free
	err             error     // of the last look at the source
	busy            int
	waiters         []ask
	timer           *time.Timer
	early           resolved         // what was accepted last, until the source has answered
	slow            <-chan time.Time // when the first answer is not waited for any longer
	judge           time.Time        // when a head that was refused may be good
	stale           time.Time        // when freshness ends
	refused         string           // what was logged of a head that is not accepted; it stays so until people act
}

// soon is how long a started agent waits for its source before it looks after
// what it knows: a server that hangs must not keep a service out of rotation.
const soon = 2 * time.Second

func (a *Agent) loop(ctx context.Context, wakes <-chan struct{}, forever bool) error {
	a.mu.Lock()
	if a.looping {
		a.mu.Unlock()
		return ErrRunning
	}
	a.looping = true
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.looping = false
	}()
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer a.engine.Release()
	defer end()
	l := &loop{Agent: a, ctx: ctx, life: life, forever: forever, timer: time.NewTimer(time.Hour)}
	defer l.timer.Stop()
	defer a.stopResting()
	l.refresh()
	for {
		var event func()
		select {
		case <-wakes:
			event = l.refresh
		case <-a.nudges:
			event = func() {
				l.tryNow()
				l.refresh()
			}
		case w := <-a.asks:
			event = func() { l.asked(w) }
		case r := <-a.fetched:
			event = func() {
				if r.early {
					l.early, l.slow = r, time.After(soon)
					return
				}
				l.fetching, l.early, l.slow = false, resolved{}, nil
				l.resolved(r)
			}
		case out := <-a.finished:
			event = func() {
				l.busy--
				l.finish(out)
			}
		case <-l.slow:
			event = func() {
				l.slow = nil
				l.adopt(l.early)
				l.lookAll()
			}
		case <-l.timer.C:
			event = l.timed
		case <-ctx.Done():
			l.shutdown(end)
			return nil
		}
		l.turn(event)
		if l.busy == 0 && !l.fetching {
			l.passed()
			if !forever {
				return nil
			}
		}
	}
}

// turn handles one event, and lets others see when that takes too long.
func (l *loop) turn(event func()) {
	note := func(t time.Time) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.turning = t
	}
	note(l.Now())
	event()
	l.schedule()
	note(time.Time{})
}

// passed ends a pass, if there was one.
func (l *loop) passed() {
	for _, w := range l.waiters {
		close(w.done)
	}
	l.waiters = nil
	if l.began.IsZero() {
		return
	}
	took := l.Now().Sub(l.began)
	l.began = time.Time{}
	l.mu.Lock()
	l.ready = l.ready || l.want.Commit != ""
	l.mu.Unlock()
	if l.Passed != nil {
		l.Passed(took, l.err)
	}
}

// asked begins what somebody waits for: a pass, or a look at one service, for
// which neither the source nor any other service is waited for.
func (l *loop) asked(w ask) {
	l.waiters = append(l.waiters, w)
	l.mu.Lock()
	want := l.want
	if w.service == "" || want.Commit == "" {
		l.mu.Unlock()
		l.tryNow()
		l.refresh()
		return
	}
	if l.began.IsZero() {
		l.began = l.Now()
	}
	s := l.service(w.service)
	s.parked, s.rounds, s.notBefore = false, 0, time.Time{}
	l.mu.Unlock()
	l.look(w.service, want)
}

// answer tells those who wait for one service that it came as far as it comes.
func (l *loop) answer(service string) {
	l.mu.Lock()
	busy := l.service(service).busy
	l.mu.Unlock()
	l.waiters = slices.DeleteFunc(l.waiters, func(w ask) bool {
		mine := w.service == service && !busy
		if mine {
			close(w.done)
		}
		return mine
	})
}

// refresh asks the source, beside the loop: a server that hangs holds up nobody.
func (l *loop) refresh() {
	if l.began.IsZero() {
		l.began = l.Now()
	}
	l.mu.Lock()
	for _, s := range l.services {
		s.parked, s.rounds = false, 0
	}
	known := l.want.Commit != ""
	l.mu.Unlock()
	if l.fetching {
		l.again = true
		if known {
			l.lookAll() // the reason may be on this host, and the server may hang
		}
		return
	}
	l.fetching = true
	go func() {
		if !known && l.forever {
			if r := l.resolver.local(l.ctx); r.want.Commit != "" {
				r.early = true
				l.fetched <- r
			}
		}
		l.fetched <- l.resolver.follow(l.ctx)
	}()
}

// unpark lets all that waits be looked at again.
func (l *loop) unpark() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.services {
		s.parked = false
	}
}

// tryNow lets what waits after a failure be tried now: a person who asks has
// mended something.
func (l *loop) tryNow() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.services {
		s.notBefore = time.Time{}
	}
}

func (l *loop) resolved(r resolved) {
	l.mu.Lock()
	before := l.want.Commit
	l.mu.Unlock()
	l.adopt(r)
	if c := r.want.Commit; c != "" && c != before && !l.Quiet {
		l.Log.Info("accepted", "commit", c, "services", len(r.want.Services), "how", l.how(r))
		for _, name := range slices.Sorted(maps.Keys(r.want.Held)) {
			l.Log.Error("kept at its last good declaration", "service", name, "error", r.want.Held[name])
		}
		l.overrides(r.want)
	}
	l.err = r.err
	l.stale = l.staleAt(l.Journal.Memory(), l.Now())
	if l.judge = (time.Time{}); r.blocked != nil {
		l.judge = r.blocked.Again
	}
	if l.Polled != nil {
		l.Polled(r.err)
	}
	if was := l.refused; r.blocked == nil || r.err.Error() != was {
		l.refused = ""
		if r.err != nil && l.ctx.Err() == nil && !l.Quiet {
			what := "the source is not followed"
			if r.blocked != nil {
				what, l.refused = "a commit is not accepted, nor what follows it", r.err.Error()
			}
			l.Log.Error(what, "error", r.err)
		}
	}
	if c := r.want.Commit; c != "" {
		l.supersedeOld()
		if c != before {
			l.unpark() // what parked since the source was asked, parked by an older word
		}
		l.lookAll()
	}
	if l.again {
		l.again = false
		l.refresh()
	}
}

// supersedeOld lets go of plans in hand whose target is no longer wanted; one
// that has begun does not listen.
func (l *loop) supersedeOld() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, s := range l.services {
		if !s.busy || s.plan.Resume {
			continue
		}
		i := slices.IndexFunc(l.want.Services, func(w spec.Service) bool { return w.Name == name })
		if s.looked && (i < 0 || l.want.Services[i].Revision() != s.plan.Target.Revision()) {
			s.supersede()
		}
	}
}

// timed is what the timer rings for: services whose time has come, and the
// source where time alone changes what may be accepted, or begun.
func (l *loop) timed() {
	now := l.Now()
	past := func(t time.Time) bool { return !t.IsZero() && !t.After(now) }
	if past(l.judge) || past(l.stale) {
		l.judge, l.stale = time.Time{}, time.Time{}
		l.refresh()
	}
	l.lookAll()
}

// lookAll looks at every service that is not in hand already.
func (l *loop) lookAll() {
	m := l.Journal.Memory()
	l.mu.Lock()
	want := l.want
	l.mu.Unlock()
	for _, name := range reconcile.Names(want, m) {
		l.look(name, want)
	}
}

// look starts one service's pass: observe, diff, carry.
func (l *loop) look(name string, want spec.Wanted) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.service(name)
	switch {
	case l.ctx.Err() != nil:
		return
	case s.busy:
		s.dirty = true
		return
	case s.parked:
		return
	case slices.ContainsFunc(movedFrom(name, want), func(from string) bool { return l.service(from).busy }):
		return // finish looks again: two plans for one service would be two too many
	}
	until, cancel := context.WithCancel(l.life)
	s.busy, s.dirty, s.supersede, s.looks = true, false, cancel, l.changes
	l.busy++
	go func() {
		defer cancel()
		l.finished <- l.carry(until, name, want)
	}()
}

// finish notes how far a service came, and who may go on because of it.
func (l *loop) finish(out reconcile.Outcome) {
	l.mu.Lock()
	s := l.service(out.Service)
	s.busy = false
	s.live.Stage, s.live.Gate, s.live.Err = out.Stage, out.Gate, out.Err
	l.waits(s, out)
	if out.Stage != reconcile.Pending {
		s.live.Step = ""
	}
	s.notBefore = out.Retry
	s.parked = out.Stage == reconcile.Pending
	again := out.Changed || out.Stage == reconcile.Resting && (len(s.plan.Steps) > 0 || s.plan.Resume)
	if again {
		s.rounds++
	}
	if s.parked && (s.dirty || freed(s.live.Gate) && s.looks != l.changes) {
		s.parked, again = false, true // what it waits for may have come while it looked
	}
	const tooMany = 8
	if s.rounds > tooMany {
		// A plan that ends well and is needed again at once, time after time.
		s.parked, s.notBefore = true, l.Now().Add(reconcile.Delay(s.rounds-tooMany))
	}
	want := l.want
	var next []string
	if (s.dirty || again) && !s.parked {
		next = append(next, out.Service)
	}
	for _, mv := range want.Moved {
		if mv.From == out.Service {
			next = append(next, mv.To)
		}
	}
	if out.Changed && out.Stage != reconcile.Pending {
		// A slot is free, or a dependency runs.
		l.changes++
		for name, o := range l.services {
			if o.parked && freed(o.live.Gate) {
				o.parked = false
				next = append(next, name)
			}
		}
	}
	l.mu.Unlock()
	slices.Sort(next)
	for _, n := range next {
		l.look(n, want)
	}
	l.answer(out.Service)
}

// freed reports whether another service's end may open a gate.
func freed(g reconcile.Gate) bool { return g.Name == "slot" || g.Name == "depends_on" }

// schedule sets the timer to the next moment at which something opens or is
// tried again by itself.
func (l *loop) schedule() {
	l.mu.Lock()
	defer l.mu.Unlock()
	var at time.Time
	now := l.Now()
	for _, s := range l.services {
		if s.busy || s.notBefore.IsZero() {
			continue
		}
		if at.IsZero() || s.notBefore.Before(at) {
			at = s.notBefore
		}
		if !s.notBefore.After(now) {
			// Its time is used up, so that a service which is gone by now does
			// not wake the loop for ever.
			s.parked, s.notBefore = false, time.Time{}
		}
	}
	for _, t := range []time.Time{l.judge, l.stale} {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	if at.IsZero() || !l.forever {
		l.timer.Stop()
		return
	}
	l.timer.Reset(max(at.Sub(now), 0))
}

// sayAgain is how often a stopping agent says what it waits for.
const sayAgain = 10 * time.Second

// shutdown lets what has begun come to its end, for as long as Grace, and a
// migration for as long as it takes.
func (l *loop) shutdown(end context.CancelFunc) {
	l.mu.Lock()
	for _, s := range l.services {
		if s.busy {
			s.supersede()
		}
	}
	l.mu.Unlock()
	late, over := time.NewTimer(l.Grace), false
	defer late.Stop()
	tick := time.NewTicker(sayAgain)
	defer tick.Stop()
	look := func() {
		name := l.migrating()
		switch {
		case name == "" && over:
			end()
		case name != "":
			over = false // what follows the migration has as long as any other plan
			late.Reset(l.Grace)
			if l.Migrating != nil {
				l.Migrating(name, l.Grace+3*sayAgain)
			}
		}
	}
	for l.busy > 0 || l.fetching {
		select {
		case <-l.finished:
			l.busy--
		case r := <-l.fetched:
			l.fetching = r.early
		case <-late.C:
			over = true
			look()
		case <-tick.C:
			look()
		}
	}
	for _, w := range l.waiters {
		close(w.done)
	}
}

// migrating is a service whose migration is under way, or "".
func (l *loop) migrating() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(l.services)) {
		s := l.services[name]
		if s.busy && strings.HasPrefix(s.live.Step, name+"/"+reconcile.Migrate.String()+"/") {
			return name
		}
	}
	return ""
}
