package gitsource

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "fetch-until-killed" {
		os.Exit(fetchUntilKilled(os.Args[2], os.Args[3]))
	}
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("testing.(*T).Run"))
}

// origin is a repository made with the real git.
type origin struct {
	t   testing.TB
	dir string // work tree
}

func newOrigin(t testing.TB) *origin {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("needs git: apt-get install git")
	}
	o := &origin{t, filepath.Join(t.TempDir(), "origin")}
	// As git init would leave it, without a process; there are many of these.
	for _, dir := range []string{"objects/info", "objects/pack", "refs/heads", "refs/tags", "info"} {
		must(os.MkdirAll(filepath.Join(o.dir, ".git", dir), 0o755))
	}
	must(os.WriteFile(filepath.Join(o.dir, ".git/HEAD"), []byte("ref: refs/heads/main\n"), 0o600))
	must(os.WriteFile(filepath.Join(o.dir, ".git/config"), []byte(originConfig), 0o600))
	return o
}

// Nothing goes on in the background after a test, and the tests' own
// repositories need not survive a power cut.
const originConfig = `[core]
	repositoryformatversion = 0
	filemode = true
	bare = false
	logallrefupdates = true
	fsync = none
	looseCompression = 0
[gc]
	auto = 0
[maintenance]
	auto = false
`

// clean is an environment in which git behaves the same on every machine.
func clean() []string {
	env := []string{"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=Ann", "GIT_AUTHOR_EMAIL=ann@acme.example",
		"GIT_COMMITTER_NAME=Carl", "GIT_COMMITTER_EMAIL=carl@acme.example"}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "GIT_") {
			env = append(env, v)
		}
	}
	return env
}

func run(t testing.TB, dir string, argv ...string) string {
	t.Helper()
	return runEnv(t, dir, nil, argv...)
}

func runEnv(t testing.TB, dir string, env []string, argv ...string) string {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = dir, append(clean(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func (o *origin) git(args ...string) string {
	o.t.Helper()
	return run(o.t, o.dir, append([]string{"git"}, args...)...)
}

// commit writes files (path, content, ...) and commits them.
func (o *origin) commit(files ...string) string {
	o.t.Helper()
	for i := 0; i+1 < len(files); i += 2 {
		path := filepath.Join(o.dir, files[i])
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			o.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(files[i+1]), 0o644); err != nil {
			o.t.Fatal(err)
		}
	}
	o.git("add", "-A")
	o.git("commit", "-q", "--allow-empty", "-m", "change "+strings.Join(files[:min(1, len(files))], ""))
	return o.tip()
}

// tip is what HEAD names.
func (o *origin) tip() string {
	o.t.Helper()
	at := "HEAD"
	for range 2 {
		text, err := os.ReadFile(filepath.Join(o.dir, ".git", at))
		if err != nil {
			break // packed, or this is a linked work tree
		}
		hash := strings.TrimSpace(string(text))
		name, isRef := strings.CutPrefix(hash, "ref: ")
		if !isRef {
			return hash
		}
		at = name
	}
	return o.git("rev-parse", "HEAD")
}

// follow opens a source on url with a clone of its own.
func follow(t testing.TB, url string, change ...func(*Options)) *Source {
	t.Helper()
	o := Options{URL: url, Dir: filepath.Join(t.TempDir(), "clone"), Timeout: 30 * time.Second}
	for _, c := range change {
		c(&o)
	}
	return open(t, o)
}

func open(t testing.TB, o Options) *Source {
	t.Helper()
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func head(t testing.TB, s *Source, accepted, want string) Snapshot {
	t.Helper()
	snap, err := s.Head(context.Background(), accepted)
	if err != nil {
		t.Fatalf("Head: %v", err)
	}
	if snap.Commit != want {
		t.Fatalf("Head = %s, want %s", snap.Commit, want)
	}
	return snap
}

// refuse wants an error of a kind, with a message that tells what to do.
func refuse(t testing.TB, s *Source, accepted string, kind error) error {
	t.Helper()
	snap, err := s.Head(context.Background(), accepted)
	if !errors.Is(err, kind) {
		t.Fatalf("Head = %q, %v; want %v", snap.Commit, err, kind)
	}
	t.Log(err)
	return err
}

func content(t testing.TB, fsys fs.FS, name, want string) {
	t.Helper()
	got, err := fs.ReadFile(fsys, name)
	if err != nil || string(got) != want {
		t.Fatalf("%s = %q, %v; want %q", name, got, err, want)
	}
}

func TestFollowsALocalRepository(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	first := o.commit("prod/web.hcl", "one\n", "README", "read me\n")
	s := follow(t, o.dir)
	snap := head(t, s, "", first)
	content(t, snap.FS, "prod/web.hcl", "one\n")
	if err := s.Accept(context.Background(), first); err != nil {
		t.Fatal(err)
	}
	second := o.commit("prod/web.hcl", "two\n")
	snap = head(t, s, first, second)
	content(t, snap.FS, "prod/web.hcl", "two\n")
	old, err := s.At(context.Background(), first)
	if err != nil {
		t.Fatal(err)
	}
	content(t, old.FS, "prod/web.hcl", "one\n")
	if ok, err := s.Ancestor(context.Background(), first, second); !ok || err != nil {
		t.Fatalf("Ancestor = %v, %v", ok, err)
	}
	if got, err := s.Accepted(); got != first || err != nil {
		t.Fatalf("Accepted = %q, %v", got, err)
	}
	run(t, "", "git", "--git-dir", s.o.Dir, "fsck", "--strict", "--full")
}
