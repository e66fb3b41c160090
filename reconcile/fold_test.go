package reconcile

import (
	"encoding/json"
	"os"
	"testing"
	"time"

	"drydock/spec"
)

// TestFold says for each kind of record what it changes.
func TestFold(t *testing.T) {
	at := time.Unix(1000, 0).UTC()
	one, two := declared("web", "1", migrating(false)), declared("web", "2", migrating(false))
	planned := func(s spec.Service, p Purpose) Record {
		return Record{Kind: Planned, Service: "web", Plan: &OpenPlan{Purpose: p, Target: s, Steps: []string{"web/start/process"}}}
	}
	closed := Record{Kind: Closed, Service: "web", Time: at, Boot: "b"}
	ran := []Record{planned(one, Deploy), closed}
	drain := Record{Kind: Begun, Service: "web", Step: "web/drain/file", Phase: Drain, Commits: true, Block: &one.Drains[0], Boot: "b"}
	with := func(r Record, k Kind) Record { r.Kind = k; return r }
	undrain := with(drain, Done)
	undrain.Phase = Undrain
	migrate := Record{Kind: Begun, Service: "web", Step: "web/migrate/sql", Phase: Migrate, Commits: true, Block: &two.Migrates[0]}
	noted, untouched := with(migrate, Noted), with(migrate, Failed)
	noted.Reason, untouched.Untouched = "n", true
	rev := two.Revision()
	for _, c := range []struct {
		name    string
		records []Record
		holds   func(m *Memory, r *Remembered) bool
	}{
		{"accepted", []Record{{Kind: Accepted, Commit: "c"}}, func(m *Memory, _ *Remembered) bool { return m.Accepted == "c" }},
		{"accepted, and who answers for it", []Record{{Kind: Accepted, Commit: "c", Time: at, Warrant: &Warrant{How: "signed", By: []string{"ada"}, News: at.Add(-time.Hour)}}}, func(m *Memory, _ *Remembered) bool {
			return m.Warrant.Verified() && m.Warrant.By[0] == "ada" && m.Heard.Equal(at.Add(-time.Hour))
		}},
		{"a date is no later than its acceptance", []Record{{Kind: Accepted, Commit: "c", Time: at, Warrant: &Warrant{How: "signed", News: at.Add(time.Minute)}}}, func(m *Memory, _ *Remembered) bool { return m.Heard.Equal(at) }},
		{"an old commit makes nothing older", []Record{{Kind: Accepted, Commit: "c", Time: at, Warrant: &Warrant{How: "signed", News: at}}, {Kind: Accepted, Commit: "d", Time: at.Add(time.Hour), Warrant: &Warrant{How: "signed", News: at.Add(-time.Hour)}}},
			func(m *Memory, _ *Remembered) bool { return m.Heard.Equal(at) }},
		{"nor does a merge that says nothing", []Record{{Kind: Accepted, Commit: "c", Time: at, Warrant: &Warrant{How: "signed", News: at}}, {Kind: Accepted, Commit: "d", Time: at.Add(time.Hour), Warrant: &Warrant{How: "merged"}}},
			func(m *Memory, _ *Remembered) bool { return m.Heard.Equal(at) && m.Accepted == "d" }},
		{"what was heard in the future is heard again", []Record{{Kind: Accepted, Commit: "c", Time: at.Add(9000 * time.Hour), Warrant: &Warrant{How: "signed", News: at.Add(9000 * time.Hour)}}, {Kind: Accepted, Commit: "d", Time: at, Warrant: &Warrant{How: "signed", News: at}}},
			func(m *Memory, _ *Remembered) bool { return m.Heard.Equal(at) }},
		{"accepted without trust", []Record{{Kind: Accepted, Commit: "c", Warrant: &Warrant{How: "signed"}}, {Kind: Accepted, Commit: "d"}}, func(m *Memory, _ *Remembered) bool { return !m.Warrant.Verified() }},
		{"on trust", []Record{{Kind: Accepted, Commit: "c", Warrant: &Warrant{How: "on trust"}}}, func(m *Memory, _ *Remembered) bool { return !m.Warrant.Verified() }},
		{"sighted", []Record{{Kind: Sighted, Commit: "c", Reason: "x", Time: at}, {Kind: Sighted, Commit: "d", Reason: "y", Time: at.Add(time.Hour)}, {Kind: Sighted, Commit: "c", Reason: "x", Time: at.Add(2 * time.Hour)}}, func(m *Memory, _ *Remembered) bool {
			return len(m.Sighted) == 2 && m.Sighted[0] == Sighting{"c", at} && *m.Refused == Refusal{"c", "x", at}
		}},
		{"not refused any more", []Record{{Kind: Sighted, Commit: "c", Reason: "x", Time: at}, {Kind: Sighted, Commit: "b"}}, func(m *Memory, _ *Remembered) bool { return len(m.Sighted) == 1 && m.Refused == nil }},
		{"accepted forgets what was refused", []Record{{Kind: Sighted, Commit: "c", Reason: "x", Time: at}, {Kind: Accepted, Commit: "d"}}, func(m *Memory, _ *Remembered) bool { return m.Sighted == nil && m.Refused == nil }},
		{"good", []Record{{Kind: Good, Service: "web", Commit: "c"}}, func(m *Memory, _ *Remembered) bool { return m.Good["web"] == "c" }},
		{"paused", []Record{{Kind: Paused}}, func(m *Memory, _ *Remembered) bool { return m.Paused }},
		{"resumed", []Record{{Kind: Paused}, {Kind: Resumed}}, func(m *Memory, _ *Remembered) bool { return !m.Paused }},
		{"ran", ran, func(_ *Memory, r *Remembered) bool { return r.Running.Service.Release.Version == "1" && r.Open == nil }},
		{"replaced", append(ran, planned(two, Deploy), closed), func(_ *Memory, r *Remembered) bool {
			return len(r.Past) == 1 && r.Past[0].Version == "1" && r.Running.Service.Release.Version == "2"
		}},
		{"a plan that replaces another", append(ran, planned(two, Deploy), planned(one, Mend)), func(_ *Memory, r *Remembered) bool { return r.Open.Purpose == Mend && !r.committed() }},
		{"begun commits", append(ran, planned(two, Deploy), drain), func(_ *Memory, r *Remembered) bool { return r.committed() && len(r.Drains) == 1 }},
		{"a drain stays ours until its undrain is done", append(ran, planned(two, Deploy), drain, with(undrain, Begun), with(undrain, Failed)),
			func(_ *Memory, r *Remembered) bool { return len(r.Drains) == 1 && len(r.Rotation) == 0 }},
		{"undrained", append(ran, planned(two, Deploy), drain, with(undrain, Begun), undrain), func(_ *Memory, r *Remembered) bool {
			return len(r.Drains) == 0 && r.Rotation[drainKey(one.Drains[0])] == "b"
		}},
		{"a halt keeps its drain", append(ran, planned(two, Deploy), drain, Record{Kind: Stopped, Service: "web", Reason: "x"}), func(_ *Memory, r *Remembered) bool {
			return r.Open == nil && r.Halt.Target.Release.Version == "2" && len(r.Drains) == 1
		}},
		{"a repair lifts no halt", append(ran, planned(two, Deploy), Record{Kind: Stopped, Service: "web"}, planned(one, Mend), drain, closed), func(_ *Memory, r *Remembered) bool { return r.Halt != nil }},
		{"nor does a plan that only waits", append(ran, planned(two, Deploy), Record{Kind: Stopped, Service: "web"}, planned(one, Deploy)), func(_ *Memory, r *Remembered) bool { return r.Halt != nil }},
		{"one that has begun does", append(ran, planned(two, Deploy), Record{Kind: Stopped, Service: "web"}, planned(one, Deploy), drain), func(_ *Memory, r *Remembered) bool { return r.Halt == nil }},
		{"quarantined once", append(ran, Record{Kind: Quarantined, Service: "web", Revision: &rev}, Record{Kind: Quarantined, Service: "web", Revision: &rev}),
			func(_ *Memory, r *Remembered) bool { return len(r.Quarantine) == 1 && r.quarantined(rev) != nil }},
		{"reverted", append(ran, planned(two, Deploy), planned(one, Revert), closed), func(_ *Memory, r *Remembered) bool {
			return r.Running.Service.Release.Version == "1" && len(r.Past) == 0
		}},
		{"a note outlives the plan", append(ran, planned(two, Deploy), migrate, noted), func(_ *Memory, r *Remembered) bool {
			return r.Open.Progress[migrate.Step].Note == "n" && r.Open.Progress[migrate.Step].Is == Begun && r.Migrated[migrationKey(two.Migrates[0], two.Release)].Note == "n"
		}},
		{"and ends with its step", append(ran, planned(two, Deploy), migrate, noted, with(migrate, Done)), func(_ *Memory, r *Remembered) bool { return r.Open.Progress[migrate.Step].Note == "" }},
		{"an incompatible migration that began is crossed", append(ran, planned(two, Deploy), migrate), func(_ *Memory, r *Remembered) bool { return crossed(r) }},
		{"one that changed nothing is not", append(ran, planned(two, Deploy), migrate, untouched), func(_ *Memory, r *Remembered) bool { return !crossed(r) }},
		{"whatever an earlier try did", append(ran, planned(two, Deploy), migrate, with(migrate, Failed), migrate, untouched), func(_ *Memory, r *Remembered) bool { return crossed(r) }},
		{"or may have done before it was killed", append(ran, planned(two, Deploy), migrate, migrate, untouched), func(_ *Memory, r *Remembered) bool { return crossed(r) }},
		{"three repairs", append(ran, planned(one, Mend), closed, planned(one, Mend), closed, planned(one, Mend), closed), func(_ *Memory, r *Remembered) bool { return r.Repairs == 3 }},
		{"a repair that held starts the count anew", append(ran, planned(one, Mend), closed, planned(one, Mend), Record{Kind: Closed, Service: "web", Time: at.Add(2 * time.Hour), Boot: "b"}),
			func(_ *Memory, r *Remembered) bool { return r.Repairs == 1 }},
		{"so does a boot", append(ran, planned(one, Mend), closed, planned(one, Mend), Record{Kind: Closed, Service: "web", Time: at, Boot: "c"}),
			func(_ *Memory, r *Remembered) bool { return r.Repairs == 1 }},
		{"removed", append(ran, planned(one, Uninstall), closed), func(m *Memory, _ *Remembered) bool { return len(m.Services) == 0 }},
		{"held and released", append(ran, drain, undrain, Record{Kind: Held, Service: "web"}, Record{Kind: Released, Service: "web"}), func(_ *Memory, r *Remembered) bool {
			return r.Held == nil && r.Rotation[drainKey(one.Drains[0])] == ""
		}},
		{"renamed", append(ran, Record{Kind: Good, Service: "web", Commit: "c"}, planned(two, Deploy), Record{Kind: Renamed, Service: "site", Reason: "web"}), func(m *Memory, _ *Remembered) bool {
			s := m.Service("site")
			return m.Services["web"] == nil && s.Running.Service.Name == "site" && s.Open.Steps[0] == "site/start/process" && m.Good["site"] == "c"
		}},
		{"a migration outlives its plan", append(ran, planned(two, Deploy), migrate, with(migrate, Failed), Record{Kind: Stopped, Service: "web"}, planned(one, Deploy), closed), func(_ *Memory, r *Remembered) bool {
			p := r.Migrated[migrationKey(two.Migrates[0], two.Release)]
			return p.Is == Failed && p.Tries == 1 && p.Attempt == 1
		}},
		{"faults are not the host's", append(ran, planned(two, Deploy), migrate, Record{Kind: Failed, Service: "web", Step: "web/migrate/sql", Blame: OfHost}, migrate, with(migrate, Failed)),
			func(_ *Memory, r *Remembered) bool {
				p := r.Open.Progress["web/migrate/sql"]
				return p.Tries == 2 && p.Faults == 1
			}},
		{"adopted keeps since when", append(ran, Record{Kind: Adopted, Service: "web", Time: at.Add(time.Hour), Plan: &OpenPlan{Target: one}}), func(_ *Memory, r *Remembered) bool { return r.Running.Since.Equal(at) }},
		{"nothing known", []Record{{Kind: "later version's", Service: "web"}, {Kind: Done}, {Kind: Planned, Service: "web"}, {Kind: Closed, Service: "web"}}, func(m *Memory, r *Remembered) bool { return r.Running == nil }},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := NewMemory()
			for i, r := range c.records {
				r.Seq = uint64(i + 1)
				m.Apply(cloned(t, r))
			}
			if !c.holds(m, m.Service("web")) {
				data, _ := json.MarshalIndent(m, "", " ")
				t.Errorf("%s", data)
			}
		})
	}
}

// TestMemoryStaysSmall: what a host remembers does not grow with its years.
func TestMemoryStaysSmall(t *testing.T) {
	m := NewMemory()
	size := func() int {
		data, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return len(data)
	}
	var early int
	for i := range 500 {
		s := declared("web", time.Unix(int64(i), 0).UTC().Format("2006.0102.150405"), migrating(true), func(s *spec.Service) {
			s.Drains = []spec.Block{block("drain", "file", "path", i)}
		})
		have := Observed{Memory: *m, Boot: "b"}
		for _, r := range recordsOf(DiffOne("web", spec.Wanted{Services: []spec.Service{s}}, have), "b") {
			m.Apply(r)
		}
		rev := s.Revision()
		m.Apply(Record{Kind: Quarantined, Service: "web", Revision: &rev})
		if i == 100 {
			early = size()
		}
	}
	if late := size(); late > early*11/10 {
		t.Errorf("%d bytes after 100 releases, %d after 500", early, late)
	}
}

// TestFoldCorpus: an empty corpus would let the fuzz target pass for nothing.
func TestFoldCorpus(t *testing.T) {
	files, err := os.ReadDir("testdata/fuzz/FuzzFold")
	if err != nil || len(files) == 0 {
		t.Errorf("no corpus: %v", err)
	}
}
