package nginx

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// mark is what stands behind the semicolon of a server that is down because of
// us. A `down` without it is a person's.
const mark = " # drained by drydock"

// inserted is what stands before that semicolon.
const inserted = " down"

// maxDepth is how deep blocks may nest in a file that is read.
const maxDepth = 32

// server is one server directive of an upstream, by its place in the file.
type server struct {
	name     string
	upstream string // its block's name; "" in a file that is included into one
	line     int    // 1-based, of the directive's first word
	end      int    // of its semicolon
	downs    []span // its parameters that say down
	alone    bool   // nothing but a comment follows on the semicolon's line
	marked   bool   // our mark stands somewhere in that comment
	markAt   int
}

// span is a stretch of the file: from its first byte to behind its last.
type span struct{ from, to int }

// down reports whether nginx leaves the server out.
func (s server) down() bool { return len(s.downs) > 0 }

// ours reports whether it does because of us.
func (s server) ours() bool { return s.down() && s.marked }

// servers are the server directives of src: those directly inside an upstream
// block, and those outside of any block, as in a file that is included into
// one. It reads words, quotes, comments and blocks as nginx does, and fails on
// what nginx would not take either.
func servers(src []byte) ([]server, error) {
	type block struct{ kind, name string }
	var (
		found  []server
		blocks []block
		words  []word
		lex    = lexer{src: src, line: 1}
	)
	for {
		w, err := lex.next()
		if err != nil {
			return nil, err
		}
		switch {
		case w.kind == eof && len(words) > 0:
			return nil, fmt.Errorf("line %d: the last directive has no semicolon", words[0].line)
		case w.kind == eof && len(blocks) > 0:
			return nil, fmt.Errorf("the block %q is not closed", blocks[len(blocks)-1].kind)
		case w.kind == eof:
			return found, nil
		case w.kind == text:
			words = append(words, w)
			continue
		case w.kind == '{':
			if len(words) == 0 || len(blocks) == maxDepth {
				return nil, fmt.Errorf("line %d: a block that begins with nothing, or too deep", w.line)
			}
			b := block{kind: words[0].value}
			if len(words) > 1 {
				b.name = words[1].value
			}
			blocks = append(blocks, b)
		case w.kind == '}':
			if len(words) > 0 || len(blocks) == 0 {
				return nil, fmt.Errorf("line %d: a closing brace that closes nothing", w.line)
			}
			blocks = blocks[:len(blocks)-1]
		case w.kind == ';' && len(words) > 1 && words[0].value == "server":
			inside := block{kind: "upstream"}
			if len(blocks) > 0 {
				inside = blocks[len(blocks)-1]
			}
			if inside.kind == "upstream" {
				found = append(found, describe(src, words, w.span.from, inside.name))
			}
		}
		words = words[:0]
	}
}

func describe(src []byte, words []word, end int, upstream string) server {
	s := server{name: words[1].value, upstream: upstream, line: words[0].line, end: end}
	for _, w := range words[2:] {
		if w.value == "down" {
			s.downs = append(s.downs, w.span)
		}
	}
	rest := src[end+1:]
	if i := bytes.IndexByte(rest, '\n'); i >= 0 {
		rest = rest[:i]
	}
	comment := bytes.TrimLeft(rest, " \t\r")
	s.alone = len(comment) == 0 || comment[0] == '#'
	if i := bytes.Index(rest, []byte(mark)); s.alone && i >= 0 {
		after := rest[i+len(mark):]
		if len(after) == 0 || bytes.IndexByte([]byte(" \t\r#"), after[0]) >= 0 {
			s.marked, s.markAt = true, end+1+i
		}
	}
	return s
}

// drained is src with s marked down by us. Every other byte stays.
func drained(src []byte, s server) []byte {
	return slices.Concat(src[:s.end], []byte(inserted), src[s.end:s.end+1], []byte(mark), src[s.end+1:])
}

// undrained is src without what drained put in.
func undrained(src []byte, s server) []byte {
	d := s.downs[len(s.downs)-1]
	if src[d.from-1] == inserted[0] {
		d.from--
	}
	return slices.Concat(src[:d.from], src[d.to:s.markAt], src[s.markAt+len(mark):])
}

// up is src without any `down` of s, for a person who wants back what a person
// took out.
func up(src []byte, s server) []byte {
	for _, d := range slices.Backward(s.downs) {
		if bytes.IndexByte([]byte(" \t"), src[d.from-1]) >= 0 {
			d.from--
		}
		src = slices.Concat(src[:d.from], src[d.to:])
	}
	return src
}

// kinds of words.
const (
	text = 'w'
	eof  = 0
)

type word struct {
	kind  byte // text, eof, or the character ; { } itself
	value string
	span  span
	line  int
}

// lexer cuts a file into words as nginx does: a comment begins only where a
// word could, quotes too, a backslash takes the next character's meaning, and
// ${ opens no block.
type lexer struct {
	src  []byte
	at   int
	line int
}

func (l *lexer) next() (word, error) {
	for l.at < len(l.src) {
		switch c := l.src[l.at]; c {
		case '\n':
			l.line++
			l.at++
		case ' ', '\t', '\r':
			l.at++
		case '#':
			for l.at < len(l.src) && l.src[l.at] != '\n' {
				l.at++
			}
		case ';', '{', '}':
			l.at++
			return word{kind: c, span: span{l.at - 1, l.at}, line: l.line}, nil
		case '"', '\'':
			return l.quoted(c)
		default:
			return l.bare()
		}
	}
	return word{kind: eof, line: l.line}, nil
}

func (l *lexer) quoted(quote byte) (word, error) {
	w := word{kind: text, span: span{from: l.at}, line: l.line}
	var value strings.Builder
	for l.at++; l.at < len(l.src); l.at++ {
		c := l.src[l.at]
		switch {
		case c == quote:
			l.at++
			w.value, w.span.to = value.String(), l.at
			if l.at < len(l.src) && !bytes.ContainsRune([]byte(" \t\r\n;{)"), rune(l.src[l.at])) {
				return w, fmt.Errorf("line %d: something follows a closing quote at once", l.line)
			}
			return w, nil
		case c == '\\' && l.at+1 < len(l.src):
			l.at++
			c = l.src[l.at]
		}
		if c == '\n' {
			l.line++
		}
		value.WriteByte(c)
	}
	return w, fmt.Errorf("line %d: a quote that is never closed", w.line)
}

func (l *lexer) bare() (word, error) {
	w := word{kind: text, span: span{from: l.at}, line: l.line}
	var value strings.Builder
	for ; l.at < len(l.src); l.at++ {
		c := l.src[l.at]
		switch {
		case c == '\\' && l.at+1 < len(l.src):
			l.at++
			c = l.src[l.at]
			if c == '\n' {
				l.line++
			}
		case c == '{' && l.src[l.at-1] == '$' && l.at > w.span.from:
		case strings.IndexByte(" \t\r\n;{", c) >= 0:
			w.value, w.span.to = value.String(), l.at
			return w, nil
		}
		value.WriteByte(c)
	}
	w.value, w.span.to = value.String(), l.at
	return w, nil
}
