package metrics

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"drydock/reconcile"
)

const statusWait = 5 * time.Second

// scrape derives gauges from the agent's status at each scrape, so that they
// cannot say anything else than status does, nor keep a service that is gone.
type scrape struct {
	o        Options
	up       *prometheus.Desc
	state    *prometheus.Desc
	revision *prometheus.Desc
	since    *prometheus.Desc
	commit   *prometheus.Desc
	paused   *prometheus.Desc
	behind   *prometheus.Desc
	verified *prometheus.Desc
	blocked  *prometheus.Desc
	stale    *prometheus.Desc
	bytes    *prometheus.Desc
	records  *prometheus.Desc
}

func newScrape(o Options) *scrape {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("drydock_"+name, help, labels, nil)
	}
	return &scrape{
		o:        o,
		up:       desc("status_up", "1 if the agent's status could be read for this scrape."),
		state:    desc("service_state", "1 for the state that the service is in, 0 for the others.", "service", "state"),
		revision: desc("service_revision_info", "The revision that runs; always 1.", "service", "version", "digest", "spec"),
		since:    desc("service_running_since_seconds", "Unix time since when the revision runs.", "service"),
		commit:   desc("commit_info", "The commit in force; always 1.", "environment", "commit"),
		paused:   desc("paused", "1 while a person has paused the host."),
		behind:   desc("source_behind_seconds", "For how long the source could not be followed; 0 while it can."),
		verified: desc("source_verified", "1 if the commit in force was verified by the host's trust section."),
		blocked:  desc("source_blocked", "1 while the branch's newest commit is refused by the host's trust section."),
		stale:    desc("source_stale", "1 while nothing newer came for longer than freshness allows."),
		bytes:    desc("journal_bytes", "Bytes of the records that the journal keeps."),
		records:  desc("journal_records", "How many records the journal keeps."),
	}
}

// Describe implements prometheus.Collector.
func (s *scrape) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{s.up, s.state, s.revision, s.since, s.commit, s.paused, s.behind, s.verified, s.blocked, s.stale, s.bytes, s.records} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (s *scrape) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	if s.o.Journal != nil {
		bytes, records := s.o.Journal.Size()
		gauge(s.bytes, float64(bytes))
		gauge(s.records, float64(records))
	}
	ctx, cancel := context.WithTimeout(context.Background(), statusWait)
	defer cancel()
	status, err := s.o.Agent.Status(ctx)
	if err != nil {
		gauge(s.up, 0)
		return
	}
	gauge(s.up, 1)
	gauge(s.commit, 1, status.Environment, status.Commit)
	gauge(s.paused, truth(status.Paused))
	behind := 0.0
	if t := status.Source.BehindSince; t != nil {
		behind = max(0, s.o.Now().Sub(*t).Seconds())
	}
	gauge(s.behind, behind)
	gauge(s.verified, truth(status.Source.Verified))
	gauge(s.blocked, truth(status.Source.Blocked != ""))
	gauge(s.stale, truth(status.Source.Stale != ""))
	seen := map[string]bool{}
	for _, service := range status.Services {
		if seen[service.Name] {
			continue // two of a name would be an error of the whole scrape
		}
		seen[service.Name] = true
		for state := reconcile.Converged; state <= reconcile.Orphaned; state++ {
			gauge(s.state, truth(state == service.State), service.Name, state.String())
		}
		if r := service.Running; r != nil {
			gauge(s.revision, 1, service.Name, r.Version, r.Digest, r.Spec)
			gauge(s.since, float64(r.Since.Unix()), service.Name)
		}
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
