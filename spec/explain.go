package spec

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// Reference is one entry of the language's reference, read off the schema.
type Reference struct {
	Path       string               `json:"path"` // "service.drain.file"; "" for the whole language
	Doc        string               `json:"doc"`
	Labels     []string             `json:"labels,omitempty"` // names of the labels; an optional one in brackets
	Repeats    bool                 `json:"repeats,omitempty"`
	Built      bool                 `json:"built"` // false: parsed and checked, but not carried out by this build
	Attributes []AttributeReference `json:"attributes,omitempty"`
	Blocks     []BlockReference     `json:"blocks,omitempty"` // nested blocks, or a block's drivers
	Functions  []string             `json:"functions,omitempty"`
}

// BlockReference is one line that leads to another entry.
type BlockReference struct {
	Path  string `json:"path"`
	Doc   string `json:"doc"`
	Built bool   `json:"built"`
}

// AttributeReference is one attribute of a block.
type AttributeReference struct {
	Name     string   `json:"name"`
	Type     string   `json:"type"`
	Form     string   `json:"form,omitempty"`
	Required bool     `json:"required,omitempty"`
	Default  string   `json:"default,omitempty"` // as JSON
	Words    []string `json:"words,omitempty"`   // the only values
	Doc      string   `json:"doc"`
}

// Look finds an entry of the reference: "" is the overview, "service.rollout" a
// block, "service.drain.file" a driver, "service.rollout.canary" an attribute;
// "hostagent.hcl" is the host's own file, "hostagent.hcl.source" a block of it.
func Look(path string) (Reference, error) {
	s := language()
	at, whole := "", path
	if rest, ok := strings.CutPrefix(path, hostFile); ok && (rest == "" || rest[0] == '.') {
		s, at = hostSchema(), hostFile+"."
		if rest == "" {
			return reference(path, s), nil
		}
		path = rest[1:]
	}
	if path == "" {
		r := reference("", s)
		r.Functions = append(sortedKeys(functions()), "credential")
		return r, nil
	}
	for _, word := range strings.Split(path, ".") {
		if sub := s.block(word); sub != nil {
			s = sub
		} else if sub := s.driver(word); sub != nil {
			s = sub
		} else if a := s.attr(word); a != nil && at+word == whole {
			r := Reference{Path: at + word, Doc: a.doc, Built: !s.unbuilt}
			r.Attributes = []AttributeReference{attributeReference(a)}
			return r, nil
		} else {
			words := append(s.words(), s.driverNames()...)
			where := strings.TrimSuffix(at, ".")
			if where == "" {
				where = "the language"
			}
			return Reference{}, fmt.Errorf("%s has no %q.%s It has %s", where, word, didYouMean(word, words), strings.Join(words, ", "))
		}
		at += word + "."
	}
	return reference(strings.TrimSuffix(at, "."), s), nil
}

func reference(path string, s *schema) Reference {
	r := Reference{Path: path, Doc: s.doc, Repeats: s.many, Built: !s.unbuilt}
	for _, l := range s.labels {
		if l.optional {
			r.Labels = append(r.Labels, "["+l.name+"]")
		} else {
			r.Labels = append(r.Labels, l.name)
		}
	}
	for i := range s.attrs {
		r.Attributes = append(r.Attributes, attributeReference(&s.attrs[i]))
	}
	prefix := path
	if prefix != "" {
		prefix += "."
	}
	for _, b := range append(append([]*schema(nil), s.blocks...), s.drivers...) {
		r.Blocks = append(r.Blocks, BlockReference{prefix + b.typ, b.doc, !b.unbuilt})
	}
	return r
}

func attributeReference(a *attribute) AttributeReference {
	r := AttributeReference{Name: a.name, Type: a.kind.String(), Required: a.required, Words: a.words, Doc: a.doc}
	if a.form != nil {
		r.Form = a.form.says
	}
	if a.def != nil {
		j, _ := json.Marshal(a.def) // strings, numbers and maps of them
		r.Default = string(j)
	}
	return r
}

// Explain writes an entry of the reference as text.
func Explain(w io.Writer, path string) error {
	r, err := Look(path)
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, r.String())
	return err
}

// String is the entry as text, for a terminal.
func (r Reference) String() string {
	var b strings.Builder
	name := r.Path
	if name == "" {
		name = "drydock"
	}
	b.WriteString(name)
	for _, l := range r.Labels {
		b.WriteString(" <" + l + ">")
	}
	if r.Repeats {
		b.WriteString("   any number")
	}
	b.WriteString(notBuilt(r.Built) + "\n\n" + wrapped(r.Doc, "    ") + "\n")
	if len(r.Attributes) > 0 {
		b.WriteString("\nattributes\n")
	}
	for _, a := range r.Attributes {
		b.WriteString("  " + a.line() + "\n" + wrapped(a.Doc, "      ") + "\n")
	}
	if len(r.Blocks) > 0 {
		b.WriteString("\nblocks\n")
	}
	for _, s := range r.Blocks {
		b.WriteString("  " + s.Path + notBuilt(s.Built) + "\n" + wrapped(s.Doc, "      ") + "\n")
	}
	if len(r.Functions) > 0 {
		b.WriteString("\nfunctions\n" + wrapped(strings.Join(r.Functions, ", "), "  ") + "\n" +
			"\nvalues\n  host.name, host.os, host.arch, host.labels, release.version, release.digest,\n  service.name, environment, local.<name>\n" +
			"\na host's own file\n  drydock explain hostagent.hcl\n")
	}
	return b.String()
}

func notBuilt(built bool) string {
	if built {
		return ""
	}
	return "   (not built yet)"
}

func (a AttributeReference) line() string {
	parts := []string{a.Name, "-", a.Type}
	if a.Form != "" {
		parts = append(parts, "("+a.Form+")")
	}
	if len(a.Words) > 0 {
		parts = append(parts, "["+strings.Join(a.Words, ", ")+"]")
	}
	switch {
	case a.Required:
		parts = append(parts, "- required")
	case a.Default != "":
		parts = append(parts, "- default "+a.Default)
	}
	return strings.Join(parts, " ")
}

// wrapped breaks text at 78 columns.
func wrapped(s, indent string) string {
	var b strings.Builder
	col := 0
	for _, w := range strings.Fields(s) {
		switch {
		case col == 0:
			b.WriteString(indent)
			col = len(indent)
		case col+1+len(w) > 78:
			b.WriteString("\n" + indent)
			col = len(indent)
		default:
			b.WriteByte(' ')
			col++
		}
		b.WriteString(w)
		col += len(w)
	}
	return b.String()
}
