package archive

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"drydock/hostagent/confine"
	"drydock/hostagent/download"
	"drydock/hostagent/drivertest"
	"drydock/hostagent/release"
	"drydock/reconcile"
	"drydock/spec"
)

func TestMain(m *testing.M) {
	if code, ours := confine.Shim(); ours {
		os.Exit(code)
	}
	if code, ours := Unpacker(os.Args); ours {
		// The race detector would sleep for a second first: GORACE is in an
		// environment that an unpacker may not read.
		syscall.Exit(code)
	}
	if code, ours := takenOver(os.Args); ours {
		syscall.Exit(code)
	}
	os.Exit(m.Run())
}

// item is one entry of a test's archive.
type item struct {
	name, body, link string
	kind             byte
	mode             int64
}

func tarOf(t testing.TB, items ...item) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, i := range items {
		h := &tar.Header{Name: i.name, Linkname: i.link, Typeflag: i.kind, Mode: i.mode, Size: int64(len(i.body)), ModTime: time.Unix(1700000000, 0)}
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(i.body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gzipOf(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// rig is one host with one service and a real HTTPS server of artifacts.
type rig struct {
	t         *testing.T
	path      string
	env       reconcile.Env
	options   Options
	server    *httptest.Server
	artifacts map[string][]byte // by version
	now       time.Time
	driver    *release.Installer
}

func newRig(t *testing.T) *rig {
	t.Helper()
	dir := t.TempDir()
	r := &rig{t: t, path: filepath.Join(dir, "srv"), artifacts: map[string][]byte{}, now: time.Now(),
		env: reconcile.Env{StateDir: filepath.Join(dir, "state")}}
	r.server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		data, ok := r.artifacts[strings.TrimPrefix(q.URL.Path, "/")]
		if !ok {
			http.NotFound(w, q)
			return
		}
		http.ServeContent(w, q, "", time.Unix(1700000000, 0), bytes.NewReader(data))
	}))
	t.Cleanup(r.server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(r.server.Certificate())
	r.options = Options{Env: r.env, Download: download.Options{Roots: roots},
		Release: release.Options{Now: func() time.Time { return r.now }}}
	r.again()
	return r
}

// again is an agent that was started anew.
func (r *rig) again() { r.driver = With(r.options) }

func (r *rig) publish(version string, items ...item) {
	r.artifacts[version] = gzipOf(r.t, tarOf(r.t, items...))
}

type attrs map[string]any

func (r *rig) step(phase reconcile.Phase, version string, more attrs) reconcile.Step {
	r.t.Helper()
	sum := sha256.Sum256(r.artifacts[version])
	a := attrs{"path": r.path, "keep": 5, "user": "", "strip": 0, "timeout": "30s"}
	for k, v := range more {
		a[k] = v
	}
	config, err := json.Marshal(a)
	if err != nil {
		r.t.Fatal(err)
	}
	block := spec.Block{Type: "install", Driver: "archive", Config: config}
	return reconcile.Step{ID: "web/" + phase.String() + "/archive", Service: "web", Phase: phase, Block: block,
		Target: spec.Service{Name: "web", Install: &block,
			Release:  spec.Release{Version: version, Digest: "sha256:" + hex.EncodeToString(sum[:]), Attempt: 1},
			Artifact: &spec.Artifact{Source: r.server.URL + "/" + version}}}
}

func (r *rig) do(s reconcile.Step) {
	r.t.Helper()
	if err := r.driver.Do(r.t.Context(), s); err != nil {
		r.t.Fatalf("%v: %v", s.Phase, err)
	}
	if done, err := r.driver.Done(r.t.Context(), s); !done || err != nil {
		r.t.Fatalf("%v: done is %v, %v", s.Phase, done, err)
	}
}

func (r *rig) deploy(version string, more attrs) {
	r.t.Helper()
	r.do(r.step(reconcile.Fetch, version, more))
	r.do(r.step(reconcile.Install, version, more))
}

func (r *rig) see(version string, more attrs) reconcile.Condition {
	r.t.Helper()
	c, err := r.driver.Observe(r.t.Context(), r.step(reconcile.Install, version, more))
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

func (r *rig) want(version string, is reconcile.Is, detail string) {
	r.t.Helper()
	if c := r.see(version, nil); c.Is != is || !strings.Contains(c.Detail, detail) {
		r.t.Errorf("observed %v %q; expected %v %q", c.Is, c.Detail, is, detail)
	}
}

func (r *rig) read(name string) string {
	r.t.Helper()
	data, err := os.ReadFile(filepath.Join(r.path, name))
	if err != nil {
		return err.Error()
	}
	return string(data)
}

func (r *rig) names(dir string) (names []string) {
	r.t.Helper()
	all, _ := os.ReadDir(filepath.Join(r.path, dir))
	for _, d := range all {
		names = append(names, d.Name())
	}
	return names
}

func write(t *testing.T, path, body string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(body), 0o644); err != nil {
		t.Fatal(err)
	}
}

func web(version string) []item {
	return []item{
		{name: "bin/", kind: tar.TypeDir, mode: 0o755},
		{name: "bin/web", body: "program " + version, mode: 0o755},
		{name: "VERSION", body: version},
		{name: "bin/latest", link: "web", kind: tar.TypeSymlink},
	}
}

func TestSuite(t *testing.T) {
	suite := func(phase reconcile.Phase) drivertest.Suite {
		return drivertest.Suite{Config: Config{}, Reference: "service.install.archive", Make: func(t *testing.T) drivertest.Case {
			r := newRig(t)
			r.publish("1.0.0", web("1.0.0")...)
			c := drivertest.Case{Env: r.env, Watched: []string{r.path}, Step: r.step(phase, "1.0.0", nil),
				Before: reconcile.Absent, After: reconcile.Absent,
				New: func(env reconcile.Env) reconcile.Driver {
					o := r.options
					o.Env = env
					return With(o)
				}}
			if phase == reconcile.Install {
				r.do(r.step(reconcile.Fetch, "1.0.0", nil))
				c.After = reconcile.Present
			}
			return c
		}}
	}
	t.Run("fetch", func(t *testing.T) { drivertest.Run(t, suite(reconcile.Fetch)) })
	t.Run("install", func(t *testing.T) { drivertest.Run(t, suite(reconcile.Install)) })
}

func TestDeployAndRemove(t *testing.T) {
	r := newRig(t)
	r.publish("1.0.0", web("1.0.0")...)
	r.want("1.0.0", reconcile.Absent, "")
	r.deploy("1.0.0", nil)
	r.want("1.0.0", reconcile.Present, "")
	if got := r.read("current/bin/latest"); got != "program 1.0.0" {
		t.Errorf("got %q", got)
	}
	target, err := os.Readlink(filepath.Join(r.path, "current"))
	if err != nil || target != "releases/"+r.step(0, "1.0.0", nil).Target.Release.Dir() {
		t.Errorf("current points to %q, %v", target, err)
	}
	info, err := os.Stat(filepath.Join(r.path, "current/bin/web"))
	if err != nil || info.Mode() != 0o755 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	write(t, filepath.Join(r.path, "current/web.log"), "a file that the release did not bring")
	r.again()
	r.want("1.0.0", reconcile.Present, "")

	s := r.step(reconcile.Install, "1.0.0", nil)
	s.Action = reconcile.Remove
	r.do(s)
	r.want("1.0.0", reconcile.Absent, "")
	if names := r.names("."); len(names) != 0 {
		t.Errorf("left: %v", names)
	}
	if names, _ := os.ReadDir(filepath.Join(r.env.StateDir, "artifacts")); len(names) != 0 {
		t.Errorf("left: %v", names)
	}
}

// What drifted is named, and a repair stages a new tree and touches the live
// one only when it is installed.
func TestDriftAndRepair(t *testing.T) {
	for _, c := range []struct {
		name, detail string
		spoil        func(t *testing.T, current string)
	}{
		{"size", "bin/web: size differs", func(t *testing.T, dir string) { write(t, dir+"/bin/web", "x") }},
		{"content with old times", "bin/web: content differs", func(t *testing.T, dir string) {
			info, _ := os.Stat(dir + "/bin/web")
			write(t, dir+"/bin/web", "PROGRAM 1.0.0")
			os.Chtimes(dir+"/bin/web", info.ModTime(), info.ModTime())
		}},
		{"mode", "VERSION: mode is 0600 instead of 0644", func(t *testing.T, dir string) { os.Chmod(dir+"/VERSION", 0o600) }},
		{"gone", "VERSION is missing", func(t *testing.T, dir string) { os.Remove(dir + "/VERSION") }},
		{"link", "bin/latest: points to /etc/passwd instead of web", func(t *testing.T, dir string) {
			os.Remove(dir + "/bin/latest")
			os.Symlink("/etc/passwd", dir+"/bin/latest")
		}},
		{"kind", "VERSION: is a directory now", func(t *testing.T, dir string) {
			os.Remove(dir + "/VERSION")
			os.Mkdir(dir+"/VERSION", 0o755)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			r.publish("1.0.0", web("1.0.0")...)
			r.deploy("1.0.0", nil)
			r.want("1.0.0", reconcile.Present, "")
			live, err := filepath.EvalSymlinks(filepath.Join(r.path, "current"))
			if err != nil {
				t.Fatal(err)
			}
			c.spoil(t, live)
			r.want("1.0.0", reconcile.Altered, c.detail)
			fetch := r.step(reconcile.Fetch, "1.0.0", nil)
			if done, err := r.driver.Done(t.Context(), fetch); done || err != nil {
				t.Fatalf("done is %v, %v", done, err)
			}
			r.do(fetch)
			r.want("1.0.0", reconcile.Altered, c.detail) // fetch costs no availability
			install := r.step(reconcile.Install, "1.0.0", nil)
			if done, err := r.driver.Done(t.Context(), install); done || err != nil {
				t.Fatalf("done is %v, %v", done, err)
			}
			r.do(install)
			r.want("1.0.0", reconcile.Present, "")
			if names := r.names("releases"); len(names) != 1 {
				t.Errorf("left: %v", names)
			}
		})
	}
}

func TestForeignCurrent(t *testing.T) {
	r := newRig(t)
	r.publish("1.0.0", web("1.0.0")...)
	old := filepath.Join(r.path, "old")
	if err := os.MkdirAll(old, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(old, "VERSION"), "by hand")
	if err := os.Symlink(old, filepath.Join(r.path, "current")); err != nil {
		t.Fatal(err)
	}
	c := r.see("1.0.0", nil)
	if c.Is != reconcile.Altered || c.Foreign != old {
		t.Errorf("observed %+v", c)
	}
	r.deploy("1.0.0", nil)
	back := r.step(reconcile.Install, "1.0.0", nil)
	back.Adopt = old
	r.do(back)
	if got := r.read("current/VERSION"); got != "by hand" {
		t.Errorf("got %q", got)
	}
	if c, err := r.driver.Observe(t.Context(), back); err != nil || c.Is != reconcile.Present {
		t.Errorf("observed %+v, %v", c, err)
	}
}

func TestCurrentIsADirectory(t *testing.T) {
	r := newRig(t)
	r.publish("1.0.0", web("1.0.0")...)
	if err := os.MkdirAll(filepath.Join(r.path, "current"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, phase := range []reconcile.Phase{reconcile.Fetch, reconcile.Install} {
		err := r.driver.Do(t.Context(), r.step(phase, "1.0.0", nil))
		if reconcile.BlameOf(err) != reconcile.OfHost || !strings.Contains(err.Error(), "Move it away") {
			t.Errorf("%v: %v", phase, err)
		}
	}
	r.want("1.0.0", reconcile.Altered, "not a link")
}

// strip changes what the release of the same name looks like, and the live
// tree only changes when it is installed.
func TestLayoutChanges(t *testing.T) {
	r := newRig(t)
	r.publish("1.0.0", item{name: "web-1.0.0/bin/web", body: "x", mode: 0o755}, item{name: "web-1.0.0/VERSION", body: "1"})
	r.deploy("1.0.0", nil)
	r.do(r.step(reconcile.Fetch, "1.0.0", attrs{"strip": 1}))
	if got := r.read("current/web-1.0.0/VERSION"); got != "1" {
		t.Errorf("fetch touched the live tree: %s", got)
	}
	r.do(r.step(reconcile.Install, "1.0.0", attrs{"strip": 1}))
	if got := r.read("current/VERSION"); got != "1" {
		t.Errorf("not installed: %s", got)
	}
	if c := r.see("1.0.0", attrs{"strip": 1}); c.Is != reconcile.Present {
		t.Errorf("observed %+v", c)
	}
}

func TestPrune(t *testing.T) {
	r := newRig(t)
	versions := []string{"1", "2", "3", "4", "5", "6"}
	for _, v := range versions {
		r.publish(v, web(v)...)
		r.now = r.now.Add(time.Minute)
		r.deploy(v, nil)
	}
	dir := func(v string) string { return r.step(0, v, nil).Target.Release.Dir() }
	others := filepath.Join(r.path, "releases", "0-of-somebody")
	if err := os.Mkdir(others, 0o755); err != nil {
		t.Fatal(err)
	}
	r.do(r.step(reconcile.Install, "2", nil)) // current is an old one
	if err := r.driver.Prune(t.Context(), r.step(reconcile.Install, "6", attrs{"keep": 2}), []string{dir("1")}); err != nil {
		t.Fatal(err)
	}
	want := []string{"0-of-somebody", dir("1"), dir("2"), dir("5"), dir("6")}
	if diff := cmp.Diff(want, r.names("releases")); diff != "" {
		t.Errorf("releases (-want +got):\n%s", diff)
	}
}

// A lost manifest takes nobody out of service, and proves nothing to a fetch.
func TestLostState(t *testing.T) {
	r := newRig(t)
	r.publish("1.0.0", web("1.0.0")...)
	r.deploy("1.0.0", nil)
	if err := os.RemoveAll(r.env.StateDir); err != nil {
		t.Fatal(err)
	}
	r.again()
	r.want("1.0.0", reconcile.Present, "")
	r.want("1.0.0", reconcile.Present, "")
	if done, err := r.driver.Done(t.Context(), r.step(reconcile.Fetch, "1.0.0", nil)); done || err != nil {
		t.Errorf("done is %v, %v", done, err)
	}
	write(t, filepath.Join(r.path, "current/VERSION"), "x")
	r.want("1.0.0", reconcile.Altered, "VERSION: size differs")
	r.deploy("1.0.0", nil)
	r.want("1.0.0", reconcile.Present, "")
}

func TestMissingUser(t *testing.T) {
	r := newRig(t)
	r.publish("1.0.0", web("1.0.0")...)
	err := r.driver.Do(t.Context(), r.step(reconcile.Fetch, "1.0.0", attrs{"user": "drydock-no-such"}))
	if reconcile.BlameOf(err) != reconcile.OfHost || !strings.Contains(err.Error(), "useradd") {
		t.Error(err)
	}
}

func TestUserOwnsTheTree(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root gives files away: run the tests as root")
	}
	r := newRig(t)
	r.publish("1.0.0", append(web("1.0.0"), item{name: "bin/su", body: "x", mode: 0o6777})...)
	r.deploy("1.0.0", attrs{"user": "nobody"})
	if c := r.see("1.0.0", attrs{"user": "nobody"}); c.Is != reconcile.Present {
		t.Errorf("observed %+v", c)
	}
	for _, name := range []string{"", "bin", "bin/web", "bin/latest", "bin/su"} {
		info, err := os.Lstat(filepath.Join(r.path, "current", name) + map[bool]string{true: "/."}[name == ""])
		if err != nil {
			t.Fatal(err)
		}
		if uid := uidOf(info); uid != 65534 {
			t.Errorf("%q belongs to %d", name, uid)
		}
		if info.Mode()&(os.ModeSetuid|os.ModeSetgid|os.ModeSticky) != 0 || info.Mode().Perm()&0o022 != 0 && info.Mode().Type() != os.ModeSymlink {
			t.Errorf("%q has mode %v", name, info.Mode())
		}
	}
}

// What a killed fetch left is gone after the next one.
func TestLeftoversAreSwept(t *testing.T) {
	r := newRig(t)
	r.publish("1.0.0", web("1.0.0")...)
	left := filepath.Join(r.path, "releases", "0.9-abcdefabcdef.tmp-0123456789abcdef")
	if err := os.MkdirAll(filepath.Join(left, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	r.deploy("1.0.0", nil)
	if names := r.names("releases"); len(names) != 1 {
		t.Errorf("left: %v", names)
	}
}

func TestBadArchiveLeavesTheOldRelease(t *testing.T) {
	r := newRig(t)
	r.publish("1.0.0", web("1.0.0")...)
	r.deploy("1.0.0", nil)
	r.publish("2.0.0", item{name: "ok", body: "x"}, item{name: "../out", body: "x"})
	err := r.driver.Do(context.Background(), r.step(reconcile.Fetch, "2.0.0", nil))
	if reconcile.BlameOf(err) != reconcile.OfRelease {
		t.Errorf("got %v", err)
	}
	r.want("1.0.0", reconcile.Present, "")
	if names := r.names("releases"); len(names) != 1 {
		t.Errorf("left: %v", names)
	}
}

// What stands in the way of the switch is found before the drain, also where
// nothing is left to download.
func TestCurrentOfSomebodyElse(t *testing.T) {
	r := newRig(t)
	r.publish("1.0.0", web("1.0.0")...)
	r.deploy("1.0.0", nil)
	if err := os.Remove(filepath.Join(r.path, "current")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(r.path, "current"), 0o755); err != nil {
		t.Fatal(err)
	}
	s := r.step(reconcile.Fetch, "1.0.0", nil)
	if done, err := r.driver.Done(t.Context(), s); done || err == nil {
		t.Errorf("done is %v, %v", done, err)
	}
	if err := r.driver.Do(t.Context(), s); err == nil || !strings.Contains(err.Error(), "current is not a link") {
		t.Errorf("got %v", err)
	}
}
