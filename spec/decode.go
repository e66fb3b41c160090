package spec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"
)

// KnownOnHost stands for a value that depends on the host, where no host is known.
const KnownOnHost = "(known on the host)"

// decoder turns blocks into canonical values, by the schema.
type decoder struct {
	full  *evaluator // all names
	alike *evaluator // without host.* and release.*, for what is the same for the whole fleet
	src   func(file string) []byte
	known bool // a host is known, so every value must be
	diags hcl.Diagnostics
	size  int
}

// decoded is one block by its schema.
type decoded struct {
	config map[string]any // canonical JSON values, defaults filled in
	hashed map[string]any // the same as it goes into the spec hash
	ranges map[string]hcl.Range
}

func (d *decoder) fail(at hcl.Range, summary, format string, args ...any) {
	d.diags = append(d.diags, problem(at, summary, format, args...))
}

// attributes decodes a block's attributes; path is what explain calls it.
func (d *decoder) attributes(s *schema, path string, b *body) decoded {
	out := decoded{map[string]any{}, map[string]any{}, map[string]hcl.Range{}}
	for i := range b.attrs {
		if s.attr(b.attrs[i].name) == nil {
			d.unknownAttribute(s, path, &b.attrs[i])
		}
	}
	for i := range s.attrs {
		a := &s.attrs[i]
		n := b.attr(a.name)
		var val, hashed any
		if n != nil {
			before := len(d.diags)
			val, hashed = d.attribute(a, n)
			if d.diags[before:].HasErrors() {
				continue
			}
			if val != nil {
				out.ranges[a.name] = n.rng
			}
		}
		if val == nil { // not written, or null
			if a.required {
				d.fail(b.rng, "Attribute missing", "%s needs %s: %s `drydock explain %s` has more.", path, a.name, a.doc, path)
				continue
			}
			if a.def == nil {
				continue
			}
			val, hashed = a.def, a.def
		}
		out.config[a.name], out.hashed[a.name] = val, hashed
	}
	return out
}

func (d *decoder) unknownAttribute(s *schema, path string, n *attrNode) {
	if s.block(n.name) != nil {
		d.fail(n.nameRng, "Block needed", "%s is a block: write %s { … }, without an equals sign.", n.name, n.name)
		return
	}
	d.fail(n.nameRng, "Unknown attribute", "%s has no attribute %q.%s Valid here: %s.", path, n.name,
		didYouMean(n.name, s.words()), strings.Join(s.words(), ", "))
}

func (d *decoder) unknownBlock(s *schema, path string, n *blockNode) {
	if s.attr(n.typ) != nil {
		d.fail(n.def, "Attribute needed", "%s is an attribute: write %s = …, with an equals sign.", n.typ, n.typ)
		return
	}
	d.fail(n.def, "Unknown block", "%s has no block %q.%s Valid here: %s.", path, n.typ,
		didYouMean(n.typ, s.words()), strings.Join(s.words(), ", "))
}

// attribute evaluates one attribute, and gives its canonical JSON value and
// what goes into the spec hash. A nil value means that it was null.
func (d *decoder) attribute(a *attribute, n *attrNode) (val, hashed any) {
	names := refs(n.expr)
	if a.literal && (len(names) > 0 || callsFunction(n.expr)) {
		d.fail(n.expr.Range(), "Literal needed",
			"%s is written by tools: it must be a plain value, without names, functions or templates.", a.name)
		return nil, nil
	}
	ev := d.full
	if a.alike {
		ev = d.alike
	}
	v := d.convert(a, n, ev)
	if v == nil {
		return nil, nil
	}
	if !a.alike && slices.ContainsFunc(names, perHost) {
		return v, d.asWritten(n, names)
	}
	return v, v
}

func perHost(t hcl.Traversal) bool {
	return t.RootName() == "host" || t.RootName() == "release"
}

func callsFunction(x hclsyntax.Expression) bool {
	found := false
	_ = hclsyntax.VisitAll(x, func(n hclsyntax.Node) hcl.Diagnostics {
		if _, ok := n.(*hclsyntax.FunctionCallExpr); ok {
			found = true
		}
		return nil
	})
	return found
}

// asWritten is what a host-dependent expression contributes to the spec hash:
// its text, and the values of the other names in it. So the hash is the same on
// every host, and a change of a local still changes it.
func (d *decoder) asWritten(n *attrNode, names []hcl.Traversal) any {
	others := map[string]any{}
	for _, t := range names {
		if perHost(t) {
			continue
		}
		v, diags := t.TraverseAbs(d.full.ctx)
		if diags.HasErrors() {
			continue // in a branch that is not taken
		}
		if j, err := ctyjson.Marshal(v, v.Type()); err == nil {
			others[traversalText(t)] = json.RawMessage(j)
		}
	}
	return map[string]any{"expression": d.text(n.expr), "names": others}
}

// text is an expression's source with one space between all tokens.
func (d *decoder) text(x hclsyntax.Expression) string {
	r := x.Range()
	src := d.src(r.Filename)
	if r.End.Byte > len(src) || r.Start.Byte > r.End.Byte {
		return ""
	}
	src = src[r.Start.Byte:r.End.Byte]
	if isJSON(r.Filename) {
		var b bytes.Buffer
		if json.Compact(&b, src) == nil {
			return b.String()
		}
		return string(src)
	}
	tokens, _ := hclsyntax.LexExpression(src, r.Filename, hcl.InitialPos)
	var out []string
	for _, t := range tokens {
		if t.Type != hclsyntax.TokenNewline && t.Type != hclsyntax.TokenComment && t.Type != hclsyntax.TokenEOF {
			out = append(out, string(t.Bytes))
		}
	}
	return strings.Join(out, " ")
}

func traversalText(t hcl.Traversal) string {
	var b strings.Builder
	for _, step := range t {
		switch s := step.(type) {
		case hcl.TraverseRoot:
			b.WriteString(s.Name)
		case hcl.TraverseAttr:
			b.WriteString("." + s.Name)
		case hcl.TraverseIndex:
			if s.Key.Type() == cty.String {
				fmt.Fprintf(&b, "[%q]", s.Key.AsString())
			} else {
				fmt.Fprintf(&b, "[%s]", s.Key.AsBigFloat().Text('f', -1))
			}
		}
	}
	return b.String()
}

// convert gives the canonical value of an attribute, or nil for null and after
// an error.
func (d *decoder) convert(a *attribute, n *attrNode, ev *evaluator) any {
	if a.kind == kindText {
		if c := credentialCall(n.expr); c != nil {
			return d.credential(c, ev)
		}
	}
	if a.kind == kindTexts {
		if o, ok := n.expr.(*hclsyntax.ObjectConsExpr); ok {
			return d.texts(a, o, ev)
		}
	}
	v, diags := ev.eval(n.expr)
	d.diags = append(d.diags, diags...)
	if diags.HasErrors() || v.IsNull() {
		return nil
	}
	if d.known && !v.IsWhollyKnown() {
		d.fail(n.expr.Range(), "Value not known", "%s depends on a value that could not be found out. Mend that first.", a.name)
		return nil
	}
	if _, ok := n.expr.(*jsonString); ok && v.Type() == cty.String && v.IsKnown() {
		v = fromTemplate(a.kind, v)
	}
	d.account(v, n.expr.Range())
	at := n.expr.Range()
	switch a.kind {
	case kindString, kindText, kindDuration, kindTime:
		return d.scalar(a, v, at)
	case kindShare:
		return d.share(a, v, at)
	case kindInt:
		if !v.IsKnown() && v.Type() == cty.Number {
			return KnownOnHost
		}
		return d.int(a, v, at)
	case kindBool:
		if v.Type() != cty.Bool {
			return d.wrong(a, v, at, "write true or false, without quotes")
		}
		if !v.IsKnown() {
			return KnownOnHost
		}
		return v.True()
	case kindStrings, kindArgv:
		return d.list(a, v, at)
	case kindMap, kindTexts, kindDigests:
		return d.mapping(a, v, at)
	case kindExpect:
		return d.expect(a, v, at)
	case kindLabels:
		return d.labels(a, v, at)
	}
	return nil
}

// fromTemplate reads a number or a truth value out of a string of the JSON
// form, where names can stand in strings only.
func fromTemplate(k kind, v cty.Value) cty.Value {
	switch s := v.AsString(); {
	case k == kindBool && (s == "true" || s == "false"):
		return cty.BoolVal(s == "true")
	case k == kindInt:
		if n, err := strconv.ParseInt(s, 10, 64); err == nil {
			return cty.NumberIntVal(n)
		}
	}
	return v
}
