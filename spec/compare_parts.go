package spec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// compareParts lists what differs of two declarations beside the release.
func compareParts(before, after Declared) []PartChange {
	var out []PartChange
	was, is := partsOf(before.Service), partsOf(after.Service)
	ids := map[string]bool{}
	for id := range was {
		ids[id] = true
	}
	for id := range is {
		ids[id] = true
	}
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		b, a := was[id], is[id]
		switch {
		case b == nil:
			out = append(out, PartChange{Part: id, Change: "added"})
			continue
		case a == nil:
			out = append(out, PartChange{Part: id, Change: "removed"})
			continue
		}
		names := map[string]bool{}
		for k := range b {
			names[k] = true
		}
		for k := range a {
			names[k] = true
		}
		for _, name := range slices.Sorted(maps.Keys(names)) {
			from, to := b[name], a[name]
			if bytes.Equal(from, to) {
				continue
			}
			p := PartChange{Part: id, Name: name, Change: "changed", From: showJSON(from), To: showJSON(to)}
			switch {
			case from == nil:
				p.Change = "added"
			case to == nil:
				p.Change = "removed"
			}
			out = append(out, p)
		}
	}
	return out
}

// partsOf is a declaration as one JSON object a part. What differs between two
// releases of one declaration (a source with the version in it) is the
// release's, so values that hold the version are compared without it.
func partsOf(s Service) map[string]map[string]json.RawMessage {
	parts := map[string]map[string]json.RawMessage{}
	put := func(id string, v any) {
		data, err := json.Marshal(v)
		if err != nil || string(data) == "null" {
			return
		}
		if v := s.Release.Version; len(v) > 2 {
			data = bytes.ReplaceAll(data, []byte(v), []byte("${release.version}"))
		}
		var m map[string]json.RawMessage
		if json.Unmarshal(data, &m) == nil {
			delete(m, "origin") // where it is written deploys nothing
			delete(m, "written")
			parts[id] = m
		}
	}
	all := slices.Concat(s.Drains, s.Migrates, s.Checks, s.Hooks)
	for _, b := range []*Block{s.Install, s.Start} {
		if b != nil {
			all = append(all, *b)
		}
	}
	for _, b := range all {
		id := b.ID()
		for n := 2; parts[id] != nil; n++ {
			id = b.ID() + " (" + strconv.Itoa(n) + ")"
		}
		put(id, b.Config)
	}
	put("artifact", s.Artifact)
	rollout := s.Rollout
	rollout.Windows = nil
	put("rollout", rollout)
	if len(s.Rollout.Windows) > 0 {
		var words []string
		for _, w := range s.Rollout.Windows {
			words = append(words, w.words())
		}
		put("window", map[string]any{"": strings.Join(words, "; ")})
	}
	put("approval", s.Approval)
	put("batch", s.Batch)
	if len(s.DependsOn) > 0 {
		put("depends_on", map[string]any{"": s.DependsOn})
	}
	return parts
}

// showJSON is a value as a person would write it.
func showJSON(v json.RawMessage) string {
	if v == nil {
		return ""
	}
	var s string
	if json.Unmarshal(v, &s) == nil {
		return s
	}
	var list []string
	if json.Unmarshal(v, &list) == nil {
		return strings.Join(list, " ")
	}
	var t Text
	if json.Unmarshal(v, &t) == nil && t.Credential != "" {
		return t.String()
	}
	return string(v)
}

// gatesOf lists what a new revision of d will wait for, in the order of asking.
func gatesOf(d Declared, in side, now time.Time) []Gate {
	var gates []Gate
	skipped := map[string]bool{}
	for _, o := range in.overrides {
		if meansService(o.Services, d.Name) && o.Until.After(now) {
			for _, s := range o.Skip {
				skipped[s] = true
			}
		}
	}
	add := func(name, detail string, args ...any) {
		if !skipped[name] {
			gates = append(gates, Gate{name, fmt.Sprintf(detail, args...)})
		}
	}
	if a := d.Approval; a != nil {
		add("approval", "%d of %s%s", a.Required, strings.Join(a.From, ", "), map[bool]string{true: ", and the changes' authors"}[a.Authors])
	}
	if names := d.Requires(); len(names) > 0 {
		add("attestation", "%s", strings.Join(names, ", "))
	}
	for _, h := range d.Holds {
		add(h.Gate, "%s", h.Reason)
	}
	for _, f := range in.freezes {
		if meansService(f.Services, d.Name) && (f.Until.IsZero() || f.Until.After(now)) {
			add("freeze", "%s%s", f.Reason, between(f.From, f.Until))
		}
	}
	for _, w := range d.Rollout.Windows {
		add("window", "%s", w.words())
	}
	if len(d.DependsOn) > 0 {
		add("depends_on", "%s", strings.Join(d.DependsOn, ", "))
	}
	if n := d.Rollout.Canary; n > 0 {
		if b := d.Rollout.Bake; b > 0 && !skipped["bake"] {
			add("canary", "%d first, then %s", n, shortDuration(b))
		} else {
			add("canary", "%d first", n)
		}
	}
	if slices.Contains(d.Rollout.Written, "max_parallel") {
		add("slot", "%s at once", d.Rollout.MaxParallel)
	}
	return gates
}

// words is "mon tue 09:00–16:00 Europe/Berlin".
func (w Window) words() string {
	days := strings.Join(w.Days, " ")
	if days == "" {
		days = "every day"
	}
	return fmt.Sprintf("%s %s–%s %s", days, w.From, w.To, w.Zone)
}

func meansService(services []string, name string) bool {
	return len(services) == 0 || slices.Contains(services, name)
}

func between(from, until time.Time) string {
	s := ""
	if !from.IsZero() {
		s += " from " + from.Format(time.RFC3339)
	}
	if !until.IsZero() {
		s += " until " + until.Format(time.RFC3339)
	}
	return s
}

// shortDuration is Go's notation without zero seconds: "10m", not "10m0s".
func shortDuration(d Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
