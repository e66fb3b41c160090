package spec

import (
	"github.com/hashicorp/hcl/v2"
)

// hostView is what one For call finds out.
type hostView struct {
	sc   *scope
	host *Host
	memo map[string]*verdict
}

// verdict is what became of one service.
type verdict struct {
	here     bool // for this host
	declared Declared
	held     hcl.Diagnostics
	done     bool // what it depends on was looked at
}

// For is what one host should run. Only its services, and what they depend on,
// are evaluated. A service with an error is in Held instead, and so is one that
// depends on it, however far. Where the environment has faults, all of them are
// held. The diagnostics are all of these, the faults, and warnings.
func (f *Fleet) For(h Host) (Wanted, hcl.Diagnostics) {
	w := Wanted{Commit: f.commit, Host: h, Held: map[string]hcl.Diagnostics{}}
	diags := f.Faults(h.Environment)
	e := f.envs[h.Environment]
	if e == nil {
		return w, diags
	}
	sc := f.scopeOf(e)
	w.Names = make(map[string]bool, len(sc.names))
	diags = append(diags, sc.warnings...)
	v := &hostView{sc: sc, host: &h, memo: map[string]*verdict{}}
	var here []string
	for _, name := range sc.names {
		w.Names[name] = true
	}
	for i := 0; i < len(sc.services); {
		same := sc.run(i)
		if sc.meant(same, h.Labels) {
			here = append(here, same[0].name)
		}
		i += len(same)
	}
	if diags.HasErrors() {
		// Nothing of this environment is taken up, so nothing is evaluated.
		for _, name := range here {
			w.Held[name] = errorsOf(diags)
		}
		sc.drop()
		return w, unique(diags)
	}
	for _, name := range here {
		v.follow(name, true)
	}
	v.paths(here)
	v.removedHere()
	for _, name := range here {
		v.spread(name, map[string]bool{})
	}
	for _, name := range here {
		r := v.memo[name]
		if r.held.HasErrors() {
			w.Held[name] = r.held
		} else {
			w.Services = append(w.Services, r.declared.Service)
		}
		diags = append(diags, r.held...)
	}
	w.Freezes, w.Overrides, w.Moved, w.Resolved = sc.freezes, sc.overrides, sc.moved, sc.resolved
	for _, r := range sc.removed {
		// Declared here as well is an error of that service: it is held, not removed.
		if r.hosts.Matches(h.Labels) && v.memo[r.name] == nil {
			w.Removed = append(w.Removed, Removed{r.name, r.hash(), Origin{f.commit, r.at}})
		}
	}
	sc.drop()
	return w, unique(diags)
}

// meant reports whether a service is for a host with these labels, or might be:
// one whose hosts cannot be evaluated is.
func (sc *scope) meant(same []*header, labels map[string]string) bool {
	for _, h := range same {
		if h.selector != nil {
			if h.matches(labels) {
				return true
			}
			continue
		}
		sel, ok := sc.selector(h)
		if !ok || sel.Matches(labels) {
			return true
		}
	}
	return false
}

// selector is what a service's hosts attribute comes to; false if it has an error.
func (sc *scope) selector(h *header) (Selector, bool) {
	if h.selector != nil {
		return h.selector, true
	}
	v, ok := sc.decide(h, "hosts", h.hosts).(map[string]any)
	if !ok {
		return nil, false
	}
	return selectorOf(v), true
}

// decide evaluates one attribute that selects a service: its own, or else its
// profile's; nil if neither has it, or it has an error.
func (sc *scope) decide(h *header, name string, own *attrNode) any {
	d := sc.serviceDecoder(h)
	if own != nil {
		if v := decideOne(d, name, own); v != nil || d.diags.HasErrors() {
			return v
		}
	}
	profile := sc.profileOf(h)
	if profile == nil {
		return nil
	}
	if n := sc.tree(profile.file).blocks[profile.item].body.attr(name); n != nil {
		return decideOne(d, name, n)
	}
	return nil
}

// profileOf is the profile that a service names, or nil.
func (sc *scope) profileOf(h *header) *profileRef {
	name := h.profileName
	if h.profile != nil {
		name, _ = decideOne(sc.serviceDecoder(h), "profile", h.profile).(string)
	}
	if refs := sc.profiles[name]; len(refs) > 0 {
		return &refs[0]
	}
	return nil
}

// follow evaluates a service and then what it depends on.
func (v *hostView) follow(name string, here bool) *verdict {
	if r := v.memo[name]; r != nil {
		return r
	}
	r := &verdict{here: here}
	v.memo[name] = r
	host := v.host
	if !here {
		host = nil
	}
	hs := v.sc.named(name)
	h := hs[0]
	for _, other := range hs[1:] { // a duplicate: each is an error of both
		_, diags := v.sc.service(other, host)
		r.held = append(r.held, diags...)
	}
	d, diags := v.sc.service(h, host)
	r.declared = d
	r.held = append(r.held, diags...)
	for _, dep := range d.DependsOn {
		if len(v.sc.named(dep)) == 0 {
			r.held = append(r.held, problem(h.at, "Unknown service", "service %q depends on %q, which is no service of %s.%s",
				name, dep, v.sc.env.name, v.sc.hint(dep, v.sc.serviceNames)))
			continue
		}
		if v.memo[dep] == nil {
			v.follow(dep, v.sc.meant(v.sc.named(dep), v.host.Labels))
		}
	}
	return r
}

// spread holds a service whose dependency is held, or that depends on itself.
func (v *hostView) spread(name string, above map[string]bool) {
	r := v.memo[name]
	if r == nil || r.done {
		return
	}
	if above[name] {
		return
	}
	above[name] = true
	for _, dep := range r.declared.DependsOn {
		d := v.memo[dep]
		if d == nil {
			continue
		}
		if v.sc.inOneRing(name, dep) {
			r.held = append(r.held, problem(r.declared.Origin.Range, "Dependencies in a circle",
				"service %q depends on %q, which depends on %q again. Break the circle.", name, dep, name))
			continue
		}
		v.spread(dep, above)
		if d.held.HasErrors() {
			r.held = append(r.held, problem(r.declared.Origin.Range, "Dependency held", "service %q waits, because %q has an error.", name, dep))
		}
	}
	delete(above, name)
	r.done = true
}

// rings are the circles of depends_on: services of one ring reach each other.
// It is Tarjan's walk, which takes each service and each arrow once.
type rings struct {
	order, low map[string]int
	stack      []string
	of         map[string]int // ring of a service that was walked
	n          int
}

// inOneRing reports whether a service that depends on dep, directly, is reached
// again from it.
func (sc *scope) inOneRing(name, dep string) bool {
	if sc.rings == nil {
		sc.rings = &rings{order: map[string]int{}, low: map[string]int{}, of: map[string]int{}}
	}
	r := sc.rings
	if r.order[name] == 0 {
		r.walk(sc, name)
	}
	return r.of[name] == r.of[dep]
}

func (r *rings) walk(sc *scope, name string) {
	r.order[name] = len(r.order) + 1
	r.low[name] = r.order[name]
	r.stack = append(r.stack, name)
	for _, dep := range sc.dependsOn(name) {
		if r.order[dep] == 0 {
			r.walk(sc, dep)
			r.low[name] = min(r.low[name], r.low[dep])
		} else if r.of[dep] == 0 { // still in hand
			r.low[name] = min(r.low[name], r.order[dep])
		}
	}
	if r.low[name] != r.order[name] {
		return
	}
	r.n++
	for last := ""; last != name; {
		last = r.stack[len(r.stack)-1]
		r.stack = r.stack[:len(r.stack)-1]
		r.of[last] = r.n
	}
}

// dependsOn is what a service depends on, its profile's depends_on included.
func (sc *scope) dependsOn(name string) []string {
	var out []string
	for _, h := range sc.named(name) {
		if h.writesDepends {
			out = append(out, h.dependsOn...)
		} else {
			out = append(out, stringsOf(sc.decide(h, "depends_on", h.depends))...)
		}
	}
	return out
}

// paths holds services of this host that would install to one place.
func (v *hostView) paths(names []string) {
	first := map[string]string{}
	for _, name := range names {
		r := v.memo[name]
		p := r.declared.InstallPath()
		if p == "" {
			continue
		}
		other, taken := first[p]
		if !taken {
			first[p] = name
			continue
		}
		o := v.memo[other]
		r.held = append(r.held, samePath(name, other, p, r.declared.Install.Origin.Range, o.declared.Install.Origin.Range))
		o.held = append(o.held, samePath(other, name, p, o.declared.Install.Origin.Range, r.declared.Install.Origin.Range))
	}
}

func samePath(name, other, path string, at, theirs hcl.Range) *hcl.Diagnostic {
	return problem(at, "Install path used twice", "service %q installs to %s, and so does %q at %s:%d, for the same host. Give each its own path, or hosts that never meet.",
		name, path, other, theirs.Filename, theirs.Start.Line)
}

func (v *hostView) removedHere() {
	for _, rm := range v.sc.removed {
		if r := v.memo[rm.name]; r != nil && r.here && rm.hosts.Matches(v.host.Labels) {
			r.held = append(r.held, removedAndDeclared(rm, r.declared.Origin.Range))
		}
	}
}

func removedAndDeclared(rm removal, at hcl.Range) *hcl.Diagnostic {
	return problem(rm.at, "Removed and declared", "service %q is declared at %s:%d for hosts that this block removes it from. Delete one of the two, or narrow their hosts.",
		rm.name, at.Filename, at.Start.Line)
}
