package gitsource

import (
	"io"
	"strings"
	"testing"
)

func TestWhatATerminalObeysIsNotRepeated(t *testing.T) {
	t.Parallel()
	for what, err := range map[string]error{
		"a refusal": refused("\x1b]0;owned\x07 no such repository"),
		"a cause":   fail(ErrUnreachable, "%w. Look", &statusError{status: "500 \x1b[2J\u202e"}),
	} {
		if strings.ContainsAny(err.Error(), "\x1b\x07\u202e") {
			t.Errorf("%s: %q", what, err)
		}
	}
	if err := fail(ErrUnreachable, "%w", io.EOF); err.Error() != "EOF" {
		t.Errorf("%q", err)
	}
}
