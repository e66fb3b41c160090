package attacks

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"drydock/hostagent"
	"drydock/hostagent/gitsource"
	"drydock/hostagent/journal"
	"drydock/hostagent/keyring"
	"drydock/reconcile"
	"drydock/reconcile/trust"
	"drydock/spec"
)

// host is one machine: a real source, journal and keyring, and drivers that
// note what they are asked to do.
type host struct {
	t      testing.TB
	dir    string // its state and its files
	repo   string // the repository's URL
	policy trust.Policy
	began  time.Time // of the bubble

	source  *gitsource.Source
	keys    *keyring.Keys
	journal *journal.Journal
	agent   *hostagent.Agent

	mu      sync.Mutex
	place   map[string]string // service -> the version that is installed
	process map[string]string // and the one that runs
}

// newHost is a machine whose state is in a directory. Its clock is Noon and
// that of the bubble in which its agent runs.
func newHost(t testing.TB, dir, repo string) *host {
	t.Helper()
	h := &host{t: t, dir: dir, repo: repo, policy: Policy(), place: map[string]string{}, process: map[string]string{}}
	h.file("allowed_signers", Signers())
	h.file("revoked", Revoked())
	return h
}

func (h *host) now() time.Time { return Noon().Add(time.Since(h.began)) }

func (h *host) file(name, content string) {
	h.t.Helper()
	if err := os.MkdirAll(h.dir, 0o700); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(h.dir, name), []byte(content), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// start assembles an agent as cmd/hostagent does, in the bubble that it is
// called in.
func (h *host) start() {
	h.t.Helper()
	h.began = time.Now()
	var err error
	if h.source, err = gitsource.Open(gitsource.Options{URL: h.repo, Dir: filepath.Join(h.dir, "clone.git"), Now: h.now}); err != nil {
		h.t.Fatal(err)
	}
	if h.journal, err = journal.Open(journal.Options{Path: filepath.Join(h.dir, "journal.db"), Boot: "boot-1", Now: h.now}); err != nil {
		h.t.Fatal(err)
	}
	if h.keys, err = keyring.Open(keyring.Files{Signers: filepath.Join(h.dir, "allowed_signers"), Revoked: filepath.Join(h.dir, "revoked"), Names: h.policy.Names()}); err != nil {
		h.t.Fatal(err)
	}
	drivers := &hostagent.Registry{}
	drivers.Add("install", "archive", h)
	drivers.Add("start", "process", h)
	drivers.Add("migrate", "command", h)
	drivers.Add("run", "command", h)
	h.agent = hostagent.New(hostagent.Options{
		Host: spec.Host{Name: "web-1", Environment: "prod", OS: "linux", Arch: "amd64"}, Parallel: 8, Alone: true, Version: "1.0.0",
		Source: following{h.source}, Trust: &hostagent.Trust{Policy: h.policy, Keys: h.keys, History: h.source.History()},
		Journal: h.journal, Drivers: drivers, Log: slog.New(slog.DiscardHandler), Now: h.now,
		Jitter: func(d time.Duration) time.Duration { return d }, Boot: "boot-1", Rename: h.rename,
	})
}

// rename is what drivers keep of a service.
func (h *host) rename(from, to string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, of := range []map[string]string{h.place, h.process} {
		if version, ok := of[from]; ok {
			of[to] = version
			delete(of, from)
		}
	}
	return nil
}

// stop ends what start began; the state directory stays.
func (h *host) stop() {
	h.t.Helper()
	if err := errors.Join(h.journal.Close(), h.source.Close()); err != nil {
		h.t.Error(err)
	}
}

// pass lets the agent look once, and answers what it says then.
func (h *host) pass() reconcile.HostStatus {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	st, err := h.agent.Once(ctx)
	if err != nil {
		h.t.Fatal(err)
	}
	return st
}

// running is what runs, by service.
func (h *host) running() map[string]string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.process)
}

// following is the source as cmd/hostagent hands it on.
type following struct{ *gitsource.Source }

func (s following) Head(ctx context.Context, accepted string) (hostagent.Snapshot, error) {
	snap, err := s.Source.Head(ctx, accepted)
	return hostagent.Snapshot(snap), err
}

func (s following) At(ctx context.Context, commit string) (hostagent.Snapshot, error) {
	snap, err := s.Source.At(ctx, commit)
	return hostagent.Snapshot(snap), err
}

func (s following) Accepted(context.Context) (string, error) { return s.Source.Accepted() }

// Done, Do and Observe are every driver.
func (h *host) Done(_ context.Context, s reconcile.Step) (bool, error) {
	c, err := h.Observe(context.Background(), s)
	return c.Is == reconcile.Present && s.Phase != reconcile.Fetch, err
}

func (h *host) Do(_ context.Context, s reconcile.Step) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	version := s.Target.Release.Version
	if s.Action == reconcile.Remove {
		version = ""
	}
	switch s.Phase {
	case reconcile.Install:
		h.place[s.Service] = version
	case reconcile.Start:
		h.process[s.Service] = version
	}
	return nil
}

func (h *host) Observe(_ context.Context, s reconcile.Step) (reconcile.Condition, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	at := h.place[s.Service]
	if s.Phase == reconcile.Start {
		at = h.process[s.Service]
	}
	c := reconcile.Condition{Is: reconcile.Absent, Wanted: at == s.Target.Release.Version}
	if c.Wanted {
		c.Is, c.Current = reconcile.Present, at
	}
	return c, nil
}

// stage is a repository at the base, and a host that has taken it up.
type stage struct {
	repo *Repo
	base string
	host *host
}

// newStage makes one that others are copies of.
func newStage(t *testing.T) *stage {
	t.Helper()
	dir := t.TempDir()
	s := &stage{repo: NewRepo(t, filepath.Join(dir, "repo.git"))}
	s.base = s.repo.Base()
	s.repo.Push(s.base)
	s.host = newHost(t, filepath.Join(dir, "host"), s.repo.Dir)
	s.host.policy.Since = s.base
	synctest.Test(t, func(t *testing.T) {
		s.host.start()
		defer s.host.stop()
		if st := s.host.pass(); st.Commit != s.base || st.Source.Error != "" || len(s.host.running()) != 5 {
			t.Fatalf("the base is not taken: %+v", st)
		}
	})
	return s
}

// copy is another stage like this one; with the same repository if only the
// host is to be another.
func (s *stage) copy(t testing.TB, repo *Repo) *stage {
	t.Helper()
	dir := t.TempDir()
	if repo == nil {
		repo = s.repo.Copy(t, filepath.Join(dir, "repo.git"))
	}
	if err := os.CopyFS(filepath.Join(dir, "host"), os.DirFS(s.host.dir)); err != nil {
		t.Fatal(err)
	}
	h := &host{t: t, dir: filepath.Join(dir, "host"), repo: repo.Dir, policy: s.host.policy, place: maps.Clone(s.host.place), process: maps.Clone(s.host.process)}
	return &stage{repo, s.base, h}
}

// plays shows the host a row's head.
func (s *stage) plays(t *testing.T, row row) {
	t.Helper()
	s.host.t, s.repo.T = t, t
	if row.policy != nil {
		s.host.policy.Roles = slices.Clone(s.host.policy.Roles)
		row.policy(&s.host.policy)
	}
	base := s.base
	if row.first != nil {
		base = row.first(s.repo, s.base)
		s.repo.Push(base)
		synctest.Test(t, func(t *testing.T) {
			s.host.start()
			defer s.host.stop()
			if st := s.host.pass(); st.Commit != base || st.Source.Error != "" {
				t.Fatalf("the first head is not taken: %+v", st)
			}
		})
	}
	head := row.make(s.repo, base)
	s.repo.Push(head)
	if row.then != nil {
		row.then(s)
	}
	if row.head != nil {
		head = row.head(s.repo, head)
	}
	before := s.host.running()
	synctest.Test(t, func(t *testing.T) {
		s.host.start()
		defer s.host.stop()
		row.holds(t, s.host, base, head, before)
	})
}

// holds passes once more, and compares what came of it.
func (row row) holds(t *testing.T, h *host, base, head string, before map[string]string) {
	t.Helper()
	st := h.pass()
	mark, err := h.source.Accepted()
	if err != nil {
		t.Fatal(err)
	}
	want := head
	if row.refused() {
		want = base
	}
	if row.lost && st.Commit == "" {
		st.Commit = want
	}
	if row.lost && mark == "" {
		mark = want
	}
	if st.Commit != want || mark != want {
		t.Errorf("the accepted commit is %s, and %s in the clone; want %s. It says: %s", st.Commit, mark, want, st.Source.Error)
	}
	if maps.Copy(before, row.runs); row.moved {
		before["store"] = before["shop"]
		delete(before, "shop")
	}
	if is := h.running(); !maps.Equal(is, before) {
		t.Errorf("it runs %v, want %v", is, before)
	}
	said := st.Source.Error
	if row.refused() == (said == "") {
		t.Errorf("it says: %q", said)
	}
	if row.waits != "" {
		said = ""
		for _, s := range st.Services {
			if gate, _, _ := strings.Cut(row.waits, " "); s.Gate == gate && strings.HasSuffix(row.waits, " "+s.Name) {
				said = s.Reason
			}
		}
		if said == "" {
			t.Errorf("nothing waits for %s: %+v", row.waits, st.Services)
		}
	}
	if row.fault != "" {
		row.blames(t, h, base, head)
	}
	for _, part := range row.says {
		if !strings.Contains(said, part) {
			t.Errorf("it does not say %q: %s", part, said)
		}
	}
	if !st.Source.Verified && !row.lost {
		t.Error("it says that nothing is verified")
	}
}

// blames holds the fault to its name, which status does not show.
func (row row) blames(t *testing.T, h *host, base, head string) {
	t.Helper()
	j := trust.Judge{Policy: h.policy, Keys: h.keys, History: h.source.History()}
	_, err := j.Judge(context.Background(), base, head, h.now())
	if b := (*trust.Blocker)(nil); !errors.As(err, &b) || b.Fault != row.fault {
		t.Errorf("want %s, got %v", row.fault, err)
	}
}
