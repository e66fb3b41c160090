package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-multierror"

	"drydock/spec"
)

type lacking struct {
	Driver
	err error
}

func (l lacking) Prepare(context.Context, Step) error { return l.err }

type always struct{ d Driver }

func (a always) Driver(s Step) (Driver, error) {
	if a.d == nil {
		return nil, errors.New("this hostagent has no driver")
	}
	return a.d, nil
}

type lackingProbe struct{ err error }

func (l lackingProbe) Probe(context.Context, Step) error   { return nil }
func (l lackingProbe) Prepare(context.Context, Step) error { return l.err }

func TestNeeds(t *testing.T) {
	one, two := HostFault(errors.New("no user"), "Make it."), errors.New("no directory")
	words := fmt.Errorf("both %w and %w", one, two)
	consul := spec.Block{Type: "drain", Driver: "consul", Label: "b", Config: []byte(`{"token":{"credential":"token"}}`)}
	for name, c := range map[string]struct {
		driver Driver
		want   []string
	}{
		"there":          {lacking{nil, nil}, []string{`credential "token": gone`, `drain "consul" "b"`}},
		"cannot tell":    {Checking{}, []string{`credential "token": gone`, `drain "consul" "b" untold`}},
		"a prober":       {Checking{Probe: lackingProbe{two}}, []string{`credential "token": gone`, `drain "consul" "b": no directory`}},
		"one":            {lacking{nil, one}, []string{`credential "token": gone`, `drain "consul" "b": no user. Make it.`}},
		"several":        {lacking{nil, multierror.Append(one, two)}, []string{`credential "token": gone`, `drain "consul" "b": no user. Make it.`, `drain "consul" "b": no directory`}},
		"joined":         {lacking{nil, errors.Join(one, errors.Join(two))}, []string{`credential "token": gone`, `drain "consul" "b": no user. Make it.`, `drain "consul" "b": no directory`}},
		"words around":   {lacking{nil, words}, []string{`credential "token": gone`, `drain "consul" "b": both no user. Make it. and no directory`}},
		"a secret in it": {lacking{nil, errors.New("hunter2")}, []string{`credential "token": gone`, `drain "consul" "b": xxx`}},
		"no driver":      {nil, []string{`credential "token": gone`, `drain "consul" "b": this hostagent has no driver. Install a hostagent that has it.`}},
	} {
		e := &Engine{Drivers: always{c.driver}, Credential: func(string) error { return errors.New("gone") }, Scrub: strings.NewReplacer("hunter2", "xxx").Replace}
		var got []string
		for _, n := range e.Needs(t.Context(), Step{Block: consul}) {
			switch {
			case n.Err != nil:
				got = append(got, n.What+": "+n.Err.Error())
			case n.Told:
				got = append(got, n.What)
			default:
				got = append(got, n.What+" untold")
			}
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// A credential that is missing holds the plan before the drain, whatever its
// driver looks for; one that only the fetch reads does not, as it is asked then.
func TestHostGateAsksForCredentials(t *testing.T) {
	drain := spec.Block{Type: "drain", Driver: "consul", Config: []byte(`{"token":{"credential":"token"}}`)}
	install := spec.Block{Type: "install", Driver: "archive"}
	target := spec.Service{Artifact: &spec.Artifact{Headers: map[string]spec.Text{"A": {Credential: "auth"}}}}
	e := &Engine{Drivers: always{lacking{}}, Log: slog.New(slog.DiscardHandler), Credential: func(name string) error {
		return HostFault(fmt.Errorf("credential %q: there is none", name), "Ask.")
	}}
	p := ServicePlan{Steps: []Step{{Phase: Fetch, Block: install, Target: target}, {Phase: Install, Block: install, Target: target}}}
	if g := e.HostGate(t.Context(), p); !g.Open() {
		t.Errorf("the fetch's: %+v", g)
	}
	if got := CredentialsOf(p.Steps[0]); !cmp.Equal(got, []string{"auth"}) {
		t.Errorf("a fetch reads %v", got)
	}
	p.Steps = append(p.Steps, Step{Phase: Drain, Block: drain, Target: target})
	if g := e.HostGate(t.Context(), p); g.Name != "host" || g.Reason != `credential "token": there is none. Ask.` {
		t.Errorf("a drain's: %+v", g)
	}
	p.Resume = true
	if g := e.HostGate(t.Context(), p); !g.Open() {
		t.Errorf("what has begun is finished: %+v", g)
	}
}

func TestNeededSteps(t *testing.T) {
	b := func(typ, driver string) spec.Block { return spec.Block{Type: typ, Driver: driver} }
	install, start := b("install", "archive"), b("start", "process")
	hook := spec.Block{Type: "run", Driver: "backup", Config: []byte(`{"before":"undrain"}`)}
	var got []string
	for _, s := range NeededSteps(spec.Service{Name: "web", Install: &install, Start: &start,
		Drains: []spec.Block{b("drain", "file")}, Migrates: []spec.Block{b("migrate", "sql")}, Hooks: []spec.Block{hook}}, "h") {
		got = append(got, s.ID+" "+s.Action.String())
	}
	want := []string{"web/fetch/archive update", "web/drain/file update", "web/install/archive update", "web/migrate/sql update",
		"web/start/process update", "web/check/process update", "web/run/backup update"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
