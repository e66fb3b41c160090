package reconcile

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"drydock/spec"
)

var update = flag.Bool("update", false, "write the plans that come out into testdata/plan")

// TestPlans reads the tables in testdata/plan. A file holds a repository and
// cases; a case is a folder with what is changed in the repository since
// everything ran (lines "old => new", or "file + text"; \n is a new line), what was observed
// (see observe below), and the plan that follows.
func TestPlans(t *testing.T) {
	files, err := filepath.Glob("testdata/plan/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no tables", err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		ar := txtar.Parse(data)
		repo := map[string]string{}
		var cases []string
		part := map[string]string{}
		for _, f := range ar.Files {
			if strings.HasSuffix(f.Name, ".hcl") {
				repo[f.Name] = string(f.Data)
				continue
			}
			part[f.Name] = string(f.Data)
			if c := filepath.Dir(f.Name); !slices.Contains(cases, c) {
				cases = append(cases, c)
			}
		}
		for _, c := range cases {
			t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar")+"/"+c, func(t *testing.T) {
				table := tabled{t: t, repo: repo, have: Observed{Memory: *NewMemory(), Boot: "boot-1", Found: map[string]map[string]Condition{}}}
				table.ran(table.load(repo))
				now := table.changed(repo, part[c+"/change"])
				want := table.load(now)
				table.observe(part[c+"/observed"], want)
				if later, ok := part[c+"/later"]; ok {
					want = table.load(table.changed(now, later))
				}
				before := cloned(t, table.have.Memory)
				plan := Diff(want, table.have)
				if d := cmp.Diff(before, cloned(t, table.have.Memory)); d != "" {
					t.Errorf("Diff changed what it was given: %s", d)
				}
				if d := cmp.Diff(printed(Diff(want, table.have)), printed(plan)); d != "" {
					t.Errorf("the same input gave another plan: %s", d)
				}
				got := printed(plan)
				if *update {
					for i, f := range ar.Files {
						if f.Name == c+"/plan" {
							ar.Files[i].Data = []byte(got)
						}
					}
				} else if d := cmp.Diff(part[c+"/plan"], got); d != "" {
					t.Errorf("plan (-expected +got):\n%s", d)
				}
				holdsAfter(t, want, table.have)
			})
		}
		if out := txtar.Format(ar); *update && !bytes.Equal(out, data) {
			if err := os.WriteFile(name, out, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// printed is the plan as the tables have it.
func printed(p Plan) string {
	var b strings.Builder
	for _, s := range p.Services {
		fmt.Fprintf(&b, "%s %s", s.Service, s.State)
		if len(s.Steps) > 0 || s.Resume {
			fmt.Fprintf(&b, " %s", s.Purpose)
		}
		for _, f := range []struct {
			is   bool
			word string
		}{{s.First, "first"}, {s.Resume, "resumed"}, {s.Rollback, "rollback"}, {s.Retry, "retry"}, {s.Slot, "slot"}} {
			if f.is && len(s.Steps) > 0 {
				b.WriteString(" " + f.word)
			}
		}
		if s.Reason != "" {
			fmt.Fprintf(&b, ": %s", s.Reason)
		}
		b.WriteString("\n")
		for _, r := range s.Records {
			fmt.Fprintf(&b, "  remember %s\n", r.Kind)
		}
		for _, st := range s.Steps {
			fmt.Fprintf(&b, "  %-24s %-7s %s\n", st.ID, st.Action, st.Origin)
		}
	}
	return b.String()
}

// tabled is one case of a table.
type tabled struct {
	t    *testing.T
	repo map[string]string
	have Observed
}

func (c *tabled) load(repo map[string]string) spec.Wanted {
	c.t.Helper()
	files := fstest.MapFS{}
	for n, text := range repo {
		files[n] = &fstest.MapFile{Data: []byte(text)}
	}
	fleet, diags := spec.Load("", files)
	if diags.HasErrors() {
		c.t.Fatal(diags)
	}
	want, diags := fleet.For(spec.Host{Name: "web-1", OS: "linux", Arch: "amd64", Environment: "prod", Labels: map[string]string{"role": "web"}})
	if diags.HasErrors() {
		c.t.Log(diags)
	}
	return want
}

// ran makes all services of a commit what runs, healthy and in rotation.
func (c *tabled) ran(want spec.Wanted) {
	c.have = applied(c.t, Diff(want, c.have), c.have)
}

func (c *tabled) changed(repo map[string]string, change string) map[string]string {
	c.t.Helper()
	out := map[string]string{}
	for n, text := range repo {
		out[n] = text
	}
	for _, line := range strings.Split(strings.TrimSpace(change), "\n") {
		if line == "" {
			continue
		}
		line = strings.ReplaceAll(line, `\n`, "\n")
		if name, text, ok := strings.Cut(line, " + "); ok {
			out[name] += text + "\n"
			continue
		}
		old, now, ok := strings.Cut(line, " => ")
		old, now, found := strings.TrimSpace(old), strings.TrimSpace(now), false
		for n, text := range out {
			if strings.Contains(text, old) {
				out[n], found = strings.ReplaceAll(text, old, now), true
			}
		}
		if !ok || !found {
			c.t.Fatalf("nothing to change: %s", line)
		}
	}
	return out
}

// observe applies lines to what is remembered and was found:
//
//	nothing ran                     a new host
//	boot boot-2                     it booted since then
//	found web/drain/file absent …   a condition, and its detail
//	found web/install/archive foreign /srv/old
//	found web/install/archive another releases/0.9, or current releases/1.0
//	began web/install/archive       the plan for the change came so far, and was killed in that step
//	quarantined web; halted web; held web; released web; settled web; drained web; migrated web; mended web
func (c *tabled) observe(lines string, want spec.Wanted) {
	c.t.Helper()
	for _, line := range strings.Split(strings.TrimSpace(lines), "\n") {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		name, block, _ := strings.Cut(f[1], "/")
		var s *spec.Service
		for i := range want.Services {
			if want.Services[i].Name == name {
				s = &want.Services[i]
			}
		}
		r := Record{Service: name, Time: time.Unix(0, 0), Boot: c.have.Boot}
		switch f[0] {
		case "nothing":
			c.have.Memory, c.have.Found = *NewMemory(), map[string]map[string]Condition{}
			continue
		case "boot":
			c.have.Boot = f[1]
			continue
		case "found":
			cond := Condition{Detail: strings.Join(f[3:], " ")}
			if f[2] == "foreign" {
				cond = Condition{Is: Altered, Foreign: f[3]}
			} else if f[2] == "another" { // release of ours
				cond = Condition{Is: Altered, Current: f[3]}
			} else if f[2] == "current" { // the wanted one
				cond = Condition{Is: Present, Current: f[3], Wanted: true}
			} else if err := cond.Is.UnmarshalText([]byte(f[2])); err != nil {
				c.t.Fatal(err)
			}
			if c.have.Found[name] == nil {
				c.have.Found[name] = map[string]Condition{}
			}
			c.have.Found[name][block] = cond
			continue
		case "began":
			c.began(want, name, f[1])
			continue
		case "quarantined":
			r.Kind, r.Revision, r.Reason = Quarantined, ptr(s.Revision()), "status 503"
		case "halted":
			open := OpenPlan{Purpose: Deploy, Target: *s}
			c.have.Memory.Apply(Record{Kind: Planned, Service: name, Plan: &open})
			r.Kind, r.Step, r.Reason = Stopped, name+"/check/http", "it failed"
			if len(f) > 2 {
				r.Step = name + "/" + f[2]
			}
		case "held":
			r.Kind = Held
		case "released":
			r.Kind = Released
		case "settled":
			r.Kind, r.Block = Settled, &c.have.Memory.Service(name).Running.Service.Drains[0]
		case "drained":
			r.Kind, r.Phase, r.Block = Begun, Drain, &c.have.Memory.Service(name).Running.Service.Drains[0]
		case "mended":
			for range 3 {
				c.have.Memory.Apply(Record{Kind: Planned, Service: name, Plan: &OpenPlan{Purpose: Mend, Target: *s, Steps: []string{name + "/start/process"}}})
				c.have.Memory.Apply(Record{Kind: Closed, Service: name, Time: time.Unix(60, 0), Boot: c.have.Boot})
			}
			continue
		case "migrated":
			open := OpenPlan{Purpose: Deploy, Target: *s}
			c.have.Memory.Apply(Record{Kind: Planned, Service: name, Plan: &open})
			r.Kind, r.Phase, r.Block = Done, Migrate, &s.Migrates[0]
		default:
			c.t.Fatalf("not understood: %s", line)
		}
		c.have.Memory.Apply(r)
	}
}

func (c *tabled) began(want spec.Wanted, name, step string) {
	p := DiffOne(name, want, c.have)
	for _, r := range recordsOf(p, c.have.Boot) {
		if r.Kind == Closed {
			c.t.Fatalf("no step %s in %s", step, printed(Plan{Services: []ServicePlan{p}}))
		}
		c.have.Memory.Apply(r)
		if r.Step == step && r.Kind == Begun {
			return
		}
	}
}

// recordsOf is what the journal has once a plan was carried out.
func recordsOf(p ServicePlan, boot string) []Record {
	all := slices.Clone(p.Records)
	if len(p.Steps) > 0 || p.Resume {
		if !p.Resume {
			open := p.open()
			all = append(all, Record{Kind: Planned, Service: p.Service, Plan: &open})
		}
		for _, s := range p.Steps {
			r := Record{Kind: Begun, Service: p.Service, Step: s.ID, Phase: s.Phase, Commits: s.Commits(), Boot: boot, Time: time.Unix(0, 0)}
			if s.Block.Type != "run" {
				r.Block = &s.Block
			}
			all = append(all, r)
			r.Kind = Done
			all = append(all, r)
		}
		all = append(all, Record{Kind: Closed, Service: p.Service, Boot: boot, Time: time.Unix(0, 0)})
	}
	for i := range all {
		all[i].Boot = boot
	}
	return all
}

// applied is what is remembered and found once a plan was carried out.
func applied(t testing.TB, p Plan, have Observed) Observed {
	t.Helper()
	after := Observed{Memory: cloned(t, have.Memory), Boot: have.Boot, Found: map[string]map[string]Condition{}}
	for _, sp := range p.Services {
		for _, r := range recordsOf(sp, have.Boot) {
			after.Memory.Apply(cloned(t, r))
		}
		before := have.Found[sp.Service]
		places := map[string]Is{}
		if r := have.Memory.Service(sp.Service).Running; r != nil {
			for _, b := range r.Service.Drains {
				places[drainKey(b)] = before[b.ID()].Is
			}
		}
		touched := map[string]Is{}
		for _, s := range sp.Steps {
			is := Present
			if s.Action == Remove {
				is = Absent
			}
			switch {
			case s.Block.Type == "run":
			case s.Phase == Drain:
				places[drainKey(s.Block)] = Absent
			case s.Phase == Undrain:
				places[drainKey(s.Block)] = Present
			case s.Phase == Install, s.Phase == Start:
				touched[s.Block.ID()] = is
			}
		}
		found := map[string]Condition{}
		if r := after.Memory.Service(sp.Service).Running; r != nil && r.Foreign == "" {
			for _, b := range r.Service.Drains {
				found[b.ID()] = Condition{Is: places[drainKey(b)]}
			}
			for _, b := range []*spec.Block{r.Service.Install, r.Service.Start} {
				if b == nil {
					continue
				}
				found[b.ID()] = before[b.ID()]
				if is, ok := touched[b.ID()]; ok {
					found[b.ID()] = Condition{Is: is}
				}
			}
		}
		after.Found[sp.Service] = found
	}
	return after
}

// holdsAfter is the ninth invariant: applying a plan and diffing again gives
// the empty plan. A plan that was resumed comes before what is wanted now.
func holdsAfter(t testing.TB, want spec.Wanted, have Observed) {
	t.Helper()
	for range 3 {
		p := Diff(want, have)
		again := slices.ContainsFunc(p.Services, func(s ServicePlan) bool { return s.Resume || s.State == Halted })
		have = applied(t, p, have)
		if again {
			continue
		}
		if p = Diff(want, have); !p.Empty() {
			t.Errorf("applied, and still to do:\n%s", printed(p))
		}
		return
	}
}
