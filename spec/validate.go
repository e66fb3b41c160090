package spec

import (
	"sort"

	"github.com/hashicorp/hcl/v2"
)

// Validate evaluates everything there is, without a host.
func (f *Fleet) Validate() hcl.Diagnostics {
	var diags hcl.Diagnostics
	diags = append(diags, f.broken...)
	for _, file := range f.root {
		diags = append(diags, file.diags...)
	}
	for _, env := range sortedKeys(f.envs) {
		e := f.envs[env]
		diags = append(diags, e.broken...)
		for _, file := range e.files {
			diags = append(diags, file.diags...)
		}
		if e.odd {
			continue
		}
		sc := f.scopeOf(e)
		diags = append(diags, sc.faults...)
		diags = append(diags, sc.warnings...)
		diags = append(diags, sc.validate()...)
		sc.drop()
	}
	if len(f.envs) == 0 {
		sc := newScope(f, &environment{name: "none"})
		diags = append(diags, sc.faults...)
	}
	return sorted(unique(diags))
}

// placed is what two services are compared by.
type placed struct {
	name  string
	hosts Selector
	at    hcl.Range
	path  string
}

func (sc *scope) validate() hcl.Diagnostics {
	var diags hcl.Diagnostics
	byPath := map[string][]placed{}
	declared := map[string]placed{}
	const most = 2000 // mistakes; nobody reads more
	for _, name := range sc.names {
		if len(diags) > most {
			break
		}
		for _, h := range sc.named(name) {
			sc.size = 0 // nothing of it is kept
			d, ds := sc.service(h, nil)
			diags = append(diags, ds...)
			if ds.HasErrors() {
				continue
			}
			declared[name] = placed{name: name, hosts: d.Hosts, at: d.Origin.Range}
			for _, dep := range d.DependsOn {
				if len(sc.named(dep)) == 0 {
					diags = append(diags, problem(h.at, "Unknown service", "service %q depends on %q, which is no service of %s.%s",
						name, dep, sc.env.name, sc.hint(dep, sc.serviceNames)))
				}
			}
			if p := d.InstallPath(); p != "" && p != KnownOnHost {
				byPath[p] = append(byPath[p], placed{name, d.Hosts, d.Install.Origin.Range, p})
			}
		}
	}
	diags = append(diags, sc.circles()...)
	for _, p := range sortedKeys(byPath) {
		diags = append(diags, overlapping(byPath[p])...)
	}
	for _, rm := range sc.removed {
		if d, ok := declared[rm.name]; ok && d.hosts.Overlaps(rm.hosts) {
			diags = append(diags, removedAndDeclared(rm, d.at))
		}
	}
	return append(diags, sc.unusedProfiles()...)
}

// overlapping compares services of one path; many on one path are rare, and the
// first few conflicts say enough.
func overlapping(list []placed) hcl.Diagnostics {
	const most = 10
	var diags hcl.Diagnostics
	for i, a := range list {
		for _, b := range list[:i] {
			if a.hosts.Overlaps(b.hosts) {
				diags = append(diags, samePath(a.name, b.name, a.path, a.at, b.at))
				break
			}
		}
		if len(diags) == most {
			break
		}
	}
	return diags
}

// circles finds services that depend on themselves, in one walk.
func (sc *scope) circles() hcl.Diagnostics {
	var diags hcl.Diagnostics
	state := map[string]int{}
	var walk func(string)
	walk = func(n string) {
		state[n] = 1
		for _, dep := range sc.dependsOn(n) {
			switch {
			case len(sc.named(dep)) == 0:
			case state[dep] == 1:
				diags = append(diags, problem(sc.named(n)[0].at, "Dependencies in a circle",
					"service %q depends on %q, which depends on %q again. Break the circle.", n, dep, n))
			case state[dep] == 0:
				walk(dep)
			}
		}
		state[n] = 2
	}
	for _, n := range sc.names {
		if state[n] == 0 {
			walk(n)
		}
	}
	return diags
}

// unusedProfiles checks those that no service brings to light.
func (sc *scope) unusedProfiles() hcl.Diagnostics {
	used := map[string]bool{}
	for _, name := range sc.names {
		for _, h := range sc.named(name) {
			used[h.profileName] = true
			if h.profile != nil {
				name, _ := decideOne(sc.serviceDecoder(h), "profile", h.profile).(string)
				used[name] = true
			}
		}
	}
	var diags hcl.Diagnostics
	for _, name := range sortedKeys(sc.profiles) {
		if used[name] {
			continue
		}
		p := sc.profiles[name][0]
		se := sc.evaluation(&header{name: "example", at: p.at, file: p.file}, nil)
		n := &sc.tree(p.file).blocks[p.item]
		s := language().block("profile")
		groups := se.group(s, "profile", n.body)
		se.d.attributes(s, "profile", n.body)
		se.blocks(s, groups)
		diags = append(diags, errorsOf(se.d.diags)...)
	}
	return diags
}

// unique drops what is said twice at one place: a profile's mistake is found
// once for each service.
func unique(diags hcl.Diagnostics) hcl.Diagnostics {
	type key struct {
		file, summary, detail string
		at                    int
	}
	seen := map[key]bool{}
	var out hcl.Diagnostics
	for _, d := range diags {
		k := key{summary: d.Summary, detail: d.Detail}
		if d.Subject != nil {
			k.file, k.at = d.Subject.Filename, d.Subject.Start.Byte
		}
		if !seen[k] {
			seen[k] = true
			out = append(out, d)
		}
	}
	return out
}

func sorted(diags hcl.Diagnostics) hcl.Diagnostics {
	sort.SliceStable(diags, func(i, j int) bool {
		a, b := diags[i], diags[j]
		if a.Subject == nil || b.Subject == nil {
			return b.Subject != nil && a.Subject == nil
		}
		if a.Subject.Filename != b.Subject.Filename {
			return a.Subject.Filename < b.Subject.Filename
		}
		return a.Subject.Start.Byte < b.Subject.Start.Byte
	})
	return diags
}
