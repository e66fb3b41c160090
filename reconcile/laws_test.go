package reconcile

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"drydock/spec"
)

// deed is one thing that happens to a host.
type deed struct {
	What string
	N    int
}

var deeds = []string{
	"release", "release", "attempt", "drain", "check", "start", "keep", "hook", "undeclare", "bad", "good", "kill", "kill", "kill", "fault",
	"by hand", "put back", "hold", "let go", "boot", "tree", "process", "pass", "pass",
}

func anyDeeds() *rapid.Generator[[]deed] {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) deed {
		return deed{rapid.SampledFrom(deeds).Draw(t, "what"), rapid.IntRange(0, 40).Draw(t, "n")}
	}), 1, 14)
}

// complaints takes what a world has to say, so that rapid can shrink it.
type complaints struct {
	testing.TB
	said []string
}

func (c *complaints) Helper() {}
func (c *complaints) Errorf(format string, args ...any) {
	c.said = append(c.said, fmt.Sprintf(format, args...))
}

// life is what one host goes through.
type life struct {
	*world
	version, attempts           int
	place, url, start, keep, hk int
	gone                        bool
	byHand                      map[string]bool
	asked                       map[string]int // migration -> attempts that were wanted
	boots                       int
}

func (l *life) declare() {
	if l.gone {
		l.wants()
		return
	}
	web := declared("web", fmt.Sprint(l.version+1), attempt(max(l.attempts, 1)), migrating(l.version%2 == 0), func(s *spec.Service) {
		s.Drains = []spec.Block{block("drain", "file", "path", fmt.Sprint(l.place)), block("drain", "http", "drain", "x")}
		s.Checks = []spec.Block{block("check", "http", "url", fmt.Sprint(l.url)), block("check", "tcp", "address", "x")}
		s.Start = ptr(block("start", "process", "command", []int{l.start}))
		s.Install = ptr(block("install", "archive", "path", "/srv/web", "keep", l.keep))
		if l.hk > 0 {
			s.Hooks = []spec.Block{block("run", "h", []string{"before", "after"}[l.hk%2], phaseNames[l.hk%len(phaseNames)])}
		}
	})
	api := declared("api", "1")
	l.wants(web, api)
}

func (l *life) happen(d deed) {
	steps := []string{"fetch/archive", "drain/file", "install/archive", "migrate/sql", "start/process", "check/http", "undrain/file", "run/h"}
	if d.What == "release" && d.N%4 == l.version {
		return // by no commit
	}
	switch d.What {
	case "release":
		l.version, l.attempts = d.N%4, 1
	case "attempt":
		l.attempts++
	case "drain":
		l.place = d.N % 3
	case "check":
		l.url = d.N % 3
	case "start":
		l.start = d.N % 3
	case "keep":
		l.keep = d.N
	case "hook":
		l.hk = d.N
	case "undeclare":
		l.gone = !l.gone
	case "bad", "good":
		l.bad[fmt.Sprint(d.N%4+1)] = d.What == "bad"
	case "kill":
		l.killAt, l.before = len(l.records)+1+d.N, d.N%2 == 0
	case "fault":
		id := "web/" + steps[d.N%len(steps)]
		l.faults[id] = append(l.faults[id], []error{errHost, errPasses, errRelease, errHost, errPasses}[:1+d.N%5]...)
	case "by hand":
		l.settle()
		m := l.Memory()
		for place, in := range l.Rotation {
			name, key, _ := strings.Cut(place, " ")
			if _, ours := m.Service(name).Drains[key]; in && !ours && len(place)%2 == d.N%2 {
				l.Rotation[place] = false
				l.byHand[place] = true
			}
		}
	case "put back":
		for place := range l.byHand {
			l.Rotation[place] = true
		}
		clear(l.byHand)
	case "hold":
		l.tell(Record{Kind: Held, Service: "web"})
	case "let go":
		l.tell(Record{Kind: Released, Service: "web"})
		clear(l.byHand)
	case "boot":
		l.boots++
		l.boot = fmt.Sprintf("boot-%d", l.boots+1)
		clear(l.Running)
		clear(l.byHand)
	case "tree":
		l.Altered["web"] = l.Installed["web"] != ""
	case "process":
		delete(l.Running, "web")
	}
	l.declare()
	l.asked["web"+fmt.Sprint(l.version+1)] = max(l.asked["web"+fmt.Sprint(l.version+1)], l.attempts, 1)
	if d.What == "pass" || d.N%3 == 0 {
		l.settle()
	}
}

// settle lets the agent look once or twice, killed or not.
func (l *life) settle() {
	for range 2 {
		l.pass(l.engine())
		l.reborn()
		time.Sleep(time.Minute)
	}
}

func (l *life) reborn() {
	if l.dead {
		l.dead, l.killAt, l.slots = false, 0, NewHostSlots(2)
	}
}

func (l *life) tell(r Record) {
	_, err := l.Append(l.t.Context(), r)
	if err != nil { // killed while it was told
		l.reborn()
		_, _ = l.Append(l.t.Context(), r)
	}
	l.reborn()
}

// TestAnyLifeConverges: whatever happens to a host, in the end there is nothing
// left to do, no migration was begun more often than people asked for, what is
// out of rotation is so by a person or by a record, and every act on the way
// kept the law (world.law).
func TestAnyLifeConverges(t *testing.T) { rapid.Check(t, anyLife(t)) }

// FuzzDiffAfterApply is the same law, the lives led by the fuzzer: once a plan
// is applied, the diff is empty.
func FuzzDiffAfterApply(f *testing.F) {
	f.Fuzz(func(t *testing.T, deeds []byte) { rapid.MakeFuzz(anyLife(t))(t, deeds) })
}

func anyLife(t *testing.T) func(*rapid.T) {
	return func(rt *rapid.T) {
		all := anyDeeds().Draw(rt, "deeds")
		prove := rapid.Bool().Draw(rt, "a migration can prove that nothing was applied")
		c := &complaints{TB: t}
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(c)
			w.prove = prove
			l := &life{world: w, byHand: map[string]bool{}, asked: map[string]int{}}
			l.declare()
			l.happen(deed{"pass", 0})
			for _, d := range all {
				l.happen(d)
			}
			clear(w.faults)
			l.killAt = 0
			w.converge()
			out := func(place string) bool {
				name, key, _ := strings.Cut(place, " ")
				m := w.Memory()
				_, ours := m.Service(name).Drains[key]
				return ours
			}
			m := w.Memory()
			for place, in := range w.Rotation {
				known := m.Service("web").Rotation[strings.TrimPrefix(place, "web ")] != ""
				if !in && !out(place) && !l.byHand[place] && known && !l.gone && m.Service("web").Halt == nil && !w.mending() {
					c.Errorf("%s is out of rotation, and nothing says why", place)
				}
			}
			if r := m.Service("web"); len(r.Drains) > 0 && r.Held == nil && r.Halt == nil && !l.gone && !w.mending() {
				c.Errorf("left drained: %v", r.Drains)
			}
			if !prove {
				for key, n := range w.Started {
					if n > l.asked[key] {
						c.Errorf("the migration of %s was begun %d times, and asked for %d times", key, n, l.asked[key])
					}
				}
			}
			if len(c.said) > 0 {
				c.said = append(c.said, w.state(), w.since(0))
			}
		})
		if len(c.said) > 0 {
			rt.Fatal(strings.Join(c.said, "\n"))
		}
	}
}

// FuzzFold: any sequence of records adds up to something, the same each time,
// and what it adds up to can be written down and read again.
func FuzzFold(f *testing.F) {
	for _, sc := range scenarios()[:3] {
		var lines []string
		for _, r := range storied(sc) {
			data, err := json.Marshal(r)
			if err != nil {
				f.Fatal(err)
			}
			lines = append(lines, string(data))
		}
		f.Add(strings.Join(lines, "\n"))
	}
	f.Fuzz(func(t *testing.T, text string) {
		one, two := NewMemory(), &Memory{}
		for _, line := range strings.Split(text, "\n") {
			var r Record
			if json.Unmarshal([]byte(line), &r) != nil {
				continue
			}
			r = cloned(t, r) // as a journal has it
			before := cloned(t, r)
			one.Apply(r)
			if d := cmp.Diff(before, cloned(t, r)); d != "" {
				t.Fatalf("the record was changed: %s", d)
			}
			two.Apply(cloned(t, r))
			for name, s := range one.Services {
				if name == "" || s == nil {
					t.Fatalf("a service without a name or a memory: %q", name)
				}
				_ = Diff(spec.Wanted{}, Observed{Memory: *one})
			}
		}
		a, err := json.Marshal(one)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := json.Marshal(two)
		if string(a) != string(b) {
			t.Fatalf("not the same each time:\n%s\n%s", a, b)
		}
		if c, _ := json.Marshal(cloned(t, *one)); string(c) != string(a) {
			t.Fatalf("not the same once read again:\n%s\n%s", a, c)
		}
	})
}

// storied are the records of a story, as a journal would have them.
func storied(sc scenario) []Record {
	var all []Record
	for _, v := range []string{"1", "2"} {
		have := Observed{Memory: *NewMemory(), Boot: "boot-1", Found: map[string]map[string]Condition{}}
		p := DiffOne("web", spec.Wanted{Services: []spec.Service{declared("web", v, sc.edit...)}}, have)
		all = append(all, recordsOf(p, "boot-1")...)
	}
	for i := range all {
		all[i].Seq = uint64(i + 1)
	}
	return all
}
