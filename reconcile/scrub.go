package reconcile

import "errors"

// Scrubbed is err with what scrub takes out of its text: the same error to
// errors.Is and BlameOf, but nothing below it can be reached that would still
// say what was taken out. An error that scrub leaves alone stays as it is, and
// so does every error where scrub is nil.
func Scrubbed(err error, scrub func(string) string) error {
	if err == nil || scrub == nil {
		return err
	}
	text := err.Error()
	if clean := scrub(text); clean != text {
		return &scrubbed{clean, err, scrub}
	}
	return err
}

type scrubbed struct {
	text  string
	err   error // never shown, and never unwrapped
	scrub func(string) string
}

func (e *scrubbed) Error() string { return e.text }

// Is is errors.Is of what was scrubbed.
func (e *scrubbed) Is(target error) bool { return errors.Is(e.err, target) }

// As gives a Fault, with its words scrubbed; nothing else.
func (e *scrubbed) As(target any) bool {
	into, ok := target.(**Fault)
	if !ok {
		return false
	}
	var f *Fault
	if !errors.As(e.err, &f) {
		return false
	}
	*into = &Fault{f.Blame, errors.New(e.scrub(f.Err.Error())), e.scrub(f.Hint)}
	return true
}
