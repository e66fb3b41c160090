package trust

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"drydock/spec"
)

// tally is who signed what is asked for, each person once.
type tally struct {
	people  map[string]Counted
	ignored []Ignored
}

func (t *tally) ignore(file, who, why string, args ...any) {
	t.ignored = append(t.ignored, Ignored{file, who, fmt.Sprintf(why, args...)})
}

// decision is what is known before it is said whether that is enough.
func (t *tally) decision() Decision {
	slices.SortFunc(t.ignored, func(a, b Ignored) int {
		return cmp.Or(strings.Compare(a.File, b.File), strings.Compare(a.Who, b.Who), strings.Compare(a.Why, b.Why))
	})
	return Decision{Counted: sortCounted(slices.Collect(maps.Values(t.people))), Ignored: t.ignored}
}

func sortCounted(list []Counted) []Counted {
	slices.SortFunc(list, func(a, b Counted) int {
		return cmp.Or(strings.Compare(a.Who, b.Who), strings.Compare(a.File, b.File))
	})
	return list
}

// count goes through the signed statements for those that say what is wanted,
// by people of this host. Expired ones count only where an override or a
// rollback may make something of them.
func (p Policy) count(a Ask, want Statement, signed []SignedStatement) *tally {
	t := &tally{people: map[string]Counted{}}
	signer := p.signers(a.Environment, signed)
	signed = slices.SortedFunc(slices.Values(signed), func(a, b SignedStatement) int {
		// Of one person's, the one that holds longest.
		return cmp.Or(b.Expires.Compare(a.Expires), strings.Compare(a.File, b.File), strings.Compare(a.Key, b.Key))
	})
	for _, s := range signed {
		if why := differs(want, s.Statement); why != "" {
			t.ignore(s.File, "", "%s", why)
			continue
		}
		who, why := signer(s)
		if why != "" {
			t.ignore(s.File, who, "%s", why)
			continue
		}
		before, again := t.people[who]
		expired := !a.Now.Before(s.Expires)
		switch {
		case again:
			t.ignore(s.File, who, "%s is counted already (%s): people count, not their keys", who, before.File)
		case expired && !a.SkipExpiry && !a.Rollback:
			t.ignore(s.File, who, "it expired at %s", moment(s.Expires))
		default:
			t.people[who] = Counted{Who: who, File: s.File, Expires: s.Expires, Expired: expired}
		}
	}
	return t
}

// signers finds the person behind each signature. A key is looked at once, with
// all the names that it signed in, whatever it signed.
func (p Policy) signers(env string, signed []SignedStatement) func(SignedStatement) (who, why string) {
	names := map[string][]string{}
	for _, s := range signed {
		for _, name := range s.Principals {
			if !slices.Contains(names[s.Key], name) {
				names[s.Key] = append(names[s.Key], name)
			}
		}
	}
	type answer struct{ who, why string }
	known := map[string]answer{}
	return func(s SignedStatement) (string, string) {
		if len(s.Principals) == 0 || s.Key == "" {
			return "", cmp.Or(s.Why, unknown)
		}
		is, ok := known[s.Key]
		if !ok {
			is.who, is.why = p.person(names[s.Key], env)
			known[s.Key] = is
		}
		if is.why == "" && !slices.Contains(s.Principals, is.who) {
			return is.who, "its key signed other statements in the name of " + is.who + ", and this one in none that counts"
		}
		return is.who, is.why
	}
}

const unknown = "nobody whom this host knows made its signature"

// differs says why a statement is not the one that is wanted; "" if it is, but
// for when it expires.
func differs(want, is Statement) string {
	switch {
	case is.Kind != want.Kind:
		return fmt.Sprintf("it is an %s, and another statement is needed", is)
	case is.Environment != want.Environment:
		return fmt.Sprintf("it is for %s, not for %s", shown(is.Environment), shown(want.Environment))
	case is.Service != want.Service:
		return fmt.Sprintf("it is for the service %s, not for %s", shown(is.Service), shown(want.Service))
	case is.Name != want.Name:
		return fmt.Sprintf("it attests %s, not %s", shown(is.Name), shown(want.Name))
	case is.Version != want.Version:
		return fmt.Sprintf("it is for the version %s, not for %s", shown(is.Version), shown(want.Version))
	case is.Digest != want.Digest:
		return fmt.Sprintf("it is for other bytes of %s (digest %s, not %s): they were signed before or beside this build", shown(is.Version), shown(is.Digest), shown(want.Digest))
	case is.Spec != want.Spec:
		return fmt.Sprintf("it is for another declaration (spec %s, not %s): what the service is told to do has changed", spec.Short(is.Spec), spec.Short(want.Spec))
	}
	return ""
}

// person is the one person whom a key with these names stands for, or why there
// is none. A key that a robot may use is no person's, and a key of two people
// shows neither of them.
func (p Policy) person(names []string, env string) (who, why string) {
	var people []string
	nobody, here := unknown, false
	for _, name := range unique(names) {
		roles, err := p.rolesOf(name)
		if err != nil {
			if nobody = err.Error(); !isPattern(name) && slices.ContainsFunc(p.Roles, func(r Role) bool { return r.has(name, true) || r.has(name, false) }) {
				return name, nobody // in two roles that exclude each other
			}
			continue
		}
		for _, r := range roles {
			if !r.People {
				return name, fmt.Sprintf("%s is no person (role %q), and only people approve and attest", name, r.Name)
			}
			here = here || r.holdsIn(env)
		}
		people = append(people, name)
	}
	switch {
	case len(people) == 0:
		return "", nobody
	case len(people) > 1:
		return "", fmt.Sprintf("its key is that of %s, and nobody can tell who of them signed; give each a key of their own", strings.Join(people, " and "))
	case !here:
		return people[0], fmt.Sprintf("the roles of %s do not hold in %s", people[0], shown(env))
	}
	return people[0], ""
}

func (r Role) holdsIn(env string) bool {
	return len(r.Environments) == 0 || slices.Contains(r.Environments, env)
}

// demand is what one rule, or the host, asks for.
type demand struct {
	Ask
	by       string // "this host asks"
	required int
	from     []string // nil: every person of this host
	authors  []string // of from, who have to sign
	able     []string // of from, or of the host, who can count here, by name
	open     []string // patterns of the host that somebody else may fit
}

// demands are all that have to be met. The host's floor is one of its own: the
// repository may choose whom it asks, not how few people a host believes.
func (p Policy) demands(a Ask) []demand {
	var out []demand
	named, open := p.peopleIn(a.Environment)
	for _, r := range a.Rules {
		// A block that nobody has to meet would be no block.
		m := demand{Ask: a, by: "its approval block asks", required: max(1, r.Required), from: unique(r.From)}
		if m.from == nil {
			m.from = []string{}
		}
		for _, who := range m.from {
			if _, why := p.person([]string{who}, a.Environment); why == "" {
				m.able = append(m.able, who)
			}
			if r.Authors && a.authored(who) {
				m.authors = append(m.authors, who)
			}
		}
		out = append(out, m)
	}
	floor := p.Approvals[a.Environment]
	if a.Kind != Approval {
		floor = max(1, floor) // a removal, and the agent, are never a matter of one signer of commits
	}
	if floor > 0 {
		out = append(out, demand{Ask: a, by: "this host asks", required: floor, able: named, open: open})
	}
	return out
}

// peopleIn are the people of an environment: those with names, and the patterns
// that others fit.
func (p Policy) peopleIn(env string) (named, open []string) {
	for _, r := range p.Roles {
		for _, who := range r.Principals {
			if !r.People || negated(who) || !r.holdsIn(env) {
				continue
			}
			if isPattern(who) {
				open = append(open, who)
			} else if _, why := p.person([]string{who}, env); why == "" {
				named = append(named, who)
			}
		}
	}
	return unique(named), unique(open)
}

// authored reports whether a person is one of the authors: an email's case is
// nobody's own.
func (a Ask) authored(who string) bool {
	return slices.ContainsFunc(a.Authors, func(author string) bool {
		return author == Anybody || strings.EqualFold(strings.TrimSpace(author), who)
	})
}

func (m demand) asks(who string) bool { return m.from == nil || slices.Contains(m.from, who) }

// short says what the demand lacks, and who could bring it; "" if it is met.
func (m demand) short(signers map[string]Counted) (why string, missing []string) {
	var has, fresh []string
	for who, c := range signers {
		if !m.asks(who) {
			continue
		}
		has = append(has, who)
		if !c.Expired || m.SkipExpiry {
			fresh = append(fresh, who)
		}
	}
	if m.Rollback && m.enough(has) && len(fresh) > 0 {
		return "", nil
	}
	if m.enough(fresh) {
		return "", nil
	}
	slices.Sort(fresh)
	left := func(of []string) []string {
		return slices.DeleteFunc(slices.Clone(of), func(who string) bool { return slices.Contains(fresh, who) })
	}
	authors, could := left(m.authors), append(left(m.able), m.open...)
	need := m.required - len(fresh)
	switch {
	case m.Rollback && m.enough(has):
		need, why = 1, "it was approved once, which has expired, and one person has to approve the way back to it"
	case need > 0:
		why = fmt.Sprintf("%s for %s, and %s", m.by, people(m.required), named(fresh))
	case len(authors) > 0:
		return "authors of its batch have to approve it besides: " + strings.Join(authors, ", "), authors
	case slices.Contains(m.Authors, Anybody):
		need, why = 1, fmt.Sprintf("more commits have come than are read, so that %s may have made it, and nobody approves alone what they made", fresh[0])
	default:
		need, why = 1, fmt.Sprintf("%s made it, and nobody approves alone what they made", fresh[0])
	}
	if len(authors) > 0 {
		why += "; authors of its batch are to be among them: " + strings.Join(authors, ", ")
	}
	if len(m.open) == 0 && len(could) < need {
		why += "; of those who are asked, too few are people of this host (its trust section) to ever be enough"
		could = append(could, left(m.from)...)
	}
	if could = unique(append(could, authors...)); len(could) == 0 {
		could = []string{"another person of this host"}
	}
	return why, could
}

// enough reports whether these people, all of whom the demand asks, meet it.
func (m demand) enough(who []string) bool {
	if len(who) < m.required || len(who) == 1 && m.authored(who[0]) {
		return false
	}
	return !slices.ContainsFunc(m.authors, func(author string) bool { return !slices.Contains(who, author) })
}

func people(n int) string {
	if n == 1 {
		return "one person"
	}
	return fmt.Sprintf("%d people", n)
}

func named(list []string) string {
	if len(list) == 0 {
		return "nobody has approved"
	}
	return "only " + strings.Join(list, ", ") + " approved"
}

// unasked are the authors whom no rule asks.
func unasked(a Ask, demands []demand) []string {
	var out []string
	for _, author := range unique(a.Authors) {
		if author == Anybody {
			continue
		}
		asked := slices.ContainsFunc(demands, func(m demand) bool {
			return slices.ContainsFunc(m.authors, func(who string) bool { return strings.EqualFold(strings.TrimSpace(author), who) })
		})
		if !asked {
			out = append(out, author)
		}
	}
	return out
}
