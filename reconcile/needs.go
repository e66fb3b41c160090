package reconcile

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/go-multierror"

	"drydock/spec"
)

// Need is something that a step needs of the host, and whether it is there.
type Need struct {
	What string // `install "archive"`, `credential "web-database-url"`
	Err  error  // why it is not there, and what to ask for; nil if it is. One that wraps ErrUnfetched: not known yet

	// Told is false where the driver looks for nothing before it acts, so that
	// Err being nil says nothing.
	Told bool
}

// Needs asks what of a step's needs is there: its credentials one by one, and
// then its driver (see Preparer), whose error may hold several. It changes
// nothing.
func (e *Engine) Needs(ctx context.Context, s Step) (needs []Need) {
	if e.Credential != nil {
		for _, name := range CredentialsOf(s) {
			needs = append(needs, Need{What: fmt.Sprintf("credential %q", name), Err: e.Credential(name), Told: true})
		}
	}
	what := s.Block.Type + fmt.Sprintf(" %q", s.Block.Driver)
	if s.Block.Label != "" {
		what += fmt.Sprintf(" %q", s.Block.Label)
	}
	d, err := e.Drivers.Driver(s)
	if err != nil {
		return append(needs, Need{What: what, Err: HostFault(err, "Install a hostagent that has it."), Told: true})
	}
	p, ok := preparer(d)
	if !ok {
		return append(needs, Need{What: what})
	}
	errs := each(Scrubbed(p.Prepare(ctx, s), e.Scrub))
	if len(errs) == 0 {
		return append(needs, Need{What: what, Told: true})
	}
	for _, err := range errs {
		needs = append(needs, Need{What: what, Err: err, Told: true})
	}
	return needs
}

// preparer is the part of a driver that can tell in advance, if it has one; of
// a check that is its prober.
func preparer(d Driver) (Preparer, bool) {
	var can any = d
	if k, ok := d.(Checking); ok {
		can = k.Probe
	}
	p, ok := can.(Preparer)
	return p, ok
}

// CredentialsOf are the names of the credentials that a step reads.
func CredentialsOf(s Step) []string {
	if a := s.Target.Artifact; s.Phase == Fetch && s.Block.Type == "install" && a != nil {
		return append(s.Block.Credentials(), a.Credentials()...)
	}
	return s.Block.Credentials()
}

// each is the errors that one stands for: those of a multierror or a join, and
// else itself.
func each(err error) (all []error) {
	var parts []error
	switch e := err.(type) { // itself, and not what it wraps: words around a list belong to it
	case nil:
		return nil
	case *multierror.Error:
		parts = e.Errors
	case interface{ Unwrap() []error }:
		var texts []string
		for _, p := range e.Unwrap() {
			texts = append(texts, p.Error())
		}
		if strings.Join(texts, "\n") == err.Error() { // errors.Join's, not fmt.Errorf's
			parts = e.Unwrap()
		}
	}
	if len(parts) == 0 {
		return []error{err}
	}
	for _, p := range parts {
		all = append(all, each(p)...)
	}
	return all
}

// NeededSteps are the steps that a service may ever take on this host, but the
// undrain of what was drained, as if it ran already and another revision of it
// replaced it.
func NeededSteps(s spec.Service, host string) []Step {
	b := build{host: host, target: s, running: &Deployed{Service: s}, purpose: Deploy}
	return slices.DeleteFunc(b.candidates(everyPhase), func(s Step) bool {
		return s.Phase == Undrain && s.Block.Type == "drain"
	})
}
