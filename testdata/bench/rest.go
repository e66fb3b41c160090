package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// restingService is a process that sleeps; its check asks this bench at port.
func (y *yard) restingService(i, port int) string {
	name := fmt.Sprintf("rest%02d", i)
	return fmt.Sprintf(`service %[1]q {
  hosts = {}
  release {
    version = "1.0.0"
    digest  = %[2]q
  }
  artifact {
    source = "file://%[3]s/artifacts/%[1]s-${release.version}.tar.gz"
  }
  install "archive" {
    path = "%[3]s/srv-rest/%[1]s"
  }
  start "process" {
    command = ["bin/app"]
  }
  check "http" {
    url    = "http://127.0.0.1:%[4]d/healthz"
    expect = { status = 200, body = release.version }
  }
  rollout {
    min_healthy_time = "0s"
  }
}
`, name, y.digest[name+"-1.0.0.tar.gz"], y.dir, port)
}

// rest: twenty processes, a check of each, nothing to do.
func (y *yard) rest(ctx context.Context) (fs []figure, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok 1.0.0") })}
	go func() { _ = server.Serve(l) }()
	defer server.Close()
	files := map[string]string{}
	for i := range y.resting {
		files[fmt.Sprintf("rest/svc%02d.hcl", i+1)] = y.restingService(i+1, l.Addr().(*net.TCPAddr).Port)
	}
	if err := y.push(ctx, files, "where the checks ask"); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, y.endResting(ctx)) }()
	a, err := y.start(ctx, "rest")
	if err != nil {
		return nil, err
	}
	defer func() { err = a.stop(err) }()
	self, children, err := usage(a.cmd.Process.Pid)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	var held []float64
	for at := time.NewTicker(time.Second); time.Since(began) < y.options.rest; {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-at.C:
		}
		m, err := private(a.cmd.Process.Pid)
		if err != nil {
			return nil, err
		}
		held = append(held, float64(m)/(1<<20))
	}
	self2, children2, err := usage(a.cmd.Process.Pid)
	if err != nil {
		return nil, err
	}
	share := (self2 - self + children2 - children).Seconds() / time.Since(began).Seconds() * 100
	last := held[len(held)-1]
	return []figure{
		alone("5 agent at rest, 20 services", "private memory", "MiB", spread{spreadOf(held).Median, held[0], last}, 40e6/(1<<20)),
		alone("5 agent at rest, 20 services", "of a core", "%", spread{share, share, share}, 0.5),
	}, nil
}

// endResting stops what start "process" keeps running past its agent, the way
// a person would: by a commit.
func (y *yard) endResting(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	files := map[string]string{}
	for i := range y.resting {
		files[fmt.Sprintf("rest/svc%02d.hcl", i+1)] = fmt.Sprintf("removed \"rest%02d\" {\n  hosts = {}\n}\n", i+1)
	}
	err := y.push(ctx, files, "removed")
	if err == nil {
		_, err = y.once(ctx, "rest")
	}
	return errors.Join(err, y.sweep())
}

func (y *yard) push(ctx context.Context, files map[string]string, message string) error {
	if err := y.commit(ctx, files, message); err != nil {
		return err
	}
	return y.git(ctx, y.path("work"), "push", "-q", y.path("repo.git"), "main")
}

// sweep kills what still works inside the yard: services that were not removed.
func (y *yard) sweep() error {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || y.daemon != nil && pid == y.daemon.Process.Pid {
			continue
		}
		cwd, _ := os.Readlink("/proc/" + e.Name() + "/cwd")
		if strings.HasPrefix(cwd, y.dir+"/") {
			fmt.Fprintf(os.Stderr, "bench: process %d was left in %s\n", pid, cwd)
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	return nil
}
