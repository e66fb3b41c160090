package command_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"drydock/hostagent/argv"
	"drydock/hostagent/command"
	"drydock/hostagent/drivertest"
	"drydock/reconcile"
	"drydock/spec"
)

func TestMain(m *testing.M) {
	if code, ours := argv.Shim(os.Args); ours {
		os.Exit(code)
	}
	if len(os.Args) > 2 && os.Args[1] == "agent" {
		os.Exit(agent(os.Args[2:]))
	}
	os.Exit(m.Run())
}

// agent carries out a migrate step, and is killed by the test meanwhile.
func agent(args []string) int {
	var b spec.Block
	if err := json.Unmarshal([]byte(args[1]), &b); err != nil {
		return 1
	}
	fmt.Println(command.NewMigrate(reconcile.Env{StateDir: args[0]}).Do(context.Background(), drivertest.Step(reconcile.Migrate, b)))
	return 0
}

func sh(script string, args ...string) []string {
	return append([]string{"/bin/sh", "-c", script, "sh"}, args...)
}

// rig is a case whose commands act on files in dir.
type rig struct {
	dir string
	drivertest.Case
}

func newRig(t *testing.T, typ string, phase, backPhase reconcile.Phase, make func(env reconcile.Env) reconcile.Driver, attrs func(dir string) map[string]any, changes ...map[string]any) *rig {
	t.Helper()
	r := &rig{dir: t.TempDir()}
	all := attrs(r.dir)
	for _, c := range changes {
		maps.Copy(all, c)
	}
	if _, ok := all["timeout"]; !ok {
		all["timeout"] = "30s"
	}
	b := drivertest.Block(t, typ, "command", all)
	r.Case = drivertest.Case{
		New: make, Env: reconcile.Env{StateDir: filepath.Join(t.TempDir(), "state")},
		Step: drivertest.Step(phase, b), Watched: []string{r.dir},
	}
	if backPhase != phase {
		back := drivertest.Step(backPhase, b)
		r.Back = &back
	}
	return r
}

func (r *rig) file(name string) string { return filepath.Join(r.dir, name) }

func (r *rig) lines(t *testing.T, name string) []string {
	t.Helper()
	data, err := os.ReadFile(r.file(name))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.Fields(string(data))
}

// suite is what all roles are tried with.
func suite(t *testing.T, config any, reference string, exit reconcile.Blame, attr string, make func(t *testing.T, changes ...map[string]any) drivertest.Case) {
	fault := func(blame reconcile.Blame, argv ...string) drivertest.Fault {
		return drivertest.Fault{Blame: blame, Make: func(t *testing.T) drivertest.Case {
			return make(t, map[string]any{attr: argv})
		}}
	}
	hang := func(t *testing.T) drivertest.Case {
		c := make(t, map[string]any{attr: sh("exec sleep 3600"), "timeout": "1h"})
		if c.Step.Phase == reconcile.Migrate {
			t.Cleanup(func() { // a migration goes on when its agent is stopped
				dirs, _ := filepath.Glob(filepath.Join(c.Env.StateDir, "web", "migrate-*"))
				for _, d := range dirs {
					if err := (argv.Site{Dir: d}).Stop(context.Background(), 0); err != nil {
						t.Error(err)
					}
				}
			})
		}
		return c
	}
	drivertest.Run(t, drivertest.Suite{
		Make:    func(t *testing.T) drivertest.Case { return make(t) },
		Hanging: hang,
		Faults: map[string]drivertest.Fault{
			"exit":      fault(exit, sh("echo bad; exit 4")...),
			"not found": fault(reconcile.OfHost, "/no/such/program"),
		},
		Config: config, Reference: reference,
	})
}

func TestDrain(t *testing.T) {
	rigOf := func(t *testing.T, status bool, changes ...map[string]any) drivertest.Case {
		r := newRig(t, "drain", reconcile.Drain, reconcile.Undrain,
			func(env reconcile.Env) reconcile.Driver { return command.NewDrain(env) },
			func(dir string) map[string]any {
				f := filepath.Join(dir, "drained")
				all := map[string]any{"drain": []string{"touch", f}, "undrain": []string{"rm", "-f", f}}
				if status {
					all["status"] = []string{"test", "-e", f}
				}
				return all
			}, changes...)
		if status {
			r.Before, r.After = reconcile.Present, reconcile.Absent
		}
		return r.Case
	}
	t.Run("with status", func(t *testing.T) {
		suite(t, command.DrainConfig{}, "service.drain.command", reconcile.OfHost, "drain", func(t *testing.T, changes ...map[string]any) drivertest.Case {
			return rigOf(t, true, changes...)
		})
	})
	t.Run("without", func(t *testing.T) {
		suite(t, command.DrainConfig{}, "service.drain.command", reconcile.OfHost, "drain", func(t *testing.T, changes ...map[string]any) drivertest.Case {
			return rigOf(t, false, changes...)
		})
	})
	t.Run("status never agrees", func(t *testing.T) {
		c := rigOf(t, true, map[string]any{"drain": []string{"true"}, "timeout": "200ms"})
		if err := c.New(c.Env).Do(t.Context(), c.Step); reconcile.BlameOf(err) != reconcile.OfHost {
			t.Errorf("%v", err)
		}
	})
}

func installRig(t *testing.T, changes ...map[string]any) *rig {
	r := newRig(t, "install", reconcile.Install, reconcile.Install,
		func(env reconcile.Env) reconcile.Driver { return command.NewInstall(env) },
		func(dir string) map[string]any {
			f := filepath.Join(dir, "version")
			return map[string]any{"command": sh(`echo "$DRYDOCK_VERSION" >"$1"`, f), "current": []string{"cat", f}}
		}, changes...)
	r.Before, r.After = reconcile.Absent, reconcile.Present
	return r
}

func TestInstall(t *testing.T) {
	suite(t, command.InstallConfig{}, "service.install.command", reconcile.OfRelease, "command", func(t *testing.T, changes ...map[string]any) drivertest.Case {
		return installRig(t, changes...).Case
	})
	t.Run("other version", func(t *testing.T) {
		r := installRig(t)
		if err := os.WriteFile(r.file("version"), []byte("1.4.1\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		d := command.NewInstall(r.Env)
		if c, err := d.Observe(t.Context(), r.Step); err != nil || c.Is != reconcile.Altered || c.Foreign != "1.4.1" {
			t.Errorf("%+v, %v", c, err)
		}
		r.Step.Adopt = "1.4.0"
		if err := d.Do(t.Context(), r.Step); err != nil || r.lines(t, "version")[0] != "1.4.0" {
			t.Errorf("going back to what somebody else had installed: %v, %v", err, r.lines(t, "version"))
		}
	})
	t.Run("lies", func(t *testing.T) {
		r := installRig(t, map[string]any{"command": []string{"true"}})
		if err := command.NewInstall(r.Env).Do(t.Context(), r.Step); reconcile.BlameOf(err) != reconcile.OfRelease {
			t.Errorf("%v", err)
		}
	})
}

func startRig(t *testing.T, changes ...map[string]any) *rig {
	r := newRig(t, "start", reconcile.Start, reconcile.Start,
		func(env reconcile.Env) reconcile.Driver { return command.NewStart(env) },
		func(dir string) map[string]any {
			// As rc scripts do: it forks a daemon, which keeps stdout, and ends.
			f := filepath.Join(dir, "pid")
			return map[string]any{
				"command": sh(`test -e "$1" && kill $(cat "$1"); sleep 3600 & echo $! >"$1"; echo started`, f),
				"stop":    sh(`kill $(cat "$1"); rm "$1"`, f),
				"running": sh(`test -e "$1" && kill -0 $(cat "$1") && test "$(cut -d' ' -f3 /proc/$(cat "$1")/stat)" != Z`, f),
			}
		}, changes...)
	back := r.Step
	back.Action = reconcile.Remove
	r.Back = &back
	r.Before, r.After = reconcile.Absent, reconcile.Present
	t.Cleanup(func() {
		if data, err := os.ReadFile(r.file("pid")); err == nil {
			_ = exec.Command("kill", strings.TrimSpace(string(data))).Run()
		}
	})
	return r
}

func TestStart(t *testing.T) {
	suite(t, command.StartConfig{}, "service.start.command", reconcile.OfRelease, "command", func(t *testing.T, changes ...map[string]any) drivertest.Case {
		c := startRig(t, changes...).Case
		if len(changes) == 0 {
			// Stopping twice must be possible: the rig's stop is not that kind.
			var cfg map[string]any
			_ = json.Unmarshal(c.Step.Block.Config, &cfg)
			cfg["stop"] = sh(`test -e "$1" || exit 0; kill $(cat "$1"); rm "$1"`, filepath.Join(c.Watched[0], "pid"))
			b := drivertest.Block(t, "start", "command", cfg)
			c.Step = drivertest.Step(reconcile.Start, b)
			back := c.Step
			back.Action = reconcile.Remove
			c.Back = &back
		}
		return c
	})
	t.Run("another release is not this one", func(t *testing.T) {
		r := startRig(t)
		d := command.NewStart(r.Env)
		if err := d.Do(t.Context(), r.Step); err != nil {
			t.Fatal(err)
		}
		next := r.Step
		next.Target.Release.Version = "1.4.3"
		if done, err := d.Done(t.Context(), next); done || err != nil {
			t.Errorf("the old release's daemon passes for the new one's: %v", err)
		}
	})
}

func TestHook(t *testing.T) {
	suite(t, command.HookConfig{}, "service.run", reconcile.OfRelease, "command", func(t *testing.T, changes ...map[string]any) drivertest.Case {
		r := newRig(t, "run", reconcile.Start, reconcile.Start,
			func(env reconcile.Env) reconcile.Driver { return command.NewHook(env) },
			func(dir string) map[string]any {
				return map[string]any{"after": "install", "command": []string{"touch", filepath.Join(dir, "ran")}}
			}, changes...)
		r.Again = true
		return r.Case
	})
}

func TestCheckSuite(t *testing.T) {
	block := func(timeout string, argv ...string) spec.Block {
		return drivertest.Block(t, "check", "command", map[string]any{"command": argv, "interval": "1s", "timeout": timeout})
	}
	drivertest.Probes(t, drivertest.ProbeSuite{
		Path: "service.check.command", Config: command.CheckConfig{}, New: func() reconcile.Prober { return command.Check{} },
		Healthy: block("10s", "/bin/true"), Sick: block("10s", "/bin/false"), Silent: block("50ms", "/bin/sleep", "60"),
	})
}

func TestCheck(t *testing.T) {
	probe := func(args []string, timeout string) error {
		return command.Check{}.Probe(t.Context(), drivertest.Step(reconcile.Check,
			drivertest.Block(t, "check", "command", map[string]any{"command": args, "interval": "1s", "timeout": timeout})))
	}
	if err := probe([]string{"true"}, "30s"); err != nil {
		t.Error(err)
	}
	if err := probe(sh("echo unwell; exit 2"), "30s"); err == nil || !strings.Contains(err.Error(), "unwell") {
		t.Errorf("%v", err)
	}
	var late *argv.TimeoutError
	if err := probe([]string{"sleep", "3600"}, "50ms"); !errors.As(err, &late) {
		t.Errorf("%v", err)
	}
}

func migrateRig(t *testing.T, changes ...map[string]any) *rig {
	return newRig(t, "migrate", reconcile.Migrate, reconcile.Migrate,
		func(env reconcile.Env) reconcile.Driver { return command.NewMigrate(env) },
		func(dir string) map[string]any {
			runs, applied := filepath.Join(dir, "runs"), filepath.Join(dir, "applied")
			return map[string]any{
				"command": sh(`echo run >>"$1"; touch "$2"`, runs, applied), "check": []string{"test", "-e", applied},
				"scope": "host", "compatible": false,
			}
		}, changes...)
}

func TestMigrate(t *testing.T) {
	suite(t, command.MigrateConfig{}, "service.migrate.command", reconcile.OfRelease, "command", func(t *testing.T, changes ...map[string]any) drivertest.Case {
		return migrateRig(t, changes...).Case
	})
}

func TestMigrateRunsOnce(t *testing.T) {
	r := migrateRig(t)
	for range 3 {
		if err := command.NewMigrate(r.Env).Do(t.Context(), r.Step); err != nil {
			t.Fatal(err)
		}
	}
	if runs := r.lines(t, "runs"); len(runs) != 1 {
		t.Errorf("it ran %d times", len(runs))
	}
}

// A migration that failed is not run again: nobody knows what it left.
func TestMigrateFailedIsUnknown(t *testing.T) {
	r := migrateRig(t)
	r.Step.Block = drivertest.Block(t, "migrate", "command", map[string]any{
		"command": sh(`echo run >>"$1"; exit 1`, r.file("runs")), "check": []string{"false"}, "scope": "host", "compatible": false, "timeout": "30s",
	})
	d := command.NewMigrate(r.Env)
	if err := d.Do(t.Context(), r.Step); reconcile.BlameOf(err) != reconcile.OfRelease {
		t.Errorf("%v", err)
	}
	if done, err := command.NewMigrate(r.Env).Done(t.Context(), r.Step); done || !errors.Is(err, reconcile.ErrUnknown) {
		t.Errorf("%v, %v", done, err)
	}
	if err := d.Do(t.Context(), r.Step); !errors.Is(err, reconcile.ErrUnknown) {
		t.Errorf("%v", err)
	}
	if runs := r.lines(t, "runs"); len(runs) != 1 {
		t.Errorf("it ran %d times", len(runs))
	}
	r.Step.Action = reconcile.Repair // a person found that nothing was applied
	_ = d.Do(t.Context(), r.Step)
	if runs := r.lines(t, "runs"); len(runs) != 2 {
		t.Errorf("it ran %d times", len(runs))
	}
	r.Step.Action = reconcile.Update
	r.Step.Target.Release.Attempt = 2 // and a retry is a run of its own
	_ = d.Do(t.Context(), r.Step)
	if runs := r.lines(t, "runs"); len(runs) != 3 {
		t.Errorf("it ran %d times", len(runs))
	}
}

// The agent is killed before, while and after a migration runs, and the next
// one finds out: run once, and done.
func TestMigrateSurvivesSIGKILLOfTheAgent(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for round := range 24 {
		r := migrateRig(t)
		r.Step.Block = drivertest.Block(t, "migrate", "command", map[string]any{
			"command": sh(`echo run >>"$1"; sleep 0.05; touch "$2"`, r.file("runs"), r.file("applied")),
			"check":   []string{"test", "-e", r.file("applied")}, "scope": "host", "compatible": false, "timeout": "1m",
		})
		block, err := json.Marshal(r.Step.Block)
		if err != nil {
			t.Fatal(err)
		}
		a := exec.Command(exe, "agent", r.Env.StateDir, string(block))
		if err := a.Start(); err != nil {
			t.Fatal(err)
		}
		// Nothing is waited for: this is the moment of the kill.
		<-time.After(time.Duration(round) * 6 * time.Millisecond)
		_ = a.Process.Kill()
		_ = a.Wait()
		d := command.NewMigrate(r.Env)
		done, err := d.Done(t.Context(), r.Step)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if !done {
			if err := d.Do(t.Context(), r.Step); err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
		}
		if runs := r.lines(t, "runs"); len(runs) != 1 {
			t.Errorf("round %d: it ran %d times", round, len(runs))
		}
	}
}

// A migration whose end nobody saw, and whose check says no, halts.
func TestMigrateEndedUnseenIsUnknown(t *testing.T) {
	r := migrateRig(t)
	b := r.Step.Block
	r.Step.Block = drivertest.Block(t, "migrate", "command", map[string]any{
		"command": sh(`echo run >>"$1"; kill -9 $PPID; sleep 0.01; exit 1`, r.file("runs")), "check": []string{"false"}, "scope": "host", "compatible": false, "timeout": "1m",
	})
	block, err := json.Marshal(r.Step.Block)
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := exec.Command(exe, "agent", r.Env.StateDir, string(block)).Run(); err == nil {
		t.Fatal("the agent was not killed by its own migration")
	}
	_, err = command.NewMigrate(r.Env).Done(t.Context(), r.Step)
	if !errors.Is(err, reconcile.ErrUnknown) || reconcile.BlameOf(err) != reconcile.OfRelease || !strings.Contains(err.Error(), "drydock resolve") {
		t.Errorf("%v", err)
	}
	// Unless a person, or another host, brings it to its end.
	r.Step.Block = b
	if err := os.WriteFile(r.file("applied"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if done, err := command.NewMigrate(r.Env).Done(t.Context(), r.Step); !done || err != nil {
		t.Errorf("%v, %v", done, err)
	}
}
