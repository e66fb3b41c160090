package reconcile

import "slices"

// MendOne is the repair of what runs, for a service whose plan waits at a gate:
// neither a freeze nor a window nor a failed download holds up a repair. It has
// no steps where nothing drifted, where nothing of ours runs, and where repairs
// did not hold: whether that is worth a halt is the wanted revision's to say.
func MendOne(name string, have Observed, host string) ServicePlan {
	d := differ{name: name, have: have.Memory.Service(name), found: have.Found[name], boot: have.Boot, at: have.At, host: host}
	r := d.have
	if r.Running == nil || r.Running.Foreign != "" || r.Halt != nil || r.committed() {
		return ServicePlan{Service: name}
	}
	p := d.mend(r.Running.Service)
	p.Records = slices.DeleteFunc(p.Records, func(r Record) bool { return r.Kind != Settled })
	if p.State != Drifted && len(p.Records) == 0 {
		return ServicePlan{Service: name}
	}
	return p
}
