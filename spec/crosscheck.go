package spec

// crossCheck holds the environment's blocks to each other, as far as that needs
// no evaluated service.
func (sc *scope) crossCheck() {
	known := func(name string) bool { return len(sc.named(name)) > 0 }
	mention := func(names []string, o Origin, what string) {
		for _, n := range names {
			if !known(n) {
				// A root block may mean a service of another environment only.
				if sc.env.name != topFolder(o.Range.Filename) && sc.fleet.declares(n) {
					continue
				}
				sc.warnings = append(sc.warnings, warning(o.Range, "No such service", "This %s names %q, which is no service here.%s", what, n, sc.hint(n, sc.serviceNames)))
			}
		}
	}
	for _, f := range sc.freezes {
		mention(f.Services, f.Origin, "freeze")
	}
	for _, o := range sc.overrides {
		mention(o.Services, o.Origin, "override")
	}
	for _, r := range sc.resolved {
		mention([]string{r.Service}, r.Origin, "block")
	}
	to, memo := map[string]string{}, map[string]bool{}
	further := map[string]bool{} // moved on from, or removed
	for _, m := range sc.moved {
		further[m.From] = true
	}
	for _, r := range sc.removed {
		further[r.name] = true
	}
	for _, m := range sc.moved {
		at := m.Origin.Range
		atRoot := topFolder(at.Filename) != sc.env.name
		switch {
		case m.From == m.To:
			sc.faults = append(sc.faults, problem(at, "Moved to itself", "from and to are the same."))
		case to[m.From] != "":
			sc.faults = append(sc.faults, problem(at, "Moved twice", "%q moved to %q already. Keep one of the two.", m.From, to[m.From]))
		case known(m.From):
			sc.faults = append(sc.faults, problem(at, "Moved and still there", "A service %q is still declared at %s:%d. Rename that one, or delete this block.",
				m.From, sc.named(m.From)[0].at.Filename, sc.named(m.From)[0].at.Start.Line))
		}
		to[m.From] = m.To
		if !known(m.To) && !atRoot && !further[m.To] {
			sc.faults = append(sc.faults, problem(at, "Moved to nothing", "There is no service %q.%s", m.To, sc.hint(m.To, sc.serviceNames)))
		}
	}
	for _, m := range sc.moved {
		if circular(m.From, to, memo) {
			sc.faults = append(sc.faults, problem(m.Origin.Range, "Moved in a circle", "%q comes back to itself. Break the circle.", m.From))
		}
	}
}

// circular reports whether the moves from a name come to no end. Each name is
// followed once, however many lead to it.
func circular(from string, to map[string]string, memo map[string]bool) bool {
	var way []string
	met := map[string]bool{}
	n, found := from, false
	for ; to[n] != "" && to[n] != n; n = to[n] {
		known, ok := memo[n]
		if found = known || met[n]; ok || found {
			break
		}
		met[n] = true
		way = append(way, n)
	}
	for _, w := range way {
		memo[w] = found
	}
	return found
}

// declares reports whether any environment has a service of this name.
func (f *Fleet) declares(service string) bool {
	if f.declared == nil {
		f.declared = map[string]bool{}
		for _, e := range f.envs {
			for _, file := range e.files {
				for _, it := range file.items {
					if it.head != nil {
						f.declared[it.label] = true
					}
				}
			}
		}
	}
	return f.declared[service]
}

func topFolder(name string) string {
	for i := range name {
		if name[i] == '/' {
			return name[:i]
		}
	}
	return ""
}
