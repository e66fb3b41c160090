package sshsig_test

import (
	"os"
	"path/filepath"
	"testing"

	"drydock/testdata/rig"
)

// TestWriteCorpus makes the seeds anew: signatures by the real ssh-keygen and,
// of security keys, by hand; their keys are thrown away.
func TestWriteCorpus(t *testing.T) {
	if !*writeCorpus {
		t.Skip("only with -write-corpus")
	}
	keep := func(dir, name, text string) {
		if err := os.MkdirAll(filepath.Join("testdata", dir), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join("testdata", dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	people := "# one of each kind\n"
	for name, args := range kinds {
		path := rig.SSHKey(t, "", args...)
		out, err := run(message, nil, rig.SSHKeygen(t), "-Y", "sign", "-n", "drydock", "-f", path)
		if err != nil {
			t.Fatal(err)
		}
		keep("signatures", name, out)
		people += name + "@acme.example " + readKey(t, path).String() + " " + name + "\n"
	}
	for name, ec := range map[string]bool{"sk-ed25519": false, "sk-ecdsa": true} {
		k := newSecurityKey(ec, touched)
		keep("signatures", name, string(by(k, "drydock", message).armor()))
		people += name + "@acme.example " + k.String() + "\n"
	}
	k := newEd25519().String()
	keep("allowed_signers", "people", people)
	keep("allowed_signers", "patterns", "*@acme.example,!root@*,al?ce "+k+"\n"+`bob NAMESPACES="git,!git-*" `+k+" bob's laptop\n")
	keep("allowed_signers", "times", `alice valid-after="20260101Z",valid-before="202612312359Z" `+k+"\n\n \t# next year\n"+`alice valid-after="20270101000000Z",namespaces="drydock" `+k)
}
