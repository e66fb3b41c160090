package argv_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"drydock/hostagent/argv"
	"drydock/hostagent/confine"
	"drydock/reconcile"
)

// agentsOwn is the agent's state and a credential, readable to all by mistake,
// in a directory that is none of those which are everybody's.
func agentsOwn(t *testing.T) (env reconcile.Env, files []string) {
	t.Helper()
	if confine.Kernel() < 2 {
		t.Skip("needs Landlock: Linux 5.19 or later")
	}
	dir, err := os.MkdirTemp("/var/lib", "drydock-test-")
	if err != nil {
		t.Skip("makes a directory in /var/lib: needs root")
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	env = reconcile.Env{Private: filepath.Join(dir, "state"), Sealed: []string{filepath.Join(dir, "credentials")}}
	files = []string{filepath.Join(dir, "state/journal.db"), filepath.Join(dir, "credentials/token")}
	for _, f := range files {
		if err := errors.Join(os.MkdirAll(filepath.Dir(f), 0o755), os.WriteFile(f, []byte("secret"), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return env, files
}

// TestNoCommandReadsWhatIsTheAgents: whoever it runs as, whichever way it is run.
func TestNoCommandReadsWhatIsTheAgents(t *testing.T) {
	env, files := agentsOwn(t)
	for _, name := range []string{"NOTIFY_SOCKET", "CREDENTIALS_DIRECTORY", "SSH_AUTH_SOCK", "GIT_TOKEN"} {
		t.Setenv(name, "/the/agents/own")
	}
	for _, user := range []string{"", "nobody"} {
		for how, run := range map[string]func(argv.Command) (string, error){
			"run": func(c argv.Command) (string, error) { return argv.Run(deadline(t), env, step(""), c) },
			"tracked": func(c argv.Command) (string, error) {
				return site(t).Run(deadline(t), env, step(""), c)
			},
		} {
			c := argv.Command{Argv: append(sh(`for f; do cat "$f" && echo READ; done; cat /proc/$PPID/environ && echo READ; env; ls -l /proc/self/fd; true`), files...),
				User: user, Within: argv.Within(env, step(""))}
			out, err := run(c)
			if err != nil || strings.Count(out, "Permission denied") != 3 || strings.Contains(out, "READ") {
				t.Errorf("%s as %q: %v\n%s", how, user, err, out)
			}
			for line := range strings.Lines(out) {
				if _, to, ok := strings.Cut(line, " -> "); ok && strings.Contains(to, "record") {
					t.Errorf("%s as %q inherits %s", how, user, to)
				}
				if strings.Contains(line, "/the/agents/own") {
					t.Errorf("%s as %q is told %s", how, user, line)
				}
			}
		}
	}
}

// TestRootRunsNoProgramOfAUsers: who could put another program there would be
// root with it.
func TestRootRunsNoProgramOfAUsers(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: sudo go test")
	}
	for name, give := range map[string]func(s reconcile.Step, program string) error{
		"nothing":          func(reconcile.Step, string) error { return nil },
		"the program":      func(_ reconcile.Step, p string) error { return os.Chown(p, 65534, -1) },
		"its directory":    func(_ reconcile.Step, p string) error { return os.Chown(filepath.Dir(p), 65534, -1) },
		"the install path": func(s reconcile.Step, _ string) error { return os.Chown(s.Target.InstallPath(), 65534, -1) },
		"everybody":        func(s reconcile.Step, _ string) error { return os.Chmod(s.Target.InstallPath(), 0o777) },
	} {
		s, dir := inRelease(t)
		program := filepath.Join(dir, "bin", "hook")
		err := errors.Join(os.Mkdir(filepath.Dir(program), 0o755), os.WriteFile(program, []byte("#!/bin/sh\necho ran\n"), 0o755), give(s, program))
		if err != nil {
			t.Fatal(err)
		}
		out, err := argv.Run(deadline(t), reconcile.Env{}, s, argv.Command{Argv: []string{"bin/hook"}})
		switch {
		case name == "nothing" && (err != nil || out != "ran\n"):
			t.Errorf("%q, %v", out, err)
		case name != "nothing" && (reconcile.BlameOf(err) != reconcile.OfHost || out != ""):
			t.Errorf("%s is another's: %q, %v", name, out, err)
		}
	}
}
