package rig

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Proxy is a real HAProxy: a master and a worker, as its systemd unit runs
// them, with a frontend on loopback for each backend. Its runtime API stands at
// Socket and at TCP with level admin, and at Operator with level operator.
type Proxy struct {
	Socket, Operator string // paths
	TCP              string // host:port

	// Backends may be changed before a Reload or Start; their names may not.
	Backends []Backend
	// StateFile makes each Reload save what the servers were set to, and the
	// new worker load it.
	StateFile bool

	dir, program string
	ports        map[string]int
	log          output
	process      *os.Process
	ended        <-chan struct{}
}

// Backend is one of a Proxy.
type Backend struct {
	Name    string
	Servers []Server
	Mode    string   // "http" if empty, or "tcp"
	Lines   []string // more of its section in haproxy.cfg
}

// Server is one of a Backend.
type Server struct {
	Name, Address string // host:port
	Options       string // of its line: "check inter 100ms"
}

// ServerState is what HAProxy keeps of a server.
type ServerState struct {
	Op    int // 0 down, 2 up or without a check
	Admin int // a mask: 1 maintenance, 8 drain
}

// HAProxy starts one with these backends.
func HAProxy(t testing.TB, backends ...Backend) *Proxy {
	t.Helper()
	p := &Proxy{program: need(t, "haproxy", "haproxy"), Backends: backends, ports: map[string]int{}}
	// A socket's path may have no more than a hundred bytes.
	dir, err := os.MkdirTemp("", "haproxy")
	if err != nil {
		t.Fatal(err)
	}
	p.dir, p.Socket, p.Operator = dir, filepath.Join(dir, "admin.sock"), filepath.Join(dir, "operator.sock")
	p.TCP = net.JoinHostPort("127.0.0.1", strconv.Itoa(freePort(t)))
	for _, b := range backends {
		p.ports[b.Name] = freePort(t)
	}
	t.Cleanup(func() {
		p.Stop()
		_ = os.RemoveAll(dir)
	})
	p.Start(t)
	return p
}

// HAProxyAccepts fails the test if HAProxy finds a mistake in a haproxy.cfg.
func HAProxyAccepts(t testing.TB, path string) {
	t.Helper()
	out, err := exec.Command(need(t, "haproxy", "haproxy"), "-c", "-q", "-f", path).CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v\n%s", path, err, out)
	}
}

// Address is the runtime API's as drain "haproxy" takes it.
func (p *Proxy) Address() string { return "unix://" + p.Socket }

// URL is where the backend of that name is reached.
func (p *Proxy) URL(backend string) string { return "http://" + p.Frontend(backend) }

// Frontend is the same as host:port.
func (p *Proxy) Frontend(backend string) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.ports[backend]))
}

// Log is what HAProxy has printed.
func (p *Proxy) Log() string { return p.log.String() }

func (p *Proxy) config() string { return filepath.Join(p.dir, "haproxy.cfg") }
func (p *Proxy) state() string  { return filepath.Join(p.dir, "state") }

func (p *Proxy) write(t testing.TB) {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, `global
  stats socket %s mode 600 level admin expose-fd listeners
  stats socket %s mode 600 level operator
  stats socket ipv4@%s level admin
  stats timeout 10s
  maxconn 1000
  hard-stop-after 60s
  server-state-file %s
defaults
  timeout connect 2s
  timeout client 60s
  timeout server 60s
  timeout check 2s
  retries 3
  option redispatch
`, p.Socket, p.Operator, p.TCP, p.state())
	if p.StateFile {
		b.WriteString("  load-server-state-from-file global\n")
	}
	for _, back := range p.Backends {
		mode := back.Mode
		if mode == "" {
			mode = "http"
		}
		fmt.Fprintf(&b, "frontend to-%s\n  mode %s\n  bind %s\n  default_backend %s\nbackend %s\n  mode %s\n", back.Name, mode, p.Frontend(back.Name), back.Name, back.Name, mode)
		for _, line := range back.Lines {
			fmt.Fprintf(&b, "  %s\n", line)
		}
		for _, s := range back.Servers {
			fmt.Fprintf(&b, "  server %s %s %s\n", s.Name, s.Address, s.Options)
		}
	}
	if err := os.WriteFile(p.config(), []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(p.program, "-W", "-c", "-q", "-f", p.config()).CombinedOutput()
	if err != nil {
		t.Fatalf("haproxy.cfg: %v\n%s%s", err, out, b.String())
	}
}

// Start starts it, and returns when its worker answers.
func (p *Proxy) Start(t testing.TB) {
	t.Helper()
	_ = os.Remove(p.state()) // of an earlier reload
	p.write(t)
	p.launch(t)
	p.await(t, "to answer", func() bool { return p.worker() != 0 })
}

// launch starts the master. A gentler signal than SIGKILL is lost on a master that is in the middle of a reload; its
// workers end when they miss it.
func (p *Proxy) launch(t testing.TB) {
	t.Helper()
	cmd := exec.Command(p.program, "-W", "-f", p.config())
	cmd.Dir, cmd.Stdout, cmd.Stderr = p.dir, &p.log, &p.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	cmd.WaitDelay = 5 * time.Second
	ended := launch(t, cmd)
	p.process, p.ended = cmd.Process, ended
}

// Reload does what `systemctl reload haproxy` does, with the state saved before
// if StateFile says so, and returns when the new worker answers. The old one
// ends with its last session.
func (p *Proxy) Reload(t testing.TB) {
	t.Helper()
	p.write(t)
	if p.StateFile {
		state, err := p.command("show servers state")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p.state(), []byte(state), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	old := p.worker()
	if err := p.process.Signal(syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	p.await(t, "to be reloaded", func() bool { w := p.worker(); return w != 0 && w != old })
}

// Stop ends it at once, with all its sessions.
func (p *Proxy) Stop() {
	if p.process == nil {
		return
	}
	_ = syscall.Kill(-p.process.Pid, syscall.SIGKILL)
	<-p.ended
	p.process = nil
}

// Signal sends it a signal, such as SIGSTOP, under which it answers nobody.
func (p *Proxy) Signal(s syscall.Signal) { _ = syscall.Kill(-p.process.Pid, s) }

// Command sends one command to the runtime API, and returns the answer.
func (p *Proxy) Command(t testing.TB, command string) string {
	t.Helper()
	answer, err := p.command(command)
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, p.Log())
	}
	return strings.TrimSpace(answer)
}

// Servers are the states of all servers, by "backend/server".
func (p *Proxy) Servers(t testing.TB) map[string]ServerState {
	t.Helper()
	all := map[string]ServerState{}
	for line := range strings.Lines(p.Command(t, "show servers state")) {
		f := strings.Fields(line)
		if len(f) < 20 || f[0] == "#" {
			continue
		}
		op, _ := strconv.Atoi(f[5])
		admin, _ := strconv.Atoi(f[6])
		all[f[1]+"/"+f[3]] = ServerState{op, admin}
	}
	return all
}

// Await waits until a server's state is as wanted.
func (p *Proxy) Await(t testing.TB, server string, wanted func(ServerState) bool) {
	t.Helper()
	p.await(t, "to see "+server+" otherwise", func() bool { return wanted(p.Servers(t)[server]) })
}

func (p *Proxy) await(t testing.TB, what string, is func() bool) {
	t.Helper()
	const patience = 30 * time.Second
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); !is(); <-tick.C {
		if time.Since(began) > patience {
			t.Fatalf("HAProxy was waited for %s:\n%s", what, p.Log())
		}
	}
}

// worker is the process that answers, or 0.
func (p *Proxy) worker() int {
	answer, err := p.command("show info")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(answer, "\nPid: ")
	line, _, _ := strings.Cut(rest, "\n")
	pid, _ := strconv.Atoi(line)
	return pid
}

func (p *Proxy) command(command string) (string, error) {
	conn, err := net.DialTimeout("unix", p.Socket, 5*time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, command+"\n"); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(conn)
	return string(answer), err
}

// output is what a process prints, for several writers and readers.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}
