package trust

import (
	"fmt"
	"slices"
	"strings"
)

// Permissions are all there are, in the order of the reference.
func Permissions() []Permission {
	return []Permission{Bump, Rollback, Promote, Freeze, Operate, Any}
}

// Check says why a trust section cannot be used. One mistake refuses all of it:
// a typing error must not widen or narrow who is trusted.
func (p Policy) Check() error {
	if p.Since != "" && !isHash(p.Since) {
		return fmt.Errorf("since %q is no full commit hash; write the 40 digits that git rev-parse prints", clip(p.Since))
	}
	if len(p.Roles) == 0 {
		return fmt.Errorf("no role says who may do what, so that no commit could be accepted; write a role block")
	}
	if p.Freshness < 0 {
		return fmt.Errorf("freshness %s is less than nothing; write a time such as 168h", p.Freshness)
	}
	seen := map[string]bool{}
	for _, r := range p.Roles {
		if seen[r.Name] {
			return fmt.Errorf("role %q stands twice; make them one, or give one another name", r.Name)
		}
		seen[r.Name] = true
		if err := r.check(); err != nil {
			return fmt.Errorf("role %q: %w", r.Name, err)
		}
	}
	for _, a := range p.Roles {
		for _, b := range p.Roles {
			if who := inBoth(a, b); a.People && !b.People && who != "" {
				return fmt.Errorf("%s is in the people role %q and in role %q too, and people are not counted by what robots can sign; keep it in one of the two (a person may have every permission in a people role)", who, a.Name, b.Name)
			}
		}
	}
	return p.checkFloors()
}

func (r Role) check() error {
	if r.Name == "" || strings.IndexFunc(r.Name, hides) >= 0 {
		return fmt.Errorf("a role needs a name that can be read")
	}
	if len(r.May) == 0 {
		return fmt.Errorf("may is empty; list what it may do: %s", words(Permissions(), ", "))
	}
	for _, m := range r.May {
		if !slices.Contains(Permissions(), m) {
			return fmt.Errorf("there is no permission %q; there are %s", clip(string(m)), words(Permissions(), ", "))
		}
	}
	fits := false
	for _, who := range r.Principals {
		name := strings.TrimPrefix(who, "!")
		for _, c := range name {
			if c <= ' ' || c > '~' {
				return fmt.Errorf("%q is no principal: it has the character %U, and only visible ASCII is taken, because of names that look alike; write it as allowed_signers has it", clip(who), c)
			}
		}
		if name == "" || len(name) > 320 || strings.ContainsAny(name, `,!"#`) {
			return fmt.Errorf("%q is no principal: write one a string, without commas and quotes, as allowed_signers has it", clip(who))
		}
		fits = fits || name == who
	}
	if !fits {
		return fmt.Errorf("it has no principals; list who is in it")
	}
	for _, e := range r.Environments {
		if !environmentName.MatchString(e) || e == "approvals" {
			return fmt.Errorf("%q is no environment's name; write the name of a folder of the repository", clip(e))
		}
	}
	return nil
}

func (p Policy) checkFloors() error {
	people, open := map[string]bool{}, false
	for _, r := range p.Roles {
		for _, who := range r.Principals {
			if r.People && !negated(who) {
				people[who] = true
				open = open || isPattern(who)
			}
		}
	}
	for env, n := range p.Approvals {
		switch {
		case !environmentName.MatchString(env) || env == "approvals":
			return fmt.Errorf("approvals: %q is no environment's name; write the name of a folder of the repository", clip(env))
		case n < 0 || n > 1000:
			return fmt.Errorf("approvals: %d people in %s is out of range; write a number up to 1000", n, env)
		case !open && n > len(people):
			return fmt.Errorf("approvals: %s needs %d people, and the people roles have %d; nothing could ever be approved there", env, n, len(people))
		}
	}
	return nil
}

// Names are the principals that roles name, without their patterns. Nobody gets
// to be one of them by a pattern: neither in a role, nor in allowed_signers,
// where whoever has left may have no line any more.
func (p Policy) Names() []string {
	var out []string
	for _, r := range p.Roles {
		for _, who := range r.Principals {
			if !isPattern(who) && !negated(who) {
				out = append(out, who)
			}
		}
	}
	return unique(out)
}

func isPattern(who string) bool { return strings.ContainsAny(who, "*?") }
func negated(who string) bool   { return strings.HasPrefix(who, "!") }

// has reports whether the role lists a principal: by name, or by a pattern if
// none of its negated ones excludes it.
func (r Role) has(who string, literally bool) bool {
	fits := false
	for _, p := range r.Principals {
		switch name := strings.TrimPrefix(p, "!"); {
		case negated(p) && glob(name, who):
			return false
		case !negated(p) && literally == !isPattern(p) && glob(p, who):
			fits = true
		}
	}
	return fits
}

// rolesOf are a principal's roles. One that any role names gets none by a
// pattern; one that patterns put among people and others has none.
func (p Policy) rolesOf(who string) ([]Role, error) {
	if isPattern(who) {
		return nil, fmt.Errorf("%s is a pattern, which is nobody; give the key a line with a name", shown(who))
	}
	named := slices.ContainsFunc(p.Roles, func(r Role) bool { return slices.Contains(r.Principals, who) })
	var out []Role
	people, others := "", ""
	for _, r := range p.Roles {
		if !r.has(who, named) {
			continue
		}
		if out = append(out, r); r.People {
			people = r.Name
		} else {
			others = r.Name
		}
	}
	if people != "" && others != "" {
		return nil, fmt.Errorf("%s is in the people role %q and in role %q too; name it in one of them", shown(who), people, others)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s is in no role", shown(who))
	}
	return out, nil
}

// allows reports whether roles together may do what is needed.
func allows(roles []Role, n Need) bool {
	return slices.ContainsFunc(roles, func(r Role) bool {
		if len(n.Permissions) == 0 {
			return true // an approval file: its signature speaks for itself
		}
		if len(r.Environments) > 0 && n.Environment != "" && !slices.Contains(r.Environments, n.Environment) {
			return false
		}
		return slices.Contains(r.May, Any) || slices.ContainsFunc(n.Permissions, func(p Permission) bool { return p != Any && slices.Contains(r.May, p) })
	})
}

// unmet are the needs that roles together do not cover.
func unmet(roles []Role, needs []Need) []Need {
	var out []Need
	for _, n := range needs {
		if !allows(roles, n) {
			out = append(out, n)
		}
	}
	return out
}

// mayVouch reports whether somebody with these roles is an `any` person.
func mayVouch(roles []Role) bool {
	return slices.ContainsFunc(roles, func(r Role) bool { return r.People && slices.Contains(r.May, Any) })
}

// says describes roles for an error: "pipeline: bump in staging".
func says(roles []Role) string {
	var out []string
	for _, r := range roles {
		s := r.Name + ": " + words(r.May, ", ")
		if len(r.Environments) > 0 {
			s += " in " + strings.Join(r.Environments, ", ")
		}
		out = append(out, s)
	}
	return strings.Join(out, "; ")
}

func words[T ~string](list []T, sep string) string {
	var out []string
	for _, w := range list {
		out = append(out, string(w))
	}
	return strings.Join(out, sep)
}

// glob matches with * and ?, as OpenSSH does: case counts, and only the last *
// is ever tried again.
func glob(pattern, s string) bool {
	p, i, star, from := 0, 0, -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, from = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
			p, i = p+1, i+1
		case star >= 0:
			from++
			p, i = star+1, from
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// inBoth names a principal, or two patterns, by which somebody is in both
// roles; "" if nobody can be.
func inBoth(a, b Role) string {
	for _, x := range a.Principals {
		for _, y := range b.Principals {
			switch {
			case negated(x) || negated(y) || isPattern(x) != isPattern(y):
				// A name gets nothing by a pattern.
			case !isPattern(x) && x == y:
				return x
			case isPattern(x) && meet(x, y) && !a.excludes(y) && !b.excludes(x):
				return "whoever fits " + x + " and " + y
			}
		}
	}
	return ""
}

// excludes reports whether a negated pattern of the role covers all that
// another pattern can mean.
func (r Role) excludes(pattern string) bool {
	return slices.ContainsFunc(r.Principals, func(p string) bool {
		name := strings.TrimPrefix(p, "!")
		return negated(p) && (name == pattern || !strings.Contains(name, "?") && glob(name, pattern))
	})
}

// meet reports whether some word fits both patterns.
func meet(a, b string) bool {
	// row[j]: what is read of a, and b[:j], can be one word.
	row := make([]bool, len(b)+1)
	row[0] = true
	for j := range b {
		row[j+1] = row[j] && b[j] == '*'
	}
	for i := range a {
		next := make([]bool, len(b)+1)
		next[0] = row[0] && a[i] == '*'
		for j := range b {
			switch {
			case a[i] == '*' || b[j] == '*':
				next[j+1] = row[j+1] || next[j] // it ends here, or takes one more
			default:
				next[j+1] = row[j] && (a[i] == '?' || b[j] == '?' || a[i] == b[j])
			}
		}
		row = next
	}
	return row[len(b)]
}
