package main

import "testing"

func TestPlain(t *testing.T) {
	for in, want := range map[string]string{
		"status 503\n\tsecond line": "status 503\n\tsecond line",
		"\x1b[2J\x1b]0;owned\x07":   "\ufffd[2J\ufffd]0;owned\ufffd",
		"a\rb\u009bc":               "a\ufffdb\ufffdc",
		"evil\u202elcx":             "evil\ufffdlcx",
		"größer 日本":                 "größer 日本",
	} {
		if got := plain(in); got != want {
			t.Errorf("%q became %q", in, got)
		}
	}
}
