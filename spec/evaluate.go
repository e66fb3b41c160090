package spec

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

// evaluation is one service on its way from blocks to a value.
type evaluation struct {
	sc     *scope
	h      *header
	host   *Host // nil: no host is known
	d      *decoder
	out    Declared
	hashed map[string]any
	vars   map[string]cty.Value
}

func (sc *scope) evaluation(h *header, host *Host) *evaluation {
	vars := sc.shared()
	vars["service"] = cty.ObjectVal(map[string]cty.Value{"name": cty.StringVal(h.name)})
	work := sc.work(h.file)
	alike := newEvaluator(copied(vars), work)
	alike.refused = refusedNames("this attribute")
	vars["host"] = hostValue(host)
	vars["release"] = cty.ObjectVal(map[string]cty.Value{
		"version": cty.UnknownVal(cty.String), "digest": cty.UnknownVal(cty.String)})
	return &evaluation{sc: sc, h: h, host: host, vars: vars, hashed: map[string]any{},
		d: &decoder{full: newEvaluator(vars, work), alike: alike, src: sc.src, known: host != nil}}
}

func copied(m map[string]cty.Value) map[string]cty.Value {
	out := make(map[string]cty.Value, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}

func hostValue(h *Host) cty.Value {
	if h == nil {
		return cty.ObjectVal(map[string]cty.Value{
			"name": cty.UnknownVal(cty.String), "os": cty.UnknownVal(cty.String),
			"arch": cty.UnknownVal(cty.String), "labels": cty.UnknownVal(cty.Map(cty.String))})
	}
	labels := cty.MapValEmpty(cty.String)
	if len(h.Labels) > 0 {
		m := map[string]cty.Value{}
		for k, v := range h.Labels {
			m[k] = cty.StringVal(v)
		}
		labels = cty.MapVal(m)
	}
	return cty.ObjectVal(map[string]cty.Value{"name": cty.StringVal(h.Name), "os": cty.StringVal(h.OS),
		"arch": cty.StringVal(h.Arch), "labels": labels})
}

// service evaluates one service, for a host or, with nil, for none.
func (sc *scope) service(h *header, host *Host) (Declared, hcl.Diagnostics) {
	se := sc.evaluation(h, host)
	se.out.Name, se.out.Environment = h.name, sc.env.name
	se.out.Origin = Origin{sc.fleet.commit, h.at}
	se.out.File = h.file.name
	for _, other := range sc.named(h.name) {
		if other != h {
			se.d.diags = append(se.d.diags, twice("service", h.name, h.at, other.at))
			break
		}
	}
	if sc.size > maxHost {
		se.d.fail(h.at, "Too much for one host", "The services that this host runs have more than %d bytes of values together, so this one was not looked at.", maxHost)
		return se.out, se.d.diags
	}
	se.run(&sc.tree(h.file).blocks[h.item])
	sc.size += se.d.size
	diags := capped(se.d.diags)
	if !diags.HasErrors() {
		se.out.SpecHash = hashOf(se.hashed)
	}
	return se.out, diags
}

func hashOf(v map[string]any) string {
	j, err := json.Marshal(v)
	if err != nil { // maps, lists, strings, numbers only
		j = []byte(fmt.Sprint(v))
	}
	sum := sha256.Sum256(j)
	return hex.EncodeToString(sum[:])
}

func (se *evaluation) run(n *blockNode) {
	s := language().block("service")
	body := n.body
	groups := se.group(s, "service", body)
	switch rel := groups["release"]; len(rel) {
	case 0:
		se.d.fail(n.def, "Block missing", `service %q needs a release block: release { version = "…" }. Without a version there is nothing to run.`, n.labels[0].name)
	default:
		se.release(rel[0])
	}
	attrs := se.d.attributes(s, "service", body)
	if name, ok := attrs.config["profile"].(string); ok {
		se.profile(name, attrs, groups, body.attr("profile"))
	}
	if _, ok := attrs.config["hosts"]; !ok && body.attr("hosts") == nil {
		se.d.fail(n.def, "Attribute missing", `service %q does not say on which hosts: write hosts = { role = "web" }, or hosts = {} for every host, here or in its profile.`, n.labels[0].name)
	}
	hosts, _ := attrs.config["hosts"].(map[string]any)
	se.out.Hosts = selectorOf(hosts)
	se.out.DependsOn = stringsOf(attrs.config["depends_on"])
	se.hashed["hosts"], se.hashed["depends_on"] = attrs.hashed["hosts"], attrs.hashed["depends_on"]
	se.blocks(s, groups)
	se.relations(n)
}

// group sorts a body's blocks by type and holds them to the schema.
func (se *evaluation) group(s *schema, path string, b *body) map[string][]*blockNode {
	out := map[string][]*blockNode{}
	for i := range b.blocks {
		n := &b.blocks[i]
		sub := s.block(n.typ)
		if sub == nil {
			se.d.unknownBlock(s, path, n)
			continue
		}
		if !se.d.checkLabels(sub, n) {
			continue
		}
		if prev := out[n.typ]; len(prev) > 0 && !sub.many {
			se.d.fail(n.def, "Written twice", "%s stands at line %d already, and there can be one. Keep one of the two.", n.typ, prev[0].def.Start.Line)
			continue
		}
		twice := false
		for _, p := range out[n.typ] {
			twice = twice || len(n.labels) > 0 && sameLabels(p.labels, n.labels)
		}
		if twice {
			hint := "Give one of them another name."
			if sub.labelsAllowed() > sub.labelsNeeded() {
				hint = fmt.Sprintf("Tell them apart by a second label: %s %q \"other\" { … }.", n.typ, n.labels[0].name)
			}
			se.d.fail(n.def, "Written twice", "%s %q stands here already. %s", n.typ, n.labels[0].name, hint)
			continue
		}
		out[n.typ] = append(out[n.typ], n)
	}
	return out
}

func sameLabels(a, b []labelNode) bool {
	return slices.EqualFunc(a, b, func(x, y labelNode) bool { return x.name == y.name })
}

// profile fills in what the service did not write itself.
func (se *evaluation) profile(name string, attrs decoded, groups map[string][]*blockNode, at *attrNode) {
	found := se.sc.profiles[name]
	if len(found) == 0 {
		se.d.fail(at.expr.Range(), "Unknown profile", "There is no profile %q.%s", name, se.sc.hint(name, func() []string { return sortedKeys(se.sc.profiles) }))
		return
	}
	n := &se.sc.tree(found[0].file).blocks[found[0].item]
	s := language().block("profile")
	theirs := se.group(s, "profile", n.body)
	own := se.d.attributes(s, "profile", n.body)
	for k, v := range own.config {
		if _, ok := attrs.config[k]; !ok {
			attrs.config[k], attrs.hashed[k], attrs.ranges[k] = v, own.hashed[k], own.ranges[k]
		}
	}
	for typ, blocks := range theirs {
		if typ == "run" {
			groups[typ] = mergeHooks(blocks, groups[typ])
		} else if len(groups[typ]) == 0 {
			groups[typ] = blocks
		}
	}
}

// mergeHooks is the profile's hooks in their order, each replaced by the
// service's hook of the same name, and the service's others after them.
func mergeHooks(profile, service []*blockNode) []*blockNode {
	var out []*blockNode
	used := map[*blockNode]bool{}
	for _, p := range profile {
		pick := p
		for _, s := range service {
			if sameLabels(p.labels, s.labels) {
				pick = s
				used[s] = true
			}
		}
		out = append(out, pick)
	}
	for _, s := range service {
		if !used[s] {
			out = append(out, s)
		}
	}
	return out
}

// release decodes the release block and makes release.* known.
func (se *evaluation) release(n *blockNode) {
	s := language().block("service").block("release")
	for i := range n.body.blocks {
		se.d.unknownBlock(s, "service.release", &n.body.blocks[i])
	}
	c := se.d.attributes(s, "service.release", n.body)
	r := &se.out.Release
	r.Origin = Origin{se.sc.fleet.commit, n.def}
	r.Version, _ = c.config["version"].(string)
	r.Digest, _ = c.config["digest"].(string)
	if a, ok := c.config["attempt"].(int64); ok {
		r.Attempt = int(a)
	}
	se.out.ReleaseRanges = c.ranges
	digests, several := c.config["digests"].(map[string]any)
	if several && r.Digest != "" {
		se.d.fail(c.ranges["digests"], "Two digests", "digest and digests are two ways to say the same. Keep one of the two.")
	}
	digestVal := cty.StringVal(r.Digest)
	if several {
		se.out.Digests = map[string]string{}
		for p, v := range digests {
			se.out.Digests[p] = v.(string)
		}
		digestVal = cty.UnknownVal(cty.String)
		if se.host != nil {
			platform := se.host.OS + "/" + se.host.Arch
			r.Digest = se.out.Digests[platform]
			if r.Digest == "" {
				se.d.fail(c.ranges["digests"], "No digest for this platform", "This host is %s, and the release has digests for %s only. Release it for that platform too, or keep it off this host by its labels.",
					platform, strings.Join(sortedKeys(se.out.Digests), ", "))
			}
			digestVal = cty.StringVal(r.Digest)
		}
	}
	ver := cty.UnknownVal(cty.String)
	if r.Version != "" {
		ver = cty.StringVal(r.Version)
	}
	se.vars["release"] = cty.ObjectVal(map[string]cty.Value{"version": ver, "digest": digestVal})
}
