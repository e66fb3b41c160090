package argv_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"drydock/hostagent/argv"
	"drydock/hostagent/drivertest"
	"drydock/reconcile"
	"drydock/spec"
)

// What a command needs of the host is found before it is run: who runs it, and
// what. What the release brings is not the host's.
func TestPrograms(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, mode os.FileMode) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte("#!/bin/sh\n"), mode), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for p := dir; p != "/"; p = filepath.Dir(p) {
		if strings.HasPrefix(p, os.TempDir()+"/") {
			if err := os.Chmod(p, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	plain, program, private := write("plain", 0o644), write("program", 0o755), write("private", 0o700)
	behind := write("closed/program", 0o755)
	if err := os.Chmod(filepath.Join(dir, "closed"), 0o700); err != nil {
		t.Fatal(err)
	}
	install := func(user string) reconcile.Step {
		s := drivertest.Step(reconcile.Start, drivertest.Block(t, "start", "command", map[string]any{"user": user}))
		b := drivertest.Block(t, "install", "archive", map[string]any{"path": filepath.Join(dir, "srv")})
		s.Target.Install = &b
		s.Target.Release = spec.Release{Version: "1.4.2", Digest: "sha256:0123456789abcdef"}
		return s
	}
	check := func(name string, err error, want string) {
		t.Helper()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, expected %q", name, err, want)
		}
	}
	s := install("")
	check("there", argv.Programs(s, []string{program}, []string{"sh", "-c", "x"}, nil, []string{}), "")
	check("absent", argv.Programs(s, []string{"/no/such/program"}), "Install it on this host")
	check("no program", argv.Programs(s, []string{plain}), "not executable")
	check("the release's", argv.Programs(s, []string{"bin/app"}, []string{filepath.Join(dir, "srv/current/bin/app")}), "")
	err := argv.Programs(s, []string{"no-such-command"})
	if !errors.Is(err, reconcile.ErrUnfetched) {
		t.Errorf("before the release is there: %v", err)
	}
	write("srv/releases/1.4.2-0123456789ab/app", 0o755)
	check("once it is there", argv.Programs(s, []string{"no-such-command"}), "not found")
	check("a bare one of the release", argv.Programs(s, []string{"app"}), "")
	both := argv.Programs(s, []string{"/no/such/one"}, []string{"/no/such/two"}, []string{"/no/such/two"})
	if both == nil || strings.Count(both.Error(), "/no/such/one") != 1 || strings.Count(both.Error(), "/no/such/two") != 1 {
		t.Errorf("both: %v", both)
	}
	check("no user", argv.Programs(install("no-such-user-here"), []string{"/no/such/program"}), "Create the user")
	if os.Geteuid() != 0 {
		return
	}
	s = install("nobody")
	check("theirs to run", argv.Programs(s, []string{program}), "")
	check("not theirs", argv.Programs(s, []string{private}), "cannot be run by user nobody: "+private)
	check("behind a closed door", argv.Programs(s, []string{behind}), "cannot be run by user nobody: "+filepath.Dir(behind))
	check("root's", argv.Programs(install("root"), []string{private}, []string{behind}), "")
}
