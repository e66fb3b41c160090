package spec

import (
	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

// evalLocals evaluates all locals in the order in which they need each other.
func (sc *scope) evalLocals(files []*file) {
	all := map[string]*attrNode{}
	var order []string
	written := 0
	for _, f := range files {
		for _, it := range f.items {
			if it.typ != "locals" {
				continue
			}
			n := &sc.tree(f).blocks[it.index]
			for i := range n.body.blocks {
				b := &n.body.blocks[i]
				sc.faults = append(sc.faults, problem(b.def, "Unknown block", "locals holds values only: write %s = { … }, with an equals sign.", b.typ))
			}
			for i := range n.body.attrs {
				a := &n.body.attrs[i]
				if first := all[a.name]; first != nil {
					sc.faults = append(sc.faults, twice("local", a.name, a.nameRng, first.nameRng))
					continue
				}
				// One needs the next, so as many as there are may be in hand at
				// once, each some frames of the stack.
				if written += a.rng.End.Byte - a.rng.Start.Byte; len(order) == maxCollection || written > 4*maxValue {
					sc.faults = append(sc.faults, problem(a.nameRng, "Too many locals",
						"An environment and the root together may have %d locals of %d bytes in all. Move what one service needs into that service.", maxCollection, 4*maxValue))
					return
				}
				all[a.name] = a
				order = append(order, a.name)
			}
		}
	}
	if len(all) == 0 {
		return
	}
	le := &localEval{all: all, done: map[string]cty.Value{}, state: map[string]int{}, names: sortedKeys(all),
		ev: newEvaluator(map[string]cty.Value{"environment": cty.StringVal(sc.env.name)}, new(int))}
	le.ev.refused = refusedNames("a local")
	for _, name := range order {
		le.eval(name, hcl.Range{})
	}
	sc.faults = append(sc.faults, le.diags...)
	sc.locals = cty.ObjectVal(le.done)
}

// mostMistakes is how many unknown names are said: looking for the nearest word
// costs, and nobody reads more.
const mostMistakes = 50

type localEval struct {
	ev    *evaluator
	all   map[string]*attrNode
	names []string
	done  map[string]cty.Value
	state map[string]int // 1: being evaluated, 2: done
	total int
	diags hcl.Diagnostics
}

// eval evaluates one local and, before it, those that it refers to.
func (le *localEval) eval(name string, from hcl.Range) {
	n := le.all[name]
	switch le.state[name] {
	case 1:
		le.diags = append(le.diags, problem(from, "Locals in a circle", "local.%s needs itself, by way of others. Break the circle.", name))
		return
	case 2:
		return
	}
	le.state[name] = 1
	mine := map[string]cty.Value{}
	whole, bad := false, false
	for _, t := range refs(n.expr) {
		if t.RootName() != "local" {
			continue
		}
		if len(t) < 2 {
			whole = true
			continue
		}
		dep := ""
		switch s := t[1].(type) {
		case hcl.TraverseAttr:
			dep = s.Name
		case hcl.TraverseIndex:
			if s.Key.Type() == cty.String {
				dep = s.Key.AsString()
			}
		}
		if le.all[dep] != nil {
			le.eval(dep, t.SourceRange())
			got, ok := le.done[dep]
			if !ok || !got.IsKnown() {
				bad = true // it has an error, which was said
			}
			mine[dep] = got
		} else {
			bad = true
			if len(le.diags) < mostMistakes {
				le.diags = append(le.diags, problem(t.SourceRange(), "Unknown name", "There is no local.%s.%s", dep, didYouMean(dep, le.names)))
			}
		}
	}
	le.state[name] = 2
	v := cty.DynamicVal
	switch {
	case whole:
		le.diags = append(le.diags, problem(n.expr.Range(), "Locals in a circle", "A local cannot use local as a whole: it would hold itself. Name the one that is meant."))
	case bad, le.total > 4*maxValue, *le.ev.work > maxWork:
		// said already
	default:
		before := len(le.diags)
		le.ev.ctx.Variables["local"] = cty.ObjectVal(mine)
		got, diags := le.ev.eval(n.expr)
		le.diags = append(le.diags, diags...)
		if !le.diags[before:].HasErrors() {
			v = got
		}
		size, _ := sizeOf(v, maxValue, maxValueDepth)
		if le.total += size; le.total > 4*maxValue {
			le.diags = append(le.diags, problem(n.expr.Range(), "Locals too large", "All locals together may have %d bytes.", 4*maxValue))
		}
	}
	le.done[name] = v
}
