package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"drydock": main, "skkeygen": securityKey})
}

// TestScripts runs the real command, with the real git, on the scripts of the
// project that are its own.
func TestScripts(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("no git here: apt-get install git")
	}
	files, err := filepath.Glob("../../testdata/script/drydock-*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	testscript.Run(t, testscript.Params{
		Files:               files,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "",
		Setup: func(e *testscript.Env) error {
			e.Vars = append(e.Vars, gitTestEnv(e.WorkDir)...)
			// Under -race every process would sleep for a second as it ends.
			e.Vars = append(e.Vars, "GORACE=atexit_sleep_ms=0")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"fleet":   cmdFleet,
			"names":   cmdNames,
			"replace": cmdReplace,
			"usage":   cmdUsage,
		},
	})
}

// gitTestEnv makes git the same everywhere, commit hashes included.
func gitTestEnv(home string) []string {
	return []string{
		"HOME=" + home, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null",
		"GIT_AUTHOR_NAME=Ann", "GIT_AUTHOR_EMAIL=ann@acme.example", "GIT_AUTHOR_DATE=2026-11-20T10:00:00Z",
		"GIT_COMMITTER_NAME=Ann", "GIT_COMMITTER_EMAIL=ann@acme.example", "GIT_COMMITTER_DATE=2026-11-20T10:00:00Z",
		"TMPDIR=" + home,
	}
}

// cmdFleet is `fleet DIR`: a bare repository up.git that holds DIR's files in
// one commit on main, and a clone of it called clone.
func cmdFleet(ts *testscript.TestScript, _ bool, args []string) {
	for _, line := range []string{
		"git init --quiet --bare --initial-branch=main up.git",
		"git init --quiet --initial-branch=main " + args[0],
		"git -C " + args[0] + " add .",
		"git -C " + args[0] + " commit --quiet --message=first",
		"git -C " + args[0] + " push --quiet ../up.git main",
		"git clone --quiet up.git clone",
	} {
		words := strings.Fields(line)
		ts.Check(ts.Exec(words[0], words[1:]...))
	}
}

// cmdNames is `names`: the file signers has a line for each public key here, in
// the name of <file>@acme.example.
func cmdNames(ts *testscript.TestScript, _ bool, _ []string) {
	keys, err := filepath.Glob(ts.MkAbs("*.pub"))
	ts.Check(err)
	var lines strings.Builder
	for _, file := range keys {
		key, err := os.ReadFile(file)
		ts.Check(err)
		fields := strings.Fields(string(key))
		lines.WriteString(strings.TrimSuffix(filepath.Base(file), ".pub") + "@acme.example " + fields[0] + " " + fields[1] + "\n")
	}
	ts.Check(os.WriteFile(ts.MkAbs("signers"), []byte(lines.String()), 0o600))
}

// cmdReplace is `replace FILE OLD NEW`.
func cmdReplace(ts *testscript.TestScript, _ bool, args []string) {
	name := ts.MkAbs(args[0])
	data, err := os.ReadFile(name)
	ts.Check(err)
	if !strings.Contains(string(data), args[1]) {
		ts.Fatalf("%s does not hold %q", args[0], args[1])
	}
	ts.Check(os.WriteFile(name, []byte(strings.ReplaceAll(string(data), args[1], args[2])), 0o644))
}

// cmdUsage is `usage COMMAND…`: the command says that it was called wrongly.
func cmdUsage(ts *testscript.TestScript, _ bool, args []string) {
	var exit *exec.ExitError
	if err := ts.Exec(args[0], args[1:]...); !errors.As(err, &exit) || exit.ExitCode() != 2 {
		ts.Fatalf("%v: %v, and not exit code 2", args, err)
	}
}
