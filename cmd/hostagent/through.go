package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"

	"drydock/hostagent"
	"drydock/hostagent/api"
	"drydock/reconcile"
)

// Each of these asks the running agent; ran is false where none runs.

func onceThroughAgent(ctx context.Context, f *flags, cfg hostagent.Config) (st reconcile.HostStatus, ran bool, err error) {
	c := api.NewClient(cfg.State)
	told := follow(ctx, c, f.Err, "the running agent makes the pass", "")
	err = c.Once(ctx, &st)
	told()
	return st, !errors.Is(err, api.ErrNoAgent), err
}

func statusThroughAgent(ctx context.Context, cfg hostagent.Config) (st reconcile.HostStatus, ran bool, err error) {
	err = api.NewClient(cfg.State).Status(ctx, &st)
	return st, !errors.Is(err, api.ErrNoAgent), err
}

func planThroughAgent(ctx context.Context, cfg hostagent.Config) (rep hostagent.PlanReport, ran bool, err error) {
	err = api.NewClient(cfg.State).Plan(ctx, &rep)
	return rep, !errors.Is(err, api.ErrNoAgent), err
}

func checkHostThroughAgent(ctx context.Context, cfg hostagent.Config) (rep hostagent.HostReport, ran bool, err error) {
	err = api.NewClient(cfg.State).CheckHost(ctx, &rep)
	return rep, !errors.Is(err, api.ErrNoAgent), err
}

var stateLine = regexp.MustCompile(`(?m)^\s*state\s*=\s*"(/[^"]*)"`)

// goesOn says of an agent that runs here that a faulty configuration has not
// stopped it. What the file says of its state directory is believed as far as it
// can be read.
func goesOn(f *flags) {
	state := hostagent.DefaultState
	src, err := os.ReadFile(f.config)
	if m := stateLine.FindSubmatch(src); err == nil && m != nil {
		state = string(m[1])
	}
	var st reconcile.HostStatus
	if api.NewClient(state).Status(context.Background(), &st) == nil {
		fmt.Fprintf(f.Err, "An agent runs here (%s) and goes on with the configuration that it has read before. It takes up this file once that is put right.\n", state)
	}
}

// served is the agent as the API serves it.
type served struct {
	a   *hostagent.Agent
	own func() []hostagent.HostNeed
}

func (s served) Status(ctx context.Context) (any, error) { return s.a.Status(ctx), nil }
func (s served) Plan(ctx context.Context) (any, error)   { return s.a.Plan(ctx) }
func (s served) CheckHost(ctx context.Context) (any, error) {
	return s.a.CheckHost(ctx, s.own())
}
func (s served) Once(ctx context.Context) (any, error) { return s.a.Once(ctx) }
func (s served) Sync(context.Context) error            { s.a.Nudge(); return nil }
func (s served) Pause(ctx context.Context) error       { return s.a.Pause(ctx) }
func (s served) Resume(ctx context.Context) error      { return s.a.Resume(ctx) }
func (s served) Drain(ctx context.Context, service string) error {
	return s.a.Drain(ctx, service)
}
func (s served) Undrain(ctx context.Context, service string) (string, error) {
	return s.a.Undrain(ctx, service)
}

// measured is the agent as metrics ask it.
type measured struct{ *hostagent.Agent }

func (m measured) Status(ctx context.Context) (reconcile.HostStatus, error) {
	return m.Agent.Status(ctx), nil
}
