package hostagent

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"drydock/reconcile"
	"drydock/spec"
)

// Pause stops all plans that have not begun; Resume lets them go on. Neither
// waits for the pass that follows.
func (a *Agent) Pause(ctx context.Context) error {
	return a.tell(ctx, reconcile.Record{Kind: reconcile.Paused})
}

// Resume ends Pause.
func (a *Agent) Resume(ctx context.Context) error {
	return a.tell(ctx, reconcile.Record{Kind: reconcile.Resumed})
}

// Drain takes a service out of rotation for a person, until Undrain, and
// returns when that is done, or cannot be done yet. Other services, and the
// source, are not waited for.
func (a *Agent) Drain(ctx context.Context, service string) error {
	return a.person(ctx, service, reconcile.Held)
}

// Undrain puts it back, also where a person took it out by other means. The
// note is for the person, and empty where there was something to put back.
func (a *Agent) Undrain(ctx context.Context, service string) (note string, err error) {
	m := a.Journal.Memory()
	if r := m.Services[service]; r != nil && r.Running != nil && a.isIn(ctx, service, r) {
		return service + " is in rotation already; nothing was changed", nil
	}
	return "", a.person(ctx, service, reconcile.Released)
}

// isIn reports whether a service stands in rotation everywhere, for certain,
// and nobody holds it out. A word to put it back would find nothing to do, and
// stand against whoever takes it out next.
func (a *Agent) isIn(ctx context.Context, service string, r *reconcile.Remembered) bool {
	if r.Held != nil || len(r.Drains) > 0 || r.Running.Foreign != "" || r.Open != nil && r.Open.Committed {
		return false
	}
	a.mu.Lock()
	want := a.want
	a.mu.Unlock()
	found := a.observe(ctx, service, want, r)
	return !slices.ContainsFunc(r.Running.Service.Drains, func(b spec.Block) bool { return found[b.ID()].Is != reconcile.Present })
}

func (a *Agent) person(ctx context.Context, service string, k reconcile.Kind) error {
	m := a.Journal.Memory()
	r := m.Services[service]
	if r == nil || r.Running == nil {
		return &UnknownService{service, running(m)}
	}
	if k == reconcile.Held && len(r.Running.Service.Drains) == 0 {
		return &NoDrain{service}
	}
	if err := a.tell(ctx, reconcile.Record{Kind: k, Service: service}); err != nil {
		return err
	}
	return a.ask(ctx, service)
}

func running(m reconcile.Memory) (names []string) {
	for n, r := range m.Services {
		if r.Running != nil {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	return names
}

// NoDrain says that nothing is declared which takes a service out of rotation.
type NoDrain struct{ Name string }

// Error says what to declare.
func (e *NoDrain) Error() string {
	return fmt.Sprintf("%s runs here without a drain block, so nothing takes it out of rotation; declare one", e.Name)
}

// UnknownService says that no such service runs on this host.
type UnknownService struct {
	Name  string
	Known []string
}

// Error names those that do.
func (e *UnknownService) Error() string {
	if len(e.Known) == 0 {
		return fmt.Sprintf("no service %q runs here; none does yet", e.Name)
	}
	return fmt.Sprintf("no service %q runs here; there are: %s", e.Name, strings.Join(e.Known, ", "))
}

// NotFound makes the API answer so.
func (e *UnknownService) NotFound() bool { return true }

// tell writes a person's word down and lets a pass follow it.
func (a *Agent) tell(ctx context.Context, r reconcile.Record) error {
	if _, err := a.Journal.Append(ctx, r); err != nil {
		return err
	}
	a.Nudge()
	return nil
}
