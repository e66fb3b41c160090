// Package metrics shows Prometheus and health checkers how the agent is, on
// the address that the host's file calls listen. It only reads.
package metrics

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"drydock/reconcile"
)

// Agent is what is shown, asked at each scrape.
type Agent interface {
	Status(ctx context.Context) (reconcile.HostStatus, error)
	// Healthy is nil while the agent's loop turns; Ready once it has looked at
	// every service after its start. Both return at once.
	Healthy() error
	Ready() error
}

// Journal is the size of the kept records.
type Journal interface {
	Size() (bytes, records int)
}

// Metrics counts what happens; safe for use by many goroutines.
type Metrics struct {
	registry *prometheus.Registry
	steps    *prometheus.HistogramVec
	passes   *prometheus.CounterVec
	pass     prometheus.Histogram
	fetches  *prometheus.CounterVec
	agent    Agent
}

// Options are what a Metrics shows.
type Options struct {
	Version string
	Agent   Agent
	Journal Journal          // may be nil
	Now     func() time.Time // default time.Now
}

// New makes the metrics, in a registry of their own.
func New(o Options) *Metrics {
	if o.Now == nil {
		o.Now = time.Now
	}
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		agent:    o.Agent,
		steps: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "drydock_step_duration_seconds", Help: "How long steps took, by phase and outcome.",
			Buckets: []float64{.01, .05, .1, .5, 1, 5, 10, 30, 60, 300, 600},
		}, []string{"service", "phase", "outcome"}),
		passes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "drydock_passes_total", Help: "Passes over all services, by outcome.",
		}, []string{"outcome"}),
		pass: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "drydock_pass_duration_seconds", Help: "How long passes took.",
			Buckets: []float64{.001, .005, .01, .05, .1, .5, 1, 5, 30, 60, 300},
		}),
		fetches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "drydock_source_polls_total", Help: "Looks at the source, by outcome.",
		}, []string{"outcome"}),
	}
	for _, outcome := range []string{"ok", "error"} { // a rate needs the nought before the first
		m.passes.WithLabelValues(outcome)
		m.fetches.WithLabelValues(outcome)
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "drydock_build_info", Help: "The agent's version; always 1.", ConstLabels: prometheus.Labels{"version": o.Version},
	})
	build.Set(1)
	m.registry.MustRegister(m.steps, m.passes, m.pass, m.fetches, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		newScrape(o))
	return m
}

// Watch takes what the engine tells of each record.
func (m *Metrics) Watch(p reconcile.Progressed) {
	if p.Record.Kind == reconcile.Done || p.Record.Kind == reconcile.Failed {
		m.steps.WithLabelValues(p.Record.Service, p.Record.Phase.String(), string(p.Record.Kind)).Observe(p.Elapsed.Seconds())
	}
}

// Passed counts a pass.
func (m *Metrics) Passed(took time.Duration, err error) {
	m.passes.WithLabelValues(outcome(err)).Inc()
	m.pass.Observe(took.Seconds())
}

// Polled counts a look at the source.
func (m *Metrics) Polled(err error) { m.fetches.WithLabelValues(outcome(err)).Inc() }

func outcome(err error) string {
	if err != nil {
		return "error"
	}
	return "ok"
}
