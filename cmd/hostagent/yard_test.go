package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"drydock/hostagent/api"
	"drydock/reconcile"
	hosts "drydock/testdata/rig"
)

// yard is what a small team runs: hosts with systemd, HAProxy and nginx in
// front of them, PostgreSQL behind, and a repository in which each zone of the
// fleet is an environment. Three services: web, a binary behind HAProxy; site,
// a source tree behind nginx; orders, a daemon with a database behind HAProxy.
type yard struct {
	t       testing.TB
	dir     string // seen by the hosts at /yard
	zones   []*zone
	db      *hosts.Postgres
	dbName  string
	dbURL   string
	haproxy *hosts.Proxy
	nginx   *hosts.Web
	quick   string // more lines of every rollout block
	release map[string]bumped
	// edit changes what is declared of a service, and ups what a version of
	// orders migrates.
	edit map[string]func(hcl string) string
	ups  map[string]string
}

// bumped is what a bump names of a release.
type bumped struct{ version, digest string }

// zone is an environment with its one host. All share the machine's network,
// each at an address of its own.
type zone struct {
	name, address string
	host          *hosts.Host
}

// ports of the services, on each host's address.
const (
	webPort    = "18081"
	sitePort   = "18082"
	ordersPort = "18083"
)

var services = []string{"web", "site", "orders"}

func newYard(t testing.TB, zones ...string) *yard {
	t.Helper()
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o755)) // what stands in it is for the services' users too
	y := &yard{t: t, dir: dir, release: map[string]bumped{}}
	for _, d := range []string{"artifacts", "work", "tree", "lb", "bin"} {
		must(t, os.MkdirAll(y.path(d), 0o755))
	}
	y.db = hosts.PostgreSQL(t)
	y.dbName = y.db.Database(t)
	name := y.dbName
	y.db.Exec(t, name, "create table orders (id int); grant all on table orders to "+hosts.DatabaseUser+"; alter table orders owner to "+hosts.DatabaseUser)
	y.dbURL = y.db.TCP(name)
	must(t, exec.Command("git", "init", "-q", "--bare", "-b", "main", y.path("repo.git")).Run())
	must(t, exec.Command("git", "init", "-q", "--bare", "-b", "main", y.path("site.git")).Run())
	must(t, os.WriteFile(y.path("bin/service"), must1(t, os.ReadFile, serviceBinary(t)), 0o755))
	must(t, os.WriteFile(y.path("bin/hostagent"), must1(t, os.ReadFile, agentBinary(t)), 0o755))
	// No two yards share an address, as no two databases share a port.
	_, port, _ := net.SplitHostPort(y.db.Address())
	n, err := strconv.Atoi(port)
	must(t, err)
	for i, z := range zones {
		y.zones = append(y.zones, &zone{name: z, address: fmt.Sprintf("127.%d.%d.%d", n>>8, n&0xff, i+1)})
	}
	y.balance()
	var g sync.WaitGroup
	for _, z := range y.zones {
		g.Go(func() { y.provision(z) })
	}
	g.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return y
}

func (y *yard) path(p string) string { return filepath.Join(y.dir, p) }

func must1[T any](t testing.TB, f func(string) (T, error), arg string) T {
	t.Helper()
	v, err := f(arg)
	must(t, err)
	return v
}

var builtService = sync.OnceValues(func() (string, error) {
	path := filepath.Join(os.Getenv(builtIn), "service")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, "drydock/testdata/rig/service")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the service: %w\n%s", err, out)
	}
	return path, nil
})

func serviceBinary(t testing.TB) string {
	t.Helper()
	path, err := builtService()
	must(t, err)
	return path
}

// balance starts HAProxy and nginx in front of all zones. Neither tries a
// request a second time: what they lose, a user loses.
func (y *yard) balance() {
	backend := func(name, port string) hosts.Backend {
		b := hosts.Backend{Name: name, Lines: []string{"retries 0", "no option redispatch"}}
		for _, z := range y.zones {
			b.Servers = append(b.Servers, hosts.Server{Name: z.name, Address: z.address + ":" + port})
		}
		return b
	}
	y.haproxy = hosts.HAProxy(y.t, backend("web", webPort), backend("orders", ordersPort))
	upstream := ""
	for _, z := range y.zones {
		upstream += fmt.Sprintf("server %s:%s;\n", z.address, sitePort)
	}
	y.nginx = hosts.Nginx(y.t, upstream)
	y.reloads()
}

// reload returns when nginx's old workers are gone: a host that cannot see
// nginx's processes has only its word.
func (y *yard) reload() error {
	old, err := workers(y.nginx.Pid)
	if err != nil {
		return err
	}
	argv := y.nginx.Reload()
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); time.Since(began) < patience; <-tick.C {
		now, err := workers(y.nginx.Pid)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(now, func(pid string) bool { return slices.Contains(old, pid) }) {
			return nil
		}
	}
	return errors.New("nginx keeps its old workers")
}

// workers are a process's children.
func workers(pid int) ([]string, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
	return strings.Fields(string(data)), err
}

// reloads lets a host reload the nginx that stands outside of it, as `ssh lb
// systemctl reload nginx` would: one pipe asks, the other answers.
func (y *yard) reloads() {
	ask, answer := y.path("lb/ask"), y.path("lb/answer")
	for _, p := range []string{ask, answer} {
		must(y.t, exec.Command("mkfifo", p).Run())
	}
	must(y.t, os.WriteFile(y.path("lb/reload"), []byte("#!/bin/sh\nexec 9>/yard/lb/lock; flock 9; echo please >/yard/lb/ask; read a </yard/lb/answer; test \"$a\" = done\n"), 0o755))
	// Opened for both, so that neither end waits for the other to come or sees it go.
	in, err := os.OpenFile(ask, os.O_RDWR, 0)
	must(y.t, err)
	out, err := os.OpenFile(answer, os.O_RDWR, 0)
	must(y.t, err)
	y.t.Cleanup(func() { in.Close(); out.Close() })
	go func() {
		buf := make([]byte, 64)
		for {
			if _, err := in.Read(buf); err != nil {
				return
			}
			said := "done\n"
			if err := y.reload(); err != nil {
				said = err.Error() + "\n"
			}
			if _, err := out.Write([]byte(said)); err != nil {
				return
			}
		}
	}()
}

// provision is what Drydock never does: users, units, directories, credentials
// and the agent itself.
func (y *yard) provision(z *zone) {
	t := y.t
	h := hosts.NewHost(t, hosts.HostOptions{Name: z.name, Binds: map[string]string{
		"/yard": y.dir, "/haproxy": filepath.Dir(y.haproxy.Socket), "/nginx": y.nginx.Dir,
	}})
	z.host = h
	h.Must(t, "sh", "-ec", `for u in web site orders; do
  useradd --system --no-create-home $u
  mkdir -p /srv/$u
done
cp /yard/bin/service /usr/local/bin/site-server`)
	h.WriteFile(t, "/etc/drydock/credentials/orders-database", y.dbURL+"\n", 0o600)
	must(t, os.Chmod(h.Root()+"/etc/drydock/credentials", 0o700))
	unit := func(name, exec, port, env string) {
		h.WriteFile(t, "/etc/systemd/system/"+name+".service", fmt.Sprintf(`[Service]
Type=notify
User=%[1]s
ExecStart=%[2]s
Environment=ADDRESS=%[3]s:%[4]s
%[5]s
`, name, exec, z.address, port, env), 0o644)
	}
	unit("web", "/srv/web/current/web", webPort, "")
	unit("site", "/usr/local/bin/site-server", sitePort, "Environment=ROOT=/srv/site/current/")
	unit("orders", "/srv/orders/current/bin/orders", ordersPort, "Environment=DATABASE="+strings.ReplaceAll(y.dbURL, "%", "%%"))
	h.WriteFile(t, "/etc/drydock/hostagent.hcl", fmt.Sprintf(`
host {
  name     = %q
  labels   = { address = %q }
  parallel = 3
}
environment = %q
source { url = "/yard/repo.git" }
credentials = "/etc/drydock/credentials"
`, z.name, z.address, z.name), 0o644)
	h.WriteFile(t, "/etc/systemd/system/hostagent.service", `[Service]
Type=notify
Environment=DRYDOCK_TEST_AS_AGENT=1
ExecStart=/yard/bin/hostagent run --config /etc/drydock/hostagent.hcl
Restart=always
RestartSec=100ms
StartLimitIntervalSec=0
KillMode=process
`, 0o644)
	h.Must(t, "systemctl", "daemon-reload")
}

// client speaks to a zone's agent.
func (z *zone) client() *api.Client { return api.NewClient(z.host.Root() + "/var/lib/drydock") }

// start starts the agents.
func (y *yard) start() {
	for _, z := range y.zones {
		z.host.Must(y.t, "systemctl", "start", "hostagent")
	}
}

// make builds a release of a service and returns what names it.
func (y *yard) make(service, version string) bumped {
	y.t.Helper()
	key := service + " " + version
	if r, ok := y.release[key]; ok {
		return r
	}
	binary := append(must1(y.t, os.ReadFile, y.path("bin/service")), "\n"+version+"\n"...)
	r := bumped{version: version}
	switch service {
	case "web":
		r.digest = y.artifact("web-"+version, binary)
	case "orders":
		r.digest = y.artifact("orders-"+version+".tar.gz", packed(y.t, map[string][]byte{
			"bin/orders":                           binary,
			"migrations/" + migrationFile(version): y.up(version),
		}, y.migrations()))
	case "site":
		r.digest = "git:" + y.tree(version)
	}
	y.release[key] = r
	return r
}

// migrations are the files of the releases before: a release brings all.
func (y *yard) migrations() map[string][]byte {
	all := map[string][]byte{}
	for key := range y.release {
		if v, ok := strings.CutPrefix(key, "orders "); ok {
			all["migrations/"+migrationFile(v)] = y.up(v)
		}
	}
	return all
}

// up is a version's migration: the column that its service asks for.
func (y *yard) up(version string) []byte {
	return []byte(cmp.Or(y.ups[version], "-- +goose Up\nALTER TABLE orders ADD COLUMN "+column(version)+" int;\n"))
}

// migrationFile is numbered by the last part of the version.
func migrationFile(version string) string {
	parts := strings.Split(version, ".")
	var n int
	_, _ = fmt.Sscan(parts[len(parts)-1], &n)
	return fmt.Sprintf("%05d_%s.sql", n+1, column(version))
}

func column(version string) string { return "v" + strings.ReplaceAll(version, ".", "_") }

func (y *yard) artifact(name string, data []byte) string {
	must(y.t, os.WriteFile(y.path("artifacts/"+name), data, 0o644))
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func packed(t testing.TB, trees ...map[string][]byte) []byte {
	var buf bytes.Buffer
	zw, _ := gzip.NewWriterLevel(&buf, gzip.BestSpeed)
	tw := tar.NewWriter(zw)
	for _, files := range trees {
		for name, data := range files {
			must(t, tw.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(data))}))
			_, err := tw.Write(data)
			must(t, err)
		}
	}
	must(t, tw.Close())
	must(t, zw.Close())
	return buf.Bytes()
}

// tree commits a version of the site's source and returns the commit.
func (y *yard) tree(version string) string {
	dir := y.path("tree")
	if _, err := os.Stat(dir + "/.git"); err != nil {
		y.git(dir, "init", "-q", "-b", "main", ".")
	}
	must(y.t, os.WriteFile(dir+"/index.html", []byte(version+"\n"), 0o644))
	y.git(dir, "add", "-A")
	y.git(dir, "commit", "-q", "-m", version)
	y.git(dir, "push", "-q", y.path("site.git"), "HEAD:main")
	return strings.TrimSpace(y.git(dir, "rev-parse", "HEAD"))
}

func (y *yard) git(dir string, args ...string) string {
	y.t.Helper()
	cmd := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=Robot", "-c", "user.email=robot@acme.example"}, args...)...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		y.t.Fatalf("git %v: %v\n%s", args, err, errs.String())
	}
	return string(out)
}

// declare commits what a zone shall run, and pushes it: the merge is the
// deployment.
func (y *yard) declare(z *zone, releases map[string]bumped) {
	y.t.Helper()
	dir := y.path("work")
	if _, err := os.Stat(dir + "/.git"); err != nil {
		y.git(dir, "init", "-q", "-b", "main", ".")
	}
	must(y.t, os.MkdirAll(filepath.Join(dir, z.name), 0o755))
	for name, r := range releases {
		hcl := "service \"" + name + "\" {\n  hosts = {}\n" + fmt.Sprintf("  release {\n    version = %q\n    digest  = %q\n  }\n", r.version, r.digest) +
			y.declaration(name) + y.rollout() + "}\n"
		if edit := y.edit[name]; edit != nil {
			hcl = edit(hcl)
		}
		must(y.t, os.WriteFile(filepath.Join(dir, z.name, name+".hcl"), []byte(hcl), 0o644))
	}
	y.git(dir, "add", "-A")
	y.git(dir, "commit", "-q", "--allow-empty", "-m", "bump "+z.name)
	y.git(dir, "push", "-q", y.path("repo.git"), "HEAD:main")
}

func (y *yard) rollout() string {
	if y.quick != "" {
		return y.quick
	}
	return "  rollout {\n    min_healthy_time = \"300ms\"\n    healthy_deadline = \"15s\"\n  }\n"
}

func (y *yard) declaration(name string) string {
	check := func(port string) string {
		return fmt.Sprintf(`  check "http" {
    url      = "http://${host.labels.address}:%s/"
    expect   = { status = 200, body = release.version }
    interval = "50ms"
  }
`, port)
	}
	haproxy := fmt.Sprintf(`  drain "haproxy" {
    address = "unix:///haproxy/%s"
    backend = %q
    server  = host.name
  }
`, filepath.Base(y.haproxy.Socket), name)
	switch name {
	case "web":
		return `  artifact {
    source = "file:///yard/artifacts/web-${release.version}"
  }
` + haproxy + `  install "binary" {
    path = "/srv/web"
    name = "web"
    user = "web"
  }
  start "systemd" {
    unit = "web.service"
  }
` + check(webPort)
	case "orders":
		return `  artifact {
    source = "file:///yard/artifacts/orders-${release.version}.tar.gz"
  }
` + haproxy + `  install "archive" {
    path = "/srv/orders"
    user = "orders"
  }
  migrate "sql" {
    engine     = "postgres"
    url        = credential("orders-database")
    directory  = "migrations"
    compatible = true
  }
  start "systemd" {
    unit = "orders.service"
  }
` + check(ordersPort)
	}
	return `  drain "nginx" {
    upstream_file = "/nginx/` + filepath.Base(y.nginx.UpstreamFile) + `"
    server        = "${host.labels.address}:` + sitePort + `"
    reload        = ["/yard/lb/reload"]
  }
  install "git" {
    path  = "/srv/site"
    url   = "/yard/site.git"
    user  = "site"
    build = ["/bin/sh", "-c", "sed s/^/built:/ index.html >built.html"]
  }
  start "systemd" {
    unit = "site.service"
  }
` + check(sitePort)
}

// await syncs a zone's agent and returns when status says so.
func (y *yard) await(z *zone, what string, so func(reconcile.HostStatus) bool) reconcile.HostStatus {
	y.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	var st reconcile.HostStatus
	synced := false
	for {
		if !synced {
			synced = z.client().Sync(ctx) == nil
		}
		if err := z.client().Status(ctx, &st); err == nil && so(st) {
			return st
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			log, _ := z.host.Run(context.Background(), "journalctl", "-n", "60", "--no-pager")
			y.t.Fatalf("%s: %s did not come about: %+v\n%s", z.name, what, st, log)
		}
	}
}

// runs reports whether every service runs what is wanted of it.
func runs(want map[string]bumped) func(reconcile.HostStatus) bool {
	return func(st reconcile.HostStatus) bool {
		n := 0
		for _, s := range st.Services {
			if r, ok := want[s.Name]; ok && s.State == reconcile.Converged && s.Running != nil && s.Running.Version == r.version && s.Running.Digest == r.digest {
				n++
			}
		}
		return n == len(want)
	}
}
