package gitsource

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// serveTCP runs handle for each connection until the test ends.
func serveTCP(t testing.TB, handle func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	conns := map[net.Conn]bool{}
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns[c] = true
			mu.Unlock()
			wg.Go(func() {
				handle(c)
				c.Close()
				mu.Lock()
				delete(conns, c)
				mu.Unlock()
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for c := range conns {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return l.Addr().String()
}

// gitDaemon is the real git daemon, one process a connection.
func gitDaemon(t testing.TB, dir string) (url string) {
	t.Helper()
	daemon := filepath.Join(run(t, "", "git", "--exec-path"), "git-daemon")
	if _, err := os.Stat(daemon); err != nil {
		t.Skip("needs git daemon: apt-get install git-daemon-sysvinit")
	}
	addr := serveTCP(t, func(c net.Conn) {
		pipeTo(c, exec.Command(daemon, "--inetd", "--export-all", "--base-path="+dir))
	})
	return "git://" + addr + "/"
}

// pipeTo runs a command on a connection, which it ends by closing its input.
func pipeTo(c io.ReadWriter, cmd *exec.Cmd) int {
	cmd.Env = clean()
	in, err := cmd.StdinPipe()
	if err != nil {
		return 1
	}
	cmd.Stdout = c
	if err := cmd.Start(); err != nil {
		return 1
	}
	go func() {
		_, _ = io.Copy(in, c)
		in.Close()
	}()
	_ = cmd.Wait()
	return cmd.ProcessState.ExitCode()
}

// httpsGit is git's own http-backend over TLS, behind a check of the request.
func httpsGit(t testing.TB, dir string, allow func(w http.ResponseWriter, r *http.Request) bool) (url, ca string) {
	t.Helper()
	backend := &cgi.Handler{
		Stderr: io.Discard,
		Path:   filepath.Join(run(t, "", "git", "--exec-path"), "git-http-backend"),
		Env:    []string{"GIT_PROJECT_ROOT=" + dir, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"},
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if allow == nil || allow(w, r) {
			backend.ServeHTTP(w, r)
		}
	}))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv.URL + "/", certificate(t, srv)
}

func certificate(t testing.TB, srv *httptest.Server) string {
	t.Helper()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	if err := os.WriteFile(ca, block, 0o600); err != nil {
		t.Fatal(err)
	}
	return ca
}

// sshRig is an SSH server with a host key, and the files a client needs.
type sshRig struct {
	addr, key, known string
}

// sshServer runs exec for each command that an authenticated client sends.
func sshServer(t testing.TB, exec func(command string, c ssh.Channel)) sshRig {
	t.Helper()
	host, client := newKey(t), newKey(t)
	config := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, k ssh.PublicKey) (*ssh.Permissions, error) {
		if string(k.Marshal()) == string(client.PublicKey().Marshal()) {
			return nil, nil
		}
		return nil, io.EOF
	}}
	config.AddHostKey(host)
	// A second key of another type, which is not in known_hosts: a client that
	// does not say which one it knows gets the wrong one.
	config.AddHostKey(newECDSA(t))
	addr := serveTCP(t, func(c net.Conn) { serveSSH(c, config, exec) })
	dir := t.TempDir()
	rig := sshRig{addr, filepath.Join(dir, "key"), filepath.Join(dir, "known_hosts")}
	if err := os.WriteFile(rig.key, pem.EncodeToMemory(client.block), 0o600); err != nil {
		t.Fatal(err)
	}
	line := knownhosts.Line([]string{addr}, host.PublicKey())
	if err := os.WriteFile(rig.known, []byte(line+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return rig
}

func (r sshRig) use(o *Options) { o.SSHKey, o.KnownHosts = r.key, r.known }

func serveSSH(c net.Conn, config *ssh.ServerConfig, exec func(string, ssh.Channel)) {
	conn, channels, requests, err := ssh.NewServerConn(c, config)
	if err != nil {
		return
	}
	defer conn.Close()
	var wg sync.WaitGroup
	wg.Go(func() { ssh.DiscardRequests(requests) })
	for ch := range channels {
		channel, reqs, err := ch.Accept()
		if err != nil {
			break
		}
		wg.Go(func() {
			for r := range reqs {
				ok := r.Type == "exec" && len(r.Payload) > 4
				_ = r.Reply(ok, nil)
				if ok {
					exec(string(r.Payload[4:]), channel)
					_, _ = channel.SendRequest("exit-status", false, []byte{0, 0, 0, 0})
					channel.Close()
				}
			}
		})
	}
	wg.Wait()
}

// uploadPack serves repositories below dir as sshd with git does.
func uploadPack(dir string) func(string, ssh.Channel) {
	return func(command string, c ssh.Channel) {
		name, path, _ := strings.Cut(command, " ")
		if name != "git-upload-pack" {
			return
		}
		cmd := exec.Command("git", "-c", "safe.directory=*", "upload-pack", filepath.Join(dir, strings.Trim(path, "'")))
		cmd.Stderr = c.Stderr()
		pipeTo(c, cmd)
	}
}

type key struct {
	ssh.Signer
	block *pem.Block
}

func newKey(t testing.TB) key {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return key{signer, block}
}

func newECDSA(t testing.TB) ssh.Signer {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}
