package sshsig_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"drydock/hostagent/sshsig"
	"drydock/testdata/rig"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// kinds are the keys that ssh-keygen can make without hardware.
var kinds = map[string][]string{
	"ed25519":   {"-t", "ed25519"},
	"ecdsa-256": {"-t", "ecdsa", "-b", "256"},
	"ecdsa-384": {"-t", "ecdsa", "-b", "384"},
	"ecdsa-521": {"-t", "ecdsa", "-b", "521"},
	"rsa-2048":  {"-t", "rsa", "-b", "2048"},
	"rsa-3072":  {"-t", "rsa", "-b", "3072"},
}

// verifies asks the real ssh-keygen.
func verifies(t testing.TB, allowed string, sig *sshsig.Signature, in []byte) error {
	t.Helper()
	_, err := run(in, nil, rig.SSHKeygen(t), "-Y", "verify", "-n", "drydock", "-I", "alice@acme.example", "-f", allowed, "-s", write(t, sig.Armor()))
	return err
}

// TestBothWays: what we sign ssh-keygen verifies, and the other way round, with
// each kind of key, from a file, through an agent and by ssh-keygen itself.
func TestBothWays(t *testing.T) {
	keygen, running := rig.SSHKeygen(t), rig.SSHAgent(t)
	ctx := context.Background()
	for name, args := range kinds {
		t.Run(name, func(t *testing.T) {
			path := rig.SSHKey(t, "", args...)
			key := readKey(t, path)
			running.Add(t, path)
			line := "alice@acme.example " + key.String()
			allowed, ours := write(t, []byte(line+"\n")), signers(t, line)
			file, err := sshsig.FromKeyFile(path, nil)
			if err != nil {
				t.Fatal(err)
			}
			all := map[string]*sshsig.Signature{}
			for way, signer := range map[string]sshsig.Signer{
				"file":   file,
				"agent":  sshsig.FromAgent(running.Socket, key),
				"keygen": sshsig.FromKeygen(keygen, path, nil),
			} {
				sig, err := signer.Sign(ctx, "drydock", message)
				if err != nil {
					t.Fatalf("%s: %v", way, err)
				}
				all[way] = sig
				if err := verifies(t, allowed, sig, message); err != nil {
					t.Errorf("%s: %v", way, err)
				}
				if verifies(t, allowed, sig, []byte("other")) == nil {
					t.Errorf("%s: ssh-keygen verifies another message", way)
				}
				who, err := ours.Verify("alice@acme.example", "drydock", message, sig, now)
				if err != nil || who.Name != "alice@acme.example" || who.Pattern || who.Line != 1 {
					t.Errorf("%s: %+v, %v", way, who, err)
				}
				_, err = ours.Verify("alice@acme.example", "drydock", []byte("other"), sig, now)
				wantReason(t, err, sshsig.Mismatch)
			}
			if strings.HasPrefix(name, "ecdsa") {
				return // its signatures are random
			}
			if !bytes.Equal(all["file"].Armor(), all["keygen"].Armor()) || !bytes.Equal(all["agent"].Armor(), all["keygen"].Armor()) {
				t.Errorf("not the same bytes as ssh-keygen's:\n%s\n%s\n%s", all["file"].Armor(), all["agent"].Armor(), all["keygen"].Armor())
			}
		})
	}
}

// TestKeygenSignsThroughAnAgent: a .pub file is enough, as with a token.
func TestKeygenSignsThroughAnAgent(t *testing.T) {
	keygen, running := rig.SSHKeygen(t), rig.SSHAgent(t)
	path := rig.SSHKey(t, "", "-t", "ed25519")
	running.Add(t, path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSH_AUTH_SOCK", running.Socket)
	sig, err := sshsig.FromKeygen(keygen, path+".pub", nil).Sign(context.Background(), "drydock", message)
	if err != nil {
		t.Fatal(err)
	}
	if sig.Key() != readKey(t, path) {
		t.Errorf("signed by %s", sig.Key())
	}
}

// TestSecurityKeys: signatures of an authenticator in software, which
// ssh-keygen verifies too, so that ours is like a real one.
func TestSecurityKeys(t *testing.T) {
	rig.SSHKeygen(t)
	for _, ec := range []bool{false, true} {
		for flags, want := range map[byte]sshsig.Reason{touched: "", verified: "", untouched: sshsig.Untouched} {
			k := newSecurityKey(ec, flags)
			line := "alice@acme.example " + k.String()
			sig := parsed(t, by(k, "drydock", message))
			// ssh-keygen asks nobody for a touch.
			if err := verifies(t, write(t, []byte(line+"\n")), sig, message); err != nil {
				t.Errorf("ecdsa %v flags %d: %v", ec, flags, err)
			}
			_, err := signers(t, line).Verify("alice@acme.example", "drydock", message, sig, now)
			wantReason(t, err, want)
		}
	}
}

func TestPassphrases(t *testing.T) {
	path := rig.SSHKey(t, "correct horse", "-t", "ed25519", "-a", "1")
	asked := 0
	answer := func(words string, err error) func() ([]byte, error) {
		return func() ([]byte, error) { asked++; return []byte(words), err }
	}
	signer, err := sshsig.FromKeyFile(path, answer("correct horse", nil))
	if err != nil || asked != 1 {
		t.Fatalf("asked %d times: %v", asked, err)
	}
	if _, err := signer.Sign(context.Background(), "drydock", message); err != nil {
		t.Error(err)
	}
	for name, ask := range map[string]func() ([]byte, error){
		"does not open":        answer("wrong", nil),
		"no terminal":          answer("", errors.New("no terminal")),
		"cannot be asked for ": nil,
	} {
		if _, err := sshsig.FromKeyFile(path, ask); err == nil || !strings.Contains(err.Error(), strings.TrimSpace(name)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	never := func() ([]byte, error) { t.Error("asked for a key that is open"); return nil, nil }
	if _, err := sshsig.FromKeyFile(rig.SSHKey(t, "", "-t", "ed25519"), never); err != nil {
		t.Error(err)
	}
}

func TestKeyFilesThatAreRefused(t *testing.T) {
	open := rig.SSHKey(t, "", "-t", "ed25519")
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		pipe:                                    "is not a file",
		open:                                    "chmod 600",
		filepath.Join(t.TempDir(), "none"):      "name the file of a private key",
		t.TempDir():                             "is not a file",
		write(t, []byte("-----BEGIN X-----\n")): "not a private key",
		write(t, make([]byte, 1<<20)):           "too many",
		rig.SSHKey(t, "", "-t", "rsa", "-b", "1024"):        "1024 bits",
		rig.SSHKey(t, "", "-t", "ed25519") + ".pub":         "chmod 600",
		write(t, []byte(newSecurityKey(false, 1).String())): "ssh-agent",
	} {
		if _, err := sshsig.FromKeyFile(path, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
}

func TestAgentKeys(t *testing.T) {
	running := rig.SSHAgent(t)
	ctx := context.Background()
	if keys, err := sshsig.AgentKeys(ctx, running.Socket); err != nil || len(keys) != 0 {
		t.Errorf("%v, %v", keys, err)
	}
	path, weak := rig.SSHKey(t, "", "-t", "ed25519"), rig.SSHKey(t, "", "-t", "rsa", "-b", "1024")
	running.Add(t, path)
	running.Add(t, weak)
	keys, err := sshsig.AgentKeys(ctx, running.Socket)
	if err != nil || len(keys) != 1 || keys[0].Key != readKey(t, path) || keys[0].Comment != "test@rig" {
		t.Errorf("%v, %v", keys, err)
	}
	absent := readKey(t, rig.SSHKey(t, "", "-t", "ed25519"))
	if _, err := sshsig.FromAgent(running.Socket, absent).Sign(ctx, "drydock", message); err == nil || !strings.Contains(err.Error(), "ssh-add -L") {
		t.Errorf("a key that the agent lacks: %v", err)
	}
	if _, err := sshsig.FromAgent(running.Socket, sshsig.Key{}).Sign(ctx, "drydock", message); err == nil {
		t.Error("signs without a key")
	}
	if _, err := sshsig.AgentKeys(ctx, filepath.Join(t.TempDir(), "none")); err == nil || !strings.Contains(err.Error(), "ssh-add") {
		t.Errorf("no agent: %v", err)
	}
}

// TestSilentAgent: one that takes the connection and says nothing holds nobody
// up for longer than the context allows.
func TestSilentAgent(t *testing.T) {
	dir, err := os.MkdirTemp("", "silent")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		if conn, err := l.Accept(); err == nil {
			defer conn.Close()
			_, _ = conn.Read(make([]byte, 1)) // the request is there
			cancel()
			_, _ = conn.Read(make([]byte, 1<<10))
		}
	}()
	key := must(sshsig.ParseKey(newEd25519().String()))
	_, err = sshsig.FromAgent(socket, key).Sign(ctx, "drydock", message)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// program is a shell script in place of ssh-keygen.
func program(t testing.TB, script string) string {
	t.Helper()
	path := write(t, []byte("#!/bin/sh\n"+script+"\n"))
	if err := os.Chmod(path, 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestKeygenThatGoesWrong: it is believed only as far as its signature goes.
func TestKeygenThatGoesWrong(t *testing.T) {
	path := rig.SSHKey(t, "", "-t", "ed25519")
	other := by(newEd25519(), "drydock", []byte("another message")).armor()
	for script, want := range map[string]string{
		"echo no such device >&2; exit 1": "no such device",
		"cat " + write(t, other):          "would be refused",
		"cat /dev/zero | head -c 100000":  "would be refused",
		"echo hello":                      "would be refused",
	} {
		_, err := sshsig.FromKeygen(program(t, script), path, nil).Sign(context.Background(), "drydock", message)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", script, err)
		}
	}
	if _, err := sshsig.FromKeygen("no-such-ssh-keygen", path, nil).Sign(context.Background(), "drydock", message); err == nil || !strings.Contains(err.Error(), "apt-get") {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	said := write(t, nil)
	tell := &told{text: "touch", done: cancel}
	_, err := sshsig.FromKeygen(program(t, "echo touch it >&2; exec sleep 1000 >"+said+" 2>&1"), path, tell).Sign(ctx, "drydock", message)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	windows := program(t, rig.SSHKeygen(t)+` "$@" | sed 's/$/\r/'`)
	if _, err := sshsig.FromKeygen(windows, path, nil).Sign(context.Background(), "drydock", message); err != nil {
		t.Errorf("with CR LF, as on Windows: %v", err)
	}
}

// told ends something when a text was written to it.
type told struct {
	all  bytes.Buffer
	text string
	done func()
}

func (w *told) Write(p []byte) (int, error) {
	w.all.Write(p)
	if strings.Contains(w.all.String(), w.text) {
		w.done()
	}
	return len(p), nil
}

func TestNamespacesThatCannotBe(t *testing.T) {
	path := rig.SSHKey(t, "", "-t", "ed25519")
	signer, err := sshsig.FromKeyFile(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, ns := range []string{"", "a\nb", "é", strings.Repeat("n", 256)} {
		for _, s := range []sshsig.Signer{signer, sshsig.FromKeygen(rig.SSHKeygen(t), path, nil)} {
			_, err := s.Sign(context.Background(), ns, message)
			wantReason(t, err, sshsig.Malformed)
		}
	}
	ended, cancel := context.WithDeadline(context.Background(), time.Unix(1, 0))
	defer cancel()
	if _, err := signer.Sign(ended, "drydock", message); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

// TestCommitsOfGit: what the real git signs with an SSH key, taken out of the
// commit's bytes.
func TestCommitsOfGit(t *testing.T) {
	path, dir := rig.SSHKey(t, "", "-t", "ed25519"), t.TempDir()
	git := func(args ...string) string {
		t.Helper()
		env := []string{"HOME=" + dir, "PATH=" + os.Getenv("PATH"), "GIT_CONFIG_NOSYSTEM=1"}
		out, err := run(nil, env, append([]string{"git", "-C", dir,
			"-c", "user.name=Alice", "-c", "user.email=alice@acme.example", "-c", "gpg.format=ssh", "-c", "user.signingKey=" + path,
		}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	git("init", "-q")
	git("commit", "-q", "--allow-empty", "-S", "-m", "Bump web")
	before, after, found := strings.Cut(git("cat-file", "commit", "HEAD"), "gpgsig ")
	value, rest, ended := strings.Cut(after, "\n\n")
	if !found || !ended {
		t.Fatalf("no signature in %q", before)
	}
	sig, err := sshsig.Parse([]byte(strings.ReplaceAll(value, "\n ", "\n")))
	if err != nil {
		t.Fatal(err)
	}
	list := signers(t, `alice@acme.example namespaces="git" `+readKey(t, path).String())
	payload := []byte(before + "\n" + rest)
	who, err := list.Identify("git", payload, sig, now)
	if err != nil || len(who) != 1 || who[0].Name != "alice@acme.example" || sig.Namespace() != "git" {
		t.Errorf("%+v, %v", who, err)
	}
	_, err = list.Identify("git", append(payload, '\n'), sig, now)
	wantReason(t, err, sshsig.Mismatch)
}

// liar is an agent that signs something else than it is asked to.
type liar struct{ agent.ExtendedAgent }

func (l liar) SignWithFlags(key ssh.PublicKey, data []byte, flags agent.SignatureFlags) (*ssh.Signature, error) {
	return l.ExtendedAgent.SignWithFlags(key, append([]byte("not "), data...), flags)
}

// TestLyingAgent: a signature that nobody would accept is not handed out.
func TestLyingAgent(t *testing.T) {
	private := must2(ed25519.GenerateKey(rand.Reader))
	ring := agent.NewKeyring().(agent.ExtendedAgent)
	if err := ring.Add(agent.AddedKey{PrivateKey: private}); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "liar")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	l, err := net.Listen("unix", filepath.Join(dir, "sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		if conn, err := l.Accept(); err == nil {
			defer conn.Close()
			_ = agent.ServeAgent(liar{ring}, conn)
		}
	}()
	key := must(sshsig.ParseKey(plain(private, "").String()))
	_, err = sshsig.FromAgent(filepath.Join(dir, "sock"), key).Sign(context.Background(), "drydock", message)
	wantReason(t, err, sshsig.Mismatch)
}
