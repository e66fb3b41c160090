package reconcile

import (
	"encoding"
	"fmt"
	"strings"
	"testing"
)

type word interface {
	fmt.Stringer
	encoding.TextMarshaler
}

func TestVocabulary(t *testing.T) {
	for _, v := range []struct {
		kind  string
		words string
		make  func(i int) word
		read  func(text []byte) (word, error)
	}{
		{"phase", "fetch drain install migrate start check undrain",
			func(i int) word { return Phase(i) }, func(b []byte) (word, error) { var w Phase; err := w.UnmarshalText(b); return w, err }},
		{"action", "create update remove repair",
			func(i int) word { return Action(i) }, func(b []byte) (word, error) { var w Action; err := w.UnmarshalText(b); return w, err }},
		{"purpose", "deploy repair revert remove",
			func(i int) word { return Purpose(i) }, func(b []byte) (word, error) { var w Purpose; err := w.UnmarshalText(b); return w, err }},
		{"state", "converged waiting progressing reverted halted drifted orphaned",
			func(i int) word { return State(i) }, func(b []byte) (word, error) { var w State; err := w.UnmarshalText(b); return w, err }},
		{"condition", "unknown present absent altered",
			func(i int) word { return Is(i) }, func(b []byte) (word, error) { var w Is; err := w.UnmarshalText(b); return w, err }},
		{"blame", "transient host release",
			func(i int) word { return Blame(i) }, func(b []byte) (word, error) { var w Blame; err := w.UnmarshalText(b); return w, err }},
	} {
		t.Run(v.kind, func(t *testing.T) {
			words := strings.Fields(v.words)
			for i, want := range words {
				w := v.make(i)
				text, err := w.MarshalText()
				if err != nil || string(text) != want || w.String() != want {
					t.Errorf("%d is %q and %q (%v), expected %q", i, w, text, err, want)
				}
				if back, err := v.read(text); err != nil || back != w {
					t.Errorf("%q reads as %v (%v)", text, back, err)
				}
			}
			for _, i := range []int{-1, len(words)} {
				if got, want := v.make(i).String(), fmt.Sprintf("unknown(%d)", i); got != want {
					t.Errorf("%q, expected %q", got, want)
				}
			}
			if _, err := v.read([]byte("Fetch")); err == nil || !strings.Contains(err.Error(), v.kind) {
				t.Errorf("an unknown word: %v", err)
			}
		})
	}
	for i, want := range strings.Fields("again later revert halt") {
		if got := Verdict(i).String(); got != want {
			t.Errorf("verdict %d is %q, expected %q", i, got, want)
		}
	}
	for i, want := range strings.Fields("resting preparing pending working reverting halted") {
		if got := Stage(i).String(); got != want {
			t.Errorf("stage %d is %q, expected %q", i, got, want)
		}
	}
	for i, want := range strings.Fields("plan resume back shut supersede commit retry later revert halt finish wake") {
		if got := Event(i).String(); got != want {
			t.Errorf("event %d is %q, expected %q", i, got, want)
		}
	}
}
