package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// slot is how long one point of the traffic's picture lasts.
const slot = 100 * time.Millisecond

// Load sends requests at a steady rate, whether or not earlier ones were
// answered, as the world outside does.
type Load struct {
	Rate    int           // requests a second
	Timeout time.Duration // of one request; it counts as failed then
	// Ask sends one request and returns the version that answered.
	Ask func(context.Context) (version string, err error)

	stop func()
	done chan struct{}

	mu      sync.Mutex
	began   time.Time
	figures Figures
	slots   []Slot
}

// Figures are what a load has seen. Longest is the longest that any request
// took, answered or failed; Error is the first failure's.
type Figures struct {
	Sent     int
	Failed   int
	Longest  time.Duration
	Answered map[string]int // by version
	Waiting  int            // sent, and neither answered nor failed yet
	Error    string
}

// Slot is what became of the requests that were sent in one slot of time.
type Slot struct {
	Sent    int
	Longest time.Duration // so far, where some still wait
	Failed  int
	Waiting int
	Version string // that answered last
}

// Start begins to send. Stop must be called.
func (l *Load) Start(ctx context.Context) {
	sending, stop := context.WithCancel(ctx)
	l.stop, l.done = stop, make(chan struct{})
	l.began, l.figures = time.Now(), Figures{Answered: map[string]int{}}
	go l.send(ctx, sending)
}

// Stop sends no more, waits until every request has its end, and returns the
// figures. Nothing is left out of them.
func (l *Load) Stop() Figures {
	l.stop()
	<-l.done
	return l.Figures()
}

func (l *Load) send(ctx, sending context.Context) {
	defer close(l.done)
	var all sync.WaitGroup
	defer all.Wait()
	tick := time.NewTicker(time.Second / time.Duration(l.Rate))
	defer tick.Stop()
	sent := 0
	for {
		select {
		case <-sending.Done():
			return
		case <-tick.C:
		}
		if sending.Err() != nil {
			return
		}
		now, forgiven := due(time.Since(l.began), l.Rate, sent)
		sent += forgiven + now
		for range now {
			at := time.Now()
			n := l.sent(at)
			all.Go(func() { l.one(ctx, n, at) })
		}
	}
}

// due is how many requests to send now, and how many never: a busy machine
// skips ticks, and what is owed is sent late, but after a long sleep not all
// of it at once.
func due(elapsed time.Duration, rate, sent int) (now, forgiven int) {
	owed := max(int(elapsed*time.Duration(rate)/time.Second)-sent, 0)
	now = min(owed, max(rate/4, 1))
	return now, owed - now
}

// one is one request.
func (l *Load) one(ctx context.Context, n int, sent time.Time) {
	ctx, cancel := context.WithTimeout(ctx, l.Timeout)
	defer cancel()
	version, err := l.Ask(ctx)
	if errors.Is(ctx.Err(), context.Canceled) {
		err = errInterrupted
	}
	l.ended(n, time.Since(sent), version, err)
}

// errInterrupted is no answer, and no failure either: the demo was stopped.
var errInterrupted = errors.New("interrupted")

// sent counts a request and returns its slot.
func (l *Load) sent(at time.Time) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reach(at)
	n := len(l.slots) - 1
	l.slots[n].Sent++
	l.slots[n].Waiting++
	l.figures.Sent++
	l.figures.Waiting++
	return n
}

// reach makes the slots up to a moment.
func (l *Load) reach(at time.Time) {
	for len(l.slots) <= int(at.Sub(l.began)/slot) {
		l.slots = append(l.slots, Slot{})
	}
}

func (l *Load) ended(n int, took time.Duration, version string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f, s := &l.figures, &l.slots[n]
	f.Waiting--
	s.Waiting--
	if errors.Is(err, errInterrupted) {
		f.Sent--
		return
	}
	f.Longest, s.Longest = max(f.Longest, took), max(s.Longest, took)
	if err != nil {
		f.Failed++
		s.Failed++
		if f.Error == "" {
			f.Error = err.Error()
		}
		return
	}
	f.Answered[version]++
	s.Version = version
}

// Figures are what was seen so far.
func (l *Load) Figures() Figures {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.figures
	f.Answered = make(map[string]int, len(l.figures.Answered))
	for v, n := range l.figures.Answered {
		f.Answered[v] = n
	}
	return f
}

// Slots are the traffic's picture so far, oldest first.
func (l *Load) Slots() []Slot {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Since(l.began)
	slots := append([]Slot(nil), l.slots...)
	for i := range slots {
		if slots[i].Waiting > 0 {
			slots[i].Longest = max(slots[i].Longest, now-time.Duration(i)*slot)
		}
	}
	return slots
}

// askWeb asks a URL whose answer is "<service> <version>".
func askWeb(client *http.Client, url string) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return "", err
		}
		resp, err := client.Do(req)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
		if err != nil {
			return "", err
		}
		text := strings.TrimSpace(string(body))
		if resp.StatusCode != http.StatusOK {
			return "", fmt.Errorf("status %d: %s", resp.StatusCode, text)
		}
		_, version, ok := strings.Cut(text, " ")
		if !ok || version == "" {
			return "", errors.New("an answer without a version")
		}
		return version, nil
	}
}
