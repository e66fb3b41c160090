package drydock_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"drydock/hostagent"
	"drydock/hostagent/keyring"
	"drydock/reconcile/trust"
	"drydock/spec"
)

// TestExampleSigned: the files of the signed example fit one another. The agent
// would start with them, everybody who is named has a key that may sign what the
// role is for, and what people are asked for can be given.
func TestExampleSigned(t *testing.T) {
	const example = "examples/signed"
	dir := t.TempDir()
	file := func(name, content string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file("allowed_signers", read(t, example+"/allowed_signers.example"))
	file("revoked_keys", "")
	own := strings.ReplaceAll(read(t, example+"/hostagent.hcl.example"), "/etc/drydock/", dir+"/")
	own = strings.Replace(own, strings.Repeat("0", 40), strings.Repeat("4f", 20), 1)
	if !strings.Contains(own, "since = \"4f4f") {
		t.Fatal("since names no commit to replace")
	}
	file("hostagent.hcl", own)

	cfg, diags := hostagent.LoadConfig(filepath.Join(dir, "hostagent.hcl"))
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	keys, err := keyring.Open(keyring.Files{Signers: cfg.Trust.Signers, Revoked: cfg.Trust.Revoked, Names: cfg.Trust.Names()})
	if err != nil {
		t.Fatal(err)
	}
	from, settled := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	var people []string
	for _, role := range cfg.Trust.Policy.Roles {
		if role.People {
			people = append(people, role.Principals...)
		}
		for _, who := range role.Principals {
			if !keys.Knows(who, "git", settled) || keys.Knows(who, trust.Namespace, settled) != role.People {
				t.Errorf("%s has no key, or one for what the role %s does not sign", who, role.Name)
			}
		}
	}
	if keys.Knows("carol@acme.example", "git", from) {
		t.Error("carol's key counts before its time")
	}

	fleet, diags := spec.Load("", os.DirFS(example))
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	want, diags := fleet.For(spec.Host{Name: "db-1", OS: "linux", Arch: "amd64", Environment: "prod"})
	if diags.HasErrors() || len(want.Services) != 1 || want.Services[0].Approval == nil {
		t.Fatal(want.Services, diags)
	}
	rule := *want.Services[0].Approval
	for _, who := range rule.From {
		if !slices.Contains(people, who) {
			t.Errorf("%s is asked, and is none of the people of the host", who)
		}
	}
	if floor := cfg.Trust.Policy.Approvals["prod"]; len(people) <= floor || len(rule.From) <= rule.Required {
		t.Errorf("%d people for a floor of %d: nobody may be away", len(people), floor)
	}
	for env := range cfg.Trust.Policy.Approvals {
		if !slices.Contains(fleet.Environments(), env) {
			t.Errorf("a floor under %q, which is no environment", env)
		}
	}
	for _, role := range cfg.Trust.Policy.Roles {
		for _, env := range role.Environments {
			if !slices.Contains(fleet.Environments(), env) {
				t.Errorf("%s may act in %q, which is no environment", role.Name, env)
			}
		}
	}
}
