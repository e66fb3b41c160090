package drydock_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestReadmeSession runs the first session of README.md with the real
// programs and compares every line, hashes and times aside.
func TestReadmeSession(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(readme), "```console\n")
	session, _, ok := strings.Cut(rest, "```\n")
	if !ok || strings.Count(session, "$ ") < 3 {
		t.Fatal("README.md has no session")
	}
	s := newStage(t)
	var want, got strings.Builder
	for _, line := range strings.SplitAfter(session, "\n") {
		cmd, isCommand := strings.CutPrefix(line, "$ ")
		if !isCommand {
			want.WriteString(line)
			continue
		}
		want.WriteString(line)
		got.WriteString(line)
		got.WriteString(s.run(strings.TrimSpace(cmd)))
	}
	if diff := cmp.Diff(plain(want.String()), plain(got.String())); diff != "" {
		t.Errorf("README.md shows (-), the programs say (+):\n%s", diff)
	}
}

// TestReadmeWalkThrough does what "One host in five minutes" says, line by line,
// in a directory in place of /: a new user's first minutes end with a service
// that runs.
func TestReadmeWalkThrough(t *testing.T) {
	needTool(t, "python3", "python3")
	_, section, _ := strings.Cut(read(t, "README.md"), "## One host in five minutes\n")
	section, _, _ = strings.Cut(section, "\n## ")
	bin, dir, home := t.TempDir(), t.TempDir(), t.TempDir()
	if out, err := exec.Command("go", "build", "-o", bin+"/", "./cmd/hostagent", "./cmd/drydock").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	config := filepath.Join(dir, "etc/drydock/hostagent.hcl")
	here := strings.NewReplacer("/srv/", dir+"/srv/", "8080", fmt.Sprint(freePort(t)),
		"systemctl enable --now hostagent", "hostagent once", // what the unit does first
		`check "http" {`, "rollout {\n    min_healthy_time = \"100ms\"\n  }\n\n  check \"http\" {")
	script := "set -eu\nhostagent() { command hostagent \"$@\" --config " + config + "; }\n"
	for block := range strings.SplitSeq(section, "```sh\n") {
		lines, words, _ := strings.Cut(block, "```")
		if !strings.Contains(lines, "make packages") && !strings.HasPrefix(lines, "\n") {
			script += here.Replace(lines)
		}
		for hcl := range strings.SplitSeq(words, "```hcl\n") {
			hcl, _, ok := strings.Cut(hcl, "```")
			switch {
			case ok && strings.HasPrefix(hcl, "service"):
				script += "cat >prod/hello.hcl <<'EOF'\n" + here.Replace(hcl) + "EOF\n"
			case ok:
				write(t, config, here.Replace(hcl)+fmt.Sprintf("state = %q\n", filepath.Join(dir, "state")))
			}
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "srv"), 0o755); err != nil {
		t.Fatal(err)
	}
	sh := func(script string) string {
		cmd := exec.Command("sh", "-c", script)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "HOME="+home, "GIT_CONFIG_NOSYSTEM=1")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%v\n%s\nof\n%s", err, out, script)
		}
		return string(out)
	}
	t.Cleanup(func() { // what start "process" started outlives the agent on purpose
		sh("cd releases && printf 'removed \"hello\" {\\n  hosts = {}\\n}\\n' >prod/hello.hcl && git commit -qam removed && git push -q && hostagent once --config " + config)
	})
	out := sh(script)
	for _, w := range []string{"This host has what commit", "hello: deploy (none) -> 1.0.0", "hello 1.0.0 (prod): its first artifact"} {
		if !strings.Contains(out, w) {
			t.Errorf("nobody said %q", w)
		}
	}
	if !regexp.MustCompile(`(?m)^hello +1\.0\.0 +1\.0\.0 +\d+s +converged$`).MatchString(out) {
		t.Errorf("it does not run:\n%s", out)
	}
}

// TestReadmeTrust does what "Trust" says with real keys: the commit that is
// taken on trust is, the next one is good, and one without a signature blocks.
func TestReadmeTrust(t *testing.T) {
	needTool(t, "ssh-keygen", "openssh-client")
	_, section, _ := strings.Cut(read(t, "README.md"), "## Trust\n")
	section, _, _ = strings.Cut(section, "\n## ")
	steps, rest, _ := strings.Cut(section, "```hcl\n")
	trust, rest, _ := strings.Cut(rest, "```")
	_, steps, _ = strings.Cut(steps, "```sh\n")
	steps, _, _ = strings.Cut(steps, "```")
	_, verify, _ := strings.Cut(rest, "```sh\n")
	verify, _, _ = strings.Cut(verify, "```")

	bin, dir, home := t.TempDir(), t.TempDir(), t.TempDir()
	if out, err := exec.Command("go", "build", "-o", bin+"/", "./cmd/drydock").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	sh := func(script string) (string, error) {
		cmd := exec.Command("sh", "-eu", "-c", script)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "HOME="+home, "GIT_CONFIG_NOSYSTEM=1")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	out, err := sh(`mkdir ~/.ssh && ssh-keygen -q -t ed25519 -N "" -f ~/.ssh/id_ed25519
git config --global user.name Ann && git config --global user.email ann@acme.example
drydock init releases && cd releases && git init -q -b main && git add -A && git commit -q -m "Begin"
` + steps)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	write(t, filepath.Join(dir, "hostagent.hcl"), "environment = \"prod\"\nsource {\n  url = \"/srv/releases.git\"\n}\n"+
		strings.Replace(trust, strings.Repeat("0", 40), lines[len(lines)-1], 1))
	if out, err := sh("cd releases\n" + verify); err != nil || !strings.Contains(out, "the base itself") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := sh("cd releases && git commit -q --allow-empty -m signed\n" + verify); err != nil || !strings.Contains(out, "1 commit verified, all good") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := sh("cd releases && git -c commit.gpgsign=false commit -q --allow-empty -m unsigned\n" + verify); err == nil || !strings.Contains(out, "is not signed") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestSecurityNamesItsTests: who reads SECURITY.md can look each guard up.
func TestSecurityNamesItsTests(t *testing.T) {
	known := map[string]bool{}
	err := filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllStringSubmatch(read(t, path), -1) {
			known[m[1]] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`(Test\\w+)`").FindAllStringSubmatch(read(t, "SECURITY.md"), -1)
	if len(named) < 20 {
		t.Errorf("SECURITY.md names only %d tests", len(named))
	}
	for _, m := range named {
		if !known[m[1]] {
			t.Errorf("SECURITY.md names %s, and there is no such test", m[1])
		}
	}
}

var (
	hash = regexp.MustCompile(`\b[0-9a-f]{7}\b`)
	took = regexp.MustCompile(`\b[0-9.]+m?s\b`)
)

// plain puts one word for each hash and time.
func plain(s string) string {
	return took.ReplaceAllString(hash.ReplaceAllString(s, "HASH"), "TIME")
}

// stage is the host of the session: hello 1.0.0 runs, 1.1.0 was just built.
type stage struct {
	t   *testing.T
	dir string
	env []string
}

func newStage(t *testing.T) *stage {
	t.Helper()
	dir := t.TempDir()
	bin := filepath.Join(dir, "bin")
	if out, err := exec.Command("go", "build", "-o", bin+"/", "./cmd/hostagent", "./cmd/drydock").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s := &stage{t: t, dir: filepath.Join(dir, "releases"), env: append(os.Environ(),
		"PATH="+bin+":"+os.Getenv("PATH"), "GIT_CONFIG_GLOBAL=/dev/null",
		"GIT_AUTHOR_NAME=Alice", "GIT_AUTHOR_EMAIL=alice@acme.example",
		"GIT_COMMITTER_NAME=Alice", "GIT_COMMITTER_EMAIL=alice@acme.example")}
	port := freePort(t)
	program := filepath.Join(dir, "hello")
	src := filepath.Join(dir, "hello.go")
	write(t, src, `package main

import (
	"fmt"
	"net/http"
	"os"
)

func main() {
	version, _ := os.ReadFile("VERSION")
	http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "hello %s", version)
	}))
}
`)
	if out, err := exec.Command("go", "build", "-o", program, src).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	digest := ""
	for _, v := range []string{"1.1.0", "1.0.0"} {
		digest = pack(t, filepath.Join(dir, "hello-"+v+".tar.gz"), map[string]string{"bin/hello": read(t, program), "VERSION": v})
	}
	write(t, filepath.Join(s.dir, "prod/hello.hcl"), fmt.Sprintf(`service "hello" {
  hosts = {}

  release {
    version = "1.0.0"
    digest  = %q
  }

  artifact {
    source = "file://%s/hello-${release.version}.tar.gz"
  }

  drain "file" {
    path = "%[2]s/in-rotation"
    wait = "100ms"
  }

  install "archive" {
    path = "%[2]s/srv"
  }

  start "process" {
    command = ["bin/hello"]
    env     = { PORT = "%d" }
  }

  check "http" {
    url      = "http://127.0.0.1:%[3]d/"
    expect   = { status = 200, body = release.version }
    interval = "50ms"
  }

  rollout {
    min_healthy_time = "100ms"
  }
}
`, digest, dir, port))
	write(t, filepath.Join(dir, "hostagent.hcl"), fmt.Sprintf(`
host { name = "web-1" }
environment = "prod"
source { url = "%[1]s/releases.git" }
state = "%[1]s/state"
`, dir))
	s.run("git init -q --bare -b main ../releases.git")
	s.run("git init -q -b main")
	s.run("git remote add origin ../releases.git")
	s.run("git add -A")
	s.run("git commit -q -m hello")
	s.run("git push -q -u origin main")
	s.run("hostagent once --config ../hostagent.hcl")
	t.Cleanup(func() { // what start "process" started outlives the agent on purpose
		write(t, filepath.Join(s.dir, "prod/hello.hcl"), "removed \"hello\" {\n  hosts = {}\n}\n")
		s.run("git commit -q -a -m removed")
		s.run("git push -q")
		s.run("hostagent once --config ../hostagent.hcl")
	})
	return s
}

// run runs one line without a shell and returns all that it says, as a
// terminal would show it.
func (s *stage) run(line string) string {
	s.t.Helper()
	words := strings.Fields(line)
	cmd := exec.Command("env", words...) // env looks in our PATH
	cmd.Dir, cmd.Env = s.dir, s.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return string(out)
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func pack(t *testing.T, path string, files map[string]string) string {
	t.Helper()
	var buf bytes.Buffer
	zw := gzip.NewWriter(&buf)
	tw := tar.NewWriter(zw)
	for name, content := range files {
		if err := tw.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(content))}); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	write(t, path, buf.String())
	return fmt.Sprintf("sha256:%x", sha256.Sum256(buf.Bytes()))
}
