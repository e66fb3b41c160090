package api

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if state := os.Getenv("API_TEST_CLIENT"); state != "" { // as another user, or as a dead agent
		if os.Getenv("API_TEST_ROLE") == "agent" {
			s, err := Listen(state, &agent{})
			if err != nil {
				os.Stdout.WriteString(err.Error())
				os.Exit(1)
			}
			os.Stdout.WriteString("listening\n")
			_ = s.Serve()
		}
		if err := NewClient(state).Pause(context.Background()); err != nil {
			os.Stdout.WriteString(err.Error())
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

type missing struct{ error }

func (missing) NotFound() bool { return true }

type agent struct {
	calls []string
	hang  chan struct{} // Once waits for its context and closes it
}

func (a *agent) note(s string) error { a.calls = append(a.calls, s); return nil }

func (a *agent) Status(context.Context) (any, error) { return map[string]string{"host": "web-1"}, nil }
func (a *agent) Plan(context.Context) (any, error) {
	return nil, errors.New("the source does not answer")
}
func (a *agent) CheckHost(context.Context) (any, error) {
	return map[string]int{"missing": 3}, nil
}
func (a *agent) Once(ctx context.Context) (any, error) {
	if a.hang != nil {
		close(a.hang)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return []int{1}, nil
}
func (a *agent) Sync(context.Context) error   { return a.note("sync") }
func (a *agent) Pause(context.Context) error  { return a.note("pause") }
func (a *agent) Resume(context.Context) error { return a.note("resume") }
func (a *agent) Drain(_ context.Context, s string) error {
	if s == "other" {
		return missing{errors.New("there is no service other")}
	}
	return a.note("drain " + s)
}
func (a *agent) Undrain(_ context.Context, s string) (string, error) {
	return s + " is in already", a.note("undrain " + s)
}

func serve(t *testing.T, state string, a Agent) *Server {
	t.Helper()
	s, err := Listen(state, a)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve() }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(filepath.Join(state, SocketName)); err == nil {
			t.Error("the socket is still there")
		}
	})
	return s
}

func TestEveryCall(t *testing.T) {
	state, a := t.TempDir(), &agent{}
	serve(t, state, a)
	c, ctx := NewClient(state), t.Context()
	var status struct{ Host string }
	if err := c.Status(ctx, &status); err != nil || status.Host != "web-1" {
		t.Errorf("status: %v %v", status, err)
	}
	var report []int
	if err := c.Once(ctx, &report); err != nil || len(report) != 1 {
		t.Errorf("once: %v %v", report, err)
	}
	var check struct{ Missing int }
	if err := c.CheckHost(ctx, &check); err != nil || check.Missing != 3 {
		t.Errorf("check-host: %v %v", check, err)
	}
	if err := errors.Join(c.Sync(ctx), c.Pause(ctx), c.Resume(ctx), c.Drain(ctx, "web")); err != nil {
		t.Error(err)
	}
	if note, err := c.Undrain(ctx, "web"); err != nil || note != "web is in already" {
		t.Errorf("undrain: %q %v", note, err)
	}
	if got := strings.Join(a.calls, ", "); got != "sync, pause, resume, drain web, undrain web" {
		t.Error(got)
	}
	var refused *Refused
	if err := c.Plan(ctx, &status); !errors.As(err, &refused) || refused.Status != 500 || err.Error() != "the source does not answer" {
		t.Errorf("plan: %v", err)
	}
	if err := c.Drain(ctx, "other"); !errors.As(err, &refused) || refused.Status != 404 {
		t.Errorf("no such service: %v", err)
	}
	if err := c.Drain(ctx, "../x"); !errors.As(err, &refused) || refused.Status != 400 {
		t.Errorf("bad name: %v", err)
	}
	info, err := os.Lstat(filepath.Join(state, SocketName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v %v", info.Mode(), err)
	}
}

func TestStatePathTooLongForASocket(t *testing.T) {
	state := filepath.Join(t.TempDir(), strings.Repeat("d", 120), strings.Repeat("e", 120))
	if err := os.MkdirAll(state, 0o700); err != nil {
		t.Fatal(err)
	}
	serve(t, state, &agent{})
	if err := NewClient(state).Pause(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestNoAgent(t *testing.T) {
	state := t.TempDir()
	for _, c := range []*Client{NewClient(state), NewClient(filepath.Join(state, "missing"))} {
		if err := c.Sync(t.Context()); !errors.Is(err, ErrNoAgent) {
			t.Errorf("got %v", err)
		}
	}
}

func TestSocketOfADeadAgentIsReplacedALivingOnesNever(t *testing.T) {
	state := t.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "API_TEST_CLIENT="+state, "API_TEST_ROLE=agent")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	line := make([]byte, 10)
	if _, err := io.ReadFull(out, line); err != nil || string(line) != "listening\n" {
		t.Fatal(string(line), err)
	}
	if _, err := Listen(state, &agent{}); err == nil || !strings.Contains(err.Error(), "another agent") {
		t.Fatalf("a living agent's socket: %v", err)
	}
	if err := NewClient(state).Pause(t.Context()); err != nil {
		t.Errorf("it is harmed: %v", err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if err := NewClient(state).Pause(t.Context()); !errors.Is(err, ErrNoAgent) {
		t.Errorf("a dead agent: %v", err)
	}
	serve(t, state, &agent{})
	if err := NewClient(state).Pause(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAForeignFileIsLeftAlone(t *testing.T) {
	state := t.TempDir()
	path := filepath.Join(state, SocketName)
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(state, &agent{}); err == nil {
		t.Error("it was replaced")
	}
	if b, _ := os.ReadFile(path); string(b) != "mine" {
		t.Error("it was changed")
	}
}

func TestOtherUsersAreRefused(t *testing.T) {
	if allowed(1000, 0) || allowed(1000, 999) || !allowed(0, 999) || !allowed(999, 999) {
		t.Error("wrong user allowed")
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root: run the tests as root")
	}
	// Also where somebody opened the directory and the socket to everybody.
	state, err := os.MkdirTemp("/tmp", "api")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(state) })
	a := &agent{}
	serve(t, state, a)
	binary := filepath.Join(state, "client")
	b, err := os.ReadFile(os.Args[0])
	if err == nil {
		err = os.WriteFile(binary, b, 0o755)
	}
	if err := errors.Join(err, os.Chmod(state, 0o755), os.Chmod(filepath.Join(state, SocketName), 0o666)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary)
	cmd.Env = []string{"API_TEST_CLIENT=" + state}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := cmd.CombinedOutput(); err == nil || len(a.calls) != 0 {
		t.Errorf("another user paused the agent: %s %v", out, a.calls)
	}
}

func TestLargeBodyIsRefused(t *testing.T) {
	state := t.TempDir()
	a := &agent{}
	read := make(chan error, 1)
	h := http.MaxBytesHandler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		read <- err
	}), maxBody)
	s, err := Listen(state, a)
	if err != nil {
		t.Fatal(err)
	}
	s.http.Handler = h
	done := make(chan error, 1)
	go func() { done <- s.Serve() }()
	conn := raw(t, state)
	_, _ = conn.Write([]byte("POST /v1/pause HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"))
	_, _ = conn.Write(bytes.Repeat([]byte("x"), maxBody+1))
	if err := <-read; err == nil {
		t.Error("the body was read whole")
	}
	_ = conn.Close()
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	<-done
}

func raw(t *testing.T, state string) net.Conn {
	t.Helper()
	conn, err := net.Dial("unix", filepath.Join(state, SocketName))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func TestCloseEndsARequestUnderWay(t *testing.T) {
	state := t.TempDir()
	a := &agent{hang: make(chan struct{})}
	s, err := Listen(state, a)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 2)
	go func() { done <- s.Serve() }()
	asked := make(chan error, 1)
	go func() { asked <- NewClient(state).Once(context.Background(), new(any)) }()
	<-a.hang
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-asked; err == nil {
		t.Error("the caller was told of success")
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
