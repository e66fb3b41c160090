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

// notice is what freeze and override blocks have in common for the commands that
// write them: a reason for a label, and plain values. T is what one says.
type notice[T any] struct {
	typ  string
	read func(reason string, b *hclsyntax.Block) T
	same func(a, b T) bool
}

// add appends a block to a file of the native syntax; src may be empty. One that
// says the same already is not added again.
func (n notice[T]) add(src []byte, filename, reason string, v T, rows [][2]string) ([]byte, error) {
	have, _, err := n.in(src, filename)
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(have, func(h T) bool { return n.same(h, v) }) {
		return src, nil
	}
	out := appendBlock(src, n.typ, reason, rows)
	after, _, err := n.in(out, filename)
	if err != nil {
		return nil, err
	}
	if len(after) != len(have)+1 || !n.same(after[len(after)-1], v) {
		return nil, fmt.Errorf("%s: the %s would not read back as it was meant, so nothing was changed: write it by hand", filename, n.typ)
	}
	return out, nil
}

// remove takes out the blocks that match, with their lines; a comment above
// stays. It answers what it took out.
func (n notice[T]) remove(src []byte, filename string, match func(T) bool) ([]byte, []T, error) {
	all, blocks, err := n.in(src, filename)
	if err != nil {
		return nil, nil, err
	}
	var gone []T
	var cut []*hclsyntax.Block
	for i, v := range all {
		if match(v) {
			gone, cut = append(gone, v), append(cut, blocks[i])
		}
	}
	out := cutBlocks(src, cut)
	after, _, err := n.in(out, filename)
	if err != nil || len(after) != len(all)-len(gone) {
		return nil, nil, fmt.Errorf("%s: the %s could not be cut out cleanly, so nothing was changed: delete it by hand", filename, n.typ)
	}
	return out, gone, nil
}

// in reads the blocks of one file of the native syntax; JSON's are left alone.
func (n notice[T]) in(src []byte, filename string) (all []T, blocks []*hclsyntax.Block, err error) {
	if isJSON(filename) {
		return nil, nil, nil
	}
	f, diags := parseForEdit(src, filename)
	if diags.HasErrors() {
		return nil, nil, diags
	}
	body, _ := f.Body.(*hclsyntax.Body)
	for _, b := range body.Blocks {
		if b.Type == n.typ && len(b.Labels) == 1 {
			all, blocks = append(all, n.read(b.Labels[0], b)), append(blocks, b)
		}
	}
	return all, blocks, nil
}

// appendBlock adds a block below what a file has; src may be empty.
func appendBlock(src []byte, typ, reason string, rows [][2]string) []byte {
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
	width := 0
	for _, r := range rows {
		width = max(width, len(r[0]))
	}
	block := typ + " " + quoteHCL(reason) + " {"
	for _, r := range rows {
		block += nl + fmt.Sprintf("  %-*s = %s", width, r[0], r[1])
	}
	if len(rows) > 0 {
		block += nl
	}
	return append(out, block+"}"+nl...)
}

func quotedTime(t time.Time) string { return strconv.Quote(t.Format(time.RFC3339)) }

// quoteHCL is a quoted string that no template hides in.
func quoteHCL(s string) string {
	s = strings.NewReplacer("\\", "\\\\", "\"", "\\\"", "\n", " ", "\r", " ", "\t", " ", "${", "$${", "%{", "%%{").Replace(s)
	return `"` + s + `"`
}

// serviceRows are the row of a block that names services; none for all of them.
func serviceRows(services []string) ([][2]string, error) {
	if len(services) == 0 {
		return nil, nil
	}
	var names []string
	for _, s := range services {
		if !namePattern.MatchString(s) {
			return nil, fmt.Errorf("%q is no service's name", s)
		}
		names = append(names, strconv.Quote(s))
	}
	return [][2]string{{"services", "[" + strings.Join(names, ", ") + "]"}}, nil
}

// cutBlocks takes blocks of a file out, with their lines; a comment above stays.
func cutBlocks(src []byte, blocks []*hclsyntax.Block) []byte {
	var edits []edit
	for _, b := range blocks {
		from, to := b.Range().Start.Byte, b.CloseBraceRange.End.Byte
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
	return splice(src, edits)
}

// literals are the plain strings of a list.
func literals(b *hclsyntax.Block, name string) []string {
	a := b.Body.Attributes[name]
	if a == nil {
		return nil
	}
	var out []string
	list, _ := hcl.ExprList(a.Expr)
	for _, e := range list {
		if v, diags := releaseLiteral(e); !diags.HasErrors() {
			out = append(out, v)
		}
	}
	return out
}

// literalTime is a point in time that is written out; zero if there is none.
func literalTime(b *hclsyntax.Block, name string) (t time.Time) {
	if a := b.Body.Attributes[name]; a != nil {
		v, _ := releaseLiteral(a.Expr)
		t, _ = time.Parse(time.RFC3339, v)
	}
	return t
}
