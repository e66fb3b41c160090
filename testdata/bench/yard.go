package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// services is how many every host of the comparison runs.
const services = 20

// yard is one temporary directory with everything in it: artifacts, one
// repository that all sides follow, its git server, and one host a side.
type yard struct {
	options
	dir    string
	agent  string // the hostagent under test
	port   int
	daemon *exec.Cmd
	digest map[string]string // artifact file -> digest
	notes  []string
}

func (y *yard) path(parts ...string) string {
	return filepath.Join(append([]string{y.dir}, parts...)...)
}

func newYard(ctx context.Context, o options) (*yard, error) {
	dir, err := os.MkdirTemp("", "drydock-bench-")
	if err != nil {
		return nil, err
	}
	y := &yard{options: o, dir: dir, agent: filepath.Join(dir, "hostagent"), digest: map[string]string{}}
	for _, step := range []func(context.Context) error{y.build, y.artifacts, y.serve, y.declare, y.hosts} {
		if err := step(ctx); err != nil {
			return y, err
		}
	}
	return y, nil
}

// close ends what still runs and removes the directory.
func (y *yard) close() error {
	var errs []error
	if y.daemon != nil && y.daemon.Process != nil {
		// Its group is its own: it was started so.
		errs = append(errs, syscall.Kill(-y.daemon.Process.Pid, syscall.SIGTERM))
		_ = y.daemon.Wait()
	}
	if y.keep {
		fmt.Fprintln(os.Stderr, "kept:", y.dir)
		return errors.Join(errs...)
	}
	return errors.Join(append(errs, os.RemoveAll(y.dir))...)
}

func (y *yard) build(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", y.agent, "./cmd/hostagent").CombinedOutput()
	if err != nil {
		return fmt.Errorf("build hostagent: %w\n%s", err, out)
	}
	return nil
}

// version is the release of a round; every one is new to every side.
func version(round int) string { return fmt.Sprintf("1.0.%d", round) }

func serviceName(i int) string { return fmt.Sprintf("svc%02d", i) }

// bumped is the service whose version changes.
const bumped = 1

// artifacts packs 200 kB that don't compress a release: one for each service,
// and one more of one service for each round.
func (y *yard) artifacts(context.Context) error {
	if err := os.MkdirAll(y.path("artifacts"), 0o755); err != nil {
		return err
	}
	random := rand.NewChaCha8([32]byte{})
	for i := 1; i <= services; i++ {
		last := 0
		if i == bumped {
			last = 2*(y.rounds+1) + 1
		}
		for r := 0; r <= last; r++ {
			app := make([]byte, 200_000)
			_, _ = random.Read(app)
			if err := y.pack(serviceName(i), version(r), app); err != nil {
				return err
			}
		}
	}
	sleeper := []byte("#!/bin/sh\nexec sleep 1000000\n")
	for i := range y.resting {
		if err := y.pack(fmt.Sprintf("rest%02d", i+1), "1.0.0", sleeper); err != nil {
			return err
		}
	}
	return nil
}

func (y *yard) pack(service, version string, app []byte) error {
	var buf bytes.Buffer
	zw := gzip.NewWriter(&buf)
	tw := tar.NewWriter(zw)
	var errs []error
	add := func(h tar.Header, data []byte) {
		h.Size, h.ModTime = int64(len(data)), time.Now()
		errs = append(errs, tw.WriteHeader(&h))
		_, err := tw.Write(data)
		errs = append(errs, err)
	}
	add(tar.Header{Name: "bin/", Typeflag: tar.TypeDir, Mode: 0o755}, nil)
	add(tar.Header{Name: "bin/app", Typeflag: tar.TypeReg, Mode: 0o755}, app)
	add(tar.Header{Name: "VERSION", Typeflag: tar.TypeReg, Mode: 0o644}, []byte(version+"\n"))
	name := service + "-" + version + ".tar.gz"
	errs = append(errs, tw.Close(), zw.Close(), os.WriteFile(y.path("artifacts", name), buf.Bytes(), 0o644))
	sum := sha256.Sum256(buf.Bytes())
	y.digest[name] = "sha256:" + hex.EncodeToString(sum[:])
	return errors.Join(errs...)
}

// serve starts the git server on a free port of loopback.
func (y *yard) serve(ctx context.Context) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	y.port = l.Addr().(*net.TCPAddr).Port
	l.Close()
	y.daemon = exec.Command("git", "daemon", "--reuseaddr", "--listen=127.0.0.1", fmt.Sprintf("--port=%d", y.port),
		"--base-path="+y.dir, "--export-all", y.dir)
	y.daemon.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := y.daemon.Start(); err != nil {
		return fmt.Errorf("git daemon: %w (apt-get install git-daemon-sysvinit)", err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", y.port), time.Second)
		if err == nil {
			return c.Close()
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return fmt.Errorf("git daemon does not answer: %w", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (y *yard) url(repo string) string { return fmt.Sprintf("git://127.0.0.1:%d/%s", y.port, repo) }

// git runs git outside of anything measured.
func (y *yard) git(ctx context.Context, dir string, args ...string) error {
	_, _, err := run(ctx, nil, append([]string{"git", "-C", dir, "-c", "user.name=Bench", "-c", "user.email=bench@acme.example"}, args...)...)
	return err
}

// declare makes the repository: for the peers a file with the version of each
// service and their own declarations, for Drydock the same services in HCL.
func (y *yard) declare(ctx context.Context) error {
	if err := y.git(ctx, y.dir, "init", "-q", "-b", "main", "work"); err != nil {
		return err
	}
	files := map[string]string{}
	for i := 1; i <= services; i++ {
		y.at(files, i, version(0))
	}
	for name, body := range y.peerFiles() {
		files[name] = body
	}
	if err := y.commit(ctx, files, "twenty services"); err != nil {
		return err
	}
	return y.git(ctx, y.dir, "clone", "-q", "--bare", "work", "repo.git")
}

// at writes one service at a version, for every side.
func (y *yard) at(files map[string]string, i int, version string) {
	s := serviceName(i)
	files["vars/"+s] = version + "\n"
	for env, running := range map[string]string{"plain": "", "asked": `running = ["/bin/true"]`} {
		files[env+"/"+s+".hcl"] = fmt.Sprintf(`service %[1]q {
  hosts = {}
  release {
    version = %[2]q
    digest  = %[3]q
  }
  artifact {
    source = "file://%[4]s/artifacts/%[1]s-${release.version}.tar.gz"
  }
  install "archive" {
    path = "%[4]s/srv-%[5]s/%[1]s"
  }
  start "command" {
    command = ["/usr/bin/touch", "%[4]s/srv-%[5]s/%[1]s/restarted"]
    %[6]s
  }
  rollout {
    min_healthy_time = "0s"
  }
}
`, s, version, y.digest[s+"-"+version+".tar.gz"], y.dir, env, running)
	}
}

// commit writes and commits files to the work tree.
func (y *yard) commit(ctx context.Context, files map[string]string, message string) error {
	for name, body := range files {
		p := y.path("work", name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(p, []byte(body), 0o644); err != nil {
			return err
		}
	}
	if err := y.git(ctx, y.path("work"), "add", "-A"); err != nil {
		return err
	}
	return y.git(ctx, y.path("work"), "commit", "-qm", message)
}

// bump merges one new version, as a pipeline does.
func (y *yard) bump(ctx context.Context, round int) error {
	files := map[string]string{}
	y.at(files, bumped, version(round))
	if err := y.commit(ctx, files, serviceName(bumped)+" "+version(round)); err != nil {
		return err
	}
	return y.git(ctx, y.path("work"), "push", "-q", y.path("repo.git"), "main")
}

// hosts makes a host for each side and converges it.
func (y *yard) hosts(ctx context.Context) error {
	for _, env := range []string{"plain", "asked", "rest", "many"} {
		repo := "repo.git"
		if env == "many" {
			repo = "many.git"
		}
		if err := os.WriteFile(y.path(env+".hcl"), []byte(fmt.Sprintf(`host {
  name   = "bench"
  labels = { role = "r7", zone = "a" }
}
environment = %q
source {
  url = %q
}
state = %q
`, env, y.url(repo), y.path("state-"+env))), 0o644); err != nil {
			return err
		}
	}
	if err := y.peers(ctx); err != nil {
		return err
	}
	for _, env := range []string{"plain", "asked"} {
		if _, err := y.once(ctx, env); err != nil {
			return err
		}
	}
	return nil
}

// once is one whole pass of ours.
func (y *yard) once(ctx context.Context, env string) (sample, error) {
	s, _, err := run(ctx, nil, y.agent, "once", "--config", y.path(env+".hcl"))
	return s, err
}

// installed fails unless a side really did run a version of a service.
func (y *yard) installed(side string, i int, version string) error {
	got, err := os.ReadFile(y.path("srv-"+side, serviceName(i), "current", "VERSION"))
	if err != nil {
		return err
	}
	if strings.TrimSpace(string(got)) != version {
		return fmt.Errorf("%s runs %s at %s and not %s: it did not do the work", side, serviceName(i), strings.TrimSpace(string(got)), version)
	}
	return nil
}
