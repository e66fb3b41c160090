package release

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"drydock/reconcile"
)

// A change that no stat shows, as a flipped bit on the disk makes, is found
// by the daily look, also after the clock was set back.
func TestDailyLook(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	s := New(Options{State: filepath.Join(dir, "state"), Now: func() time.Time { return now }})
	p := Place{Path: filepath.Join(dir, "srv"), Dir: "1-abcdefabcdef", Keep: 5, Layout: "x"}
	err := s.Make(t.Context(), p, func(_ context.Context, into string) error {
		return os.WriteFile(filepath.Join(into, "web"), []byte("good"), 0o755)
	})
	if err == nil {
		err = s.Switch(t.Context(), p, "")
	}
	if err != nil {
		t.Fatal(err)
	}
	look := func(want reconcile.Is) {
		t.Helper()
		c, err := s.Observe(t.Context(), p, "")
		if err != nil || c.Is != want {
			t.Errorf("observed %+v, %v; expected %v", c, err, want)
		}
	}
	look(reconcile.Present)

	file := filepath.Join(p.tree(), "web")
	if err := os.WriteFile(file, []byte("evil"), 0o755); err != nil {
		t.Fatal(err)
	}
	m, err := s.load(p.Path, p.Dir)
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(file, &st); err != nil {
		t.Fatal(err)
	}
	remember := &seen{full: now, stats: []stat{statOf(&st)}}
	if err := os.WriteFile(seenFile(s.home(p.Path), p.Dir), remember.encode(m), 0o600); err != nil {
		t.Fatal(err)
	}
	look(reconcile.Present)
	now = now.Add(23 * time.Hour)
	look(reconcile.Present)
	now = now.Add(2 * time.Hour)
	look(reconcile.Altered)
	now = now.Add(-100 * time.Hour)
	look(reconcile.Altered)
}

// A manifest that was flipped anywhere counts as lost, never as another one.
func TestManifestRoundTripAndDamage(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &manifest{path: rapid.String().Draw(t, "path"), name: "1-abc", layout: `a "b"`, made: time.Unix(0, rapid.Int64().Draw(t, "made"))}
		for i := range rapid.IntRange(0, 5).Draw(t, "n") {
			name := string(rapid.SliceOf(rapid.Byte()).Draw(t, "name"))
			m.entries = append(m.entries,
				entry{kind: 'f', path: name, mode: 0o755, size: int64(i), digest: "ab"},
				entry{kind: 'd', path: name, mode: 0o700}, entry{kind: 'l', path: name, target: name + "x"})
		}
		data := m.encode()
		got, err := decodeManifest(data)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(m.entries, got.entries, cmp.AllowUnexported(entry{}), cmp.Transformer("empty", func(e []entry) []entry { return append([]entry{}, e...) })); diff != "" {
			t.Fatal(diff)
		}
		if got.path != m.path || !got.made.Equal(m.made) || got.sum != m.sum {
			t.Fatalf("got %+v", got)
		}
		at := rapid.IntRange(0, len(data)-1).Draw(t, "at")
		data[at] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if bad, err := decodeManifest(data); err == nil {
			t.Fatalf("a flipped bit at %d gave %+v", at, bad)
		}
	})
}
