package spec

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// FreezeFile is where the commands write an environment's freezes:
// <environment>/freeze.hcl, or freeze.hcl at the root for every environment.
const FreezeFile = "freeze.hcl"

// AddFreeze appends a freeze block to a file of the native syntax; src may be
// empty. One that says the same already is not added again.
func AddFreeze(src []byte, filename string, f Freeze) ([]byte, error) {
	have, err := FreezesIn(src, filename)
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(have, f.same) {
		return src, nil
	}
	var lines []string
	if len(f.Services) > 0 {
		var names []string
		for _, s := range f.Services {
			if !namePattern.MatchString(s) {
				return nil, fmt.Errorf("%q is no service's name", s)
			}
			names = append(names, strconv.Quote(s))
		}
		lines = append(lines, fmt.Sprintf("  services = [%s]", strings.Join(names, ", ")))
	}
	pad := func(name string) string {
		if len(f.Services) > 0 {
			return fmt.Sprintf("  %-8s = ", name)
		}
		if !f.From.IsZero() && !f.Until.IsZero() {
			return fmt.Sprintf("  %-5s = ", name)
		}
		return "  " + name + " = "
	}
	if !f.From.IsZero() {
		lines = append(lines, pad("from")+strconv.Quote(f.From.Format(time.RFC3339)))
	}
	if !f.Until.IsZero() {
		lines = append(lines, pad("until")+strconv.Quote(f.Until.Format(time.RFC3339)))
	}
	nl := "\n"
	if bytes.Contains(src, []byte("\r\n")) {
		nl = "\r\n"
	}
	out := bytes.Clone(src)
	if len(out) > 0 {
		if !bytes.HasSuffix(out, []byte("\n")) {
			out = append(out, nl...)
		}
		out = append(out, nl...)
	}
	block := "freeze " + quoteHCL(f.Reason) + " {}" + nl
	if len(lines) > 0 {
		block = "freeze " + quoteHCL(f.Reason) + " {" + nl + strings.Join(lines, nl) + nl + "}" + nl
	}
	out = append(out, block...)
	after, err := FreezesIn(out, filename)
	if err != nil {
		return nil, err
	}
	if len(after) != len(have)+1 || !after[len(after)-1].same(f) {
		return nil, fmt.Errorf("%s: the freeze would not read back as it was meant, so nothing was changed: write it by hand", filename)
	}
	return out, nil
}

// quoteHCL is a quoted string that no template hides in.
func quoteHCL(s string) string {
	s = strings.NewReplacer("\\", "\\\\", "\"", "\\\"", "\n", " ", "\r", " ", "\t", " ", "${", "$${", "%{", "%%{").Replace(s)
	return `"` + s + `"`
}

// RemoveFreeze takes out the freeze blocks that match, with their lines; a
// comment above stays. It answers what it took out.
func RemoveFreeze(src []byte, filename string, match func(Freeze) bool) ([]byte, []Freeze, error) {
	freezes, blocks, err := freezeBlocks(src, filename)
	if err != nil {
		return nil, nil, err
	}
	var edits []edit
	var gone []Freeze
	for i, f := range freezes {
		if !match(f) {
			continue
		}
		gone = append(gone, f)
		r := blocks[i].Range()
		from, to := r.Start.Byte, blocks[i].CloseBraceRange.End.Byte
		if nl := bytes.IndexByte(src[to:], '\n'); nl >= 0 && len(bytes.TrimSpace(src[to:to+nl])) == 0 {
			to += nl + 1
		}
		// The empty line before a block goes with it, or that after the first one.
		switch {
		case bytes.HasSuffix(src[:from], []byte("\n\n")):
			from--
		case bytes.HasSuffix(src[:from], []byte("\r\n\r\n")):
			from -= 2
		case from == 0:
			to += len(src[to:]) - len(bytes.TrimLeft(src[to:], "\r\n"))
		}
		if n := len(edits); n > 0 { // two in a row share the empty line between them
			from = max(from, edits[n-1].to)
		}
		edits = append(edits, edit{from, to, ""})
	}
	out := splice(src, edits)
	after, err := FreezesIn(out, filename)
	if err != nil || len(after) != len(freezes)-len(gone) {
		return nil, nil, fmt.Errorf("%s: the freeze could not be cut out cleanly, so nothing was changed: delete it by hand", filename)
	}
	return out, gone, nil
}

// FreezesIn reads the freeze blocks of one file of the native syntax.
func FreezesIn(src []byte, filename string) ([]Freeze, error) {
	f, _, err := freezeBlocks(src, filename)
	return f, err
}

func freezeBlocks(src []byte, filename string) ([]Freeze, []*hclsyntax.Block, error) {
	if isJSON(filename) {
		return nil, nil, nil
	}
	f, diags := parseForEdit(src, filename)
	if diags.HasErrors() {
		return nil, nil, diags
	}
	body, _ := f.Body.(*hclsyntax.Body)
	var out []Freeze
	var blocks []*hclsyntax.Block
	for _, b := range body.Blocks {
		if b.Type != "freeze" || len(b.Labels) != 1 {
			continue
		}
		fr := Freeze{Reason: b.Labels[0], Origin: Origin{Range: b.DefRange()}}
		if a := b.Body.Attributes["services"]; a != nil {
			list, _ := hcl.ExprList(a.Expr)
			for _, e := range list {
				if v, diags := releaseLiteral(e); !diags.HasErrors() {
					fr.Services = append(fr.Services, v)
				}
			}
		}
		at := func(name string) (t time.Time) {
			if a := b.Body.Attributes[name]; a != nil {
				v, _ := releaseLiteral(a.Expr)
				t, _ = time.Parse(time.RFC3339, v)
			}
			return t
		}
		fr.From, fr.Until = at("from"), at("until")
		out, blocks = append(out, fr), append(blocks, b)
	}
	return out, blocks, nil
}
