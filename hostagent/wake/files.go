package wake

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

// files is what is watched. Directories are watched, never files: a file that
// is replaced by a rename would take its watch with it.
type files struct {
	mu      sync.Mutex
	watcher *fsnotify.Watcher // made with the first path
	closed  bool
	paths   []string               // what somebody wants to know of
	dirs    map[string]os.FileInfo // what is watched, as it was then
}

// SetPaths replaces the paths that are watched. A path may be a file, a link,
// or a directory; of a directory its entries are watched too, but nothing
// below them. What does not exist yet is waited for at its nearest parent that
// does. Paths that were watched before lose no event; where one is new, a wake
// follows, since it may have changed just before.
//
// If an ancestor beyond a path's parent is moved away, that is seen at the
// next SetPaths; the poll covers the time between, as it covers paths that
// cannot be watched (the error says which; the others are).
func (w *Waker) SetPaths(paths []string) error {
	clean := make([]string, 0, len(paths))
	for _, p := range paths {
		if !filepath.IsAbs(p) {
			return fmt.Errorf("watch %q: it is not an absolute path", p)
		}
		clean = append(clean, filepath.Clean(p))
	}
	slices.Sort(clean)
	f := &w.files
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || len(clean) == 0 && f.watcher == nil {
		return nil
	}
	if f.watcher == nil {
		watcher, err := fsnotify.NewWatcher()
		if err != nil {
			return fmt.Errorf("watch files: %w; raise fs.inotify.max_user_instances, until then only the poll sees changes", err)
		}
		f.watcher, f.dirs = watcher, map[string]os.FileInfo{}
		w.running.Go(func() { w.keepFiles(watcher) })
	}
	f.paths = slices.Compact(clean)
	added, err := f.settle()
	if added {
		w.Wake()
	}
	return err
}

// settle watches what the paths now need and nothing else: new ones first, so
// that nothing is lost between.
func (f *files) settle() (added bool, err error) {
	need := map[string]bool{}
	for _, p := range f.paths {
		a, e := f.follow(p, need)
		added, err = added || a, errors.Join(err, e)
	}
	for dir := range f.dirs {
		if !need[dir] {
			_ = f.watcher.Remove(dir) // gone with the directory, perhaps
			delete(f.dirs, dir)
		}
	}
	return added, err
}

// follow watches path, if it is a directory, and its nearest parent that is
// one. It looks again after each new watch: what appeared before the watch
// stood told nobody.
func (f *files) follow(path string, need map[string]bool) (added bool, err error) {
	if info, e := os.Stat(path); e == nil && info.IsDir() {
		if added, err = f.watch(path, need); err != nil {
			return added, err
		}
	}
	for dir := path; dir != "/"; {
		dir = filepath.Dir(dir)
		info, err := os.Stat(dir)
		if err != nil || !info.IsDir() {
			continue
		}
		a, err := f.watch(dir, need)
		if err != nil {
			return added, err
		}
		if _, ok := f.dirs[dir]; !ok {
			continue // gone between the two looks: its parent must tell of it
		}
		if a && dir != filepath.Dir(path) && exists(child(dir, path)) {
			_, err := f.follow(path, need)
			return true, err
		}
		return added || a, nil
	}
	return added, nil
}

func (f *files) watch(dir string, need map[string]bool) (added bool, err error) {
	need[dir] = true
	info, err := os.Stat(dir)
	if err != nil {
		delete(f.dirs, dir)
		return false, nil // gone again
	}
	if old, ok := f.dirs[dir]; ok {
		if os.SameFile(old, info) {
			return false, nil
		}
		_ = f.watcher.Remove(dir)
	}
	if err := f.watcher.Add(dir); err != nil {
		delete(f.dirs, dir)
		if errors.Is(err, os.ErrNotExist) {
			return false, nil
		}
		return false, fmt.Errorf("watch %s: %w; only the poll sees its changes (is fs.inotify.max_user_watches too low?)", dir, err)
	}
	f.dirs[dir] = info
	return true, nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// child is the entry of dir that leads to path.
func child(dir, path string) string {
	rest := strings.TrimPrefix(strings.TrimPrefix(path, dir), "/")
	name, _, _ := strings.Cut(rest, "/")
	return filepath.Join(dir, name)
}

// concerns reports whether an event tells of a wanted path: of itself, of a
// directory on the way to it, or of an entry of it. All else is noise, such as
// a log that grows beside it.
func (f *files) concerns(e fsnotify.Event) bool {
	if e.Op == fsnotify.Chmod {
		return false
	}
	for _, p := range f.paths {
		if e.Name == p || filepath.Dir(e.Name) == p || strings.HasPrefix(p, strings.TrimSuffix(e.Name, "/")+"/") {
			return true
		}
	}
	return false
}

// keepFiles turns events into wakes: the first at once, those that follow
// together once the quiet time is over, so that a directory in which much
// happens cannot keep the agent busy.
func (w *Waker) keepFiles(watcher *fsnotify.Watcher) {
	var last time.Time
	waiting := false
	later := stopped()
	defer later.Stop()
	tell := func() {
		switch rest := w.o.Quiet - time.Since(last); {
		case waiting:
		case last.IsZero() || rest <= 0:
			last = time.Now()
			w.Wake()
		default:
			waiting = true
			later.Reset(rest)
		}
	}
	for {
		select {
		case e, ok := <-watcher.Events:
			if !ok {
				return
			}
			if w.files.changed(e, w.o.OnError) {
				tell()
			}
		case err, ok := <-watcher.Errors:
			if !ok {
				return
			}
			w.o.OnError(err)
			w.files.changed(fsnotify.Event{}, w.o.OnError)
			tell() // an overflow: anything may have happened
		case <-later.C:
			waiting, last = false, time.Now()
			w.Wake()
		}
	}
}

// changed takes an event in; the zero event stands for any.
func (f *files) changed(e fsnotify.Event, onError func(error)) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || e.Op != 0 && !f.concerns(e) {
		return false
	}
	if e.Op == 0 || e.Op.Has(fsnotify.Create) || e.Op.Has(fsnotify.Remove) || e.Op.Has(fsnotify.Rename) {
		if e.Op.Has(fsnotify.Remove) || e.Op.Has(fsnotify.Rename) {
			if _, ok := f.dirs[e.Name]; ok { // its watch is gone, even if a new directory has the old one's inode
				_ = f.watcher.Remove(e.Name)
				delete(f.dirs, e.Name)
			}
		}
		if _, err := f.settle(); err != nil {
			onError(err)
		}
	}
	return true
}

func (f *files) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	if f.watcher == nil {
		return nil
	}
	return f.watcher.Close()
}
