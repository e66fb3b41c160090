package spec

import (
	"encoding/json"
	"fmt"

	"github.com/hashicorp/hcl/v2"
)

// blocks decodes all blocks that a service and a profile share.
func (se *evaluation) blocks(s *schema, groups map[string][]*blockNode) {
	o := &se.out
	if g := groups["artifact"]; len(g) == 1 {
		a := &Artifact{}
		se.typed(s.block("artifact"), "service.artifact", g[0], a)
		a.Origin = se.origin(g[0])
		o.Artifact = a
	}
	list := func(typ string) []Block {
		var out []Block
		var hashes []any
		for _, n := range groups[typ] {
			b, h := se.driverBlock(s.block(typ), n)
			out = append(out, b)
			hashes = append(hashes, h)
		}
		if hashes != nil {
			se.hashed[typ] = hashes
		}
		return out
	}
	one := func(typ string) *Block {
		if l := list(typ); len(l) == 1 {
			return &l[0]
		}
		return nil
	}
	o.Drains, o.Install, o.Migrates, o.Start = list("drain"), one("install"), list("migrate"), one("start")
	o.Checks, o.Hooks = list("check"), list("run")
	if g := groups["rollout"]; len(g) == 1 {
		se.rollout(g[0])
	} else {
		se.rollout(&blockNode{body: &body{}})
		o.Rollout.Origin = o.Origin
	}
	if g := groups["approval"]; len(g) == 1 {
		a := &Approval{}
		se.typed(s.block("approval"), "service.approval", g[0], a)
		a.Origin = se.origin(g[0])
		o.Approval = a
	}
	if g := groups["batch"]; len(g) == 1 {
		b := &Batch{}
		se.typed(s.block("batch"), "service.batch", g[0], b)
		b.Origin = se.origin(g[0])
		o.Batch = b
	}
}

func (se *evaluation) origin(n *blockNode) Origin { return Origin{se.sc.fleet.commit, n.def} }

// typed decodes a block without drivers into its own struct, by JSON.
func (se *evaluation) typed(s *schema, path string, n *blockNode, into any) decoded {
	for i := range n.body.blocks {
		if s.block(n.body.blocks[i].typ) == nil {
			se.d.unknownBlock(s, path, &n.body.blocks[i])
		}
	}
	before := len(se.d.diags)
	c := se.d.attributes(s, path, n.body)
	se.hashed[s.typ] = c.hashed
	if se.d.diags[before:].HasErrors() {
		return c
	}
	j, err := json.Marshal(c.config)
	if err == nil {
		err = json.Unmarshal(j, into)
	}
	if err != nil {
		se.d.fail(n.def, "Cannot decode", "%s: %v.", path, err)
	}
	return c
}

// driverBlock decodes a block that a driver carries out, and says what goes
// into the spec hash.
func (se *evaluation) driverBlock(s *schema, n *blockNode) (Block, any) {
	b := Block{Type: s.typ, Driver: n.labels[0].name, Origin: se.origin(n)}
	if len(n.labels) > 1 {
		b.Label = n.labels[1].name
	}
	row, path := s, "service."+s.typ
	if s.drivers != nil {
		row = s.driverOf(*n)
		path += "." + row.typ
	}
	for i := range n.body.blocks {
		se.d.unknownBlock(row, path, &n.body.blocks[i])
	}
	c := se.d.attributes(row, path, n.body)
	b.Ranges = c.ranges
	j, err := json.Marshal(c.config)
	if err != nil {
		se.d.fail(n.def, "Cannot decode", "%s: %v.", path, err)
	}
	b.Config = j
	if row.unbuilt {
		se.hold("driver", fmt.Sprintf("%s %q is not built yet, so this service waits.", s.typ, row.typ), n.def)
	}
	return b, map[string]any{"driver": b.Driver, "label": b.Label, "config": c.hashed}
}

// hold makes a service wait for what this build cannot do, and warns of it.
func (se *evaluation) hold(gate, reason string, at hcl.Range, missing ...string) {
	se.out.Holds = append(se.out.Holds, Hold{gate, reason, missing, Origin{se.sc.fleet.commit, at}})
	se.d.diags = append(se.d.diags, warning(at, "Not built yet", "%s", reason))
}

func (se *evaluation) rollout(n *blockNode) {
	s := language().block("service").block("rollout")
	r := &se.out.Rollout
	c := se.typed(s, "service.rollout", n, r)
	r.Origin = se.origin(n)
	for _, a := range s.attrs {
		if _, ok := c.ranges[a.name]; ok {
			r.Written = append(r.Written, a.name)
		}
	}
	var hashes []any
	for i := range n.body.blocks {
		w := &n.body.blocks[i]
		if w.typ != "window" {
			continue
		}
		if len(w.labels) > 0 {
			se.d.fail(w.labels[0].rng, "Too many labels", "window takes none.")
			continue
		}
		ws := s.block("window")
		win := Window{}
		rollout := se.hashed["rollout"]
		wc := se.typed(ws, "service.rollout.window", w, &win)
		delete(se.hashed, "window")
		se.hashed["rollout"] = rollout
		win.Origin = se.origin(w)
		if win.From == win.To && win.From != "" {
			se.d.fail(w.def, "Empty window", `A window from %s to %s has no time in it. Write from = "00:00" and to = "24:00" for a whole day.`, win.From, win.To)
		}
		r.Windows = append(r.Windows, win)
		hashes = append(hashes, wc.hashed)
	}
	if hashes != nil {
		se.hashed["windows"] = hashes
		r.Written = append(r.Written, "window")
	}
}
