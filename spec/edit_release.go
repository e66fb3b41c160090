package spec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// edits turns the site's release into c with as few splices as it takes.
func (s *releaseSite) edits(c Change) ([]edit, hcl.Diagnostics) {
	var out []edit
	out = append(out, s.setValue("version", strconv.Quote(c.Version), cty.StringVal(c.Version))...)

	digest, digests := s.attrs["digest"], s.attrs["digests"]
	var insert []string // lines to add after what stands last
	switch {
	case c.Digest != "" && digest != nil:
		out = append(out, s.setValue("digest", strconv.Quote(c.Digest), cty.StringVal(c.Digest))...)
	case c.Digest != "" && digests != nil:
		out = append(out, s.replace(digests, s.line("digest", strconv.Quote(c.Digest))))
	case c.Digest != "":
		insert = append(insert, s.line("digest", strconv.Quote(c.Digest)))
	case len(c.Digests) > 0 && digests != nil:
		e, diags := s.setDigests(digests, c.Digests)
		if diags.HasErrors() {
			return nil, diags
		}
		out = append(out, e...)
	case len(c.Digests) > 0 && digest != nil:
		out = append(out, s.replace(digest, s.line("digests", s.digestsText(c.Digests))))
	case len(c.Digests) > 0:
		insert = append(insert, s.line("digests", s.digestsText(c.Digests)))
	case digest != nil:
		out = append(out, s.remove(digest))
	case digests != nil:
		out = append(out, s.remove(digests))
	}

	attempt := max(c.Attempt, 1)
	if s.attrs["attempt"] != nil {
		out = append(out, s.setValue("attempt", strconv.Itoa(attempt), cty.NumberIntVal(int64(attempt)))...)
	} else if attempt > 1 {
		insert = append(insert, s.line("attempt", strconv.Itoa(attempt)))
	}
	if len(insert) > 0 {
		out = append(out, s.insert(insert, out)...)
	}
	return out, nil
}

// setValue replaces an attribute's value unless it already is v.
func (s *releaseSite) setValue(name, text string, v cty.Value) []edit {
	a := s.attrs[name]
	if have, diags := a.Expr.Value(nil); !diags.HasErrors() && have.IsKnown() && have.RawEquals(v) {
		return nil
	}
	r := s.valueRange(a.Expr)
	return []edit{{r.Start.Byte, r.End.Byte, text}}
}

// valueRange leaves a heredoc's last line end to the line.
func (s *releaseSite) valueRange(e hcl.Expression) hcl.Range {
	r := e.Range()
	for r.End.Byte > r.Start.Byte && (s.src[r.End.Byte-1] == '\n' || s.src[r.End.Byte-1] == '\r') {
		r.End.Byte--
	}
	return r
}

// setDigests splices value by value where the platforms stay the same, so that
// a comment per platform survives; otherwise it writes the map anew.
func (s *releaseSite) setDigests(a *hcl.Attribute, want map[string]string) ([]edit, hcl.Diagnostics) {
	pairs, diags := digestPairs(a)
	if diags.HasErrors() {
		return nil, diags
	}
	if !slices.Equal(slices.Sorted(maps.Keys(pairs)), slices.Sorted(maps.Keys(want))) {
		r := s.valueRange(a.Expr)
		return []edit{{r.Start.Byte, r.End.Byte, s.digestsText(want)}}, nil
	}
	var out []edit
	for k, e := range pairs {
		if have, diags := e.Value(nil); !diags.HasErrors() && have.IsKnown() && have.RawEquals(cty.StringVal(want[k])) {
			continue
		}
		r := s.valueRange(e)
		out = append(out, edit{r.Start.Byte, r.End.Byte, strconv.Quote(want[k])})
	}
	return out, nil
}

// digestsText is a map of digests in the style of the block: native syntax gets
// a line per platform, JSON one line.
func (s *releaseSite) digestsText(m map[string]string) string {
	var items []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if s.json {
			items = append(items, fmt.Sprintf("%q: %q", k, m[k]))
		} else {
			items = append(items, s.indent()+s.unit()+fmt.Sprintf("%q = %q", k, m[k]))
		}
	}
	if s.json {
		return "{" + strings.Join(items, ", ") + "}"
	}
	nl := s.newline()
	return "{" + nl + strings.Join(items, nl) + nl + s.indent() + "}"
}

// line is `name = value`, with the space that the version's line has around its
// sign, so that what was aligned stays aligned.
func (s *releaseSite) line(name, value string) string {
	v := s.attrs["version"]
	sign := string(s.src[v.NameRange.End.Byte:v.Expr.Range().Start.Byte])
	if s.json {
		return strconv.Quote(name) + sign + value
	}
	before, after, ok := strings.Cut(sign, "=")
	if !ok || strings.Contains(sign, "*") {
		before, after = " ", " "
	}
	pad := max(len("version")+len(before)-len(name), 1)
	return name + strings.Repeat(" ", pad) + "=" + after + value
}

// lineStart is where the line of the version begins, and first is whether
// nothing but space stands before it there.
func (s *releaseSite) lineStart() (start int, first bool) {
	at := s.attrs["version"].NameRange.Start.Byte
	start = bytes.LastIndexByte(s.src[:at], '\n') + 1
	return start, len(bytes.Trim(s.src[start:at], " \t\xef\xbb\xbf")) == 0
}

// indent is the white space before the attributes of the block.
func (s *releaseSite) indent() string {
	start, first := s.lineStart()
	if first {
		return string(s.src[start:s.attrs["version"].NameRange.Start.Byte])
	}
	return s.blockIndent() + s.unit() // a block on one line
}

func (s *releaseSite) blockIndent() string {
	start := bytes.LastIndexByte(s.src[:s.block.DefRange.Start.Byte], '\n') + 1
	line := s.src[start:s.block.DefRange.Start.Byte]
	return string(line[:len(line)-len(bytes.TrimLeft(line, " \t"))])
}

func (s *releaseSite) unit() string {
	if strings.Contains(s.blockIndent(), "\t") {
		return "\t"
	}
	return "  "
}

// newline is the kind of line end that the file has where the release stands.
func (s *releaseSite) newline() string {
	at := s.block.DefRange.Start.Byte
	i := bytes.IndexByte(s.src[at:], '\n')
	if i > 0 && s.src[at+i-1] == '\r' {
		return "\r\n"
	}
	return "\n"
}

func (s *releaseSite) replace(a *hcl.Attribute, line string) edit {
	return edit{a.NameRange.Start.Byte, s.valueRange(a.Expr).End.Byte, line}
}

// remove takes an attribute away, and its line if nothing else stands there.
func (s *releaseSite) remove(a *hcl.Attribute) edit {
	from, to := a.NameRange.Start.Byte, s.valueRange(a.Expr).End.Byte
	space := func(b byte) bool { return b == ' ' || b == '\t' || s.json && (b == '\r' || b == '\n') }
	f, t := from, to
	for f > 0 && space(s.src[f-1]) {
		f--
	}
	for t < len(s.src) && space(s.src[t]) {
		t++
	}
	switch {
	case s.json && f > 0 && s.src[f-1] == ',':
		return edit{f - 1, to, ""}
	case s.json && t < len(s.src) && s.src[t] == ',':
		for t++; t < len(s.src) && space(s.src[t]); t++ {
		}
		return edit{from, t, ""}
	case s.json || f > 0 && s.src[f-1] != '\n':
		return edit{from, to, ""}
	}
	if bytes.HasPrefix(s.src[t:], []byte("\r\n")) {
		return edit{f, t + 2, ""}
	}
	if bytes.HasPrefix(s.src[t:], []byte("\n")) {
		return edit{f, t + 1, ""}
	}
	return edit{from, to, ""}
}

// insert adds lines after the last attribute of the release that stays.
func (s *releaseSite) insert(lines []string, others []edit) []edit {
	last := s.attrs["version"]
	for _, name := range []string{"digest", "digests"} {
		a := s.attrs[name]
		if a == nil || slices.ContainsFunc(others, func(e edit) bool {
			return e.text == "" && e.from <= a.NameRange.Start.Byte && a.NameRange.Start.Byte < e.to
		}) {
			continue
		}
		if a.NameRange.Start.Byte > last.NameRange.Start.Byte {
			last = a
		}
	}
	end := s.valueRange(last.Expr).End.Byte
	if s.json {
		at := last.NameRange.Start.Byte
		from := at
		for from > 0 && strings.IndexByte(" \t\r\n", s.src[from-1]) >= 0 {
			from--
		}
		sep := "," + string(s.src[from:at])
		if sep == "," {
			sep = ", "
		}
		return []edit{{end, end, sep + strings.Join(lines, sep)}}
	}
	nl := s.newline()
	text := ""
	for _, l := range lines {
		text += s.indent() + l + nl
	}
	if at, ok := s.endOfLine(end); ok {
		return []edit{{at, at, text}}
	}
	// The block stands on one line, which holds one attribute only: open it up.
	open, shut := s.braces()
	open, shut = open+1, shut-1
	name := last.NameRange.Start.Byte
	return []edit{
		{open, name, nl + s.indent() + strings.TrimLeft(string(s.src[open:name]), " \t")},
		{end, shut, strings.TrimRight(string(s.src[end:shut]), " \t") + nl + text + s.blockIndent()},
	}
}

// endOfLine is the first byte after the line end that follows at, which is the
// lexer's to find: a comment may span lines. False if a brace comes first.
func (s *releaseSite) endOfLine(at int) (int, bool) {
	tokens, _ := hclsyntax.LexConfig(s.src, s.block.DefRange.Filename, hcl.InitialPos)
	for _, t := range tokens {
		if t.Range.Start.Byte < at {
			continue
		}
		switch t.Type {
		case hclsyntax.TokenNewline:
			return t.Range.End.Byte, true
		case hclsyntax.TokenComment:
			if bytes.HasSuffix(t.Bytes, []byte("\n")) {
				return t.Range.End.Byte, true
			}
		default:
			return 0, false
		}
	}
	return 0, false
}

// verifyBump parses the result as a host would and compares it with what was
// asked for and with what there was. It is the proof; the splices are only the way.
func verifyBump(before *releaseSite, out []byte, filename, service string, c Change) error {
	after, diags := findRelease(out, filename, service)
	if diags.HasErrors() {
		return fmt.Errorf("%s: the edited file would not parse, so nothing was changed (mend the release block by hand): %w", filename, diags)
	}
	got, diags := after.read()
	if diags.HasErrors() {
		return fmt.Errorf("%s: the edited release could not be read back, so nothing was changed (mend the release block by hand): %w", filename, diags)
	}
	if !got.Equal(c) {
		return fmt.Errorf("%s: the edited release of %s reads back as %+v instead of %+v, so nothing was changed: write it by hand", filename, service, got, c)
	}
	same := false
	if before.json {
		same = sameJSON(before.src, out, service)
	} else {
		same = sameOutside(before, after)
	}
	if !same {
		return fmt.Errorf("%s: the edit of %s would have touched more than its release block, so nothing was changed: write it by hand", filename, service)
	}
	return nil
}

// braces is the range of a native release block from its opening to its closing
// brace. The parser gives it for the syntax block only.
func (s *releaseSite) braces() (from, to int) {
	body, _ := s.file.Body.(*hclsyntax.Body)
	for _, service := range body.Blocks {
		for _, b := range service.Body.Blocks {
			if b.TypeRange == s.block.TypeRange {
				return b.OpenBraceRange.Start.Byte, b.CloseBraceRange.End.Byte
			}
		}
	}
	return 0, len(s.src)
}

// sameOutside compares the bytes before and after the release block's braces.
func sameOutside(before, after *releaseSite) bool {
	b, bEnd := before.braces()
	a, aEnd := after.braces()
	return bytes.Equal(before.src[:b], after.src[:a]) && bytes.Equal(before.src[bEnd:], after.src[aEnd:])
}

// sameJSON compares both documents without this service's release values.
func sameJSON(before, after []byte, service string) bool {
	var b, a any
	if json.Unmarshal(before, &b) != nil || json.Unmarshal(after, &a) != nil {
		return false
	}
	cutRelease(b, service)
	cutRelease(a, service)
	return reflect.DeepEqual(b, a)
}

// cutRelease empties the release attributes at service.<name>.release, through
// the lists that HCL's JSON form allows at each level.
func cutRelease(doc any, service string) {
	path := []string{"service", service, "release"}
	var walk func(v any, path []string)
	walk = func(v any, path []string) {
		if list, ok := v.([]any); ok {
			for _, e := range list {
				walk(e, path)
			}
			return
		}
		m, ok := v.(map[string]any)
		if !ok {
			return
		}
		if len(path) == 0 {
			for _, a := range editableRelease.Attributes {
				delete(m, a.Name)
			}
			return
		}
		walk(m[path[0]], path[1:])
	}
	walk(doc, path)
}
