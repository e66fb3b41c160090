package gittree

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"drydock/hostagent/archive"
	"drydock/hostagent/confine"
	"drydock/hostagent/drivertest"
	"drydock/hostagent/proc"
	"drydock/hostagent/release"
	"drydock/reconcile"
	"drydock/spec"
)

func TestMain(m *testing.M) {
	if code, ours := confine.Shim(); ours {
		os.Exit(code)
	}
	if code, ours := archive.Unpacker(os.Args); ours {
		// The race detector would sleep for a second first: GORACE is in an
		// environment that an unpacker may not read.
		syscall.Exit(code)
	}
	if len(os.Args) > 1 && os.Args[1] == "fetch-until-killed" {
		os.Exit(fetchUntilKilled(os.Args[2], os.Args[3], os.Args[4]))
	}
	goleak.VerifyTestMain(m)
}

// origin is a repository made with the real git.
type origin struct {
	t   testing.TB
	dir string
}

func newOrigin(t testing.TB) *origin {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("needs git: apt-get install git")
	}
	o := &origin{t, filepath.Join(t.TempDir(), "origin")}
	o.git("init", "-q", "-b", "main", o.dir)
	o.git("config", "gc.auto", "0")
	o.git("config", "core.fsync", "none")
	return o
}

func (o *origin) git(args ...string) string {
	o.t.Helper()
	cmd := exec.Command("git", args...)
	if args[0] != "init" {
		cmd.Dir = o.dir
	}
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=Ann", "GIT_AUTHOR_EMAIL=ann@acme.example",
		"GIT_COMMITTER_NAME=Carl", "GIT_COMMITTER_EMAIL=carl@acme.example", "GIT_COMMITTER_DATE=2026-01-02T03:04:05Z")
	out, err := cmd.CombinedOutput()
	if err != nil {
		o.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// write puts a file into the work tree.
func (o *origin) write(name, content string, mode os.FileMode) {
	o.t.Helper()
	path := filepath.Join(o.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		o.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		o.t.Fatal(err)
	}
}

func (o *origin) commit() string {
	o.t.Helper()
	o.git("add", "-A")
	o.git("commit", "-q", "-m", "change")
	return o.git("rev-parse", "HEAD")
}

// rig is a host with one service out of an origin.
type rig struct {
	*origin
	path   string
	env    reconcile.Env
	more   map[string]any // attributes
	limits archive.Limits
	now    time.Time
}

func newRig(t testing.TB) *rig {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil { // for the service's user
		t.Fatal(err)
	}
	return &rig{origin: newOrigin(t), path: filepath.Join(dir, "srv"), more: map[string]any{}, now: time.Now(),
		env: reconcile.Env{StateDir: filepath.Join(dir, "state")}}
}

// driver is one of a new agent.
func (r *rig) driver() *Driver {
	return New(Options{Env: r.env, Limits: r.limits, Release: release.Options{Now: func() time.Time { return r.now }}})
}

func (r *rig) step(phase reconcile.Phase, version, commit string) reconcile.Step {
	r.t.Helper()
	attrs := map[string]any{"path": r.path, "url": r.dir, "build": []string{}, "keep": 5, "user": "", "timeout": "30s"}
	for k, v := range r.more {
		attrs[k] = v
	}
	t, ok := r.t.(*testing.T)
	if !ok {
		r.t.Fatal("no test")
	}
	s := drivertest.Step(phase, drivertest.Block(t, "install", "git", attrs))
	s.Target.Release = spec.Release{Version: version, Digest: "git:" + commit, Attempt: 1}
	return s
}

func (r *rig) deploy(version, commit string) {
	r.t.Helper()
	d := r.driver()
	for _, phase := range []reconcile.Phase{reconcile.Fetch, reconcile.Install} {
		s := r.step(phase, version, commit)
		if err := d.Do(r.t.Context(), s); err != nil {
			r.t.Fatalf("%v: %v", phase, err)
		}
		if done, err := d.Done(r.t.Context(), s); !done || err != nil {
			r.t.Fatalf("%v: done is %v, %v", phase, done, err)
		}
	}
}

// refused is the error of a fetch that must fail and leave nothing.
func (r *rig) refused(version, commit string, blame reconcile.Blame, words ...string) {
	r.t.Helper()
	err := r.driver().Do(r.t.Context(), r.step(reconcile.Fetch, version, commit))
	if err == nil {
		r.t.Fatal("it was not refused")
	}
	r.t.Log(err)
	if got := reconcile.BlameOf(err); got != blame {
		r.t.Errorf("it blames the %v, not the %v", got, blame)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			r.t.Errorf("the error does not say %q", w)
		}
	}
	left, _ := filepath.Glob(filepath.Join(r.path, "releases", version+"*"))
	if len(left) > 0 {
		r.t.Errorf("it left %v", left)
	}
}

func (r *rig) current(name, want string) {
	r.t.Helper()
	if got, err := os.ReadFile(filepath.Join(r.path, "current", name)); err != nil || string(got) != want {
		r.t.Errorf("%s holds %q (%v), not %q", name, got, err, want)
	}
}

func (r *rig) observe(version, commit string) reconcile.Condition {
	r.t.Helper()
	c, err := r.driver().Observe(r.t.Context(), r.step(reconcile.Install, version, commit))
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

func TestSuite(t *testing.T) {
	for _, phase := range []reconcile.Phase{reconcile.Fetch, reconcile.Install} {
		t.Run(phase.String(), func(t *testing.T) {
			suite := drivertest.Suite{Config: Config{}, Reference: "service.install.git", Make: func(t *testing.T) drivertest.Case {
				r := newRig(t)
				r.write("app", "1", 0o755)
				commit := r.commit()
				r.more["build"] = []string{"/bin/sh", "-c", "cp app built"}
				c := drivertest.Case{New: func(env reconcile.Env) reconcile.Driver { return New(Options{Env: env}) }, Env: r.env,
					Step: r.step(phase, "1.0", commit), Watched: []string{r.path}, Before: reconcile.Absent, After: reconcile.Absent}
				if phase == reconcile.Install {
					if err := r.driver().Do(t.Context(), r.step(reconcile.Fetch, "1.0", commit)); err != nil {
						t.Fatal(err)
					}
					c.After = reconcile.Present
				}
				return c
			}}
			if phase == reconcile.Fetch {
				suite.Hanging = func(t *testing.T) drivertest.Case {
					r := newRig(t)
					r.write("app", "1", 0o755)
					r.more["build"] = []string{"/bin/sleep", "300"}
					return drivertest.Case{New: func(env reconcile.Env) reconcile.Driver { return New(Options{Env: env}) }, Env: r.env,
						Step: r.step(phase, "1.0", r.commit())}
				}
				suite.Faults = map[string]drivertest.Fault{
					"build fails": {Blame: reconcile.OfRelease, Make: func(t *testing.T) drivertest.Case {
						r := newRig(t)
						r.write("app", "1", 0o755)
						r.more["build"] = []string{"/bin/false"}
						return drivertest.Case{New: func(env reconcile.Env) reconcile.Driver { return New(Options{Env: env}) }, Env: r.env, Step: r.step(phase, "1.0", r.commit())}
					}},
				}
			}
			drivertest.Run(t, suite)
		})
	}
}

// describe lists a tree: mode, content or target.
func describe(t *testing.T, root string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.Walk(root, func(path string, info os.FileInfo, err error) error {
		if err != nil || path == root {
			return err
		}
		name := path[len(root)+1:]
		switch {
		case info.IsDir():
			all[name] = info.Mode().String()
		case info.Mode()&os.ModeSymlink != 0:
			target, err := os.Readlink(path)
			all[name] = "-> " + target
			return err
		default:
			data, err := os.ReadFile(path)
			all[name] = fmt.Sprintf("%v %q", info.Mode(), data)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Files come as they were committed, whatever git's own checkout would make of
// them, with the commit's time.
func TestATreeIsWhatWasCommitted(t *testing.T) {
	r := newRig(t)
	r.git("config", "core.autocrlf", "false")
	r.write("README", "one\ntwo\n", 0o644)
	r.write("bin/run", "#!/bin/sh\n", 0o755)
	r.write("deep/er/file", "", 0o644)
	r.write(".gitattributes", "README eol=crlf export-ignore\n* ident\n", 0o644)
	r.write("ident", "$Id$\n", 0o644)
	if err := os.Symlink("run", filepath.Join(r.dir, "bin/latest")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../bin", filepath.Join(r.dir, "deep/er/bin")); err != nil {
		t.Fatal(err)
	}
	r.git("config", "core.hooksPath", "/nowhere")
	commit := r.commit()
	r.deploy("1.0", commit)
	want := map[string]string{
		"README": `-rw-r--r-- "one\ntwo\n"`, "bin": "drwxr-xr-x", "bin/run": `-rwxr-xr-x "#!/bin/sh\n"`, "bin/latest": "-> run",
		"deep": "drwxr-xr-x", "deep/er": "drwxr-xr-x", "deep/er/file": `-rw-r--r-- ""`, "deep/er/bin": "-> ../../bin",
		".gitattributes": `-rw-r--r-- "README eol=crlf export-ignore\n* ident\n"`, "ident": `-rw-r--r-- "$Id$\n"`,
	}
	tree := filepath.Join(r.path, "releases", "1.0-"+commit[:12])
	if diff := cmp.Diff(want, describe(t, tree)); diff != "" {
		t.Errorf("the tree differs (-want +got):\n%s", diff)
	}
	info, err := os.Stat(filepath.Join(tree, "README"))
	if err != nil || !info.ModTime().Equal(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)) {
		t.Errorf("its time is %v, not the commit's (%v)", info.ModTime(), err)
	}
}

func TestOneReleaseAfterAnother(t *testing.T) {
	r := newRig(t)
	r.write("app", "1", 0o644)
	first := r.commit()
	r.write("app", "2", 0o644)
	second := r.commit()
	r.deploy("1.0", first)
	r.current("app", "1")
	r.deploy("2.0", second)
	r.current("app", "2")
	// Back, with the repository gone: the release is still there.
	if err := os.Rename(r.dir, r.dir+".gone"); err != nil {
		t.Fatal(err)
	}
	r.deploy("1.0", first)
	r.current("app", "1")
	// And where the release is pruned, its mirror still has it.
	if err := os.RemoveAll(filepath.Join(r.path, "releases", "2.0-"+second[:12])); err != nil {
		t.Fatal(err)
	}
	r.deploy("2.0", second)
	r.current("app", "2")
}

func TestRefusedTrees(t *testing.T) {
	link := func(target string) func(r *rig) {
		return func(r *rig) {
			if err := os.Symlink(target, filepath.Join(r.dir, "link")); err != nil {
				r.t.Fatal(err)
			}
		}
	}
	for name, c := range map[string]struct {
		make  func(r *rig)
		words []string
	}{
		"a submodule": {func(r *rig) {
			r.git("update-index", "--add", "--cacheinfo", "160000,"+strings.Repeat("1", 40)+",vendor/lib")
			r.git("commit", "-q", "-m", "submodule")
		}, []string{`"vendor/lib" is a submodule`, "bump to that commit"}},
		"a pointer of LFS": {func(r *rig) {
			r.write("model.bin", "version https://git-lfs.github.com/spec/v1\noid sha256:"+strings.Repeat("a", 64)+"\nsize 12345\n", 0o644)
		}, []string{`"model.bin" is a pointer of Git LFS`}},
		"a link out":      {link("../../etc/passwd"), []string{`"link" is a link to "../../etc/passwd"`}},
		"an absolute one": {link("/etc/passwd"), []string{"absolute path"}},
		"many entries":    {func(r *rig) { r.limits.Entries = 2; r.write("b", "", 0o644); r.write("c", "", 0o644) }, []string{"more than 2 entries"}},
		"many bytes":      {func(r *rig) { r.limits.Bytes = 9; r.write("b", "0123456789", 0o644) }, []string{`"b" makes the tree larger`}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.write("app", "1", 0o644)
			r.commit()
			c.make(r)
			commit := r.git("rev-parse", "HEAD")
			if r.git("status", "--porcelain") != "" && name != "a submodule" {
				commit = r.commit()
			}
			r.refused("1.0", commit, reconcile.OfRelease, c.words...)
		})
	}
}

func TestRefusedBeforeAnythingIsFetched(t *testing.T) {
	r := newRig(t)
	r.write("app", "1", 0o644)
	commit := r.commit()
	r.write("app", "lost", 0o644)
	lost := r.commit()
	r.git("reset", "-q", "--hard", "HEAD^")
	r.git("reflog", "expire", "--expire=now", "--all")
	r.git("gc", "-q", "--prune=now")
	r.refused("1.0", lost, reconcile.OfHost, "no branch and no tag there leads to commit "+lost, "Push it")
	r.refused("1.0", strings.Repeat("a", 64), reconcile.OfHost, "SHA-256")
	r.env.Private = filepath.Dir(r.dir)
	r.refused("1.0", commit, reconcile.OfHost, "state directory")
	r.more["url"] = "file://" + r.dir
	r.refused("1.0", commit, reconcile.OfHost, "state directory")
	r.more["url"] = "ssh://git@127.0.0.1:1/x"
	r.refused("1.0", commit, reconcile.OfHost, "ssh_key")
	r.more["url"] = "git://127.0.0.1:1/x"
	r.refused("1.0", commit, reconcile.OfHost, "Check the URL, the network and the server")
}

func serviceUser(t *testing.T) *user.User {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: run the test as root")
	}
	u, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// The build runs in the new tree, as the service's user, with a clean
// environment; what it makes is part of the release.
func TestABuild(t *testing.T) {
	u := serviceUser(t)
	t.Setenv("AGENTS_OWN", "secret")
	r := newRig(t)
	r.write("make.sh", `set -e
printf '%s ' "$(id -un)" "$DRYDOCK_RELEASE_DIR" "${AGENTS_OWN-none}" "$(cat app)" > built
mkdir out; echo loose > out/loose; chmod 777 out; chmod 4666 out/loose; ln -s /bin/sh out/sh
`, 0o644)
	r.write("app", "1", 0o644)
	commit := r.commit()
	r.more["user"], r.more["build"] = "nobody", []string{"/bin/sh", "make.sh"}
	r.deploy("1.0", commit)
	tree := filepath.Join(r.path, "releases", "1.0-"+commit[:12])
	r.current("built", "nobody "+tree+" none 1 ")
	got := describe(t, tree)
	for name, want := range map[string]string{"out": "drwxr-xr-x", "out/loose": `-rw-r--r-- "loose\n"`, "out/sh": "-> /bin/sh"} {
		if got[name] != want {
			t.Errorf("%s is %s, not %s", name, got[name], want)
		}
	}
	for _, name := range []string{"", "built", "out", "app", "out/sh"} {
		out, err := exec.Command("stat", "-c", "%u", filepath.Join(tree, name)).Output()
		if err != nil || strings.TrimSpace(string(out)) != u.Uid {
			t.Errorf("%q is uid %s's (%v)", name, out, err)
		}
	}
	if c := r.observe("1.0", commit); c.Is != reconcile.Present {
		t.Errorf("observed %+v", c)
	}
	if err := os.WriteFile(filepath.Join(tree, "built"), []byte("changed"), 0o644); err != nil {
		t.Fatal(err)
	}
	if c := r.observe("1.0", commit); c.Is != reconcile.Altered || !strings.HasPrefix(c.Detail, "built: ") {
		t.Errorf("what was built is not watched: %+v", c)
	}
}

// A build of the tree itself, and one with another command: the release that
// runs stays as it is until the switch.
func TestAnotherBuildIsAnotherTree(t *testing.T) {
	r := newRig(t)
	r.write("build.sh", "#!/bin/sh\necho $1 > built\n", 0o755)
	commit := r.commit()
	r.more["build"] = []string{"./build.sh", "one"}
	r.deploy("1.0", commit)
	r.current("built", "one\n")
	r.more["build"] = []string{"build.sh", "two"}
	if err := r.driver().Do(t.Context(), r.step(reconcile.Fetch, "1.0", commit)); err != nil {
		t.Fatal(err)
	}
	r.current("built", "one\n")
	r.deploy("1.0", commit)
	r.current("built", "two\n")
}

func TestABuildThatFails(t *testing.T) {
	r := newRig(t)
	r.write("app", "1", 0o644)
	first := r.commit()
	r.deploy("1.0", first)
	r.write("app", "2", 0o644)
	second := r.commit()
	r.more["build"] = []string{"/bin/sh", "-c", "for i in 1 2 3 4 5 6 7 8; do echo line $i; done; echo no such header >&2; exit 3"}
	r.refused("2.0", second, reconcile.OfRelease, "the build failed", "status 3", "line 5\nline 6\nline 7\nline 8\nno such header", "bump to that commit")
	r.more["build"] = []string{"./nothing"}
	r.refused("2.0", second, reconcile.OfHost, "./nothing", "does not bring")
	r.more["build"] = []string{"/bin/true"}
	r.more["user"] = "nobody-of-that-name"
	r.refused("2.0", second, reconcile.OfHost, "nobody-of-that-name")
	r.current("app", "1")
}

// A build that never ends is killed at its timeout with all that it started.
func TestABuildThatNeverEnds(t *testing.T) {
	r := newRig(t)
	r.write("app", "1", 0o644)
	commit := r.commit()
	r.more["timeout"] = "1s"
	r.more["build"] = []string{"/bin/sh", "-c", "trap '' TERM; echo begun; sleep 300 & sleep 301"}
	r.refused("1.0", commit, reconcile.Transient, "the build does not end", "1s", "begun", "raise `timeout`")
	kin, err := proc.Find(proc.Trait{Mark: mark(r.step(reconcile.Fetch, "1.0", commit))})
	if err != nil || len(kin) > 0 {
		t.Errorf("it left %v (%v)", kin, err)
	}
}

// fetchUntilKilled is an agent whose build does not end.
func fetchUntilKilled(state, path, commitAndURL string) int {
	commit, url, _ := strings.Cut(commitAndURL, " ")
	block := spec.Block{Type: "install", Driver: "git", Config: fmt.Appendf(nil,
		`{"path":%q,"url":%q,"build":["/bin/sh","-c","(while :; do echo x > junk-$$; done) 2>/dev/null & touch begun; wait"],"keep":5,"user":"","timeout":"5m0s"}`, path, url)}
	s := reconcile.Step{ID: "web/fetch/git", Service: "web", Phase: reconcile.Fetch, Block: block,
		Target: spec.Service{Name: "web", Install: &block, Release: spec.Release{Version: "1.0", Digest: "git:" + commit, Attempt: 1}}}
	fmt.Println(New(Options{Env: reconcile.Env{StateDir: state}}).Do(context.Background(), s))
	return 1
}

// An agent that is killed while it builds leaves processes that go on writing.
// The next one ends them, and builds in a tree that holds nothing of theirs.
func TestABuildWhoseAgentIsKilled(t *testing.T) {
	r := newRig(t)
	r.write("app", "1", 0o644)
	commit := r.commit()
	agent := exec.Command(os.Args[0], "fetch-until-killed", r.env.StateDir, r.path, commit+" "+r.dir)
	agent.Stderr = os.Stderr
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	await(t, func() bool {
		found, _ := filepath.Glob(filepath.Join(r.path, "releases", "*", "begun"))
		return len(found) > 0
	})
	if err := agent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = agent.Wait()
	m := mark(r.step(reconcile.Fetch, "1.0", commit))
	if kin, err := proc.Find(proc.Trait{Mark: m}); err != nil || len(kin) == 0 {
		t.Fatalf("nothing of the build was left behind, so this proves nothing (%v)", err)
	}
	t.Cleanup(func() { // where the guard is gone
		kin, _ := proc.Find(proc.Trait{Mark: m})
		for _, k := range kin {
			_ = k.Signal(syscall.SIGKILL)
		}
	})
	r.more["build"] = []string{"/bin/sh", "-c", "ls > built"}
	r.deploy("1.0", commit)
	r.current("built", "app\nbuilt\n")
	if kin, err := proc.Find(proc.Trait{Mark: m}); err != nil || len(kin) > 0 {
		t.Errorf("still there: %v, %v", kin, err)
	}
	if left, _ := filepath.Glob(filepath.Join(r.path, "releases", "*.tmp-*")); len(left) > 0 {
		t.Errorf("it left %v", left)
	}
}

func await(t *testing.T, there func() bool) {
	t.Helper()
	late := time.After(30 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !there() {
		select {
		case <-late:
			t.Fatal("it never came")
		case <-tick.C:
		}
	}
}

func TestRemoveAndPrune(t *testing.T) {
	r := newRig(t)
	r.more["keep"] = 1
	var commits []string
	for i := range 3 {
		r.write("app", fmt.Sprint(i), 0o644)
		commits = append(commits, r.commit())
		r.now = r.now.Add(time.Minute)
		r.deploy(fmt.Sprintf("%d.0", i), commits[i])
	}
	last := r.step(reconcile.Install, "2.0", commits[2])
	if err := r.driver().Prune(t.Context(), last, []string{"1.0-" + commits[1][:12]}); err != nil {
		t.Fatal(err)
	}
	left, _ := os.ReadDir(filepath.Join(r.path, "releases"))
	if len(left) != 2 {
		t.Errorf("%v are left", left)
	}
	mirrors := func() int {
		all, _ := filepath.Glob(filepath.Join(r.env.StateDir, "mirrors", "*.git"))
		return len(all)
	}
	if mirrors() != 1 {
		t.Errorf("a mirror in use was pruned")
	}
	r.now = r.now.Add(mirrorsFor + 24*time.Hour)
	if err := r.driver().Prune(t.Context(), last, nil); err != nil || mirrors() != 0 {
		t.Errorf("a mirror that nobody uses was kept (%v)", err)
	}
	last.Action = reconcile.Remove
	if err := r.driver().Do(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(filepath.Join(r.path, "current")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("current is still there (%v)", err)
	}
}
