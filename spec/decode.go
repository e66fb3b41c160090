package spec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

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

// account holds a service's values to their limit.
func (d *decoder) account(v cty.Value, at hcl.Range) {
	n, _ := sizeOf(v, maxValue, maxValueDepth)
	before := d.size
	if d.size += n; d.size > maxValue && before <= maxValue {
		d.fail(at, "Service too large", "The values of this service have more than %d bytes together.", maxValue)
	}
}

func (d *decoder) wrong(a *attribute, v cty.Value, at hcl.Range, hint string) any {
	what := v.Type().FriendlyName()
	if hint != "" {
		hint = ": " + hint
	}
	d.fail(at, "Wrong type", "%s takes a %s, and this is a %s%s.", a.name, a.kind, what, hint)
	return nil
}

func quoteHint(v cty.Value) string {
	if !v.IsKnown() {
		return ""
	}
	switch v.Type() {
	case cty.Number:
		return `write it in quotes, because a number loses its zeros (1.10 is 1.1)`
	case cty.Bool:
		return `write it in quotes`
	}
	return ""
}

func (d *decoder) scalar(a *attribute, v cty.Value, at hcl.Range) any {
	if v.Type() == cty.DynamicPseudoType && !v.IsKnown() {
		return KnownOnHost
	}
	if v.Type() != cty.String {
		if a.kind == kindDuration && v.Type() == cty.Number {
			return d.wrong(a, v, at, `write it with its unit: "30s"`)
		}
		return d.wrong(a, v, at, quoteHint(v))
	}
	if !v.IsKnown() {
		return KnownOnHost
	}
	s := v.AsString()
	switch a.kind {
	case kindDuration:
		return d.duration(a, s, at)
	case kindTime:
		t, err := time.Parse(time.RFC3339, s)
		if err != nil {
			d.fail(at, "Not a time", `%s takes a time such as "2026-11-22T10:00:00Z"; %q is not one.`, a.name, s)
			return nil
		}
		return t.UTC().Format(time.RFC3339Nano)
	}
	if why := a.check(s); why != "" {
		if !strings.HasSuffix(why, "?") {
			why += "."
		}
		d.fail(at, "Invalid "+a.name, "%s: %s", a.name, why)
		return nil
	}
	return s
}

// check applies the row's words and form to one string.
func (a *attribute) check(s string) string {
	if a.words != nil && !slices.Contains(a.words, s) {
		return strings.TrimSuffix(fmt.Sprintf("%q is none of %s.%s", s, strings.Join(a.words, ", "), didYouMean(s, a.words)), ".")
	}
	if a.form != nil {
		return a.form.ok(s)
	}
	if strings.ContainsRune(s, 0) {
		return "a NUL cannot stand here"
	}
	return ""
}

func (d *decoder) duration(a *attribute, s string, at hcl.Range) any {
	t, err := time.ParseDuration(s)
	if err != nil {
		d.fail(at, "Not a duration", `%s takes a duration such as "90s", "10m" or "1h30m"; %q is not one.`, a.name, s)
		return nil
	}
	if t < 0 || int64(t) > maxDuration || int64(t) < a.lowest {
		d.fail(at, "Duration out of range", "%s may be from %s to 720h; %q is not.", a.name, time.Duration(a.lowest), s)
		return nil
	}
	return t.String()
}

func (d *decoder) int(a *attribute, v cty.Value, at hcl.Range) any {
	if v.Type() != cty.Number {
		return d.wrong(a, v, at, "write a number, without quotes")
	}
	n, exact := v.AsBigFloat().Int64()
	if exact != 0 || !v.AsBigFloat().IsInt() {
		d.fail(at, "Whole number needed", "%s takes a whole number.", a.name)
		return nil
	}
	if n < a.lowest || a.highest != 0 && n > a.highest {
		d.fail(at, "Number out of range", "%s may be from %d to %d; %d is not.", a.name, a.lowest, a.highest, n)
		return nil
	}
	return n
}

func (d *decoder) share(a *attribute, v cty.Value, at hcl.Range) any {
	bad := func() any {
		d.fail(at, "Invalid "+a.name, `%s takes a number of hosts from 1, or a share from "1%%" to "100%%".`, a.name)
		return nil
	}
	switch {
	case v.Type() == cty.Number && v.IsKnown():
		n, exact := v.AsBigFloat().Int64()
		if exact != 0 || !v.AsBigFloat().IsInt() || n < 1 || n > 1_000_000 {
			return bad()
		}
		return strconv.FormatInt(n, 10)
	case v.Type() == cty.String && v.IsKnown():
		s, percent := strings.CutSuffix(v.AsString(), "%")
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || percent && n > 100 || n > 1_000_000 || s != strconv.Itoa(n) {
			return bad()
		}
		return v.AsString()
	}
	return bad()
}

func (d *decoder) list(a *attribute, v cty.Value, at hcl.Range) any {
	if !v.IsKnown() && (isSequence(v.Type()) || v.Type() == cty.DynamicPseudoType) {
		return KnownOnHost
	}
	if !isSequence(v.Type()) {
		return d.wrong(a, v, at, `write a list, ["…", "…"]`)
	}
	out := []any{}
	seen := map[string]bool{}
	for it := v.ElementIterator(); it.Next(); {
		_, el := it.Element()
		if el.IsNull() {
			d.fail(at, "Null in a list", "An element of %s is null.", a.name)
			return nil
		}
		s := d.scalar(&attribute{name: a.name, words: a.words, form: a.form}, el, at)
		if s == nil {
			return nil
		}
		if text := s.(string); a.kind == kindStrings && seen[text] && text != KnownOnHost {
			d.fail(at, "Written twice", "%q stands twice in %s. Keep one of the two.", text, a.name)
			return nil
		} else {
			seen[text] = true
		}
		out = append(out, s)
	}
	if a.kind == kindArgv && (len(out) == 0 || out[0] == "") {
		d.fail(at, "Empty command", `%s names no program: write it as a list, ["program", "argument"].`, a.name)
		return nil
	}
	return out
}

func (d *decoder) mapping(a *attribute, v cty.Value, at hcl.Range) any {
	if !v.IsKnown() && (isMapping(v.Type()) || v.Type() == cty.DynamicPseudoType) {
		return KnownOnHost
	}
	if !isMapping(v.Type()) {
		return d.wrong(a, v, at, "write a map: { name = \"…\" }")
	}
	out := map[string]any{}
	for it := v.ElementIterator(); it.Next(); {
		k, el := it.Element()
		if el.IsNull() {
			continue
		}
		if !d.mapKey(a, k.AsString(), at) {
			return nil
		}
		s := d.scalar(&attribute{name: a.name, form: a.form}, el, at)
		if s == nil {
			return nil
		}
		out[k.AsString()] = s
	}
	if a.kind == kindDigests && len(out) == 0 {
		d.fail(at, "No digest", "%s names no platform.", a.name)
		return nil
	}
	return out
}

func (d *decoder) mapKey(a *attribute, k string, at hcl.Range) bool {
	switch {
	case k == "" || strings.ContainsAny(k, "=\x00\r\n"):
		d.fail(at, "Invalid name", "%q cannot be a name in %s.", k, a.name)
	case a.kind == kindDigests && !platformPattern.MatchString(k):
		d.fail(at, "Invalid platform", `A platform is written "linux/amd64"; %q is not one.`, k)
	case a.kind == kindTexts && strings.ContainsAny(k, " :\t"):
		d.fail(at, "Invalid header", "%q cannot be the name of a header.", k)
	default:
		return true
	}
	return false
}

func (d *decoder) expect(a *attribute, v cty.Value, at hcl.Range) any {
	if !isMapping(v.Type()) || !v.IsKnown() {
		return d.wrong(a, v, at, "write { status = 200, body = release.version }")
	}
	out := map[string]any{"status": int64(200)}
	for it := v.ElementIterator(); it.Next(); {
		k, el := it.Element()
		if el.IsNull() {
			continue
		}
		var got any
		switch k.AsString() {
		case "status":
			if !el.IsKnown() {
				got = KnownOnHost
			} else {
				got = d.int(&attribute{name: "status", kind: kindInt, lowest: 100, highest: 599}, el, at)
			}
		case "body":
			got = d.scalar(&attribute{name: "body", form: notEmpty()}, el, at)
		default:
			d.fail(at, "Unknown name", "expect has no %q.%s Valid here: status, body.", k.AsString(), didYouMean(k.AsString(), []string{"status", "body"}))
		}
		if got == nil {
			return nil
		}
		out[k.AsString()] = got
	}
	return out
}

func (d *decoder) labels(a *attribute, v cty.Value, at hcl.Range) any {
	if !isMapping(v.Type()) || !v.IsKnown() {
		return d.wrong(a, v, at, `write { role = "web", zone = ["a", "b"] }, or {} for every host`)
	}
	out := map[string]any{}
	for it := v.ElementIterator(); it.Next(); {
		k, el := it.Element()
		if el.IsNull() {
			d.fail(at, "Null in a map", "The label %q of %s is null. Leave it out, if any value will do.", k.AsString(), a.name)
			return nil
		}
		if k.AsString() == "" {
			d.fail(at, "Invalid label", "A label has a name.")
			return nil
		}
		var one any
		if isSequence(el.Type()) {
			one = d.list(&attribute{name: a.name, kind: kindStrings}, el, at)
		} else if s := d.scalar(&attribute{name: a.name}, el, at); s != nil {
			one = []any{s}
		}
		values, ok := one.([]any)
		if !ok {
			return nil
		}
		if len(values) == 0 {
			d.fail(at, "No host can match", "The label %q may have none of no values. Leave it out, if any value will do.", k.AsString())
			return nil
		}
		sortAny(values)
		out[k.AsString()] = values
	}
	return out
}

func sortAny(values []any) {
	slices.SortFunc(values, func(a, b any) int { return strings.Compare(a.(string), b.(string)) })
}

// credentialCall is the credential(...) that is the whole of x, or nil.
func credentialCall(x hclsyntax.Expression) *hclsyntax.FunctionCallExpr {
	for {
		switch y := x.(type) {
		case *jsonString:
			x = y.Expression
		case *hclsyntax.TemplateWrapExpr:
			x = y.Wrapped
		case *hclsyntax.ParenthesesExpr:
			x = y.Expression
		case *hclsyntax.FunctionCallExpr:
			if y.Name == "credential" {
				return y
			}
			return nil
		default:
			return nil
		}
	}
}

func (d *decoder) credential(c *hclsyntax.FunctionCallExpr, ev *evaluator) any {
	if len(c.Args) != 1 || c.ExpandFinal {
		d.fail(c.Range(), "Invalid credential", `credential takes one name: credential("web-token").`)
		return nil
	}
	v, diags := ev.eval(c.Args[0])
	d.diags = append(d.diags, diags...)
	if diags.HasErrors() {
		return nil
	}
	if v.IsNull() || v.Type() != cty.String {
		d.fail(c.Args[0].Range(), "Invalid credential", `credential takes a name: credential("web-token").`)
		return nil
	}
	if !v.IsKnown() && !d.known {
		return map[string]any{"credential": KnownOnHost}
	}
	if !v.IsKnown() || !credentialPattern.MatchString(v.AsString()) {
		d.fail(c.Args[0].Range(), "Invalid credential", "A credential's name is a file's name of letters, digits and . _ -, and this is none.")
		return nil
	}
	return map[string]any{"credential": v.AsString()}
}

// texts decodes a map whose values may be credentials.
func (d *decoder) texts(a *attribute, o *hclsyntax.ObjectConsExpr, ev *evaluator) any {
	out := map[string]any{}
	for _, it := range o.Items {
		var diags hcl.Diagnostics
		k := literalOf(ev.key(it.KeyExpr, &diags))
		d.diags = append(d.diags, diags...)
		if diags.HasErrors() {
			return nil
		}
		at := it.KeyExpr.Range()
		if !k.IsKnown() || k.IsNull() || k.Type() != cty.String {
			d.fail(at, "Invalid name", "The names in %s are strings that do not depend on the host.", a.name)
			return nil
		}
		name := k.AsString()
		if _, twice := out[name]; twice {
			d.fail(at, "Key written twice", "%q stands twice in %s. Keep one of the two.", name, a.name)
			return nil
		}
		if !d.mapKey(a, name, at) {
			return nil
		}
		val := d.convert(&attribute{name: a.name, kind: kindText}, &attrNode{name: name, expr: it.ValueExpr, rng: at, nameRng: at}, ev)
		if val == nil {
			if d.diags.HasErrors() {
				return nil
			}
			continue
		}
		out[name] = val
	}
	return out
}
