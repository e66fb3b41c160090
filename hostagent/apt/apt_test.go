package apt

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"drydock/hostagent/argv"
	"drydock/hostagent/drivertest"
	"drydock/reconcile"
	"drydock/spec"
	"drydock/testdata/rig"
)

// All tests run on a Debian of their own, with systemd as PID 1.
var host = rig.Shared(rig.HostOptions{Name: "apt", Private: true})

func TestMain(m *testing.M) {
	if code, ours := argv.Shim(os.Args); ours {
		os.Exit(code)
	}
	if len(os.Args) > 2 {
		switch os.Args[1] {
		case "hold-lock":
			os.Exit(holdLock(os.Args[2]))
		case "be-an-agent":
			os.Exit(beAnAgent(os.Args[2]))
		}
	}
	os.Exit(m.Run())
}

// holdLock has a lock as dpkg takes it, until its input ends.
func holdLock(path string) int {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o640)
	if err == nil {
		err = unix.FcntlFlock(f.Fd(), unix.F_SETLKW, &unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart})
	}
	fmt.Println(err)
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// beAnAgent does a step, in a process that can be killed.
func beAnAgent(text string) int {
	var a struct {
		State   string
		Booted  bool
		Package string
		Version string
	}
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		fmt.Println(err)
		return 2
	}
	d := New(reconcile.Env{StateDir: a.State})
	d.booted = a.Booted
	b := spec.Block{Type: "install", Driver: "apt", Config: fmt.Appendf(nil, `{"package":%q,"timeout":"5m0s"}`, a.Package)}
	fmt.Println(d.Do(context.Background(), reconcile.Step{Service: "web", Phase: reconcile.Install, Block: b,
		Target: spec.Service{Name: "web", Install: &b, Release: spec.Release{Version: a.Version}}}))
	return 0
}

// packages counts, so that each test has packages that no other one installed.
var packages atomic.Int32

// yard is a source of packages over HTTP, and a host that follows it alone.
type yard struct {
	t      *testing.T
	dir    string // of the source
	pkg    string // the service's package
	env    reconcile.Env
	server *httptest.Server
	debs   map[string]string // file -> its stanza in the index
	said   bytes.Buffer
	booted bool

	published time.Time // the index, last
}

func newYard(t *testing.T) *yard {
	t.Helper()
	dir := t.TempDir()
	y := &yard{t: t, dir: filepath.Join(dir, "source"), pkg: fmt.Sprintf("web%d-%d", os.Getpid(), packages.Add(1)), debs: map[string]string{}, booted: true, published: time.Now().Add(-24 * time.Hour),
		env: reconcile.Env{StateDir: filepath.Join(dir, "state")}}
	y.env.Output = func(reconcile.Step) io.Writer { return &y.said }
	if err := os.Mkdir(y.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	y.server = httptest.NewServer(http.FileServer(http.Dir(y.dir)))
	t.Cleanup(y.server.Close)
	_ = os.Remove("/etc/apt/sources.list")
	y.write("/etc/apt/sources.list.d/yard.list", fmt.Sprintf("deb [trusted=yes] %s/ ./\n", y.server.URL))
	y.write("/etc/apt/apt.conf.d/99yard", "Acquire::Retries \"0\";\n")
	y.write("/etc/dpkg/dpkg.cfg.d/yard", "force-unsafe-io\n") // the host is gone before its power could be cut
	y.index()
	t.Cleanup(func() {
		_ = exec.Command("systemctl", "stop", "drydock-apt-web.service").Run()
		_ = exec.Command("dpkg", "--purge", "--force-all", "--no-triggers", y.pkg).Run()
		_ = exec.Command("dpkg", "--configure", "-a").Run()
	})
	return y
}

func (y *yard) write(path, content string) {
	y.t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		y.t.Fatal(err)
	}
}

// deb publishes a version. Its one file is /opt/<name>/version.
func (y *yard) deb(name, version, more, postinst string) string {
	y.t.Helper()
	root := filepath.Join(y.t.TempDir(), "root")
	for _, d := range []string{"DEBIAN", "opt/" + name} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			y.t.Fatal(err)
		}
	}
	control := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: Acme <ops@acme.example>\nDescription: a test\n%s", name, version, more)
	y.write(filepath.Join(root, "DEBIAN/control"), control)
	y.write(filepath.Join(root, "opt", name, "version"), version)
	if postinst != "" {
		y.write(filepath.Join(root, "DEBIAN/postinst"), "#!/bin/sh\n"+postinst+"\n")
		if err := os.Chmod(filepath.Join(root, "DEBIAN/postinst"), 0o755); err != nil {
			y.t.Fatal(err)
		}
	}
	file := fmt.Sprintf("%s_%s_all.deb", name, strings.ReplaceAll(version, ":", "."))
	if out, err := exec.Command("dpkg-deb", "-Znone", "--root-owner-group", "--build", root, filepath.Join(y.dir, file)).CombinedOutput(); err != nil {
		y.t.Fatalf("dpkg-deb: %v\n%s", err, out)
	}
	data, err := os.ReadFile(filepath.Join(y.dir, file))
	if err != nil {
		y.t.Fatal(err)
	}
	y.debs[file] = fmt.Sprintf("%sFilename: ./%s\nSize: %d\nSHA256: %x\n\n", control, file, len(data), sha256.Sum256(data))
	y.index()
	return file
}

// gone takes a version out of the source again.
func (y *yard) gone(file string) {
	y.t.Helper()
	delete(y.debs, file)
	if err := os.Remove(filepath.Join(y.dir, file)); err != nil {
		y.t.Fatal(err)
	}
	y.index()
}

func (y *yard) index() {
	var all strings.Builder
	for _, stanza := range y.debs {
		all.WriteString(stanza)
	}
	path := filepath.Join(y.dir, "Packages")
	y.write(path, all.String())
	// HTTP tells times apart by the second.
	y.published = y.published.Add(time.Minute)
	if err := os.Chtimes(path, y.published, y.published); err != nil {
		y.t.Fatal(err)
	}
}

// driver is one of a new agent.
func (y *yard) driver() *Driver {
	d := New(y.env)
	if !d.booted {
		y.t.Fatal("systemd is not PID 1 here")
	}
	d.booted = y.booted
	return d
}

func (y *yard) step(phase reconcile.Phase, version string) reconcile.Step {
	return y.stepWithin(phase, version, "1m0s")
}

func (y *yard) stepWithin(phase reconcile.Phase, version, timeout string) reconcile.Step {
	s := drivertest.Step(phase, drivertest.Block(y.t, "install", "apt", map[string]any{"package": y.pkg, "timeout": timeout}))
	s.Target.Release = spec.Release{Version: version, Attempt: 1}
	return s
}

func (y *yard) do(s reconcile.Step) {
	y.t.Helper()
	if err := y.driver().Do(y.t.Context(), s); err != nil {
		y.t.Fatalf("%v %s: %v\n%s", s.Phase, s.Target.Release.Version, err, y.said.String())
	}
	if done, err := y.driver().Done(y.t.Context(), s); !done || err != nil {
		y.t.Fatalf("%v %s: done is %v, %v", s.Phase, s.Target.Release.Version, done, err)
	}
}

func (y *yard) deploy(version string) {
	y.t.Helper()
	y.do(y.step(reconcile.Fetch, version))
	if err := y.driver().Prepare(y.t.Context(), y.step(reconcile.Install, version)); err != nil {
		y.t.Fatal(err)
	}
	y.do(y.step(reconcile.Install, version))
	y.installed(version)
}

func (y *yard) installed(want string) {
	y.t.Helper()
	got, err := os.ReadFile("/opt/" + y.pkg + "/version")
	if err != nil || string(got) != want {
		y.t.Errorf("version %q is installed (%v), not %s", got, err, want)
	}
}

func (y *yard) observe(version string, want reconcile.Is) reconcile.Condition {
	y.t.Helper()
	c, err := y.driver().Observe(y.t.Context(), y.step(reconcile.Install, version))
	if err != nil || c.Is != want {
		y.t.Errorf("observed %+v, %v; expected %v", c, err, want)
	}
	return c
}

// refused wants an error of a step, and its words.
func (y *yard) refused(err error, blame reconcile.Blame, words ...string) {
	y.t.Helper()
	if err == nil {
		y.t.Fatal("it was not refused")
	}
	y.t.Log(err)
	if got := reconcile.BlameOf(err); got != blame {
		y.t.Errorf("it blames the %v, not the %v", got, blame)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			y.t.Errorf("the error does not say %q", w)
		}
	}
}

func (y *yard) must(args ...string) string {
	y.t.Helper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		y.t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return string(out)
}

func TestSuite(t *testing.T) {
	if !rig.Inside(t, host) {
		return
	}
	make := func(t *testing.T, phase reconcile.Phase, postinst string) drivertest.Case {
		y := newYard(t)
		y.deb(y.pkg, "1.0", "", postinst)
		c := drivertest.Case{New: func(env reconcile.Env) reconcile.Driver { return New(env) }, Env: y.env, Step: y.step(phase, "1.0"),
			Watched: []string{"/var/lib/dpkg/status", "/opt"}, Before: reconcile.Absent, After: reconcile.Absent}
		if phase == reconcile.Install {
			y.do(y.step(reconcile.Fetch, "1.0"))
			c.After = reconcile.Present
			back := c.Step
			back.Action = reconcile.Remove
			if postinst == "" {
				// What is kept goes with the package: to install it again is to fetch it again.
				c.New = func(env reconcile.Env) reconcile.Driver { return New(env) }
				c.Back = &back
			}
		}
		return c
	}
	for _, phase := range []reconcile.Phase{reconcile.Fetch, reconcile.Install} {
		suite := drivertest.Suite{Config: Config{}, Reference: "service.install.apt",
			Make: func(t *testing.T) drivertest.Case { return make(t, phase, "") }}
		if phase == reconcile.Install {
			suite.Hanging = func(t *testing.T) drivertest.Case { return make(t, phase, "sleep 300") }
			suite.Faults = map[string]drivertest.Fault{
				"postinst fails": {Blame: reconcile.OfRelease, Make: func(t *testing.T) drivertest.Case { return make(t, phase, "echo no such table; exit 1") }},
			}
		}
		t.Run(phase.String(), func(t *testing.T) { drivertest.Run(t, suite) })
	}
}

// Up, down again, and back to a version that the source no longer has: it was
// kept when it was fetched.
func TestThereAndBack(t *testing.T) {
	if !rig.Inside(t, host) {
		return
	}
	y := newYard(t)
	old := y.deb(y.pkg, "1.0", "", "")
	y.observe("1.0", reconcile.Absent)
	y.deploy("1.0")
	y.observe("1.0", reconcile.Present)
	y.gone(old)
	y.must("apt-get", "update")
	y.must("apt-get", "clean")
	y.deb(y.pkg, "2.0~rc1-3+b1", "", "")
	y.deploy("2.0~rc1-3+b1")
	if c := y.observe("1.0", reconcile.Altered); c.Foreign != "2.0~rc1-3+b1" {
		t.Errorf("observed %+v", c)
	}
	y.server.Close()
	y.deploy("1.0")
	if err := y.driver().Prune(t.Context(), y.step(reconcile.Install, "1.0"), []string{"1.0", "2.0~rc1-3+b1"}); err != nil {
		t.Fatal(err)
	}
	y.deploy("2.0~rc1-3+b1")
	if err := y.driver().Prune(t.Context(), y.step(reconcile.Install, "2.0~rc1-3+b1"), nil); err != nil {
		t.Fatal(err)
	}
	y.refused(y.driver().Do(t.Context(), y.step(reconcile.Install, "1.0")), reconcile.OfHost, "neither kept on this host nor in the index")
	y.installed("2.0~rc1-3+b1")
}

// What somebody else installed is kept before it is replaced, found with its
// epoch, and is what a revert goes back to. A release's version has no epoch.
func TestTakenOver(t *testing.T) {
	if !rig.Inside(t, host) {
		return
	}
	y := newYard(t)
	old := y.deb(y.pkg, "1:1.0", "", "")
	y.must("apt-get", "update")
	y.must("apt-get", "install", "-y", y.pkg)
	y.observe("1.0", reconcile.Present)
	c := y.observe("2.0", reconcile.Altered)
	if c.Foreign != "1:1.0" {
		t.Fatalf("observed %+v", c)
	}
	y.deb(y.pkg, "1:2.0", "", "")
	y.do(y.step(reconcile.Fetch, "2.0"))
	y.do(y.step(reconcile.Install, "2.0"))
	y.installed("1:2.0")
	y.gone(old)
	y.must("apt-get", "clean")
	y.must("apt-get", "update")
	back := y.step(reconcile.Install, "")
	back.Adopt = c.Foreign
	y.do(back)
	y.installed("1:1.0")
}

// Where there is no way back, the log says so before anything is replaced.
func TestNoWayBackIsSaid(t *testing.T) {
	if !rig.Inside(t, host) {
		return
	}
	y := newYard(t)
	old := y.deb(y.pkg, "1.0", "", "")
	y.must("dpkg", "-i", filepath.Join(y.dir, old))
	y.gone(old)
	y.deb(y.pkg, "2.0", "", "")
	y.do(y.step(reconcile.Fetch, "2.0"))
	if !strings.Contains(y.said.String(), "a revert could not bring it back") {
		t.Errorf("it said %q", y.said.String())
	}
}

func TestNotInTheIndex(t *testing.T) {
	if !rig.Inside(t, host) {
		return
	}
	y := newYard(t)
	fetch := func(version string) error { return y.driver().Do(t.Context(), y.step(reconcile.Fetch, version)) }
	y.refused(fetch("1.0"), reconcile.OfHost, "the index has no package "+y.pkg, "Publish it")
	y.deb(y.pkg, "1.0", "", "")
	y.deb(y.pkg, "1.1", "", "")
	y.refused(fetch("2.0"), reconcile.OfHost, "no version 2.0 of "+y.pkg+"; it has 1.1, 1.0", "Publish it")
	y.deb(y.pkg, "2.0", "", "")
	if err := fetch("2.0"); err != nil { // brought up to date by itself
		t.Error(err)
	}
	y.deb(y.pkg, "3.0", "Depends: nowhere\n", "")
	y.refused(fetch("3.0"), reconcile.OfHost, "Depends: nowhere")
	y.server.Close()
	y.refused(fetch("4.0"), reconcile.OfHost, "no version 4.0", "cannot be brought up to date", "Failed to fetch", "See to the sources")
	y.refused(fetch("1.0"), reconcile.OfHost, "Failed to fetch")
}

// Of a file in its cache apt-get compares no more than the size.
func TestAnotherPackageInTheCache(t *testing.T) {
	if !rig.Inside(t, host) {
		return
	}
	y := newYard(t)
	file := y.deb(y.pkg, "1.0", "", "")
	data, err := os.ReadFile(filepath.Join(y.dir, file))
	if err != nil {
		t.Fatal(err)
	}
	y.write("/var/cache/apt/archives/"+file, strings.Replace(string(data), "a test", "b test", 1))
	y.do(y.step(reconcile.Fetch, "1.0"))
	path, _, err := (work{Driver: y.driver(), Config: Config{Package: y.pkg}, step: y.step(reconcile.Fetch, "1.0")}).kept("1.0")
	got, err2 := os.ReadFile(path)
	if err != nil || err2 != nil || string(got) != string(data) {
		t.Errorf("what is kept is not what the index has (%v, %v)", err, err2)
	}
}

// A package that is not what the index promised is never installed.
func TestAnotherPackageThanTheIndexSays(t *testing.T) {
	if !rig.Inside(t, host) {
		return
	}
	y := newYard(t)
	file := y.deb(y.pkg, "1.0", "", "")
	data, err := os.ReadFile(filepath.Join(y.dir, file))
	if err != nil {
		t.Fatal(err)
	}
	y.write(filepath.Join(y.dir, file), strings.Replace(string(data), "a test", "b test", 1))
	y.refused(y.driver().Do(t.Context(), y.step(reconcile.Fetch, "1.0")), reconcile.OfHost)
	if done, _ := y.driver().Done(t.Context(), y.step(reconcile.Fetch, "1.0")); done {
		t.Error("it counts as fetched")
	}
}

func (y *yard) hold(path string) (pid int, let func()) {
	y.t.Helper()
	cmd := exec.Command(os.Args[0], "hold-lock", path)
	in, err := cmd.StdinPipe()
	if err != nil {
		y.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		y.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		y.t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 100)); err != nil {
		y.t.Fatal(err)
	}
	var once atomic.Bool
	let = func() {
		if once.CompareAndSwap(false, true) {
			_ = in.Close()
			_ = cmd.Wait()
		}
	}
	y.t.Cleanup(let)
	return cmd.Process.Pid, let
}

// A held lock is found before the drain, waited for, and said.
func TestLocked(t *testing.T) {
	if !rig.Inside(t, host) {
		return
	}
	for _, booted := range []bool{true, false} {
		y := newYard(t)
		y.booted = booted
		y.deb(y.pkg, "1.0", "", "")
		y.do(y.step(reconcile.Fetch, "1.0"))
		pid, let := y.hold("/var/lib/dpkg/lock-frontend")
		who := fmt.Sprintf("pid %d (%s hold-lock", pid, os.Args[0])
		y.deb(y.pkg, "2.0", "", "")
		y.said.Reset()
		y.refused(y.driver().Do(t.Context(), y.stepWithin(reconcile.Fetch, "2.0", "5s")), reconcile.OfHost, who, "lock-frontend")
		if n := strings.Count(y.said.String(), "Could not get lock"); n != 1 {
			t.Errorf("before the drain the lock was asked for %d times, not once", n)
		}
		y.refused(y.driver().Prepare(t.Context(), y.step(reconcile.Install, "1.0")), reconcile.OfHost, who, "lock-frontend")
		y.refused(y.driver().Do(t.Context(), y.stepWithin(reconcile.Install, "1.0", "2s")), reconcile.OfHost, who, "tried again")
		y.observe("1.0", reconcile.Absent)
		done := make(chan error, 1)
		go func() { done <- y.driver().Do(t.Context(), y.step(reconcile.Install, "1.0")) }()
		select {
		case err := <-done:
			t.Fatalf("it did not wait: %v", err)
		case <-time.After(500 * time.Millisecond): // it has met the lock, or will
		}
		let()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		y.installed("1.0")
	}
}

func TestHeld(t *testing.T) {
	if !rig.Inside(t, host) {
		return
	}
	y := newYard(t)
	y.deb(y.pkg, "1.0", "", "")
	y.deploy("1.0")
	y.deb(y.pkg, "2.0", "", "")
	y.do(y.step(reconcile.Fetch, "2.0"))
	y.must("apt-mark", "hold", y.pkg)
	words := []string{"a person holds " + y.pkg + " at 1.0", "apt-mark unhold"}
	y.refused(y.driver().Prepare(t.Context(), y.step(reconcile.Install, "2.0")), reconcile.OfHost, words...)
	y.refused(y.driver().Do(t.Context(), y.step(reconcile.Install, "2.0")), reconcile.OfHost, words...)
	y.refused(y.driver().Do(t.Context(), y.step(reconcile.Fetch, "3.0")), reconcile.OfHost, words...)
	y.installed("1.0")
	y.observe("1.0", reconcile.Present)
	y.must("apt-mark", "unhold", y.pkg)
	y.do(y.step(reconcile.Install, "2.0"))
}

// Nothing else is removed, and what else changes is said before.
func TestOtherPackages(t *testing.T) {
	if !rig.Inside(t, host) {
		return
	}
	y := newYard(t)
	lib, other := y.pkg+"-lib", y.pkg+"-other"
	t.Cleanup(func() { _ = exec.Command("dpkg", "--purge", "--force-all", lib, other).Run() })
	y.deb(lib, "1.0", "", "")
	y.deb(other, "1.0", "Depends: "+lib+"\n", "")
	y.deb(y.pkg, "1.0", "Depends: "+lib+"\n", "")
	y.do(y.step(reconcile.Fetch, "1.0"))
	if text, err := y.driver().Preview(t.Context(), y.step(reconcile.Install, "1.0")); text != "also installs "+lib+" 1.0" {
		t.Errorf("preview %q, %v", text, err)
	}
	y.deploy("1.0")
	y.must("apt-get", "install", "-y", other)
	y.deb(lib, "2.0", "", "")
	y.deb(y.pkg, "2.0", "Depends: "+lib+" (>= 2.0)\n", "")
	y.do(y.step(reconcile.Fetch, "2.0"))
	if text, err := y.driver().Preview(t.Context(), y.step(reconcile.Install, "2.0")); text != "also changes "+lib+" 1.0 -> 2.0" {
		t.Errorf("preview %q, %v", text, err)
	}
	y.deploy("2.0")
	y.deb(y.pkg, "3.0", "Conflicts: "+other+"\nDepends: "+lib+"\n", "")
	words := []string{"would remove " + other, "nothing that was not asked for is removed"}
	y.refused(y.driver().Do(t.Context(), y.step(reconcile.Fetch, "3.0")), reconcile.OfHost, words...)
	// One that came between fetch and install.
	y.must("apt-get", "remove", "-y", other)
	y.do(y.step(reconcile.Fetch, "3.0"))
	y.gone(fmt.Sprintf("%s_3.0_all.deb", y.pkg))
	y.must("apt-get", "update")
	y.must("apt-get", "install", "-y", other)
	y.refused(y.driver().Prepare(t.Context(), y.step(reconcile.Install, "3.0")), reconcile.OfHost, words...)
	y.refused(y.driver().Do(t.Context(), y.step(reconcile.Install, "3.0")), reconcile.OfHost, words...)
	y.installed("2.0")
	y.deb(other, "2.0", "Depends: "+y.pkg+"\n", "")
	y.must("apt-get", "update")
	y.must("apt-get", "install", "-y", other)
	remove := y.step(reconcile.Install, "2.0")
	remove.Action = reconcile.Remove
	y.refused(y.driver().Do(t.Context(), remove), reconcile.OfHost, words...)
	y.must("apt-get", "remove", "-y", other)
	y.do(remove)
	y.observe("2.0", reconcile.Absent)
}

// A package whose postinst fails is the release's fault, and no obstacle to the
// way back.
func TestAPostinstThatFails(t *testing.T) {
	if !rig.Inside(t, host) {
		return
	}
	y := newYard(t)
	y.deb(y.pkg, "1.0", "", "")
	y.deploy("1.0")
	y.deb(y.pkg, "2.0", "", "echo no such table; exit 3")
	y.do(y.step(reconcile.Fetch, "2.0"))
	y.refused(y.driver().Do(t.Context(), y.step(reconcile.Install, "2.0")), reconcile.OfRelease, "no such table", "exit status 3", "apt-get install exited with status 100")
	c := y.observe("2.0", reconcile.Altered)
	if !strings.Contains(c.Detail, "half-configured") {
		t.Errorf("observed %+v", c)
	}
	y.deploy("1.0")
	y.observe("1.0", reconcile.Present)
}

// waitFile is a postinst that says that it began, and ends when it is let.
func waitFile(t *testing.T) (postinst, began, let string) {
	dir := t.TempDir()
	began, let = filepath.Join(dir, "began"), filepath.Join(dir, "let")
	return fmt.Sprintf("[ \"$1\" = configure ] || exit 0\necho $$ >>%s; while [ ! -e %s ]; do sleep 0.05; done", began, let), began, let
}

func await(t *testing.T, what string, there func() bool) {
	t.Helper()
	late := time.After(30 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !there() {
		select {
		case <-late:
			t.Fatalf("%s: it never came", what)
		case <-tick.C:
		}
	}
}

func exists(path string) func() bool {
	return func() bool { _, err := os.Stat(path); return err == nil }
}

// killed is an agent that is killed once a file is there.
func killed(y *yard, began string) {
	text, err := json.Marshal(map[string]any{"State": y.env.StateDir, "Booted": y.booted, "Package": y.pkg, "Version": "1.0"})
	if err != nil {
		y.t.Fatal(err)
	}
	agent := exec.Command(os.Args[0], "be-an-agent", string(text))
	if err := agent.Start(); err != nil {
		y.t.Fatal(err)
	}
	await(y.t, "postinst", exists(began))
	if err := agent.Process.Kill(); err != nil {
		y.t.Fatal(err)
	}
	_ = agent.Wait()
}

// stopped is one that is told to end then.
func stopped(y *yard, began string) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- y.driver().Do(ctx, y.step(reconcile.Install, "1.0")) }()
	await(y.t, "postinst", exists(began))
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		y.t.Errorf("it returned %v", err)
	}
}

// The agent is killed, or ends, while dpkg is at work: that goes on to its end,
// and the next agent waits for it and starts no second one.
func TestAnAgentThatEnds(t *testing.T) {
	if !rig.Inside(t, host) {
		return
	}
	for i, end := range []func(*yard, string){killed, killed, stopped, stopped} {
		booted := i%2 == 0
		t.Run(fmt.Sprintf("%d systemd %v", i, booted), func(t *testing.T) {
			y := newYard(t)
			y.booted = booted
			postinst, began, let := waitFile(t)
			y.deb(y.pkg, "1.0", "", postinst)
			y.do(y.step(reconcile.Fetch, "1.0"))
			end(y, began)
			if done, err := y.driver().Done(t.Context(), y.step(reconcile.Install, "1.0")); done || err != nil {
				t.Errorf("done is %v, %v", done, err)
			}
			done := make(chan error, 1)
			go func() { done <- y.driver().Do(t.Context(), y.step(reconcile.Install, "1.0")) }()
			select {
			case err := <-done:
				t.Fatalf("it did not wait: %v", err)
			case <-time.After(time.Second): // long enough for a second dpkg to begin
			}
			y.write(let, "")
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			y.observe("1.0", reconcile.Present)
			pids, err := os.ReadFile(began)
			if err != nil || strings.Count(string(pids), "\n") != 1 {
				t.Errorf("the postinst ran as %q (%v), not once", pids, err)
			}
		})
	}
}

// A postinst that does not end is stopped at the timeout; what it left is
// finished by the next try.
func TestAPostinstThatNeverEnds(t *testing.T) {
	if !rig.Inside(t, host) {
		return
	}
	for _, booted := range []bool{true, false} {
		t.Run(fmt.Sprintf("systemd %v", booted), func(t *testing.T) {
			y := newYard(t)
			y.booted = booted
			postinst, began, let := waitFile(t)
			y.deb(y.pkg, "1.0", "", postinst)
			y.do(y.step(reconcile.Fetch, "1.0"))
			y.refused(y.driver().Do(t.Context(), y.stepWithin(reconcile.Install, "1.0", "4s")), reconcile.Transient, "apt-get install had not ended after its timeout of 4s", "Raise `timeout`")
			pid, err := os.ReadFile(began)
			if err != nil {
				t.Fatal(err)
			}
			if exists("/proc/" + strings.TrimSpace(string(pid)))() {
				t.Error("its postinst still runs")
			}
			y.observe("1.0", reconcile.Altered)
			y.write(let, "")
			y.do(y.step(reconcile.Install, "1.0"))
			y.observe("1.0", reconcile.Present)
		})
	}
}

// dpkg that was cut off in the middle of its own bookkeeping refuses everything
// until it is told to go on.
func TestDpkgWasInterrupted(t *testing.T) {
	if !rig.Inside(t, host) {
		return
	}
	y := newYard(t)
	y.deb(y.pkg, "1.0", "", "")
	y.do(y.step(reconcile.Fetch, "1.0"))
	status, err := os.ReadFile("/var/lib/dpkg/status")
	if err != nil {
		t.Fatal(err)
	}
	stanza, _, _ := strings.Cut(string(status), "\n\n")
	y.write("/var/lib/dpkg/updates/0000", stanza+"\n")
	y.do(y.step(reconcile.Install, "1.0"))
	y.installed("1.0")
}

func TestWhoseFault(t *testing.T) {
	w := work{Config: Config{Package: "web"}, Driver: &Driver{env: reconcile.Env{StateDir: "/state"}, seen: &seen{}}, step: reconcile.Step{Service: "web"}}
	for out, want := range map[string]reconcile.Blame{
		"dpkg: error processing package web (--configure):\n installed web package post-installation script subprocess returned error exit status 1": reconcile.OfRelease,
		"dpkg: error processing archive /state/web/debs/web_1.0.deb (--unpack):\n trying to overwrite '/etc/x', which is also in package y":          reconcile.OfRelease,
		"dpkg: error processing archive /state/web/debs/web_1.0.deb (--unpack):\n cannot copy: failed to write (No space left on device)":            reconcile.OfHost,
		"dpkg: error processing package webby (--configure):\n":                                                                                      reconcile.OfHost,
		"E: Unable to fetch some archives": reconcile.OfHost,
	} {
		err := w.blame(&argv.ExitError{Name: "apt-get install", Code: 100, Tail: out})
		if got := reconcile.BlameOf(err); got != want {
			t.Errorf("%q blames the %v, not the %v", out, got, want)
		}
	}
	if got := w.blame(context.Canceled); !errors.Is(got, context.Canceled) {
		t.Error(got)
	}
}

func TestVersions(t *testing.T) {
	for _, c := range []struct {
		full, want string
		is         bool
	}{{"1.0", "1.0", true}, {"1:1.0", "1.0", true}, {"1:1.0", "1:1.0", true}, {"2:1.0", "1:1.0", false}, {"1.0-1", "1.0", false}, {"1.0", "1:1.0", false}, {"", "1.0", false}} {
		if matches(c.full, c.want) != c.is {
			t.Errorf("matches(%q, %q) is not %v", c.full, c.want, c.is)
		}
	}
}
