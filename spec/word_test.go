package spec

import (
	"strings"
	"testing"
)

func TestWordsHaveALongestLength(t *testing.T) {
	for name, c := range map[string]struct {
		word word
		most int
	}{"version": {versionPattern, 128}, "name": {namePattern, 64}, "credential": {credentialPattern, 128}} {
		if s := strings.Repeat("a", c.most); !c.word.MatchString(s) || c.word.MatchString(s+"a") {
			t.Errorf("a %s may have %d letters, no more and no fewer", name, c.most)
		}
		if c.word.MatchString("") || c.word.MatchString("-a") || c.word.MatchString("a/b") || c.word.MatchString("a\n") {
			t.Errorf("a %s takes what it should not", name)
		}
	}
}
