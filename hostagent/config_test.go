package hostagent

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"

	"drydock/spec"
)

const wholeConfig = `
host {
  name     = "web-1"
  labels   = { role = "web", zone = "a" }
  parallel = 3
}
environment = "prod"
source {
  url         = "https://git.acme.example/ops/releases.git"
  mirrors     = ["ssh://git@backup.acme.example/releases.git", "git@backup:releases.git", "/srv/releases.git"]
  branch      = "live"
  poll        = "90s"
  token       = credential("git-token")
  ssh_key     = "/etc/drydock/ssh_key"
  known_hosts = "/etc/drydock/known_hosts"
  ca          = "/etc/drydock/git-ca.pem"
}
coordinate "alone" {}
state       = "/srv/drydock/"
credentials = "/etc/drydock/credentials"
listen      = "127.0.0.1:9745"
`

func TestConfigWhole(t *testing.T) {
	got, diags := parseConfig("h.hcl", []byte(wholeConfig), "ignored", "/run/credentials")
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	got.Host.OS, got.Host.Arch = "", ""
	want := Config{
		Host:     spec.Host{Name: "web-1", Labels: map[string]string{"role": "web", "zone": "a"}, Environment: "prod"},
		Parallel: 3, Alone: true, State: "/srv/drydock", Credentials: []string{"/run/credentials", "/etc/drydock/credentials"}, Listen: "127.0.0.1:9745",
		Source: SourceConfig{URL: "https://git.acme.example/ops/releases.git",
			Mirrors: []string{"ssh://git@backup.acme.example/releases.git", "git@backup:releases.git", "/srv/releases.git"},
			Branch:  "live", Poll: 90 * time.Second, Token: spec.Text{Credential: "git-token"},
			SSHKey: "/etc/drydock/ssh_key", KnownHosts: "/etc/drydock/known_hosts", CA: "/etc/drydock/git-ca.pem"},
		Files: []string{"h.hcl", "/etc/drydock/ssh_key", "/etc/drydock/known_hosts", "/etc/drydock/git-ca.pem"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestConfigDefaults(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hostagent.hcl")
	if err := os.WriteFile(path, []byte("environment = \"prod\"\nsource {\n  url = \"/srv/r.git\"\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", "/run/credentials/x")
	got, diags := LoadConfig(path)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	hostname, _ := os.Hostname()
	if got.Host.Name != hostname || got.Host.OS == "" || got.Parallel != 2 || got.State != "/var/lib/drydock" || got.Alone ||
		got.Source.Branch != "main" || got.Source.Poll != time.Minute || !slices.Equal(got.Credentials, []string{"/run/credentials/x"}) {
		t.Errorf("got %+v", got)
	}
	if _, diags := LoadConfig(path + ".missing"); !diags.HasErrors() {
		t.Error("a missing file is no error")
	}
}

func TestConfigRefuses(t *testing.T) {
	const rest = "environment = \"prod\"\nsource {\n  url = \"/srv/r.git\"\n}\n"
	source := func(line string) string { return "environment = \"prod\"\nsource {\n" + line + "\n}\n" }
	for name, c := range map[string]struct{ src, want string }{
		"unknown attribute":   {"stat = \"/x\"\n" + rest, `h.hcl:1,1-5: Unknown attribute; There is no attribute "stat" in this file. Did you mean "state"?`},
		"unknown block":       {"hosts {}\n" + rest, `Did you mean "host"?`},
		"unknown inside":      {"host {\n  parralel = 2\n}\n" + rest, `h.hcl:2,3-11: Unknown attribute; There is no attribute "parralel" in host. Did you mean "parallel"?`},
		"twice":               {"host {}\nhost {}\n" + rest, "Written twice"},
		"etcd":                {"coordinate \"etcd\" {\n  endpoints = [\"x\"]\n}\n" + rest, `refuses to start with coordinate "etcd"`},
		"other coordination":  {"coordinate \"alon\" {}\n" + rest, `Did you mean "alone"?`},
		"coordination, bare":  {"coordinate {}\n" + rest, "Wrong labels"},
		"alone has nothing":   {"coordinate \"alone\" {\n  x = 1\n}\n" + rest, "Unknown attribute"},
		"no environment":      {"source {\n  url = \"/srv/r.git\"\n}\n", `"environment" must be written`},
		"environment path":    {strings.Replace(rest, "prod", "../prod", 1), "Not a name"},
		"no source":           {"environment = \"prod\"\n", "A source block must be written"},
		"no url":              {source(""), `"url" must be written`},
		"http":                {source(`url = "http://git.example/x"`), "scheme http is not supported"},
		"ext":                 {source(`url = "ext::sh -c x"`), "neither a URL"},
		"relative":            {source(`url = "repo.git"`), "neither a URL"},
		"option as host":      {source(`url = "git@-oProxyCommand=x:y"`), "neither a URL"},
		"password":            {source(`url = "https://me:hunter2@git.example/x"`), "a password stands in the URL of git.example"},
		"bad mirror":          {source("url = \"/x\"\nmirrors = [\"ftp://x/y\"]"), "scheme ftp"},
		"mirrors no list":     {source("url = \"/x\"\nmirrors = \"/y\""), "Not a list"},
		"token in the clear":  {source("url = \"/x\"\ntoken = \"hunter2\""), "Not a credential"},
		"token with a path":   {source("url = \"/x\"\ntoken = credential(\"../x\")"), "Not a credential"},
		"token, no directory": {source("url = \"/x\"\ntoken = credential(\"x\")"), "neither `credentials` nor"},
		"poll too often":      {source("url = \"/x\"\npoll = \"1ms\""), "Not an interval"},
		"poll a number":       {source("url = \"/x\"\npoll = 60"), "Not a string"},
		"branch as an option": {source("url = \"/x\"\nbranch = \"--upload-pack=x\""), "Not a name"},
		"parallel nought":     {"host {\n  parallel = 0\n}\n" + rest, "from 1 to"},
		"parallel half":       {"host {\n  parallel = 1.5\n}\n" + rest, "from 1 to"},
		"labels":              {"host {\n  labels = { role = 1 }\n}\n" + rest, "Not a label"},
		"relative state":      {"state = \"x\"\n" + rest, "must begin with /"},
		"listen":              {"listen = \"9745\"\n" + rest, "must be host:port"},
		"null":                {"state = null\n" + rest, "No value"},
		"function":            {"state = upper(\"x\")\n" + rest, "h.hcl:1"},
		"does not parse":      {"host {", "h.hcl:1"},
		"too large":           {"# " + strings.Repeat("x", maxConfigFile) + "\n" + rest, "File too large"},
		"bomb":                {"state = " + strings.Repeat("!", 100_000) + "true\n" + rest, "h.hcl:1"},
	} {
		t.Run(name, func(t *testing.T) {
			_, diags := parseConfig("h.hcl", []byte(c.src), "host-1", "")
			if !diags.HasErrors() || !strings.Contains(diagText(diags), c.want) {
				t.Errorf("want %q, got %v", c.want, diagText(diags))
			}
			if strings.Contains(diagText(diags), "hunter2") {
				t.Error("a secret is shown")
			}
		})
	}
}

func diagText(diags hcl.Diagnostics) string {
	var b strings.Builder
	for _, d := range diags {
		b.WriteString(d.Error() + "\n")
	}
	return b.String()
}

func TestHostNameMustBeUsable(t *testing.T) {
	if _, diags := parseConfig("h.hcl", []byte("environment = \"prod\"\nsource {\n  url = \"/x\"\n}\n"), "(none)", ""); !strings.Contains(diagText(diags), "No host name") {
		t.Error(diags)
	}
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte(wholeConfig))
	f.Add([]byte(wholeTrust))
	f.Add([]byte("trust {}\ncoordinate \"etcd\" {}\nsource {\n  token = credential(1)\n}"))
	f.Fuzz(func(t *testing.T, src []byte) {
		c, diags := parseConfig("h.hcl", src, "host-1", "")
		if !diags.HasErrors() && (c.Host.Environment == "" || c.Source.URL == "" || c.Parallel < 1) {
			t.Errorf("half a configuration: %+v", c)
		}
		if !diags.HasErrors() && c.Trust != nil && (c.Trust.Check() != nil || c.Trust.Signers == "" && c.Trust.Keyring == "") {
			t.Errorf("half a trust block: %+v", c.Trust)
		}
	})
}
