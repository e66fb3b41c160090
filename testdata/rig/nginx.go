package rig

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// Web is an nginx in front of one upstream, whose servers stand in a file of
// their own.
type Web struct {
	Dir          string // its prefix; its own
	Conf         string // its configuration
	UpstreamFile string // included into the upstream block "app"
	Pid          int    // of the master

	program string
	port    int
	process *os.Process
	ended   <-chan struct{}
	log     bytes.Buffer
}

// Nginx starts one with two workers and these lines in its upstream file, and
// returns when it answers.
func Nginx(t testing.TB, upstream string) *Web {
	t.Helper()
	w := &Web{program: need(t, "nginx", "nginx-light"), Dir: t.TempDir(), port: freePort(t)}
	w.Conf, w.UpstreamFile = filepath.Join(w.Dir, "nginx.conf"), filepath.Join(w.Dir, "app.conf")
	w.write(t, w.UpstreamFile, upstream)
	user := ""
	if os.Geteuid() == 0 {
		user = "user root root;\n" // its prefix is a test's, which nobody else may enter
	}
	w.write(t, w.Conf, user+fmt.Sprintf(`daemon off;
worker_processes 2;
pid nginx.pid;
error_log error.log;
events { worker_connections 256; }
http {
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    upstream app {
        include %s;
    }
    server {
        listen 127.0.0.1:%d;
        location = /ready { return 204; }
        location / {
            proxy_pass http://app;
            proxy_next_upstream off;
        }
    }
}
`, w.UpstreamFile, w.port))
	w.launch(t)
	t.Cleanup(w.Stop)
	w.await(t)
	return w
}

func (w *Web) write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// launch starts the master. On SIGTERM it ends its workers too.
func (w *Web) launch(t testing.TB) {
	t.Helper()
	cmd := exec.Command(w.program, "-p", w.Dir, "-e", filepath.Join(w.Dir, "error.log"), "-c", w.Conf)
	cmd.Stdout, cmd.Stderr = &w.log, &w.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
	ended := launch(t, cmd)
	w.process, w.ended, w.Pid = cmd.Process, ended, cmd.Process.Pid
}

func (w *Web) await(t testing.TB) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); ; <-tick.C {
		resp, err := http.Get("http://" + w.Addr() + "/ready")
		if err == nil {
			resp.Body.Close()
			return
		}
		select {
		case <-w.ended:
			t.Fatalf("nginx ended: %s%s", w.log.String(), w.ErrorLog())
		default:
		}
		if time.Since(began) > time.Minute {
			t.Fatalf("nginx does not answer: %v", err)
		}
	}
}

// Addr is where it listens, host and port.
func (w *Web) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(w.port)) }

// Reload is the command that makes it read its configuration again.
func (w *Web) Reload() []string {
	return []string{w.program, "-p", w.Dir, "-e", filepath.Join(w.Dir, "error.log"), "-c", w.Conf, "-s", "reload"}
}

// ErrorLog is what it has logged.
func (w *Web) ErrorLog() string {
	text, _ := os.ReadFile(filepath.Join(w.Dir, "error.log"))
	return string(text)
}

// Stop ends it with all its workers, whatever they serve.
func (w *Web) Stop() {
	select {
	case <-w.ended:
		return
	default:
	}
	_ = w.process.Signal(syscall.SIGTERM)
	late := time.NewTimer(20 * time.Second)
	defer late.Stop()
	select {
	case <-w.ended:
	case <-late.C:
		_ = syscall.Kill(-w.Pid, syscall.SIGKILL)
		<-w.ended
	}
}
