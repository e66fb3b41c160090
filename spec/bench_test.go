package spec_test

import (
	"crypto/sha1"
	"fmt"
	"io/fs"
	"path"
	"runtime"
	"sort"
	"strings"
	"testing"
	"time"

	"drydock/spec"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// serviceFile is an ordinary service file of about 700 bytes.
func serviceFile(i int, version string) string {
	return fmt.Sprintf(`# service %[1]d
service "svc-%05[1]d" {
  hosts   = { role = "r%[2]d", zone = ["a", "b"] }
  profile = "http"

  release {
    version = "%[3]s"
    digest  = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
  }

  artifact {
    source = "https://artifacts.acme.example/svc-%[1]d/${release.version}/svc-${host.os}-${host.arch}.tar.gz"
  }

  install "archive" {
    path = "/srv/svc-%[1]d"
    keep = 5
  }

  start "process" {
    command = ["bin/svc", "--port", "${local.base + %[1]d}"]
    user    = "svc"
  }

  check "http" {
    url    = "http://127.0.0.1:8080/svc-%[1]d/healthz"
    expect = { status = 200, body = release.version }
  }
}
`, i, i/20, version)
}

const benchProfiles = `
profile "http" {
  drain "file" {
    path = "/run/${service.name}/up"
  }
}
locals {
  base = 10000
}
`

// blobs is a file system of files that know their hash, as git's are.
type blobs struct {
	dirs  map[string][]fs.DirEntry
	files map[string]*blob
}

type blob struct {
	name, hash, body string
	dir              bool
}

func newBlobs(files map[string]string) *blobs {
	b := &blobs{dirs: map[string][]fs.DirEntry{}, files: map[string]*blob{}}
	for name, body := range files {
		b.files[name] = &blob{name: path.Base(name), hash: fmt.Sprintf("%x", sha1.Sum([]byte(body))), body: body}
		for child := name; child != "."; child = path.Dir(child) {
			dir := path.Dir(child)
			if f := b.files[child]; f != nil {
				b.dirs[dir] = append(b.dirs[dir], f)
			} else if _, known := b.files["/"+child]; !known {
				d := &blob{name: path.Base(child), dir: true}
				b.files["/"+child] = d
				b.dirs[dir] = append(b.dirs[dir], d)
			}
		}
	}
	for _, d := range b.dirs {
		sort.Slice(d, func(i, j int) bool { return d[i].Name() < d[j].Name() })
	}
	return b
}

func (b *blobs) Open(name string) (fs.File, error) {
	if f := b.files[name]; f != nil {
		return &open{blob: f, r: strings.NewReader(f.body)}, nil
	}
	return nil, fs.ErrNotExist
}

func (b *blobs) ReadDir(name string) ([]fs.DirEntry, error) { return b.dirs[name], nil }

func (f *blob) BlobHash() string { return f.hash }
func (f *blob) Name() string     { return f.name }
func (f *blob) IsDir() bool      { return f.dir }
func (f *blob) Type() fs.FileMode {
	if f.dir {
		return fs.ModeDir
	}
	return 0
}
func (f *blob) Info() (fs.FileInfo, error) { return f, nil }
func (f *blob) Size() int64                { return int64(len(f.body)) }
func (f *blob) Mode() fs.FileMode          { return f.Type() }
func (f *blob) ModTime() time.Time         { return time.Time{} }
func (f *blob) Sys() any                   { return f }

type open struct {
	*blob
	r *strings.Reader
}

func (o *open) Stat() (fs.FileInfo, error) { return o.blob, nil }
func (o *open) Read(p []byte) (int, error) { return o.r.Read(p) }
func (o *open) Close() error               { return nil }

func fleetFiles(n int) map[string]string {
	files := map[string]string{"profiles.hcl": benchProfiles}
	for i := range n {
		files[fmt.Sprintf("prod/svc-%05d.hcl", i)] = serviceFile(i, "1.4.2")
	}
	return files
}

func benchHost() spec.Host {
	return spec.Host{Name: "h1", OS: "linux", Arch: "amd64", Environment: "prod", Labels: map[string]string{"role": "r7", "zone": "a"}}
}

func mustTwenty(b *testing.B, f *spec.Fleet, loading hcl.Diagnostics) {
	b.Helper()
	w, diags := f.For(benchHost())
	if loading.HasErrors() || diags.HasErrors() || len(w.Services) != 20 {
		b.Fatal(len(w.Services), loading, diags)
	}
}

// Loading, guarding and evaluating 10,000 files of which the host runs 20,
// against parsing the same bytes: at most three times its CPU.
func BenchmarkLoad10000(b *testing.B) {
	files := fleetFiles(10_000)
	fsys := newBlobs(files)
	b.Run("parse", func(b *testing.B) {
		for b.Loop() {
			for name, body := range files {
				if _, diags := hclsyntax.ParseConfig([]byte(body), name, hcl.InitialPos); diags.HasErrors() {
					b.Fatal(diags)
				}
			}
		}
	})
	b.Run("load", func(b *testing.B) {
		for b.Loop() {
			f, diags := spec.Load("c", fsys)
			mustTwenty(b, f, diags)
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		b.ReportMetric(float64(m.Sys)/(1<<20), "MiB-from-OS")
	})
}

// The same repository with one file changed: under 20 ms.
func BenchmarkReloadOneChanged(b *testing.B) {
	files := fleetFiles(10_000)
	var sides [2]*blobs
	for i := range sides {
		files["prod/svc-00145.hcl"] = serviceFile(145, fmt.Sprintf("1.4.%d", i))
		sides[i] = newBlobs(files)
	}
	l := spec.NewLoader()
	f, diags := l.Load("c0", sides[0])
	mustTwenty(b, f, diags)
	i := 0
	for b.Loop() {
		i++
		f, diags := l.Load("c", sides[i%2])
		mustTwenty(b, f, diags)
	}
}
