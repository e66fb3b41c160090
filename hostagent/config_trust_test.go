package hostagent

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"drydock/reconcile/trust"
)

const (
	restOfConfig = "environment = \"prod\"\nsource {\n  url = \"/srv/r.git\"\n}\n"
	someSince    = "0c1f7f3a5b6d8e9f00112233445566778899aabb"
)

const wholeTrust = restOfConfig + `trust {
  signers = "/etc/drydock/allowed_signers"
  revoked = "/etc/drydock/revoked"
  keyring = "/etc/drydock/people.gpg"
  since   = "` + someSince + `"
  role "people" {
    principals = ["alice@acme.example", "bob@acme.example"]
    may        = ["any"]
    people     = true
  }
  role "pipeline" {
    principals   = ["ci@acme.example"]
    may          = ["bump", "rollback"]
    environments = ["staging"]
  }
  approvals = { prod = 2 }
  freshness = "168h"
}
`

func TestTrustWhole(t *testing.T) {
	got, diags := parseConfig("h.hcl", []byte(wholeTrust), "host-1", "")
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	want := &TrustConfig{Signers: "/etc/drydock/allowed_signers", Revoked: "/etc/drydock/revoked", Keyring: "/etc/drydock/people.gpg",
		Policy: trust.Policy{Since: someSince, Freshness: 168 * time.Hour, Approvals: map[string]int{"prod": 2}, Roles: []trust.Role{
			{Name: "people", Principals: []string{"alice@acme.example", "bob@acme.example"}, May: []trust.Permission{trust.Any}, People: true},
			{Name: "pipeline", Principals: []string{"ci@acme.example"}, May: []trust.Permission{trust.Bump, trust.Rollback}, Environments: []string{"staging"}},
		}}}
	if diff := cmp.Diff(want, got.Trust); diff != "" {
		t.Error(diff)
	}
	for _, f := range []string{want.Signers, want.Revoked, want.Keyring} {
		if !slices.Contains(got.Files, f) {
			t.Errorf("a change of %s is not noticed: %v", f, got.Files)
		}
	}
	if bare, _ := parseConfig("h.hcl", []byte(restOfConfig), "host-1", ""); bare.Trust != nil {
		t.Error("trust out of nothing")
	}
}

func TestTrustRefuses(t *testing.T) {
	// Each changes one thing of a block that is good.
	const signers, since, role = `signers = "/s"`, `since = "` + someSince + `"`, "role \"people\" {\n principals = [\"a@x\"]\n may = [\"any\"]\n people = true\n}"
	block := func(lines ...string) string {
		return restOfConfig + "trust {\n" + strings.Join(lines, "\n") + "\n}\n"
	}
	for name, c := range map[string]struct{ src, want string }{
		"nothing in it":         {block(), "h.hcl:5,1-6: Trust cannot be used; no role says who may do what"},
		"nobody signs":          {block(role), "h.hcl:5,1-6: Nobody could sign"},
		"no role":               {block(signers), "no role says who may do what"},
		"unknown word":          {block(signers, role, `sinze = "x"`), `Did you mean "since"?`},
		"unknown block":         {block(signers, role, `rolle "x" {}`), `Did you mean "role"?`},
		"role without a name":   {block(signers, "role {}"), "Wrong labels; A role block has one label, its name in quotes."},
		"word of a role":        {block(signers, "role \"x\" {\nprincipal = [\"a\"]\nprincipals = [\"a\"]\nmay = [\"any\"]\n}"), `h.hcl:8,1-10: Unknown attribute; There is no attribute "principal" in role. Did you mean "principals"?`},
		"no principals":         {block(signers, "role \"x\" {\nmay = [\"any\"]\n}"), `"principals" must be written`},
		"empty principals":      {block(signers, "role \"x\" {\nprincipals = []\nmay = [\"any\"]\n}"), `h.hcl:7,1-9: Trust cannot be used; role "x": it has no principals`},
		"no may":                {block(signers, "role \"x\" {\nprincipals = [\"a\"]\n}"), `"may" must be written`},
		"empty may":             {block(signers, "role \"x\" {\nprincipals = [\"a\"]\nmay = []\n}"), "may is empty"},
		"unknown permission":    {block(signers, "role \"x\" {\nprincipals = [\"a\"]\nmay = [\"bmup\"]\n}"), `h.hcl:9,7-15: Unknown permission; There is no permission "bmup". Did you mean "bump"?`},
		"role twice":            {block(signers, role, role), "h.hcl:12,1-14: Trust cannot be used; role \"people\" stands twice"},
		"person and robot":      {block(signers, role, "role \"ci\" {\nprincipals = [\"a@x\"]\nmay = [\"bump\"]\n}"), "h.hcl:12,1-10: Trust cannot be used; a@x is in the people role"},
		"people a word":         {block(signers, "role \"x\" {\nprincipals = [\"a\"]\nmay = [\"any\"]\npeople = \"yes\"\n}"), "true or false"},
		"people null":           {block(signers, "role \"x\" {\nprincipals = [\"a\"]\nmay = [\"any\"]\npeople = null\n}"), "No value"},
		"environment a path":    {block(signers, "role \"x\" {\nprincipals = [\"a\"]\nmay = [\"any\"]\nenvironments = [\"../prod\"]\n}"), "no environment's name"},
		"environment approvals": {block(signers, "role \"x\" {\nprincipals = [\"a\"]\nmay = [\"any\"]\nenvironments = [\"approvals\"]\n}"), "no environment's name"},
		"environments empty":    {block(signers, "role \"x\" {\nprincipals = [\"a\"]\nmay = [\"any\"]\nenvironments = []\n}"), "An empty list would allow nothing"},
		"short since":           {block(signers, role, `since = "0c1f7f3"`), "h.hcl:12,9-18: Trust cannot be used; since \"0c1f7f3\" is no full commit hash"},
		"since in capitals":     {block(signers, role, `since = "`+strings.ToUpper(someSince)+`"`), "no full commit hash"},
		"since a branch":        {block(signers, role, `since = "main"`), "no full commit hash"},
		"since empty":           {block(signers, role, `since = ""`), "since is empty"},
		"floor of nobody":       {block(signers, since, role, "approvals = { prod = 0 }"), "at least 1"},
		"floor a word":          {block(signers, role, `approvals = { prod = "2" }`), "must be a whole number"},
		"floor a half":          {block(signers, role, "approvals = { prod = 1.5 }"), "must be a whole number"},
		"floor a list":          {block(signers, role, "approvals = [2]"), "approvals is written as"},
		"floor too high":        {block(signers, role, "approvals = { prod = 2 }"), "h.hcl:12,13-25: Trust cannot be used; approvals: prod needs 2 people"},
		"floor of a path":       {block(signers, role, `approvals = { "a/b" = 1 }`), "no environment's name"},
		"floor of approvals":    {block(signers, role, `approvals = { approvals = 1 }`), "no environment's name"},
		"since of a template":   {block(signers, role, "since = \""+strings.Repeat("0", 40)+"\""), "names none yet"},
		"freshness a number":    {block(signers, role, "freshness = 168"), "Not a string"},
		"freshness in days":     {block(signers, role, `freshness = "7d"`), "Not a time"},
		"freshness nought":      {block(signers, role, `freshness = "0s"`), "Not a time"},
		"freshness backwards":   {block(signers, role, `freshness = "-1h"`), "Not a time"},
		"relative signers":      {block(`signers = "allowed_signers"`, role), "must begin with /"},
		"two blocks":            {block(signers, role) + "trust {}\n", "Written twice"},
		"principal with comma":  {block(signers, "role \"x\" {\nprincipals = [\"a,b\"]\nmay = [\"any\"]\n}"), "is no principal"},
		"principal look-alike":  {block(signers, "role \"x\" {\nprincipals = [\"аlice@x\"]\nmay = [\"any\"]\n}"), "is no principal"},
	} {
		t.Run(name, func(t *testing.T) {
			_, diags := parseConfig("h.hcl", []byte(c.src), "host-1", "")
			if !diags.HasErrors() || !strings.Contains(diagText(diags), c.want) {
				t.Errorf("want %q, got %v", c.want, diagText(diags))
			}
		})
	}
	if _, diags := parseConfig("h.hcl", []byte(block(signers, since, role)), "host-1", ""); diags.HasErrors() {
		t.Error("the block that all of these change is refused itself:", diags)
	}
}
