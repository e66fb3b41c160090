package sshsig_test

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"drydock/hostagent/sshsig"
	"drydock/testdata/rig"
)

// TestLend: other programs sign with a key that was opened once, until it is
// taken back.
func TestLend(t *testing.T) {
	dir, err := os.MkdirTemp("", "lend") // a socket's path may have no more than a hundred bytes
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "sock")
	for name, args := range kinds {
		t.Run(name, func(t *testing.T) {
			path := rig.SSHKey(t, "correct horse", append(args, "-a", "1")...)
			key, stop, err := sshsig.Lend(path, socket, func() ([]byte, error) { return []byte("correct horse"), nil })
			if err != nil {
				t.Fatal(err)
			}
			if key != readKey(t, path) {
				t.Errorf("lent %s", key)
			}
			// Somebody who only connects keeps nobody from signing, nor from ending.
			idle, err := net.Dial("unix", socket)
			if err != nil {
				t.Fatal(err)
			}
			defer idle.Close()
			t.Setenv("SSH_AUTH_SOCK", socket)
			if _, err := sshsig.FromKeygen(rig.SSHKeygen(t), path+".pub", nil).Sign(context.Background(), "git", message); err != nil {
				t.Error(err)
			}
			if _, err := sshsig.FromAgent(socket, key).Sign(context.Background(), "drydock", message); err != nil {
				t.Error(err)
			}
			stop()
			if _, err := os.Stat(socket); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the socket is still there: %v", err)
			}
		})
	}
	path := rig.SSHKey(t, "correct horse", "-t", "ed25519", "-a", "1")
	for want, passphrase := range map[string]func() ([]byte, error){
		"ssh-add":                      nil,
		"the passphrase does not open": func() ([]byte, error) { return []byte("wrong"), nil },
		"nobody is here":               func() ([]byte, error) { return nil, errors.New("nobody is here") },
	} {
		if _, _, err := sshsig.Lend(path, socket, passphrase); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, and not %q", err, want)
		}
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, _, err := sshsig.Lend(path, socket, nil); err == nil || !strings.Contains(err.Error(), "can be read by others") {
		t.Error(err)
	}
}
