package spec_test

import (
	"fmt"
	"io/fs"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"

	"drydock/spec"

	"github.com/hashicorp/hcl/v2"
)

func repo(files map[string]string) fstest.MapFS {
	out := fstest.MapFS{}
	for name, body := range files {
		out[name] = &fstest.MapFile{Data: []byte(body)}
	}
	return out
}

const plainService = `service "web" {
  hosts = {}
  release { version = "1" }
  check "tcp" { address = "127.0.0.1:80" }
}
`

func has(diags hcl.Diagnostics, file, text string) bool {
	for _, d := range diags {
		if d.Severity == hcl.DiagError && d.Subject != nil && d.Subject.Filename == file && strings.Contains(d.Summary+d.Detail, text) {
			return true
		}
	}
	return false
}

// Links and submodules lead to content that no commit of the repository holds.
func TestOddEntries(t *testing.T) {
	for _, c := range []struct {
		name  string
		mode  fs.FileMode
		where string // the environment that it holds; "" is all
	}{
		{"prod/link.hcl", fs.ModeSymlink, "prod"},
		{"prod/readme", fs.ModeSymlink, "prod"},
		{"prod/sub", fs.ModeIrregular, "prod"},
		{"fleet.hcl", fs.ModeSymlink, ""},
		{"stage", fs.ModeSymlink, "stage"},
	} {
		r := repo(map[string]string{"prod/web.hcl": plainService, "staging/web.hcl": plainService})
		r[c.name] = &fstest.MapFile{Data: []byte("web.hcl"), Mode: c.mode}
		f, loading := spec.Load("", r)
		if !has(loading, c.name, "Not a plain file") || !has(f.Validate(), c.name, "Not a plain file") {
			t.Errorf("%s: %v", c.name, loading)
		}
		for _, env := range []string{"prod", "staging", "stage"} {
			if got, want := has(f.Faults(env), c.name, "Not a plain file"), c.where == "" || c.where == env; got != want {
				t.Errorf("%s holds %s: %v", c.name, env, got)
			}
		}
	}
}

func TestNotUTF8(t *testing.T) {
	f, _ := spec.Load("", repo(map[string]string{"prod/web.hcl": "# \xff\n" + plainService}))
	if !has(f.Faults("prod"), "prod/web.hcl", "UTF-8") {
		t.Error(f.Faults("prod"))
	}
}

// One service more, or one file more, than a repository may have.
func TestTooMany(t *testing.T) {
	files := map[string]string{}
	for i := range 20_001 {
		files[fmt.Sprintf("prod/f%d.hcl", i)] = ""
	}
	f, _ := spec.Load("", newBlobs(files))
	if faults := f.Faults("prod"); len(faults) != 1 || faults[0].Summary != "Too many files" {
		t.Error(faults)
	}
	files = map[string]string{}
	var b strings.Builder
	for i := range 20_001 {
		fmt.Fprintf(&b, "service \"s%d\" {}\n", i)
		if i%1000 == 0 {
			files[fmt.Sprintf("prod/f%d.hcl", i)] = b.String()
			b.Reset()
		}
	}
	f, _ = spec.Load("", newBlobs(files))
	if faults := f.Faults("prod"); len(faults) != 1 || faults[0].Summary != "Too many services" {
		t.Error(faults)
	}
}

// A loader that has seen other commits says the same as a new one.
func TestLoaderRemembers(t *testing.T) {
	files := fleetFiles(60)
	l := spec.NewLoader()
	for i := range 12 {
		switch i % 4 {
		case 0:
			files["prod/svc-00005.hcl"] = serviceFile(5, fmt.Sprintf("1.%d", i))
		case 1:
			delete(files, "prod/svc-00003.hcl")
			files[fmt.Sprintf("prod/a%d.hcl", i)] = plainService
		case 2:
			delete(files, fmt.Sprintf("prod/a%d.hcl", i-1))
			files["prod/svc-00003.hcl"] = serviceFile(3, "2")
		case 3:
			files["prod/svc-00007.hcl"] = "service {"
		}
		for _, fsys := range []fs.FS{newBlobs(files), repo(files)} {
			h := benchHost()
			h.Labels["role"] = "r0"
			old, oldDiags := l.Load("c", fsys)
			fresh, freshDiags := spec.Load("c", fsys)
			w1, d1 := old.For(h)
			w2, d2 := fresh.For(h)
			if !reflect.DeepEqual(oldDiags, freshDiags) || !reflect.DeepEqual(w1, w2) || !reflect.DeepEqual(d1, d2) {
				t.Fatalf("commit %d: a loader with a memory says something else", i)
			}
		}
		delete(files, "prod/svc-00007.hcl")
	}
}

func specHash(t *testing.T, files map[string]string, h spec.Host) string {
	t.Helper()
	f, _ := spec.Load("", repo(files))
	w, diags := f.For(h)
	if diags.HasErrors() || len(w.Services) != 1 {
		t.Fatal(diags)
	}
	return w.Services[0].SpecHash
}

// The spec hash is the same on every host and for every release, whatever the
// layout; anything else that is declared changes it.
func TestSpecHash(t *testing.T) {
	const body = `service "web" {
  hosts = { role = ["a", "b"] }
  release { version = "1" }
  drain "file" {
    path = "/run/${local.dir}/${host.name}"
    wait = "1s"
  }
  check "http" {
    url    = "http://127.0.0.1/"
    expect = { status = 200, body = release.version }
  }
  rollout { canary = 1 }
}
`
	locals := "locals {\n  dir = \"x\"\n}\n"
	host := func(name, role string) spec.Host {
		return spec.Host{Name: name, OS: "linux", Arch: "amd64", Environment: "prod", Labels: map[string]string{"role": role}}
	}
	of := func(old, new, locals string) string {
		if old != "" && !strings.Contains(body, old) {
			t.Fatalf("no %q", old)
		}
		return specHash(t, map[string]string{"prod/web.hcl": strings.Replace(body, old, new, 1), "fleet.hcl": locals}, host("h1", "a"))
	}
	base := of("", "", locals)
	if got := specHash(t, map[string]string{"prod/sub/web.hcl": body, "fleet.hcl": locals}, host("h2", "b")); got != base {
		t.Error("another host, another file: another hash")
	}
	for _, c := range [][2]string{
		{`version = "1"`, `version = "2"`},
		{"  hosts", "  # a comment\n\n  hosts"},
		{"path = \"/run/${local.dir}/${host.name}\"\n    wait = \"1s\"", "wait = \"1000ms\"\n    path = \"/run/${ local.dir }/${ host.name }\""},
		{`["a", "b"]`, `["b", "a"]`},
		{`{ canary = 1 }`, "{\n    canary = 1\n    max_parallel = 1\n  }"},
	} {
		if of(c[0], c[1], locals) != base {
			t.Errorf("%q changes the hash", c[1])
		}
	}
	for _, c := range [][2]string{
		{`"1s"`, `"2s"`}, {"host.name", "host.os"}, {"canary = 1", "canary = 2"}, {`["a", "b"]`, `["a"]`},
		{`drain "file"`, `drain "file" "two"`}, {"release.version }", "\"v${release.version}\" }"}, {"/run/", "/var/run/"},
		{"  rollout", "  batch { max_changes = 1 }\n  rollout"},
	} {
		if of(c[0], c[1], locals) == base {
			t.Errorf("%q does not change the hash", c[1])
		}
	}
	if of("", "", "locals {\n  dir = \"y\"\n}\n") == base {
		t.Error("a local beside a host value does not change the hash")
	}
}

// Services shows what depends on the host as such, and gives bump its places.
func TestServicesWithoutAHost(t *testing.T) {
	f, _ := spec.Load("c", repo(map[string]string{"prod/web.hcl": serviceFile(1, "1.4.2"), "profiles.hcl": benchProfiles}))
	all, diags := f.Services("prod")
	if diags.HasErrors() || len(all) != 1 {
		t.Fatal(diags)
	}
	d := all[0]
	if d.Artifact.Source != spec.KnownOnHost || d.File != "prod/web.hcl" || d.Hosts["role"][0] != "r0" {
		t.Errorf("%+v", d)
	}
	if got := string(d.ReleaseRanges["version"].SliceBytes(f.Source(d.File))); got != `version = "1.4.2"` {
		t.Error(got)
	}
	w, _ := f.For(spec.Host{Name: "h", OS: "linux", Arch: "amd64", Environment: "prod", Labels: map[string]string{"role": "r0", "zone": "b"}})
	if len(w.Services) != 1 || w.Services[0].SpecHash != d.SpecHash {
		t.Error("with a host, the hash is another")
	}
}

func TestMinVersion(t *testing.T) {
	f, _ := spec.Load("", repo(map[string]string{"a.hcl": "min_version = \"1.9\"\n", "b.hcl": "min_version = \"1.10\"\n", "prod/web.hcl": plainService}))
	if v, at := f.MinVersion(); v != "1.10" || at.String() != "b.hcl:1" {
		t.Error(v, at)
	}
	for tool, old := range map[string]bool{"1.9.9": true, "v1.10": false, "1.10.0": false, "2": false, "": false, "devel": false} {
		if got := f.CheckVersion(tool).HasErrors(); got != old {
			t.Errorf("%s: too old %v", tool, got)
		}
	}
}

// A file at the limit is read; one byte more is refused before the lexer.
func TestFileSize(t *testing.T) {
	fill := func(n int) string { return plainService + strings.Repeat(" ", n-len(plainService)) }
	for size, refused := range map[int]bool{256 << 10: false, 256<<10 + 1: true, 10 << 20: true} {
		f, _ := spec.Load("", repo(map[string]string{"prod/web.hcl": fill(size)}))
		if got := has(f.Faults("prod"), "prod/web.hcl", "File too large"); got != refused {
			t.Errorf("%d bytes: refused %v", size, got)
		}
	}
}

// All files together have a limit, too.
func TestRepositorySize(t *testing.T) {
	files := map[string]string{}
	for i := range 300 {
		files[fmt.Sprintf("prod/f%d.hcl", i)] = "\xef\xbb\xbf" + strings.Repeat(" ", 255<<10) // refused before the lexer, so that this is quick
	}
	f, _ := spec.Load("", newBlobs(files))
	for _, d := range f.Faults("prod") {
		if d.Summary == "Repository too large" {
			return
		}
	}
	t.Error("75 MiB were taken")
}

// Values that a host would hold all at once have a limit together, however
// small each file is.
func TestManyServicesOfLargeValues(t *testing.T) {
	files := map[string]string{"prod/l.hcl": "locals {\n  b = \"" + strings.Repeat("y", 60_000) + "\"\n}\n"}
	for i := range 2000 {
		files[fmt.Sprintf("prod/f%d.hcl", i)] = fmt.Sprintf("service \"s%d\" {\n  hosts = {}\n  release { version = \"1\" }\n  check \"command\" { command = [local.b] }\n}\n", i)
	}
	f, _ := spec.Load("", newBlobs(files))
	w, diags := f.For(spec.Host{Name: "h", Environment: "prod"})
	if !has(diags, "prod/f999.hcl", "Too much for one host") || len(w.Services) == 0 || len(w.Services)+len(w.Held) != 2000 {
		t.Error(len(w.Services), len(w.Held))
	}
}
