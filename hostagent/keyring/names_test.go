package keyring

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"drydock/hostagent/sshsig"
	"drydock/testdata/rig"
)

// TestPatternNeverClaimsARolesName: whoever has left has no line any more, and
// may still be in a role.
func TestPatternNeverClaimsARolesName(t *testing.T) {
	key := rig.SSHKey(t, "", "-t", "ed25519")
	public, err := os.ReadFile(key + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	signers := filepath.Join(t.TempDir(), "allowed_signers")
	if err := os.WriteFile(signers, append([]byte("*@acme.example "), public...), 0o600); err != nil {
		t.Fatal(err)
	}
	signer, err := sshsig.FromKeyFile(key, nil)
	if err != nil {
		t.Fatal(err)
	}
	payload := fmt.Appendf(nil, "tree %040d\nauthor a <a@acme.example> 1 +0000\ncommitter a <gone@acme.example> 1 +0000\n\nx\n", 1)
	sig, err := signer.Sign(context.Background(), "git", payload)
	if err != nil {
		t.Fatal(err)
	}
	for _, names := range [][]string{nil, {"alice@acme.example"}, {"gone@acme.example"}} {
		k, err := Open(Files{Signers: signers, Names: names})
		if err != nil {
			t.Fatal(err)
		}
		who, err := k.Signers(payload, sig.Armor(), time.Now())
		if taken := len(names) > 0 && names[0] == "gone@acme.example"; taken != (err != nil) {
			t.Errorf("with roles naming %q: %q, %v", names, who, err)
		} else if taken && !strings.Contains(err.Error(), "gone@acme.example, is named by a role of this host") {
			t.Error(err)
		}
	}
}
