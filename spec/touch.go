package spec

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// A Touch is one thing that an edit of one file does.
type Touch struct {
	Kind     TouchKind
	Name     string // the service; of a freeze its reason; of a forgotten host its name
	From, To Change // of a release or attempt
	Gone     bool   // a block that was deleted
	Line     int    // of the new version or, where that has nothing to show, of the old
	Says     string // what it does, for people, as the end of "this commit …"
}

// TouchKind says what an edit is about. What is none of the narrow kinds is other.
type TouchKind string

// The kinds.
const (
	TouchRelease   TouchKind = "release"   // another release of a service: values only, not a byte more
	TouchAttempt   TouchKind = "attempt"   // the same release again
	TouchFreeze    TouchKind = "freeze"    // a freeze block comes, goes or changes
	TouchForgotten TouchKind = "forgotten" // a forgotten block
	TouchResolved  TouchKind = "resolved"  // a resolved block
	TouchOther     TouchKind = "other"
)

// Touches says what an edit of a file of the language does, from its versions
// before and after; nil is a file that is not there. It is the judge of who may
// make an edit, so it believes bytes: a release is touched if both versions
// with the plain values of release attributes cut out are identical, and blocks
// are touched if what stands beside them is. All else, and what does not parse,
// is [TouchOther].
func Touches(old, new []byte, filename string) []Touch {
	return PartsOf(old, filename).Touches(PartsOf(new, filename))
}

// Parts are one version of a file, taken apart; nothing in it ever changes. Of
// a history in which each commit follows another, each version is taken apart
// once: it is one commit's new file, and the next one's old.
type Parts struct {
	*dissected
	fault *hcl.Diagnostic // set: it does not parse
}

// PartsOf takes a file apart; nil is one that is not there.
func PartsOf(src []byte, filename string) Parts {
	d, fault := dissect(src, filename)
	return Parts{d, fault}
}

// Touches is the function of that name.
func (p Parts) Touches(new Parts) []Touch {
	if p.fault != nil {
		return []Touch{{Kind: TouchOther, Line: 1, Says: "mends or replaces a file that could not be read before"}}
	}
	if fault := new.fault; fault != nil {
		t := Touch{Kind: TouchOther, Line: 1, Says: "leaves a file that cannot be read: " + fault.Summary}
		if fault.Subject != nil {
			t.Line = fault.Subject.Start.Line
		}
		return []Touch{t}
	}
	is := new.dissected
	was := p.withAttempts(is)
	var out []Touch
	if o, ok := beside(was, is); ok {
		out = append(out, o)
	}
	out = append(out, touchedReleases(was, is)...)
	return append(out, touchedBlocks(was, is)...)
}

// ReleasesIn are the releases that a file names, by service; those that are not
// plain values, and of services that the file declares twice, are left out.
func ReleasesIn(src []byte, filename string) (map[string]Change, error) {
	return PartsOf(src, filename).Releases()
}

// Releases is ReleasesIn.
func (p Parts) Releases() (map[string]Change, error) {
	if p.fault != nil {
		return nil, hcl.Diagnostics{p.fault}
	}
	out := make(map[string]Change, len(p.releases))
	for name, r := range p.releases {
		out[name] = r.says
	}
	return out, nil
}

// UnreadIn are the services of a file whose release ReleasesIn leaves out; nil
// for a file that does not parse, which nothing is loaded from.
func UnreadIn(src []byte, filename string) []string {
	d, fault := dissect(src, filename)
	if fault != nil {
		return nil
	}
	var out []string
	for _, u := range d.units {
		for _, n := range u.nodes {
			if n.typ == "service" && len(n.labels) > 0 && d.releases[n.labels[0].name] == nil {
				out = append(out, n.labels[0].name)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// MovesIn are the moved blocks of a file, as far as they are plain values; none
// of a file that does not parse.
func MovesIn(src []byte, filename string) []Moved { return PartsOf(src, filename).Moves() }

// Moves is MovesIn.
func (p Parts) Moves() []Moved {
	if p.fault != nil {
		return nil
	}
	d := p.dissected
	var out []Moved
	for _, u := range d.units {
		for _, n := range u.nodes {
			if n.typ != "moved" {
				continue
			}
			var m Moved
			for name, into := range map[string]*string{"from": &m.From, "to": &m.To} {
				if a := n.body.attr(name); a != nil && plainValue(a.expr) {
					if v, diags := a.expr.Value(nil); !diags.HasErrors() && v.Type() == cty.String && !v.IsNull() {
						*into = v.AsString()
					}
				}
			}
			if m.From != "" && m.To != "" {
				out = append(out, m)
			}
		}
	}
	return out
}

// withAttempts is the old version with the attempts written that the new one
// writes where none stood: this line is what a retry adds.
func (d *dissected) withAttempts(is *dissected) *dissected {
	src := d.src
	for _, name := range sortedKeys(is.releases) {
		r, was := is.releases[name], d.releases[name]
		if was == nil || was.attempt || !r.attempt || !sameRelease(was.says, r.says) {
			continue
		}
		if out, err := Bump(src, d.name, name, r.says); err == nil {
			src = out
		}
	}
	if bytes.Equal(src, d.src) {
		return d
	}
	again, fault := dissect(src, d.name)
	if fault != nil {
		return d
	}
	for name, r := range again.releases {
		if was := d.releases[name]; was != nil {
			r.says = was.says
		}
	}
	return again
}

// sameRelease leaves the attempt out.
func sameRelease(a, b Change) bool {
	a.Attempt, b.Attempt = 0, 0
	return a.Equal(b)
}

// beside finds a difference in what is neither a release's value nor, where
// those differ, a block that has a kind of its own.
func beside(was, is *dissected) (Touch, bool) {
	whole := slices.Equal(was.own(), is.own())
	a, b := was.frame(!whole), is.frame(!whole)
	for i := range max(len(a), len(b)) {
		switch {
		case i >= len(b):
			return is.other(was, len(is.src), a[i].at), true
		case i >= len(a):
			return is.other(was, b[i].at, len(was.src)), true
		case a[i].text != b[i].text:
			n := commonPrefix(a[i].text, b[i].text)
			return is.other(was, b[i].at+n, a[i].at+n), true
		}
	}
	return Touch{}, false
}

func commonPrefix(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// other says what differs at a place of the new version, and of the old.
func (d *dissected) other(was *dissected, at, wasAt int) Touch {
	t := Touch{Kind: TouchOther, Line: posAt(d.src, min(at, len(d.src))).Line}
	switch {
	case len(d.src) == 0:
		t.Says, t.Line = "deletes a file", 1
		return t
	case len(was.src) == 0:
		t.Says = "adds a file"
		return t
	}
	for _, o := range d.odd {
		if was.releases[o.service] != nil || o.from <= at && at <= o.to {
			t.Says, t.Line = o.why, posAt(d.src, o.from).Line
			return t
		}
	}
	what := cmp.Or(d.at(at, was), was.at(wasAt, d), "what stands between the blocks")
	t.Says = "changes " + what
	return t
}

func touchedReleases(was, is *dissected) []Touch {
	var out []Touch
	for _, name := range sortedKeys(is.releases) {
		b, a := is.releases[name], was.releases[name]
		if a == nil {
			continue // beside says so: the block is new
		}
		t := Touch{Name: name, From: a.says, To: b.says, Line: b.line}
		before, after := max(a.says.Attempt, 1), max(b.says.Attempt, 1)
		if !sameRelease(a.says, b.says) {
			t.Kind, t.Says = TouchRelease, releaseWords(name, a.says, b.says)
			out = append(out, t)
			if after > 1 && after != before {
				t.Kind, t.Says = TouchAttempt, fmt.Sprintf("makes it attempt %d of %s %s", after, name, b.says.Version)
				out = append(out, t)
			}
			continue
		}
		switch {
		case after > before:
			t.Kind, t.Says = TouchAttempt, fmt.Sprintf("tries %s %s again (attempt %d)", name, b.says.Version, after)
			out = append(out, t)
		case after < before:
			t.Kind, t.Says = TouchOther, fmt.Sprintf("takes %s %s back from attempt %d to %d", name, b.says.Version, before, after)
			out = append(out, t)
		}
	}
	return out
}

func releaseWords(name string, from, to Change) string {
	if from.Version == to.Version {
		return fmt.Sprintf("gives %s %s another digest", name, to.Version)
	}
	return fmt.Sprintf("moves %s from %s to %s", name, from.Version, to.Version)
}

// touchedBlocks lists the blocks of own kind that came, went or changed.
func touchedBlocks(was, is *dissected) []Touch {
	a, b := was.own(), is.own()
	if slices.Equal(a, b) {
		return nil
	}
	var out []Touch
	left := map[string]int{}
	for _, text := range a {
		left[text]++
	}
	for _, u := range is.units {
		text := is.text(u)
		if !u.own() {
			continue
		}
		if left[text] > 0 {
			left[text]--
			continue
		}
		out = append(out, is.came(u))
	}
	for _, u := range was.units {
		if text := was.text(u); u.own() && left[text] > 0 {
			left[text]--
			out = append(out, Touch{Kind: TouchKind(u.typ), Name: u.name, Gone: true, Line: posAt(was.src, u.from).Line,
				Says: fmt.Sprintf("deletes %s %q", u.typ, u.name)})
		}
	}
	if out == nil {
		out = append(out, Touch{Kind: TouchOther, Line: 1, Says: "changes the order of blocks"})
	}
	return out
}

// came is a block that is new or changed: a narrow role may write what the
// language takes, in plain values.
func (d *dissected) came(u unit) Touch {
	t := Touch{Kind: TouchKind(u.typ), Name: u.name, Line: posAt(d.src, u.from).Line, Says: fmt.Sprintf("writes %s %q", u.typ, u.name)}
	for _, n := range u.nodes {
		if why := plainBlock(d.name, d.src, n); why != "" {
			t.Kind, t.Says = TouchOther, fmt.Sprintf("writes %s %q, which is not in plain values: %s", u.typ, u.name, why)
		}
	}
	return t
}

// plainBlock says what is wrong with a block as one in plain values.
func plainBlock(name string, src []byte, n *blockNode) string {
	s := language().block(n.typ)
	ev := newEvaluator(nil, new(int))
	d := &decoder{full: ev, alike: ev, src: func(string) []byte { return src }}
	if !d.checkLabels(s, n) {
		return d.diags[0].Detail
	}
	if len(n.body.blocks) > 0 {
		return "it holds a block"
	}
	for i := range n.body.attrs {
		if a := &n.body.attrs[i]; !plainValue(a.expr) {
			return a.name + " is not a plain value"
		}
	}
	out := d.attributes(s, n.typ, n.body)
	if len(d.diags) > 0 {
		return d.diags[0].Detail
	}
	from, _ := out.config["from"].(string)
	until, _ := out.config["until"].(string)
	if n.typ == "freeze" && from != "" && until != "" {
		if f := (Freeze{From: parseTime(from), Until: parseTime(until)}); !f.From.Before(f.Until) {
			return "it ends before it begins"
		}
	}
	return ""
}

// plainValue reports whether an expression is a literal, or a list or map of
// literals, as its bytes stand there.
func plainValue(x hclsyntax.Expression) bool {
	switch x := x.(type) {
	case *hclsyntax.TupleConsExpr:
		return !slices.ContainsFunc(x.Exprs, func(e hclsyntax.Expression) bool { return !plainValue(e) })
	case *hclsyntax.ObjectConsExpr:
		return !slices.ContainsFunc(x.Items, func(i hclsyntax.ObjectConsItem) bool {
			k, v := i.KeyExpr, i.ValueExpr
			if key, ok := k.(*hclsyntax.ObjectConsKeyExpr); ok {
				k = key.Wrapped
			}
			return !isLiteral(k) || !plainValue(v)
		})
	}
	return isLiteral(x)
}
