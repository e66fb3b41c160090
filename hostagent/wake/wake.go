// Package wake tells the agent to look again. All reasons (a jittered poll, a
// change of a watched file, a signal, a person, a time) end in one channel that
// holds at most one wake and carries nothing: what is true is found by looking,
// never by what a wake says.
package wake

import (
	"math/rand/v2"
	"os"
	"os/signal"
	"sync"
	"time"
)

// Options of a Waker.
type Options struct {
	Poll    time.Duration  // a wake every Poll and up to 10% more; 0 is never
	Rand    func() float64 // in [0,1), for the jitter; default rand.Float64
	Signals []os.Signal    // each is a wake
	Quiet   time.Duration  // at most one wake from files in this time; default 200 ms
	OnError func(error)    // what kept a path from being watched; may be nil
}

// Waker is safe for use by many goroutines.
type Waker struct {
	o       Options
	wakes   chan struct{}
	at      chan time.Time
	poll    chan time.Duration
	stop    chan struct{}
	once    sync.Once
	running sync.WaitGroup
	files   files
}

// New starts a Waker. Nothing is watched before SetPaths.
func New(o Options) *Waker {
	if o.Rand == nil {
		o.Rand = rand.Float64
	}
	if o.Quiet == 0 {
		o.Quiet = 200 * time.Millisecond
	}
	if o.OnError == nil {
		o.OnError = func(error) {}
	}
	w := &Waker{o: o, wakes: make(chan struct{}, 1), at: make(chan time.Time), poll: make(chan time.Duration), stop: make(chan struct{})}
	w.running.Go(w.keepTime)
	if len(o.Signals) > 0 {
		// Registered before New returns: a signal after it must not end the process.
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, o.Signals...)
		w.running.Go(func() { w.keepSignals(signals) })
	}
	return w
}

// C receives once for any number of wakes since the last receive.
func (w *Waker) C() <-chan struct{} { return w.wakes }

// Wake wakes now, and never blocks.
func (w *Waker) Wake() {
	select {
	case w.wakes <- struct{}{}:
	default: // one waits already, and it carries nothing
	}
}

// At wakes once at t, such as when a window opens. It replaces the time given
// before; the zero time takes it back.
func (w *Waker) At(t time.Time) {
	select {
	case w.at <- t:
	case <-w.stop:
	}
}

// SetPoll changes the interval, and starts it anew.
func (w *Waker) SetPoll(d time.Duration) {
	select {
	case w.poll <- d:
	case <-w.stop:
	}
}

// Close ends all watching. C never receives for a reason after it.
func (w *Waker) Close() error {
	var err error
	w.once.Do(func() {
		close(w.stop)
		err = w.files.close()
		w.running.Wait()
	})
	return err
}

func (w *Waker) keepTime() {
	interval := w.o.Poll
	poll, gate := stopped(), stopped()
	defer poll.Stop()
	defer gate.Stop()
	restart := func() {
		poll.Stop()
		if interval > 0 {
			poll.Reset(interval + time.Duration(w.o.Rand()*float64(interval)/10))
		}
	}
	restart()
	for {
		select {
		case <-w.stop:
			return
		case <-poll.C:
			w.Wake()
			restart()
		case interval = <-w.poll:
			restart()
		case t := <-w.at:
			gate.Stop()
			if !t.IsZero() {
				gate.Reset(max(0, time.Until(t)))
			}
		case <-gate.C:
			w.Wake()
		}
	}
}

func stopped() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

func (w *Waker) keepSignals(signals chan os.Signal) {
	defer signal.Stop(signals)
	for {
		select {
		case <-w.stop:
			return
		case <-signals:
			w.Wake()
		}
	}
}
