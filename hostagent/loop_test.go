package hostagent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"drydock/reconcile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// virtual is a test in a bubble of virtual time.
func virtual(t *testing.T, f func(t *testing.T, h *host)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, newHost(t)) })
}

// elapse lets virtual time pass.
func elapse(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestAPassConverges(t *testing.T) {
	virtual(t, func(t *testing.T, h *host) {
		h.services([2]string{"web", "1"}, [2]string{"api", "1"})
		a := New(h.options())
		if st := a.Status(t.Context()); len(st.Services) != 0 || st.Commit != "" {
			t.Fatalf("before the first pass: %+v", st)
		}
		if err := a.Ready(); err == nil {
			t.Fatal("ready before anything was looked at")
		}
		pass(t, a)
		is(t, a, "web", reconcile.Converged, "1")
		is(t, a, "api", reconcile.Converged, "1")
		if err := a.Ready(); err != nil {
			t.Fatal(err)
		}
		n := len(h.steps())
		pass(t, a)
		if more := h.steps()[n:]; len(more) > 0 {
			t.Fatalf("nothing to do, and it did %v", more)
		}
	})
}

// What waits for a slot or a dependency goes on in the same pass, also where
// it comes free between the question and the answer.
func TestFreedSlotIsNotMissed(t *testing.T) {
	virtual(t, func(t *testing.T, h *host) {
		h.services([2]string{"a", "1"}, [2]string{"b", "1"})
		o := h.options()
		o.Parallel = 1
		pass(t, New(o))
		h.services([2]string{"a", "2"}, [2]string{"b", "2"})

		closed := make(chan struct{})
		var held sync.Once
		first := ""
		h.onWatch = func(p reconcile.Progressed) {
			name := p.Record.Service
			h.mu.Lock()
			if first == "" && p.Stage == reconcile.Working {
				first = name
			}
			isFirst := name == first
			h.mu.Unlock()
			if isFirst && p.Record.Kind == reconcile.Closed {
				close(closed)
			}
			if !isFirst && p.Stage == reconcile.Pending {
				held.Do(func() {
					<-closed
					synctest.Wait() // the loop has heard of the other's end before it hears of this
				})
			}
		}
		a := New(o)
		pass(t, a)
		is(t, a, "a", reconcile.Converged, "2")
		is(t, a, "b", reconcile.Converged, "2")
	})
}

func TestGateOpensByItself(t *testing.T) {
	virtual(t, func(t *testing.T, h *host) {
		h.services([2]string{"web", "1"})
		a := h.run(h.options())
		pass(t, a)
		until := time.Now().Add(3 * time.Hour)
		h.commit(map[string]string{
			"prod/web.hcl": declared("web", "2", ""),
			"freeze.hcl":   `freeze "x" { until = "` + until.UTC().Format(time.RFC3339) + `" }`,
		})
		pass(t, a)
		is(t, a, "web", reconcile.Waiting, "1")
		elapse(3*time.Hour + time.Minute)
		is(t, a, "web", reconcile.Converged, "2")
	})
}

func TestNewCommitOpensAGate(t *testing.T) {
	virtual(t, func(t *testing.T, h *host) {
		h.services([2]string{"web", "1"})
		a := h.run(h.options())
		pass(t, a)
		freeze := `freeze "x" { until = "2099-01-01T00:00:00Z" }`
		h.commit(map[string]string{"prod/web.hcl": declared("web", "2", ""), "freeze.hcl": freeze})
		pass(t, a)
		is(t, a, "web", reconcile.Waiting, "1")
		h.services([2]string{"web", "2"})
		h.wake()
		elapse(time.Minute)
		is(t, a, "web", reconcile.Converged, "2")
	})
}

// A failure backs off, whatever wakes the loop, but a person's word is heard.
func TestBackOff(t *testing.T) {
	virtual(t, func(t *testing.T, h *host) {
		h.services([2]string{"web", "1"})
		tries := 0
		h.onDo["web/fetch/archive"] = func(context.Context) error {
			tries++
			return reconcile.HostFault(errors.New("no route"), "")
		}
		a := h.run(h.options())
		elapse(16 * time.Second) // three tries: at 0, 5 and 15 s
		if tries != 3 {
			t.Fatalf("%d tries, want 3", tries)
		}
		is(t, a, "web", reconcile.Waiting, "")
		for range 5 {
			h.wake()
		}
		if tries != 3 {
			t.Fatalf("%d tries: a wake does not mend a network", tries)
		}
		a.Nudge()
		synctest.Wait()
		if tries != 4 {
			t.Fatalf("%d tries: a person has asked", tries)
		}
		h.set(func() { delete(h.onDo, "web/fetch/archive") })
		elapse(time.Hour)
		is(t, a, "web", reconcile.Converged, "1")
	})
}

// A service that is gone while its next try is due does not turn the loop for ever.
func TestGoneServiceDoesNotSpin(t *testing.T) {
	virtual(t, func(t *testing.T, h *host) {
		h.services([2]string{"web", "1"}, [2]string{"old", "1"})
		a := h.run(h.options())
		pass(t, a)
		h.onDo["old/fetch/archive"] = func(context.Context) error { return reconcile.HostFault(errors.New("no route"), "") }
		h.services([2]string{"web", "1"}, [2]string{"old", "2"})
		pass(t, a)
		is(t, a, "old", reconcile.Waiting, "1")
		h.commit(map[string]string{
			"prod/web.hcl": declared("web", "1", ""), "prod/new.hcl": strings.ReplaceAll(declared("old", "1", ""), `service "old"`, `service "new"`),
			"prod/moved.hcl": "moved {\n from = \"old\"\n to = \"new\"\n}",
		})
		h.wake()
		elapse(24 * time.Hour)
		is(t, a, "web", reconcile.Converged, "1")
	})
}

// What ends well and is needed again at once is slowed down.
func TestEndlessPlansAreSlowedDown(t *testing.T) {
	virtual(t, func(t *testing.T, h *host) {
		h.services([2]string{"web", "1"})
		a := h.run(h.options())
		pass(t, a)
		h.set(func() { h.stubborn["web"] = true }) // drained, it is in rotation all the same
		if err := a.Drain(t.Context(), "web"); err != nil {
			t.Fatal(err)
		}
		n := len(h.steps())
		if n > 40 {
			t.Fatalf("%d steps in one pass", n)
		}
		elapse(time.Minute)
		if more := len(h.steps()) - n; more > 15 {
			t.Fatalf("%d more steps in a minute", more)
		}
		h.set(func() { h.stubborn["web"] = false })
		pass(t, a)
		if s := row(t, a, "web"); !strings.Contains(s.Reason, "hostagent undrain web") {
			t.Fatalf("%+v", s)
		}
	})
}

// A newer commit replaces a plan that has not begun, never one that has.
func TestSupersede(t *testing.T) {
	virtual(t, func(t *testing.T, h *host) {
		h.services([2]string{"web", "1"})
		a := h.run(h.options())
		pass(t, a)
		h.set(func() {
			h.onDo["web/fetch/archive"] = func(ctx context.Context) error {
				<-ctx.Done() // a slow download
				return ctx.Err()
			}
		})
		h.services([2]string{"web", "2"})
		a.Nudge()
		synctest.Wait()
		if s := row(t, a, "web"); s.Step != "web/fetch/archive" {
			t.Fatalf("%+v", s)
		}
		h.set(func() { delete(h.onDo, "web/fetch/archive") })
		h.services([2]string{"web", "3"})
		pass(t, a)
		is(t, a, "web", reconcile.Converged, "3")
		if slices.ContainsFunc(h.steps(), func(s string) bool { return strings.HasSuffix(s, " 2") }) {
			t.Fatalf("a step of the superseded plan ended: %v", h.steps())
		}

		// Begun: it is finished first.
		began, goOn := make(chan struct{}), make(chan struct{})
		h.set(func() {
			h.onDo["web/install/archive"] = func(context.Context) error {
				h.set(func() { delete(h.onDo, "web/install/archive") })
				close(began)
				<-goOn
				return nil
			}
		})
		h.services([2]string{"web", "4"})
		a.Nudge()
		<-began
		h.services([2]string{"web", "5"})
		a.Nudge()
		synctest.Wait()
		close(goOn)
		pass(t, a)
		is(t, a, "web", reconcile.Converged, "5")
		if !slices.Contains(h.steps(), "web/undrain/file 4") {
			t.Fatalf("a committed plan was not finished: %v", h.steps())
		}
	})
}

// A source that hangs or fails holds up nobody, also after a start.
func TestSilentSource(t *testing.T) {
	virtual(t, func(t *testing.T, h *host) {
		h.services([2]string{"web", "1"})
		pass(t, New(h.options()))
		h.set(func() { h.hang = true; delete(h.process, "web") })
		a := h.run(h.options())
		elapse(10 * time.Second)
		is(t, a, "web", reconcile.Converged, "1")
		if h.process["web"] != "1" {
			t.Fatal("not repaired while the source is silent")
		}
		h.set(func() { delete(h.process, "web") })
		a.Nudge()
		elapse(10 * time.Second)
		if h.process["web"] != "1" {
			t.Fatal("not repaired on a wake while the source is silent")
		}
	})
}

// Whoever asked for a pass may go; it goes on. Two agents make one pass.
func TestOnceThroughTheLoop(t *testing.T) {
	virtual(t, func(t *testing.T, h *host) {
		h.services([2]string{"web", "1"})
		a := h.run(h.options())
		pass(t, a)
		goOn := make(chan struct{})
		h.set(func() {
			h.onDo["web/start/process"] = func(context.Context) error {
				<-goOn
				return nil
			}
		})
		h.services([2]string{"web", "2"})
		ctx, leave := context.WithTimeout(t.Context(), time.Minute)
		defer leave()
		if _, err := a.Once(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("left, and got %v", err)
		}
		close(goOn)
		pass(t, a)
		is(t, a, "web", reconcile.Converged, "2")
		if err := a.Healthy(); err != nil {
			t.Fatal(err)
		}
	})
}

// What has begun comes to its end before the agent does, for as long as Grace.
func TestShutdown(t *testing.T) {
	for name, endless := range map[string]bool{"ends": false, "hangs": true} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(t *testing.T, h *host) {
				h.services([2]string{"web", "1"})
				pass(t, New(h.options()))
				h.services([2]string{"web", "2"})
				began := make(chan struct{})
				h.onDo["web/start/process"] = func(ctx context.Context) error {
					close(began)
					if !endless {
						<-time.After(time.Minute)
						return nil
					}
					<-ctx.Done()
					return ctx.Err()
				}
				a := New(h.options())
				ctx, stop := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- a.Run(ctx, nil) }()
				<-began
				at := time.Now()
				stop()
				if err := <-ended; err != nil {
					t.Fatal(err)
				}
				if took := time.Since(at); took > a.Grace+time.Second {
					t.Fatalf("it took %v to stop", took)
				}
				if h.in["web"] == endless {
					t.Fatalf("in rotation: %v", h.in["web"])
				}
				h.set(func() { delete(h.onDo, "web/start/process") })
				b := New(h.options())
				pass(t, b)
				is(t, b, "web", reconcile.Converged, "2")
			})
		})
	}
}

// A migration that is cut off may leave nobody knowing what it did.
func TestShutdownWaitsForAMigration(t *testing.T) {
	virtual(t, func(t *testing.T, h *host) {
		migrating := `migrate "command" {
    command = ["migrate"]
    check   = ["migrated"]
  }`
		h.commit(map[string]string{"prod/web.hcl": declared("web", "1", migrating)})
		began := make(chan struct{})
		h.onDo["web/migrate/command"] = func(ctx context.Context) error {
			close(began)
			select {
			case <-time.After(9 * time.Minute):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		h.onDo["web/start/process"] = func(ctx context.Context) error {
			select {
			case <-time.After(time.Minute): // within Grace, and longer than between two looks
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		o := h.options()
		o.Drivers.Add("migrate", "command", h)
		var said []string
		o.Migrating = func(service string, atMost time.Duration) { said = append(said, fmt.Sprint(service, " ", atMost)) }
		a := New(o)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- a.Run(ctx, nil) }()
		<-began
		stop()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		m := h.Memory()
		if r := m.Service("web"); r.Running == nil {
			t.Errorf("the migration was cut off: %+v", r.Open)
		}
		if len(said) < 50 || said[0] != "web 1m45s" {
			t.Errorf("said %d times: %.3q", len(said), said)
		}
	})
}

// Each check speaks for itself at rest, and none after a plan has begun.
func TestChecksAtRest(t *testing.T) {
	virtual(t, func(t *testing.T, h *host) {
		more := "check \"tcp\" \"second\" {\n address = \"127.0.0.1:81\"\n}"
		h.commit(map[string]string{"prod/web.hcl": declared("web", "1", more)})
		a := h.run(h.options())
		pass(t, a)
		h.set(func() { h.failing["web "] = true })
		elapse(2 * restInterval)
		if s := row(t, a, "web"); s.State != reconcile.Converged || !strings.Contains(s.Reason, "check/tcp fails at rest: refused") {
			t.Fatalf("%+v", s)
		}
		h.set(func() { h.failing["web second"] = true })
		elapse(2 * restInterval)
		if s := row(t, a, "web"); !strings.Contains(s.Reason, "check/tcp fails") || !strings.Contains(s.Reason, "check/tcp.second fails") {
			t.Fatalf("%+v", s)
		}
		h.set(func() { delete(h.failing, "web ") })
		elapse(2 * restInterval)
		if s := row(t, a, "web"); strings.Contains(s.Reason, "check/tcp fails") || !strings.Contains(s.Reason, "check/tcp.second fails") {
			t.Fatalf("%+v", s)
		}
		if n := len(h.steps()); n != 4 {
			t.Fatalf("deploying is not supervising: %v", h.steps())
		}
		h.set(func() { clear(h.failing) })
		h.commit(map[string]string{"prod/web.hcl": declared("web", "2", more)})
		pass(t, a)
		if s := row(t, a, "web"); s.Reason != "" {
			t.Fatalf("%+v", s)
		}
	})
}

// A drained service that drifts while its successor waits is put right.
func TestRepairWhileWaiting(t *testing.T) {
	virtual(t, func(t *testing.T, h *host) {
		h.services([2]string{"web", "1"})
		a := h.run(h.options())
		pass(t, a)
		h.commit(map[string]string{"prod/web.hcl": declared("web", "2", ""), "freeze.hcl": `freeze "x" {}`})
		pass(t, a)
		is(t, a, "web", reconcile.Waiting, "1")
		h.set(func() { delete(h.process, "web") })
		pass(t, a)
		is(t, a, "web", reconcile.Waiting, "1")
		if h.process["web"] != "1" || !h.in["web"] {
			t.Fatalf("process %q, in rotation %v", h.process["web"], h.in["web"])
		}
	})
}

func TestPersonsWords(t *testing.T) {
	virtual(t, func(t *testing.T, h *host) {
		h.services([2]string{"web", "1"})
		a := h.run(h.options())
		pass(t, a)
		var unknown *UnknownService
		if err := a.Drain(t.Context(), "wbe"); !errors.As(err, &unknown) || !strings.Contains(err.Error(), "there are: web") {
			t.Fatal(err)
		}
		if err := a.Drain(t.Context(), "web"); err != nil || h.in["web"] {
			t.Fatal(err, h.in)
		}
		if note, err := a.Undrain(t.Context(), "web"); err != nil || note != "" || !h.in["web"] {
			t.Fatal(note, err, h.in)
		}
		n := len(h.records)
		if note, err := a.Undrain(t.Context(), "web"); err != nil || !strings.Contains(note, "web is in rotation already") || len(h.records) != n {
			t.Fatal(note, err, h.records[n:])
		}
		if err := a.Pause(t.Context()); err != nil {
			t.Fatal(err)
		}
		h.services([2]string{"web", "2"})
		pass(t, a)
		is(t, a, "web", reconcile.Waiting, "1")
		if err := a.Resume(t.Context()); err != nil {
			t.Fatal(err)
		}
		pass(t, a)
		is(t, a, "web", reconcile.Converged, "2")
	})
}

// Who drains or undrains waits for that service alone: not for another one's
// check, nor for a source that does not answer.
func TestPersonsWaitsForNobodyElse(t *testing.T) {
	virtual(t, func(t *testing.T, h *host) {
		h.services([2]string{"web", "1"}, [2]string{"slow", "1"})
		a := h.run(h.options())
		pass(t, a)
		released := make(chan struct{})
		defer close(released)
		h.set(func() {
			h.onDo["slow/start/process"] = func(context.Context) error { <-released; return nil }
		})
		h.services([2]string{"web", "1"}, [2]string{"slow", "2"})
		h.wake()
		synctest.Wait()
		h.set(func() { h.hang = true })
		soon, cancel := context.WithTimeout(t.Context(), 10*time.Second) // of the test's own clock
		defer cancel()
		if err := a.Drain(soon, "web"); err != nil || h.in["web"] {
			t.Fatal(err, h.in)
		}
		if _, err := a.Undrain(soon, "web"); err != nil || !h.in["web"] {
			t.Fatal(err, h.in)
		}
		h.set(func() { h.hang = false })
	})
}

// A word that nothing could follow is refused, not kept.
func TestDrainOfWhatHasNone(t *testing.T) {
	virtual(t, func(t *testing.T, h *host) {
		text := strings.Replace(declared("web", "1", ""), "drain \"file\" {\n    path = \"/rotation/web\"\n  }", "", 1)
		h.commit(map[string]string{"prod/web.hcl": text})
		a := h.run(h.options())
		pass(t, a)
		var none *NoDrain
		if err := a.Drain(t.Context(), "web"); !errors.As(err, &none) || h.memory.Service("web").Held != nil {
			t.Fatal(err)
		}
	})
}

// What no other supervisor keeps running is kept while it rests and while it
// waits, also after a restart, and let go of before a plan touches it.
func TestKept(t *testing.T) {
	virtual(t, func(t *testing.T, h *host) {
		h.services([2]string{"web", "1"})
		pass(t, New(h.options()))
		h.commit(map[string]string{"prod/web.hcl": declared("web", "2", ""), "freeze.hcl": `freeze "x" {}`})
		a := h.run(h.options())
		pass(t, a)
		is(t, a, "web", reconcile.Waiting, "1")
		if got := h.keeps("web"); got != "1" {
			t.Fatalf("kept while it waits: %q", got)
		}
		touched := "not touched"
		h.set(func() {
			h.onDo["web/drain/file"] = func(context.Context) error {
				touched = h.keeps("web")
				return nil
			}
		})
		h.services([2]string{"web", "2"})
		pass(t, a)
		is(t, a, "web", reconcile.Converged, "2")
		if touched != "" {
			t.Fatalf("kept while a plan touches it: %q", touched)
		}
		if got := h.keeps("web"); got != "2" {
			t.Fatalf("kept at rest: %q", got)
		}
	})
}

// While a check goes on, status, plan and log say at once what it sees; the log
// once for each thing.
func TestFailingLookIsSeenAtOnce(t *testing.T) {
	virtual(t, func(t *testing.T, h *host) {
		h.services([2]string{"web", "1"})
		var log bytes.Buffer
		o := h.options()
		o.Log = slog.New(slog.NewTextHandler(&log, nil))
		a := h.run(o)
		pass(t, a)
		if log.Reset(); strings.Contains(log.String(), "not healthy") {
			t.Fatal(log.String())
		}
		h.set(func() { h.failing["web "] = true })
		h.services([2]string{"web", "2"})
		h.wake()
		elapse(30 * time.Second)
		s := row(t, a, "web")
		if want := "1 -> 2; not healthy yet: check/tcp: refused"; s.State != reconcile.Progressing || s.Step != "web/check/tcp" || s.Reason != want {
			t.Errorf("%v %s %q, want %q", s.State, s.Step, s.Reason, want)
		}
		p, err := a.Plan(t.Context())
		if err != nil || !strings.HasSuffix(p.Services[0].Reason, "not healthy yet: check/tcp: refused") {
			t.Errorf("%v %+v", err, p.Services)
		}
		if n := strings.Count(log.String(), "saw=refused"); n != 1 {
			t.Errorf("logged %d times:\n%s", n, log.String())
		}
		h.set(func() { clear(h.failing) })
		elapse(time.Minute)
		if s := row(t, a, "web"); s.State != reconcile.Converged || s.Reason != "" {
			t.Errorf("%+v", s)
		}
		if !strings.Contains(log.String(), "healthy now") {
			t.Error(log.String())
		}
	})
}

// A revert is told as one, while it goes on.
func TestRevertIsToldAsOne(t *testing.T) {
	virtual(t, func(t *testing.T, h *host) {
		h.services([2]string{"web", "1"})
		a := h.run(h.options())
		pass(t, a)
		h.set(func() { h.failing["web "] = true })
		h.services([2]string{"web", "2"})
		h.wake()
		elapse(5*time.Minute + 10*time.Second) // healthy_deadline, and the way back
		s := row(t, a, "web")
		if want := "revert 2 -> 1; not healthy yet: check/tcp: refused"; s.State != reconcile.Progressing || s.Reason != want {
			t.Errorf("%v %q, want %q", s.State, s.Reason, want)
		}
		h.set(func() { clear(h.failing) })
		elapse(time.Minute)
		is(t, a, "web", reconcile.Reverted, "1")
	})
}

// A gate is logged when it shuts and when its reason changes, and not each time
// it is asked.
func TestShutGateIsLoggedOnce(t *testing.T) {
	virtual(t, func(t *testing.T, h *host) {
		h.services([2]string{"web", "1"})
		var log bytes.Buffer
		o := h.options()
		o.Log = slog.New(slog.NewTextHandler(&log, nil))
		a := h.run(o)
		pass(t, a)
		for i, why := range []string{"x", "x", "y"} {
			h.commit(map[string]string{"prod/web.hcl": declared("web", "2", ""), "freeze.hcl": fmt.Sprintf("freeze %q {}\n# %d", why, i)})
			pass(t, a)
			pass(t, a)
		}
		for why, times := range map[string]int{"frozen: x": 1, "frozen: y": 1} {
			if n := strings.Count(log.String(), "msg=waits service=web gate=freeze why=\""+why); n != times {
				t.Errorf("%s was logged %d times:\n%s", why, n, log.String())
			}
		}
	})
}

// A look that differs in a port only says nothing new, and none fills the log.
func TestLooksAreLoggedSparingly(t *testing.T) {
	var log bytes.Buffer
	o := newHost(t).options()
	o.Log = slog.New(slog.NewTextHandler(&log, nil))
	a := New(o)
	for i, c := range []struct {
		saw   string
		lines int
	}{{"reset by 10.0.0.1:40001", 1}, {"reset by 10.0.0.1:40002", 1}, {"status 503", 2}, {"status 500", 3}, {"", 4}} {
		a.say("web", &reconcile.Look{Step: "web/check/tcp", Failing: c.saw})
		if n := strings.Count(log.String(), "\n"); n != c.lines {
			t.Errorf("look %d: %d lines, expected %d\n%s", i, n, c.lines, log.String())
		}
	}
	for i := range 100 {
		a.say("web", &reconcile.Look{Step: "web/check/tcp", Failing: fmt.Sprintf("answer %d", i)})
	}
	if n := strings.Count(log.String(), "\n"); n != linesPerStep {
		t.Errorf("%d lines", n)
	}
}

// A word to put back what is in rotation is settled, also while a release
// waits: who takes it out later keeps it out.
func TestStaleUndrainIsSettledWhileWaiting(t *testing.T) {
	virtual(t, func(t *testing.T, h *host) {
		h.services([2]string{"web", "1"})
		a := h.run(h.options())
		pass(t, a)
		h.commit(map[string]string{"prod/web.hcl": declared("web", "2", ""), "freeze.hcl": `freeze "x" {}`})
		pass(t, a)
		if _, err := h.Append(t.Context(), reconcile.Record{Kind: reconcile.Released, Service: "web"}); err != nil {
			t.Fatal(err)
		}
		pass(t, a)
		h.set(func() { delete(h.in, "web") })
		pass(t, a)
		if s := row(t, a, "web"); h.in["web"] || s.Gate != "freeze" {
			t.Errorf("in rotation %v, %+v", h.in["web"], s)
		}
	})
}
