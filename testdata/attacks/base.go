package attacks

import (
	"crypto/sha256"
	"fmt"
	"strings"

	"drydock/reconcile/trust"
)

// Policy is the trust section of the hosts.
func Policy() trust.Policy {
	people := func(name string, who []*Key, may trust.Permission, envs ...string) trust.Role {
		r := trust.Role{Name: name, May: []trust.Permission{may}, Environments: envs}
		for _, k := range who {
			r.Principals = append(r.Principals, k.Name)
		}
		return r
	}
	staff := people("people", []*Key{Alice(), Bob(), Carol()}, trust.Any)
	for _, name := range []string{"old", "new", "lately", "revoked", "papers", "commits", "elsewhere", "gone"} {
		staff.Principals = append(staff.Principals, name+"@acme.example")
	}
	leads := people("leads", []*Key{Lead()}, trust.Any, "staging")
	staff.People, leads.People = true, true
	return trust.Policy{Roles: []trust.Role{
		staff, leads,
		people("pipeline", []*Key{CI()}, trust.Bump, "staging"),
		people("bumper", []*Key{Bumper()}, trust.Bump),
		people("roller", []*Key{Roller()}, trust.Rollback),
		people("promoter", []*Key{Promoter()}, trust.Promote, "prod"),
		people("freezer", []*Key{Freezer()}, trust.Freeze, "prod"),
		people("operator", []*Key{Operator()}, trust.Operate),
		{Name: "bots", Principals: []string{"*@bots.acme.example", "!root@bots.acme.example"}, May: []trust.Permission{trust.Any}},
		{Name: "literal", Principals: []string{"literal@bots.acme.example"}, May: []trust.Permission{trust.Freeze}},
		people("robot", []*Key{Robot()}, trust.Any),
	}}
}

// DigestOf is another digest for each word.
func DigestOf(word string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(word))) }

// Service is a declaration, with more lines in it.
func Service(name, version string, lines ...string) string {
	return fmt.Sprintf(`# %s
service %q {
  hosts = {}
  release {
    version = %q # by a pipeline
    digest  = %q
  }
  artifact {
    source = "https://artifacts.acme.example/%s/${release.version}"
  }
  install "archive" {
    path = "/srv/%s"
  }
  start "process" {
    command = ["run"]
  }
  rollout {
    min_healthy_time = "1s"
  }
%s}
`, name, name, version, DigestOf(name+version), name, name, strings.Join(lines, ""))
}

// Shop is a service that two of three people approve.
func Shop(version string, lines ...string) string {
	return Service("shop", version, append(lines, Approval(2, Alice(), Bob(), Carol()))...)
}

// Approval is an approval block.
func Approval(required int, from ...*Key) string {
	var names []string
	for _, k := range from {
		names = append(names, fmt.Sprintf("%q", k.Name))
	}
	return fmt.Sprintf("  approval {\n    required = %d\n    from     = [%s]\n  }\n", required, strings.Join(names, ", "))
}

// JSONService is one in HCL's JSON form.
func JSONService(name, version string) string {
	return fmt.Sprintf(`{"service": {%q: {"hosts": {}, "release": {"version": %q, "digest": %q},
  "artifact": {"source": "https://artifacts.acme.example/%s"},
  "install": {"archive": {"path": "/srv/%s"}}, "start": {"process": {"command": ["run"]}}, "rollout": {"min_healthy_time": "1s"}}}}
`, name, version, DigestOf(name+version), name, name)
}

// Agent is a hostagent block.
func Agent(version string) string {
	return fmt.Sprintf("hostagent {\n  release {\n    version = %q\n    digest  = %q\n  }\n  artifact {\n    source = \"https://artifacts.acme.example/agent\"\n  }\n}\n", version, DigestOf("agent"+version))
}

// Freeze is a freeze block that has ended.
func Freeze(reason string) string {
	return fmt.Sprintf("freeze %q {\n  until = \"2026-11-01T00:00:00Z\"\n}\n", reason)
}

// OldApproval is where an approval stands from the beginning.
const OldApproval = "approvals/prod/web/1.0-aaaaaaaaaaaa/0123456789ab.sig"

// Base is some history: prod runs web 1.1 and had 1.0, and shop 1.0, which Alice
// and Bob approved; staging runs web 1.2 and had 1.1 and 1.0. The first commits are not signed, and need not be: hosts
// take the last one on trust.
func (r *Repo) Base() string {
	c := r.On("", Files{
		"README.md": "Hello\n", "profiles.hcl": "profile \"p\" {\n  check \"tcp\" {\n    address = \"127.0.0.1:80\"\n  }\n}\n",
		"staging/web.hcl": Service("web", "1.0"), "prod/web.hcl": Service("web", "1.0"),
		"prod/api.hcl": Service("api", "7"), "prod/js.hcl.json": JSONService("js", "1.0"),
		"prod/retry.hcl":    strings.Replace(Service("retry", "1"), "  }\n", "    attempt = 3\n  }\n", 1),
		"staging/agent.hcl": Agent("1.0.0"), OldApproval: "no signature\n",
	}, Unsigned("founder@acme.example"))
	c = r.On(c, Files{"prod/shop.hcl": Shop("1.0")}, Unsigned("founder@acme.example"))
	c = r.On(c, r.Approved(c, "shop", Alice(), Bob()), Unsigned("founder@acme.example"))
	c = r.On(c, Files{"staging/web.hcl": Service("web", "1.1"), "prod/web.hcl": Service("web", "1.1")}, Unsigned("founder@acme.example"))
	return r.On(c, Files{"staging/web.hcl": Service("web", "1.2")})
}
