package systemd_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"drydock/hostagent/drivertest"
	"drydock/hostagent/systemd"
	"drydock/reconcile"
	"drydock/spec"
	"drydock/testdata/rig"
)

// host is shared: each test has units of its own.
var host = rig.Shared(rig.HostOptions{Name: "units", Private: true})

var serial atomic.Int64

// unitOf writes a unit of a name of its own.
func unitOf(t testing.TB, h *rig.Host, content string) string {
	t.Helper()
	name := fmt.Sprintf("t%d.service", serial.Add(1))
	h.Unit(t, name, content)
	return name
}

const (
	simple = "[Service]\nExecStart=sleep infinity\n"
	remain = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=true\n"
	never  = "[Service]\nType=notify\nExecStart=sleep infinity\nTimeoutStartSec=infinity\n"
)

func block(t testing.TB, unit, action string, timeout time.Duration) spec.Block {
	t.Helper()
	return spec.Block{Type: "start", Driver: "systemd",
		Config: fmt.Appendf(nil, `{"unit": %q, "action": %q, "timeout": %q}`, unit, action, timeout)}
}

func step(t testing.TB, unit, action string) reconcile.Step {
	t.Helper()
	return drivertest.Step(reconcile.Start, block(t, unit, action, 30*time.Second))
}

func removal(s reconcile.Step) *reconcile.Step {
	s.Action = reconcile.Remove
	return &s
}

func revised(s reconcile.Step, version string) reconcile.Step {
	s.Target.Release.Version = version
	return s
}

// output is Env.Output.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// drivers makes drivers of one agent after the other, on one host.
type drivers struct {
	t    testing.TB
	h    *rig.Host
	env  reconcile.Env
	said *output
}

func agentOf(t testing.TB, h *rig.Host) *drivers {
	t.Helper()
	said := &output{}
	return &drivers{t, h, reconcile.Env{StateDir: t.TempDir(), Output: func(reconcile.Step) io.Writer { return said }}, said}
}

func (d *drivers) next(env reconcile.Env) *systemd.Driver {
	cmd := d.h.Command(context.Background(), "journalctl")
	v := systemd.New(env, systemd.At(d.h.Bus()), systemd.Journalctl(cmd.Args...))
	d.t.Cleanup(v.Close)
	return v
}

func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// until waits for something on the host.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); !ok(); <-tick.C {
		if time.Since(began) > time.Minute {
			t.Fatalf("%s: not within a minute", what)
		}
	}
}

func show(t testing.TB, h *rig.Host, unit, property string) string {
	t.Helper()
	return strings.TrimSpace(h.Must(t, "systemctl", "show", "--value", "-p", property, unit))
}

func suite(t *testing.T, content, action string) drivertest.Suite {
	h := host(t)
	make := func(content, action string) func(t *testing.T) drivertest.Case {
		return func(t *testing.T) drivertest.Case {
			d := agentOf(t, h)
			s := step(t, unitOf(t, h, content), action)
			return drivertest.Case{
				New: func(env reconcile.Env) reconcile.Driver { return d.next(env) },
				Env: d.env, Step: s, Back: removal(s), Before: reconcile.Absent, After: reconcile.Present,
			}
		}
	}
	fault := func(content string, blame reconcile.Blame) drivertest.Fault {
		return drivertest.Fault{Make: make(content, action), Blame: blame}
	}
	return drivertest.Suite{
		Make:    make(content, action),
		Hanging: make(never, "restart"),
		Faults: map[string]drivertest.Fault{
			"fails":     fault("[Service]\nType=notify\nExecStart=false\n"+reloading, reconcile.OfRelease),
			"bad":       fault("[Service]\nExecStart=relative/path\n", reconcile.OfHost),
			"condition": fault("[Unit]\nConditionPathExists=/etc/web.conf\n"+simple+reloading, reconcile.OfHost),
			"user":      fault("[Service]\nType=exec\nUser=nobody-here\nExecStart=sleep infinity\n"+reloading, reconcile.OfHost),
		},
		Config: systemd.Config{}, Reference: "service.start.systemd",
	}
}

const reloading = "ExecReload=true\n"

func TestSuite(t *testing.T) {
	for name, content := range map[string]string{"simple": simple, "oneshot that remains": remain} {
		t.Run(name, func(t *testing.T) { drivertest.Run(t, suite(t, content, "restart")) })
	}
	t.Run("reload", func(t *testing.T) { drivertest.Run(t, suite(t, simple+reloading, "reload")) })
}

func TestCheckSuite(t *testing.T) {
	h := host(t)
	d := agentOf(t, h)
	up := unitOf(t, h, simple)
	h.Must(t, "systemctl", "start", up)
	check := func(unit string) spec.Block {
		return drivertest.Block(t, "check", "systemd", map[string]any{"unit": unit, "interval": "1s", "timeout": "20s"})
	}
	drivertest.Probes(t, drivertest.ProbeSuite{
		Path: "service.check.systemd", Config: systemd.CheckConfig{},
		New:     func() reconcile.Prober { return d.next(d.env).Check() },
		Healthy: check(up), Sick: check(unitOf(t, h, simple)),
	})
}

// TestWhatFails: each way a unit can fail is told apart, and says whose fault
// it is and what to do.
func TestWhatFails(t *testing.T) {
	h := host(t)
	crash := "[Service]\nType=%s\nExecStart=sh -c 'echo no database; exit 3'\nRestart=%s\nRestartSec=50ms\n"
	for name, c := range map[string]struct {
		unit    string
		timeout time.Duration
		blame   reconcile.Blame
		says    []string
	}{
		"exits at once":          {fmt.Sprintf(crash, "notify", "no"), 0, reconcile.OfRelease, []string{"ended with exit status 3", "no database"}},
		"exits, restarts, ends":  {fmt.Sprintf(crash, "notify", "always") + "[Unit]\nStartLimitBurst=3\n", 0, reconcile.OfRelease, []string{"exit status 3"}},
		"restarts for ever":      {fmt.Sprintf(crash, "notify", "always") + "[Unit]\nStartLimitIntervalSec=0\n", 3 * time.Second, reconcile.OfRelease, []string{"exit status 3"}},
		"killed":                 {"[Service]\nType=notify\nExecStart=sh -c 'kill -9 $$$$'\n", 0, reconcile.OfRelease, []string{"signal 9"}},
		"no program":             {"[Service]\nType=exec\nExecStart=/srv/web/current/bin/app\n", 0, reconcile.OfRelease, []string{"203 (EXEC"}},
		"pre":                    {"[Service]\nExecStartPre=sh -c 'exit 5'\nExecStart=sleep infinity\n", 0, reconcile.OfRelease, []string{"ExecStartPre=", "exit status 5"}},
		"ends by itself":         {"[Service]\nExecStart=true\nExecStartPost=sh -c 'while kill -0 $MAINPID; do sleep 0.02; done'\n", 0, reconcile.OfRelease, []string{"exit status 0", "Type=oneshot"}},
		"oneshot fails":          {"[Service]\nType=oneshot\nExecStart=sh -c 'exit 4'\n", 0, reconcile.OfRelease, []string{"exit status 4"}},
		"protocol":               {"[Service]\nType=notify\nExecStart=true\n", 0, reconcile.OfRelease, []string{"protocol"}},
		"never ready":            {never, time.Second, reconcile.OfRelease, []string{"not ready within 1s", "activating (start)", "READY=1", "raise timeout"}},
		"never ready to systemd": {"[Service]\nType=notify\nExecStart=sleep infinity\nTimeoutStartSec=300ms\n", 0, reconcile.OfRelease, []string{"not ready in its own time", "TimeoutStartSec is 300ms"}},
		"no user":                {"[Service]\nType=exec\nUser=nobody-here\nExecStart=sleep infinity\n", 0, reconcile.OfHost, []string{"217 (USER", "provisioning"}},
		"no environment file":    {"[Service]\nEnvironmentFile=/etc/web.env\nExecStart=sleep infinity\n", 0, reconcile.OfHost, []string{"EnvironmentFile"}},
		"condition":              {"[Unit]\nConditionPathExists=/etc/web.conf\n" + simple, 0, reconcile.OfHost, []string{"condition", "ConditionPathExists=/etc/web.conf"}},
		"assertion":              {"[Unit]\nAssertPathExists=/etc/web.conf\n" + simple, 0, reconcile.OfHost, []string{"assertion", "AssertPathExists=/etc/web.conf"}},
		"dependency":             {"[Unit]\nRequires=needed-and-failing.service\nAfter=needed-and-failing.service\n" + simple, 0, reconcile.OfHost, []string{"needed-and-failing.service (failed"}},
		"refuses":                {"[Unit]\nRefuseManualStart=yes\n" + simple, 0, reconcile.OfHost, []string{"RefuseManualStart"}},
		"does not stop":          {"[Service]\nExecStart=sh -c 'trap \"\" TERM; touch /run/deaf; exec sleep infinity'\nTimeoutStopSec=2min\n", time.Second, reconcile.OfHost, []string{"did not stop within 1s", "TimeoutStopSec is 2m0s"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := agentOf(t, h)
			if name == "dependency" {
				h.Unit(t, "needed-and-failing.service", "[Service]\nType=oneshot\nExecStart=false\n")
			}
			unit := unitOf(t, h, c.unit)
			if name == "does not stop" {
				h.Must(t, "systemctl", "start", unit)
				until(t, "it is deaf", func() bool { _, err := os.Stat(h.Root() + "/run/deaf"); return err == nil })
			}
			if c.timeout == 0 {
				c.timeout = time.Minute
			}
			s := drivertest.Step(reconcile.Start, block(t, unit, "restart", c.timeout))
			err := d.next(d.env).Do(within(t), s)
			if err == nil {
				t.Fatal("it passes for started")
			}
			t.Log(err)
			if got := reconcile.BlameOf(err); got != c.blame {
				t.Errorf("it blames the %v", got)
			}
			for _, says := range append(c.says, unit) {
				if !strings.Contains(err.Error(), says) {
					t.Errorf("it does not say %q", says)
				}
			}
			if done, err := d.next(d.env).Done(within(t), s); done || err != nil {
				t.Errorf("done: %v, %v", done, err)
			}
		})
	}
}

// TestPrepare: what provisioning has not made is found before the drain, and
// by Do too, if it vanished since.
func TestPrepare(t *testing.T) {
	h := host(t)
	d := agentOf(t, h)
	masked := unitOf(t, h, simple)
	if err := os.Remove(filepath.Join(h.Root(), "etc/systemd/system", masked)); err != nil {
		t.Fatal(err)
	}
	h.Must(t, "systemctl", "mask", masked)
	bad := unitOf(t, h, "[Service]\nExecStart=relative/path\n")
	good := unitOf(t, h, simple)
	for _, c := range []struct{ unit, action, says string }{
		{"nowhere.service", "restart", "there is no unit nowhere.service"},
		{"nowhere.service", "none", "there is no unit nowhere.service"},
		{masked, "restart", "masked"},
		{bad, "restart", "bad-setting"},
		{good, "reload", "ExecReload"},
		{good, "restart", ""},
		{good, "none", ""},
	} {
		v := d.next(d.env)
		s := step(t, c.unit, c.action)
		errs := []error{v.Prepare(within(t), s)}
		if c.action != "none" {
			errs = append(errs, v.Do(within(t), s))
		}
		for _, err := range errs {
			switch {
			case c.says == "" && err != nil:
				t.Errorf("%s %s: %v", c.action, c.unit, err)
			case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says) || reconcile.BlameOf(err) != reconcile.OfHost):
				t.Errorf("%s %s: %v, expected the host's fault that says %q", c.action, c.unit, err, c.says)
			}
		}
		check := drivertest.Step(reconcile.Check, drivertest.Block(t, "check", "systemd", map[string]any{"unit": c.unit, "interval": "1s", "timeout": "20s"}))
		if err := v.Check().Prepare(within(t), check); (err == nil) != (c.says == "" || c.action == "reload") {
			t.Errorf("check %s: %v", c.unit, err)
		}
	}
	packaged := step(t, "nowhere.service", "restart")
	packaged.Target.Install = &spec.Block{Type: "install", Driver: "apt"}
	if err := d.next(d.env).Prepare(within(t), packaged); err != nil {
		t.Errorf("a package may bring its unit, and yet: %v", err)
	}
}

// TestWhatItSaidLast: of a process that ended at once the journal may know the
// unit only, and not the run; what other runs said is not shown.
func TestWhatItSaidLast(t *testing.T) {
	h := host(t)
	d := agentOf(t, h)
	unit := unitOf(t, h, "[Service]\nType=notify\nExecStart=sh -c 'cat /run/why; exit 3'\n")
	forgetful := d.h.Command(context.Background(), "sh", "-c", `case "$*" in *_SYSTEMD_INVOCATION_ID=*) ;; *) exec journalctl "$@" ;; esac`, "sh")
	v := systemd.New(d.env, systemd.At(h.Bus()), systemd.Journalctl(forgetful.Args...))
	t.Cleanup(v.Close)
	for _, says := range []string{"no database", "no disk"} {
		h.WriteFile(t, "/run/why", says+"\n", 0o644)
		err := v.Do(within(t), step(t, unit, "restart"))
		if _, said, _ := strings.Cut(fmt.Sprint(err), "it said last:\n"); said != says {
			t.Errorf("%v", err)
		}
	}
}

// TestLastWords: a unit that dies after it was started is observed with what it
// said last, in one bounded line, and with the command that shows the rest; one
// that a person stopped is not.
func TestLastWords(t *testing.T) {
	h := host(t)
	d := agentOf(t, h)
	v := d.next(d.env)
	unit := unitOf(t, h, "[Service]\nExecStart=sh -c 'cat /run/words; exec sleep infinity'\n")
	s := step(t, unit, "restart")
	starts := func(says, end string) reconcile.Condition {
		t.Helper()
		h.WriteFile(t, "/run/words", says, 0o644)
		if err := v.Do(within(t), s); err != nil {
			t.Fatal(err)
		}
		until(t, "it sleeps", func() bool {
			return strings.Contains(h.Must(t, "sh", "-c", "cat /proc/"+show(t, h, unit, "MainPID")+"/cmdline || true"), "sleep\x00")
		})
		h.Must(t, "systemctl", "kill", "--signal="+end, unit)
		until(t, "it has died", func() bool { return show(t, h, unit, "MainPID") == "0" })
		c, err := v.Observe(within(t), s)
		if err != nil || c.Is != reconcile.Absent {
			t.Errorf("%+v, %v", c, err)
		}
		return c
	}
	if c := starts("served one\n", "TERM"); strings.Contains(c.Detail, "served") {
		t.Errorf("stopped: %+v", c)
	}
	if c := starts("reading the flags\n\nFATAL: cannot open feature flags\n", "KILL"); !strings.HasSuffix(c.Detail, "; it said last: reading the flags | FATAL: cannot open feature flags; see journalctl -u "+unit) {
		t.Errorf("%+v", c)
	}
	c := starts(strings.Repeat("much ", 200)+"too much\n", "KILL")
	if _, said, ok := strings.Cut(c.Detail, "it said last: …"); !ok || len(said) > 400 || !strings.Contains(said, "too much; see journalctl") {
		t.Errorf("%+v", c)
	}

	// Where the journal cannot be read, it is still said where to look.
	blind := systemd.New(d.env, systemd.At(h.Bus()), systemd.Journalctl("false"))
	t.Cleanup(blind.Close)
	if c, err := blind.Observe(within(t), s); err != nil || !strings.HasSuffix(c.Detail, "(Result signal); see journalctl -u "+unit) {
		t.Errorf("%+v, %v", c, err)
	}
}

// TestManyReleasesInARow: a start limit is for what a unit does by itself, not
// for what it is asked to.
func TestManyReleasesInARow(t *testing.T) {
	h := host(t)
	d := agentOf(t, h)
	s := step(t, unitOf(t, h, "[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst=2\n"+simple), "restart")
	v := d.next(d.env)
	for i := range 6 {
		if err := v.Do(within(t), revised(s, fmt.Sprint(i))); err != nil {
			t.Fatalf("release %d: %v", i, err)
		}
	}
	// Also after somebody else brought it over its limit.
	for range 4 {
		_, _ = h.Run(within(t), "systemctl", "restart", unitName(s))
	}
	if got := show(t, h, unitName(s), "Result"); got != "start-limit-hit" {
		t.Fatalf("the limit was not hit: %s", got)
	}
	if err := v.Do(within(t), revised(s, "last")); err != nil {
		t.Fatal(err)
	}
}

func unitName(s reconcile.Step) string {
	var c systemd.Config
	if err := s.Block.Decode(&c); err != nil {
		panic(err)
	}
	return c.Unit
}

// TestKilledBetween: an agent that was killed after it asked, and before it
// heard, is followed by one that looks at what runs.
func TestKilledBetween(t *testing.T) {
	h := host(t)
	d := agentOf(t, h)
	s := step(t, unitOf(t, h, "[Service]\nType=notify\nNotifyAccess=all\nExecStart=sh -c 'test -e /run/slow || systemd-notify --ready; while test -e /run/slow; do sleep 0.05; done; systemd-notify --ready; exec sleep infinity'\n"), "restart")
	if err := d.next(d.env).Do(within(t), s); err != nil {
		t.Fatal(err)
	}
	second := revised(s, "2")
	mustBe(t, d, second, false)

	h.WriteFile(t, "/run/slow", "", 0o644)
	old := show(t, h, unitName(s), "MainPID")
	ctx, kill := context.WithCancel(within(t))
	ended := make(chan error, 1)
	go func() { ended <- d.next(d.env).Do(ctx, second) }()
	until(t, "the new process is on its way", func() bool {
		return show(t, h, unitName(s), "SubState") == "start" && show(t, h, unitName(s), "MainPID") != old
	})
	kill()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	mustBe(t, d, second, false) // not ready yet
	if err := os.Remove(h.Root() + "/run/slow"); err != nil {
		t.Fatal(err)
	}
	until(t, "it is ready", func() bool { return show(t, h, unitName(s), "ActiveState") == "active" })
	mustBe(t, d, second, true)
	mustBe(t, d, s, false)               // it is not the first release any more
	mustBe(t, d, revised(s, "3"), false) // nor the third
	h.Must(t, "systemctl", "stop", unitName(s))
	mustBe(t, d, second, false)
}

// TestKilledBeforeTheJob: what runs is the old process, whatever was noted.
func TestKilledBeforeTheJob(t *testing.T) {
	h := host(t)
	d := agentOf(t, h)
	s := step(t, unitOf(t, h, simple), "restart")
	if err := d.next(d.env).Do(within(t), s); err != nil {
		t.Fatal(err)
	}
	// The bus goes away after the unit was read and the note made: as near as
	// a test comes to the instant between note and job.
	second := revised(s, "2")
	v := systemd.New(d.env, systemd.At(relay(t, d.h.Bus(), "ResetFailedUnit", 100)), systemd.Within(2*time.Second))
	defer v.Close()
	if err := v.Do(within(t), second); reconcile.BlameOf(err) != reconcile.OfHost {
		t.Fatalf("%v, expected the host's fault", err)
	}
	mustBe(t, d, second, false)
	mustBe(t, d, s, false) // the note is of the second now; it is started again
}

func mustBe(t testing.TB, d *drivers, s reconcile.Step, want bool) {
	t.Helper()
	if done, err := d.next(d.env).Done(within(t), s); err != nil || done != want {
		t.Fatalf("done: %v, %v; expected %v", done, err, want)
	}
}

// TestSomebodyElse: a unit that a person restarts is still the release's, and
// whoever takes our job away from us is told of, not the release.
func TestSomebodyElse(t *testing.T) {
	h := host(t)
	d := agentOf(t, h)
	s := step(t, unitOf(t, h, simple), "restart")
	v := d.next(d.env)
	if err := v.Do(within(t), s); err != nil {
		t.Fatal(err)
	}
	before, err := v.Observe(within(t), s)
	if err != nil || before.Is != reconcile.Present || before.Run == "" || before.Restarts != 0 || !strings.Contains(before.Detail, "active (running), pid ") {
		t.Fatalf("%+v, %v", before, err)
	}
	h.Must(t, "systemctl", "restart", unitName(s))
	mustBe(t, d, s, true)
	after, err := v.Observe(within(t), s)
	if err != nil || after.Is != reconcile.Present || after.Run == before.Run || after.Restarts != 0 {
		t.Errorf("%+v, %v", after, err)
	}

	slow := drivertest.Step(reconcile.Start, block(t, unitOf(t, h, never), "restart", time.Minute))
	ended := make(chan error, 1)
	go func() { ended <- v.Do(within(t), slow) }()
	until(t, "it is on its way", func() bool { return show(t, h, unitName(slow), "SubState") == "start" })
	h.Must(t, "systemctl", "stop", unitName(slow))
	if err := <-ended; reconcile.BlameOf(err) != reconcile.OfHost || !strings.Contains(err.Error(), "somebody else") {
		t.Errorf("it blames the %v: %v", reconcile.BlameOf(err), err)
	}
}

// TestCheckSeesWhatRestarts: without a check block, a unit that systemd starts
// again and again never counts as healthy, however the looks fall.
func TestCheckSeesWhatRestarts(t *testing.T) {
	h := host(t)
	for name, c := range map[string]struct {
		unit string
		says string // "-" passes
	}{
		"crashes":        {"[Service]\nExecStart=sh -c 'sleep 0.3; exit 7'\nRestart=always\nRestartSec=10ms\n[Unit]\nStartLimitIntervalSec=0\n", ""},
		"over its limit": {"[Service]\nExecStart=sh -c 'sleep 0.1; exit 7'\nRestart=always\nRestartSec=10ms\n[Unit]\nStartLimitBurst=2\n", "exit status 7"},
		"dies":           {"[Service]\nExecStart=sh -c 'sleep 0.3; exit 7'\n", "exit status 7"},
		"stays":          {simple, "-"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := agentOf(t, h)
			v := d.next(d.env)
			s := step(t, unitOf(t, h, c.unit), "restart")
			err := v.Do(within(t), s) // on a busy machine it has died by the end of this
			if err == nil {
				s.Phase = reconcile.Check
				s.Target.Rollout.MinHealthyTime = spec.Duration(1500 * time.Millisecond)
				s.Target.Rollout.HealthyDeadline = spec.Duration(time.Minute)
				err = reconcile.Checking{Start: v}.Do(within(t), s)
			}
			if c.says == "-" && err != nil || c.says != "-" && (err == nil || !strings.Contains(err.Error(), c.says) || reconcile.BlameOf(err) != reconcile.OfRelease) {
				t.Errorf("%v (%v), expected %q", err, reconcile.BlameOf(err), c.says)
			}
		})
	}
}

// TestReload: the process stays and is told; one that does not run is started;
// a failing reload is the release's.
func TestReload(t *testing.T) {
	h := host(t)
	d := agentOf(t, h)
	v := d.next(d.env)
	s := step(t, unitOf(t, h, simple+"ExecReload=sh -c 'echo reloaded >>/run/reloads; test ! -e /run/refuse'\n"), "reload")
	h.Must(t, "systemctl", "start", unitName(s))
	pid := show(t, h, unitName(s), "MainPID")
	mustBe(t, d, s, false)
	if err := v.Do(within(t), s); err != nil {
		t.Fatal(err)
	}
	mustBe(t, d, s, true)
	if got := show(t, h, unitName(s), "MainPID"); got != pid {
		t.Errorf("a reload made %s of process %s", got, pid)
	}
	if got := h.Must(t, "cat", "/run/reloads"); got != "reloaded\n" {
		t.Errorf("reloads: %q", got)
	}
	// It ran before us, and is not ours to stop, however often we reload it.
	if err := v.Do(within(t), revised(s, "1b")); err != nil {
		t.Fatal(err)
	}
	if err := v.Do(within(t), *removal(s)); err != nil {
		t.Fatal(err)
	}
	mustBe(t, d, *removal(s), true)
	if got := show(t, h, unitName(s), "MainPID"); got != pid {
		t.Errorf("a removal made %s of process %s", got, pid)
	}
	h.WriteFile(t, "/run/refuse", "", 0o644)
	err := v.Do(within(t), revised(s, "2"))
	if reconcile.BlameOf(err) != reconcile.OfRelease || !strings.Contains(err.Error(), "ExecReload=") {
		t.Errorf("a reload that fails: %v", err)
	}
	mustBe(t, d, revised(s, "2"), false)
	if got := show(t, h, unitName(s), "MainPID"); got != pid {
		t.Errorf("a failed reload made %s of process %s", got, pid)
	}
}

// TestNone: nothing is done, not even on a removal.
func TestNone(t *testing.T) {
	h := host(t)
	d := agentOf(t, h)
	v := d.next(d.env)
	s := step(t, unitOf(t, h, simple), "none")
	if err := v.Do(within(t), s); err != nil {
		t.Fatal(err)
	}
	mustBe(t, d, s, true)
	if c, err := v.Observe(within(t), s); err != nil || c.Is != reconcile.Unknown {
		t.Errorf("%+v, %v", c, err)
	}
	h.Must(t, "systemctl", "start", unitName(s))
	if err := v.Do(within(t), *removal(s)); err != nil {
		t.Fatal(err)
	}
	mustBe(t, d, *removal(s), true)
	if c, err := v.Observe(within(t), s); err != nil || c.Is != reconcile.Present {
		t.Errorf("%+v, %v", c, err)
	}
}

// TestOneshot: it is done when it has run; what keeps nothing running cannot
// be seen later, and is no drift.
func TestOneshot(t *testing.T) {
	h := host(t)
	d := agentOf(t, h)
	v := d.next(d.env)
	s := step(t, unitOf(t, h, "[Service]\nType=oneshot\nExecStart=sh -c 'echo ran >>/run/oneshot'\n"), "restart")
	for range 2 {
		if err := v.Do(within(t), s); err != nil {
			t.Fatal(err)
		}
	}
	if got := h.Must(t, "cat", "/run/oneshot"); got != "ran\nran\n" {
		t.Errorf("it ran: %q", got)
	}
	mustBe(t, d, s, true)
	mustBe(t, d, revised(s, "2"), false)
	if c, err := v.Observe(within(t), s); err != nil || c.Is != reconcile.Unknown || !strings.Contains(c.Detail, "RemainAfterExit") {
		t.Errorf("%+v, %v", c, err)
	}
}
