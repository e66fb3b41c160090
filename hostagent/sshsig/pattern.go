package sshsig

import "strings"

// Patterns is a list as OpenSSH has it in allowed_signers: comma-separated
// patterns with * and ?, each possibly negated by a ! before it. Case counts.
type Patterns []Pattern

// A Pattern is one of a list.
type Pattern struct {
	Text    string // without the !
	Negated bool
}

// Literal says that the pattern is a name.
func (p Pattern) Literal() bool { return !strings.ContainsAny(p.Text, "*?") }

// Match says whether a pattern fits s and no negated one does. A list of
// negated patterns only fits nothing.
func (l Patterns) Match(s string) bool {
	fits := false
	for _, p := range l {
		if !glob(p.Text, s) {
			continue
		}
		if p.Negated {
			return false
		}
		fits = true
	}
	return fits
}

// String is the list as a file has it.
func (l Patterns) String() string {
	var b strings.Builder
	for i, p := range l {
		if i > 0 {
			b.WriteByte(',')
		}
		if p.Negated {
			b.WriteByte('!')
		}
		b.WriteString(p.Text)
	}
	return b.String()
}

// glob matches in time that grows with the product of both lengths at most:
// only the last * is ever tried again.
func glob(pattern, s string) bool {
	p, i := 0, 0
	star, from := -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, from = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
			p++
			i++
		case star >= 0:
			from++
			p, i = star+1, from
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}
