package hostagent

import (
	"context"

	"drydock/reconcile"
	"drydock/spec"
)

// Rebuild finds again, on disk and in git, what a journal that had to be begun
// anew no longer says: the accepted commit, and which of the wanted releases
// run here. A release that is in place, whole, and is the one that the last
// accepted commit asks for, is adopted; another release is taken for one that
// somebody else made: the next plan takes it over, and a revert goes back to it. What cannot be found again is which migrations ran; their own
// checks answer that.
func (a *Agent) Rebuild(ctx context.Context) error {
	commit, err := a.Source.Accepted(ctx)
	if err != nil || commit == "" {
		return err
	}
	warrant, err := a.resolver.reverify(ctx, commit)
	if err != nil {
		return err // what runs goes on; nothing is known of it, as on a new host
	}
	if _, err := a.Journal.Append(ctx, reconcile.Record{Kind: reconcile.Accepted, Commit: commit, Warrant: warrant}); err != nil {
		return err
	}
	r := a.resolver.local(ctx)
	for _, svc := range r.want.Services {
		if svc.Install == nil {
			continue
		}
		s := reconcile.Step{Service: svc.Name, Phase: reconcile.Install, Block: *svc.Install, Target: svc, Host: a.Host.Name}
		d, err := a.Drivers.Driver(s)
		if err != nil {
			continue
		}
		o, ok := d.(reconcile.Observer)
		if !ok {
			continue
		}
		c, err := o.Observe(ctx, s)
		if err != nil {
			return err
		}
		p := &reconcile.OpenPlan{Target: svc}
		switch {
		case c.Is == reconcile.Present && !a.agreed(r, svc):
			continue // the first pass finds it as it stands, and says whose consent is missing
		case c.Is == reconcile.Present:
		case c.Current != "":
			p = &reconcile.OpenPlan{Target: spec.Service{Name: svc.Name, Environment: svc.Environment}, Foreign: c.Current}
		default:
			continue // nothing runs, or what somebody else made: the next plan finds that by itself
		}
		if _, err := a.Journal.Append(ctx, reconcile.Record{Kind: reconcile.Adopted, Service: svc.Name, Plan: p}); err != nil {
			return err
		}
	}
	return r.err
}

// agreed reports whether what stands here may be taken for what runs, by those
// whom its declaration asks.
func (a *Agent) agreed(r resolved, svc spec.Service) bool {
	s := a.surroundings()
	if s.Wanted = r.want; r.consent != nil {
		s.Consent = r.consent
	}
	return reconcile.AdoptGate(reconcile.ServicePlan{Service: svc.Name, Purpose: reconcile.Mend, Target: svc, Adopts: true}, s).Open()
}
