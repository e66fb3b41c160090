package drydock_test

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"drydock/hostagent"
	"drydock/reconcile"
	"drydock/spec"
	"drydock/testdata/rig"
)

// packaged are the packages of one version, as `make packages` builds them.
type packaged struct {
	dir     string
	version string
}

// makePackages builds packages for this machine, or for the arches named. What
// the go tool has built before it does not build again.
func makePackages(t *testing.T, version string, env ...string) packaged {
	t.Helper()
	if testing.Short() {
		t.Skip("builds packages: only without -short")
	}
	if out, err := exec.Command("go", "-C", ".packaging", "tool", "-n", "nfpm").CombinedOutput(); err != nil {
		t.Skipf("needs nfpm: go -C .packaging mod download (%s)", bytes.TrimSpace(out))
	}
	p := packaged{dir: t.TempDir(), version: version}
	cmd := exec.Command(".packaging/build", p.dir)
	cmd.Env = append(append(os.Environ(), "VERSION=v"+version, "ARCHES="+runtime.GOARCH), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf(".packaging/build: %v\n%s", err, out)
	}
	return p
}

// file is the one package of its name and kind.
func (p packaged) file(t *testing.T, name, kind string) string {
	t.Helper()
	found, _ := filepath.Glob(filepath.Join(p.dir, name+"?"+p.version+"*."+kind))
	if len(found) != 1 {
		t.Fatalf("%s %s: found %v", name, kind, found)
	}
	return found[0]
}

// needTool skips a test where a program is missing.
func needTool(t *testing.T, program, debian string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("needs %s: apt-get install %s", program, debian)
	}
}

func output(t *testing.T, argv ...string) string {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s%s", argv, err, out, &stderr)
	}
	return string(out)
}

// TestPackages builds the packages for real and lives with them.
func TestPackages(t *testing.T) {
	needTool(t, "dpkg-deb", "dpkg")
	second := makePackages(t, "0.2.0")
	t.Run("contents", second.hold)
	t.Run("reproducible", second.again)
	t.Run("arm64", forArm64)
	first := makePackages(t, "0.1.0", "PACKAGES=hostagent")
	t.Run("host", func(t *testing.T) { live(t, first, second) })
	t.Run("rpm", func(t *testing.T) { liveByRPM(t, first, second) })
}

// hold wants programs, man pages that render, completions that the shells can
// read, the unit and an example, where Debian looks for them.
func (p packaged) hold(t *testing.T) {
	needTool(t, "groff", "groff-base")
	for _, c := range []struct {
		name, program string
		pages, files  []string
	}{
		{
			name: "hostagent", program: "usr/lib/drydock/hostagent",
			pages: []string{"man8/hostagent.8.gz", "man8/hostagent-run.8.gz", "man8/hostagent-status.8.gz", "man5/hostagent.hcl.5.gz"},
			files: []string{
				"usr/bin/hostagent", "usr/lib/systemd/system/hostagent.service", "usr/share/doc/hostagent/examples/hostagent.hcl",
				"usr/share/bash-completion/completions/hostagent", "usr/share/zsh/vendor-completions/_hostagent", "usr/share/fish/vendor_completions.d/hostagent.fish",
			},
		},
		{
			name: "drydock", program: "usr/bin/drydock",
			pages: []string{"man1/drydock.1.gz", "man1/drydock-bump.1.gz"},
			files: []string{"usr/share/bash-completion/completions/drydock", "usr/share/zsh/vendor-completions/_drydock", "usr/share/fish/vendor_completions.d/drydock.fish"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir()
			deb := p.file(t, c.name, "deb")
			output(t, "dpkg-deb", "-x", deb, root)
			if v := strings.TrimSpace(output(t, "dpkg-deb", "-f", deb, "Version")); v != "0.2.0" {
				t.Errorf("the package's version is %q", v)
			}
			if out := output(t, filepath.Join(root, c.program), "version"); !strings.Contains(out, c.name+" v0.2.0 ") {
				t.Errorf("the program says %q", out)
			}
			for _, f := range c.files {
				if info, err := os.Stat(filepath.Join(root, f)); err != nil || info.Size() == 0 {
					t.Errorf("%s: %v", f, err)
				}
			}
			output(t, "bash", "-n", filepath.Join(root, "usr/share/bash-completion/completions", c.name))
			for _, page := range c.pages {
				render(t, filepath.Join(root, "usr/share/man", page))
			}
		})
	}
}

// render wants a man page that says something and that troff has nothing to
// say about.
func render(t *testing.T, page string) {
	t.Helper()
	cmd := exec.Command("groff", "-Kutf8", "-man", "-ww", "-Tutf8", "-P-cbou")
	cmd.Stdin = strings.NewReader(output(t, "gzip", "-dc", page))
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil || stderr.Len() > 0 || !strings.Contains(stdout.String(), "NAME") || stdout.Len() < 300 {
		t.Errorf("%s: %v, %d bytes, %s", page, err, stdout.Len(), &stderr)
	}
}

// again wants the same bytes from the same source, so that anyone can check
// what was published.
func (p packaged) again(t *testing.T) {
	b := makePackages(t, p.version)
	all, _ := filepath.Glob(filepath.Join(p.dir, "*"))
	if len(all) != 4 {
		t.Fatalf("built %v", all)
	}
	for _, path := range all {
		if read(t, path) != read(t, filepath.Join(b.dir, filepath.Base(path))) {
			t.Errorf("%s was built twice and differs", filepath.Base(path))
		}
	}
}

// forArm64 wants a program for that, in a package that says so.
func forArm64(t *testing.T) {
	p := makePackages(t, "0.2.0", "ARCHES=arm64", "FORMATS=deb", "PACKAGES=hostagent")
	root, deb := t.TempDir(), p.file(t, "hostagent", "deb")
	output(t, "dpkg-deb", "-x", deb, root)
	f, err := elf.Open(filepath.Join(root, "usr/lib/drydock/hostagent"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if arch := strings.TrimSpace(output(t, "dpkg-deb", "-f", deb, "Architecture")); f.Machine != elf.EM_AARCH64 || arch != "arm64" {
		t.Errorf("the program is for %v, the package for %s", f.Machine, arch)
	}
}

// TestBuildExplainsItself, and takes no option for a directory.
func TestBuildExplainsItself(t *testing.T) {
	if out := output(t, ".packaging/build", "--help"); !strings.Contains(out, ".packaging/build [DIR]") || strings.Contains(out, "set -eu") {
		t.Errorf("--help says %q", out)
	}
	for _, args := range [][]string{{"--version"}, {"a", "b"}} {
		if out, err := exec.Command(".packaging/build", args...).CombinedOutput(); err == nil || !strings.Contains(string(out), "It is: .packaging/build [DIR]") && !strings.Contains(string(out), "one directory") {
			t.Errorf("%v: %v, %s", args, err, out)
		}
	}
}

// TestUnitIsHardened holds the unit's exposure under 5.0 of 10, as systemd
// reckons it.
func TestUnitIsHardened(t *testing.T) {
	needTool(t, "systemd-analyze", "systemd")
	out, err := exec.Command("systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold=49", ".packaging/hostagent/hostagent.service").CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestPackagedExample: what a host's file is copied from is formatted, and
// loads as it stands.
func TestPackagedExample(t *testing.T) {
	const path = ".packaging/hostagent/hostagent.hcl"
	src := read(t, path)
	if formatted, err := spec.Format([]byte(src), path); err != nil || string(formatted) != src {
		t.Errorf("it is not formatted (%v):\n%s", err, formatted)
	}
	if _, diags := hostagent.LoadConfig(path); diags.HasErrors() {
		t.Error(diags)
	}
	// Every line that is commented out is one to be taken in.
	var all strings.Builder
	for line := range strings.Lines(src) {
		text := strings.TrimSpace(line)
		rest, ok := strings.CutPrefix(text, "# ")
		begins := strings.HasPrefix(rest, "coordinate") || strings.HasSuffix(rest, " {") || strings.TrimSpace(rest) == "}"
		if ok && (strings.Contains(rest, " = ") || begins) {
			line = strings.TrimPrefix(strings.TrimSpace(rest), "# ") + "\n"
		}
		all.WriteString(line)
	}
	whole := filepath.Join(t.TempDir(), "hostagent.hcl")
	write(t, whole, all.String())
	if _, diags := hostagent.LoadConfig(whole); diags.HasErrors() {
		t.Errorf("%v\n%s", diags, all.String())
	}
}

// yard is a host with the agent's packages beside it, and a repository that it
// follows.
type yard struct {
	*rig.Host
	t   *testing.T
	dir string // the host sees it as /srv/yard
}

// newYard boots the host; binds are pairs of a path there and one here.
func newYard(t *testing.T, binds ...string) *yard {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	y := &yard{t: t, dir: dir}
	y.git("init", "-q", "--bare", "-b", "main", dir+"/releases.git")
	y.git("init", "-q", "-b", "main", dir+"/work")
	seen := map[string]string{"/srv/yard": dir}
	for i := 0; i < len(binds); i += 2 {
		seen[binds[i]] = binds[i+1]
	}
	y.Host = rig.NewHost(t, rig.HostOptions{Private: true, Binds: seen})
	return y
}

func (y *yard) git(args ...string) {
	y.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null",
		"GIT_AUTHOR_NAME=Robot", "GIT_AUTHOR_EMAIL=robot@acme.example", "GIT_COMMITTER_NAME=Robot", "GIT_COMMITTER_EMAIL=robot@acme.example")
	if out, err := cmd.CombinedOutput(); err != nil {
		y.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
}

// take lays a package beside the host and returns where the host sees it.
func (y *yard) take(p packaged, kind string) string {
	y.t.Helper()
	write(y.t, filepath.Join(y.dir, "hostagent-"+p.version+"."+kind), read(y.t, p.file(y.t, "hostagent", kind)))
	return "/srv/yard/hostagent-" + p.version + "." + kind
}

// declare merges a release of two services: web, whose process is the user
// web's, and chores, which does as root what commands do.
func (y *yard) declare(version, chores string) {
	y.t.Helper()
	digest := pack(y.t, filepath.Join(y.dir, "web-"+version+".tar.gz"), map[string]string{
		"bin/web":    "#!/bin/sh\necho $$ >/tmp/web.pid\necho " + version + " >/tmp/web.version\nexec sleep 100000\n",
		"bin/chores": "#!/bin/sh\nset -eux\n" + chores,
	})
	write(y.t, filepath.Join(y.dir, "work/prod/web.hcl"), fmt.Sprintf(`
service "web" {
  hosts = {}
  release {
    version = %q
    digest  = %q
  }
  artifact {
    source = "file:///srv/yard/web-${release.version}.tar.gz"
  }
  install "archive" {
    path = "/srv/web"
    user = "web"
  }
  start "process" {
    command = ["bin/web"]
    user    = "web"
  }
  check "command" {
    command  = ["/bin/grep", "-qx", release.version, "/tmp/web.version"]
    interval = "50ms"
  }
  rollout {
    min_healthy_time = "100ms"
  }
}

service "chores" {
  hosts = {}
  release {
    version = %[1]q
    digest  = %[2]q
  }
  artifact {
    source = "file:///srv/yard/web-${release.version}.tar.gz"
  }
  install "archive" {
    path = "/opt/chores"
  }
  start "command" {
    command = ["bin/chores"]
    running = ["/bin/true"]
  }
  check "command" {
    command  = ["/bin/true"]
    interval = "50ms"
  }
  rollout {
    min_healthy_time = "100ms"
  }
}
`, version, digest))
	y.git("-C", y.dir+"/work", "add", "-A")
	y.git("-C", y.dir+"/work", "commit", "-q", "-m", "web "+version)
	y.git("-C", y.dir+"/work", "push", "-q", y.dir+"/releases.git", "main")
}

const hostFile = `
environment = "prod"
source {
  url  = "/srv/yard/releases.git"
  poll = "1s"
}
coordinate "alone" {}
`

// says is what a command in the host prints, be its end what it may.
func (y *yard) says(argv ...string) string {
	y.t.Helper()
	ctx, cancel := context.WithTimeout(y.t.Context(), time.Minute)
	defer cancel()
	out, err := y.Run(ctx, argv...)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		y.t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// eventually waits for what systemd or the agent brings about.
func (y *yard) eventually(what string, ok func() bool) {
	y.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); !ok(); <-tick.C {
		if time.Since(began) > time.Minute {
			y.t.Fatalf("never: %s\n%s\n%s", what, y.says("systemctl", "status", "--no-pager", "--full", "hostagent"), y.says("journalctl", "--no-pager", "-n", "60", "-u", "hostagent"))
		}
	}
}

// converged waits until the running agent says that the service is at version.
func (y *yard) converged(version string) {
	y.t.Helper()
	y.eventually("web "+version+" converged", func() bool {
		if y.says("systemctl", "is-active", "hostagent") != "active" {
			return false
		}
		var st reconcile.HostStatus
		err := json.Unmarshal([]byte(y.says("hostagent", "status", "--output", "json")), &st)
		return err == nil && len(st.Services) == 2 && !slices.ContainsFunc(st.Services, func(s reconcile.ServiceStatus) bool {
			return s.State != reconcile.Converged || s.Running == nil || s.Running.Version != version
		})
	})
}

// process is the service's, which must live and be its user's.
func (y *yard) process() string {
	y.t.Helper()
	pid := strings.TrimSpace(y.Must(y.t, "cat", "/tmp/web.pid"))
	if owner := y.says("stat", "-c", "%U", "/proc/"+pid); owner != "web" {
		y.t.Fatalf("process %s is %q's, want web's", pid, owner)
	}
	return pid
}

// agent is the main process, and the program it runs.
func (y *yard) agent() (pid, program string) {
	y.t.Helper()
	pid = y.says("systemctl", "show", "--value", "-p", "MainPID", "hostagent")
	return pid, y.says("readlink", "/proc/"+pid+"/exe")
}

func (y *yard) want(want string, argv ...string) {
	y.t.Helper()
	if got := y.says(argv...); got != want {
		y.t.Errorf("%s: %q, want %q", strings.Join(argv, " "), got, want)
	}
}

// wantAll wants words in an output.
func wantAll(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("it does not say %q:\n%s", w, text)
		}
	}
}

// chores are what the sandbox must let commands of releases do, and what it
// must not.
const chores = `
# the agent knows processes of other capabilities by this
head -c 1 /proc/1/environ >/dev/null
echo upstream >/etc/nginx-like.conf
mkdir -p /usr/local/lib/web /opt/web /home/web
touch /usr/local/lib/web/file /opt/web/file /home/web/file
chown web: /opt/web/file
su -s /bin/sh -c 'test "$(id -un)" = web' web
systemctl start systemd-tmpfiles-clean.service
systemd-run --quiet --wait touch /usr/lib/by-a-unit-of-its-own
test "$(grep NoNewPrivs /proc/self/status | tr -dc 0-9)" = 0
never() { if "$@"; then exit 1; fi; }
never touch /usr/lib/file
never mount -t tmpfs none /mnt
never unshare -m true
never sysctl -w kernel.sysrq=0
touch /tmp/chores
`

// live is the life of the agent's package: installed without a configuration,
// configured, upgraded, overtaken by the agent itself, removed, installed
// again, purged. The service's process goes through all of it.
func live(t *testing.T, first, second packaged) {
	y := newYard(t)
	one, two := y.take(first, "deb"), y.take(second, "deb")
	y.Must(t, "useradd", "--system", "--no-create-home", "web")
	const link = "/var/lib/drydock/hostagent/current"
	apt := func(args ...string) string {
		t.Helper()
		return y.Must(t, append([]string{"env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-y", "-q", "--no-install-recommends"}, args...)...)
	}

	// Installed without a configuration: all is there, nothing runs, and it is
	// said what is to be done.
	wantAll(t, apt("install", one), "Write /etc/drydock/hostagent.hcl", "/usr/share/doc/hostagent/examples/hostagent.hcl", "`hostagent check-host`", "systemctl enable --now hostagent")
	y.want("enabled", "systemctl", "is-enabled", "hostagent")
	y.Must(t, "systemctl", "start", "hostagent")
	y.want("inactive", "systemctl", "is-active", "hostagent")
	y.want("/usr/lib/drydock", "readlink", link)
	y.want("700", "stat", "-c", "%a", "/var/lib/drydock")
	wantAll(t, y.says("hostagent", "version"), "v0.1.0")

	// Configured and started as it was said.
	y.declare("1.0.0", chores)
	y.WriteFile(t, "/etc/drydock/hostagent.hcl", hostFile, 0o644)
	y.Must(t, "systemctl", "enable", "--now", "hostagent")
	y.converged("1.0.0")
	y.Must(t, "test", "-e", "/tmp/chores")
	service := y.process()
	y.Must(t, "systemd-analyze", "security", "--no-pager", "--threshold=49", "hostagent.service")
	y.Must(t, "systemctl", "reload", "hostagent")

	// Upgraded: the new agent takes up what the old one started.
	before, _ := y.agent()
	apt("install", two)
	y.eventually("another agent", func() bool { now, _ := y.agent(); return now != before && now != "0" })
	y.converged("1.0.0")
	wantAll(t, y.says("hostagent", "version"), "v0.2.0")
	if _, program := y.agent(); program != "/usr/lib/drydock/hostagent" {
		t.Errorf("the agent runs %s", program)
	}
	if now := y.process(); now != service {
		t.Errorf("the upgrade cost the service its process: %s, then %s", service, now)
	}
	y.declare("1.1.0", "")
	y.converged("1.1.0")
	service = y.process()

	// Whoever stopped it meant it.
	y.Must(t, "systemctl", "stop", "hostagent")
	// A person's shell knows by itself what the agent in its sandbox started.
	y.Must(t, "hostagent", "plan", "--detailed-exitcode")
	apt("install", "--reinstall", two)
	y.want("inactive", "systemctl", "is-active", "hostagent")
	y.Must(t, "systemctl", "start", "hostagent")

	// An agent that deployed itself is not moved by any package.
	y.Must(t, "sh", "-c", "mkdir -p /var/lib/drydock/hostagent/releases/9.0.0 && cp /usr/lib/drydock/hostagent /var/lib/drydock/hostagent/releases/9.0.0/ && ln -sfn releases/9.0.0 "+link)
	y.Must(t, "systemctl", "restart", "hostagent")
	wantAll(t, apt("install", "--allow-downgrades", one), "releases/9.0.0", "ln -sfn /usr/lib/drydock "+link)
	y.converged("1.1.0")
	y.want("releases/9.0.0", "readlink", link)
	if _, program := y.agent(); program != "/var/lib/drydock/hostagent/releases/9.0.0/hostagent" {
		t.Errorf("the agent runs %s", program)
	}
	wantAll(t, y.says("hostagent", "version"), "v0.2.0")
	wantAll(t, y.says("setpriv", "--reuid=web", "--clear-groups", "hostagent", "version"), "v0.1.0")

	// Removed: the agent stops, the service goes on, the journal stays.
	apt("remove", "hostagent")
	y.want("inactive", "systemctl", "is-active", "hostagent")
	y.want("", "pgrep", "-x", "hostagent")
	if now := y.process(); now != service {
		t.Errorf("the removal cost the service its process: %s, then %s", service, now)
	}
	y.Must(t, "test", "-s", "/var/lib/drydock/journal.db")

	// Installed again: it starts, with the package's agent, and takes the
	// service up.
	apt("install", two)
	y.converged("1.1.0")
	if now := y.process(); now != service {
		t.Errorf("the second installation cost the service its process: %s, then %s", service, now)
	}
	wantAll(t, y.says("hostagent", "version"), "v0.2.0")

	// Purged: the state goes, the service and what is the host's stay.
	wantAll(t, apt("purge", "hostagent"), "hostagent: forgotten with /var/lib/drydock: which releases failed here")
	y.want("", "ls", "/var/lib/drydock")
	y.want("", "find", "/etc/systemd/system", "-name", "hostagent*")
	y.Must(t, "test", "-e", "/etc/drydock/hostagent.hcl")
	y.Must(t, "test", "-x", "/srv/web/current/bin/web")
	if now := y.process(); now != service {
		t.Errorf("the purge cost the service its process: %s, then %s", service, now)
	}

	// Installed once more: it finds again what runs, and leaves it as it is.
	apt("install", two)
	y.converged("1.1.0")
	if now := y.process(); now != service {
		t.Errorf("the state that was lost cost the service its process: %s, then %s", service, now)
	}
	apt("purge", "hostagent")

	// Where nothing may be started, nothing is.
	y.WriteFile(t, "/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n", 0o755)
	apt("install", two)
	y.want("enabled", "systemctl", "is-enabled", "hostagent")
	y.want("inactive", "systemctl", "is-active", "hostagent")
}

// liveByRPM is the same life with rpm, whose scripts are called otherwise. No
// distribution of rpm's can be had here: on the Debian host the machine's own
// rpm works, with its own libraries.
func liveByRPM(t *testing.T, first, second packaged) {
	needTool(t, "rpm", "rpm")
	y := newYard(t, "/srv/machine", "/usr")
	one, two := y.take(first, "rpm"), y.take(second, "rpm")
	y.Must(t, "useradd", "--system", "--no-create-home", "web")
	y.declare("1.0.0", "")
	rpm := func(args ...string) string {
		t.Helper()
		return y.Must(t, append([]string{"sh", "-c", `RPM_CONFIGDIR=/srv/machine/lib/rpm exec /srv/machine/lib*/ld-linux-*.so.* --library-path "$(echo /srv/machine/lib/*-linux-gnu)" /srv/machine/bin/rpm --dbpath /var/lib/rpm --nodeps "$@" 2>&1`, "rpm"}, args...)...)
	}

	wantAll(t, rpm("-i", one), "Write /etc/drydock/hostagent.hcl", "`hostagent check-host`", "systemctl enable --now hostagent")
	y.want("inactive", "systemctl", "is-active", "hostagent")
	y.WriteFile(t, "/etc/drydock/hostagent.hcl", hostFile, 0o644)
	y.Must(t, "systemctl", "enable", "--now", "hostagent")
	y.converged("1.0.0")
	service := y.process()

	before, _ := y.agent()
	rpm("-U", two)
	y.eventually("another agent", func() bool { now, _ := y.agent(); return now != before && now != "0" })
	y.converged("1.0.0")
	wantAll(t, y.says("hostagent", "version"), "v0.2.0")

	rpm("-e", "hostagent")
	y.want("inactive", "systemctl", "is-active", "hostagent")
	y.Must(t, "test", "-s", "/var/lib/drydock/journal.db")
	y.want("", "ls", "/usr/lib/drydock")

	rpm("-i", two)
	y.converged("1.0.0")
	if now := y.process(); now != service {
		t.Errorf("upgrade, removal and installation cost the service its process: %s, then %s", service, now)
	}
	rpm("-V", "hostagent")
}
