package main

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"drydock/hostagent/api"
	"drydock/reconcile"
	"drydock/spec"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// many is a child of the bench: it makes the files, and then measures what one
// way of reading them costs, so that each way has a process of its own.
func many(args []string) error {
	if len(args) != 2 {
		return errors.New("many parse|load|reload COUNT")
	}
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	t := newTree(n)
	work, times := func(int) error { return t.parse() }, 1
	switch args[0] {
	case "load":
		work = func(int) error { return t.load(spec.NewLoader()) }
	case "reload":
		l := spec.NewLoader()
		if err := t.load(l); err != nil {
			return err
		}
		times = 20
		work = func(i int) error {
			t.set(manyName(145), manyService(145, fmt.Sprintf("1.5.%d", i)))
			return t.load(l)
		}
	}
	runtime.GC()
	before := spent()
	for i := range times {
		if err := work(i); err != nil {
			return err
		}
	}
	after := spent()
	return json.NewEncoder(os.Stdout).Encode(sample{
		Wall: after.Wall - before.Wall, CPU: (after.CPU - before.CPU) / time.Duration(times), Memory: after.Memory,
	})
}

// spent is what this process has cost so far.
func spent() sample {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return sample{CPU: time.Duration(u.Utime.Nano() + u.Stime.Nano()), Memory: u.Maxrss << 10}
}

func manyName(i int) string { return fmt.Sprintf("many/svc-%05d.hcl", i) }

// manyService is an ordinary service file of about 700 bytes. A host with role
// r7 runs twenty of any count above 160.
func manyService(i int, version string) string {
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

const manyProfiles = `profile "http" {
  drain "file" {
    path = "/run/${service.name}/up"
  }
}
locals {
  base = 10000
}
`

// tree is a repository in memory whose files know their hash, as git's do.
type tree struct {
	files map[string]*leaf
	dirs  map[string][]fs.DirEntry
}

func newTree(n int) *tree {
	t := &tree{files: map[string]*leaf{}, dirs: map[string][]fs.DirEntry{}}
	t.set("profiles.hcl", manyProfiles)
	t.dirs["."] = append(t.dirs["."], &leaf{name: "many", dir: true})
	for i := range n {
		t.set(manyName(i), manyService(i, "1.4.2"))
	}
	for _, d := range t.dirs {
		slices.SortFunc(d, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	}
	return t
}

func (t *tree) set(name, body string) {
	sum := sha1.Sum([]byte(body))
	f := t.files[name]
	if f == nil {
		f = &leaf{name: path.Base(name)}
		t.files[name] = f
		t.dirs[path.Dir(name)] = append(t.dirs[path.Dir(name)], f)
	}
	f.body, f.hash = body, hex.EncodeToString(sum[:])
}

// parse is the least that anybody who reads these files has to do.
func (t *tree) parse() error {
	for name, f := range t.files {
		if _, diags := hclsyntax.ParseConfig([]byte(f.body), name, hcl.InitialPos); diags.HasErrors() {
			return diags
		}
	}
	return nil
}

// load is what the agent does with a commit, up to the plan.
func (t *tree) load(l *spec.Loader) error {
	fleet, diags := l.Load("0000000000000000000000000000000000000000", t)
	if diags.HasErrors() {
		return diags
	}
	want, diags := fleet.For(spec.Host{Name: "bench", OS: "linux", Arch: "amd64", Environment: "many", Labels: map[string]string{"role": "r7", "zone": "a"}})
	if diags.HasErrors() {
		return diags
	}
	plan := reconcile.Diff(want, reconcile.Observed{Found: map[string]map[string]reconcile.Condition{}})
	if len(plan.Services) != 20 || len(plan.Services[0].Steps) == 0 {
		return fmt.Errorf("%d services in the plan, and not 20 with steps", len(plan.Services))
	}
	return nil
}

func (t *tree) Open(name string) (fs.File, error) {
	f := t.files[name]
	if f == nil {
		return nil, fs.ErrNotExist
	}
	return &reading{f, strings.NewReader(f.body)}, nil
}

func (t *tree) ReadDir(name string) ([]fs.DirEntry, error) { return t.dirs[name], nil }

type leaf struct {
	name, hash, body string
	dir              bool
}

func (f *leaf) BlobHash() string           { return f.hash }
func (f *leaf) Name() string               { return f.name }
func (f *leaf) IsDir() bool                { return f.dir }
func (f *leaf) Info() (fs.FileInfo, error) { return f, nil }
func (f *leaf) Size() int64                { return int64(len(f.body)) }
func (f *leaf) Mode() fs.FileMode          { return f.Type() }
func (f *leaf) ModTime() time.Time         { return time.Time{} }
func (f *leaf) Sys() any                   { return f }
func (f *leaf) Type() fs.FileMode {
	if f.dir {
		return fs.ModeDir
	}
	return 0
}

type reading struct {
	*leaf
	*strings.Reader
}

func (r *reading) Size() int64                { return r.leaf.Size() }
func (r *reading) Stat() (fs.FileInfo, error) { return r.leaf, nil }
func (r *reading) Close() error               { return nil }

// child measures one way in a process of its own.
func (y *yard) child(ctx context.Context, way string) (s sample, err error) {
	self, err := os.Executable()
	if err != nil {
		return s, err
	}
	_, out, err := run(ctx, nil, self, "many", way, strconv.Itoa(y.options.many))
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal([]byte(out), &s)
}

// many: a repository of ten thousand services of which the host runs twenty.
func (y *yard) many(ctx context.Context) ([]figure, error) {
	way := func(w string) func(int) (sample, error) {
		return func(int) (sample, error) { return y.child(ctx, w) }
	}
	all, err := turns(7, way("load"), way("parse"), way("reload"))
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("4 %d files, loaded to the plan", y.options.many)
	fs := compared(name, "hclsyntax", all[0], all[1], 0, 3)[1:]
	fs[1] = alone(name, "memory", "MiB", over(all[0], memory), 512)
	fs = append(fs, alone("4 one file of them changed", "cpu", "ms", over(all[2], cpu), 20))
	// The target is in milliseconds; this says what it comes to on a machine
	// that is busy, or of another speed.
	fs = append(fs, compared("4 one file of them changed", "hclsyntax", all[2], all[1], 0, 0)[1])
	if err := y.plant(ctx); err != nil {
		return fs, err
	}
	planned, err := turns(3, func(int) (sample, error) {
		s, _, err := run(ctx, nil, y.agent, "plan", "--config", y.path("many.hcl"))
		return s, err
	})
	if err != nil {
		return fs, err
	}
	name = "4 hostagent plan on them, out of git"
	fs = append(fs, alone(name, "wall", "ms", over(planned[0], wall), 0), alone(name, "cpu", "ms", over(planned[0], cpu), 0),
		alone(name, "memory", "MiB", over(planned[0], memory), 512))
	taken, held, err := y.takenUp(ctx)
	if err != nil {
		return fs, err
	}
	name = "4 running agent, one file changed"
	return append(fs, alone(name, "cpu of agent", "ms", taken, 0), alone(name, "private memory", "MiB", held, 0)), nil
}

// plant makes the large repository, without a work tree.
func (y *yard) plant(ctx context.Context) error {
	if err := y.git(ctx, y.dir, "init", "-q", "--bare", "-b", "main", "many.git"); err != nil {
		return err
	}
	files := map[string]string{"profiles.hcl": manyProfiles}
	for i := range y.options.many {
		files[manyName(i)] = manyService(i, "1.4.2")
	}
	return y.grow(ctx, files, true)
}

// grow commits files to the large repository.
func (y *yard) grow(ctx context.Context, files map[string]string, first bool) error {
	var in bytes.Buffer
	fmt.Fprintf(&in, "commit refs/heads/main\ncommitter Bench <bench@acme.example> %d +0000\ndata 4\nmany\n", time.Now().Unix())
	if !first {
		in.WriteString("from refs/heads/main^0\n")
	}
	for name, body := range files {
		fmt.Fprintf(&in, "M 100644 inline %s\ndata %d\n%s\n", name, len(body), body)
	}
	cmd := exec.CommandContext(ctx, "git", "-C", y.path("many.git"), "fast-import", "--quiet")
	cmd.Stdin = &in
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("git fast-import: %w\n%s", err, out)
	}
	return nil
}

// takenUp is what a running agent spends from a push to the new plan. It is
// paused, so that nothing is carried out.
func (y *yard) takenUp(ctx context.Context) (taken, held spread, err error) {
	a, err := y.startPaused(ctx, "many")
	if err != nil {
		return taken, held, err
	}
	defer func() { err = a.stop(err) }()
	var st reconcile.HostStatus
	var spent time.Duration
	const changes = 20
	for i := range changes {
		if err := y.grow(ctx, map[string]string{manyName(145): manyService(145, fmt.Sprintf("1.6.%d", i))}, false); err != nil {
			return taken, held, err
		}
		before, _, err := usage(a.cmd.Process.Pid)
		if err != nil {
			return taken, held, err
		}
		if err := api.NewClient(a.state).Once(ctx, &st); err != nil {
			return taken, held, err
		}
		after, _, err := usage(a.cmd.Process.Pid)
		if err != nil {
			return taken, held, err
		}
		spent += after - before
	}
	v := spent.Seconds() * 1e3 / changes
	m, err := private(a.cmd.Process.Pid)
	mib := float64(m) / (1 << 20)
	return spread{v, v, v}, spread{mib, mib, mib}, err
}
