package hostagent

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"drydock/reconcile"
)

// What the clock says: when a key was seen, what is ahead, what is stale, and how
// long a judgement may take.

// ending are keys of which one has an end.
type ending struct {
	*worded
	who   string
	until time.Time
}

func (k *ending) Signers(payload, signature []byte, at time.Time) ([]string, error) {
	names, err := k.worded.Signers(payload, signature, at)
	if slices.Contains(names, k.who) && at.After(k.until) {
		return nil, errors.New("its key was valid until " + k.until.Format(time.RFC3339))
	}
	return names, err
}

// A clock that is far behind says nothing about when a key was seen.
func TestSeenByAWrongClock(t *testing.T) {
	virtual(t, func(t *testing.T, h *host) {
		d, o, _ := h.trusted()
		first := d.on("", "alice@acme", "1", "")
		pass(t, New(o))
		next := d.on(first, "alice@acme", "2", "")
		d.of[next].at = time.Now().Add(24 * time.Hour)
		pass(t, New(o))
		if m := d.Memory(); m.Sighted != nil {
			t.Fatalf("%+v", m.Sighted)
		}
	})
}

// A key is judged by when the host first saw what it signed, whichever process
// saw it; one that was taken out of the file counts no more.
func TestFirstSeen(t *testing.T) {
	for name, c := range map[string]struct {
		unseen, lost bool
		version      string
	}{
		"seen in time": {version: "3"}, "not seen": {unseen: true, version: "1"}, "seen, and removed": {lost: true, version: "1"},
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(t *testing.T, h *host) {
				d, o, words := h.trusted()
				o.Trust.Keys = &ending{worded: words, who: "bob@acme", until: time.Now().Add(time.Hour)}
				first := d.on("", "alice@acme", "1", "")
				pass(t, New(o))
				bad := d.on(first, "", "2", "")
				bobs := d.on(bad, "bob@acme", "3", "")
				if !c.unseen {
					pass(t, New(o))
				}
				elapse(2 * time.Hour)
				words.lost["bob@acme"] = c.lost
				d.vouch(bobs, "alice@acme", "3", bad)
				a := New(o)
				pass(t, a)
				is(t, a, "web", reconcile.Converged, c.version)
			})
		})
	}
}

// A commit from the future is taken up when its time has come, without a poll.
func TestACommitAheadIsAskedAgain(t *testing.T) {
	virtual(t, func(t *testing.T, h *host) {
		d, o, _ := h.trusted()
		first := d.on("", "alice@acme", "1", "")
		a := h.run(o)
		elapse(time.Minute)
		next := d.on(first, "alice@acme", "2", "")
		d.of[next].at = time.Now().Add(time.Hour)
		h.wake()
		elapse(45 * time.Minute)
		is(t, a, "web", reconcile.Converged, "1")
		if s := sourceOf(t, a); s.Blocked != next {
			t.Fatalf("%+v", s)
		}
		elapse(10 * time.Minute)
		is(t, a, "web", reconcile.Converged, "2")
	})
}

func TestStaleIsSaid(t *testing.T) {
	virtual(t, func(t *testing.T, h *host) {
		d, o, _ := h.trusted()
		o.Trust.Policy.Freshness = time.Hour
		base := d.on("", "alice@acme", "1", "")
		first := d.on(base, "alice@acme", "1", "")
		a := h.run(o)
		elapse(50 * time.Minute)
		heads := d.heads
		if s := sourceOf(t, a); s.Stale != "" {
			t.Fatalf("%+v", s)
		}
		elapse(20 * time.Minute)
		if s := sourceOf(t, a); !strings.Contains(s.Stale, "drydock heartbeat") || d.heads != heads+1 {
			t.Fatalf("%+v, asked %d times", s, d.heads-heads)
		}
		// A merge that adds nothing is anybody's to make.
		merge := d.services([2]string{"web", "1"})
		d.put(merge, &node{parents: []string{first, base}, at: time.Now()})
		h.wake()
		if s := sourceOf(t, a); s.Stale == "" || s.How != "merged" || d.Memory().Accepted != merge {
			t.Fatalf("after a merge that nobody signed: %+v", s)
		}
		d.on(merge, "alice@acme", "1", "")
		h.wake()
		if s := sourceOf(t, a); s.Stale != "" || s.Error != "" {
			t.Fatalf("after a heartbeat: %+v", s)
		}
	})
}

// A history that takes too long is given up, said, and left alone for a while.
func TestJudgingEnds(t *testing.T) {
	virtual(t, func(t *testing.T, h *host) {
		d, o, _ := h.trusted()
		a := New(o)
		first := d.on("", "alice@acme", "1", "")
		pass(t, a)
		d.on(first, "alice@acme", "2", "")
		d.slow = true
		began := time.Now()
		pass(t, a)
		if took := time.Since(began); took < judging || took > judging+time.Minute {
			t.Fatalf("it took %s", took)
		}
		if s := sourceOf(t, a); !strings.Contains(s.Error, "could not be verified within 2m0s") {
			t.Fatalf("%+v", s)
		}
		is(t, a, "web", reconcile.Converged, "1")
		began = time.Now()
		pass(t, a)
		if took := time.Since(began); took > time.Minute {
			t.Fatalf("asked again at once: %s", took)
		}
		d.slow = false
		elapse(tooSlow)
		pass(t, a)
		is(t, a, "web", reconcile.Converged, "2")
	})
}
