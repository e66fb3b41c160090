package reconcile

import "cmp"

// Where a service runs that nothing is remembered of, the state directory was
// lost: with a disk, or because the agent's package was purged. What serves is
// then treated as what serves: adopted as it stands where it is what is wanted,
// taken over and drained where it is not.

// asFound adopts a release that is wanted, whole, running, healthy and in
// rotation, and of which nothing is remembered, as it stands: nothing would
// change but that it was restarted.
func (d differ) asFound() (ServicePlan, bool) {
	w := *d.want
	p := ServicePlan{
		Service: d.name, State: Converged, Purpose: Mend, Target: w, Adopts: true,
		Reason:  "it runs here as it is wanted, though nothing is remembered of it; adopted as it stands",
		Records: []Record{{Kind: Adopted, Service: d.name, Plan: &OpenPlan{Target: w}}},
	}
	if !d.unremembered() || len(w.Holds) > 0 || d.installed(d.want).Is != Present {
		return p, false
	}
	proven := false
	if w.Start != nil {
		is := d.found[w.Start.ID()].Is
		if is == Absent || is == Altered {
			return p, false
		}
		proven = is == Present
	}
	for _, b := range w.Checks {
		if d.found[b.ID()].Is != Present {
			return p, false
		}
		proven = true
	}
	for _, b := range w.Drains {
		switch d.found[b.ID()].Is {
		case Absent:
			return p, false // nobody is left who would put it back
		case Present:
			// So that it is known when a person takes it out.
			p.Records = append(p.Records, Record{Kind: Settled, Service: d.name, Block: &b})
		}
	}
	return p, proven
}

// unremembered: no plan of ours brought here what stands here, as far as
// anybody remembers.
func (d differ) unremembered() bool {
	r := d.have
	return (r.Running == nil || r.Running.Foreign != "") && r.Halt == nil && len(r.Quarantine) == 0 && !r.committed()
}

// takenOver is the target of a `current` that something serves from and that no
// plan of ours is remembered for; "" if there is none. A release of ours counts
// too; but for the wanted one where its process is gone: nothing serves there.
func (d differ) takenOver() string {
	c := d.installed(d.want)
	if c.Foreign != "" || d.have.Halt != nil {
		return c.Foreign
	}
	if s := d.want.Start; c.Wanted && s != nil && d.found[s.ID()].Is == Absent {
		return ""
	}
	return cmp.Or(c.Foreign, c.Current)
}
