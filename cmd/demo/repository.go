package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// declaration is demo/web.hcl. The times are short because this is a demo;
// every one of them is a default elsewhere.
const declaration = `service "web" {
  hosts = {}

  release {
    version = "1.0.0"
    digest  = "%[1]s"
  }

  artifact {
    source = "http://%[2]s/web-${release.version}.tar.gz"
  }

` + drainBlock + `
  install "archive" {
    path = "%[4]s"
  }

  start "process" {
    command      = ["web"]
    env          = { ` + envPort + ` = "%[5]s", ` + envDemo + ` = "%[6]s", ` + envLine + ` = "%[7]s" }
    stop_timeout = "8s"
    log          = "%[8]s"
  }

  check "http" {
    url      = "http://127.0.0.1:%[5]s/healthz"
    expect   = { status = 200, body = release.version }
    interval = "100ms"
    timeout  = "2s"
  }

  rollout {
    min_healthy_time = "1s"
    healthy_deadline = "10s"
  }
}
`

// drainBlock is the block that the last act takes out.
const drainBlock = `  drain "file" {
    path = "%[3]s"
    wait = "300ms"
  }
`

const agentConfig = `host {
  name = "web-1"
}
environment = "%[1]s"
source {
  url  = "%[2]s"
  poll = "1s"
}
state = "%[3]s"
`

const (
	environment = "demo"
	specFile    = environment + "/web.hcl"
)

// repository is a clone of the bare repository, as a person or a pipeline has
// one.
type repository struct {
	bare, dir string
	env       []string
}

// newRepository makes the bare repository, a clone of it, and the first commit.
func newRepository(ctx context.Context, dir, web string) (*repository, error) {
	r := &repository{bare: filepath.Join(dir, "releases.git"), dir: filepath.Join(dir, "clone"), env: gitEnv(dir)}
	if _, err := exec.LookPath("git"); err != nil {
		return nil, errors.New("the demo needs git, and there is none.\nInstall it: apt-get install git")
	}
	for _, args := range [][]string{
		{"init", "--quiet", "--bare", "--initial-branch=main", r.bare},
		{"init", "--quiet", "--initial-branch=main", r.dir},
		{"-C", r.dir, "remote", "add", "origin", r.bare},
	} {
		if _, err := r.run(ctx, "git", args...); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(filepath.Join(r.dir, environment), 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(r.dir, specFile), []byte(web), 0o644); err != nil {
		return nil, err
	}
	if err := r.commit(ctx, "Declare web 1.0.0"); err != nil {
		return nil, err
	}
	return r, r.push(ctx)
}

// gitEnv keeps this machine's git configuration out of the demo, and the demo
// out of it.
func gitEnv(home string) []string {
	env := []string{"HOME=" + home, "GIT_CONFIG_GLOBAL=" + os.DevNull, "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0"}
	for _, who := range []string{"AUTHOR", "COMMITTER"} {
		env = append(env, "GIT_"+who+"_NAME=Alice", "GIT_"+who+"_EMAIL=alice@acme.example")
	}
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "GIT_") && !strings.HasPrefix(kv, "HOME=") {
			env = append(env, kv)
		}
	}
	return env
}

// run runs a program and returns what it printed to stdout.
func (r *repository) run(ctx context.Context, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = r.env
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", filepath.Base(name), strings.Join(args, " "), err, bytes.TrimSpace(errs.Bytes()))
	}
	return strings.TrimSpace(out.String()), nil
}

func (r *repository) git(ctx context.Context, args ...string) (string, error) {
	return r.run(ctx, "git", append([]string{"-C", r.dir}, args...)...)
}

func (r *repository) commit(ctx context.Context, message string) error {
	if _, err := r.git(ctx, "add", specFile); err != nil {
		return err
	}
	_, err := r.git(ctx, "commit", "--quiet", "--message", message)
	return err
}

func (r *repository) push(ctx context.Context) error {
	_, err := r.git(ctx, "push", "--quiet", "--set-upstream", "origin", "main")
	return err
}

// head is the newest commit's hash.
func (r *repository) head(ctx context.Context) (string, error) {
	return r.git(ctx, "rev-parse", "HEAD")
}

// lastCommit is the newest commit as `git log --oneline` has it.
func (r *repository) lastCommit(ctx context.Context) (string, error) {
	return r.git(ctx, "log", "-1", "--no-color", "--format=%h %s")
}

// lastDiff is what the newest commit changed, without the lines around it.
func (r *repository) lastDiff(ctx context.Context) ([]string, error) {
	out, err := r.git(ctx, "show", "--format=", "--unified=0", "--no-color", "HEAD")
	if err != nil {
		return nil, err
	}
	digests := regexp.MustCompile(`(sha256:[0-9a-f]{12})[0-9a-f]+`)
	var lines []string
	for line := range strings.Lines(out) {
		line = strings.TrimRight(line, "\n")
		if (strings.HasPrefix(line, "+") || strings.HasPrefix(line, "-")) &&
			!strings.HasPrefix(line, "+++") && !strings.HasPrefix(line, "---") {
			lines = append(lines, digests.ReplaceAllString(line, "$1…"))
		}
	}
	return lines, nil
}

// cutOut removes text, which must be there once, from the declaration.
func (r *repository) cutOut(text string) error {
	file := filepath.Join(r.dir, specFile)
	src, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if strings.Count(string(src), text) != 1 {
		return fmt.Errorf("%s does not hold once what is to be taken out", specFile)
	}
	return os.WriteFile(file, []byte(strings.Replace(string(src), text, "", 1)), 0o644)
}
