package reconcile

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// reloading is a world whose load balancer forgets its drains when it is told to.
type reloading struct{ *world }

func (r reloading) Driver(s Step) (Driver, error) {
	d, err := r.world.Driver(s)
	if p, ok := d.(pretend); ok && s.Block.Type == "drain" {
		return holding{p}, nil
	}
	return d, err
}

type holding struct{ pretend }

// Hold looks now and then, and once more when it is told to end: at the worst
// moment, if nobody waited for it.
func (h holding) Hold(ctx context.Context, s Step) {
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			<-time.After(10 * time.Millisecond) // its last look is under way
		case <-time.After(100 * time.Millisecond):
		}
		h.w.mu.Lock()
		h.w.Rotation[spot(s)] = false
		h.w.mu.Unlock()
	}
}

func reloaded(w *world) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for place := range w.Rotation {
		w.Rotation[place] = true
	}
}

func out(w *world) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, in := range w.Rotation {
		if in {
			return false
		}
	}
	return true
}

func holdWorld(t *testing.T) (*world, *Engine) {
	w := scenario{}.setUp(t)
	e := w.engine()
	e.Drivers = reloading{w}
	return w, e
}

func TestALostDrainIsPutBackWhileAPlanRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, e := holdWorld(t)
		defer e.Release()
		w.onDo["web/start/process"] = func() {
			reloaded(w)
			<-time.After(time.Second)
			if !out(w) {
				t.Error("the drain that a reload lost was not put back")
			}
		}
		o := e.Carry(t.Context(), t.Context(), DiffOne("web", w.want, w.observe()))
		if o.Err != nil || w.state() != "web converged runs 2" {
			t.Fatalf("%s, outcome %+v", w.state(), o)
		}
		<-time.After(time.Second)
		if out(w) {
			t.Error("it is held beyond its undrain")
		}
	})
}

func TestADrainIsHeldWhileAPersonIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, e := holdWorld(t)
		noRevert(&w.want.Services[0])
		w.bad["2"] = true
		life, end := context.WithCancel(t.Context())
		e.Carry(life, life, DiffOne("web", w.want, w.observe()))
		if m := w.Memory(); m.Service("web").Halt == nil {
			t.Fatal(w.state())
		}
		reloaded(w)
		<-time.After(time.Second)
		if !out(w) {
			t.Error("halted, and back in rotation after a reload")
		}
		end()
		e.Release()
		synctest.Wait()

		// The next agent holds it again.
		e = w.engine()
		e.Drivers = reloading{w}
		defer e.Release()
		e.HoldOpen(t.Context(), "web")
		reloaded(w)
		<-time.After(time.Second)
		if !out(w) {
			t.Error("after a restart of the agent it is not held")
		}
	})
}

func TestWhatTheReleaseItselfForbidsIsAGateOfItsName(t *testing.T) {
	for blame, want := range map[Blame]string{OfRelease: "release", OfHost: "host"} {
		w := scenario{}.setUp(t)
		e := w.engine()
		e.Drivers = refusing{w, &Fault{Blame: blame, Err: errors.New("no")}}
		if g := e.HostGate(t.Context(), DiffOne("web", w.want, w.observe())); g.Name != want {
			t.Errorf("%v: gate %q", blame, g.Name)
		}
	}
	w := scenario{}.setUp(t)
	e := w.engine()
	e.Drivers = refusing{w, ErrUnfetched}
	p := DiffOne("web", w.want, w.observe())
	if g := e.HostGate(t.Context(), p); !g.Open() {
		t.Errorf("what is known after the fetch shuts a gate: %+v", g)
	}
	if said := e.Preview(t.Context(), p); said["web/start/process"] != "known after the fetch" {
		t.Errorf("preview %v", said)
	}
}

// refusing is a world whose drivers all say the same before anything is done.
type refusing struct {
	*world
	err error
}

func (r refusing) Driver(s Step) (Driver, error) { return refuses{pretend{r.world}, r.err}, nil }

type refuses struct {
	pretend
	err error
}

func (r refuses) Prepare(context.Context, Step) error           { return r.err }
func (r refuses) Preview(context.Context, Step) (string, error) { return "", r.err }
