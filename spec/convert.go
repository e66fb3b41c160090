package spec

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

// account holds a service's values to their limit.
func (d *decoder) account(v cty.Value, at hcl.Range) {
	n, _ := sizeOf(v, maxValue, maxValueDepth)
	before := d.size
	if d.size += n; d.size > maxValue && before <= maxValue {
		d.fail(at, "Service too large", "The values of this service have more than %d bytes together.", maxValue)
	}
}

func (d *decoder) wrong(a *attribute, v cty.Value, at hcl.Range, hint string) any {
	what := v.Type().FriendlyName()
	if hint != "" {
		hint = ": " + hint
	}
	d.fail(at, "Wrong type", "%s takes a %s, and this is a %s%s.", a.name, a.kind, what, hint)
	return nil
}

func quoteHint(v cty.Value) string {
	if !v.IsKnown() {
		return ""
	}
	switch v.Type() {
	case cty.Number:
		return `write it in quotes, because a number loses its zeros (1.10 is 1.1)`
	case cty.Bool:
		return `write it in quotes`
	}
	return ""
}

func (d *decoder) scalar(a *attribute, v cty.Value, at hcl.Range) any {
	if v.Type() == cty.DynamicPseudoType && !v.IsKnown() {
		return KnownOnHost
	}
	if v.Type() != cty.String {
		if a.kind == kindDuration && v.Type() == cty.Number {
			return d.wrong(a, v, at, `write it with its unit: "30s"`)
		}
		return d.wrong(a, v, at, quoteHint(v))
	}
	if !v.IsKnown() {
		return KnownOnHost
	}
	s := v.AsString()
	switch a.kind {
	case kindDuration:
		return d.duration(a, s, at)
	case kindTime:
		t, err := time.Parse(time.RFC3339, s)
		if err != nil {
			d.fail(at, "Not a time", `%s takes a time such as "2026-11-22T10:00:00Z"; %q is not one.`, a.name, s)
			return nil
		}
		return t.UTC().Format(time.RFC3339Nano)
	}
	if why := a.check(s); why != "" {
		if !strings.HasSuffix(why, "?") {
			why += "."
		}
		d.fail(at, "Invalid "+a.name, "%s: %s", a.name, why)
		return nil
	}
	return s
}

// check applies the row's words and form to one string.
func (a *attribute) check(s string) string {
	if a.words != nil && !slices.Contains(a.words, s) {
		return strings.TrimSuffix(fmt.Sprintf("%q is none of %s.%s", s, strings.Join(a.words, ", "), didYouMean(s, a.words)), ".")
	}
	if a.form != nil {
		return a.form.ok(s)
	}
	if strings.ContainsRune(s, 0) {
		return "a NUL cannot stand here"
	}
	return ""
}

func (d *decoder) duration(a *attribute, s string, at hcl.Range) any {
	t, err := time.ParseDuration(s)
	if err != nil {
		d.fail(at, "Not a duration", `%s takes a duration such as "90s", "10m" or "1h30m"; %q is not one.`, a.name, s)
		return nil
	}
	if t < 0 || int64(t) > maxDuration || int64(t) < a.lowest {
		d.fail(at, "Duration out of range", "%s may be from %s to 720h; %q is not.", a.name, time.Duration(a.lowest), s)
		return nil
	}
	return t.String()
}

func (d *decoder) int(a *attribute, v cty.Value, at hcl.Range) any {
	if v.Type() != cty.Number {
		return d.wrong(a, v, at, "write a number, without quotes")
	}
	n, exact := v.AsBigFloat().Int64()
	if exact != 0 || !v.AsBigFloat().IsInt() {
		d.fail(at, "Whole number needed", "%s takes a whole number.", a.name)
		return nil
	}
	if n < a.lowest || a.highest != 0 && n > a.highest {
		d.fail(at, "Number out of range", "%s may be from %d to %d; %d is not.", a.name, a.lowest, a.highest, n)
		return nil
	}
	return n
}

func (d *decoder) share(a *attribute, v cty.Value, at hcl.Range) any {
	bad := func() any {
		d.fail(at, "Invalid "+a.name, `%s takes a number of hosts from 1, or a share from "1%%" to "100%%".`, a.name)
		return nil
	}
	switch {
	case v.Type() == cty.Number && v.IsKnown():
		n, exact := v.AsBigFloat().Int64()
		if exact != 0 || !v.AsBigFloat().IsInt() || n < 1 || n > 1_000_000 {
			return bad()
		}
		return strconv.FormatInt(n, 10)
	case v.Type() == cty.String && v.IsKnown():
		s, percent := strings.CutSuffix(v.AsString(), "%")
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || percent && n > 100 || n > 1_000_000 || s != strconv.Itoa(n) {
			return bad()
		}
		return v.AsString()
	}
	return bad()
}

func (d *decoder) list(a *attribute, v cty.Value, at hcl.Range) any {
	if !v.IsKnown() && (isSequence(v.Type()) || v.Type() == cty.DynamicPseudoType) {
		return []any{KnownOnHost}
	}
	if !isSequence(v.Type()) {
		return d.wrong(a, v, at, `write a list, ["…", "…"]`)
	}
	out := []any{}
	seen := map[string]bool{}
	for it := v.ElementIterator(); it.Next(); {
		_, el := it.Element()
		if el.IsNull() {
			d.fail(at, "Null in a list", "An element of %s is null.", a.name)
			return nil
		}
		s := d.scalar(&attribute{name: a.name, words: a.words, form: a.form}, el, at)
		if s == nil {
			return nil
		}
		if text := s.(string); a.kind == kindStrings && seen[text] && text != KnownOnHost {
			d.fail(at, "Written twice", "%q stands twice in %s. Keep one of the two.", text, a.name)
			return nil
		} else {
			seen[text] = true
		}
		out = append(out, s)
	}
	if a.kind == kindArgv && (len(out) == 0 || out[0] == "") {
		d.fail(at, "Empty command", `%s names no program: write it as a list, ["program", "argument"].`, a.name)
		return nil
	}
	return out
}

func (d *decoder) mapping(a *attribute, v cty.Value, at hcl.Range) any {
	if !v.IsKnown() && (isMapping(v.Type()) || v.Type() == cty.DynamicPseudoType) {
		return map[string]any{KnownOnHost: KnownOnHost}
	}
	if !isMapping(v.Type()) {
		return d.wrong(a, v, at, "write a map: { name = \"…\" }")
	}
	out := map[string]any{}
	for it := v.ElementIterator(); it.Next(); {
		k, el := it.Element()
		if el.IsNull() {
			continue
		}
		if !d.mapKey(a, k.AsString(), at) {
			return nil
		}
		s := d.scalar(&attribute{name: a.name, form: a.form}, el, at)
		if s == nil {
			return nil
		}
		out[k.AsString()] = s
	}
	if a.kind == kindDigests && len(out) == 0 {
		d.fail(at, "No digest", "%s names no platform.", a.name)
		return nil
	}
	return out
}

func (d *decoder) mapKey(a *attribute, k string, at hcl.Range) bool {
	switch {
	case k == "" || strings.ContainsAny(k, "=\x00\r\n"):
		d.fail(at, "Invalid name", "%q cannot be a name in %s.", k, a.name)
	case a.kind == kindDigests && !platformPattern.MatchString(k):
		d.fail(at, "Invalid platform", `A platform is written "linux/amd64"; %q is not one.`, k)
	case a.kind == kindTexts && strings.ContainsAny(k, " :\t"):
		d.fail(at, "Invalid header", "%q cannot be the name of a header.", k)
	default:
		return true
	}
	return false
}

func (d *decoder) expect(a *attribute, v cty.Value, at hcl.Range) any {
	if !isMapping(v.Type()) || !v.IsKnown() {
		return d.wrong(a, v, at, "write { status = 200, body = release.version }")
	}
	out := map[string]any{"status": int64(200)}
	for it := v.ElementIterator(); it.Next(); {
		k, el := it.Element()
		if el.IsNull() {
			continue
		}
		var got any
		switch k.AsString() {
		case "status":
			if !el.IsKnown() {
				got = KnownOnHost
			} else {
				got = d.int(&attribute{name: "status", kind: kindInt, lowest: 100, highest: 599}, el, at)
			}
		case "body":
			got = d.scalar(&attribute{name: "body", form: notEmpty()}, el, at)
		default:
			d.fail(at, "Unknown name", "expect has no %q.%s Valid here: status, body.", k.AsString(), didYouMean(k.AsString(), []string{"status", "body"}))
		}
		if got == nil {
			return nil
		}
		out[k.AsString()] = got
	}
	return out
}

func (d *decoder) labels(a *attribute, v cty.Value, at hcl.Range) any {
	if !isMapping(v.Type()) || !v.IsKnown() {
		return d.wrong(a, v, at, `write { role = "web", zone = ["a", "b"] }, or {} for every host`)
	}
	out := map[string]any{}
	for it := v.ElementIterator(); it.Next(); {
		k, el := it.Element()
		if el.IsNull() {
			d.fail(at, "Null in a map", "The label %q of %s is null. Leave it out, if any value will do.", k.AsString(), a.name)
			return nil
		}
		if k.AsString() == "" {
			d.fail(at, "Invalid label", "A label has a name.")
			return nil
		}
		var one any
		if isSequence(el.Type()) {
			one = d.list(&attribute{name: a.name, kind: kindStrings}, el, at)
		} else if s := d.scalar(&attribute{name: a.name}, el, at); s != nil {
			one = []any{s}
		}
		values, ok := one.([]any)
		if !ok {
			return nil
		}
		if len(values) == 0 {
			d.fail(at, "No host can match", "The label %q may have none of no values. Leave it out, if any value will do.", k.AsString())
			return nil
		}
		sortAny(values)
		out[k.AsString()] = values
	}
	return out
}

func sortAny(values []any) {
	slices.SortFunc(values, func(a, b any) int { return strings.Compare(a.(string), b.(string)) })
}
