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
