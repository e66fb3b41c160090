package spec

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// What freeze and override blocks have in common for those who write them: a
// reason for a label, and plain values.

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

// quoteHCL is a quoted string that no template hides in.
func quoteHCL(s string) string {
	s = strings.NewReplacer("\\", "\\\\", "\"", "\\\"", "\n", " ", "\r", " ", "\t", " ", "${", "$${", "%{", "%%{").Replace(s)
	return `"` + s + `"`
}

// quotedNames is a list of services.
func quotedNames(services []string) (string, error) {
	var names []string
	for _, s := range services {
		if !namePattern.MatchString(s) {
			return "", fmt.Errorf("%q is no service's name", s)
		}
		names = append(names, strconv.Quote(s))
	}
	return "[" + strings.Join(names, ", ") + "]", nil
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

// reasoned are a file's blocks of a type that have a reason for a label.
func reasoned(f *hcl.File, typ string) []*hclsyntax.Block {
	body, _ := f.Body.(*hclsyntax.Body)
	var out []*hclsyntax.Block
	for _, b := range body.Blocks {
		if b.Type == typ && len(b.Labels) == 1 {
			out = append(out, b)
		}
	}
	return out
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

func literalTime(b *hclsyntax.Block, name string) (t time.Time) {
	if a := b.Body.Attributes[name]; a != nil {
		v, _ := releaseLiteral(a.Expr)
		t, _ = time.Parse(time.RFC3339, v)
	}
	return t
}
