package spec

import (
	"math/big"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// What a value may hold.
const (
	maxString       = 64 << 10
	maxCollection   = 10_000
	maxValue        = 1 << 20  // a service's values together, or one local
	maxHost         = 64 << 20 // the values of all services that are looked at together
	maxValueDepth   = 64
	maxWork         = 32 << 20 // bytes looked at or made while the services of one file, or the locals, are evaluated
	elementOverhead = 32
)

// evaluator evaluates expressions from the inside out, one node at a time, and
// looks at the size of every result before anything is made of it. HCL's own
// evaluation does the work at each node, on operands that are literals by
// then; so its rules hold, and yet 24 locals that each double the one before
// are stopped at the one that grows too large.
type evaluator struct {
	ctx  *hcl.EvalContext
	work *int // spent so far; shared by all that one file costs

	// refused says, for a root name that exists elsewhere, why not here.
	refused map[string]string
}

func newEvaluator(vars map[string]cty.Value, work *int) *evaluator {
	return &evaluator{ctx: &hcl.EvalContext{Variables: vars, Functions: functions()}, work: work}
}

// eval evaluates one expression, and accounts for the result.
func (e *evaluator) eval(x hcl.Expression) (cty.Value, hcl.Diagnostics) {
	if *e.work > maxWork {
		return cty.DynamicVal, hcl.Diagnostics{tooMuchWork(x.Range())}
	}
	v, diags := e.node(x)
	if diags.HasErrors() {
		return cty.DynamicVal, diags
	}
	if d := e.charge(v, x.Range()); d != nil {
		return cty.DynamicVal, append(diags, d)
	}
	return v, diags
}

// charge accounts for a value that was just made.
func (e *evaluator) charge(v cty.Value, at hcl.Range) *hcl.Diagnostic {
	size, why := sizeOf(v, maxValue, maxValueDepth)
	*e.work += size + elementOverhead
	switch {
	case why != "":
		return problem(at, "Value too large", "This value cannot be used: %s.", why)
	case *e.work > maxWork:
		return tooMuchWork(at)
	}
	return nil
}

func tooMuchWork(at hcl.Range) *hcl.Diagnostic {
	return problem(at, "Too much work", "To evaluate what stands in this file takes too much work. Use fewer and smaller values, or several files.")
}

// sizeOf walks a value up to a limit, and says what breaks a rule, or "".
// A value that refers to another a million times is as large as it looks.
func sizeOf(v cty.Value, limit, depth int) (int, string) {
	if depth == 0 {
		return 0, "it is nested deeper than 64"
	}
	if v == cty.NilVal || v.IsNull() || !v.IsKnown() {
		return elementOverhead, ""
	}
	t := v.Type()
	switch {
	case t == cty.String:
		n := len(v.AsString())
		if n > maxString {
			return n, "a string may have 65536 bytes"
		}
		return n + elementOverhead, ""
	case t == cty.Number:
		if !v.AsBigFloat().IsInf() && tooWide(v.AsBigFloat()) {
			return elementOverhead, "a number may have 40 digits before and 80 after the point"
		}
		return elementOverhead, ""
	case t.IsPrimitiveType() || !v.CanIterateElements():
		return elementOverhead, ""
	}
	if v.LengthInt() > maxCollection {
		return elementOverhead, "a collection may have 10000 elements"
	}
	total := elementOverhead
	for it := v.ElementIterator(); it.Next(); {
		k, el := it.Element()
		if k.Type() == cty.String {
			total += len(k.AsString())
		}
		n, why := sizeOf(el, limit-total, depth-1)
		total += n
		if why != "" {
			return total, why
		}
		if total > limit {
			return total, "a value may have 1 MiB in all"
		}
	}
	return total, ""
}

func tooWide(f *big.Float) bool {
	exp := f.MantExp(nil)
	return exp > 140 || exp < -300
}

// literal stands for a node that was evaluated.
func literal(v cty.Value, x hcl.Expression) hclsyntax.Expression {
	return &hclsyntax.LiteralValueExpr{Val: v, SrcRange: x.Range()}
}

// operand evaluates x and wraps the result as a literal.
func (e *evaluator) operand(x hclsyntax.Expression, diags *hcl.Diagnostics) hclsyntax.Expression {
	v, ds := e.eval(x)
	*diags = append(*diags, ds...)
	return literal(v, x)
}

// finish runs HCL's own rule on a node whose operands are literals.
func (e *evaluator) finish(x hclsyntax.Expression, diags hcl.Diagnostics) (cty.Value, hcl.Diagnostics) {
	if diags.HasErrors() {
		return cty.DynamicVal, diags
	}
	v, more := x.Value(e.ctx)
	return v, append(diags, plain(more)...)
}

// plain drops what a diagnostic carries for evaluating again: it holds whole
// scopes in memory.
func plain(diags hcl.Diagnostics) hcl.Diagnostics {
	for _, d := range diags {
		d.Expression, d.EvalContext, d.Extra = nil, nil, nil
	}
	return diags
}

func (e *evaluator) node(x hcl.Expression) (cty.Value, hcl.Diagnostics) {
	var diags hcl.Diagnostics
	switch x := x.(type) {
	case *hclsyntax.LiteralValueExpr:
		return x.Val, nil
	case *jsonString:
		v, ds := e.eval(x.Expression)
		for _, d := range ds {
			d.Subject, d.Context = x.rng.Ptr(), nil
		}
		return v, ds
	case *hclsyntax.ParenthesesExpr:
		return e.eval(x.Expression)
	case *hclsyntax.TemplateWrapExpr:
		v, ds := e.eval(x.Wrapped)
		if !ds.HasErrors() && v.Type().IsPrimitiveType() {
			// "${local.port}" is in quotes, so a string is meant; HCL would
			// hand the number through.
			v, _ = convert.Convert(v, cty.String)
		}
		return v, ds
	case *hclsyntax.TemplateExpr:
		return e.template(x)
	case *hclsyntax.ScopeTraversalExpr:
		return e.traversal(x)
	case *hclsyntax.RelativeTraversalExpr:
		c := *x
		c.Source = e.operand(x.Source, &diags)
		if d := oddIndex(x.Traversal); d != nil {
			return cty.DynamicVal, append(diags, d)
		}
		return e.finish(&c, diags)
	case *hclsyntax.IndexExpr:
		c := *x
		c.Collection, c.Key = e.operand(x.Collection, &diags), e.operand(x.Key, &diags)
		if !diags.HasErrors() && isSequence(literalOf(c.Collection).Type()) && literalOf(c.Key).Type() == cty.String {
			return cty.DynamicVal, append(diags, problem(x.Key.Range(), "Invalid index", "The elements of a list are counted by numbers, from 0."))
		}
		return e.finish(&c, diags)
	case *hclsyntax.TupleConsExpr:
		c := *x
		c.Exprs = make([]hclsyntax.Expression, len(x.Exprs))
		for i, el := range x.Exprs {
			c.Exprs[i] = e.operand(el, &diags)
		}
		return e.finish(&c, diags)
	case *hclsyntax.ObjectConsExpr:
		c := *x
		c.Items = make([]hclsyntax.ObjectConsItem, len(x.Items))
		for i, it := range x.Items {
			c.Items[i] = hclsyntax.ObjectConsItem{KeyExpr: e.key(it.KeyExpr, &diags), ValueExpr: e.operand(it.ValueExpr, &diags)}
		}
		if d := twiceIn(c.Items); d != nil {
			diags = append(diags, d)
		}
		return e.finish(&c, diags)
	case *hclsyntax.ConditionalExpr:
		return e.conditional(x)
	case *hclsyntax.FunctionCallExpr:
		return e.call(x)
	case *hclsyntax.BinaryOpExpr:
		return e.binary(x)
	case *hclsyntax.UnaryOpExpr:
		c := *x
		c.Val = e.operand(x.Val, &diags)
		if x.Op == hclsyntax.OpNegate {
			diags = append(diags, e.wantNumber(c.Val)...)
		}
		return e.finish(&c, diags)
	case *hclsyntax.SplatExpr:
		c := *x
		c.Source = e.operand(x.Source, &diags)
		if !plainSplat(x.Each) {
			return cty.DynamicVal, append(diags, problem(x.Each.Range(), "Invalid splat", "After [*] and .* only names and numbers may follow."))
		}
		return e.finish(&c, diags)
	}
	return cty.DynamicVal, hcl.Diagnostics{problem(x.Range(), "Not part of the language",
		"Such an expression is not part of the language. There are no loops; `drydock explain` lists what there is.")}
}

func literalOf(x hclsyntax.Expression) cty.Value { return x.(*hclsyntax.LiteralValueExpr).Val }

// key evaluates the key of an object, where a bare word is a string.
func (e *evaluator) key(x hclsyntax.Expression, diags *hcl.Diagnostics) hclsyntax.Expression {
	if k, ok := x.(*hclsyntax.ObjectConsKeyExpr); ok {
		if word := hcl.ExprAsKeyword(k.Wrapped); word != "" && !k.ForceNonLiteral {
			return literal(cty.StringVal(word), x)
		}
		return e.operand(k.Wrapped, diags)
	}
	return e.operand(x, diags)
}

// twiceIn finds a key that stands twice in one object: HCL would take the last.
func twiceIn(items []hclsyntax.ObjectConsItem) *hcl.Diagnostic {
	seen := make(map[string]bool, len(items))
	for _, it := range items {
		v := literalOf(it.KeyExpr)
		if !v.IsKnown() || v.IsNull() || v.Type() != cty.String {
			continue
		}
		if k := v.AsString(); seen[k] {
			return problem(it.KeyExpr.Range(), "Key written twice", "%q stands twice in this map. Keep one of the two.", k)
		} else {
			seen[k] = true
		}
	}
	return nil
}

func (e *evaluator) template(x *hclsyntax.TemplateExpr) (cty.Value, hcl.Diagnostics) {
	if len(x.Parts) == 1 {
		if lit, ok := x.Parts[0].(*hclsyntax.LiteralValueExpr); ok {
			return lit.Val, nil
		}
	}
	var diags hcl.Diagnostics
	c := *x
	c.Parts = make([]hclsyntax.Expression, len(x.Parts))
	size := 0
	for i, p := range x.Parts {
		c.Parts[i] = e.operand(p, &diags)
		if v := literalOf(c.Parts[i]); v.Type() == cty.String && v.IsKnown() && !v.IsNull() {
			size += len(v.AsString())
		}
		if size > maxString {
			return cty.DynamicVal, append(diags, problem(x.SrcRange, "Value too large", "This string has more than %d bytes.", maxString))
		}
	}
	return e.finish(&c, diags)
}

func (e *evaluator) conditional(x *hclsyntax.ConditionalExpr) (cty.Value, hcl.Diagnostics) {
	var diags, yes, no hcl.Diagnostics
	c := *x
	c.Condition = e.operand(x.Condition, &diags)
	c.TrueResult, c.FalseResult = e.operand(x.TrueResult, &yes), e.operand(x.FalseResult, &no)
	// As in HCL, an error in the branch that is not taken does not matter.
	if v := literalOf(c.Condition); v.IsKnown() && !v.IsNull() && v.Type() == cty.Bool {
		if v.True() {
			no = nil
		} else {
			yes = nil
		}
	}
	return e.finish(&c, append(append(diags, yes...), no...))
}

func (e *evaluator) call(x *hclsyntax.FunctionCallExpr) (cty.Value, hcl.Diagnostics) {
	if x.Name == "credential" {
		return cty.DynamicVal, hcl.Diagnostics{problem(x.Range(), "credential() in the wrong place",
			"credential(name) must be the whole value of an attribute that takes one, such as a header or a url of migrate \"sql\". It stays unread until its step runs, so nothing can be made of it.")}
	}
	if _, ok := e.ctx.Functions[x.Name]; !ok {
		names := append(sortedKeys(e.ctx.Functions), "credential")
		return cty.DynamicVal, hcl.Diagnostics{problem(x.NameRange, "Unknown function",
			"There is no function %q.%s The functions are %s.", x.Name, didYouMean(x.Name, names), strings.Join(names, ", "))}
	}
	var diags hcl.Diagnostics
	c := *x
	c.Args = make([]hclsyntax.Expression, len(x.Args))
	for i, a := range x.Args {
		c.Args[i] = e.operand(a, &diags)
	}
	return e.finish(&c, diags)
}

func (e *evaluator) binary(x *hclsyntax.BinaryOpExpr) (cty.Value, hcl.Diagnostics) {
	var diags, right hcl.Diagnostics
	c := *x
	c.LHS, c.RHS = e.operand(x.LHS, &diags), e.operand(x.RHS, &right)
	switch x.Op {
	case hclsyntax.OpLogicalAnd, hclsyntax.OpLogicalOr:
		// A left side that decides hides an error on the right.
		if v := literalOf(c.LHS); v.IsKnown() && !v.IsNull() && v.Type() == cty.Bool && v.True() == (x.Op == hclsyntax.OpLogicalOr) {
			return v, diags
		}
	case hclsyntax.OpEqual, hclsyntax.OpNotEqual:
	default:
		diags = append(diags, e.wantNumber(c.LHS)...)
		diags = append(diags, e.wantNumber(c.RHS)...)
	}
	return e.finish(&c, append(diags, right...))
}

// wantNumber refuses a string where HCL would read a number out of it: "1e999999999"
// would cost a minute.
func (e *evaluator) wantNumber(x hclsyntax.Expression) hcl.Diagnostics {
	v := literalOf(x)
	if v.Type() == cty.Number || v.Type() == cty.DynamicPseudoType {
		return nil
	}
	return hcl.Diagnostics{problem(x.Range(), "Number needed", "This operator takes numbers, and this is %s.", v.Type().FriendlyNameForConstraint())}
}

// plainSplat reports whether what follows a splat is names and numbers only:
// it is evaluated once per element.
func plainSplat(x hclsyntax.Expression) bool {
	switch x := x.(type) {
	case *hclsyntax.AnonSymbolExpr:
		return true
	case *hclsyntax.RelativeTraversalExpr:
		return oddIndex(x.Traversal) == nil && plainSplat(x.Source)
	case *hclsyntax.SplatExpr:
		return plainSplat(x.Source) && plainSplat(x.Each)
	}
	return false
}

// oddIndex refuses an index that HCL would have to read a number out of.
func oddIndex(t hcl.Traversal) *hcl.Diagnostic {
	for _, step := range t {
		ix, ok := step.(hcl.TraverseIndex)
		if !ok || ix.Key.Type() != cty.String {
			continue
		}
		if s := ix.Key.AsString(); s != "" && strings.Trim(s, "0123456789+-.eEpPxX_") == "" {
			return problem(ix.SrcRange, "Invalid index", "Write a number without quotes, and look up a key of digits with lookup(map, key, default).")
		}
	}
	return nil
}

func (e *evaluator) traversal(x *hclsyntax.ScopeTraversalExpr) (cty.Value, hcl.Diagnostics) {
	if d := oddIndex(x.Traversal); d != nil {
		return cty.DynamicVal, hcl.Diagnostics{d}
	}
	root := x.Traversal.RootName()
	v, ok := e.ctx.Variables[root]
	if !ok {
		if why := e.refused[root]; why != "" {
			return cty.DynamicVal, hcl.Diagnostics{problem(x.SrcRange, "Value not available here", "%s", why)}
		}
		names := sortedKeys(e.ctx.Variables)
		hint := didYouMean(root, names)
		if hint == "" {
			hint = " A string is written in quotes."
		}
		return cty.DynamicVal, hcl.Diagnostics{problem(x.SrcRange, "Unknown name",
			"There is no %q here.%s The names are %s.", root, hint, strings.Join(names, ", "))}
	}
	if len(x.Traversal) > 1 && v.Type().IsObjectType() {
		if at, ok := x.Traversal[1].(hcl.TraverseAttr); ok && !v.Type().HasAttribute(at.Name) {
			*e.work += len(v.Type().AttributeTypes()) * elementOverhead // to sort, and to look for the nearest
			names := sortedKeys(v.Type().AttributeTypes())
			return cty.DynamicVal, hcl.Diagnostics{problem(at.SrcRange, "Unknown name",
				"There is no %s.%s.%s%s", root, at.Name, didYouMean(at.Name, names), listed(root, names))}
		}
	}
	got, diags := x.Traversal.TraverseAbs(e.ctx)
	for _, d := range diags {
		if root == "host" && d.Summary == "Missing map element" {
			d.Detail += " Give the host that label, or say what holds without it: lookup(host.labels, name, value)."
		}
	}
	return got, plain(diags)
}

func listed(root string, names []string) string {
	if len(names) == 0 {
		return " No " + root + " is declared."
	}
	if len(names) > 20 {
		return ""
	}
	return " " + root + " has " + strings.Join(names, ", ") + "."
}
