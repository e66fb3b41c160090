package rig

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// SSHKeygen is the path of ssh-keygen.
func SSHKeygen(t testing.TB) string {
	t.Helper()
	return need(t, "ssh-keygen", "openssh-client")
}

// SSHKey makes a key pair with ssh-keygen in a directory of its own, and is the
// private half's path; its public half has .pub at the end. The arguments are
// further ones of ssh-keygen: "-t", "ed25519".
func SSHKey(t testing.TB, passphrase string, args ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	cmd := exec.Command(SSHKeygen(t), append([]string{"-q", "-N", passphrase, "-C", "test@rig", "-f", path}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen %q: %v\n%s", args, err, out)
	}
	return path
}

// KeyAgent is a real ssh-agent.
type KeyAgent struct {
	Socket string
	add    string // the path of ssh-add
}

// SSHAgent starts an ssh-agent that holds no key.
func SSHAgent(t testing.TB) *KeyAgent {
	t.Helper()
	program := need(t, "ssh-agent", "openssh-client")
	// A socket's path may have no more than a hundred bytes.
	dir, err := os.MkdirTemp("", "agent")
	if err != nil {
		t.Fatal(err)
	}
	a := &KeyAgent{Socket: filepath.Join(dir, "sock"), add: need(t, "ssh-add", "openssh-client")}
	cmd := exec.Command(program, "-D", "-a", a.Socket)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
	ended := launch(t, cmd)
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
		_ = os.RemoveAll(dir)
	})
	a.await(t, ended)
	return a
}

func (a *KeyAgent) await(t testing.TB, ended <-chan struct{}) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); time.Since(began) < time.Minute; <-tick.C {
		if conn, err := net.Dial("unix", a.Socket); err == nil {
			_ = conn.Close()
			return
		}
		select {
		case <-ended:
			t.Fatal("ssh-agent ended")
		default:
		}
	}
	t.Fatal("ssh-agent does not answer")
}

// Env is the environment for programs that are to use the agent.
func (a *KeyAgent) Env() []string { return append(os.Environ(), "SSH_AUTH_SOCK="+a.Socket) }

// Add gives the agent a private key, by ssh-add with further arguments.
func (a *KeyAgent) Add(t testing.TB, key string, args ...string) {
	t.Helper()
	cmd := exec.Command(a.add, append(append([]string{"-q"}, args...), key)...)
	cmd.Env = a.Env()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ssh-add %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}
