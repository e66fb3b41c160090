package spec

import (
	"github.com/hashicorp/hcl/v2"
	"slices"
)

// file is what is kept of one file: its bytes, and a line for each top-level
// block. The syntax tree is dropped, and made again for the few services that
// matter to a host; kept trees of 10,000 files are several hundred megabytes.
type file struct {
	name     string // relative to the root, with slashes
	hash     string
	src      []byte
	env      string          // "" at the root
	diags    hcl.Diagnostics // why the file cannot be used, or warnings
	items    []item
	services int
	min      string // min_version
	minAt    hcl.Range
	used     bool // met by the Load at hand
	place    int  // in the order of the last Load
}

// item is one top-level block.
type item struct {
	typ   string
	label string
	at    hcl.Range
	index int     // in the file's tree
	head  *header // of a service
}

// header is what can be known of a service without evaluating it.
type header struct {
	name string
	file *file
	at   hcl.Range
	item int

	// What selects the service. Literals are decoded at once and the node is
	// dropped; an expression is kept until the names that it uses are known.
	hosts, profile, depends *attrNode
	selector                Selector    // nil: not written, or still an expression
	rules                   []labelRule // the same, quicker to go through
	profileName             string
	dependsOn               []string
	writesDepends           bool // depends_on stands in the service itself
}

// readFile guards and parses one file, and keeps its headers.
func readFile(name, env, hash string, src []byte) *file {
	f := &file{name: name, env: env, hash: hash, src: src}
	if f.diags = guard(name, src); f.diags.HasErrors() {
		return f
	}
	b, diags := parse(name, src)
	f.diags = inside(capped(diags), name, src)
	if f.diags.HasErrors() {
		return f
	}
	ev := newEvaluator(nil, new(int))
	d := &decoder{full: ev, alike: ev, src: func(string) []byte { return src }}
	f.topAttributes(d, b)
	for i := range b.blocks {
		f.topBlock(d, i, &b.blocks[i])
	}
	f.diags = append(f.diags, inside(capped(d.diags), name, src)...)
	return f
}

func (f *file) topAttributes(d *decoder, b *body) {
	top := language()
	for i := range b.attrs {
		n := &b.attrs[i]
		a := top.attr(n.name)
		switch {
		case a == nil:
			d.unknownAttribute(top, "a file", n)
		case f.env != "":
			d.fail(n.nameRng, "Wrong place", "%s stands in a file at the root of the repository.", n.name)
		default:
			if v, _ := d.attribute(a, n); v != nil {
				f.min, f.minAt = v.(string), n.rng
			}
		}
	}
}

func (f *file) topBlock(d *decoder, i int, n *blockNode) {
	top := language()
	s := top.block(n.typ)
	if s == nil {
		d.unknownBlock(top, "a file", n)
		return
	}
	if s.where == inEnvironment && f.env == "" {
		d.fail(n.def, "Wrong place", "%s stands in an environment: move it to a file in a folder, such as staging/%s.", n.typ, f.name)
		return
	}
	if !d.checkLabels(s, n) {
		return
	}
	it := item{typ: n.typ, at: n.def, index: i}
	if len(n.labels) > 0 {
		it.label = n.labels[0].name
	}
	if n.typ == "service" || n.typ == "profile" {
		if !namePattern.MatchString(it.label) {
			d.fail(n.labels[0].rng, "Invalid name", "The name of a %s begins with a letter or digit, and goes on with letters, digits and . _ - up to 64 in all; %q does not.", n.typ, it.label)
			return
		}
	}
	if n.typ == "service" {
		it.head = newHeader(f, i, n)
		f.services++
	}
	f.items = append(f.items, it)
}

// checkLabels holds a block's labels to the schema.
func (d *decoder) checkLabels(s *schema, n *blockNode) bool {
	switch {
	case len(n.labels) < s.labelsNeeded():
		l := s.labels[len(n.labels)]
		hint := ""
		if s.drivers != nil {
			hint = " Valid here: " + joined(s.driverNames()) + "."
		}
		d.fail(n.def, "Label missing", "%s needs a label, %s: %s \"…\" { … }.%s", n.typ, l.doc, n.typ, hint)
	case len(n.labels) > s.labelsAllowed():
		extra := n.labels[s.labelsAllowed()]
		d.fail(extra.rng, "Too many labels", "%s takes %d, and %q is one more.", n.typ, s.labelsAllowed(), extra.name)
	case s.drivers != nil && s.driverOf(*n) == nil:
		d.fail(n.labels[0].rng, "Unknown driver", "There is no %s %q.%s Valid here: %s.", n.typ, n.labels[0].name,
			didYouMean(n.labels[0].name, s.driverNames()), joined(s.driverNames()))
	case len(n.labels) == 2 && !namePattern.MatchString(n.labels[1].name):
		d.fail(n.labels[1].rng, "Invalid label", "A second label is of letters, digits and . _ -; %q is not.", n.labels[1].name)
	case slices.ContainsFunc(n.labels, func(l labelNode) bool { return hides(l.name) }):
		d.fail(n.def, "Invalid label", "A label is one line, of characters that can be seen; this %s has others. Write it in words.", n.typ)
	default:
		return true
	}
	return false
}

func newHeader(f *file, i int, n *blockNode) *header {
	h := &header{name: n.labels[0].name, file: f, at: n.def, item: i}
	ev := newEvaluator(nil, new(int))
	d := &decoder{full: ev, alike: ev}
	literal := func(name string) (any, *attrNode) {
		a := n.body.attr(name)
		if a == nil {
			return nil, nil
		}
		c := *a
		if len(refs(a.expr)) > 0 || callsFunction(a.expr) {
			return nil, &c
		}
		d.diags = nil
		v := decideOne(d, name, a)
		if v == nil {
			return nil, &c // null, or wrong: said where the service is evaluated
		}
		return v, nil
	}
	var hosts, profile, depends any
	hosts, h.hosts = literal("hosts")
	profile, h.profile = literal("profile")
	depends, h.depends = literal("depends_on")
	if m, ok := hosts.(map[string]any); ok {
		h.selector = selectorOf(m)
		for _, name := range sortedKeys(h.selector) {
			h.rules = append(h.rules, labelRule{name, h.selector[name]})
		}
	}
	h.profileName, _ = profile.(string)
	h.dependsOn, h.writesDepends = stringsOf(depends), depends != nil
	return h
}

// decideOne evaluates one of the attributes that select a service.
func decideOne(d *decoder, name string, n *attrNode) any {
	v, _ := d.attribute(language().block("service").attr(name), n)
	return v
}

func stringsOf(v any) []string {
	list, _ := v.([]any)
	var out []string
	for _, el := range list {
		if s, ok := el.(string); ok {
			out = append(out, s)
		}
	}
	return out
}

func joined(words []string) string {
	out := ""
	for i, w := range words {
		if i > 0 {
			out += ", "
		}
		out += w
	}
	return out
}

// capped keeps the first of many diagnostics: a file of noise has one per token.
func capped(diags hcl.Diagnostics) hcl.Diagnostics {
	const most = 50
	if len(diags) <= most {
		return diags
	}
	return diags[:most:most]
}

// inside holds every range to its file's bytes.
func inside(diags hcl.Diagnostics, name string, src []byte) hcl.Diagnostics {
	clamp := func(r *hcl.Range) {
		if r == nil || r.Filename != name {
			return
		}
		if r.Start.Byte > len(src) {
			r.Start = posAt(src, len(src))
		}
		if r.End.Byte > len(src) {
			r.End = posAt(src, len(src))
		}
		if r.End.Byte < r.Start.Byte {
			r.End = r.Start
		}
	}
	for _, d := range diags {
		if d.Subject == nil {
			d.Subject = &hcl.Range{Filename: name, Start: hcl.InitialPos, End: hcl.InitialPos}
		}
		clamp(d.Subject)
		clamp(d.Context)
	}
	return diags
}
