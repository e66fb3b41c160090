package spec

import (
	"strings"
	"testing"
)

// Every block and attribute has a description, and explain finds each.
func TestExplainCoversTheLanguage(t *testing.T) {
	seen := 0
	var walk func(path string, s *schema)
	walk = func(path string, s *schema) {
		r, err := Look(path)
		if err != nil || strings.TrimSpace(s.doc) == "" || r.Doc != s.doc {
			t.Errorf("%q: doc %q, error %v", path, s.doc, err)
		}
		prefix := path
		if prefix != "" {
			prefix += "."
		}
		for i := range s.attrs {
			a := &s.attrs[i]
			seen++
			one, err := Look(prefix + a.name)
			if err != nil || len(a.doc) < 5 || !strings.HasSuffix(a.doc, ".") || len(one.Attributes) != 1 {
				t.Errorf("%s%s: doc %q, error %v", prefix, a.name, a.doc, err)
			}
			if a.required && a.def != nil {
				t.Errorf("%s%s is required and has a default", prefix, a.name)
			}
			if !strings.Contains(r.String(), a.doc[:5]) {
				t.Errorf("%s does not show %s", path, a.name)
			}
		}
		for _, sub := range append(append([]*schema(nil), s.blocks...), s.drivers...) {
			walk(prefix+sub.typ, sub)
		}
	}
	walk("", language())
	if seen < 100 {
		t.Errorf("only %d attributes", seen)
	}
	_, err := Look("service.rolout")
	if err == nil || !strings.Contains(err.Error(), `Did you mean "rollout"?`) {
		t.Error(err)
	}
}

// Every default passes its own row's rules.
func TestDefaultsAreValid(t *testing.T) {
	var walk func(s *schema)
	walk = func(s *schema) {
		for i := range s.attrs {
			a := &s.attrs[i]
			if text, ok := a.def.(string); ok && a.kind == kindString && a.check(text) != "" {
				t.Errorf("%s.%s: %s", s.typ, a.name, a.check(text))
			}
			if text, ok := a.def.(string); ok && a.kind == kindDuration {
				d := &decoder{}
				if got := d.duration(a, text, place0("x")); got != text {
					t.Errorf("%s.%s: default %q, canonical %v %v", s.typ, a.name, text, got, d.diags)
				}
			}
		}
		for _, sub := range append(append([]*schema(nil), s.blocks...), s.drivers...) {
			walk(sub)
		}
	}
	walk(language())
}
