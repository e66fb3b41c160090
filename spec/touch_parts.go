package spec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// dissected is one version of a file, taken apart.
type dissected struct {
	name     string
	src      []byte
	json     bool
	units    []unit
	releases map[string]*namedRelease
	cuts     []span // plain values of release attributes, in order
	odd      []oddValue
}

type span struct{ from, to int }

// unit is what stands at the top of a file: a block or an attribute; in JSON a
// property, which may hold several blocks.
type unit struct {
	span
	typ   string
	name  string // the first label
	nodes []*blockNode
}

// own reports whether changes of the unit are a kind of their own.
func (u unit) own() bool {
	switch TouchKind(u.typ) {
	case TouchFreeze, TouchForgotten, TouchResolved:
		return len(u.nodes) > 0 && !slices.ContainsFunc(u.nodes, func(n *blockNode) bool { return n.typ != u.typ })
	}
	return false
}

type namedRelease struct {
	says    Change
	attempt bool // is written
	line    int
}

// oddValue is a release attribute that is no plain value, and so is not cut.
type oddValue struct {
	span
	service, why string
}

// piece is text between cuts, and where it began.
type piece struct {
	text string
	at   int
}

// dissect takes a file apart. It reads with the same parser as Load does: two
// that differed would be two judges.
func dissect(src []byte, filename string) (*dissected, *hcl.Diagnostic) {
	d := &dissected{name: filename, src: src, json: isJSON(filename), releases: map[string]*namedRelease{}}
	if src == nil || !d.json && len(src) == 0 {
		return d, nil
	}
	if diags := guard(filename, src); diags.HasErrors() {
		return nil, diags[0]
	}
	var b *body
	if d.json {
		var diags hcl.Diagnostics
		if b, diags = parseJSON(filename, src); diags.HasErrors() {
			return nil, errorsOf(diags)[0]
		}
		if !d.properties() {
			return nil, problem(place0(filename), "Not an object", "%s is a list: write one object.", filename)
		}
	} else {
		f, diags := hclsyntax.ParseConfig(src, filename, hcl.InitialPos)
		if diags.HasErrors() {
			return nil, errorsOf(diags)[0]
		}
		syntax := f.Body.(*hclsyntax.Body)
		b = native(syntax)
		for _, bl := range syntax.Blocks {
			d.units = append(d.units, unit{span: span{bl.TypeRange.Start.Byte, bl.CloseBraceRange.End.Byte}, typ: bl.Type})
		}
		for _, a := range syntax.Attributes {
			d.units = append(d.units, unit{span: span{a.SrcRange.Start.Byte, a.SrcRange.End.Byte}, typ: a.Name})
		}
		sort.Slice(d.units, func(i, j int) bool { return d.units[i].from < d.units[j].from })
	}
	d.place(b)
	d.cut(b)
	return d, nil
}

// properties finds the top-level properties of a JSON file; false if its top
// is no object.
func (d *dissected) properties() bool {
	dec := json.NewDecoder(bytes.NewReader(d.src))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return false
	}
	for dec.More() {
		from := int(dec.InputOffset())
		from += bytes.IndexByte(d.src[from:], '"')
		key, err := dec.Token()
		name, ok := key.(string)
		var value json.RawMessage
		if err != nil || !ok || dec.Decode(&value) != nil {
			return false
		}
		d.units = append(d.units, unit{span: span{from, int(dec.InputOffset())}, typ: name})
	}
	return true
}

// place gives each unit the blocks that stand in it.
func (d *dissected) place(b *body) {
	for i := range b.blocks {
		n := &b.blocks[i]
		at := n.def.Start.Byte
		j := sort.Search(len(d.units), func(j int) bool { return d.units[j].to > at })
		if j == len(d.units) || d.units[j].from > at {
			continue
		}
		u := &d.units[j]
		u.nodes = append(u.nodes, n)
		if u.name == "" && len(n.labels) > 0 {
			u.name = n.labels[0].name
		}
	}
}

// cut finds the values of release attributes that are plain.
func (d *dissected) cut(b *body) {
	count := map[string]int{}
	for i := range b.blocks {
		if n := &b.blocks[i]; n.typ == "service" && len(n.labels) > 0 {
			count[n.labels[0].name]++
		}
	}
	for i := range b.blocks {
		n := &b.blocks[i]
		if n.typ != "service" || len(n.labels) != 1 || count[n.labels[0].name] != 1 {
			continue
		}
		var release *blockNode
		several := false
		for j := range n.body.blocks {
			if r := &n.body.blocks[j]; r.typ == "release" {
				release, several = r, release != nil
			}
		}
		if release != nil && !several && len(release.labels) == 0 {
			d.release(n.labels[0].name, release)
		}
	}
	sort.Slice(d.cuts, func(i, j int) bool { return d.cuts[i].from < d.cuts[j].from })
}

// release cuts one service's release. A release that is not plain from end to
// end is none, and nothing of it is cut.
func (d *dissected) release(service string, n *blockNode) {
	s := releaseSchema()
	r := &namedRelease{line: n.def.Start.Line}
	var cuts []span
	plain := true
	for i := range n.body.attrs {
		a := &n.body.attrs[i]
		row := s.attr(a.name)
		if row == nil {
			continue
		}
		v, spans, why := d.value(row, a)
		if why != "" {
			d.odd = append(d.odd, oddValue{spanOf(a.rng), service, fmt.Sprintf("writes the %s of %s as no plain value: %s", a.name, service, why)})
			plain = false
			continue
		}
		cuts = append(cuts, spans...)
		switch a.name {
		case "version":
			r.says.Version, r.line = v.(string), a.rng.Start.Line
		case "digest":
			r.says.Digest = v.(string)
		case "attempt":
			r.says.Attempt, r.attempt = int(v.(int64)), true
		case "digests":
			r.says.Digests = map[string]string{}
			for k, one := range v.(map[string]any) {
				r.says.Digests[k], _ = one.(string)
			}
		}
	}
	if plain && r.says.Version != "" {
		d.releases[service] = r
		d.cuts = append(d.cuts, cuts...)
	}
}

func spanOf(r hcl.Range) span { return span{r.Start.Byte, r.End.Byte} }

// value is an attribute of a release if it is plain, and the spans to cut; or why not.
func (d *dissected) value(row *attribute, a *attrNode) (any, []span, string) {
	if !plainValue(a.expr) {
		switch {
		case callsFunction(a.expr):
			return nil, nil, "it calls a function"
		case len(refs(a.expr)) > 0:
			return nil, nil, "it names " + traversalText(refs(a.expr)[0])
		}
		return nil, nil, "it is an expression"
	}
	ev := newEvaluator(nil, new(int))
	dec := &decoder{full: ev, alike: ev, src: func(string) []byte { return d.src }}
	v, _ := dec.attribute(row, a)
	if len(dec.diags) > 0 {
		return nil, nil, strings.TrimSuffix(dec.diags[0].Detail, ".")
	}
	if v == nil {
		return nil, nil, "it is null"
	}
	object, ok := a.expr.(*hclsyntax.ObjectConsExpr)
	if !ok {
		return v, []span{spanOf(a.expr.Range())}, ""
	}
	if m, ok := v.(map[string]any); !ok || len(m) != len(object.Items) {
		return nil, nil, "a platform stands there twice"
	}
	var spans []span
	for _, item := range object.Items {
		spans = append(spans, spanOf(item.ValueExpr.Range()))
	}
	return v, spans, ""
}

func (d *dissected) text(u unit) string { return string(d.src[u.from:u.to]) }

// own are the blocks of own kind, byte by byte.
func (d *dissected) own() []string {
	var out []string
	for _, u := range d.units {
		if u.own() {
			out = append(out, d.text(u))
		}
	}
	return out
}

// frame is the file without the values of releases. With loose, blocks of own
// kind are left out too, and empty lines around blocks do not count, because a
// block takes its empty line along.
func (d *dissected) frame(loose bool) []piece {
	if !loose {
		return d.pieces(nil, 0, len(d.src))
	}
	var out []piece
	at, gap := 0, piece{at: -1}
	flush := func(next int) {
		var lines []string
		for line := range strings.Lines(gap.text) {
			if line = strings.TrimSpace(line); line != "" {
				lines = append(lines, line)
			}
		}
		if gap.at < 0 {
			gap.at = next
		}
		out = append(out, piece{strings.Join(lines, "\n"), gap.at})
		gap = piece{at: -1}
	}
	between := func(from, to int) {
		if d.json { // it is white space and commas
			return
		}
		text := string(d.src[from:to])
		if start := strings.TrimLeft(text, " \t\r\n"); start != "" && gap.at < 0 {
			gap.at = from + len(text) - len(start)
		}
		gap.text += text + "\n"
	}
	for _, u := range d.units {
		between(at, u.from)
		if at = u.to; u.own() {
			continue
		}
		flush(u.from)
		out = d.pieces(out, u.from, u.to)
	}
	between(at, len(d.src))
	flush(len(d.src))
	return out
}

// pieces appends src[from:to], split where a value is cut.
func (d *dissected) pieces(out []piece, from, to int) []piece {
	i := sort.Search(len(d.cuts), func(i int) bool { return d.cuts[i].from >= from })
	for ; i < len(d.cuts) && d.cuts[i].to <= to; i++ {
		out = append(out, piece{string(d.src[from:d.cuts[i].from]), from})
		from = d.cuts[i].to
	}
	return append(out, piece{string(d.src[from:to]), from})
}

// at names what stands at an offset, for people: a comment, or a block that
// another version has not; "" for all else.
func (d *dissected) at(offset int, other *dissected) string {
	block, differs := "", false
	for _, u := range d.units {
		if u.from <= offset && offset < u.to {
			block, differs = u.typ, !other.has(d.text(u))
			if u.name != "" && (len(u.nodes) == 1 || !d.json) {
				block += fmt.Sprintf(" %q", u.name)
			}
		}
	}
	if !d.json {
		tokens, _ := hclsyntax.LexConfig(d.src, d.name, hcl.InitialPos)
		i := sort.Search(len(tokens), func(i int) bool { return tokens[i].Range.End.Byte > offset })
		switch {
		case i == len(tokens) || tokens[i].Type != hclsyntax.TokenComment || tokens[i].Range.Start.Byte > offset:
		case block == "":
			return "a comment"
		default:
			return "a comment in " + block
		}
	}
	if !differs {
		return ""
	}
	return block
}

// has reports whether the file holds a block of these bytes.
func (d *dissected) has(text string) bool {
	return slices.ContainsFunc(d.units, func(u unit) bool { return d.text(u) == text })
}

func parseTime(s string) time.Time {
	t, _ := time.Parse(time.RFC3339Nano, s)
	return t
}
