package reconcile

import (
	"context"
	"sync"
)

// heldDrains are those that are kept in force beside whatever else happens,
// from the drain to the moment before its undrain: also while a plan halts and
// a person is waited for.
type heldDrains struct {
	mu  sync.Mutex
	all map[string]*hold // by service and place
}

type hold struct {
	end  context.CancelFunc
	over chan struct{}
}

// HoldOpen keeps every open drain of a service in force, as its driver can
// (Holder), until its undrain begins, life ends, or Release is called.
func (e *Engine) HoldOpen(life context.Context, service string) {
	m := e.Journal.Memory()
	r := m.Service(service)
	for _, d := range r.Drains {
		s := Step{Service: service, Phase: Drain, Block: d.Block, Origin: d.Block.Origin, Host: e.Host}
		s.ID = service + "/" + d.Block.ID()
		switch {
		case r.Open != nil:
			s.Target = r.Open.Target
		case r.Halt != nil:
			s.Target = r.Halt.Target
		case r.Running != nil:
			s.Target = r.Running.Service
		}
		e.hold(life, s)
	}
}

// hold holds one drain, unless it is held already or its driver cannot.
func (e *Engine) hold(life context.Context, s Step) {
	d, err := e.Drivers.Driver(s)
	if err != nil {
		return // said when the step runs
	}
	holder, can := d.(Holder)
	if !can {
		return
	}
	e.holds.mu.Lock()
	defer e.holds.mu.Unlock()
	key := holdKey(s)
	if h := e.holds.all[key]; h != nil {
		select {
		case <-h.over: // with an earlier life
		default:
			return
		}
	}
	ctx, cancel := context.WithCancel(life)
	h := &hold{end: cancel, over: make(chan struct{})}
	if e.holds.all == nil {
		e.holds.all = map[string]*hold{}
	}
	e.holds.all[key] = h
	go func() {
		defer close(h.over)
		defer cancel()
		holder.Hold(ctx, s)
	}()
}

// letGo returns when a drain is not held any more, so that an undrain is not
// undone by the last look of the one who holds.
func (e *Engine) letGo(s Step) {
	e.holds.mu.Lock()
	h := e.holds.all[holdKey(s)]
	delete(e.holds.all, holdKey(s))
	e.holds.mu.Unlock()
	if h != nil {
		h.end()
		<-h.over // also its last look
	}
}

// Release returns when nothing is held any more. It is for the end of the
// agent; the drains stay as they are.
func (e *Engine) Release() {
	e.holds.mu.Lock()
	defer e.holds.mu.Unlock()
	for key, h := range e.holds.all {
		h.end()
		<-h.over
		delete(e.holds.all, key)
	}
}

func holdKey(s Step) string { return s.Service + " " + drainKey(s.Block) }
