package hostagent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/hcl/v2"

	"drydock/reconcile"
	"drydock/spec"
)

// resolver turns commits into what this host should run, and decides how much
// a fault holds back: a file that does not parse, or an error at the root, the
// environment; an error inside a service, that service and what depends on it.
type resolver struct {
	Options
	mu     sync.Mutex // one at a time: source and loader are not for two
	loader *spec.Loader
	trust  *verifier // nil: any head is accepted
	asked  *consents
	last   resolved // of the last follow
	seen   string   // the head it was made from
}

// resolved is what a host should run, by the newest commit that says so.
type resolved struct {
	want spec.Wanted // zero where nothing is known
	err  error       // why this is not what the source's head says
	head error       // the part of err that is the source's own; only of a peek
	url  string      // the mirror that served it
	// consent is what people agreed to by the newest commit that could be read;
	// nil: none could, and what was known before holds.
	consent *consent
	keep    []reconcile.Record
	// warrant says who answers for what was accepted just now; blocked, why the
	// head was not.
	warrant *reconcile.Warrant
	blocked *Refused
	// early marks what was accepted last, while the source is still asked.
	early bool
}

// follow asks the source, accepts its head, and remembers what was good.
func (r *resolver) follow(ctx context.Context) resolved {
	r.mu.Lock()
	defer r.mu.Unlock()
	accepted, err := r.accepted(ctx)
	if err != nil {
		return r.stay(ctx, "", err)
	}
	snap, herr := r.Source.Head(ctx, accepted)
	if herr != nil {
		if accepted == "" || r.seen == accepted && r.last.want.Commit != "" {
			return resolved{want: r.last.want, err: herr}
		}
		// Just started, and the source is down: what was accepted stays in force.
		if snap, err = r.Source.At(ctx, accepted); err != nil {
			return r.stay(ctx, "", errors.Join(herr, err))
		}
	}
	m := r.Journal.Memory()
	if herr == nil && snap.Commit == accepted {
		r.forgive(ctx, m)
	}
	if snap.Commit == r.seen && r.last.want.Commit != "" {
		if r.asked.again && herr == nil {
			r.last.consent = r.asked.read(ctx, snap, r.last.want, m)
		}
		out := r.last
		out.err = errors.Join(herr, out.err)
		return out
	}
	var warrant *reconcile.Warrant
	if r.trust.needs(m, accepted, snap.Commit) {
		warrant, err = r.trust.judge(ctx, m, accepted, snap)
		r.trust.keep()
		if err != nil {
			return r.refused(ctx, m, accepted, errors.Join(herr, err))
		}
	}
	out := r.read(ctx, snap)
	if snap.Commit != accepted || warrant != nil {
		if err := r.accept(ctx, snap.Commit, warrant); err != nil {
			return r.stay(ctx, accepted, err)
		}
	}
	for _, rec := range out.keep {
		if _, err := r.Journal.Append(ctx, rec); err != nil {
			return r.stay(ctx, accepted, err)
		}
	}
	if out.want.Commit == "" { // nothing is declared for this environment, and never was
		return r.stay(ctx, "", errors.Join(herr, out.err))
	}
	r.last, r.seen = out, snap.Commit
	out.err, out.warrant = errors.Join(herr, out.err), warrant
	return out
}

// refused stays where the host is, and remembers when it saw the head.
func (r *resolver) refused(ctx context.Context, m reconcile.Memory, accepted string, cause error) resolved {
	out := r.stay(ctx, accepted, cause)
	if !errors.As(cause, &out.blocked) {
		return out
	}
	if rec, new := sighting(m, out.blocked); new {
		if _, err := r.Journal.Append(ctx, rec); err != nil {
			out.err = errors.Join(out.err, err)
		}
	}
	return out
}

// forgive notes that the head is the accepted commit again: what was refused is
// off the branch.
func (r *resolver) forgive(ctx context.Context, m reconcile.Memory) {
	if m.Refused == nil {
		return
	}
	if _, err := r.Journal.Append(ctx, reconcile.Record{Kind: reconcile.Sighted, Commit: m.Accepted}); err != nil {
		r.Log.Warn("the journal", "error", err) // it is said again, and nothing hangs on it
	}
}

// stay is what is in force where nothing new can be: what this process resolved
// last; after a start, what the accepted commit says; and where even that
// cannot be read, or was accepted before this host asked who signs, what runs
// here, so that it is looked after all the same.
func (r *resolver) stay(ctx context.Context, accepted string, cause error) resolved {
	if r.last.want.Commit != "" {
		return resolved{want: r.last.want, err: cause}
	}
	m := r.Journal.Memory()
	if accepted != "" && r.trust.looked(m, accepted) {
		if snap, err := r.Source.At(ctx, accepted); err == nil {
			if out := r.read(ctx, snap); out.want.Commit != "" {
				r.last, r.seen = out, ""
				out.err = errors.Join(cause, out.err)
				return out
			}
		}
	}
	if m.Accepted == "" {
		return resolved{err: cause}
	}
	want := spec.Wanted{Commit: m.Accepted, Host: r.Host}
	for _, s := range m.Services {
		switch {
		case s.Halt != nil:
			want.Services = append(want.Services, s.Halt.Target)
		case s.Running != nil && s.Running.Foreign == "":
			want.Services = append(want.Services, s.Running.Service)
		}
	}
	sortServices(want.Services)
	return resolved{want: want, err: cause}
}

func sortServices(s []spec.Service) {
	slices.SortFunc(s, func(a, b spec.Service) int { return strings.Compare(a.Name, b.Name) })
}

// peek is follow without accepting or writing anything.
func (r *resolver) peek(ctx context.Context) resolved {
	r.mu.Lock()
	defer r.mu.Unlock()
	accepted, err := r.accepted(ctx)
	if err != nil {
		return resolved{err: err, head: err}
	}
	snap, herr := r.Source.Head(ctx, accepted)
	if herr != nil {
		if accepted == "" {
			return resolved{err: herr, head: herr}
		}
		if snap, err = r.Source.At(ctx, accepted); err != nil {
			return resolved{err: errors.Join(herr, err), head: herr}
		}
	}
	var warrant *reconcile.Warrant
	if m := r.Journal.Memory(); r.trust.needs(m, accepted, snap.Commit) {
		if warrant, err = r.trust.judge(ctx, m, accepted, snap); err != nil {
			out := r.stay(ctx, accepted, errors.Join(herr, err))
			out.head = herr
			_ = errors.As(err, &out.blocked)
			return out
		}
	}
	out := r.read(ctx, snap)
	out.err, out.head, out.warrant = errors.Join(herr, out.err), herr, warrant
	return out
}

// local is what was accepted last, without network.
func (r *resolver) local(ctx context.Context) (out resolved) {
	r.mu.Lock()
	defer r.mu.Unlock()
	accepted, err := r.accepted(ctx)
	m := r.Journal.Memory()
	if r.trust != nil && m.Refused != nil {
		known := &Refused{Head: m.Refused.Commit, Since: m.Refused.Since, Err: errors.New(m.Refused.Reason)}
		defer func() { out.err, out.blocked = errors.Join(known, out.err), known }()
	}
	if err != nil || accepted == "" {
		return resolved{err: err}
	}
	if !r.trust.looked(m, accepted) {
		return r.stay(ctx, "", fmt.Errorf("commit %s was accepted before this host's trust section asked who signed it; it is verified when the agent looks at its source", spec.Short(accepted)))
	}
	snap, err := r.Source.At(ctx, accepted)
	if err != nil {
		return r.stay(ctx, "", err)
	}
	out = r.read(ctx, snap)
	if out.want.Commit == "" {
		return r.stay(ctx, "", out.err)
	}
	return out
}

// reverify judges what the clone says was accepted, for a journal that was
// begun anew, without network.
func (r *resolver) reverify(ctx context.Context, accepted string) (*reconcile.Warrant, error) {
	if r.trust == nil {
		return nil, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	snap, err := r.Source.At(ctx, accepted)
	if err != nil {
		return nil, err
	}
	return r.trust.judge(ctx, r.Journal.Memory(), accepted, snap)
}

// accepted is the high-water mark: the journal's, or the clone's where the
// journal had to be begun anew.
func (r *resolver) accepted(ctx context.Context) (string, error) {
	m := r.Journal.Memory()
	if m.Accepted != "" {
		return m.Accepted, nil
	}
	return r.Source.Accepted(ctx)
}

// accept makes a commit that passed all checks the high-water mark. The clone's
// comes first: after a crash in between, the journal is behind it, and the head
// is judged once more.
func (r *resolver) accept(ctx context.Context, commit string, w *reconcile.Warrant) error {
	if err := r.Source.Accept(ctx, commit); err != nil {
		return err
	}
	_, err := r.Journal.Append(ctx, reconcile.Record{Kind: reconcile.Accepted, Commit: commit, Warrant: w})
	return err
}

// read evaluates a commit for this host.
func (r *resolver) read(ctx context.Context, snap Snapshot) resolved {
	m := r.Journal.Memory()
	fleet, _ := r.loader.Load(snap.Commit, snap.FS)
	if err := r.faults(fleet, snap.Commit); err != nil {
		good := m.Good[""]
		if good == "" || good == snap.Commit {
			return resolved{err: err}
		}
		want, gerr := r.forHost(ctx, good)
		if gerr != nil {
			return resolved{err: errors.Join(err, gerr)}
		}
		out := r.hold(ctx, want, m, "")
		out.consent = r.asked.read(ctx, snap, out.want, m)
		out.err = fmt.Errorf("%w\nThe environment stays at its last good commit, %s", err, spec.Short(good))
		return out
	}
	want, _ := fleet.For(r.Host)
	out := r.hold(ctx, want, m, snap.Commit)
	out.url = snap.URL
	out.consent = r.asked.read(ctx, snap, out.want, m)
	return out
}

func (r *resolver) forHost(ctx context.Context, commit string) (spec.Wanted, error) {
	snap, err := r.Source.At(ctx, commit)
	if err != nil {
		return spec.Wanted{}, err
	}
	fleet, _ := r.loader.Load(commit, snap.FS)
	if err := r.faults(fleet, commit); err != nil {
		return spec.Wanted{}, err
	}
	want, _ := fleet.For(r.Host)
	return want, nil
}

// hold puts the last good declaration in the place of services with errors.
// good is the commit that becomes the environment's last good one, or "".
func (r *resolver) hold(ctx context.Context, want spec.Wanted, m reconcile.Memory, good string) resolved {
	out := resolved{want: want}
	for name := range want.Held {
		at := m.Good[name]
		if at == "" {
			if at = m.Good[""]; at == "" {
				continue // never good: nothing to stay at
			}
			out.keep = append(out.keep, reconcile.Record{Kind: reconcile.Good, Service: name, Commit: at})
		}
		before, err := r.forHost(ctx, at)
		if err != nil {
			out.err = errors.Join(out.err, fmt.Errorf("%s: its last good declaration could not be read: %w", name, err))
			continue
		}
		if i := slices.IndexFunc(before.Services, func(s spec.Service) bool { return s.Name == name }); i >= 0 {
			out.want.Services = append(out.want.Services, before.Services[i])
		}
	}
	sortServices(out.want.Services)
	for name, commit := range m.Good {
		if name != "" && commit != "" && want.Held[name] == nil {
			out.keep = append(out.keep, reconcile.Record{Kind: reconcile.Good, Service: name})
		}
	}
	if good != "" && m.Good[""] != good {
		out.keep = append(out.keep, reconcile.Record{Kind: reconcile.Good, Commit: good})
	}
	return out
}

// faults are what holds this host's whole environment at a commit.
func (r *resolver) faults(fleet *spec.Fleet, commit string) error {
	env := r.Host.Environment
	if !slices.Contains(fleet.Environments(), env) {
		return fmt.Errorf("commit %s has no folder %s/ with *.hcl files: this host's hostagent.hcl names the wrong environment, or the folder is to be made, if only with an empty file", spec.Short(commit), env)
	}
	if diags := fleet.Faults(env); diags.HasErrors() {
		return &SpecError{Commit: commit, Diags: diags}
	}
	if diags := fleet.CheckVersion(r.Version); diags.HasErrors() {
		return &SpecError{Commit: commit, Diags: diags}
	}
	return nil
}

// SpecError is a declaration that is not taken up.
type SpecError struct {
	Commit string
	Diags  hcl.Diagnostics
}

// Error names each fault with its line.
func (e *SpecError) Error() string {
	var lines []string
	for _, d := range e.Diags {
		if d.Severity != hcl.DiagError {
			continue
		}
		where := ""
		if d.Subject != nil {
			where = spec.Origin{Commit: e.Commit, Range: *d.Subject}.String() + ": "
		}
		lines = append(lines, where+d.Summary+". "+d.Detail)
	}
	return strings.Join(lines, "\n")
}
