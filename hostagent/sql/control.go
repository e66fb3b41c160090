package sql

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// leaves is the first command of a text of SQL that would end the transaction
// around it, or "". What stands in quotes, comments, dollar quotes, or in the
// body of a function or trigger is no command of the text.
func leaves(text string) string {
	for _, c := range commands(text) {
		switch c.first {
		case "COMMIT", "ABORT", "END", "BEGIN":
			return c.first
		case "ROLLBACK":
			if c.second != "TO" { // back to a savepoint
				return c.first
			}
		case "START", "PREPARE":
			if c.second == "TRANSACTION" {
				return c.first + " TRANSACTION"
			}
		}
	}
	return ""
}

// opens is the first command of a text.
func opens(text string) string {
	if c := commands(text); len(c) > 0 {
		return c[0].first
	}
	return ""
}

// command is how one command of a text begins, in capitals.
type command struct{ first, second string }

// commands splits a text at its semicolons, as far as it must be understood
// for that.
func commands(text string) []command {
	var (
		all   []command
		words int    // of the command at hand
		open  int    // BEGINs and CASEs of a body that wait for their END
		body  bool   // the command is one that may have a body
		last  string // the word before
	)
	for len(text) > 0 {
		if n := skipped(text); n > 0 {
			text = text[n:]
			continue
		}
		if text[0] == ';' {
			if text = text[1:]; open == 0 {
				words, body = 0, false
			}
			continue
		}
		w := word(text)
		if w == "" {
			_, n := utf8.DecodeRuneInString(text)
			text = text[n:]
			continue
		}
		text = text[len(w):]
		w = strings.ToUpper(w)
		switch words++; words {
		case 1:
			all = append(all, command{first: w})
		case 2:
			all[len(all)-1].second = w
		}
		switch {
		case all[len(all)-1].first == "CREATE" && (w == "FUNCTION" || w == "PROCEDURE" || w == "TRIGGER"):
			body = true
		case body && w == "BEGIN", open > 0 && w == "CASE" && last != "END":
			open++
		case open > 0 && w == "END":
			open--
		}
		last = w
	}
	return all
}

// word is the name or keyword that a text begins with, or "".
func word(text string) string {
	for i, r := range text {
		if r != '_' && !unicode.IsLetter(r) && (i == 0 || r != '$' && !unicode.IsDigit(r)) {
			return text[:i]
		}
	}
	return text
}

// skipped is the length of the quoted text or comment that a text begins with.
func skipped(text string) int {
	switch {
	case strings.HasPrefix(text, "--"):
		return through(text, 2, "\n")
	case strings.HasPrefix(text, "/*"):
		return comment(text)
	case (text[0] == 'e' || text[0] == 'E') && len(text) > 1 && text[1] == '\'':
		return 1 + quoted(text[1:], true)
	case text[0] == '\'', text[0] == '"', text[0] == '`':
		return quoted(text, false)
	case text[0] == '$':
		if tag := dollar(text); tag > 0 {
			return through(text, tag, text[:tag])
		}
	case unicode.IsDigit(rune(text[0])):
		return 1
	}
	return 0
}

func through(text string, from int, end string) int {
	if i := strings.Index(text[from:], end); i >= 0 {
		return from + i + len(end)
	}
	return len(text)
}

// comment is the length of a comment, which may hold others.
func comment(text string) int {
	depth := 0
	for i := 0; i+1 < len(text); i++ {
		switch text[i : i+2] {
		case "/*":
			depth++
			i++
		case "*/":
			i++
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return len(text)
}

func quoted(text string, escapes bool) int {
	for i := 1; i < len(text); i++ {
		switch {
		case escapes && text[i] == '\\':
			i++
		case text[i] == text[0]:
			return i + 1 // a doubled quote is the beginning of the next
		}
	}
	return len(text)
}

// dollar is the length of the tag of a dollar quote, "$$" or "$body$".
func dollar(text string) int {
	if i := strings.IndexByte(text[1:], '$'); i >= 0 && word(text[1:1+i]) == text[1:1+i] {
		return i + 2
	}
	return 0
}
