// Package drivertest is the suite that every driver passes, whatever its
// technology: what the engine counts on when it retries, recovers from a crash
// and looks again.
package drivertest

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"drydock/reconcile"
	"drydock/spec"
)

// Case is one driver with real things for it to act on. Every use of it gets
// one of its own.
type Case struct {
	// New is the driver of one agent; it is called again for the next one,
	// which has the same Env.
	New func(env reconcile.Env) reconcile.Driver
	Env reconcile.Env

	Step reconcile.Step  // what is done
	Back *reconcile.Step // and undone: undrain, removal; nil if it cannot be

	// Is what an Observer says before and after Step; Unknown (0) for both
	// where the driver is none or cannot tell.
	Before, After reconcile.Is

	// Again is set for hooks, of which nothing says whether they were run.
	Again bool

	// Watched are files and directories that neither Done nor Observe may change.
	Watched []string
}

// Suite is a driver's whole test.
type Suite struct {
	Make func(t *testing.T) Case

	// Hanging is a case whose Do does not end by itself; nil for drivers of
	// which none is known.
	Hanging func(t *testing.T) Case

	// Faults are cases whose Do fails, and whose fault it must say that it is.
	Faults map[string]Fault

	// Config is the driver's own struct for its block, and Reference where the
	// language describes the block ("service.drain.file").
	Config    any
	Reference string
}

// Fault is a case that fails.
type Fault struct {
	Make  func(t *testing.T) Case
	Blame reconcile.Blame
}

// prompt is the bound on what must be prompt. It is generous: a busy machine
// must not fail it, only what waits for something else.
const prompt = 30 * time.Second

// Run runs the suite.
func Run(t *testing.T, s Suite) {
	t.Run("done and again", func(t *testing.T) { repeat(t, s.Make(t)) })
	t.Run("there and back", func(t *testing.T) { back(t, s.Make(t)) })
	t.Run("observe changes nothing", func(t *testing.T) { observe(t, s.Make(t)) })
	t.Run("another agent", func(t *testing.T) { restart(t, s.Make(t)) })
	t.Run("cancelled before", func(t *testing.T) { cancelled(t, s.Make(t)) })
	if s.Hanging != nil {
		t.Run("cancelled meanwhile", func(t *testing.T) { interrupt(t, s.Hanging(t), context.Canceled) })
		t.Run("deadline", func(t *testing.T) { interrupt(t, s.Hanging(t), context.DeadlineExceeded) })
	}
	for name, f := range s.Faults {
		t.Run("fault/"+name, func(t *testing.T) { blamed(t, f) })
	}
	t.Run("attributes", func(t *testing.T) { Attributes(t, s.Reference, s.Config) })
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func mustDo(t *testing.T, d reconcile.Driver, s reconcile.Step) {
	t.Helper()
	if err := d.Do(within(t), s); err != nil {
		t.Fatalf("%v: %v", s.Phase, err)
	}
}

func mustBe(t *testing.T, c Case, d reconcile.Driver, s reconcile.Step, want bool) {
	t.Helper()
	if c.Again {
		want = false
	}
	done, err := d.Done(within(t), s)
	if err != nil || done != want {
		t.Fatalf("%v: Done says %v, %v; expected %v", s.Phase, done, err, want)
	}
}

func mustSee(t *testing.T, d reconcile.Driver, s reconcile.Step, want reconcile.Is) {
	t.Helper()
	o, ok := d.(reconcile.Observer)
	if !ok {
		return
	}
	c, err := o.Observe(within(t), s)
	if err != nil || c.Is != want {
		t.Fatalf("Observe says %v (%s), %v; expected %v", c.Is, c.Detail, err, want)
	}
}

func repeat(t *testing.T, c Case) {
	d := c.New(c.Env)
	mustBe(t, c, d, c.Step, false)
	mustSee(t, d, c.Step, c.Before)
	for range 3 {
		mustDo(t, d, c.Step)
		mustBe(t, c, d, c.Step, true)
		mustSee(t, d, c.Step, c.After)
	}
}

func back(t *testing.T, c Case) {
	if c.Back == nil {
		return // a driver without a way back
	}
	d := c.New(c.Env)
	for range 2 {
		mustDo(t, d, c.Step)
		mustBe(t, c, d, *c.Back, false)
		mustDo(t, d, *c.Back)
		mustBe(t, c, d, *c.Back, true)
		mustBe(t, c, d, c.Step, false)
		mustSee(t, d, c.Step, c.Before)
	}
	mustDo(t, d, *c.Back)
	mustBe(t, c, d, *c.Back, true)
}

func observe(t *testing.T, c Case) {
	d := c.New(c.Env)
	look := func() {
		t.Helper()
		before := snapshot(t, c)
		if o, ok := d.(reconcile.Observer); ok {
			if _, err := o.Observe(within(t), c.Step); err != nil {
				t.Fatal(err)
			}
		}
		if c.Step.Phase != reconcile.Migrate { // what has ended may be tidied away
			if _, err := d.Done(within(t), c.Step); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(before, snapshot(t, c)); diff != "" {
			t.Errorf("looking changed (-before +after):\n%s", diff)
		}
	}
	look()
	mustDo(t, d, c.Step)
	look()
	if c.Back != nil {
		mustDo(t, d, *c.Back)
		look()
	}
}

// snapshot is every name below the watched places and the driver's state, with
// mode, and content or target.
func snapshot(t *testing.T, c Case) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, root := range append(slices.Clone(c.Watched), c.Env.StateDir) {
		err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
			info, err := e.Info()
			if err != nil {
				return err
			}
			all[path] = info.Mode().String()
			switch {
			case info.Mode().IsRegular() && !strings.HasSuffix(path, ".log"): // a log is its writer's
				data, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				all[path] += fmt.Sprintf(" %x", sha256.Sum256(data))
			case info.Mode()&fs.ModeSymlink != 0:
				target, err := os.Readlink(path)
				if err != nil {
					return err
				}
				all[path] += " -> " + target
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// restart is an agent that was replaced by another one after each call.
func restart(t *testing.T, c Case) {
	mustDo(t, c.New(c.Env), c.Step)
	mustBe(t, c, c.New(c.Env), c.Step, true)
	mustSee(t, c.New(c.Env), c.Step, c.After)
	mustDo(t, c.New(c.Env), c.Step)
	mustBe(t, c, c.New(c.Env), c.Step, true)
	if c.Back != nil {
		mustDo(t, c.New(c.Env), *c.Back)
		mustBe(t, c, c.New(c.Env), *c.Back, true)
	}
}

func cancelled(t *testing.T, c Case) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	d := c.New(c.Env)
	began := time.Now()
	if err := d.Do(ctx, c.Step); !errors.Is(err, context.Canceled) {
		t.Errorf("Do with a cancelled context returned %v", err)
	}
	if took := time.Since(began); took > prompt {
		t.Errorf("it took %v", took)
	}
	mustBe(t, c, d, c.Step, false)
	mustDo(t, d, c.Step) // and nothing is broken by it
	mustBe(t, c, d, c.Step, true)
}

// interrupt ends the context of a Do that would not end.
func interrupt(t *testing.T, c Case, cause error) {
	ctx, cancel := context.WithCancel(context.Background())
	if errors.Is(cause, context.DeadlineExceeded) {
		ctx, cancel = context.WithTimeout(context.Background(), 300*time.Millisecond)
	}
	defer cancel()
	result := make(chan error, 1)
	d := c.New(c.Env)
	go func() { result <- d.Do(ctx, c.Step) }()
	if errors.Is(cause, context.Canceled) {
		<-time.After(200 * time.Millisecond) // somewhere in the middle; any moment must do
		cancel()
	}
	select {
	case err := <-result:
		if err == nil {
			t.Error("a step that cannot end has succeeded")
		}
		if errors.Is(cause, context.Canceled) && !errors.Is(err, context.Canceled) {
			t.Errorf("the error does not say that it was cancelled: %v", err)
		}
		if reconcile.BlameOf(err) == reconcile.OfRelease {
			t.Errorf("the release is blamed: %v", err)
		}
	case <-time.After(prompt):
		t.Fatal("Do did not return")
	}
}

func blamed(t *testing.T, f Fault) {
	c := f.Make(t)
	err := c.New(c.Env).Do(within(t), c.Step)
	if err == nil {
		t.Fatal("it did not fail")
	}
	if got := reconcile.BlameOf(err); got != f.Blame {
		t.Errorf("it blames the %v, not the %v: %v", got, f.Blame, err)
	}
}

// Attributes compares the fields of a driver's struct with the attributes that
// the language gives its block: neither may have more.
func Attributes(t *testing.T, path string, config any) {
	t.Helper()
	ref, err := spec.Look(path)
	if err != nil {
		t.Fatal(err)
	}
	if !ref.Built {
		t.Errorf("the language calls %s unbuilt", path)
	}
	var language, driver []string
	for _, a := range ref.Attributes {
		language = append(language, a.Name)
	}
	typ := reflect.TypeOf(config)
	for i := range typ.NumField() {
		name, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
		driver = append(driver, name)
	}
	slices.Sort(language)
	slices.Sort(driver)
	if diff := cmp.Diff(language, driver); diff != "" {
		t.Errorf("attributes of %s (-language +driver):\n%s", path, diff)
	}
}

// Block is a block with its attributes, as evaluation would have left it.
func Block(t *testing.T, typ, driver string, attrs map[string]any) spec.Block {
	t.Helper()
	data, err := json.Marshal(attrs)
	if err != nil {
		t.Fatal(err)
	}
	return spec.Block{Type: typ, Driver: driver, Config: data}
}

// Step is a step of a service called web at version 1.4.2 without an installer.
func Step(phase reconcile.Phase, b spec.Block) reconcile.Step {
	s := reconcile.Step{
		ID: "web/" + phase.String() + "/" + b.Driver, Service: "web", Phase: phase, Block: b, Host: "h",
		Target: spec.Service{Name: "web", Environment: "prod", Release: spec.Release{Version: "1.4.2", Attempt: 1}},
	}
	switch b.Type {
	case "start":
		s.Target.Start = &b
	case "install":
		s.Target.Install = &b
	}
	return s
}
