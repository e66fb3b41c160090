package spec

import (
	"encoding/json"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

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

// Credentials are the names of the credentials that a block's attributes are,
// sorted.
func (b Block) Credentials() []string {
	s := language().block("service").block(b.Type)
	if s != nil && s.drivers != nil {
		s = s.driver(b.Driver)
	}
	if s == nil {
		return nil // a block of a later version, out of a journal
	}
	var config map[string]json.RawMessage
	if json.Unmarshal(b.Config, &config) != nil {
		return nil
	}
	names := map[string]bool{}
	for _, a := range s.attrs {
		texts := map[string]Text{}
		switch a.kind {
		case kindText:
			var t Text
			_ = json.Unmarshal(config[a.name], &t)
			texts[""] = t
		case kindTexts:
			_ = json.Unmarshal(config[a.name], &texts)
		}
		for _, t := range texts {
			if t.Credential != "" {
				names[t.Credential] = true
			}
		}
	}
	return sortedKeys(names)
}

// Credentials are the names of the credentials among the headers, sorted.
func (a Artifact) Credentials() []string {
	names := map[string]bool{}
	for _, t := range a.Headers {
		if t.Credential != "" {
			names[t.Credential] = true
		}
	}
	return sortedKeys(names)
}
