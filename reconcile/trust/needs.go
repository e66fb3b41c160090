package trust

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"

	"drydock/spec"
)

// Everywhere is the environment of what stands at the root: it takes a role
// that is not limited to environments.
const Everywhere = "*"

// A Need is one thing that a commit does, and what it takes.
type Need struct {
	Permissions []Permission // one of them is enough, and Any always is; none: any role at all
	Environment string       // "": of none
	Path        string
	Line        int    // 0: the file as a whole
	Does        string // for people: "moves web from 1.4.2 to 1.4.3"
}

// String is "moves web from 1.4.2 to 1.4.3 (prod/web.hcl:4), which takes bump in prod".
func (n Need) String() string {
	s := n.Does
	if n.Path != "" {
		s += " (" + shown(n.Path)
		if n.Line > 0 {
			s += fmt.Sprintf(":%d", n.Line)
		}
		s += ")"
	}
	takes := "any role"
	if len(n.Permissions) > 0 {
		takes = words(n.Permissions, " or ")
	}
	switch n.Environment {
	case "":
	case Everywhere:
		takes += " in every environment"
	default:
		takes += " in " + shown(n.Environment)
	}
	return s + ", which takes " + takes
}

var (
	environmentName = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$`)
	// Compiled when it is first needed: it takes a millisecond, which every start
	// of the agent's binary would wait for.
	approvalPath = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^approvals/[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}/[A-Za-z0-9][A-Za-z0-9._-]{0,63}/[A-Za-z0-9][A-Za-z0-9.+~_-]{0,159}/[0-9a-f]{12,64}\.sig$`)
	})
)

const maxApproval = 64 << 10

// placeOf says which environment a path is of, and whether the language is read
// from it. What is read is what [spec.Load] reads.
func placeOf(path string) (env string, language bool) {
	top, below, inFolder := strings.Cut(path, "/")
	base := path[strings.LastIndexByte(path, '/')+1:]
	language = spec.IsSource(base)
	switch {
	case !inFolder:
		return Everywhere, language
	case strings.HasPrefix(top, "."), top == "approvals", below == "":
		return Everywhere, false
	}
	return top, language
}

func regular(mode uint32) bool { return mode == 0o100644 || mode == 0o100755 }

// Needs says what each path that differs between two commits takes, sorted by
// path. It is a pure reading: whether anybody signed for it is Judge's to say.
// past may be nil; then all of the history is read to see which releases were
// left.
func Needs(ctx context.Context, h History, past *Past, old, new string) ([]Need, error) {
	raw, err := h.Commit(ctx, new)
	if err != nil {
		return nil, err
	}
	c, err := ParseCommit(raw)
	if err != nil {
		return nil, fmt.Errorf("commit %s: %w", spec.Short(new), err)
	}
	if past == nil {
		past = &Past{}
	}
	r := &reader{history: h, past: past, accepted: old}
	edits, err := r.changed(ctx, old, new)
	if err != nil {
		return nil, err
	}
	return r.needs(ctx, edits, c, func([]Need) bool { return false })
}

// needs reads a commit's edits, until enough is known.
func (r *reader) needs(ctx context.Context, edits []edit, c Commit, enough func([]Need) bool) ([]Need, error) {
	if len(edits) == 0 {
		does := "changes nothing (a heartbeat)"
		if v := c.Trailers("Drydock-Vouch"); len(v) > 0 {
			does = "changes nothing, and vouches for " + spec.Short(shown(v[0]))
		}
		return []Need{{Permissions: []Permission{Operate}, Does: does}}, nil
	}
	var out []Need
	for _, e := range edits {
		more, err := r.path(ctx, e, c)
		if err != nil {
			return nil, err
		}
		if out = append(out, more...); enough(out) {
			break
		}
	}
	slices.SortStableFunc(out, func(a, b Need) int {
		return cmp.Or(strings.Compare(a.Path, b.Path), a.Line-b.Line, strings.Compare(a.Does, b.Does))
	})
	return out, nil
}

// path reads one changed path.
func (r *reader) path(ctx context.Context, e edit, c Commit) ([]Need, error) {
	env, language := placeOf(e.Path)
	one := func(does string, may ...Permission) []Need {
		return []Need{{Permissions: may, Environment: env, Path: e.Path, Does: does}}
	}
	if what := oddMode(e.Change); what != "" {
		return one(what, Any), nil
	}
	if strings.HasPrefix(e.Path, "approvals/") {
		what, err := r.approval(ctx, e)
		if what == "" && err == nil {
			return one("adds an approval"), nil
		}
		return one(what, Any), err
	}
	if !language {
		return one("changes a file that is no declaration", Any), nil
	}
	old, err := r.parts(ctx, e.before, e.Path, e.Old)
	if err != nil {
		return nil, err
	}
	new, err := r.parts(ctx, e.after, e.Path, e.New)
	if err != nil {
		return nil, err
	}
	var out []Need
	for _, t := range old.Touches(new) {
		n, err := r.touch(ctx, e, t, c)
		if err != nil {
			return nil, err
		}
		n.Environment, n.Path, n.Line = env, e.Path, t.Line
		out = append(out, n)
	}
	if len(out) == 0 { // other bytes all the same
		return one("writes a file another way that says the same", Any), nil
	}
	return out, nil
}

// oddMode says what is wrong with a change as one of plain files.
func oddMode(c Change) string {
	for _, e := range []struct {
		Entry
		verb string
	}{{c.New, "makes"}, {c.Old, "replaces or deletes"}} {
		switch {
		case e.Mode == 0 && e.Blob == "", regular(e.Mode):
		case e.Mode == 0o120000:
			return e.verb + " a symbolic link"
		case e.Mode == 0o160000:
			return e.verb + " a submodule"
		default:
			return fmt.Sprintf("%s a file of mode %o", e.verb, e.Mode)
		}
	}
	switch {
	case c.Old.Blob != "" && c.New.Blob != "" && c.Old.Mode != c.New.Mode:
		return fmt.Sprintf("changes a file's mode from %o to %o", c.Old.Mode, c.New.Mode)
	case c.Old.Blob == "" && c.New.Mode == 0o100755:
		return "adds an executable file"
	}
	return ""
}

// approval says why a change below approvals/ is not the addition of a
// well-formed file, or "".
func (r *reader) approval(ctx context.Context, e edit) (string, error) {
	switch {
	case e.New.Blob == "":
		return "deletes an approval", nil
	case e.Old.Blob != "":
		return "changes an approval, which is only ever added or deleted", nil
	case !approvalPath().MatchString(e.Path):
		return "adds a file below approvals/ whose name is no approval's", nil
	}
	data, err := r.file(ctx, e.after, e.Path, e.New)
	switch {
	case err != nil:
		return "", err
	case len(data) == 0 || len(data) > maxApproval:
		return fmt.Sprintf("adds an approval of %d bytes, and it has from 1 to %d", len(data), maxApproval), nil
	}
	return "", nil
}

// touch says what one touch of a file of the language takes.
func (r *reader) touch(ctx context.Context, e edit, t spec.Touch, c Commit) (Need, error) {
	env, _ := placeOf(e.Path)
	n := Need{Permissions: []Permission{Any}, Does: t.Says}
	switch t.Kind {
	case spec.TouchAttempt, spec.TouchForgotten, spec.TouchResolved:
		n.Permissions = []Permission{Operate}
	case spec.TouchFreeze:
		n.Permissions = []Permission{Freeze}
	case spec.TouchRelease:
		n.Permissions = []Permission{Bump}
		left, err := r.left(ctx, env+"/"+t.Name, t.From, t.To, e.before)
		if err != nil {
			return n, err
		}
		if left != "" {
			n.Permissions = []Permission{Rollback}
			n.Does += fmt.Sprintf(", a release that %s has left (%s named it)", env, spec.Short(left))
			return n, nil
		}
		if c.promotes(env+"/"+t.Name, t.From, t.To) {
			from, err := r.runs(ctx, env, t.Name, t.To, e.before)
			if err != nil {
				return n, err
			}
			if from != "" {
				n.Permissions = []Permission{Bump, Promote}
				n.Does += ", which " + from + " runs"
			}
		}
	}
	return n, nil
}

// promotes reports whether a commit's trailers name the move of a release.
func (c Commit) promotes(key string, from, to spec.Change) bool {
	digest := cmp.Or(to.Digest, "-")
	if len(to.Digests) > 0 {
		var list []string
		for _, p := range slices.Sorted(maps.Keys(to.Digests)) {
			list = append(list, p+"="+to.Digests[p])
		}
		digest = strings.Join(list, " ")
	}
	return slices.Contains(c.Trailers("Drydock-Release"), strings.Join([]string{key, from.Version, to.Version, digest}, " "))
}
