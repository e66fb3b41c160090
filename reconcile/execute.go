package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-multierror"
)

// Carry takes one service through its plan, as far as it comes: to the end, to
// a gate, to a failure that waits for the host, or to a halt. life ends with
// the process; until, a child of life, also ends when the plan is superseded,
// and counts only while nothing is out of service.
func (e *Engine) Carry(life, until context.Context, p ServicePlan) (out Outcome) {
	c := &carrying{Engine: e, plan: p, life: life, out: Outcome{Service: p.Service}, blind: map[string]int{}}
	defer func() { out.Changed = c.changed.Load() }()
	withheld := e.withholds(p)
	for _, r := range p.Records {
		if !withheld.Open() && r.Kind != Renamed {
			continue // what a new name stands for is as it was
		}
		if err := c.append(life, r); err != nil {
			return c.unwritten(err)
		}
	}
	c.HoldOpen(life, p.Service)
	c.wake()
	switch {
	case !withheld.Open():
		return c.unrecorded(withheld)
	case len(p.Steps) == 0 && !p.Resume:
		return c.out
	case c.stage != Resting:
		c.on(OnWake)
	}
	switch {
	case !p.Resume:
		return c.prepare(life, until)
	case p.Purpose == Revert:
		c.on(OnBack)
	default:
		c.on(OnResume)
	}
	return c.work(life)
}

// withholds is the gate before what a plan has remembered and does not do:
// neither is another declaration taken, nor a halt or a plan given up, for what
// nobody agreed to.
func (e *Engine) withholds(p ServicePlan) Gate {
	switch {
	case p.Adopts:
		return AdoptGate(p, e.Look())
	case p.Purpose == Deploy && !p.Resume && len(p.Records) > 0:
		return TrustGate(p, e.Look())
	}
	return Gate{}
}

// unrecorded waits: what runs goes on by its own declaration.
func (c *carrying) unrecorded(g Gate) Outcome {
	if c.stage != Resting {
		c.on(OnWake)
	}
	c.on(OnPlan)
	c.out.Unadopted = c.plan.Adopts
	return c.shut(g, g.Until)
}

// carrying is one plan on its way.
type carrying struct {
	*Engine
	plan  ServicePlan
	life  context.Context // of the process; what is held ends with it
	stage Stage
	out   Outcome

	changed atomic.Bool    // steps run side by side
	blind   map[string]int // tries that left no record: no driver, no answer, no journal

	previews map[string]string // by step, what it was about to do before anything began
}

// wake finds out where the service stood when it was left.
func (c *carrying) wake() {
	m := c.Journal.Memory()
	switch r := m.Service(c.plan.Service); {
	case r.Halt != nil && !r.committed():
		c.stage = Stuck
	case r.Open != nil:
		c.stage = Pending
	}
	c.out.Stage = c.stage
}

// on moves to the next stage.
func (c *carrying) on(ev Event) {
	to, err := next(c.stage, ev)
	if err != nil {
		panic(err) // the drawing and the code have come apart
	}
	if c.took != nil {
		c.took(transition{c.stage, ev, to})
	}
	c.stage, c.out.Stage = to, to
	c.Watch(Progressed{Stage: to, Record: Record{Service: c.plan.Service}})
}

// unwritten is the way out where the journal does not take a record.
func (c *carrying) unwritten(err error) Outcome {
	c.out.Err, c.out.Stage = err, Pending
	c.out.Retry = c.Now().Add(c.Jitter(retryFirst))
	return c.out
}

func (c *carrying) append(ctx context.Context, r Record) error { return c.appendAfter(ctx, r, 0) }

// appendAfter says besides how long what the record reports took.
func (c *carrying) appendAfter(ctx context.Context, r Record, took time.Duration) error {
	r, err := c.Journal.Append(context.WithoutCancel(ctx), r)
	if err != nil {
		return HostFault(fmt.Errorf("the journal: %w", err), "Nothing is done that cannot be written down first: make room on the disk of the state directory, or mend it.")
	}
	c.Watch(Progressed{Stage: c.stage, Record: r, Elapsed: took})
	return nil
}

// prepare passes the trust gates, fetches, and passes the timing gates.
func (c *carrying) prepare(life, until context.Context) Outcome {
	c.on(OnPlan)
	if g := TrustGate(c.plan, c.Look()); !g.Open() {
		return c.shut(g, g.Until)
	}
	if err := c.open(life); err != nil {
		c.on(OnShut)
		return c.unwritten(err)
	}
	early := slices.IndexFunc(c.plan.Steps, func(s Step) bool { return s.Phase != Fetch })
	if early < 0 {
		early = len(c.plan.Steps)
	}
	for _, s := range c.plan.Steps[:early] {
		if _, err := c.try(until, []Step{s}); err != nil {
			return c.unfetched(until, s, err)
		}
	}
	if until.Err() != nil {
		c.on(OnSupersede)
		return c.out
	}
	around := c.Look()
	if g := TrustGate(c.plan, around); !g.Open() {
		return c.shut(g, g.Until) // a fetch may take for ever, and people's word does not hold so long
	}
	ends := consentEnds(c.plan, around)
	if g := TimingGate(c.plan, around); !g.Open() {
		return c.shut(g, sooner(g.Until, ends))
	}
	if g := c.HostGate(until, c.plan); !g.Open() {
		c.out.Err = errors.New(g.Reason)
		return c.shut(g, c.Now().Add(c.Jitter(retryUnprepared)))
	}
	c.previews = c.Preview(until, c.plan) // before the slot: it may take a while
	if c.plan.Slot {
		release, g, err := c.Slots.Take(until, c.plan.Service, c.plan.Down)
		if err != nil || !g.Open() {
			c.out.Err = err
			if err != nil {
				return c.shut(g, c.Now().Add(c.Jitter(retryFirst)))
			}
			return c.shut(g, ends)
		}
		defer release()
	}
	if until.Err() != nil {
		c.on(OnSupersede)
		return c.out
	}
	c.plan.Steps = c.plan.Steps[early:]
	for _, id := range sortedKeys(c.previews) {
		c.Log.Info("about to", "service", c.plan.Service, "step", id, "what", c.previews[id])
	}
	c.on(OnCommit)
	return c.steps(life)
}

func (c *carrying) shut(g Gate, at time.Time) Outcome {
	c.on(OnShut)
	c.out.Gate, c.out.Retry = g, at
	return c.out
}

// unfetched waits outside: what fails before the drain fails no release.
func (c *carrying) unfetched(until context.Context, s Step, err error) Outcome {
	if until.Err() != nil {
		c.on(OnSupersede)
		return c.out
	}
	c.out.Err = err
	g := Gate{Name: "fetch", Reason: err.Error(), Origin: s.Origin}
	if c.lackMore(until, err) {
		g.Reason = sentence(g.Reason) + listsAll
	}
	return c.shut(g, c.Now().Add(c.Jitter(Delay(c.tries(s.ID)))))
}

// lackMore reports whether the host lacks something else than what err names.
func (c *carrying) lackMore(ctx context.Context, err error) bool {
	var f *Fault
	if !errors.As(err, &f) || f.Blame != OfHost {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, retryUnprepared)
	defer cancel()
	return slices.ContainsFunc(c.lacks(ctx, c.plan), func(l *failedStep) bool { return l.Error() != f.Error() })
}

// open writes the plan down, unless it is the one that is open already.
func (c *carrying) open(ctx context.Context) error {
	p := c.plan.open()
	p.Since = c.Now()
	m := c.Journal.Memory()
	if o := m.Service(c.plan.Service).Open; o != nil && o.Purpose == p.Purpose && sameJSON(o.Target, p.Target) && slices.Equal(o.Steps, p.Steps) {
		return nil
	}
	return c.append(ctx, Record{Kind: Planned, Service: c.plan.Service, Commit: c.plan.Target.Origin.Commit, Plan: &p})
}

// work carries a committed plan on.
func (c *carrying) work(life context.Context) Outcome {
	if c.plan.Slot {
		release, _, err := c.Slots.Take(life, c.plan.Service, true)
		if err != nil {
			c.on(OnLater)
			return c.unwritten(err)
		}
		defer release()
	}
	return c.steps(life)
}

// steps is the one loop: each phase's steps, in order, until the end or a verdict.
func (c *carrying) steps(life context.Context) Outcome {
	steps := c.plan.Steps
	for len(steps) > 0 {
		n := 1
		for phases[steps[0].Phase].together && n < len(steps) && steps[n].Phase == steps[0].Phase && steps[n].Block.Type != "run" && steps[0].Block.Type != "run" {
			n++
		}
		v, err := c.try(life, steps[:n])
		switch {
		case err == nil:
			steps = steps[n:]
		case life.Err() != nil:
			c.on(OnLater) // the agent ends: the journal says where to go on
			c.out.Err = life.Err()
			return c.out
		default:
			return c.failed(life, v, steps[0], err)
		}
	}
	if err := c.append(life, Record{Kind: Closed, Service: c.plan.Service, Reason: c.plan.Reason}); err != nil {
		c.on(OnLater)
		return c.unwritten(err)
	}
	c.on(OnFinish)
	c.prune(life)
	return c.out
}

// failed carries out the verdict on a step that will not be tried again now.
func (c *carrying) failed(life context.Context, v Verdict, s Step, err error) Outcome {
	c.out.Err = err
	m := c.Journal.Memory()
	r := m.Service(c.plan.Service)
	switch v {
	case GoBack:
		rev := c.plan.Target.Revision()
		back := PlanRevert(c.plan.Service, Observed{Memory: m, Boot: c.Boot}, c.Host)
		open := back.open()
		open.Since, open.Committed = c.Now(), true
		for _, rec := range []Record{
			{Kind: Quarantined, Service: c.plan.Service, Revision: &rev, Step: s.ID, Reason: reason(err)},
			{Kind: Planned, Service: c.plan.Service, Plan: &open},
		} {
			if err := c.append(life, rec); err != nil {
				c.on(OnLater)
				return c.unwritten(err)
			}
		}
		c.on(OnRevert)
		c.plan = back
		out := c.steps(life)
		if out.Err == nil {
			out.Err = err
		}
		return out
	case Halting:
		if c.plan.First {
			err = c.stop(life, err) // a first install that failed is not left running
		}
		why := fmt.Sprintf("%s failed: %s %s", s.ID, sentence(reason(err)), c.whatNow(s, r, err))
		if aerr := c.append(life, Record{Kind: Stopped, Service: c.plan.Service, Step: s.ID, Reason: why}); aerr != nil {
			c.on(OnLater)
			return c.unwritten(aerr)
		}
		c.on(OnHalt)
		return c.out
	}
	c.on(OnLater)
	c.out.Retry = c.Now().Add(c.Jitter(Delay(c.tries(s.ID))))
	return c.out
}

func (c *carrying) whatNow(s Step, r *Remembered, err error) string {
	do := "Mend it, then push a new release, or " + retrying(c.plan.Target)
	switch {
	case s.Phase == Migrate && errors.Is(err, ErrUnknown):
		do = fmt.Sprintf("Once it is known how it ended, commit a `resolved %q` block if it is applied, or %s if it is not", s.Service, retrying(c.plan.Target))
	case BlameOf(err) == OfRelease && hinted(err):
		do = "A new release lifts the halt; " + retrying(c.plan.Target) + " only tries this one again, where what was wrong is not the release"
	}
	switch {
	case r.Running == nil || s.Phase == Migrate && errors.Is(err, ErrUnknown):
	case crossed(r):
		do = "The release before it is not put back: it may not run on what " + c.migrations(r) + " changed (compatible is false). " + do
	case c.plan.Purpose == Deploy && !c.plan.Target.Rollout.AutoRevert:
		do = "The release before it is not put back, because auto_revert is off. " + do
	}
	if len(r.Drains) > 0 {
		return "It stays out of rotation. " + do
	}
	return do
}

// migrations are those that the release before does not survive, with what they
// were about to do as far as that is known.
func (c *carrying) migrations(r *Remembered) string {
	var all []string
	for _, key := range r.Crossed {
		if p := r.Migrated[key]; p.Is == Failed && !p.Touched {
			continue
		}
		release, block, _ := strings.Cut(key, " ")
		version := release
		if i := strings.LastIndex(release, "-"); i > 0 {
			version = release[:i]
		}
		name := block + " of " + version
		if what := c.previews[c.plan.Service+"/"+block]; what != "" && release == c.plan.Target.Release.Dir() {
			name += ", which had " + what + ","
		}
		all = append(all, name)
	}
	return strings.Join(all, ", ")
}

// hinted reports whether a fault says what to do next itself.
func hinted(err error) bool {
	var f *Fault
	return errors.As(err, &f) && f.Hint != ""
}

// stop ends a process that a failed first install has started.
func (c *carrying) stop(life context.Context, cause error) error {
	i := slices.IndexFunc(c.plan.Steps, func(s Step) bool { return s.Phase == Start && s.Block.Type == "start" })
	if i < 0 {
		return cause
	}
	s := c.plan.Steps[i]
	s.Action = Remove
	d, err := c.Drivers.Driver(s)
	if err == nil {
		ctx, cancel := context.WithTimeout(life, longest(s))
		defer cancel()
		err = Scrubbed(d.Do(ctx, s), c.Scrub)
	}
	if err != nil {
		return multierror.Append(cause, fmt.Errorf("and it could not be stopped: %w", err)).ErrorOrNil()
	}
	return cause
}

// prune lets the install driver delete old releases; what fails is only said.
func (c *carrying) prune(life context.Context) {
	t := c.plan.Target
	if t.Install == nil || c.plan.Purpose == Uninstall {
		return
	}
	s := Step{Service: c.plan.Service, Phase: Install, Block: *t.Install, Target: t, Host: c.Host}
	d, err := c.Drivers.Driver(s)
	if err != nil {
		return
	}
	if p, ok := d.(Pruner); ok {
		m := c.Journal.Memory()
		r := m.Service(c.plan.Service)
		keep := []string{t.Release.Dir()}
		if n := len(r.Past); n > 0 {
			keep = append(keep, r.Past[n-1].Dir())
		}
		if r.Running != nil {
			keep = append(keep, r.Running.Service.Release.Dir())
		}
		ctx, cancel := context.WithTimeout(life, longest(s))
		defer cancel()
		if err := Scrubbed(p.Prune(ctx, s, keep), c.Scrub); err != nil {
			c.Log.Warn("old releases could not be pruned", "service", c.plan.Service, "error", err)
		}
	}
}
