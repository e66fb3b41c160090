package drivertest

import (
	"context"
	"testing"
	"time"

	"drydock/reconcile"
	"drydock/spec"
)

// ProbeSuite is what a check driver must hold: every one passes it.
type ProbeSuite struct {
	Path    string                  // of its reference: "service.check.http"
	Config  any                     // its struct
	New     func() reconcile.Prober // a fresh value, as after an agent's restart
	Healthy spec.Block              // a block of something healthy
	Sick    spec.Block              // of something that is not
	Silent  spec.Block              // of something that never answers, with a short timeout; zero where that cannot be
}

// Probes runs the suite.
func Probes(t *testing.T, s ProbeSuite) {
	t.Run("attributes", func(t *testing.T) { Attributes(t, s.Path, s.Config) })
	probe := func(ctx context.Context, b spec.Block) error {
		return s.New().Probe(ctx, Step(reconcile.Check, b))
	}
	t.Run("says what it sees", func(t *testing.T) {
		for range 2 { // nothing is remembered, by the driver or by a new one
			if err := probe(t.Context(), s.Healthy); err != nil {
				t.Errorf("healthy, and it says %v", err)
			}
			if err := probe(t.Context(), s.Sick); err == nil {
				t.Error("not healthy, and it says nothing")
			}
		}
	})
	t.Run("one value for all", func(t *testing.T) {
		p := s.New()
		if err := p.Probe(t.Context(), Step(reconcile.Check, s.Sick)); err == nil {
			t.Error("not healthy, and it says nothing")
		}
		if err := p.Probe(t.Context(), Step(reconcile.Check, s.Healthy)); err != nil {
			t.Errorf("after a sick service, of a healthy one: %v", err)
		}
	})
	t.Run("ends with its context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := probe(ctx, s.Healthy); err == nil {
			t.Error("it was told to end, and says that all is well")
		}
	})
	if s.Silent.Type == "" {
		return
	}
	t.Run("does not wait for ever", func(t *testing.T) {
		done := make(chan error, 1)
		go func() { done <- probe(t.Context(), s.Silent) }()
		select {
		case err := <-done:
			if err == nil {
				t.Error("nothing answered, and it says that all is well")
			}
		case <-time.After(prompt):
			t.Fatal("it waits for what never answers")
		}
	})
}
