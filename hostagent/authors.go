package hostagent

import (
	"context"
	"errors"
	"slices"

	"drydock/reconcile"
	"drydock/reconcile/trust"
	"drydock/spec"
)

// authors finds out who made what people are asked to agree to: nobody agrees
// alone to what they made. Where nobody is asked, nobody looks.
func (c *consents) authors(ctx context.Context, out *consent, want spec.Wanted, m reconcile.Memory) {
	c.loader = &spec.Loader{Only: c.env} // what it holds of older commits is not needed afterwards
	defer func() { c.loader = nil }()
	around := reconcile.Surroundings{Now: c.now(), Wanted: want, Memory: m}
	var plans []reconcile.ServicePlan
	for _, s := range want.Services {
		plans = append(plans, reconcile.ServicePlan{Service: s.Name, Target: s})
	}
	for _, r := range want.Removed {
		if m.Services[r.Name] != nil {
			plans = append(plans, reconcile.ServicePlan{Service: r.Name, Purpose: reconcile.Uninstall, Target: whatRan(m.Services[r.Name])})
		}
	}
	for _, p := range plans {
		a, _ := out.ask(p, around)
		asked := len(a.Rules) > 0 || a.Kind != trust.Approval || c.trust.Policy.Approvals[a.Environment] > 0
		if !asked || !begins(p, around) || c.trust.History == nil {
			continue
		}
		made, err := c.made(ctx, p, a, want, m)
		if err != nil {
			c.again = true
			out.doubts[a.Subject] = err.Error()
			continue
		}
		out.authors[a.Subject] = made
	}
}

// made are the authors of one plan's batch.
func (c *consents) made(ctx context.Context, p reconcile.ServicePlan, a trust.Ask, want spec.Wanted, m reconcile.Memory) ([]string, error) {
	names := append([]string{p.Service}, movedFrom(p.Service, want)...)
	r := m.Service(p.Service)
	for _, n := range names[1:] {
		if m.Services[p.Service] == nil && m.Services[n] != nil {
			r = m.Services[n]
		}
	}
	b := trust.Batch{Environment: a.Environment, Service: p.Service, Version: p.Target.Release.Version, To: want.Commit, At: c.now(), Back: wentBack(r, p.Target.Release)}
	changed := true
	if r.Running != nil && r.Running.Foreign == "" {
		b.From = r.Running.Service.Origin.Commit
		changed = a.Kind != trust.Approval || r.Running.Service.SpecHash != p.Target.SpecHash
	}
	if changed {
		b.State = func(ctx context.Context, commit string) (string, error) {
			return c.state(ctx, commit, a.Kind, names, want.Host)
		}
	}
	if c.writers == nil {
		c.writers = &trust.Writers{History: c.trust.History, Keys: c.trust.Keys}
	}
	if _, err := c.trust.History.Commit(ctx, b.From); b.From != "" && err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		b.From = "" // what this host took last is not in its history any more
	}
	return c.writers.Authors(ctx, b)
}

// wentBack reports whether a release ran here before what runs, or before what
// halted.
func wentBack(r *reconcile.Remembered, rel spec.Release) bool {
	same := func(o spec.Release) bool { return o.Version == rel.Version && o.Digest == rel.Digest }
	return slices.ContainsFunc(r.Past, same) || r.Halt != nil && r.Running != nil && same(r.Running.Service.Release)
}

// whatRan is what is remembered of a service that is to be removed.
func whatRan(r *reconcile.Remembered) spec.Service {
	switch {
	case r.Running != nil:
		return r.Running.Service
	case r.Halt != nil:
		return r.Halt.Target
	case r.Open != nil:
		return r.Open.Target
	}
	return spec.Service{}
}

// maxDeclared is how many older commits it is remembered of what they declared.
const maxDeclared = 500

// state is a service's declaration, or its removal's, by an older commit.
func (c *consents) state(ctx context.Context, commit string, kind trust.Kind, names []string, host spec.Host) (string, error) {
	said, ok := c.declared[commit]
	if !ok {
		tree, err := c.trust.History.Tree(ctx, commit)
		if err != nil && !errors.Is(err, trust.ErrUnfit) {
			return "", err
		}
		said = map[string]string{}
		if err == nil {
			fleet, _ := c.loader.Load(commit, tree)
			want, _ := fleet.For(host)
			for _, s := range want.Services {
				said[string(trust.Approval)+" "+s.Name] = s.SpecHash
			}
			for _, r := range want.Removed {
				said[string(trust.Removal)+" "+r.Name] = r.Spec
			}
		}
		if c.declared == nil || len(c.declared) > maxDeclared {
			c.declared = map[string]map[string]string{}
		}
		c.declared[commit] = said
	}
	for _, n := range names {
		if hash := said[string(kind)+" "+n]; hash != "" {
			return hash, nil
		}
	}
	return "", nil
}
