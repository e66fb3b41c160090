package reconcile

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"drydock/spec"
)

// The tests of the executor run against a world in memory: a few facts about
// one host, which steps change, and a journal that can die after any record.

// errKilled is what everything says after the kill.
var errKilled = errors.New("killed")

// facts are what a kill does not take away.
type facts struct {
	Fetched   map[string]bool   // release directories
	Installed map[string]string // service -> release directory, or what somebody else put there
	Altered   map[string]bool   // service -> its tree is not as it was left
	Running   map[string]string // service -> release directory of its process
	Rotation  map[string]bool   // place -> in rotation
	Applied   map[string]bool   // migration of a release
	Started   map[string]int    // how often it was begun
	Hooks     map[string]int
}

type world struct {
	t  testing.TB
	mu sync.Mutex
	facts
	bad      map[string]bool    // versions whose checks fail
	mortal   map[string]bool    // versions whose process dies during check
	flaps    map[string]bool    // versions that are healthy every other time
	faults   map[string][]error // step ID -> what its next tries say; nil is success
	always   map[string]error   // step ID -> what every try says
	hang     map[string]bool    // step ID -> its Do waits for its context
	onDo     map[string]func()  // step ID -> called when it acts
	blind    map[string]bool    // place -> its driver cannot tell
	prove    bool               // a migration can say whether it was applied
	noDone   error              // what a migration says where it cannot
	pruned   [][]string
	acts     []string
	probes   int
	most     int // services out at once, seen
	boot     string
	want     spec.Wanted
	paused   bool
	alone    bool
	slots    *HostSlots
	records  []Record
	memory   *Memory
	snapshot *Memory
	refuse   func(Record) error
	consent  Consent

	// The kill: after (or, with before, instead of) the record of this number.
	killAt int
	before bool
	dead   bool
	// swallowed: the kill took a failure with it, and the migration's driver
	// can prove that nothing was applied.
	swallowed bool
	kill      context.CancelFunc
	seen      map[transition]bool
	journal   []string
}

func newWorld(t testing.TB) *world {
	return &world{
		t: t, boot: "boot-1", slots: NewHostSlots(2), memory: NewMemory(), alone: true, prove: true,
		facts: facts{
			Fetched: map[string]bool{}, Installed: map[string]string{}, Altered: map[string]bool{}, Running: map[string]string{},
			Rotation: map[string]bool{}, Applied: map[string]bool{}, Started: map[string]int{}, Hooks: map[string]int{},
		},
		bad: map[string]bool{}, mortal: map[string]bool{}, flaps: map[string]bool{}, faults: map[string][]error{}, always: map[string]error{},
		hang: map[string]bool{}, onDo: map[string]func(){}, blind: map[string]bool{}, noDone: ErrUnknown,
	}
}

// Append and Memory make the world a journal. Like the real one it keeps
// what a restart would read.
func (w *world) Append(_ context.Context, r Record) (Record, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dead {
		return r, errKilled
	}
	if w.refuse != nil {
		if err := w.refuse(r); err != nil {
			return r, err
		}
	}
	last := w.killAt > 0 && len(w.records)+1 == w.killAt
	if last && w.before {
		w.swallowed = r.Kind == Failed && w.prove
		w.die()
		return r, errKilled
	}
	r.Seq, r.Time, r.Boot = uint64(len(w.records)+1), time.Now(), w.boot
	line, err := json.Marshal(r)
	if err != nil {
		return r, err
	}
	var back Record
	if err := json.Unmarshal(line, &back); err != nil {
		return r, err
	}
	w.records = append(w.records, back)
	w.memory.Apply(back)
	w.journal = append(w.journal, say(back))
	if last {
		w.die()
	}
	return r, nil
}

func (w *world) die() {
	w.dead = true
	if w.kill != nil {
		w.kill()
	}
}

func say(r Record) string {
	s := string(r.Kind)
	for _, more := range []string{r.Step, r.Service} {
		if more != "" {
			s += " " + more
			break
		}
	}
	return s
}

func (w *world) Memory() Memory {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.snapshot == nil || w.snapshot.Seq != w.memory.Seq {
		w.snapshot = ptr(cloned(w.t, *w.memory)) // nobody changes it any more
	}
	return *w.snapshot
}

func cloned[T any](t testing.TB, v T) (out T) {
	t.Helper()
	data, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(data, &out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Driver makes it a host.
func (w *world) Driver(s Step) (Driver, error) {
	if s.Block.Driver == "unbuilt" {
		return nil, errors.New("no driver for " + s.Block.ID())
	}
	if s.Phase == Check && s.Block.Type != "run" {
		k := Checking{Start: pretend{w}}
		if s.Block.Type == "check" {
			k.Probe = pretend{w}
		}
		return k, nil
	}
	return pretend{w}, nil
}

type pretend struct{ w *world }

func spot(s Step) string { return s.Service + " " + drainKey(s.Block) }

func (p pretend) Done(_ context.Context, s Step) (bool, error) {
	w := p.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dead {
		return false, errKilled
	}
	dir := s.Target.Release.Dir()
	switch s.Phase {
	case Fetch:
		return w.Fetched[s.Service+dir], nil
	case Drain:
		return !w.Rotation[spot(s)], nil
	case Install:
		if s.Action == Remove {
			return w.Installed[s.Service] == "", nil
		}
		return w.Installed[s.Service] == w.dir(s) && !w.Altered[s.Service], nil
	case Migrate:
		if w.Applied[s.Service+dir] || w.prove {
			return w.Applied[s.Service+dir], nil
		}
		return false, w.noDone
	case Start:
		if s.Action == Remove {
			return w.Running[s.Service] == "", nil
		}
		return w.Running[s.Service] == w.dir(s), nil
	case Undrain:
		return w.Rotation[spot(s)], nil
	}
	return false, nil
}

func (w *world) dir(s Step) string {
	if s.Adopt != "" {
		return s.Adopt
	}
	if s.Target.Release.Version == "" {
		return w.Installed[s.Service]
	}
	return s.Target.Release.Dir()
}

func (p pretend) Do(ctx context.Context, s Step) error {
	w := p.w
	w.mu.Lock()
	if w.hang[s.ID] {
		w.mu.Unlock()
		<-ctx.Done()
		return ctx.Err()
	}
	defer w.mu.Unlock()
	if w.dead {
		return errKilled
	}
	if f := w.onDo[s.ID]; f != nil {
		w.mu.Unlock()
		f()
		w.mu.Lock()
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	w.acts = append(w.acts, s.ID+" "+s.Target.Release.Version)
	w.law(s)
	dir := s.Target.Release.Dir()
	if s.Phase == Migrate && s.Block.Type != "run" {
		w.Started[s.Service+dir]++
	}
	if s.Phase == Start && s.Block.Type != "run" {
		delete(w.Running, s.Service) // the old one goes before the new one comes
	}
	if err := w.always[s.ID]; err != nil {
		return err
	}
	if next := w.faults[s.ID]; len(next) > 0 {
		w.faults[s.ID] = next[1:]
		if next[0] != nil {
			return next[0]
		}
	}
	if s.Block.Type == "run" {
		w.Hooks[s.ID]++
		return nil
	}
	switch s.Phase {
	case Fetch:
		w.Fetched[s.Service+dir] = true
	case Drain:
		w.Rotation[spot(s)] = false
		w.countOut()
	case Install:
		w.Installed[s.Service] = w.dir(s)
		delete(w.Altered, s.Service)
		if s.Action == Remove {
			delete(w.Installed, s.Service)
		}
	case Migrate:
		w.Applied[s.Service+dir] = true
	case Start:
		w.Running[s.Service] = w.dir(s)
		if s.Action == Remove {
			delete(w.Running, s.Service)
		}
	case Undrain:
		w.Rotation[spot(s)] = true
	}
	return nil
}

// law holds every act to the invariants.
func (w *world) law(s Step) {
	r := w.memory.Service(s.Service)
	if r.Open == nil {
		w.t.Errorf("%s acts, and no plan is on record", s.ID)
		return
	}
	stopping := s.Phase == Start && s.Action == Remove && r.Open.Purpose != Uninstall
	if is := r.Open.Progress[s.ID].Is; is != Begun && !stopping {
		w.t.Errorf("%s acts, and its record says %q", s.ID, is)
	}
	if s.Block.Type == "run" {
		return
	}
	switch s.Phase {
	case Install, Migrate, Start:
		for _, b := range s.Target.Drains {
			at := s
			at.Block = b
			if r.Running != nil && w.Rotation[spot(at)] {
				w.t.Errorf("%s acts while %s is in rotation", s.ID, b.ID())
			}
		}
	case Undrain:
		if len(s.Target.Checks) > 0 && r.Running != nil && r.Open.touches("/start/") && w.bad[s.Target.Release.Version] {
			w.t.Errorf("%s: %s is put into rotation, and it is not healthy", s.ID, s.Target.Release.Version)
		}
		if _, ours := r.Drains[drainKey(s.Block)]; !ours && r.Rotation[drainKey(s.Block)] == w.boot && !w.Rotation[spot(s)] {
			w.t.Errorf("%s: undrained what a person drained", s.ID)
		}
	}
}

func (w *world) countOut() {
	out := map[string]bool{}
	for place, in := range w.Rotation {
		if !in {
			out[strings.Fields(place)[0]] = true
		}
	}
	w.most = max(w.most, len(out))
}

func (p pretend) Probe(_ context.Context, s Step) error {
	w := p.w
	w.mu.Lock()
	defer w.mu.Unlock()
	w.probes++
	v := s.Target.Release.Version
	switch {
	case w.dead:
		return errKilled
	case w.Running[s.Service] != w.dir(s):
		return fmt.Errorf("answered by %q", w.Running[s.Service])
	case w.bad[v], w.flaps[v] && w.probes%3 == 0:
		return errors.New("status 503, expected 200")
	}
	return nil
}

func (p pretend) Observe(_ context.Context, s Step) (Condition, error) {
	w := p.w
	w.mu.Lock()
	defer w.mu.Unlock()
	here := func(ok bool) Condition {
		if ok {
			return Condition{Is: Present}
		}
		return Condition{Is: Absent}
	}
	switch s.Block.Type {
	case "install":
		at := w.Installed[s.Service]
		switch {
		case strings.HasPrefix(at, "/"):
			return Condition{Is: Altered, Foreign: at, Detail: "current points to " + at}, nil
		case at == "":
			return here(false), nil
		case at != s.Target.Release.Dir() || w.Altered[s.Service]:
			return Condition{Is: Altered, Detail: "current is " + at}, nil
		}
		return here(true), nil
	case "start":
		if w.mortal[s.Target.Release.Version] {
			return Condition{Is: Absent, Detail: "exit status 2"}, nil
		}
		return here(w.Running[s.Service] != ""), nil
	case "drain":
		if w.blind[spot(s)] {
			return Condition{}, nil
		}
		return here(w.Rotation[spot(s)]), nil
	}
	return Condition{}, nil
}

func (p pretend) Prune(_ context.Context, _ Step, keep []string) error {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	p.w.pruned = append(p.w.pruned, keep)
	return nil
}

// observe looks as the agent does: at the blocks of what runs.
func (w *world) observe() Observed {
	have := Observed{Memory: w.Memory(), Boot: w.boot, Found: map[string]map[string]Condition{}}
	for _, n := range Names(w.want, have.Memory) {
		found := map[string]Condition{}
		look := func(p Phase, t spec.Service, bs ...spec.Block) {
			for _, b := range bs {
				s := Step{Service: n, Phase: p, Block: b, Target: t}
				if c, _ := (pretend{w}).Observe(context.Background(), s); c.Is != Unknown {
					found[b.ID()] = c
				}
			}
		}
		r := have.Memory.Service(n)
		switch {
		case r.Running != nil && r.Running.Foreign == "":
			t := r.Running.Service
			if t.Install != nil {
				look(Install, t, *t.Install)
			}
			if t.Start != nil {
				look(Start, t, *t.Start)
			}
			look(Drain, t, t.Drains...)
		default:
			for _, s := range w.want.Services {
				if s.Name == n && s.Install != nil {
					look(Install, s, *s.Install)
				}
			}
		}
		have.Found[n] = found
	}
	return have
}

func (w *world) engine() *Engine {
	w.seen = map[transition]bool{}
	return &Engine{
		Journal: w, Drivers: w, Slots: w.slots, Host: "web-1", Boot: w.boot, Now: time.Now,
		Jitter: func(d time.Duration) time.Duration { return d },
		Log:    slog.New(slog.DiscardHandler),
		Look: func() Surroundings {
			return Surroundings{Now: time.Now(), Wanted: w.want, Memory: w.Memory(), Paused: w.paused, Alone: w.alone, Consent: w.consent}
		},
		Watch: func(Progressed) {},
	}
}

// pass is one look at everything, all services side by side.
func (w *world) pass(e *Engine) (Plan, []Outcome) {
	life, kill := context.WithCancel(context.Background())
	defer kill()
	w.mu.Lock()
	w.kill = kill
	w.mu.Unlock()
	plan := Diff(w.want, w.observe())
	outs := make([]Outcome, len(plan.Services))
	var g sync.WaitGroup
	for i, p := range plan.Services {
		g.Go(func() { outs[i] = e.Carry(life, life, p) })
	}
	g.Wait()
	return plan, outs
}

// converge passes until nothing is left to do, waiting where it is told to. A
// kill starts a new agent on the same journal.
func (w *world) converge() {
	w.t.Helper()
	e := w.engine()
	for range 60 {
		plan, outs := w.pass(e)
		if w.dead {
			w.dead, w.killAt = false, 0
			w.slots = NewHostSlots(2)
			e = w.engine()
			continue
		}
		if plan.Empty() {
			return
		}
		var until time.Time
		for _, o := range outs {
			if !o.Retry.IsZero() && (until.IsZero() || o.Retry.Before(until)) {
				until = o.Retry
			}
		}
		if !until.IsZero() {
			time.Sleep(time.Until(until)) // the bubble's clock
		}
	}
	if w.mending() {
		return
	}
	w.t.Errorf("60 passes, and still something to do: %v", Diff(w.want, w.observe()).Steps())
}

// mending reports whether all that is left are repairs of what does not run
// any more whatever is done: they go on, further and further apart.
func (w *world) mending() bool {
	m := w.Memory()
	for _, p := range Diff(w.want, w.observe()).Services {
		if o := m.Service(p.Service).Open; !p.Empty() && (o == nil || o.Purpose != Mend || o.stuck() == "") {
			return false
		}
	}
	return true
}

// state is one word for each service, and what serves.
func (w *world) state() string {
	var all []string
	for _, p := range Diff(w.want, w.observe()).Services {
		s := fmt.Sprintf("%s %s", p.Service, p.State)
		w.mu.Lock()
		if at := w.Running[p.Service]; at != "" {
			s += " runs " + at
		}
		for _, place := range sortedKeys(w.Rotation) {
			if strings.HasPrefix(place, p.Service+" ") && !w.Rotation[place] {
				s += " drained"
				break
			}
		}
		w.mu.Unlock()
		all = append(all, s)
	}
	return strings.Join(all, "; ")
}

func (w *world) wants(services ...spec.Service) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.want.Host.Name = "web-1"
	w.want.Services = services
	slices.SortFunc(w.want.Services, func(a, b spec.Service) int { return strings.Compare(a.Name, b.Name) })
}

// kinds are the journal's records from a given one on, without the fetches.
func (w *world) since(n int) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.journal[n:], "\n")
}

// block makes a block; config is pairs of names and values.
func block(typ, driver string, config ...any) spec.Block {
	m := map[string]any{}
	for i := 0; i+1 < len(config); i += 2 {
		m[config[i].(string)] = config[i+1]
	}
	data, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	driver, label, _ := strings.Cut(driver, ".")
	return spec.Block{Type: typ, Driver: driver, Label: label, Config: data}
}

func ptr[T any](v T) *T { return &v }

// declared is a service with one block of each kind, and no migration.
func declared(name, version string, edit ...func(*spec.Service)) spec.Service {
	s := spec.Service{
		Name: name, Environment: "prod", Release: spec.Release{Version: version, Attempt: 1},
		Drains:  []spec.Block{block("drain", "file", "path", "/run/"+name)},
		Install: ptr(block("install", "archive", "path", "/srv/"+name, "keep", 5)),
		Start:   ptr(block("start", "process", "command", []string{"bin/" + name})),
		Checks:  []spec.Block{block("check", "http", "url", "http://127.0.0.1/", "interval", "1s", "timeout", "2s")},
		Rollout: spec.Rollout{
			MinHealthyTime: spec.Duration(2 * time.Second), HealthyDeadline: spec.Duration(10 * time.Second), AutoRevert: true,
		},
	}
	for _, f := range edit {
		f(&s)
	}
	hashed := s
	hashed.Release = spec.Release{}
	data, err := json.Marshal(hashed)
	if err != nil {
		panic(err)
	}
	sum := sha256.Sum256(data)
	s.SpecHash = hex.EncodeToString(sum[:])
	return s
}

func migrating(compatible bool) func(*spec.Service) {
	return func(s *spec.Service) {
		s.Migrates = []spec.Block{block("migrate", "sql", "compatible", compatible, "scope", "host", "timeout", "10m0s")}
	}
}

func hooked(name string, config ...any) func(*spec.Service) {
	return func(s *spec.Service) { s.Hooks = append(s.Hooks, block("run", name, config...)) }
}

func attempt(n int) func(*spec.Service) { return func(s *spec.Service) { s.Release.Attempt = n } }

func noRevert(s *spec.Service) { s.Rollout.AutoRevert = false }
