package gitsource

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// mirrorOf is a fresh Mirror on dir, as each fetch makes one.
func mirrorOf(t testing.TB, url, dir string, own Options) *Mirror {
	t.Helper()
	m, err := OpenMirror(MirrorOptions{URL: url, Dir: dir, Own: own, Timeout: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func holds(t testing.TB, m *Mirror, commit, file, want string) {
	t.Helper()
	snap, err := m.Commit(context.Background(), commit)
	if err != nil {
		t.Fatalf("Commit: %v", err)
	}
	if snap.Commit != commit {
		t.Fatalf("Commit = %s, want %s", snap.Commit, commit)
	}
	content(t, snap.FS, file, want)
}

// TestAMirrorFetchesAnyPushedCommit over each transport: a branch's head, one
// behind it, one on another branch, one that only an annotated tag leads to.
// The real servers give out no commit by its hash, so that their branches and
// tags have to be fetched.
func TestAMirrorFetchesAnyPushedCommit(t *testing.T) {
	t.Parallel()
	for name, serve := range transports(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOrigin(t)
			first := o.commit("a", "1")
			o.git("checkout", "-q", "-b", "side")
			side := o.commit("a", "side")
			o.git("checkout", "-q", "main")
			second := o.commit("a", "2")
			o.git("checkout", "-q", "--detach")
			tagged := o.commit("a", "tagged")
			o.git("tag", "-a", "-m", "v1", "v1")
			o.git("checkout", "-q", "main")
			url, change := serve(t, o)
			own := Options{URL: url}
			change(&own)
			dir := filepath.Join(t.TempDir(), "mirror")
			for commit, want := range map[string]string{first: "1", side: "side", second: "2", tagged: "tagged"} {
				holds(t, mirrorOf(t, url, dir, own), commit, "a", want)
			}
			third := o.commit("a", "3")
			holds(t, mirrorOf(t, url, dir, own), third, "a", "3")
			o.commit("b", "later")
			behind := o.commit("a", "4")
			o.commit("a", "5")
			holds(t, mirrorOf(t, url, dir, own), behind, "a", "4")
			if err := os.Rename(o.dir, o.dir+".gone"); err != nil {
				t.Fatal(err)
			}
			holds(t, mirrorOf(t, url, dir, own), behind, "a", "4") // needs no server any more
		})
	}
}

// A server that gives out any commit is asked for nothing else.
func TestAMirrorAsksForTheCommitAlone(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	first := o.commit("a", "1")
	o.commit("b", strings.Repeat("much", 1000))
	o.git("config", "uploadpack.allowReachableSHA1InWant", "true")
	m := mirrorOf(t, gitDaemon(t, o.dir)+".git", filepath.Join(t.TempDir(), "mirror"), Options{})
	holds(t, m, first, "a", "1")
	head, err := parseHash(o.git("rev-parse", "HEAD"))
	if err != nil || m.clone.objects.has(head) {
		t.Errorf("the branch's head was fetched too (%v)", err)
	}
}

func TestAMirrorSaysThatACommitIsNotPushed(t *testing.T) {
	t.Parallel()
	for _, gives := range []string{"false", "true"} {
		o := newOrigin(t)
		o.commit("a", "1")
		lost := o.commit("a", "lost")
		o.git("reset", "-q", "--hard", "HEAD^")
		o.git("config", "uploadpack.allowReachableSHA1InWant", gives)
		dir := filepath.Join(t.TempDir(), "mirror")
		url := gitDaemon(t, o.dir) + ".git"
		for range 2 {
			_, err := mirrorOf(t, url, dir, Options{}).Commit(t.Context(), lost)
			if !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), "Push it") {
				t.Fatalf("a commit that is nowhere, server gives any: %s: %v", gives, err)
			}
		}
		o.git("branch", "found", lost)
		holds(t, mirrorOf(t, url, dir, Options{}), lost, "a", "lost")
	}
}

func TestAMirrorRefusesWhatIsNoCommit(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.commit("a", "1")
	o.git("tag", "-a", "-m", "v1", "v1")
	for _, rev := range []string{"v1", "HEAD^{tree}"} {
		_, err := mirrorOf(t, o.dir, filepath.Join(t.TempDir(), "mirror"), Options{}).Commit(t.Context(), o.git("rev-parse", rev))
		if !errors.Is(err, ErrUnknown) {
			t.Errorf("%s: %v", rev, err)
		}
	}
	if _, err := mirrorOf(t, o.dir, filepath.Join(t.TempDir(), "mirror"), Options{}).Commit(t.Context(), "abc"); !errors.Is(err, ErrUnknown) {
		t.Errorf("an abbreviated hash: %v", err)
	}
}

// A mirror is a cache: damage of any kind is made good by a fetch.
func TestAMirrorThatIsDamagedIsMadeAnew(t *testing.T) {
	t.Parallel()
	damages := map[string]func(t *testing.T, dir string, m *Mirror, commit string){
		"no objects": func(t *testing.T, dir string, _ *Mirror, _ string) {
			if err := os.RemoveAll(filepath.Join(dir, "objects")); err != nil {
				t.Fatal(err)
			}
		},
		"an index cut off": func(t *testing.T, dir string, _ *Mirror, _ string) {
			files, _ := filepath.Glob(filepath.Join(dir, "objects/pack/*.idx"))
			if len(files) == 0 || os.Chmod(files[0], 0o600) != nil || os.Truncate(files[0], 40) != nil {
				t.Fatal("no index to damage")
			}
		},
		"a pack overwritten": func(t *testing.T, dir string, _ *Mirror, _ string) {
			files, _ := filepath.Glob(filepath.Join(dir, "objects/pack/*.pack"))
			data, err := os.ReadFile(files[0])
			if err != nil || os.Remove(files[0]) != nil {
				t.Fatal(err)
			}
			for i := range data[20:] {
				data[20+i] ^= 0x55
			}
			if err := os.WriteFile(files[0], data, 0o600); err != nil {
				t.Fatal(err)
			}
		},
	}
	damages["a commit exchanged"] = func(t *testing.T, dir string, _ *Mirror, commit string) {
		other := newOrigin(t)
		evil := other.commit("a", "evil")
		data, err := os.ReadFile(filepath.Join(other.dir, ".git/objects", evil[:2], evil[2:]))
		to := filepath.Join(dir, "objects", commit[:2], commit[2:])
		if err != nil || os.MkdirAll(filepath.Dir(to), 0o700) != nil || os.WriteFile(to, data, 0o600) != nil {
			t.Fatal(err)
		}
		packs, _ := filepath.Glob(filepath.Join(dir, "objects/pack/*"))
		for _, p := range packs {
			if err := os.Remove(p); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			o := newOrigin(t)
			first := o.commit("a", "1", "b", strings.Repeat("b", 5000))
			dir := filepath.Join(t.TempDir(), "mirror")
			m := mirrorOf(t, o.dir, dir, Options{})
			holds(t, m, first, "a", "1")
			damage(t, dir, m, first)
			holds(t, mirrorOf(t, o.dir, dir, Options{}), first, "a", "1")
			damage(t, dir, m, first)
			holds(t, mirrorOf(t, o.dir, dir, Options{}), o.commit("a", "2"), "a", "2")
		})
	}
}

// A file that is read only later is proved then, and remembered as damage.
func TestADamagedFileOfAMirrorIsNeverRead(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	c := o.commit("a", "good")
	dir := filepath.Join(t.TempDir(), "mirror")
	m := mirrorOf(t, o.dir, dir, Options{})
	snap, err := m.Commit(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	blob := o.git("rev-parse", "HEAD:a")
	loose := filepath.Join(dir, "objects", blob[:2], blob[2:])
	packs, _ := filepath.Glob(filepath.Join(dir, "objects/pack/*"))
	other := newOrigin(t)
	other.commit("a", "evil")
	evil := other.git("rev-parse", "HEAD:a")
	data, err := os.ReadFile(filepath.Join(other.dir, ".git/objects", evil[:2], evil[2:]))
	if err != nil || os.MkdirAll(filepath.Dir(loose), 0o700) != nil || os.WriteFile(loose, data, 0o600) != nil {
		t.Fatal(err)
	}
	for _, h := range []string{c, o.git("rev-parse", "HEAD^{tree}")} {
		data, err := os.ReadFile(filepath.Join(o.dir, ".git/objects", h[:2], h[2:]))
		to := filepath.Join(dir, "objects", h[:2], h[2:])
		if err != nil || os.MkdirAll(filepath.Dir(to), 0o700) != nil || os.WriteFile(to, data, 0o600) != nil {
			t.Fatal(err)
		}
	}
	for _, p := range packs {
		if err := os.Remove(p); err != nil {
			t.Fatal(err)
		}
	}
	if m.Close() != nil {
		t.Fatal("close")
	}
	m = mirrorOf(t, o.dir, dir, Options{})
	if snap, err = m.Commit(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if data, err := fs.ReadFile(snap.FS, "a"); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("a file that was tampered with: %q, %v", data, err)
	}
	holds(t, mirrorOf(t, o.dir, dir, Options{}), c, "a", "good")
}

// The token is the config source's: it goes to no other host.
func TestAMirrorsTokenStaysWithItsHost(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	c := o.commit("a", "1")
	var seen []string
	url, ca := httpsGit(t, o.dir, func(_ http.ResponseWriter, r *http.Request) bool {
		seen = append(seen, r.Header.Get("Authorization"))
		return true
	})
	own := Options{URL: strings.Replace(url, "127.0.0.1", "localhost", 1), CA: ca, Token: func() (string, error) { return token, nil }}
	holds(t, mirrorOf(t, url+".git", filepath.Join(t.TempDir(), "mirror"), own), c, "a", "1")
	for _, s := range seen {
		if s != "" {
			t.Fatalf("another host was sent %q", s)
		}
	}
	own.URL = url + "fleet.git"
	holds(t, mirrorOf(t, url+".git", filepath.Join(t.TempDir(), "mirror"), own), c, "a", "1")
	if last := seen[len(seen)-1]; !strings.HasPrefix(last, "Basic ") {
		t.Errorf("the source's own host was sent %q", last)
	}
}

func TestAMirrorTakesNoMoreThanItsLimit(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	c := o.commit("a", strings.Repeat("0123456789", 100_000))
	m, err := OpenMirror(MirrorOptions{URL: o.dir, Dir: filepath.Join(t.TempDir(), "mirror"), MaxPack: 1000})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if _, err := m.Commit(t.Context(), c); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a pack over the limit: %v", err)
	}
	left, _ := filepath.Glob(filepath.Join(m.o.Dir, "objects/pack/*"))
	if len(left) > 0 {
		t.Errorf("it left %v", left)
	}
}

func TestAMirrorDoesNotWaitForEver(t *testing.T) {
	block := make(chan struct{})
	t.Cleanup(func() { close(block) })
	o := newOrigin(t)
	c := o.commit("a", "1")
	url, ca := httpsGit(t, o.dir, func(_ http.ResponseWriter, r *http.Request) bool {
		select {
		case <-block:
		case <-r.Context().Done():
		}
		return false
	})
	m, err := OpenMirror(MirrorOptions{URL: url, Dir: filepath.Join(t.TempDir(), "mirror"), Own: Options{CA: ca}, Timeout: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if _, err := m.Commit(t.Context(), c); !errors.Is(err, ErrUnreachable) {
		t.Errorf("a silent server: %v", err)
	}
}
