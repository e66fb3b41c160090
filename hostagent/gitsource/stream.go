package gitsource

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"drydock/hostagent/outbound"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
)

// stream is a session over one connection: the git protocol's own, or SSH.
type stream struct {
	in      io.Writer
	out     io.Reader
	release func()
	said    func() string // what came on standard error, if anything
	adv     advertised
}

func (s *stream) list(ref string) (advertised, error) {
	var err error
	if s.adv, err = readAdvertised(s.out, ref); err != nil {
		if said := s.said(); said != "" && !typed(err) {
			return s.adv, refused(said)
		}
	}
	return s.adv, err
}

func (s *stream) pack(wants, haves []plumbing.Hash, _ *objects) (io.Reader, error) {
	if _, err := s.in.Write(request(s.adv.caps, wants, haves)); err != nil {
		return nil, err
	}
	return readPack(s.out, s.adv.caps)
}

func (s *stream) close() {
	// A polite end, so that the server does not log an error. It may be gone.
	_, _ = io.WriteString(s.in, "0000")
	s.release()
}

func dialGit(ctx context.Context, u *url.URL) (session, error) {
	conn, err := dialTCP(ctx, withPort(u, "9418"))
	if err != nil {
		return nil, err
	}
	s := &stream{in: conn, out: conn, release: guard(ctx, conn), said: func() string { return "" }}
	line := fmt.Sprintf("git-upload-pack %s\x00host=%s\x00", u.Path, u.Host)
	if _, err := fmt.Fprintf(conn, "%04x%s", len(line)+4, line); err != nil {
		s.release()
		return nil, err
	}
	return s, nil
}

func dialTCP(ctx context.Context, addr string) (net.Conn, error) {
	conn, err := outbound.Dialer(0).DialContext(ctx, "tcp", addr)
	if refused := outbound.Explain(err); refused != err {
		err = fail(ErrDenied, "%w", refused)
	}
	return conn, err
}

func withPort(u *url.URL, port string) string {
	if p := u.Port(); p != "" {
		port = p
	}
	return net.JoinHostPort(u.Hostname(), port)
}

func dialSSH(ctx context.Context, u *url.URL, o Options) (session, error) {
	addr := withPort(u, "22")
	config, err := sshConfig(u, addr, o)
	if err != nil {
		return nil, err
	}
	conn, err := dialTCP(ctx, addr)
	if err != nil {
		return nil, err
	}
	release := guard(ctx, conn)
	c, channels, requests, err := ssh.NewClientConn(conn, addr, config)
	if err != nil {
		release()
		return nil, sshRefused(err, u)
	}
	client := ssh.NewClient(c, channels, requests)
	s, err := runUploadPack(client, sshPath(u))
	if err != nil {
		release()
		return nil, err
	}
	s.release = func() {
		client.Close()
		release()
		_ = client.Wait() // its goroutines are gone
	}
	return s, nil
}

func runUploadPack(client *ssh.Client, path string) (*stream, error) {
	run, err := client.NewSession()
	if err != nil {
		return nil, err
	}
	s := &stream{}
	if s.in, err = run.StdinPipe(); err != nil {
		return nil, err
	}
	if s.out, err = run.StdoutPipe(); err != nil {
		return nil, err
	}
	said := &firstWords{}
	run.Stderr = said
	s.said = func() string {
		// Standard error may come after the end of the output. The wait ends
		// with the connection, and that with its context.
		_ = run.Wait()
		return said.String()
	}
	return s, run.Start("git-upload-pack '" + strings.ReplaceAll(path, "'", `'\''`) + "'")
}

// sshPath is the path as the server's shell shall see it.
func sshPath(u *url.URL) string {
	if u.Opaque != "" {
		return u.Opaque
	}
	if strings.HasPrefix(u.Path, "/~") {
		return u.Path[1:]
	}
	return u.Path
}

func sshConfig(u *url.URL, addr string, o Options) (*ssh.ClientConfig, error) {
	pem, err := readSmall(o.SSHKey, 1<<20)
	if err != nil {
		return nil, fail(ErrDenied, "the SSH key cannot be read: %w", err)
	}
	key, err := ssh.ParsePrivateKey(pem)
	if err != nil {
		return nil, fail(ErrDenied, "the SSH key %s: %w. It must be a private key without passphrase", o.SSHKey, err)
	}
	files, err := knownHostsFiles(o.KnownHosts)
	if err != nil {
		return nil, err
	}
	db, err := knownhosts.NewDB(files...)
	if err != nil {
		return nil, fail(ErrDenied, "known_hosts: %w", err)
	}
	algorithms := db.HostKeyAlgorithms(addr)
	if len(algorithms) == 0 {
		return nil, fail(ErrDenied, "%s does not stand in %s; add it with ssh-keyscan, after comparing the key", addr, strings.Join(files, ", "))
	}
	user := "git"
	if u.User != nil && u.User.Username() != "" {
		user = u.User.Username()
	}
	return &ssh.ClientConfig{
		User: user, Auth: []ssh.AuthMethod{ssh.PublicKeys(key)},
		// Without the algorithms the server would choose a key that the file
		// does not have, and look like an impostor.
		HostKeyCallback: db.HostKeyCallback(), HostKeyAlgorithms: algorithms,
		Timeout: o.Timeout,
	}, nil
}

func knownHostsFiles(file string) ([]string, error) {
	if file != "" {
		return []string{file}, nil
	}
	candidates := []string{"/etc/ssh/ssh_known_hosts"}
	if home, err := os.UserHomeDir(); err == nil {
		candidates = append(candidates, filepath.Join(home, ".ssh", "known_hosts"))
	}
	var files []string
	for _, f := range candidates {
		if _, err := os.Stat(f); !errors.Is(err, fs.ErrNotExist) {
			files = append(files, f)
		}
	}
	if len(files) == 0 {
		return nil, fail(ErrDenied, "there is no known_hosts file; name one as source.known_hosts")
	}
	return files, nil
}

func sshRefused(err error, u *url.URL) error {
	switch {
	case knownhosts.IsHostKeyChanged(err):
		return fail(ErrDenied, "the host key of %s is not the known one: somebody may stand in between. Compare it, then correct known_hosts: %w", u.Host, err)
	case knownhosts.IsHostUnknown(err):
		return fail(ErrDenied, "the host %s is not in known_hosts; add it with ssh-keyscan, after comparing the key: %w", u.Host, err)
	case strings.Contains(err.Error(), "unable to authenticate"):
		return fail(ErrDenied, "%s does not accept the SSH key; give its public half read access there: %w", u.Host, err)
	}
	return err
}

// firstWords keeps the beginning of what a server complains about.
type firstWords struct {
	mu  sync.Mutex
	buf []byte
}

func (w *firstWords) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf = append(w.buf, p[:min(len(p), 1024-len(w.buf))]...)
	return len(p), nil
}

func (w *firstWords) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.TrimSpace(string(w.buf))
}
