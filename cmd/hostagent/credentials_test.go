package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"drydock/hostagent/journal"
	"drydock/spec"
)

// The attributes of the language that take a credential, and what the yard
// below does with each. One that is new fails the test until it is in it.
var credentialAttributes = map[string]string{
	"service.artifact.headers":    "artifact-auth",
	"service.drain.consul.token":  "consul-token",
	"service.migrate.sql.url":     "web-database-url",
	"notify.slack.url":            "", // not built yet
	"notify.webhook.url":          "",
	"notify.webhook.secret":       "",
	"hostagent.hcl.source.token":  "git-token",
	"service.notify.slack.url":    "",
	"service.notify.webhook.url":  "",
	"profile.artifact.headers":    "artifact-auth", // a profile's are its services'
	"profile.drain.consul.token":  "consul-token",
	"profile.migrate.sql.url":     "web-database-url",
	"hostagent.artifact.headers":  "none: the agent's own release is not built yet",
	"service.notify.webhook.hmac": "",
}

func TestEveryCredentialAttributeIsTried(t *testing.T) {
	var walk func(path string)
	walk = func(path string) {
		r, err := spec.Look(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range r.Attributes {
			name := strings.TrimPrefix(path+"."+a.Name, ".")
			credential, known := credentialAttributes[name]
			if takes := strings.Contains(a.Type, "credential("); takes && (!known || r.Built && credential == "") {
				t.Errorf("%s takes a credential: let the yard of this test use one there", name)
			}
		}
		for _, b := range r.Blocks {
			walk(b.Path)
		}
	}
	walk("")
	walk("hostagent.hcl")
}

// secretYard is a host whose services use a credential wherever one can be.
type secretYard struct {
	*rig
	web    *httptest.Server // artifacts, and Consul, and both repeat what they were sent
	mu     sync.Mutex
	broken bool // the load balancer
	maint  bool
	reason string
	said   bytes.Buffer // by every command
	values map[string]string
}

func built(path string) bool {
	r, err := spec.Look(path)
	return err == nil && r.Built
}

func newSecretYard(t *testing.T) *secretYard {
	y := &secretYard{values: map[string]string{
		"artifact-auth":    "Bearer canary/Artifact+8c1f22",
		"consul-token":     "canary-consul-51aa07ff",
		"web-database-url": "", // below
		"api-database-url": "postgres://api:canary%2FPostgres%2B77@127.0.0.1:1/api?sslmode=disable",
		"git-token":        "canary/Git+4411e0",
	}}
	y.web = httptest.NewServer(http.HandlerFunc(y.serve))
	t.Cleanup(y.web.Close) // after the rig's, which undrains
	y.rig = newRig(t, "")
	y.values["web-database-url"] = y.path("canary-sqlite-e01b/web.db")
	must(t, os.Mkdir(y.path("canary-sqlite-e01b"), 0o755))
	must(t, os.WriteFile(y.values["web-database-url"], nil, 0o644))
	must(t, os.Mkdir(y.path("credentials"), 0o700))
	for name, v := range y.values {
		must(t, os.WriteFile(y.path("credentials/"+name), []byte(v+"\n"), 0o600))
	}
	must(t, os.WriteFile(y.path("host.hcl"), fmt.Appendf(nil, `
host { name = "web-1" }
environment = "prod"
source { url = %q }
state = %q
credentials = %q
listen = "127.0.0.1:0"
`, y.path("repo.git"), y.path("state"), y.path("credentials")), 0o644))
	y.extra = fmt.Sprintf(`
  run "spy" {
    after   = "start"
    command = ["/bin/sh", "-c", "env; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' >>%s"]
  }
`, y.path("spied"))
	if built("service.drain.consul") {
		y.extra += fmt.Sprintf(`
  drain "consul" {
    address    = %q
    service_id = "web"
    token      = credential("consul-token")
    timeout    = "5s"
  }
`, y.web.URL)
	}
	if built("service.migrate.sql") {
		y.extra += `
  migrate "sql" {
    engine     = "sqlite"
    url        = credential("web-database-url")
    directory  = "migrations"
    compatible = true
  }
`
	}
	return y
}

// serve is the artifact server and a Consul agent, as far as they matter here.
func (y *secretYard) serve(w http.ResponseWriter, r *http.Request) {
	y.mu.Lock()
	defer y.mu.Unlock()
	token := r.Header.Get("X-Consul-Token")
	switch {
	case strings.HasPrefix(r.URL.Path, "/web-"):
		if auth := r.Header.Get("Authorization"); auth != y.values["artifact-auth"] {
			http.Error(w, "not with "+auth+" or "+url.QueryEscape(auth), http.StatusForbidden)
			return
		}
		http.ServeFile(w, r, y.path("artifacts"+r.URL.Path))
	case y.broken || token != y.values["consul-token"]:
		http.Error(w, "no leader for "+token+", "+base64.StdEncoding.EncodeToString([]byte("x:"+token)), http.StatusInternalServerError)
	case strings.HasPrefix(r.URL.Path, "/v1/agent/service/maintenance/"):
		y.maint, y.reason = r.URL.Query().Get("enable") == "true", r.URL.Query().Get("reason")
	case strings.HasPrefix(r.URL.Path, "/v1/agent/health/service/id/"):
		_ = json.NewEncoder(w).Encode(map[string]any{"Service": map[string]any{"ID": "web", "Service": "web"}, "Checks": y.checks()})
	case strings.HasPrefix(r.URL.Path, "/v1/health/checks/"):
		_ = json.NewEncoder(w).Encode(y.checks())
	default:
		http.NotFound(w, r)
	}
}

func (y *secretYard) checks() []map[string]string {
	if !y.maint {
		return []map[string]string{}
	}
	return []map[string]string{{"Node": "n", "CheckID": "_service_maintenance:web", "ServiceID": "web", "Notes": y.reason}}
}

func (y *secretYard) setBroken(b bool) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.broken = b
}

// push declares web at a version and, where the sql driver is built, an api
// whose database nobody serves.
func (y *secretYard) push(version string) {
	y.t.Helper()
	if y.digests[version] == "" {
		y.pack(version, "")
	}
	y.version = version
	text := strings.Replace(y.declaration(version), `source = "file://`+y.path("artifacts")+`/web-${release.version}.tar.gz"`,
		`source = "`+y.web.URL+`/web-${release.version}.tar.gz"
    headers = { Authorization = credential("artifact-auth") }`, 1)
	if built("service.migrate.sql") {
		text += fmt.Sprintf(`
service "api" {
  hosts = {}
  release {
    version = "1.0.0"
    digest  = %q
  }
  artifact { source = "file://%s/web-1.0.0.tar.gz" }
  install "archive" { path = "%s" }
  migrate "sql" {
    engine    = "postgres"
    url       = credential("api-database-url")
    directory = "migrations"
    timeout   = "5s"
  }
  start "command" { command = ["/bin/true"] }
}
`, y.release("1.0.0", ""), y.path("artifacts"), y.path("srv-api"))
	}
	y.declare(text)
}

// pack makes a release with a migration in it.
func (y *secretYard) pack(version, script string) {
	y.t.Helper()
	if script == "" {
		script = fmt.Sprintf("#!/bin/sh\necho %s >%s\nexec sleep 1000\n", version, y.path("answer"))
	}
	var buf bytes.Buffer
	zw := gzip.NewWriter(&buf)
	tw := tar.NewWriter(zw)
	for _, f := range []struct {
		name, text string
		mode       int64
	}{
		{"bin/web", script, 0o755},
		{"migrations/00001_orders.sql", "-- +goose Up\ncreate table orders (id int);\n", 0o644},
	} {
		must(y.t, tw.WriteHeader(&tar.Header{Name: f.name, Typeflag: tar.TypeReg, Mode: f.mode, Size: int64(len(f.text))}))
		_, err := io.WriteString(tw, f.text)
		must(y.t, err)
	}
	must(y.t, errors.Join(tw.Close(), zw.Close(), os.WriteFile(y.path("artifacts/web-"+version+".tar.gz"), buf.Bytes(), 0o644)))
	y.digests[version] = fmt.Sprintf("sha256:%x", sha256.Sum256(buf.Bytes()))
}

// say runs a command and keeps what it said.
func (y *secretYard) say(args ...string) string {
	y.t.Helper()
	out, errs, _ := y.run(args...)
	y.said.WriteString(out + errs)
	return out + errs
}

// until asks status until it holds re; there is nothing else to wait on.
func (y *secretYard) until(re string) {
	y.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	over := time.After(patience)
	for {
		out := y.say("status", "--output", "json")
		if regexp.MustCompile("(?s)" + re).MatchString(out) {
			return
		}
		select {
		case <-tick.C:
		case <-over:
			y.t.Fatalf("waited in vain for %s in\n%s", re, out)
		}
	}
}

// canaries are the texts that nothing may say: what no scrubbing could restore,
// in all forms.
func (y *secretYard) canaries() (all []string) {
	for _, v := range []string{"canary/Artifact+8c1f22", "canary-consul-51aa07ff", "canary-sqlite-e01b", "canary/Postgres+77", "canary/Git+4411e0"} {
		all = append(all, v, url.QueryEscape(v), url.PathEscape(v), strings.ToLower(url.QueryEscape(v)))
		for before := range 3 {
			b := append(bytes.Repeat([]byte("x"), before), v...)
			from, to := (before*8+5)/6, len(b)*8/6
			all = append(all, base64.RawStdEncoding.EncodeToString(b)[from:to], base64.RawURLEncoding.EncodeToString(b)[from:to])
		}
	}
	return all
}

func (y *secretYard) nowhere(where string, text []byte) {
	y.t.Helper()
	for _, c := range y.canaries() {
		if i := bytes.Index(text, []byte(c)); i >= 0 {
			y.t.Errorf("%s says %s: …%s…", where, c, text[max(0, i-200):min(len(text), i+200)])
		}
	}
}

// TestCredentialsAreNowhere deploys, fails, reverts and waits on a host whose
// services use a credential wherever the language takes one, with servers that
// repeat what they are sent, and looks for the values everywhere.
func TestCredentialsAreNowhere(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("no git here: apt-get install git")
	}
	y := newSecretYard(t)
	y.env = []string{inHurry + "=100", "DRYDOCK_DEBUG=1"}
	y.push("1.0.0")
	y.say("plan")
	y.say("check-host")
	y.say("once")
	y.serves("1.0.0")

	cmd := y.agent("run")
	var log lockedBuffer
	cmd.Stdout, cmd.Stderr = &log, &log
	must(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer func() { _ = cmd.Process.Kill() }()

	y.until(`"agent": ?true|"services"`)
	y.push("1.0.1")
	y.until(`"name": "web",\s+"state": "converged"[^}]*}[^}]*"version": "1\.0\.1"`)
	y.pack("1.0.2", "#!/bin/sh\nexit 1\n")
	y.push("1.0.2") // broken: it is reverted
	y.until(`"state": "reverted"`)
	y.serves("1.0.1")
	if built("service.drain.consul") {
		y.setBroken(true) // a load balancer that repeats the token
		y.push("1.0.3")
		y.until(`\[credential consul-token\]`)
		y.setBroken(false)
		y.until(`"name": "web",\s+"state": "converged"[^}]*}[^}]*"version": "1\.0\.3"`)
	}
	must(t, os.WriteFile(y.path("credentials/artifact-auth"), []byte("Bearer canary/Artifact+8c1f22-not"), 0o600))
	y.push("1.0.4") // the server repeats the wrong one
	y.until(`"gate": "fetch"`)
	for _, args := range [][]string{{"plan"}, {"plan", "--output", "json"}, {"check-host"}, {"check-host", "--output", "json"}, {"status"}, {"once"}} {
		y.say(args...)
	}
	m := regexp.MustCompile(`msg=metrics listen=(\S+)`).FindStringSubmatch(log.String())
	if m == nil {
		t.Fatalf("no metrics:\n%s", log.String())
	}
	for _, path := range []string{"/metrics", "/healthz", "/readyz", "/"} {
		resp, err := http.Get("http://" + m[1] + path)
		must(t, err)
		body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		must(t, err)
		_ = resp.Body.Close()
		y.nowhere(path, body)
	}
	must(t, cmd.Process.Signal(syscall.SIGQUIT)) // what a panic would show: every goroutine
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("it does not end")
	}
	if !strings.Contains(log.String(), "goroutine ") {
		t.Errorf("no goroutines in its last words")
	}

	y.nowhere("the log", []byte(log.String()))
	y.nowhere("a command", y.said.Bytes())
	y.records()
	y.files()
	y.gitToken()
}

// records are the journal's, as they are read back.
func (y *secretYard) records() {
	y.t.Helper()
	j, err := journal.Open(journal.Options{Path: y.path("state/" + journalFile), ReadOnly: true})
	must(y.t, err)
	defer j.Close()
	n := 0
	for r, err := range j.Records(y.t.Context()) {
		must(y.t, err)
		data, err := json.Marshal(r)
		must(y.t, err)
		y.nowhere("a record", data)
		n++
	}
	if n < 20 {
		y.t.Errorf("only %d records", n)
	}
}

// files are all that the agent, the installers and the spy left behind.
func (y *secretYard) files() {
	y.t.Helper()
	looked := 0
	for _, root := range []string{"state", "srv", "srv-api", "spied", "answer"} {
		err := filepath.WalkDir(y.path(root), func(path string, d os.DirEntry, err error) error {
			if os.IsNotExist(err) {
				return nil
			}
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			data, err := os.ReadFile(path)
			y.nowhere(path, data)
			looked++
			return err
		})
		must(y.t, err)
	}
	spied, err := os.ReadFile(y.path("spied"))
	must(y.t, err)
	if looked < 10 || !strings.Contains(string(spied), "DRYDOCK_RELEASE_DIR=") || !strings.Contains(string(spied), "hostagent") {
		y.t.Errorf("the spy saw nothing (%d files):\n%.2000s", looked, spied)
	}
}

// gitToken goes to a git server that repeats it.
func (y *secretYard) gitToken() {
	y.t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		auth := r.Header.Get("Authorization")
		http.Error(w, "not with "+auth+" "+base64.StdEncoding.EncodeToString([]byte(auth)), http.StatusForbidden)
	}))
	defer server.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	must(y.t, os.WriteFile(y.path("ca.pem"), ca, 0o644))
	must(y.t, os.WriteFile(y.path("git.hcl"), fmt.Appendf(nil, `
environment = "prod"
source {
  url   = "%s/releases.git"
  token = credential("git-token")
  ca    = %q
}
state = %q
credentials = %q
`, server.URL, y.path("ca.pem"), y.path("git-state"), y.path("credentials")), 0o644))
	for _, args := range [][]string{{"once"}, {"plan"}, {"check-host"}, {"status", "--output", "json"}} {
		cmd := y.agent()
		cmd.Args = append(cmd.Args[:1], append(args, "--config", y.path("git.hcl"))...)
		out, errs, _ := y.finish(cmd)
		y.nowhere(strings.Join(args, " "), []byte(out+errs))
		if args[0] == "once" && !strings.Contains(out+errs, "403") {
			y.t.Errorf("the git server was not asked:\n%s%s", out, errs)
		}
	}
}
