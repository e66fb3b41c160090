package hostagent

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/gocty"

	"drydock/spec"
)

// configDecoder reads the host's file strictly: what it does not know is an
// error at its place, and it goes on to find all of them.
type configDecoder struct {
	path        string
	config      *Config
	credentials string // the attribute
	places      trustPlaces
	diags       hcl.Diagnostics
}

func (d *configDecoder) problem(at hcl.Range, summary, format string, args ...any) {
	d.diags = append(d.diags, &hcl.Diagnostic{Severity: hcl.DiagError, Summary: summary, Detail: fmt.Sprintf(format, args...), Subject: &at})
}

// body decodes one body; in names the block it belongs to, "" the file.
func (d *configDecoder) body(s *configSection, b *hclsyntax.Body, in string) {
	where := "in this file"
	if in != "" {
		where = "in " + in
	}
	for _, name := range slices.Sorted(maps.Keys(b.Attributes)) {
		a := b.Attributes[name]
		if set := s.attrs[name]; set != nil {
			set(a)
		} else {
			d.problem(a.NameRange, "Unknown attribute", "There is no attribute %q %s.%s", name, where, spec.DidYouMean(name, s.words()))
		}
	}
	seen := map[string]bool{}
	for _, block := range b.Blocks {
		known, ok := s.blocks[block.Type]
		switch {
		case !ok:
			d.problem(block.TypeRange, "Unknown block", "There is no block %q %s.%s", block.Type, where, spec.DidYouMean(block.Type, s.words()))
			continue
		case seen[block.Type] && !known.many:
			d.problem(block.DefRange(), "Written twice", "There may be one %s block only.", block.Type)
			continue
		case len(block.Labels) != known.labels:
			d.problem(block.DefRange(), "Wrong labels", "A %s block has %s.", block.Type, labelsOf(known.labels))
		default:
			if inner := known.section(block.Labels, block.DefRange()); inner != nil {
				d.body(inner, block.Body, block.Type)
			}
		}
		seen[block.Type] = true
	}
	d.missing(s, b, seen)
}

func labelsOf(n int) string {
	switch n {
	case 0:
		return "no label"
	case 1:
		return "one label, its name in quotes"
	}
	return fmt.Sprintf("%d labels", n)
}

func (d *configDecoder) missing(s *configSection, b *hclsyntax.Body, seen map[string]bool) {
	for _, name := range s.required {
		if b.Attributes[name] == nil {
			d.problem(b.MissingItemRange(), "Missing attribute", "The attribute %q must be written here.", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.blocks)) {
		if s.blocks[name].required && !seen[name] {
			d.problem(b.MissingItemRange(), "Missing block", "A %s block must be written.", name)
		}
	}
}

func (s *configSection) words() []string {
	return append(slices.Sorted(maps.Keys(s.attrs)), slices.Sorted(maps.Keys(s.blocks))...)
}

// value is an attribute's value. The host's file has no variables and no
// functions, but for credential in token.
func (d *configDecoder) value(a *hclsyntax.Attribute) (cty.Value, bool) {
	v, diags := a.Expr.Value(nil)
	d.diags = append(d.diags, diags...)
	if !diags.HasErrors() && (v.IsNull() || !v.IsWhollyKnown()) {
		d.problem(a.Expr.Range(), "No value", "%s has no value.", a.Name)
		return v, false
	}
	return v, !diags.HasErrors()
}

func (d *configDecoder) str(a *hclsyntax.Attribute) (string, bool) {
	v, ok := d.value(a)
	if ok && v.Type() != cty.String {
		d.problem(a.Expr.Range(), "Not a string", "%s is a string in quotes.", a.Name)
		return "", false
	}
	if !ok {
		return "", false
	}
	return v.AsString(), true
}

func (d *configDecoder) strings(a *hclsyntax.Attribute) (list []string, ok bool) {
	v, ok := d.value(a)
	if !ok {
		return nil, false
	}
	if !v.Type().IsTupleType() {
		d.problem(a.Expr.Range(), "Not a list", "%s is a list of strings.", a.Name)
		return nil, false
	}
	for _, e := range v.AsValueSlice() {
		if e.IsNull() || e.Type() != cty.String {
			d.problem(a.Expr.Range(), "Not a string", "%s is a list of strings.", a.Name)
			return nil, false
		}
		list = append(list, e.AsString())
	}
	return list, true
}

func (d *configDecoder) matching(into *string, pattern word, what string) func(*hclsyntax.Attribute) {
	return func(a *hclsyntax.Attribute) {
		s, ok := d.str(a)
		if !ok {
			return
		}
		if !pattern.MatchString(s) {
			d.problem(a.Expr.Range(), "Not a name", "%q cannot be %s; it must match %s.", s, what, pattern)
			return
		}
		*into = s
	}
}

// absolute takes an absolute path, because an agent has no directory of its own
// that people would think of.
func (d *configDecoder) absolute(into *string) func(*hclsyntax.Attribute) {
	return func(a *hclsyntax.Attribute) {
		s, ok := d.str(a)
		if !ok {
			return
		}
		if !filepath.IsAbs(s) {
			d.problem(a.Expr.Range(), "Not an absolute path", "%s = %q must begin with /.", a.Name, s)
			return
		}
		*into = filepath.Clean(s)
	}
}

func (d *configDecoder) parallel(a *hclsyntax.Attribute) {
	v, ok := d.value(a)
	if !ok {
		return
	}
	var n int
	if v.Type() != cty.Number || gocty.FromCtyValue(v, &n) != nil || n < 1 || n > maxParallel {
		d.problem(a.Expr.Range(), "Not a count", "parallel is a whole number from 1 to %d.", maxParallel)
		return
	}
	d.config.Parallel = n
}

func (d *configDecoder) labels(a *hclsyntax.Attribute) {
	v, ok := d.value(a)
	if !ok {
		return
	}
	if !v.Type().IsObjectType() {
		d.problem(a.Expr.Range(), "Not labels", `labels are written as { role = "web" }.`)
		return
	}
	labels := map[string]string{}
	for name, e := range v.AsValueMap() {
		if !labelName.MatchString(name) || e.IsNull() || e.Type() != cty.String || len(e.AsString()) > 253 {
			d.problem(a.Expr.Range(), "Not a label", "The label %q must be a name with a string of at most 253 bytes.", name)
			return
		}
		labels[name] = e.AsString()
	}
	d.config.Host.Labels = labels
}

func (d *configDecoder) token(a *hclsyntax.Attribute) {
	call, ok := a.Expr.(*hclsyntax.FunctionCallExpr)
	if !ok || call.Name != "credential" || len(call.Args) != 1 {
		d.problem(a.Expr.Range(), "Not a credential", `token is written as credential("name"), so that no secret stands in this file.`)
		return
	}
	v, diags := call.Args[0].Value(nil)
	if diags.HasErrors() || v.IsNull() || v.Type() != cty.String || !credentialName.MatchString(v.AsString()) {
		d.problem(a.Expr.Range(), "Not a credential", "A credential's name must match %s.", credentialName)
		return
	}
	d.config.Source.Token = spec.Text{Credential: v.AsString()}
}
