package gitsource

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var background = context.Background()

func accept(t testing.TB, s *Source, commit string) {
	t.Helper()
	if err := s.Accept(background, commit); err != nil {
		t.Fatal(err)
	}
}

func TestForwardOnly(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.commit("a.hcl", "1\n")
	first := o.commit("a.hcl", "2\n")
	second := o.commit("a.hcl", "3\n")
	s := follow(t, o.dir)
	head(t, s, "", second)
	accept(t, s, second)

	t.Run("rewound", func(t *testing.T) {
		o.git("reset", "-q", "--hard", first)
		// The clone's own mark holds, though the journal was lost or lags.
		for _, journal := range []string{second, first, ""} {
			err := refuse(t, s, journal, ErrRewound)
			if !strings.Contains(err.Error(), "git merge "+second) {
				t.Errorf("no cure in %v", err)
			}
		}
	})
	t.Run("forced", func(t *testing.T) {
		o.commit("a.hcl", "other\n")
		refuse(t, s, second, ErrForced)
		before := len(s.clone.objects.list())
		refuse(t, s, second, ErrForced)
		if len(s.clone.objects.list()) != before {
			t.Error("what was refused fills the clone")
		}
	})
	t.Run("merged back", func(t *testing.T) {
		o.git("merge", "-q", "-s", "ours", "--no-edit", second)
		merged := o.git("rev-parse", "HEAD")
		head(t, s, second, merged)
		accept(t, s, merged)
	})
	merged, err := s.Accepted()
	if err != nil {
		t.Fatal(err)
	}
	t.Run("unrelated", func(t *testing.T) {
		o.git("checkout", "-q", "--orphan", "fresh")
		o.commit("a.hcl", "unrelated\n")
		o.git("branch", "-M", "fresh", "main")
		refuse(t, s, merged, ErrUnrelated)
		if err := s.Accept(background, o.git("rev-parse", "HEAD")); err == nil {
			t.Error("accepted a commit that was refused")
		}
	})
	t.Run("deleted", func(t *testing.T) {
		o.git("branch", "-M", "main", "elsewhere")
		refuse(t, s, merged, ErrGone)
	})
	t.Run("what was accepted is still there", func(t *testing.T) {
		snap, err := s.At(background, second)
		if err != nil {
			t.Fatal(err)
		}
		content(t, snap.FS, "a.hcl", "3\n")
	})
	t.Run("the mark never goes back", func(t *testing.T) {
		if err := s.Accept(background, first); !errors.Is(err, ErrRewound) {
			t.Errorf("Accept(older) = %v", err)
		}
		again := open(t, s.o)
		if got, err := again.Accepted(); got != merged || err != nil {
			t.Errorf("Accepted after a restart = %q, %v", got, err)
		}
	})
}

func TestAnUnknownAcceptedCommitIsRefused(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.commit("a.hcl", "1\n")
	refuse(t, follow(t, o.dir), strings.Repeat("ab", 20), ErrRewound)
	if _, err := follow(t, o.dir).Head(background, "HEAD"); !errors.Is(err, ErrUnknown) {
		t.Errorf("a mark that is no hash: %v", err)
	}
}

func TestACommitFromTheFutureWaits(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	first := o.commit("a.hcl", "1\n")
	now := time.Now()
	s := follow(t, o.dir, func(o *Options) { o.Now = func() time.Time { return now } })
	head(t, s, "", first)
	o.git("-c", "user.name=x", "commit", "-q", "--allow-empty", "-m", "soon")
	dated := func(at time.Time) string {
		date := at.Format(time.RFC3339)
		runEnv(t, o.dir, []string{"GIT_COMMITTER_DATE=" + date, "GIT_AUTHOR_DATE=" + date}, "git", "commit", "-q", "--allow-empty", "--amend", "-m", "dated")
		return o.git("rev-parse", "HEAD")
	}
	head(t, s, first, dated(now.Add(9*time.Minute)))
	later := dated(now.Add(11 * time.Minute))
	refuse(t, s, first, ErrFuture)
	now = now.Add(2 * time.Minute)
	head(t, s, first, later)
}

func TestACommitOf2099(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	first := o.commit("a.hcl", "1\n")
	now := time.Now()
	s := follow(t, o.dir, func(o *Options) { o.Now = func() time.Time { return now } })
	head(t, s, "", first)
	runEnv(t, o.dir, []string{"GIT_COMMITTER_DATE=2099-01-01T00:00:00Z"}, "git", "commit", "-q", "--allow-empty", "-m", "far")
	far := o.git("rev-parse", "HEAD")
	refuse(t, s, first, ErrFuture)
	refuse(t, s, first, ErrFuture)
	// People put it right with a commit on top, without rewriting history.
	mended := o.commit("a.hcl", "2\n")
	head(t, s, first, mended)
	if ok, err := s.Ancestor(background, far, mended); !ok || err != nil {
		t.Errorf("Ancestor = %v, %v", ok, err)
	}
}

func TestMirrors(t *testing.T) {
	t.Parallel()
	dead := "git://" + serveTCP(t, func(net.Conn) {}) + "/"
	setup := func(t *testing.T) (o *origin, mirror, first, second string) {
		o = newOrigin(t)
		first = o.commit("a.hcl", "1\n")
		mirror = filepath.Join(t.TempDir(), "mirror")
		run(t, "", "git", "clone", "-q", "--mirror", "--no-hardlinks", o.dir, mirror)
		return o, mirror, first, o.commit("a.hcl", "2\n")
	}
	with := func(urls ...string) func(*Options) { return func(o *Options) { o.Mirrors = urls } }

	t.Run("the first is away", func(t *testing.T) {
		o, _, _, second := setup(t)
		snap := head(t, follow(t, dead, with(o.dir)), "", second)
		if snap.URL != o.dir {
			t.Errorf("served by %q", snap.URL)
		}
	})
	t.Run("the first is away, the newest wins", func(t *testing.T) {
		o, mirror, _, second := setup(t)
		head(t, follow(t, dead, with(mirror, o.dir)), "", second)
		head(t, follow(t, dead, with(o.dir, mirror)), "", second)
	})
	t.Run("the first is away, a mirror lags", func(t *testing.T) {
		o, mirror, _, second := setup(t)
		s := follow(t, o.dir)
		head(t, s, "", second)
		s.Close()
		away := s.o
		away.URL, away.Mirrors = dead, []string{mirror}
		head(t, open(t, away), second, second)
	})
	t.Run("the first has nothing newer", func(t *testing.T) {
		o, mirror, first, second := setup(t)
		s := follow(t, mirror, with(o.dir))
		snap := head(t, s, first, second)
		if snap.URL != o.dir {
			t.Errorf("served by %q", snap.URL)
		}
	})
	t.Run("a mirror lags", func(t *testing.T) {
		o, mirror, _, second := setup(t)
		s := follow(t, o.dir, with(mirror))
		head(t, s, "", second)
		head(t, s, second, second)
	})
	t.Run("a mirror is away", func(t *testing.T) {
		o, _, _, second := setup(t)
		s := follow(t, o.dir, with(dead))
		head(t, s, "", second)
		head(t, s, second, second)
	})
	t.Run("the first was rewound, a mirror has nothing newer", func(t *testing.T) {
		o, mirror, first, second := setup(t)
		s := follow(t, o.dir, with(mirror))
		head(t, s, "", second)
		o.git("reset", "-q", "--hard", first)
		refuse(t, s, second, ErrRewound)
	})
	t.Run("all are away", func(t *testing.T) {
		err := refuse(t, follow(t, dead, with("/nonexistent")), "", ErrUnreachable)
		if !strings.Contains(err.Error(), dead) || !strings.Contains(err.Error(), "/nonexistent") {
			t.Errorf("not all are named: %v", err)
		}
	})
	t.Run("a dead mirror is not asked at every poll", func(t *testing.T) {
		o, _, _, second := setup(t)
		asked := make(chan bool, 10)
		flaky := "git://" + serveTCP(t, func(c net.Conn) { asked <- true }) + "/"
		s := follow(t, o.dir, with(flaky))
		for range 5 {
			head(t, s, second, second)
		}
		if n := len(asked); n != 1 {
			t.Errorf("asked %d times", n)
		}
	})
}

func TestPushesWhileFetching(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	first := o.commit("a.hcl", "0\n")
	s := follow(t, gitDaemon(t, o.dir)+".git")
	head(t, s, "", first)
	stop, done := make(chan struct{}), make(chan string)
	go func() {
		for i := 0; ; i++ {
			tip := o.commit("a.hcl", strings.Repeat("x\n", i))
			select {
			case <-stop:
				done <- tip
				return
			default:
			}
		}
	}()
	last := first
	for range 25 {
		snap, err := s.Head(background, last)
		if err != nil {
			t.Error(err)
			break
		}
		last = snap.Commit
	}
	close(stop)
	head(t, s, last, <-done)
}

func TestManyFetchesAreJoined(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	s := follow(t, o.dir)
	var last string
	body := strings.Repeat("a line of some length\n", 500)
	for i := range maxPacks + 3 {
		last = o.imported(i == 0, func(int) (string, string) { return "a.hcl", body + strings.Repeat("x\n", i) }, 1)
		head(t, s, "", last)
		if i%10 == 0 {
			o.git("repack", "-qad") // so that deltas are among what is sent
		}
	}
	if n := len(s.clone.objects.list()); n > 5 {
		t.Errorf("%d packs", n)
	}
	run(t, "", "git", "--git-dir", s.o.Dir, "fsck", "--strict", "--full")
	again := open(t, s.o)
	content(t, head(t, again, last, last).FS, "a.hcl", body+strings.Repeat("x\n", maxPacks+2))
	files, err := os.ReadDir(filepath.Join(s.o.Dir, "objects", "pack"))
	if err != nil || len(files) > 10 {
		t.Errorf("%d files, %v", len(files), err)
	}
}

func TestAHistoryThatIsNotWhole(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.commit("a.hcl", "1\n")
	tip := o.commit("a.hcl", "2\n")
	shallow := filepath.Join(t.TempDir(), "shallow")
	run(t, "", "git", "clone", "-q", "--depth", "1", "file://"+o.dir, shallow)
	for _, url := range []string{shallow, gitDaemon(t, shallow) + ".git"} {
		err := refuse(t, follow(t, url), "", ErrCorrupt)
		if !strings.Contains(err.Error(), "shallow") {
			t.Error(err)
		}
	}
	head(t, follow(t, o.dir), "", tip)
}

func TestWithoutGit(t *testing.T) {
	o := newOrigin(t)
	first := o.commit("a.hcl", "1\n")
	o.git("gc", "-q")
	second := o.commit("a.hcl", "2\n")
	borrower := filepath.Join(t.TempDir(), "borrower")
	run(t, "", "git", "clone", "-q", "--bare", "--shared", o.dir, borrower)
	run(t, borrower, "git", "pack-refs", "--all")
	t.Setenv("PATH", "")
	for _, url := range []string{o.dir, "file://" + o.dir, borrower} {
		s := follow(t, url)
		content(t, head(t, s, "", second).FS, "a.hcl", "2\n")
		if ok, err := s.Ancestor(background, first, second); !ok || err != nil {
			t.Errorf("%s: Ancestor = %v, %v", url, ok, err)
		}
	}
}

func TestATagAsBranch(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	first := o.commit("a.hcl", "1\n")
	o.git("tag", "-a", "-m", "tag", "v1")
	o.git("tag", "-a", "-m", "tag of a tag", "v2", "v1")
	o.commit("a.hcl", "2\n")
	for _, url := range []string{o.dir, gitDaemon(t, o.dir) + ".git"} {
		s := follow(t, url, func(o *Options) { o.Branch = "refs/tags/v2" })
		head(t, s, "", first)
		head(t, s, first, first)
	}
}

func TestAFetchThatTakesTooLong(t *testing.T) {
	o := newOrigin(t)
	tip := o.commit("a.hcl", "1\n")
	addr := serveTCP(t, func(c net.Conn) {
		_, _ = io.WriteString(c, pkt(tip+" refs/heads/main\x00side-band-64k\n")+"0000"+pkt("NAK\n")+pkt("\x01PACK\x00\x00\x00\x02\x00\x00\x00\x09"))
		for { // progress, for ever: it never falls silent
			if _, err := io.WriteString(c, pkt("\x01x")); err != nil {
				return
			}
		}
	})
	s := follow(t, "git://"+addr, func(o *Options) { o.FetchTimeout = 300 * time.Millisecond; o.MaxPack = 1 << 40 })
	if err := refuse(t, s, "", ErrUnreachable); !strings.Contains(err.Error(), "not done after") {
		t.Error(err)
	}
}
