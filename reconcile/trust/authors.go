package trust

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"drydock/spec"
)

// What is read to find the authors of one batch: so many of the newest commits
// in it, and so many of those that may have changed the declaration. Where more
// would have to be asked, whoever may have changed it counts as who did; where
// more would have to be read, [Anybody] does.
const (
	maxBatch  = 5000
	maxAlone  = 300 // at once, on a host that never took the service
	maxStates = 30
	maxFacts  = 10_000
)

// Anybody stands among authors where more commits came than are read: nobody is
// hidden behind many, and any one person may be who made it.
const Anybody = "*"

// A Batch is what one host is to take up of one service, or of its removal.
type Batch struct {
	Environment, Service string
	Version              string // that is wanted

	// From is the commit by which the host last took the service, and To the
	// wanted one. From "" is a host that never did: then only the newest commit
	// that brought the release, and the newest that changed the declaration, are
	// known to belong to it.
	From, To string

	// Back: to a release that ran here before. Who goes back has made nothing.
	Back bool

	// State is what the declaration is by a commit: a hash that only its
	// content changes; "" where it is not there. nil: it has not changed.
	State func(ctx context.Context, commit string) (string, error)
	At    time.Time // at which keys are judged
}

// Writers finds who made what, and remembers what it read of each commit. The
// zero value remembers nothing. It is for one goroutine at a time.
type Writers struct {
	History History
	Keys    Keys

	facts map[string]*facts
}

// facts are what one commit says and does, for whatever service.
type facts struct {
	parents []string
	changes map[string][]string // "prod/web 1.4.3" -> emails of its changes
	moves   map[string]bool     // "prod/web": moves its release and names no change
	adds    map[string]bool     // "prod/web": there was none of its release
	tells   map[string]bool     // environments, or Everywhere, whose declarations it may change
	vouches []string            // commits that its maker signs for
	by      []string            // who answers for it
}

// Authors are who made a batch: whose changes a release carries by the trailers
// of the commits that brought it, and who signed, or vouched for, the commits
// that changed the declaration, or moved a release and did not say what it
// carries. Where no signature counts, it is whom the commit names. An error is
// the history's: then nobody knows.
func (w *Writers) Authors(ctx context.Context, b Batch) ([]string, error) {
	commits, cut, err := w.commits(ctx, b)
	if err != nil {
		return nil, err
	}
	vouchers := map[string][]string{}
	key := b.Environment + "/" + b.Service
	var out []string
	read, asked, brought, told := 0, 0, false, b.State == nil
	for i, c := range commits {
		if b.From == "" && brought && told {
			return unique(out), nil
		}
		ahead := len(commits)
		if b.From == "" {
			ahead = min(i+maxAlone, ahead)
		}
		for ; read < ahead; read++ {
			if err := w.vouchers(ctx, commits[read], b.At, vouchers); err != nil {
				return nil, err
			}
		}
		f, err := w.of(ctx, c, b.At)
		if err != nil {
			return nil, err
		}
		by := slices.Concat(f.by, vouchers[c])
		if b.From != "" || !brought {
			for release, emails := range f.changes {
				if release == key+" "+b.Version || b.From != "" && strings.HasPrefix(release, key+" ") {
					out, brought = append(out, emails...), true
				}
			}
			if (f.moves[key] || f.adds[key] && b.From == "") && !b.Back {
				out, brought = append(out, by...), true
			}
		}
		if told || !f.tells[Everywhere] && !f.tells[b.Environment] {
			continue
		}
		did := true
		if asked++; asked <= maxStates {
			if did, err = b.changed(ctx, c, f); err != nil {
				return nil, err
			}
		}
		if did {
			out = append(out, by...)
			told = b.From == "" && asked <= maxStates
		}
	}
	if alone := b.From == "" && brought && told; cut && !alone && !(b.Back && b.State == nil) {
		out = append(out, Anybody)
	}
	return unique(out), nil
}

// vouchers adds who signed for others' commits: what those do is theirs too, or
// somebody could leave their own change unsigned, vouch for it, and approve it.
func (w *Writers) vouchers(ctx context.Context, commit string, at time.Time, out map[string][]string) error {
	f, err := w.of(ctx, commit, at)
	if err != nil {
		return err
	}
	for _, v := range f.vouches {
		out[v] = append(out[v], f.by...)
	}
	return nil
}

// commits are those of a batch, the newest first, and whether there are more.
func (w *Writers) commits(ctx context.Context, b Batch) (out []string, cut bool, err error) {
	if b.From != "" {
		all, err := w.History.Between(ctx, b.From, b.To)
		if err != nil {
			return nil, false, err
		}
		slices.Reverse(all)
		return all[:min(len(all), maxBatch)], len(all) > maxBatch, nil
	}
	seen := map[string]bool{b.To: true}
	out = []string{b.To}
	for i := 0; i < len(out) && len(out) <= maxBatch; i++ {
		raw, err := w.History.Commit(ctx, out[i])
		if err != nil && i == 0 {
			return nil, false, err
		}
		parents, _ := Parents(raw) // where the history ends, so does what is known
		for _, p := range parents {
			if !seen[p] {
				seen[p], out = true, append(out, p)
			}
		}
	}
	return out[:min(len(out), maxBatch)], len(out) > maxBatch, nil
}

// of reads one commit, once.
func (w *Writers) of(ctx context.Context, commit string, at time.Time) (*facts, error) {
	if f := w.facts[commit]; f != nil {
		return f, nil
	}
	f := &facts{changes: map[string][]string{}, moves: map[string]bool{}, adds: map[string]bool{}, tells: map[string]bool{}}
	raw, err := w.History.Commit(ctx, commit)
	if errors.Is(err, ErrUnfit) {
		return f, nil // from before anybody judged: nothing can be known of it
	}
	if err != nil {
		return nil, err
	}
	c, err := ParseCommit(raw)
	if err != nil {
		return f, nil // older than what is judged
	}
	f.parents = c.Parents
	f.by = w.answer(c, at)
	f.read(c)
	parent := ""
	if len(c.Parents) > 0 {
		parent = c.Parents[0]
	}
	changes, err := w.History.Changed(ctx, parent, commit)
	if errors.Is(err, ErrUnfit) {
		return f, nil
	}
	if err != nil {
		return nil, err
	}
	if err := w.look(ctx, f, changes, parent, commit); err != nil {
		return nil, err
	}
	if w.facts == nil || len(w.facts) > maxFacts {
		w.facts = map[string]*facts{}
	}
	w.facts[commit] = f
	return f, nil
}

// answer is who made a commit: who signed it, or whom it names.
func (w *Writers) answer(c Commit, at time.Time) []string {
	if c.Signature != nil {
		// A key that has gone since was somebody's when the commit was made. The
		// date is the commit's own word, and all that it gains is an author.
		for _, then := range []time.Time{at, c.Committer.Time} {
			if names, err := w.Keys.Signers(c.Payload, c.Signature, then); err == nil && len(names) > 0 {
				return unique(names)
			}
		}
	}
	if len(c.Parents) > 1 {
		return nil // it adds nothing, or it would not have been accepted
	}
	return unique([]string{c.Author.Email, c.Committer.Email})
}

// read takes the trailers of a bump:
//
//	Drydock-Release: staging/web 1.4.2 1.4.3 sha256:…
//	Drydock-Change: web <hash> <time> <email> <pull request or -> <subject>
func (f *facts) read(c Commit) {
	f.vouches = c.Trailers("Drydock-Vouch")
	emails := map[string][]string{}
	for _, v := range c.Trailers("Drydock-Change") {
		if words := strings.SplitN(v, " ", 6); len(words) >= 4 {
			emails[words[0]] = append(emails[words[0]], words[3])
		}
	}
	for _, v := range c.Trailers("Drydock-Release") {
		words := strings.Fields(v)
		if len(words) < 3 {
			continue
		}
		_, service, _ := strings.Cut(words[0], "/")
		f.changes[words[0]+" "+words[2]] = emails[service]
	}
}

// look finds what a commit's edits may mean for declarations.
func (w *Writers) look(ctx context.Context, f *facts, changes []Change, parent, commit string) error {
	r := &reader{history: w.History}
	// A release may move from one file to another, and to another version with it.
	was, is := map[string]spec.Change{}, map[string]spec.Change{}
	for _, c := range changes {
		env, language := placeOf(c.Path)
		if !language {
			continue
		}
		old, err := r.file(ctx, parent, c.Path, c.Old)
		if err != nil {
			return err
		}
		new, err := r.file(ctx, commit, c.Path, c.New)
		if err != nil {
			return err
		}
		for _, t := range spec.Touches(old, new, c.Path) {
			if t.Kind == spec.TouchOther {
				f.tells[env] = true
			}
		}
		for into, data := range map[*map[string]spec.Change][]byte{&was: old, &is: new} {
			named, _ := spec.ReleasesIn(data, c.Path) // a file that does not parse names none
			for name, release := range named {
				(*into)[env+"/"+name] = release
			}
		}
		for _, name := range spec.UnreadIn(new, c.Path) {
			f.moves[env+"/"+name] = true // nobody can tell here
		}
	}
	for key, to := range is {
		from, ok := was[key]
		switch {
		case !ok:
			f.adds[key] = true
		case !sameRelease(from, to) && len(f.changes[key+" "+to.Version]) == 0:
			f.moves[key] = true
		}
	}
	return nil
}

// changed reports whether a commit changed the declaration: whether it is
// another than by each of its parents.
func (b Batch) changed(ctx context.Context, commit string, f *facts) (bool, error) {
	is, err := b.State(ctx, commit)
	if err != nil {
		return false, err
	}
	for _, p := range f.parents {
		was, err := b.State(ctx, p)
		if err != nil {
			return false, err
		}
		if was == is {
			return false, nil
		}
	}
	return true, nil
}
