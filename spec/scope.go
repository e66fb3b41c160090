package spec

import (
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

// scope is one environment together with the root, names resolved.
type scope struct {
	fleet    *Fleet
	env      *environment
	locals   cty.Value
	names    []string  // of services, sorted
	services []*header // sorted by name
	profiles map[string][]profileRef
	faults   hcl.Diagnostics // hold the environment
	warnings hcl.Diagnostics

	freezes   []Freeze
	overrides []Override
	removed   []removal
	moved     []Moved
	forgotten []Forgotten
	resolved  []Resolved
	agents    []agentRef

	trees     map[*file]*body // parsed again, up to a limit
	treeBytes int
	size      int            // of the values of the services at hand
	spent     map[*file]*int // to evaluate what stands in a file
	hints     int            // given so far
	rings     *rings         // of depends_on, as far as looked at
}

type profileRef struct {
	file *file
	item int
	at   hcl.Range
}

type agentRef = profileRef

type removal struct {
	name  string
	hosts Selector
	at    hcl.Range
}

// hash is what people agree to: which service, and on which hosts.
func (r removal) hash() string {
	return hashOf(map[string]any{"removed": r.name, "hosts": r.hosts})
}

// scopeOf builds an environment's scope, once per fleet.
func (f *Fleet) scopeOf(e *environment) *scope {
	if e.scope == nil {
		e.scope = newScope(f, e)
	}
	return e.scope
}

func newScope(f *Fleet, e *environment) *scope {
	sc := &scope{fleet: f, env: e, profiles: map[string][]profileRef{},
		trees: map[*file]*body{}, spent: map[*file]*int{}, locals: cty.EmptyObjectVal}
	files := append(append([]*file(nil), f.root...), e.files...)
	sc.evalLocals(files)
	for _, file := range files {
		for i := range file.items {
			it := &file.items[i]
			switch it.typ {
			case "service":
				sc.services = append(sc.services, it.head)
			case "profile":
				ref := profileRef{file, it.index, it.at}
				if prev := sc.profiles[it.label]; len(prev) > 0 {
					sc.faults = append(sc.faults, twice("profile", it.label, it.at, prev[0].at))
				}
				sc.profiles[it.label] = append(sc.profiles[it.label], ref)
			case "locals":
			default:
				sc.other(file, it)
			}
		}
	}
	slices.SortStableFunc(sc.services, func(a, b *header) int { return strings.Compare(a.name, b.name) })
	for i, h := range sc.services {
		if i == 0 || sc.services[i-1].name != h.name {
			sc.names = append(sc.names, h.name)
		}
	}
	sc.crossCheck()
	return sc
}

// named are the services of one name; more than one is an error of each.
func (sc *scope) named(name string) []*header {
	i, found := slices.BinarySearchFunc(sc.services, name, func(h *header, n string) int { return strings.Compare(h.name, n) })
	if !found {
		return nil
	}
	return sc.run(i)
}

// run is the services from i on that have the same name.
func (sc *scope) run(i int) []*header {
	j := i + 1
	for j < len(sc.services) && sc.services[j].name == sc.services[i].name {
		j++
	}
	return sc.services[i:j]
}

func twice(typ, name string, at, first hcl.Range) *hcl.Diagnostic {
	return problem(at, "Name used twice", "A %s %q stands at %s:%d already. Names are unique within an environment and the root together: rename one.",
		typ, name, first.Filename, first.Start.Line)
}

// tree is a file's syntax tree, parsed again if need be. The last few are kept.
func (sc *scope) tree(f *file) *body {
	const most = 4 << 20
	if b := sc.trees[f]; b != nil {
		return b
	}
	b, _ := parse(f.name, f.src) // it parsed before
	if b == nil {
		b = &body{}
	}
	if sc.treeBytes += len(f.src); sc.treeBytes > most {
		clear(sc.trees)
		sc.treeBytes = len(f.src)
	}
	sc.trees[f] = b
	return b
}

// work is what was spent so far on evaluating what stands in a file. It is
// counted by the file, not by the service: a file has a thousand services.
func (sc *scope) work(f *file) *int {
	if sc.spent[f] == nil {
		sc.spent[f] = new(int)
	}
	return sc.spent[f]
}

// hint is didYouMean for the first mistakes: a file may hold thousands, and
// each takes a look at thousands of words.
func (sc *scope) hint(word string, words func() []string) string {
	if sc.hints++; sc.hints > mostMistakes {
		return ""
	}
	return didYouMean(word, words())
}

func (sc *scope) serviceNames() []string { return sc.names }

// drop forgets all trees, and what they cost.
func (sc *scope) drop() {
	clear(sc.trees)
	clear(sc.spent)
	sc.treeBytes, sc.size, sc.hints = 0, 0, 0
}

// src finds a file's bytes among the trees at hand first: an index of all files
// is rarely needed.
func (sc *scope) src(name string) []byte {
	for f := range sc.trees {
		if f.name == name {
			return f.src
		}
	}
	return sc.fleet.Source(name)
}

// shared are the names that every host of the environment has alike.
func (sc *scope) shared() map[string]cty.Value {
	return map[string]cty.Value{"environment": cty.StringVal(sc.env.name), "local": sc.locals}
}

func refusedNames(what string) map[string]string {
	return map[string]string{
		"host":    "host.* cannot be used here: " + what + " is the same for the whole fleet.",
		"release": "release.* cannot be used here: " + what + " does not change from release to release.",
		"service": "service.* cannot be used here: " + what + " belongs to no single service.",
	}
}

// plainDecoder decodes what belongs to no service.
func (sc *scope) plainDecoder(f *file) *decoder {
	ev := newEvaluator(sc.shared(), sc.work(f))
	ev.refused = refusedNames("this block")
	return &decoder{full: ev, alike: ev, src: sc.src}
}

// serviceDecoder decodes what selects a service: no host and no release.
func (sc *scope) serviceDecoder(h *header) *decoder {
	vars := sc.shared()
	vars["service"] = cty.ObjectVal(map[string]cty.Value{"name": cty.StringVal(h.name)})
	ev := newEvaluator(vars, sc.work(h.file))
	ev.refused = refusedNames("this attribute")
	return &decoder{full: ev, alike: ev, src: sc.src}
}

// other decodes a top-level block that is neither a service nor a profile.
func (sc *scope) other(f *file, it *item) {
	d := sc.plainDecoder(f)
	s := language().block(it.typ)
	n := &sc.tree(f).blocks[it.index]
	origin := Origin{sc.fleet.commit, it.at}
	path := it.typ
	if drv := s.driverOf(*n); drv != nil {
		path += "." + drv.typ
		s = drv
	}
	if it.typ == "hostagent" {
		if len(sc.agents) > 0 {
			sc.faults = append(sc.faults, problem(it.at, "Written twice", "hostagent stands twice in this environment. Keep one of the two."))
		}
		sc.agents = append(sc.agents, agentRef{f, it.index, it.at})
		sc.faults = append(sc.faults, sc.hostagent(n)...)
		sc.warnings = append(sc.warnings, warning(it.at, "Not built yet", "This build does not deploy the agent itself; the block has no effect."))
		return
	}
	for i := range n.body.blocks {
		d.unknownBlock(s, path, &n.body.blocks[i])
	}
	out := d.attributes(s, path, n.body)
	if !d.diags.HasErrors() {
		sc.take(it, out, origin, d)
	}
	sc.faults = append(sc.faults, d.diags...)
}

func (sc *scope) take(it *item, out decoded, origin Origin, d *decoder) {
	str := func(name string) string { s, _ := out.config[name].(string); return s }
	when := func(name string) time.Time {
		t, _ := time.Parse(time.RFC3339Nano, str(name))
		return t
	}
	services := stringsOf(out.config["services"])
	switch it.typ {
	case "freeze":
		fr := Freeze{it.label, services, when("from"), when("until"), origin}
		if !fr.From.IsZero() && !fr.Until.IsZero() && !fr.From.Before(fr.Until) {
			d.fail(it.at, "Never in force", "This freeze ends before it begins. Swap from and until.")
		}
		sc.freezes = append(sc.freezes, fr)
	case "override":
		o := Override{it.label, services, stringsOf(out.config["skip"]), when("until"), origin}
		if len(o.Skip) == 0 {
			d.fail(it.at, "Nothing to skip", "skip names no gate: window, freeze, bake or approval-expiry.")
		}
		sc.overrides = append(sc.overrides, o)
	case "removed":
		hosts, _ := out.config["hosts"].(map[string]any)
		sc.removed = append(sc.removed, removal{it.label, selectorOf(hosts), it.at})
	case "moved":
		sc.moved = append(sc.moved, Moved{str("from"), str("to"), origin})
	case "forgotten":
		sc.forgotten = append(sc.forgotten, Forgotten{it.label, str("reason"), origin})
	case "resolved":
		sc.resolved = append(sc.resolved, Resolved{it.label, str("release"), str("outcome"), origin})
	case "notify":
		sc.warnings = append(sc.warnings, warning(it.at, "Not built yet", "This build sends no messages; the block has no effect."))
	}
}

// hostagent checks the agent's own release; nothing is made of it yet.
func (sc *scope) hostagent(n *blockNode) hcl.Diagnostics {
	se := sc.evaluation(&header{name: "hostagent", at: n.def}, nil)
	s := language().block("hostagent")
	se.d.attributes(s, "hostagent", n.body)
	groups := se.group(s, "hostagent", n.body)
	if rel := groups["release"]; len(rel) == 1 {
		se.release(rel[0])
	} else if len(rel) == 0 {
		se.d.fail(n.def, "Block missing", "hostagent needs a release block.")
	}
	if len(groups["artifact"]) == 1 {
		se.d.attributes(s.block("artifact"), "hostagent.artifact", groups["artifact"][0].body)
	}
	if len(groups["rollout"]) == 1 {
		se.rollout(groups["rollout"][0])
	}
	return se.d.diags
}
