package reconcile

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
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

type leaking struct{ Drivers }

func (l leaking) Driver(s Step) (Driver, error) {
	d, err := l.Drivers.Driver(s)
	if err == nil && s.Phase == Start {
		d = leaks{d}
	}
	return d, err
}

type leaks struct{ Driver }

func (leaks) Do(context.Context, Step) error {
	return ReleaseFault(errors.New("the server said hunter2"), "")
}

func (leaks) Preview(context.Context, Step) (string, error) { return "sends hunter2", nil }

// What a driver says goes into records, status and previews without secrets.
func TestNoSecretIsWrittenDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := scenario{}.setUp(t)
		e := w.engine()
		defer e.Release()
		e.Drivers, e.Scrub = leaking{e.Drivers}, strings.NewReplacer("hunter2", "[credential x]").Replace
		var said []string
		e.Watch = func(p Progressed) { said = append(said, p.Record.Reason) }
		plan := DiffOne("web", w.want, w.observe())
		for _, text := range e.Preview(t.Context(), plan) {
			said = append(said, text)
		}
		out := e.Carry(t.Context(), t.Context(), plan)
		all := fmt.Sprintf("%s %v", strings.Join(said, "\n"), out.Err)
		if strings.Contains(all, "hunter2") || !strings.Contains(all, "the server said [credential x]") || !strings.Contains(all, "sends [credential x]") {
			t.Errorf("it says\n%s", all)
		}
	})
}
