package spec

import (
	"sort"
	"strings"

	"github.com/agext/levenshtein"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	hcljson "github.com/hashicorp/hcl/v2/json"
	"github.com/zclconf/go-cty/cty"
)

// body is a block's content, of either syntax. HCL's own schema has a fixed
// number of labels per block type, and ours does not.
type body struct {
	attrs  []attrNode // in order of writing
	blocks []blockNode
	rng    hcl.Range // what to point at for a thing that is missing
}

type attrNode struct {
	name    string
	nameRng hcl.Range
	rng     hcl.Range
	expr    hclsyntax.Expression
}

type blockNode struct {
	typ    string
	labels []labelNode
	def    hcl.Range // of the header: type and labels
	body   *body
}

type labelNode struct {
	name string
	rng  hcl.Range
}

func (b *body) attr(name string) *attrNode {
	for i := range b.attrs {
		if b.attrs[i].name == name {
			return &b.attrs[i]
		}
	}
	return nil
}

// parse reads one file that passed the guard.
func parse(name string, src []byte) (*body, hcl.Diagnostics) {
	if isJSON(name) {
		return parseJSON(name, src)
	}
	f, diags := hclsyntax.ParseConfig(src, name, hcl.InitialPos)
	if diags.HasErrors() {
		return nil, plain(diags)
	}
	return native(f.Body.(*hclsyntax.Body)), plain(diags)
}

func native(b *hclsyntax.Body) *body {
	out := &body{rng: b.MissingItemRange()}
	if len(b.Attributes) > 0 {
		out.attrs = make([]attrNode, 0, len(b.Attributes))
		for _, a := range b.Attributes {
			out.attrs = append(out.attrs, attrNode{a.Name, a.NameRange, a.SrcRange, a.Expr})
		}
		sort.Slice(out.attrs, func(i, j int) bool { return out.attrs[i].rng.Start.Byte < out.attrs[j].rng.Start.Byte })
	}
	if len(b.Blocks) > 0 {
		out.blocks = make([]blockNode, 0, len(b.Blocks))
		for _, bl := range b.Blocks {
			n := blockNode{typ: bl.Type, def: bl.DefRange(), body: native(bl.Body)}
			for i, l := range bl.Labels {
				n.labels = append(n.labels, labelNode{l, bl.LabelRanges[i]})
			}
			n.body.rng = n.def
			out.blocks = append(out.blocks, n)
		}
	}
	return out
}

// jsonString is a string of the JSON form: a template whose own positions mean
// nothing in the file, because JSON has escapes.
type jsonString struct {
	hclsyntax.Expression
	rng hcl.Range
}

// Range is the string's place in the file.
func (s *jsonString) Range() hcl.Range { return s.rng }

// StartRange is Range.
func (s *jsonString) StartRange() hcl.Range { return s.rng }

func parseJSON(name string, src []byte) (*body, hcl.Diagnostics) {
	f, diags := hcljson.Parse(src, name)
	if diags.HasErrors() {
		return nil, plain(diags)
	}
	attrs, more := f.Body.JustAttributes()
	if diags = append(diags, more...); diags.HasErrors() {
		return nil, plain(diags)
	}
	sorted := make([]*hcl.Attribute, 0, len(attrs))
	for _, a := range attrs {
		sorted = append(sorted, a)
	}
	sort.Slice(sorted, func(i, j int) bool { return sorted[i].Range.Start.Byte < sorted[j].Range.Start.Byte })
	out := &body{rng: hcl.Range{Filename: name, Start: hcl.InitialPos, End: hcl.InitialPos}}
	for _, a := range sorted {
		diags = append(diags, out.addJSON(language(), a.Name, a.NameRange, a.Expr)...)
	}
	return out, plain(diags)
}

// addJSON adds one property, which is a block where the schema has a block of
// that name.
func (b *body) addJSON(s *schema, name string, at hcl.Range, x hcl.Expression) hcl.Diagnostics {
	if name == "//" {
		return nil // a comment
	}
	sub := s.block(name)
	if sub == nil {
		expr, diags := fromJSON(x)
		b.attrs = append(b.attrs, attrNode{name, at, hcl.RangeBetween(at, x.Range()), expr})
		return diags
	}
	return b.addJSONBlock(sub, blockNode{typ: name, def: at}, x)
}

func (b *body) addJSONBlock(s *schema, n blockNode, x hcl.Expression) hcl.Diagnostics {
	if list, ds := hcl.ExprList(x); !ds.HasErrors() {
		var diags hcl.Diagnostics
		for _, el := range list {
			diags = append(diags, b.addJSONBlock(s, n, el)...)
		}
		return diags
	}
	pairs, ds := hcl.ExprMap(x)
	if ds.HasErrors() {
		return hcl.Diagnostics{problem(x.Range(), "Object needed", "%s is a block: an object is needed here, or a list of them.", n.typ)}
	}
	here := s
	if d := s.driverOf(n); d != nil {
		here = d
	}
	var diags hcl.Diagnostics
	if len(n.labels) < s.labelsNeeded() || len(n.labels) < s.labelsAllowed() && onlyObjects(here, pairs) {
		for _, p := range pairs {
			key, at := jsonKey(p.Key)
			if key == "//" {
				continue
			}
			c := n
			c.labels = append(append([]labelNode(nil), n.labels...), labelNode{key, at})
			c.def = at
			diags = append(diags, b.addJSONBlock(s, c, p.Value)...)
		}
		return diags
	}
	n.body = &body{rng: n.def}
	seen := map[string]bool{}
	for _, p := range pairs {
		key, at := jsonKey(p.Key)
		if seen[key] && here.block(key) == nil {
			diags = append(diags, problem(at, "Written twice", "%q stands twice in this object. Keep one of the two.", key))
			continue
		}
		seen[key] = true
		diags = append(diags, n.body.addJSON(here, key, at, p.Value)...)
	}
	b.blocks = append(b.blocks, n)
	return diags
}

// onlyObjects reports whether the properties can only be second labels: none is
// an attribute, and each is an object or a list of them.
func onlyObjects(s *schema, pairs []hcl.KeyValuePair) bool {
	for _, p := range pairs {
		key, _ := jsonKey(p.Key)
		if s.attr(key) != nil || s.block(key) != nil {
			return false
		}
		if list, ds := hcl.ExprList(p.Value); !ds.HasErrors() && len(list) > 0 {
			continue
		}
		if _, ds := hcl.ExprMap(p.Value); ds.HasErrors() {
			return false
		}
	}
	return len(pairs) > 0
}

func jsonKey(x hcl.Expression) (string, hcl.Range) {
	v, _ := x.Value(nil)
	if v.Type() == cty.String && v.IsKnown() && !v.IsNull() {
		return v.AsString(), x.Range()
	}
	return "", x.Range()
}

// fromJSON makes an expression of the native syntax out of a JSON value, so
// that one evaluator serves both.
func fromJSON(x hcl.Expression) (hclsyntax.Expression, hcl.Diagnostics) {
	var diags hcl.Diagnostics
	if list, ds := hcl.ExprList(x); !ds.HasErrors() {
		out := &hclsyntax.TupleConsExpr{SrcRange: x.Range(), OpenRange: x.StartRange()}
		for _, el := range list {
			e, more := fromJSON(el)
			diags = append(diags, more...)
			out.Exprs = append(out.Exprs, e)
		}
		return out, diags
	}
	if pairs, ds := hcl.ExprMap(x); !ds.HasErrors() {
		out := &hclsyntax.ObjectConsExpr{SrcRange: x.Range(), OpenRange: x.StartRange()}
		for _, p := range pairs {
			k, more := fromJSON(p.Key)
			diags = append(diags, more...)
			v, more := fromJSON(p.Value)
			diags = append(diags, more...)
			out.Items = append(out.Items, hclsyntax.ObjectConsItem{KeyExpr: k, ValueExpr: v})
		}
		return out, diags
	}
	v, ds := x.Value(nil)
	if ds.HasErrors() || v.Type() != cty.String || v.IsNull() {
		return &hclsyntax.LiteralValueExpr{Val: v, SrcRange: x.Range()}, plain(ds)
	}
	rng := x.Range()
	t, ds := hclsyntax.ParseTemplate([]byte(v.AsString()), rng.Filename, rng.Start)
	for _, d := range ds {
		d.Subject, d.Context = rng.Ptr(), nil
	}
	if ds.HasErrors() {
		return &hclsyntax.LiteralValueExpr{Val: cty.DynamicVal, SrcRange: rng}, plain(ds)
	}
	return &jsonString{t, rng}, plain(ds)
}

// refs are the names that an expression looks up.
func refs(x hclsyntax.Expression) []hcl.Traversal {
	if isLiteral(x) {
		return nil
	}
	return x.Variables()
}

// isLiteral is a cheap test for the most common expressions that refer to nothing.
func isLiteral(x hclsyntax.Expression) bool {
	switch x := x.(type) {
	case *hclsyntax.LiteralValueExpr:
		return true
	case *hclsyntax.TemplateExpr:
		return x.IsStringLiteral()
	case *jsonString:
		t, ok := x.Expression.(*hclsyntax.TemplateExpr)
		return ok && t.IsStringLiteral()
	}
	return false
}

// didYouMean is " Did you mean ...?" for the nearest word, or "". Of many words
// only likely ones are compared, and of those not all: a file may hold
// thousands of mistakes.
func didYouMean(word string, words []string) string {
	const most, many = 50_000, 300 // letters against letters
	best, dist := "", max(2, min(len(word), 60)/3)+1
	if len(word) == 0 || len(word) > 200 {
		return ""
	}
	compared := 0
	for _, w := range words {
		if w == "" || len(words) > many && w[0] != word[0] {
			continue
		}
		if best == "" && len(word) > 2 && strings.HasPrefix(w, word) && len(w) < 200 {
			best = w
		}
		if len(w)-len(word) >= dist || len(word)-len(w) >= dist {
			continue
		}
		if compared += len(w) * len(word); compared > most {
			break
		}
		if d := levenshtein.Distance(word, w, nil); d < dist {
			best, dist = w, d
		}
	}
	if best == "" {
		return ""
	}
	return " Did you mean \"" + best + "\"?"
}
