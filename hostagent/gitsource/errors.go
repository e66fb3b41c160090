package gitsource

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"unicode"

	"drydock/reconcile/trust"
)

// What can be wrong with a source, for errors.Is. The text of the error that
// wraps one of them names the mirror and commits, and ends with what to do.
var (
	// ErrUnreachable: no mirror answered in time and in full; nothing changed.
	ErrUnreachable = errors.New("source unreachable")
	// ErrGone: the repository answers, but the branch is not there.
	ErrGone = errors.New("branch is gone")
	// ErrRewound: the branch went back to an ancestor of the accepted commit.
	ErrRewound = errors.New("branch was rewound")
	// ErrForced: the branch has left the accepted commit for another line.
	ErrForced = errors.New("branch was forced")
	// ErrUnrelated: the branch shares no commit with the accepted one.
	ErrUnrelated = errors.New("history is unrelated")
	// ErrFuture: the head is dated too far ahead of this host's clock.
	ErrFuture = errors.New("commit is dated in the future")
	// ErrCorrupt: an object, pack or ref is missing or not what its hash says.
	ErrCorrupt = errors.New("repository is corrupt")
	// ErrMalformed: an object is what its hash says, and nothing that git writes.
	// It comes with ErrCorrupt, and cloning anew does not mend it.
	ErrMalformed = fmt.Errorf("object is malformed, %w", trust.ErrUnfit)
	// ErrDenied: the server wants other credentials, or is not who it should be.
	ErrDenied = errors.New("access denied")
	// ErrTooLarge: a pack, an object or a file is over its limit.
	ErrTooLarge = fmt.Errorf("over the limit, %w", trust.ErrUnfit)
	// ErrUnknown: no such commit, tag or branch in this repository.
	ErrUnknown = errors.New("no such revision")
)

// failure pairs one of the errors above with a whole message.
type failure struct {
	kind error
	text string
	err  error // the cause, or nil; its text is already in text
}

func (f *failure) Error() string { return f.text }

func (f *failure) Unwrap() []error {
	if f.err == nil {
		return []error{f.kind}
	}
	return []error{f.kind, f.err}
}

// fail makes a failure of a kind; a %w in format becomes its cause as well. What
// a terminal would obey is taken out: servers put in what they like.
func fail(kind error, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &failure{kind: kind, text: strings.Map(printable, strings.ToValidUTF8(err.Error(), "�")), err: errors.Unwrap(err)}
}

// printable is r, if it is text.
func printable(r rune) rune {
	if r != '\n' && r != '\t' && unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
		return '�'
	}
	return r
}

// redact is a URL without its password, for people.
func redact(raw string) string {
	if !strings.Contains(raw, "://") {
		return raw
	}
	u, err := url.Parse(raw)
	if err != nil {
		return "(a URL that does not parse)"
	}
	return u.Redacted()
}

func short(hash string) string {
	if len(hash) > 7 {
		return hash[:7]
	}
	return hash
}
