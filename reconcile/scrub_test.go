package reconcile

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// An error is known by what it is, and shows nothing of what was taken out of
// it: neither itself, nor through anything that can be reached from it.
func TestScrubbed(t *testing.T) {
	scrub := strings.NewReplacer("hunter2", "[credential x]").Replace
	plain := HostFault(errors.New("no answer"), "Look.")
	if got := Scrubbed(plain, scrub); got != plain {
		t.Errorf("one without a secret became %v", got)
	}
	if Scrubbed(nil, scrub) != nil || Scrubbed(plain, nil) != plain {
		t.Error("nothing to do is done")
	}
	inner := fmt.Errorf("dial hunter2: %w: %w", context.DeadlineExceeded, ErrUntouched)
	err := fmt.Errorf("migrate: %w", ReleaseFault(inner, "Try hunter2."))
	got := Scrubbed(err, scrub)
	if want := scrub(err.Error()); got.Error() != want {
		t.Errorf("it says %q, expected %q", got, want)
	}
	if !errors.Is(got, ErrUntouched) || !errors.Is(got, context.DeadlineExceeded) || errors.Is(got, ErrUnknown) || BlameOf(got) != OfRelease {
		t.Errorf("it is not known again: %v", got)
	}
	at := (&OriginError{Step: "web/migrate/sql", Err: got}).Error()
	for e := got; e != nil; e = errors.Unwrap(e) {
		at += e.Error()
	}
	var f *Fault
	if !errors.As(got, &f) {
		t.Fatal("no fault")
	}
	if at += f.Error() + f.Err.Error() + f.Hint; strings.Contains(at, "hunter2") {
		t.Errorf("it can be reached: %s", at)
	}
}
