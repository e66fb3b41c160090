package hostagent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sync/errgroup"

	"drydock/reconcile"
	"drydock/spec"
)

// HostReport is `hostagent check-host --output json`: what is declared for this
// host, and what provisioning has not made for it yet.
type HostReport struct {
	Host        string     `json:"host"`
	Environment string     `json:"environment"`
	Commit      string     `json:"commit"`
	Source      string     `json:"source_error,omitempty"` // why this is not the newest commit
	Missing     int        `json:"missing"`
	Wrong       int        `json:"wrong,omitempty"`
	Needs       []HostNeed `json:"needs"`
}

// HostNeed is one thing that a service, or the agent itself, needs.
type HostNeed struct {
	Service string `json:"service,omitempty"` // "" is the agent itself
	Needs   string `json:"needs"`             // `start "systemd"`, `credential "web-database-url"`
	Origin  string `json:"origin"`            // the line that asks for it
	Found   Found  `json:"found"`
	Problem string `json:"problem,omitempty"`
	Ask     string `json:"ask,omitempty"` // of provisioning, a whole sentence
}

// Found is how a need stands.
type Found string

// How a need can stand.
const (
	Ready   Found = "ready"
	Missing Found = "missing"
	Wrong   Found = "wrong"   // it is the release's fault, or its declaration's: no provisioning helps
	Later   Found = "later"   // known once the release is fetched
	Unasked Found = "unasked" // the driver looks for nothing before it acts
	Unclear Found = "unclear" // the declaration has errors, so nothing can be said
)

// Lacks reports whether anything is missing or wrong, or cannot be told.
func (r HostReport) Lacks() bool {
	return slices.ContainsFunc(r.Needs, func(n HostNeed) bool { return n.Found.Amiss() })
}

// Amiss reports whether somebody must do something about it.
func (f Found) Amiss() bool { return f == Missing || f == Wrong || f == Unclear }

// CheckHost finds out what the host lacks of all that the newest commit declares
// for it, whatever state each service is in, and of own, the agent's own needs.
// Nothing is accepted, written or changed. A source that does not answer is one
// of the things that are missing, and no error.
func (a *Agent) CheckHost(ctx context.Context, own []HostNeed) (HostReport, error) {
	r := a.resolver.peek(ctx)
	rep := HostReport{Host: a.Host.Name, Environment: a.Host.Environment, Commit: r.want.Commit, Source: errorText(r.err)}
	if r.blocked != nil {
		rep.Source = errorText(r.head) // the rest is one of the needs
	}
	source := NeedOf("source", r.head)
	source.Origin = "hostagent.hcl"
	rep.Needs = append(append(own, source), a.trustNeeds(ctx, r)...)
	found := make([][]HostNeed, len(r.want.Services))
	g := errgroup.Group{}
	g.SetLimit(4)
	for i, s := range r.want.Services {
		g.Go(func() error {
			found[i] = a.needs(ctx, s)
			return nil
		})
	}
	_ = g.Wait()
	for _, name := range slices.Sorted(maps.Keys(r.want.Held)) {
		if !slices.ContainsFunc(r.want.Services, func(s spec.Service) bool { return s.Name == name }) {
			n := HostNeed{Service: name, Needs: "declaration", Found: Unclear, Problem: "its declaration has errors, and no earlier one was good"}
			if d := r.want.Held[name]; len(d) > 0 && d[0].Subject != nil {
				n.Origin = spec.Origin{Commit: r.want.Commit, Range: *d[0].Subject}.String()
			}
			found = append(found, []HostNeed{n})
		}
	}
	slices.SortStableFunc(found, func(x, y []HostNeed) int { return cmp.Compare(x[0].Service, y[0].Service) })
	rep.Needs = slices.Concat(append([][]HostNeed{rep.Needs}, found...)...)
	for _, n := range rep.Needs {
		switch n.Found {
		case Missing:
			rep.Missing++
		case Wrong:
			rep.Wrong++
		}
	}
	return rep, ctx.Err()
}

// needs are one service's, each once: several of its steps may look for the
// same thing.
func (a *Agent) needs(ctx context.Context, s spec.Service) (all []HostNeed) {
	for _, step := range reconcile.NeededSteps(s, a.Host.Name) {
		for _, need := range a.askFor(ctx, step) {
			n := NeedOf(need.What, need.Err)
			n.Service, n.Origin = s.Name, step.Origin.String()
			if !need.Told {
				n.Found = Unasked
			}
			same := func(o HostNeed) bool {
				return o.Needs == n.Needs && (o.Problem == n.Problem && o.Ask == n.Ask || n.Found == Unasked)
			}
			if !slices.ContainsFunc(all, same) {
				all = append(all, n)
			}
		}
	}
	if len(all) == 0 {
		all = append(all, HostNeed{Service: s.Name, Needs: "nothing", Origin: s.Origin.String(), Found: Ready})
	}
	return all
}

func (a *Agent) askFor(ctx context.Context, s reconcile.Step) []reconcile.Need {
	ctx, cancel := context.WithTimeout(ctx, observeTimeout)
	defer cancel()
	return a.engine.Needs(ctx, s)
}

// NeedOf is a need and how it stands; the words of a Fault are told apart into
// what is wrong and what to ask for.
func NeedOf(what string, err error) HostNeed {
	n := HostNeed{Needs: what, Found: Ready}
	var f *reconcile.Fault
	switch {
	case err == nil:
	case errors.Is(err, reconcile.ErrUnfetched):
		n.Found, n.Problem = Later, err.Error()
	case errors.As(err, &f) && f.Hint != "" && f.Error() == err.Error():
		n.Found, n.Problem, n.Ask = Missing, f.Err.Error(), f.Hint
	default:
		n.Found, n.Problem = Missing, fmt.Sprint(err)
	}
	if n.Found == Missing && reconcile.BlameOf(err) == reconcile.OfRelease {
		n.Found = Wrong
	}
	return n
}
