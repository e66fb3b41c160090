package keyring_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"drydock/hostagent/keyring"
	"drydock/hostagent/sshsig"
	"drydock/testdata/rig"
)

// FuzzClaims: whatever the holder of a pattern's key signs, at most one name
// counts: the committer's email as every reader of the commit sees it, which
// fits the pattern and is nobody's own.
func FuzzClaims(f *testing.F) {
	path := rig.SSHKey(f, "", "-t", "ed25519")
	key, err := os.ReadFile(path + ".pub")
	if err != nil {
		f.Fatal(err)
	}
	signer, err := sshsig.FromKeyFile(path, nil)
	if err != nil {
		f.Fatal(err)
	}
	other, err := os.ReadFile(rig.SSHKey(f, "", "-t", "ed25519") + ".pub")
	if err != nil {
		f.Fatal(err)
	}
	signers := filepath.Join(f.TempDir(), "signers")
	if err := os.WriteFile(signers, []byte("*@bots.example,!root@* "+string(key)+"alice@bots.example "+string(other)), 0o600); err != nil {
		f.Fatal(err)
	}
	k, err := keyring.Open(keyring.Files{Signers: signers, Names: []string{"gone@bots.example"}})
	if err != nil {
		f.Fatal(err)
	}
	for _, email := range []string{"web@bots.example", "alice@bots.example", "root@bots.example", "gone@bots.example", "web@bots.example> <alice@bots.example", "*@bots.example"} {
		f.Add(payload(email))
	}
	f.Add([]byte("tree \ncommitter x <web@bots.example> 1 +0000\n\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		sig, err := signer.Sign(context.Background(), "git", text)
		if err != nil {
			t.Fatal(err)
		}
		names, err := k.Signers(text, sig.Armor(), now)
		if err != nil {
			if names != nil {
				t.Errorf("%v beside %v", names, err)
			}
			return
		}
		headers, _, _ := strings.Cut(string(text), "\n\n")
		var committers []string
		for line := range strings.SplitSeq(headers, "\n") {
			if who, ok := strings.CutPrefix(line, "committer "); ok {
				committers = append(committers, who)
			}
		}
		if len(names) != 1 || len(committers) != 1 || strings.Count(committers[0], "<"+names[0]+">") != 1 || strings.Count(committers[0], "<") != 1 {
			t.Fatalf("%q counts for %v", text, names)
		}
		if who := names[0]; !strings.HasSuffix(who, "@bots.example") || strings.HasPrefix(who, "root@") || slices.Contains([]string{"alice@bots.example", "gone@bots.example"}, who) || strings.ContainsAny(who, "*?!,\" ") {
			t.Fatalf("counts for %q", who)
		}
	})
}
