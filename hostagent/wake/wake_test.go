package wake

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestPollIsJittered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := New(Options{Poll: time.Minute, Rand: func() float64 { return 0.5 }})
		defer w.Close()
		for range 3 {
			start := time.Now()
			<-w.C()
			if d := time.Since(start); d != 63*time.Second {
				t.Errorf("woke after %s", d)
			}
		}
		w.SetPoll(10 * time.Second)
		start := time.Now()
		<-w.C()
		if d := time.Since(start); d != 10500*time.Millisecond {
			t.Errorf("after SetPoll: %s", d)
		}
	})
}

func TestAtReplacesAndIsTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := New(Options{})
		defer w.Close()
		start := time.Now()
		w.At(start.Add(time.Hour))
		w.At(start.Add(2 * time.Hour))
		<-w.C()
		if d := time.Since(start); d != 2*time.Hour {
			t.Errorf("woke after %s", d)
		}
		w.At(time.Now().Add(-time.Hour)) // already open
		<-w.C()
		w.At(time.Now().Add(time.Minute))
		w.At(time.Time{})
		select {
		case <-w.C():
			t.Error("woke at a time that was taken back")
		case <-time.After(time.Hour):
		}
	})
}

func TestWakesAreOne(t *testing.T) {
	w := New(Options{})
	defer w.Close()
	for range 10 {
		w.Wake()
	}
	<-w.C()
	select {
	case <-w.C():
		t.Error("two")
	default:
	}
}

func TestSignal(t *testing.T) {
	w := New(Options{Signals: []os.Signal{syscall.SIGHUP}})
	defer w.Close()
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	await(t, w)
}

func await(t *testing.T, w *Waker) {
	t.Helper()
	select {
	case <-w.C():
	case <-time.After(30 * time.Second):
		t.Fatal("no wake")
	}
}

// settled waits until all events so far were taken in, and their wakes too:
// the marker is an event like any other, and comes after them.
func settled(t *testing.T, w *Waker, marker string) {
	t.Helper()
	drain(w)
	put(t, marker)
	await(t, w)
}

func drain(w *Waker) {
	select {
	case <-w.C():
	default:
	}
}

func watching(t *testing.T, paths ...string) *Waker {
	t.Helper()
	w := New(Options{Quiet: time.Nanosecond, OnError: func(err error) { t.Error(err) }})
	t.Cleanup(func() { _ = w.Close() })
	if err := w.SetPaths(paths); err != nil {
		t.Fatal(err)
	}
	await(t, w) // what is newly watched wakes once
	return w
}

func put(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func mkdir(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
}

func TestFileReplacedByRename(t *testing.T) {
	dir := t.TempDir()
	w := watching(t, filepath.Join(dir, "current"))
	for i := range 3 {
		link := filepath.Join(dir, "new")
		if err := os.Symlink(fmt.Sprint(i), link); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(link, filepath.Join(dir, "current")); err != nil {
			t.Fatal(err)
		}
		await(t, w)
	}
}

func TestDirectoriesThatComeAndGo(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a", "b", "c", "current")
	w := watching(t, path)
	for range 5 {
		mkdir(t, filepath.Dir(path))
		put(t, path)
		// The watch moves down while wakes come; from then on a change of the file alone wakes.
		for !w.files.watches(filepath.Dir(path)) {
			await(t, w)
		}
		drain(w)
		put(t, path)
		await(t, w)
		if err := os.RemoveAll(filepath.Join(dir, "a")); err != nil {
			t.Fatal(err)
		}
		for !w.files.watches(dir) {
			await(t, w)
		}
	}
}

func TestRenamedAwayAndMadeAnew(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "web")
	mkdir(t, dir)
	w := watching(t, filepath.Join(dir, "current"))
	if err := os.Rename(dir, dir+".old"); err != nil {
		t.Fatal(err)
	}
	await(t, w)
	mkdir(t, dir)
	for !w.files.watches(dir) {
		await(t, w)
	}
	drain(w)
	put(t, filepath.Join(dir, "current"))
	await(t, w)
}

func (f *files) watches(dir string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(dir)
	old, ok := f.dirs[dir]
	return err == nil && ok && os.SameFile(old, info)
}

func TestEntriesOfADirectory(t *testing.T) {
	dir := t.TempDir()
	refs := filepath.Join(dir, "refs", "heads")
	mkdir(t, refs)
	w := watching(t, refs)
	put(t, filepath.Join(refs, "main"))
	await(t, w)
}

func TestNoiseWakesNobody(t *testing.T) {
	f := files{paths: []string{"/srv/web/current", "/repo/refs"}}
	for name, want := range map[string]bool{
		"/srv/web/current": true, "/srv/web/web.log": false, "/srv/web": true, "/srv": true, "/srv/we": false,
		"/repo/refs/main": true, "/repo/refs/a/b": false, "/repo/index": false, "/": true,
	} {
		if got := f.concerns(fsnotify.Event{Name: name, Op: fsnotify.Write}); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if f.concerns(fsnotify.Event{Name: "/srv/web/current", Op: fsnotify.Chmod}) {
		t.Error("a change of mode alone wakes")
	}
}

func TestBusyFileIsRateLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		watcher := &fsnotify.Watcher{Events: make(chan fsnotify.Event), Errors: make(chan error)}
		w := New(Options{})
		w.files.paths = []string{"/x"}
		w.running.Go(func() { w.keepFiles(watcher) })
		start, wakes := time.Now(), 0
		for time.Since(start) < 2*time.Second { // 2,000 events, one a millisecond
			watcher.Events <- fsnotify.Event{Name: "/x", Op: fsnotify.Write}
			<-time.After(time.Millisecond) // of the bubble's clock
			select {
			case <-w.C():
				wakes++
			default:
			}
		}
		if wakes < 8 || wakes > 11 {
			t.Errorf("%d wakes in 2 s", wakes)
		}
		drain(w)
		watcher.Events <- fsnotify.Event{Name: "/x", Op: fsnotify.Write}
		select {
		case <-w.C(): // the last event is not lost
		case <-time.After(time.Second):
			t.Error("the last event is lost")
		}
		close(watcher.Events)
		_ = w.Close()
	})
}

func TestOverflowWakes(t *testing.T) {
	watcher := &fsnotify.Watcher{Events: make(chan fsnotify.Event), Errors: make(chan error)}
	o := New(Options{})
	o.files.paths = []string{}
	o.running.Go(func() { o.keepFiles(watcher) })
	watcher.Errors <- fsnotify.ErrEventOverflow
	await(t, o)
	close(watcher.Events)
	_ = o.Close()
}

func TestSetPathsKeepsAndLetsGo(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"a", "b"} {
		mkdir(t, filepath.Join(dir, d))
	}
	a, b := filepath.Join(dir, "a", "current"), filepath.Join(dir, "b", "current")
	w := watching(t, a)
	if err := w.SetPaths([]string{a}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-w.C():
		t.Error("nothing new, and yet a wake: the agent would never rest")
	default:
	}
	if err := w.SetPaths([]string{b}); err != nil {
		t.Fatal(err)
	}
	await(t, w)
	put(t, a)
	settled(t, w, b)
	if w.files.watches(filepath.Dir(a)) {
		t.Error("what nobody wants is still watched")
	}
	if err := w.SetPaths([]string{"relative"}); err == nil {
		t.Error("a relative path is no error")
	}
	if err := w.SetPaths(nil); err != nil {
		t.Error(err)
	}
}

func TestMadeAnewUnseen(t *testing.T) {
	// An ancestor that nobody watches is moved away: the next SetPaths sees it.
	top := filepath.Join(t.TempDir(), "top")
	path := filepath.Join(top, "web", "current")
	mkdir(t, filepath.Dir(path))
	w := watching(t, path)
	if err := os.Rename(top, top+".old"); err != nil {
		t.Fatal(err)
	}
	mkdir(t, filepath.Dir(path))
	drain(w)
	if err := w.SetPaths([]string{path}); err != nil {
		t.Fatal(err)
	}
	if !w.files.watches(filepath.Dir(path)) {
		t.Fatal("it watches what was moved away")
	}
	drain(w)
	put(t, path)
	await(t, w)
}
