package spec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// What a file may hold. They are checked on tokens, before the parser, because
// the parser descends recursively: 250 KiB of "!" ends the process with a stack
// overflow that nothing can recover from.
const (
	maxFileBytes   = 256 << 10
	maxFileTokens  = 32_768
	maxNesting     = 64
	maxExprTokens  = 500
	maxNumberBytes = 40
)

// guard refuses a file that the parser could choke on. A file that passes
// costs little to parse.
func guard(name string, src []byte) hcl.Diagnostics {
	if d := guardBytes(name, src); d != nil {
		return hcl.Diagnostics{d}
	}
	var d *hcl.Diagnostic
	if isJSON(name) {
		d = guardJSON(name, src)
	} else {
		d = guardNative(name, src)
	}
	if d != nil {
		return hcl.Diagnostics{d}
	}
	return nil
}

func isJSON(name string) bool { return strings.HasSuffix(name, ".json") }

func guardBytes(name string, src []byte) *hcl.Diagnostic {
	whole := hcl.Range{Filename: name, Start: hcl.InitialPos, End: hcl.InitialPos}
	if len(src) > maxFileBytes {
		return problem(whole, "File too large",
			"%s has %d bytes; a file may have %d. Split it into several files of the same folder.", name, len(src), maxFileBytes)
	}
	if bytes.HasPrefix(src, []byte("\xef\xbb\xbf")) {
		return problem(whole, "Byte order mark", "%s begins with a byte order mark. Save it as UTF-8 without one.", name)
	}
	if !utf8.Valid(src) {
		at := 0
		for at < len(src) {
			r, n := utf8.DecodeRune(src[at:])
			if r == utf8.RuneError && n == 1 {
				break
			}
			at += n
		}
		pos := posAt(src, at)
		return problem(hcl.Range{Filename: name, Start: pos, End: pos}, "Not UTF-8",
			"Byte %d of %s is not UTF-8. Save the file as UTF-8.", at, name)
	}
	return nil
}

func guardNative(name string, src []byte) *hcl.Diagnostic {
	tokens, _ := hclsyntax.LexConfig(src, name, hcl.InitialPos)
	if len(tokens) > maxFileTokens {
		return tooMany(tokens[maxFileTokens].Range, name)
	}
	s := scan{}
	return s.run(tokens)
}

func tooMany(at hcl.Range, name string) *hcl.Diagnostic {
	return problem(at, "Too many tokens",
		"%s has more than %d words and signs. Split it into several files of the same folder.", name, maxFileTokens)
}

// scan counts, over tokens, how deep the parser would descend.
type scan struct {
	base   int // depth that surrounds these tokens, for a template inside JSON
	depth  int
	frames []frame
}

// frame is one open bracket, quote or heredoc.
type frame struct {
	open    hclsyntax.TokenType
	pending int // operators whose operand has not ended: each is one descent
	tokens  int // of the expression, or the list element, at hand
}

func (s *scan) run(tokens hclsyntax.Tokens) *hcl.Diagnostic {
	s.frames = append(s.frames[:0], frame{})
	s.depth = s.base
	for i, t := range tokens {
		top := &s.frames[len(s.frames)-1]
		switch t.Type {
		case hclsyntax.TokenOBrace, hclsyntax.TokenOBrack, hclsyntax.TokenOParen,
			hclsyntax.TokenOQuote, hclsyntax.TokenOHeredoc, hclsyntax.TokenTemplateInterp:
			top.tokens++
			s.depth++
			s.frames = append(s.frames, frame{open: t.Type})
		case hclsyntax.TokenCBrace, hclsyntax.TokenCBrack, hclsyntax.TokenCParen,
			hclsyntax.TokenCQuote, hclsyntax.TokenCHeredoc, hclsyntax.TokenTemplateSeqEnd:
			s.close()
		case hclsyntax.TokenComma:
			s.endExpression()
		case hclsyntax.TokenNewline, hclsyntax.TokenComment:
			// Within round and square brackets a newline ends nothing. A
			// comment up to the end of its line holds the newline; one within
			// a line ends nothing either.
			if (top.open == 0 || top.open == hclsyntax.TokenOBrace) && bytes.HasSuffix(t.Bytes, []byte("\n")) {
				s.endExpression()
			}
			continue
		case hclsyntax.TokenTemplateControl:
			return problem(t.Range, "Template directive",
				`Directives such as %%{ if } and %%{ for } are not part of the language. Use "${condition ? a : b}"; to write the characters themselves, write %%%%{.`)
		case hclsyntax.TokenNumberLit:
			if bytes.ContainsAny(t.Bytes, "eE") {
				return problem(t.Range, "Exponent in a number", "Numbers are written in full, without an exponent.")
			}
			if len(t.Bytes) > maxNumberBytes {
				return problem(t.Range, "Number too long", "A number may have %d digits.", maxNumberBytes)
			}
			top.tokens++
		case hclsyntax.TokenIdent:
			if string(t.Bytes) == "for" && (top.open == hclsyntax.TokenOBrack || top.open == hclsyntax.TokenOBrace) &&
				opensFor(tokens, i) {
				return problem(t.Range, "for is not part of the language",
					"There are no loops: evaluation must end, and soon. Write the elements out, or use concat, merge, join and split.")
			}
			top.tokens++
		default:
			top.tokens++
			if descends(tokens, i) {
				top.pending++
				s.depth++
			} else if t.Type == hclsyntax.TokenStar && isFullSplat(tokens, i) && len(s.frames) > 1 {
				s.frames[len(s.frames)-2].pending++
				s.depth++
			}
		}
		if s.depth > maxNesting {
			return problem(t.Range, "Nested too deep",
				"Brackets, templates and operators may be nested %d deep. Name the parts in a locals block.", maxNesting)
		}
		if n := s.frames[len(s.frames)-1].tokens; n > maxExprTokens {
			return problem(t.Range, "Expression too long",
				"An expression may have %d words and signs. Name the parts in a locals block.", maxExprTokens)
		}
	}
	return nil
}

// endExpression forgets what was counted for the expression at hand.
func (s *scan) endExpression() {
	top := &s.frames[len(s.frames)-1]
	s.depth -= top.pending
	top.pending, top.tokens = 0, 0
}

func (s *scan) close() {
	s.endExpression()
	if len(s.frames) > 1 {
		s.frames = s.frames[:len(s.frames)-1]
		s.depth--
		s.frames[len(s.frames)-1].tokens++
	}
}

// descends reports whether token i makes the parser call itself for an operand.
func descends(tokens hclsyntax.Tokens, i int) bool {
	switch tokens[i].Type {
	case hclsyntax.TokenBang, hclsyntax.TokenQuestion:
		return true
	case hclsyntax.TokenMinus:
		return i == 0 || !endsOperand(tokens[i-1].Type)
	case hclsyntax.TokenStar:
		return i > 0 && tokens[i-1].Type == hclsyntax.TokenDot
	}
	return false
}

func endsOperand(t hclsyntax.TokenType) bool {
	switch t {
	case hclsyntax.TokenIdent, hclsyntax.TokenNumberLit, hclsyntax.TokenCQuote, hclsyntax.TokenCHeredoc,
		hclsyntax.TokenCParen, hclsyntax.TokenCBrack, hclsyntax.TokenCBrace:
		return true
	}
	return false
}

func isFullSplat(tokens hclsyntax.Tokens, i int) bool {
	return i > 0 && tokens[i-1].Type == hclsyntax.TokenOBrack
}

// opensFor reports whether the word at i is the first after its bracket and
// another word follows, as only a loop has it.
func opensFor(tokens hclsyntax.Tokens, i int) bool {
	blank := func(t hclsyntax.TokenType) bool {
		return t == hclsyntax.TokenNewline || t == hclsyntax.TokenComment
	}
	before, after := i-1, i+1
	for before >= 0 && blank(tokens[before].Type) {
		before--
	}
	for after < len(tokens) && blank(tokens[after].Type) {
		after++
	}
	return before >= 0 && after < len(tokens) && tokens[after].Type == hclsyntax.TokenIdent &&
		(tokens[before].Type == hclsyntax.TokenOBrack || tokens[before].Type == hclsyntax.TokenOBrace)
}

// guardJSON does the same for HCL's JSON form. The file must be plain JSON;
// every decoded string is scanned as the template that it is.
func guardJSON(name string, src []byte) *hcl.Diagnostic {
	var any json.RawMessage
	if err := json.Unmarshal(src, &any); err != nil {
		at := len(src)
		if se := (*json.SyntaxError)(nil); errors.As(err, &se) {
			at = min(max(int(se.Offset)-1, 0), len(src))
		}
		pos := posAt(src, at)
		return problem(hcl.Range{Filename: name, Start: pos, End: pos}, "Not JSON", "%s is not valid JSON: %v.", name, err)
	}
	depth, tokens := 0, 0
	here := func(from, to int) hcl.Range {
		return hcl.Range{Filename: name, Start: posAt(src, from), End: posAt(src, to)}
	}
	for i := 0; i < len(src); i++ {
		switch c := src[i]; c {
		case ' ', '\t', '\r', '\n', ',', ':':
			continue
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		case '"':
			end := stringEnd(src, i)
			n, d := guardJSONString(name, src[i:end], depth)
			if d != nil {
				d.Subject = here(i, end).Ptr()
				return d
			}
			tokens += n
			i = end - 1
		default:
			end := i
			for end < len(src) && strings.IndexByte(" \t\r\n,:]}", src[end]) < 0 {
				end++
			}
			if c == '-' || c >= '0' && c <= '9' {
				if bytes.ContainsAny(src[i:end], "eE") {
					return problem(here(i, end), "Exponent in a number", "Numbers are written in full, without an exponent.")
				}
				if end-i > maxNumberBytes {
					return problem(here(i, end), "Number too long", "A number may have %d digits.", maxNumberBytes)
				}
			}
			i = end - 1
		}
		tokens++
		if depth > maxNesting {
			return problem(here(i, i), "Nested too deep", "Objects and lists may be nested %d deep.", maxNesting)
		}
		if tokens > maxFileTokens {
			return tooMany(here(i, i), name)
		}
	}
	return nil
}

// stringEnd is the offset after the closing quote of the string at i, in valid JSON.
func stringEnd(src []byte, i int) int {
	for i++; i < len(src) && src[i] != '"'; i++ {
		if src[i] == '\\' {
			i++
		}
	}
	return min(i+1, len(src))
}

// guardJSONString scans one string; where it stands is filled in by the caller.
func guardJSONString(name string, quoted []byte, depth int) (int, *hcl.Diagnostic) {
	at := place0(name)
	var s string
	if err := json.Unmarshal(quoted, &s); err != nil {
		return 0, problem(at, "Not JSON", "This string is not valid JSON: %v.", err)
	}
	if !strings.ContainsAny(s, "$%") {
		return 1, nil
	}
	tokens, _ := hclsyntax.LexTemplate([]byte(s), name, hcl.InitialPos)
	if len(tokens) > maxFileTokens {
		return 0, tooMany(at, name)
	}
	sc := scan{base: depth}
	return len(tokens), sc.run(tokens)
}

// problem is an error at a place. What it quotes may be long, so it is cut.
func problem(at hcl.Range, summary, format string, args ...any) *hcl.Diagnostic {
	const most = 1500
	detail := fmt.Sprintf(format, args...)
	if len(detail) > most {
		detail = strings.ToValidUTF8(detail[:most], "") + "…"
	}
	return &hcl.Diagnostic{Severity: hcl.DiagError, Summary: summary, Detail: detail, Subject: &at}
}

// warning is a thing that holds nothing, at a place.
func warning(at hcl.Range, summary, format string, args ...any) *hcl.Diagnostic {
	d := problem(at, summary, format, args...)
	d.Severity = hcl.DiagWarning
	return d
}

// posAt is the position of a byte.
func posAt(src []byte, at int) hcl.Pos {
	at = min(at, len(src))
	line := bytes.Count(src[:at], []byte("\n")) + 1
	start := bytes.LastIndexByte(src[:at], '\n') + 1
	return hcl.Pos{Line: line, Column: utf8.RuneCount(src[start:at]) + 1, Byte: at}
}
