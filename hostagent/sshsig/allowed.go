package sshsig

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Limits of allowed_signers and revoked keys files.
const (
	MaxFile  = 1 << 20
	maxLines = 10_000
	maxLine  = 16 << 10
	// maxPattern is the longest of a list. OpenSSH takes a list with a longer
	// one to match nothing, its other patterns included.
	maxPattern = 1000
)

// An Entry is one line of allowed_signers: a key and in whose name, for what
// and when it may sign.
type Entry struct {
	Line       int // of the file, from 1
	Principals Patterns
	Namespaces Patterns  // none: every namespace
	After      time.Time // valid at this second and later; zero: always
	Before     time.Time // valid at this second and earlier; zero: for ever
	Key        Key
	Comment    string
}

// String is the line as a file has it.
func (e Entry) String() string {
	var options []string
	if e.Namespaces != nil {
		options = append(options, `namespaces="`+e.Namespaces.String()+`"`)
	}
	if !e.After.IsZero() {
		options = append(options, `valid-after="`+e.After.UTC().Format(stamp)+`Z"`)
	}
	if !e.Before.IsZero() {
		options = append(options, `valid-before="`+e.Before.UTC().Format(stamp)+`Z"`)
	}
	fields := []string{e.Principals.String()}
	if options != nil {
		fields = append(fields, strings.Join(options, ","))
	}
	fields = append(fields, e.Key.String())
	if e.Comment != "" {
		fields = append(fields, e.Comment)
	}
	return strings.Join(fields, " ")
}

// Signers is who may sign: the lines of an allowed_signers file, less the keys
// that are revoked. It does not change, and may be used by many at once.
type Signers struct {
	name    string
	entries []Entry
	of      map[Key][]int // places in entries
	revoked *RevokedKeys
}

// ParseAllowedSigners reads a file in OpenSSH's format (ssh-keygen(1), ALLOWED
// SIGNERS); name is what errors call it. One line that is not understood
// refuses all of it: a typing error must not widen or narrow who is trusted.
//
// It takes less than OpenSSH: no cert-authority, times only in UTC (…Z, since
// the same file must mean the same on every host), principals of visible ASCII,
// no quotes or empty patterns in a list.
func ParseAllowedSigners(data []byte, name string) (*Signers, error) {
	s := &Signers{name: name, of: map[Key][]int{}}
	err := eachLine(data, name, func(n int, line string) error {
		e, err := parseEntry(line)
		if err != nil {
			return err
		}
		e.Line = n
		s.of[e.Key] = append(s.of[e.Key], len(s.entries))
		s.entries = append(s.entries, e)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// eachLine calls do for every line that is not empty or a comment, and says
// where its error happened.
func eachLine(data []byte, name string, do func(n int, line string) error) error {
	if len(data) > MaxFile {
		return fmt.Errorf("%s has %d bytes, and %d is the limit; remove the lines of people who have left", name, len(data), MaxFile)
	}
	n := 0
	for raw := range bytes.Lines(data) {
		n++
		line := strings.Trim(strings.TrimSuffix(string(raw), "\n"), " \t")
		err := checkLine(n, line)
		if err == nil && line != "" && line[0] != '#' {
			err = do(n, line)
		}
		if err != nil {
			return fmt.Errorf("%s:%d: %w", name, n, err)
		}
	}
	return nil
}

// checkLine refuses what an editor does not show.
func checkLine(n int, line string) error {
	switch {
	case n > maxLines:
		return fmt.Errorf("the file has more than %d lines; remove those of people who have left", maxLines)
	case len(line) > maxLine:
		return fmt.Errorf("the line has %d bytes, and %d is the limit; spread the principals over several lines with the same key", len(line), maxLine)
	case strings.Contains(line, "\r"):
		return fmt.Errorf("the line has a CR; save the file with LF line ends")
	case !utf8.ValidString(line):
		return fmt.Errorf("the line is not UTF-8; save the file as UTF-8")
	}
	for _, r := range line {
		if r != '\t' && !unicode.IsGraphic(r) {
			return fmt.Errorf("the line has the invisible character %U; remove it", r)
		}
	}
	return nil
}

// parseEntry reads: principals [options] type base64 [comment].
func parseEntry(line string) (e Entry, err error) {
	who, rest := field(line)
	if e.Principals, err = parsePatterns(who, "principal"); err != nil {
		return e, err
	}
	typ, after, err := optionsField(rest)
	if err != nil {
		return e, err
	}
	if typ == "" {
		return e, fmt.Errorf("no key stands after the principals; write: principals [options] key, with the key as its .pub file has it")
	}
	if !isKeyType(typ) {
		if err := e.options(typ); err != nil {
			return e, err
		}
		if typ, after = field(after); typ != "" && !isKeyType(typ) {
			return e, fmt.Errorf("after the options stands %.64q, which is not the type of a key; separate options by commas, without spaces, and write the key as its .pub file has it", typ)
		}
	}
	encoded, comment := field(after)
	e.Comment = comment
	wire, err := keyBytes(typ, encoded)
	if err != nil {
		return e, err
	}
	e.Key, _, err = keyOf(wire)
	return e, err
}

// field cuts the first of fields separated by spaces and tabs.
func field(s string) (first, rest string) {
	i := strings.IndexAny(s, " \t")
	if i < 0 {
		return s, ""
	}
	return s[:i], strings.TrimLeft(s[i:], " \t")
}

// optionsField is like field, but spaces in double quotes belong to it; \" does
// not end a quote.
func optionsField(s string) (first, rest string, err error) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s) && s[i+1] == '"':
			i++
		case c == '"':
			quoted = !quoted
		case !quoted && (c == ' ' || c == '\t'):
			return s[:i], strings.TrimLeft(s[i:], " \t"), nil
		}
	}
	if quoted {
		return "", "", fmt.Errorf("a quote in the options is not closed; add the missing \"")
	}
	return s, "", nil
}

// isKeyType says whether a field is the type of a key, of one that is refused
// too, so that the refusal can name it.
func isKeyType(s string) bool {
	return slices.Contains(accepted, s) || strings.HasSuffix(s, certSuffix) ||
		strings.HasPrefix(s, "ssh-") || strings.HasPrefix(s, "ecdsa-sha2-") ||
		strings.HasPrefix(s, "sk-") || strings.HasPrefix(s, "webauthn-sk-")
}

// parsePatterns reads a list of principals or namespaces.
func parsePatterns(list, what string) (Patterns, error) {
	var all Patterns
	positive := false
	for text := range strings.SplitSeq(list, ",") {
		p := Pattern{Text: text}
		p.Text, p.Negated = strings.CutPrefix(text, "!")
		if err := checkName(p.Text, what); err != nil {
			return nil, err
		}
		positive = positive || !p.Negated
		all = append(all, p)
	}
	if !positive {
		return nil, fmt.Errorf("the list %q only excludes, so it fits no %s; add a pattern without !, such as *", list, what)
	}
	return all, nil
}

// checkName holds a pattern to what can be told apart by eye.
func checkName(s, what string) error {
	switch {
	case s == "":
		return fmt.Errorf("a %s is empty; remove the comma or ! that is too much", what)
	case len(s) > maxPattern:
		return fmt.Errorf("a %s has %d characters, and %d is the limit; shorten it", what, len(s), maxPattern)
	case s[0] == '!':
		return fmt.Errorf("the %s %q begins with two !; write one, or none", what, s)
	}
	for _, r := range s {
		if r <= ' ' || r > '~' || r == '"' || r == ',' {
			return fmt.Errorf("the %s %q has the character %U; only visible ASCII without quotes is taken, because of names that look alike", what, s, r)
		}
	}
	return nil
}
