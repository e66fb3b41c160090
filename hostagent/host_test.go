package hostagent

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"drydock/reconcile"
	"drydock/spec"
)

// The agent's own tests run where the clock is synctest's, on a host of a few
// facts: what scripts with real processes are too coarse or too slow for.

// host is the source, the journal and the drivers of one agent.
type host struct {
	t  testing.TB
	mu sync.Mutex

	commits  map[string]fstest.MapFS
	head     string
	mark     string // the clone's own
	sick     error  // of the source
	hang     bool   // the source does not answer
	noClone  bool
	full     bool // nothing can be accepted
	heads    int  // how often it was asked
	memory   *reconcile.Memory
	records  []reconcile.Record
	reads    int // of the memory
	onDo     map[string]func(context.Context) error
	wakes    chan struct{} // of the agent that runs
	onWatch  func(reconcile.Progressed)
	did      []string                 // steps, in order
	place    map[string]string        // service -> the release in place
	process  map[string]string        // service -> the release that runs
	in       map[string]bool          // service -> in rotation
	stubborn map[string]bool          // service -> its place always says it is in
	failing  map[string]bool          // check -> fails
	kept     map[string]func() string // service -> the release that is kept running, or ""
}

func newHost(t testing.TB) *host {
	return &host{
		t: t, wakes: make(chan struct{}), commits: map[string]fstest.MapFS{}, memory: reconcile.NewMemory(), onDo: map[string]func(context.Context) error{},
		place: map[string]string{}, process: map[string]string{}, in: map[string]bool{}, stubborn: map[string]bool{}, failing: map[string]bool{},
		kept: map[string]func() string{},
	}
}

func (h *host) options() Options {
	r := &Registry{}
	r.Add("drain", "file", h)
	r.Add("install", "archive", h)
	r.Add("start", "process", h)
	r.AddCheck("tcp", h)
	return Options{
		Host: spec.Host{Name: "web-1", Environment: "prod", OS: "linux", Arch: "amd64"}, Parallel: 2, Version: "1.0.0",
		Source: h, Journal: h, Drivers: r, Log: slog.New(slog.DiscardHandler), Now: time.Now,
		Jitter: func(d time.Duration) time.Duration { return d }, Boot: "boot-1", Watch: h.watched,
	}
}

func (h *host) watched(p reconcile.Progressed) {
	if h.onWatch != nil {
		h.onWatch(p)
	}
}

// run starts an agent that runs until the test ends.
func (h *host) run(o Options) *Agent {
	a := New(o)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx, h.wakes) }()
	h.t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			h.t.Error(err)
		}
	})
	synctest.Wait()
	return a
}

// declared is a service as HCL, with more lines in it.
func declared(name, version, more string) string {
	return fmt.Sprintf(`service %q {
  hosts = {}
  release {
    version = %q
    digest  = "sha256:%x"
  }
  artifact {
    source = "https://artifacts.acme.example/%[1]s"
  }
  drain "file" {
    path = "/rotation/%[4]s"
  }
  install "archive" {
    path = "/srv/%[4]s"
  }
  start "process" {
    command = ["run"]
  }
  check "tcp" {
    address = "127.0.0.1:80"
  }
  rollout {
    min_healthy_time = "1s"
  }
  %[5]s
}
`, name, version, sha256.Sum256([]byte(name+version)), name, more)
}

// commit makes files the newest commit, and returns its hash.
func (h *host) commit(files map[string]string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.head = fmt.Sprintf("%040x", len(h.commits)+1)
	tree := fstest.MapFS{}
	for name, text := range files {
		tree[name] = &fstest.MapFile{Data: []byte(text), Mode: 0o644}
	}
	h.commits[h.head] = tree
	return h.head
}

// services commits one file for each service of "name version".
func (h *host) services(list ...[2]string) string {
	files := map[string]string{}
	for _, s := range list {
		files["prod/"+s[0]+".hcl"] = declared(s[0], s[1], "")
	}
	return h.commit(files)
}

// Head, At, Accept and Accepted are the source.
func (h *host) Head(ctx context.Context, _ string) (Snapshot, error) {
	h.mu.Lock()
	h.heads++
	hang, sick, head := h.hang, h.sick, h.head
	h.mu.Unlock()
	if hang {
		<-ctx.Done()
		return Snapshot{}, ctx.Err()
	}
	if sick != nil {
		return Snapshot{}, sick
	}
	return h.At(ctx, head)
}

func (h *host) At(_ context.Context, commit string) (Snapshot, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	tree, ok := h.commits[commit]
	if !ok || h.noClone {
		return Snapshot{}, errors.New("no such commit")
	}
	return Snapshot{Commit: commit, FS: tree}, nil
}

func (h *host) Accept(_ context.Context, commit string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.full {
		return errors.New("no space left on device")
	}
	h.mark = commit
	return nil
}

func (h *host) Accepted(context.Context) (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mark, nil
}

// Append and Memory are the journal. Memory fails a test that spins.
func (h *host) Append(_ context.Context, r reconcile.Record) (reconcile.Record, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r.Seq, r.Time, r.Boot = uint64(len(h.records)+1), time.Now(), cmp.Or(r.Boot, "boot-1")
	h.records = append(h.records, r)
	h.memory.Apply(r)
	return r, nil
}

func (h *host) Memory() reconcile.Memory {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.reads++; h.reads > 100_000 {
		panic("it spins")
	}
	data, err := json.Marshal(h.memory)
	m := *reconcile.NewMemory()
	if err = errors.Join(err, json.Unmarshal(data, &m)); err != nil {
		panic(err)
	}
	return m
}

// Done, Do, Observe and Probe are every driver.
func (h *host) Done(_ context.Context, s reconcile.Step) (bool, error) {
	c, err := h.Observe(context.Background(), s)
	return c.Is == reconcile.Present && s.Phase != reconcile.Drain, err
}

func (h *host) Do(ctx context.Context, s reconcile.Step) error {
	h.mu.Lock()
	do := h.onDo[s.ID]
	h.mu.Unlock()
	if do != nil {
		if err := do(ctx); err != nil {
			return err
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.did = append(h.did, s.ID+" "+s.Target.Release.Version)
	switch s.Phase {
	case reconcile.Drain:
		delete(h.in, s.Service)
	case reconcile.Undrain:
		h.in[s.Service] = true
	case reconcile.Install:
		h.place[s.Service] = s.Target.Release.Version
	case reconcile.Start:
		h.process[s.Service] = s.Target.Release.Version
	}
	return nil
}

func (h *host) Observe(_ context.Context, s reconcile.Step) (reconcile.Condition, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	is := map[bool]reconcile.Is{true: reconcile.Present, false: reconcile.Absent}
	switch s.Phase {
	case reconcile.Install, reconcile.Fetch:
		c := reconcile.Condition{Is: is[h.place[s.Service] == s.Target.Release.Version]}
		if c.Wanted = c.Is == reconcile.Present; c.Wanted {
			c.Current = h.place[s.Service]
		}
		return c, nil
	case reconcile.Start:
		return reconcile.Condition{Is: is[h.process[s.Service] == s.Target.Release.Version], Detail: "no process"}, nil
	}
	return reconcile.Condition{Is: is[h.in[s.Service] || h.stubborn[s.Service]]}, nil
}

func (h *host) Probe(_ context.Context, s reconcile.Step) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failing[s.Service+" "+s.Block.Label] {
		return errors.New("refused")
	}
	return nil
}

// Keep notes which release is kept running.
func (h *host) Keep(ctx context.Context, s reconcile.Step) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.kept[s.Service] = func() string {
		if ctx.Err() != nil {
			return ""
		}
		return s.Target.Release.Version
	}
	return nil
}

// keeps is the release of a service that is kept running now, or "".
func (h *host) keeps(service string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if f := h.kept[service]; f != nil {
		return f()
	}
	return ""
}

// set changes facts.
func (h *host) set(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
}

func (h *host) steps() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.did)
}

// row is one service's status.
func row(t testing.TB, a *Agent, name string) reconcile.ServiceStatus {
	t.Helper()
	st := a.Status(context.Background())
	for _, s := range st.Services {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("no service %s in %+v", name, st)
	return reconcile.ServiceStatus{}
}

// is fails unless a service is in a state, at a version ("" for none).
func is(t testing.TB, a *Agent, name string, state reconcile.State, version string) {
	t.Helper()
	s := row(t, a, name)
	running := ""
	if s.Running != nil {
		running = s.Running.Version
	}
	if s.State != state || running != version {
		t.Fatalf("%s is %v at %q (%s, gate %q), want %v at %q", name, s.State, running, s.Reason, s.Gate, state, version)
	}
}

// wake tells the running agent to look again, as a poll or a file does.
func (h *host) wake() {
	h.wakes <- struct{}{}
	synctest.Wait()
}

// pass makes a whole pass of a running agent.
func pass(t testing.TB, a *Agent) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	if _, err := a.Once(ctx); err != nil {
		t.Fatal(err)
	}
}
