package hostagent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"drydock/reconcile"
	"drydock/spec"
)

// Options are what an agent is made of. Everything that touches the world
// comes in here.
type Options struct {
	Host     spec.Host
	Parallel int    // services out of rotation at once
	Alone    bool   // declared the only host there is
	URL      string // of the source, for status; no secrets in it
	Version  string // of this build, which a repository's min_version asks for

	Source  Source
	Trust   *Trust // nil: any fast-forward commit is accepted, and nobody's consent can be read
	Journal reconcile.Journal
	Drivers *Registry

	Log    *slog.Logger
	Now    func() time.Time
	Jitter func(time.Duration) time.Duration
	Boot   string // the kernel's boot id
	// Credential fails if a step that names a credential could not read it;
	// Scrub takes what was read out of a text. Both may be nil.
	Credential func(name string) error
	Scrub      func(text string) string
	// Watch sees every record as it is written; must not block; may be nil.
	// Quiet leaves the records to it, and the log without them.
	Watch func(reconcile.Progressed)
	Quiet bool
	// Rename moves what drivers keep of a service to its new name, durably. It
	// is called again for a move that was made; may be nil.
	Rename func(from, to string) error
	// Polled and Passed are told how each look at the source, and each pass
	// over all services, went; may be nil.
	Polled func(error)
	Passed func(time.Duration, error)
	// Grace is how long a stopping agent lets plans that have begun come to
	// their end before it leaves them to the next start. Default 75s. A
	// migration that is under way is waited for longer, by its own timeout:
	// cut off, its outcome may be unknown, and a person would be asked.
	Grace time.Duration
	// Migrating is told, now and then, that a stopping agent waits for the
	// migration of a service, and will say so again within atMost; may be nil.
	Migrating func(service string, atMost time.Duration)
}

// Agent converges one host. One value lives as long as its configuration.
type Agent struct {
	Options
	engine   *reconcile.Engine
	resolver *resolver
	asks     chan ask
	nudges   chan struct{} // holds at most one
	finished chan reconcile.Outcome
	fetched  chan resolved

	mu       sync.Mutex
	looping  bool
	turning  time.Time // since when the loop handles one event; zero while it waits
	ready    bool      // every service was looked at once
	want     spec.Wanted
	consent  *consent
	source   reconcile.SourceStatus
	unread   string // why the host's own files, as they are now, are not in force
	services map[string]*service
}

// service is what the agent knows of one service and no journal holds.
type service struct {
	plan   reconcile.ServicePlan
	live   reconcile.Live
	looked bool // plan is not the zero value

	busy      bool
	dirty     bool               // look again once it is not busy
	supersede context.CancelFunc // of the plan in hand
	parked    bool               // waits for a wake, or for another service
	notBefore time.Time          // a failure's next try
	rounds    int                // plans carried out since the last wake from outside
	looks     uint64             // the loop's changes when it was last looked at
	waits     string             // the gate that was logged last; "" if it waits for none
	rest      func()             // ends keeping and checking at rest
	restOf    spec.Revision
	seen      map[string]string // by step, what a check of the plan in hand saw last; only those that fail
	told      map[string]told   // by step, what was logged of that
	sick      map[string]string // by check, what it says at rest; only those that fail
}

// ask is somebody who waits for a whole pass, or for a look at one service.
type ask struct {
	service string // "" for all
	done    chan<- struct{}
}

// New makes an agent. It touches nothing yet.
func New(o Options) *Agent {
	if o.Grace == 0 {
		o.Grace = 75 * time.Second
	}
	a := &Agent{
		Options:  o,
		asks:     make(chan ask),
		nudges:   make(chan struct{}, 1),
		finished: make(chan reconcile.Outcome),
		fetched:  make(chan resolved),
		services: map[string]*service{},
	}
	a.source = reconcile.SourceStatus{URL: o.URL}
	asked := &consents{trust: o.Trust, env: o.Host.Environment, now: o.Now}
	a.consent = asked.unread("no commit could be read yet to see who approved")
	a.resolver = &resolver{Options: o, loader: &spec.Loader{Only: o.Host.Environment}, asked: asked}
	if o.Trust != nil {
		a.resolver.trust = &verifier{Trust: o.Trust, now: o.Now}
	}
	a.engine = &reconcile.Engine{
		Journal: o.Journal, Drivers: o.Drivers, Slots: reconcile.NewHostSlots(max(o.Parallel, 1)),
		Look: a.surroundings, Host: o.Host.Name, Boot: o.Boot, Now: o.Now, Jitter: o.Jitter, Log: o.Log, Watch: a.watch,
		Credential: o.Credential, Scrub: o.Scrub,
	}
	return a
}

func (a *Agent) surroundings() reconcile.Surroundings {
	m := a.Journal.Memory()
	a.mu.Lock()
	defer a.mu.Unlock()
	return reconcile.Surroundings{Now: a.Now(), Wanted: a.want, Memory: m, Paused: m.Paused, Alone: a.Alone, Consent: a.consent}
}

// watch keeps the live view and tells everybody who looks.
func (a *Agent) watch(p reconcile.Progressed) {
	r := p.Record
	a.mu.Lock()
	s := a.service(r.Service)
	s.live.Stage = p.Stage
	switch r.Kind {
	case reconcile.Begun:
		s.live.Step = r.Step
	case reconcile.Done, reconcile.Closed, reconcile.Stopped:
		s.live.Step = ""
	}
	s.sees(r, p.Look)
	a.mu.Unlock()
	if r.Kind == reconcile.Begun && r.Commits {
		a.stopRest(r.Service) // what is about to be touched is not looked after any more
	}
	if a.Watch != nil {
		a.Watch(p)
	}
	if !a.Quiet {
		a.log(r)
		a.say(r.Service, p.Look)
	}
}

func (a *Agent) log(r reconcile.Record) {
	l := a.Log.With("service", r.Service)
	if r.Step != "" {
		l = l.With("step", r.Step)
	}
	switch r.Kind {
	case reconcile.Planned:
		l.Info("plan", "purpose", r.Plan.Purpose.String(), "why", r.Plan.Reason, "origin", r.Plan.Target.Origin.String(), "steps", len(r.Plan.Steps))
	case reconcile.Begun:
		l.Debug("begun")
	case reconcile.Done:
		l.Info("done")
	case reconcile.Failed:
		l.Warn("failed", "blame", r.Blame.String(), "error", r.Reason)
	case reconcile.Quarantined:
		l.Error("quarantined", "version", r.Revision.Version, "why", r.Reason)
	case reconcile.Stopped:
		l.Error("halted", "why", r.Reason)
	case reconcile.Closed:
		l.Info("finished", "why", r.Reason)
	}
}

// service returns a service's entry; a.mu is held.
func (a *Agent) service(name string) *service {
	s := a.services[name]
	if s == nil {
		s = &service{}
		a.services[name] = s
	}
	return s
}

// Status is how everything stands now.
func (a *Agent) Status(context.Context) reconcile.HostStatus {
	m := a.Journal.Memory()
	a.mu.Lock()
	defer a.mu.Unlock()
	st := reconcile.HostStatus{
		Host: a.Host.Name, Environment: a.Host.Environment, Commit: m.Accepted,
		Paused: m.Paused, Agent: a.looping, Source: a.answered(m), Config: a.unread, Overrides: overrides(a.want, a.Now()), Services: []reconcile.ServiceStatus{},
	}
	for _, n := range reconcile.Names(a.want, m) {
		s := a.service(n)
		p := s.plan
		if !s.looked {
			p = reconcile.ServicePlan{Service: n, State: reconcile.Progressing, Reason: "not looked at yet"}
		}
		row := reconcile.Status(p, m.Service(n), a.want, s.live)
		a.consent.tell(&row, p, reconcile.Surroundings{Now: a.Now(), Wanted: a.want, Memory: m})
		st.Services = append(st.Services, row)
	}
	return st
}

// Unread tells the agent why a change of the host's own files was not taken up,
// for its status to say; "" once they are as this agent read them.
func (a *Agent) Unread(why string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.unread = why
}

// Look finds out how everything stands without an agent that runs, without
// network and without changing anything.
func (a *Agent) Look(ctx context.Context) (reconcile.HostStatus, error) {
	r := a.resolver.local(ctx)
	a.adopt(r)
	plan := a.diff(ctx)
	a.mu.Lock()
	for _, p := range plan.Services {
		s := a.service(p.Service)
		s.plan, s.looked = p, true
	}
	a.mu.Unlock()
	for _, p := range plan.Services {
		g := a.gate(ctx, p)
		if g.Open() && p.State == reconcile.Progressing {
			g = reconcile.Gate{Name: "agent", Reason: "no hostagent runs on this host: " + p.Reason}
		}
		a.mu.Lock()
		a.service(p.Service).live.Gate = g
		a.mu.Unlock()
	}
	return a.Status(ctx), r.err
}

// Plan is what the agent would do with the newest commit, and why; nothing is
// accepted, written or changed.
func (a *Agent) Plan(ctx context.Context) (PlanReport, error) {
	r := a.resolver.peek(ctx)
	if r.want.Commit == "" {
		return PlanReport{}, r.err
	}
	peek := New(a.Options)
	peek.adopt(r)
	plan := peek.diff(ctx)
	rep := PlanReport{Host: plan.Host, Commit: plan.Commit, Source: errorText(r.err), Services: []PlanService{}, Steps: []PlanStep{}}
	for _, p := range plan.Services {
		g := peek.gate(ctx, p)
		if diags := peek.want.Held[p.Service]; diags.HasErrors() && len(p.Steps) == 0 {
			st := reconcile.Status(p, &reconcile.Remembered{}, peek.want, reconcile.Live{})
			p.State, p.Reason, g = st.State, st.Reason, reconcile.Gate{}
		}
		if failing := a.failing(p.Service); failing != "" && p.Resume {
			p.Reason += "; not healthy yet: " + failing
		}
		if p.Adopts && !g.Open() && p.State == reconcile.Converged {
			p.State, p.Reason = reconcile.Waiting, "its declaration changed, and nothing here follows from that but what it asks for"
		}
		ps := PlanService{Service: p.Service, State: p.State, Purpose: p.Purpose, Reason: p.Reason, Gate: g.Name, GateReason: g.Reason, Missing: g.Missing}
		if len(p.Steps) == 0 && !p.Adopts {
			ps.Gate, ps.GateReason, ps.Missing = "", "", nil
		}
		rep.Services = append(rep.Services, ps)
		previews := peek.engine.Preview(ctx, p)
		for _, s := range p.Steps {
			more := previews[s.ID]
			if more != "" {
				s.Detail += ": " + more
			}
			rep.Steps = append(rep.Steps, PlanStep{ID: s.ID, Service: s.Service, Phase: s.Phase, Action: s.Action, Detail: s.Detail, Preview: more, Origin: s.Origin.String()})
		}
	}
	return rep, nil
}

// PlanReport is `hostagent plan --output json`.
type PlanReport struct {
	Host     string        `json:"host"`
	Commit   string        `json:"commit"`
	Source   string        `json:"source_error,omitempty"` // why this is not the newest commit
	Services []PlanService `json:"services"`
	Steps    []PlanStep    `json:"steps"`
}

// PlanService says of a service why it has the steps it has.
type PlanService struct {
	Service    string            `json:"service"`
	State      reconcile.State   `json:"state"`
	Purpose    reconcile.Purpose `json:"purpose"`
	Reason     string            `json:"reason,omitempty"`
	Gate       string            `json:"gate,omitempty"` // the first that is closed
	GateReason string            `json:"gate_reason,omitempty"`
	Missing    []string          `json:"missing,omitempty"`
}

// PlanStep is one step.
type PlanStep struct {
	ID      string           `json:"id"`
	Service string           `json:"service"`
	Phase   reconcile.Phase  `json:"phase"`
	Action  reconcile.Action `json:"action"`
	Detail  string           `json:"detail"`
	Preview string           `json:"preview,omitempty"` // what it would do, such as the migrations that are pending; part of Detail too
	Origin  string           `json:"origin"`
}

// diff looks at every service once.
func (a *Agent) diff(ctx context.Context) reconcile.Plan {
	m := a.Journal.Memory()
	have := reconcile.Observed{Memory: m, Boot: a.Boot, At: a.Now(), Found: map[string]map[string]reconcile.Condition{}}
	for _, n := range reconcile.Names(a.want, m) {
		have.Found[n] = a.observe(ctx, n, a.want, m.Service(n))
	}
	for _, mv := range a.want.Moved {
		if m.Services[mv.From] != nil {
			have.Found[mv.From] = a.observe(ctx, mv.From, a.want, m.Service(mv.From))
		}
	}
	return reconcile.Diff(a.want, have)
}

func (a *Agent) gate(ctx context.Context, p reconcile.ServicePlan) reconcile.Gate {
	s := a.surroundings()
	if g := reconcile.AdoptGate(p, s); !g.Open() {
		return g
	}
	if g := reconcile.TrustGate(p, s); !g.Open() {
		return g
	}
	if g := reconcile.TimingGate(p, s); !g.Open() {
		return g
	}
	return a.engine.HostGate(ctx, p)
}

// adopt makes what was resolved the agent's view.
func (a *Agent) adopt(r resolved) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if r.want.Commit != "" {
		a.want = r.want
	}
	if r.consent != nil {
		a.consent = r.consent
	}
	a.source.Error = errorText(r.err)
	switch {
	case r.err == nil:
		a.source.BehindSince = nil
	case a.source.BehindSince == nil:
		t := a.Now()
		if r.blocked != nil && !r.blocked.Since.IsZero() {
			t = r.blocked.Since // an earlier process was told so too
		}
		a.source.BehindSince = &t
	}
	if a.source.Blocked = ""; r.blocked != nil {
		a.source.Blocked = r.blocked.Head
	}
}

// Nudge wakes the loop, and does not wait.
func (a *Agent) Nudge() {
	select {
	case a.nudges <- struct{}{}:
	default:
	}
}

// hung is how long the loop may handle one event before it counts as dead.
const hung = time.Minute

// Healthy is nil while the loop turns.
func (a *Agent) Healthy() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.looping {
		return errors.New("the loop does not run")
	}
	if d := a.Now().Sub(a.turning); !a.turning.IsZero() && d > hung {
		return fmt.Errorf("the loop has hung for %v", d.Round(time.Second))
	}
	return nil
}

// Ready is nil once every service was looked at after the start.
func (a *Agent) Ready() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.ready {
		return errors.New("not every service was looked at yet: " + a.source.Error)
	}
	return nil
}

// Links are the `current` links of what runs: a change to one is drift, and a
// reason to look.
func (a *Agent) Links() (links []string) {
	m := a.Journal.Memory()
	for _, r := range m.Services {
		if r.Running != nil && r.Running.Service.InstallPath() != "" {
			links = append(links, filepath.Join(r.Running.Service.InstallPath(), "current"))
		}
	}
	slices.Sort(links)
	return links
}

// ask returns when a whole pass that began after it is over; of one service,
// when that came as far as it comes.
func (a *Agent) ask(ctx context.Context, service string) error {
	done := make(chan struct{}, 1)
	select {
	case a.asks <- ask{service, done}:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
