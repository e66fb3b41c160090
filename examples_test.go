package drydock_test

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"drydock/reconcile"
	"drydock/spec"
)

// TestExamples: what we show is formatted, loads without an error, and plans.
func TestExamples(t *testing.T) {
	for _, dir := range []string{"examples/acme", "examples/consul", "examples/haproxy", "examples/nginx", "examples/one-host", "examples/postgres", "examples/signed", "examples/sources"} {
		t.Run(dir, func(t *testing.T) {
			fsys := os.DirFS(dir)
			err := fs.WalkDir(fsys, ".", func(path string, d fs.DirEntry, err error) error {
				if err != nil || !strings.HasSuffix(path, ".hcl") {
					return err
				}
				src, err := fs.ReadFile(fsys, path)
				if err != nil {
					return err
				}
				formatted, err := spec.Format(src, path)
				if err != nil || !bytes.Equal(src, formatted) {
					t.Errorf("%s is not formatted (%v)", path, err)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			fleet, diags := spec.Load("", fsys)
			diags = append(diags, fleet.Validate()...)
			for _, d := range diags {
				// What is not built yet is a warning, and may be shown.
				if d.Severity == 1 {
					t.Error(d)
				}
			}
		})
	}
}

func plan(t *testing.T, dir string, h spec.Host) []string {
	t.Helper()
	fleet, _ := spec.Load("", os.DirFS(dir))
	want, diags := fleet.For(h)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	var ids []string
	for _, s := range reconcile.Diff(want, reconcile.Observed{Memory: *reconcile.NewMemory()}).Steps() {
		ids = append(ids, s.ID)
	}
	return ids
}

func TestExamplesPlan(t *testing.T) {
	got := plan(t, "examples/one-host", spec.Host{Name: "web-1", OS: "linux", Arch: "amd64", Environment: "prod"})
	want := []string{"hello/fetch/archive", "hello/install/archive", "hello/start/process", "hello/check/http", "hello/undrain/file"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	got = plan(t, "examples/haproxy", spec.Host{Name: "web-1", OS: "linux", Arch: "amd64", Environment: "prod", Labels: map[string]string{"role": "web"}})
	want = []string{"web/fetch/archive", "web/install/archive", "web/start/systemd", "web/check/http", "web/undrain/haproxy"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	got = plan(t, "examples/postgres", spec.Host{Name: "db-1", OS: "linux", Arch: "amd64", Environment: "prod", Labels: map[string]string{"role": "orders"}})
	want = []string{
		"orders/fetch/archive", "orders/install/archive", "orders/run/backup", "orders/migrate/sql",
		"orders/start/systemd", "orders/check/http", "orders/check/systemd", "orders/undrain/haproxy",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	got = plan(t, "examples/sources", spec.Host{Name: "web-1", OS: "linux", Arch: "amd64", Environment: "prod", Labels: map[string]string{"role": "web"}})
	want = []string{
		"node-exporter/fetch/apt", "node-exporter/install/apt", "node-exporter/start/systemd", "node-exporter/check/systemd",
		"site/fetch/git", "site/install/git", "site/start/systemd", "site/check/http", "site/undrain/nginx",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	got = plan(t, "examples/acme", spec.Host{Name: "web-1", OS: "linux", Arch: "arm64", Environment: "staging", Labels: map[string]string{"role": "web"}})
	want = []string{
		"web/fetch/archive", "web/install/archive", "web/migrate/command", "web/start/process",
		"web/run/warm-up", "web/check/http", "web/undrain/file",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	got = plan(t, "examples/acme", spec.Host{Name: "web-1", OS: "linux", Arch: "amd64", Environment: "prod", Labels: map[string]string{"role": "web", "zone": "a"}})
	if !slices.Contains(got, "web/migrate/sql") || !slices.Contains(got, "api/install/binary") {
		t.Errorf("prod: %v", got)
	}
}

// TestExampleUnits: a unit that we show runs what Drydock installs, as the user
// for whom it is installed, and systemd understands every line of it.
func TestExampleUnits(t *testing.T) {
	for dir, role := range map[string]string{"haproxy": "web", "nginx": "shop", "postgres": "orders", "sources": "web"} {
		fleet, _ := spec.Load("", os.DirFS(filepath.Join("examples", dir)))
		want, _ := fleet.For(spec.Host{Name: "h", OS: "linux", Arch: "amd64", Environment: "prod", Labels: map[string]string{"role": role}})
		shown := 0
		for _, s := range want.Services {
			if s.InstallPath() == "" {
				continue // a package brings its own
			}
			var c struct{ Unit, User string }
			if err := json.Unmarshal(s.Start.Config, &c); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(s.Install.Config, &c); err != nil {
				t.Fatal(err)
			}
			shown++
			t.Run(dir+"/"+c.Unit, func(t *testing.T) {
				unit := read(t, filepath.Join("examples", dir, c.Unit+".example"))
				current := filepath.Join(s.InstallPath(), "current")
				for _, line := range []string{"ExecStart=" + current + "/", "WorkingDirectory=" + current + "\n", "User=" + c.User + "\n", "[Install]\n"} {
					if !strings.Contains(unit, "\n"+line) {
						t.Errorf("the unit has no line %q", line)
					}
				}
				understood(t, c.Unit, strings.ReplaceAll(strings.ReplaceAll(unit, "="+current+"/bin/", "=/bin/true "), current, "/"))
			})
		}
		if shown != 1 {
			t.Errorf("%s shows %d services of its own", dir, shown)
		}
	}
}

// understood wants systemd to have nothing to say about a unit.
func understood(t *testing.T, name, unit string) {
	t.Helper()
	needTool(t, "systemd-analyze", "systemd")
	path := filepath.Join(t.TempDir(), name)
	write(t, path, unit)
	if out, err := exec.Command("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", path).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v: %s", err, out)
	}
}
