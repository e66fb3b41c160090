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
				sc.warnings = append(sc.warnings, warning(o.Range, "No such service", "This %s names %q, which is no service here.%s", what, n, didYouMean(n, sc.names)))
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
	to := map[string]string{}
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
		if !known(m.To) && !atRoot && !sc.isMovedFrom(m.To) && !sc.isRemoved(m.To) {
			sc.faults = append(sc.faults, problem(at, "Moved to nothing", "There is no service %q.%s", m.To, didYouMean(m.To, sc.names)))
		}
	}
	for _, m := range sc.moved {
		seen := map[string]bool{}
		for n := m.From; to[n] != "" && to[n] != n; n = to[n] {
			if seen[n] {
				sc.faults = append(sc.faults, problem(m.Origin.Range, "Moved in a circle", "%q comes back to itself. Break the circle.", m.From))
				break
			}
			seen[n] = true
		}
	}
}

func (sc *scope) isMovedFrom(name string) bool {
	for _, m := range sc.moved {
		if m.From == name {
			return true
		}
	}
	return false
}

func (sc *scope) isRemoved(name string) bool {
	for _, r := range sc.removed {
		if r.name == name {
			return true
		}
	}
	return false
}

func (f *Fleet) declares(service string) bool {
	for _, e := range f.envs {
		for _, file := range e.files {
			for _, it := range file.items {
				if it.head != nil && it.label == service {
					return true
				}
			}
		}
	}
	return false
}

func topFolder(name string) string {
	for i := range name {
		if name[i] == '/' {
			return name[:i]
		}
	}
	return ""
}
