package attacks

import (
	"strings"

	"drydock/reconcile/trust"
)

const web = "prod/web.hcl"

// edit replaces a text of one of the base's files.
func edit(path, old, new string, options ...Option) func(*Repo, string) string {
	return func(r *Repo, base string) string {
		r.T.Helper()
		return r.On(base, r.Edit(base, path, old, new), options...)
	}
}

// files makes one commit of them.
func files(f Files, options ...Option) func(*Repo, string) string {
	return func(r *Repo, base string) string { return r.On(base, f, options...) }
}

// after makes one commit by Alice, and another on it.
func after(f Files, then func(*Repo, string) string) func(*Repo, string) string {
	return func(r *Repo, base string) string { return then(r, r.On(base, f)) }
}

func released(env, name, from, to string) Option {
	return Says(name + " " + from + " -> " + to + " (" + env + ")\n\nDrydock-Release: " + strings.Join([]string{env + "/" + name, from, to, DigestOf(name + to)}, " ") + "\n")
}

func rowsOfRoles() []row {
	not, by := trust.NotAllowed, By(Bumper())
	v := DigestOf("web1.1")
	moved := Service("web", "1.2")
	approval := "approvals/prod/web/1.2-bbbbbbbbbbbb/0123456789abcdef.sig"
	return []row{
		{name: "a bump", rule: ruleBytes, make: bump(by), runs: bumped},
		{name: "a bump of the digest alone", rule: ruleBytes, make: edit(web, v, DigestOf("built again"), by)},
		{name: "a bump in JSON", rule: ruleBytes, make: files(Files{"prod/js.hcl.json": JSONService("js", "1.1")}, by), runs: map[string]string{"js": "1.1"}},
		{name: "a bump of two services", rule: ruleBytes, make: files(Files{web: moved, "prod/api.hcl": Service("api", "8")}, by), runs: map[string]string{"web": "1.2", "api": "8"}},
		{name: "a bump in an environment of its own", rule: ruleRoles, make: files(Files{"staging/web.hcl": Service("web", "1.3")}, By(CI()))},
		{name: "a bump in another environment", rule: ruleRoles, fault: not, says: []string{"takes bump in prod; ci@acme.example signed it, who may do less (pipeline: bump in staging)"}, make: bump(By(CI()))},
		{name: "a bump in two environments, one of them its own", rule: ruleRoles, fault: not, says: []string{"takes bump in prod"}, make: files(Files{web: moved, "staging/web.hcl": Service("web", "1.3")}, By(CI()))},
		{name: "a bump in an environment that looks like its own", item: itemLooks, rule: ruleRoles, fault: not, says: []string{"in stаging"},
			make: after(Files{"stаging/web.hcl": Service("web", "1")}, files(Files{"stаging/web.hcl": Service("web", "2")}, By(CI())))},
		{name: "a bump in an environment in other letters", item: itemLooks, rule: ruleRoles, fault: not, says: []string{"in Staging"},
			make: after(Files{"Staging/web.hcl": Service("web", "1")}, files(Files{"Staging/web.hcl": Service("web", "2")}, By(CI())))},

		{name: "a bump with a comment", item: itemComment, rule: ruleBytes, fault: not, says: []string{`changes a comment in service "web" (prod/web.hcl:5), which takes any in prod`}, make: files(Files{web: strings.Replace(moved, "by a pipeline", "by me", 1)}, by)},
		{name: "a comment alone", item: itemComment, rule: ruleBytes, fault: not, says: []string{"a comment"}, make: edit(web, "by a pipeline", "by me", by)},
		{name: "a bump with a comment behind the version", item: itemComment, rule: ruleBytes, fault: not, says: []string{"takes any"}, make: edit(web, `"1.1" #`, `"1.2" # safe #`, by)},
		{name: "a bump of a line with a comment", item: itemComment, rule: ruleBytes, make: edit(web, `version = "1.1" # by a pipeline`, `version = "1.2" # by a pipeline`, by), runs: bumped},
		{name: "a bump that opens a comment over a check", item: itemComment, rule: ruleBytes, fault: not, says: []string{"takes any"}, make: edit(web, `"1.1"`, `"1.2" /*`, by)},
		{name: "a path as version", item: itemPath, rule: ruleBytes, fault: not, says: []string{"as no plain value: version"}, make: edit(web, `"1.1"`, `"../../../etc"`, by)},
		{name: "a path in the middle of a version", item: itemPath, rule: ruleBytes, fault: not, says: []string{"no plain value"}, make: edit(web, `"1.1"`, `"1.2/../../x"`, by)},
		{name: "dots as version", item: itemPath, rule: ruleBytes, fault: not, says: []string{"no plain value"}, make: edit(web, `"1.1"`, `".."`, by)},
		{name: "dots in a version", item: itemPath, rule: ruleBytes, make: edit(web, `"1.1"`, `"1..2~rc1+b_7"`, by), runs: map[string]string{"web": "1..2~rc1+b_7"}},
		{name: "a line end in a version", item: itemPath, rule: ruleBytes, fault: not, says: []string{"no plain value"}, make: edit(web, `"1.1"`, `"1.2\nx"`, by)},
		{name: "a version in look-alikes", item: itemLooks, rule: ruleBytes, fault: not, says: []string{"no plain value"}, make: edit(web, `"1.1"`, `"1․2"`, by)},
		{name: "a function as version", item: itemFunction, rule: ruleBytes, fault: not, says: []string{"it calls a function (prod/web.hcl:5), which takes any in prod"}, make: edit(web, `"1.1"`, `lower("1.2")`, by)},
		{name: "a credential as version", item: itemFunction, rule: ruleBytes, fault: not, says: []string{"it calls a function"}, make: edit(web, `"1.1"`, `credential("token")`, by)},
		{name: "a function in a string", item: itemFunction, rule: ruleBytes, fault: not, says: []string{"no plain value"}, make: edit(web, `"1.1"`, `"${upper("1.2")}"`, by)},
		{name: "a name as version", item: itemFunction, rule: ruleBytes, fault: not, says: []string{"it names host.name"}, make: edit(web, `"1.1"`, `host.name`, by)},
		{name: "a template in JSON", item: itemFunction, rule: ruleBytes, fault: not, says: []string{"it names host.name"}, make: edit("prod/js.hcl.json", `"1.0"`, `"${host.name}"`, by)},
		{name: "a template in JSON's escapes", item: itemFunction, rule: ruleBytes, fault: not, says: []string{"it names host.name"}, make: edit("prod/js.hcl.json", `"1.0"`, `"\u0024{host.name}"`, by)},
		{name: "a dollar in a version in JSON's escapes", item: itemFunction, rule: ruleBytes, fault: not, says: []string{"no plain value"}, make: edit("prod/js.hcl.json", `"1.0"`, `"\u0024\u0024{1}"`, by)},
		{name: "a version in JSON's escapes", item: itemFunction, rule: ruleBytes, make: edit("prod/js.hcl.json", `"1.0"`, `"\u0031.1"`, by), runs: map[string]string{"js": "1.1"}},
		{name: "a local as version", item: itemFunction, rule: ruleBytes, fault: not, says: []string{"it names local.v"},
			make: after(Files{"prod/locals.hcl": "locals {\n  v = \"1.2\"\n}\n"}, edit(web, `"1.1"`, `local.v`, by))},
		{name: "a heredoc as version", item: itemFunction, rule: ruleBytes, fault: not, says: []string{"takes any"}, make: edit(web, `"1.1" #`, "<<E\n1.2\nE\n#", by)},
		{name: "a number as version", rule: ruleBytes, fault: not, says: []string{"no plain value"}, make: edit(web, `"1.1"`, `1.10`, by)},
		{name: "brackets around a version", rule: ruleBytes, fault: not, says: []string{"takes any"}, make: edit(web, `"1.1"`, `("1.2")`, by)},
		{name: "the same in other bytes", rule: ruleBytes, fault: not, says: []string{"another way that says the same"}, make: edit(web, `"1.1"`, `"\u0031.1"`, by)},
		{name: "white space before a value", rule: ruleBytes, fault: not, says: []string{"takes any"}, make: edit(web, `version = "1.1"`, `version =  "1.2"`, by)},
		{name: "white space at the end of a line", rule: ruleBytes, fault: not, says: []string{"takes any"}, make: edit(web, "release {\n", "release { \n", by)},
		{name: "no line end at the file's end", rule: ruleBytes, fault: not, says: []string{"takes any"}, make: files(Files{web: strings.TrimSuffix(moved, "\n")}, by)},
		{name: "a byte order mark", rule: ruleBytes, fault: not, says: []string{"takes any"}, make: files(Files{web: "\xef\xbb\xbf" + moved}, by)},
		{name: "CR line ends", rule: ruleBytes, fault: not, says: []string{"takes any"}, make: files(Files{web: strings.ReplaceAll(moved, "\n", "\r\n")}, by)},
		{name: "a bump of a file with CR line ends", rule: ruleBytes, runs: bumped,
			make: after(Files{web: strings.ReplaceAll(Service("web", "1.1"), "\n", "\r\n")}, files(Files{web: strings.ReplaceAll(moved, "\n", "\r\n")}, by))},
		{name: "a digest dropped", rule: ruleBytes, fault: not, says: []string{"takes any"}, make: edit(web, "    digest  = \""+v+"\"\n", "", by)},
		{name: "an empty digest", rule: ruleBytes, fault: not, says: []string{"takes any"}, make: edit(web, v, "", by)},
		{name: "a digest of another kind of letters", rule: ruleBytes, fault: not, says: []string{"takes any"}, make: edit(web, v, strings.ToUpper(v), by)},
		{name: "a digest twice", rule: ruleBytes, fault: not, says: []string{"cannot be read"}, make: edit(web, "    digest", "    digest = \""+DigestOf("x")+"\"\n    digest", by)},
		{name: "a key twice in JSON", rule: ruleBytes, fault: not, says: []string{"takes any"}, make: edit("prod/js.hcl.json", `"version": "1.0"`, `"version": "1.0", "version": "1.1"`, by)},
		{name: "a service twice in JSON", rule: ruleBytes, fault: not, says: []string{"takes any"}, make: func(r *Repo, base string) string {
			one := strings.TrimSpace(JSONService("js", "1.0"))
			return r.On(base, Files{"prod/js.hcl.json": strings.TrimSuffix(one, "}") + `, "service": ` + strings.TrimPrefix(strings.TrimSuffix(JSONService("js", "1.1"), "}\n"), `{"service": `) + "}\n"}, by)
		}},
		{name: "a second release block", rule: ruleBytes, fault: not, says: []string{"takes any"}, make: edit(web, "  artifact", "  release {\n    version = \"1.2\"\n  }\n  artifact", by)},
		{name: "an attempt with a bump", rule: ruleRoles, fault: not, says: []string{"takes operate"}, make: func(r *Repo, base string) string {
			f := r.Edit(base, "prod/retry.hcl", `version = "1"`, `version = "2"`)
			f["prod/retry.hcl"] = strings.Replace(f["prod/retry.hcl"], "attempt = 3", "attempt = 4", 1)
			return r.On(base, f, by)
		}},
		{name: "an attempt that a bump begins again", rule: ruleRoles, runs: map[string]string{"retry": "2"}, make: func(r *Repo, base string) string {
			f := r.Edit(base, "prod/retry.hcl", `version = "1"`, `version = "2"`)
			f["prod/retry.hcl"] = strings.Replace(f["prod/retry.hcl"], "attempt = 3", "attempt = 1", 1)
			return r.On(base, f, by)
		}},

		{name: "back to a release that was left", item: itemGoesBack, rule: ruleLeft, fault: not, says: []string{"moves web from 1.1 to 1.0, a release that prod has left", "takes rollback in prod"}, make: files(Files{web: Service("web", "1.0")}, by)},
		{name: "back by the digest alone", item: itemGoesBack, rule: ruleLeft, fault: not, says: []string{"has left"}, make: edit(web, v, DigestOf("web1.0"), by)},
		{name: "back under a new version", item: itemGoesBack, rule: ruleLeft, fault: not, says: []string{"has left"}, make: files(Files{web: strings.Replace(Service("web", "2.0"), DigestOf("web2.0"), DigestOf("web1.0"), 1)}, by)},
		{name: "back by the version, with another digest", item: itemGoesBack, rule: ruleLeft, fault: not, says: []string{"has left"}, make: files(Files{web: strings.Replace(Service("web", "1.0"), DigestOf("web1.0"), DigestOf("new"), 1)}, by)},
		{name: "forward, and back in the next commit", item: itemGoesBack, rule: ruleLeft, fault: not, says: []string{"has left"},
			make: func(r *Repo, base string) string {
				return r.On(bump(by)(r, base), Files{web: Service("web", "1.1")}, by)
			}},
		{name: "back after its file was renamed", item: itemGoesBack, rule: ruleLeft, fault: not, says: []string{"has left"},
			make: after(Files{web: Gone, "prod/apps/web.hcl": Service("web", "1.1")}, files(Files{"prod/apps/web.hcl": Service("web", "1.0")}, by))},
		{name: "back after it was written in JSON", item: itemGoesBack, rule: ruleLeft, fault: not, says: []string{"has left"},
			make: after(Files{web: Gone, "prod/web.hcl.json": JSONService("web", "1.1")}, files(Files{"prod/web.hcl.json": JSONService("web", "1.0")}, by))},
		{name: "back with escapes in the version", item: itemGoesBack, rule: ruleLeft, fault: not, says: []string{"has left"}, make: edit(web, `"1.1"`, `"\u0031.0"`, by)},
		{name: "back by who may roll back", item: itemGoesBack, rule: ruleLeft, make: files(Files{web: Service("web", "1.0")}, By(Roller())), runs: map[string]string{"web": "1.0"}},
		{name: "a rollback to what never ran", item: itemGoesBack, rule: ruleRoles, fault: not, says: []string{"takes bump in prod"}, make: bump(By(Roller()))},
		{name: "a release that only staging has left", item: itemGoesBack, rule: ruleLeft, make: func(r *Repo, base string) string {
			c := r.On(base, Files{"staging/web.hcl": Service("web", "1.3")}, by)
			return r.On(c, Files{web: moved}, by)
		}, runs: bumped},

		{name: "the agent's release", item: itemAgent, rule: ruleLeft, fault: not, says: []string{"changes hostagent (staging/agent.hcl:3), which takes any in staging"}, make: files(Files{"staging/agent.hcl": Agent("1.0.1")}, by)},
		{name: "the agent's release in the service's own file", item: itemAgent, rule: ruleLeft, fault: not, says: []string{"takes any"}, make: files(Files{"staging/web.hcl": Service("web", "1.3") + Agent("6.6.6")}, by)},
		{name: "a service that is called hostagent", item: itemAgent, rule: ruleLeft,
			make: after(Files{"staging/h.hcl": Service("hostagent", "1")}, files(Files{"staging/h.hcl": Service("hostagent", "2")}, by))},

		{name: "the artifact's source", item: itemChanged, rule: ruleBytes, fault: not, says: []string{`changes service "web" (prod/web.hcl:9)`}, make: edit(web, "https://artifacts", "https://evil", by)},
		{name: "a profile", item: itemChanged, rule: ruleBytes, fault: not, says: []string{"takes any in every environment"}, make: edit("profiles.hcl", ":80", ":81", by)},
		{name: "a profile, by who may do anything in staging", item: itemChanged, rule: ruleRoles, fault: not, says: []string{"lead@acme.example signed it"}, make: edit("profiles.hcl", ":80", ":81", By(Lead()))},
		{name: "a hook", item: itemChanged, rule: ruleBytes, fault: not, says: []string{"takes any"}, make: files(Files{web: Service("web", "1.2", "  run \"x\" {\n    after   = \"start\"\n    command = [\"/bin/sh\", \"-c\", \"id\"]\n  }\n")}, by)},
		{name: "a freeze for a reason that a terminal obeys", item: itemControl, rule: ruleRoles, fault: not, says: []string{"characters that can be seen"},
			make: files(Files{"prod/freeze.hcl": "freeze \"\\u001b[2Jall is well\" {\n}\n"}, By(Freezer()))},
		{name: "a freeze for a reason of two lines", item: itemControl, rule: ruleRoles, fault: not, says: []string{"one line"},
			make: files(Files{"prod/freeze.hcl": "freeze \"x\\n  web  converged\" {\n}\n"}, By(Freezer()))},
		{name: "a new service", rule: ruleRoles, fault: not, says: []string{"adds a file"}, make: files(Files{"prod/new.hcl": Service("new", "1")}, by)},
		{name: "a new service, by who may do anything", rule: ruleRoles, make: files(Files{"prod/new.hcl": Service("new", "1")}), runs: map[string]string{"new": "1"}},
		{name: "a service less", rule: ruleRoles, fault: not, says: []string{"deletes a file"}, make: files(Files{web: Gone}, by)},
		{name: "a file renamed", rule: ruleRoles, fault: not, says: []string{"takes any"}, make: files(Files{web: Gone, "prod/w.hcl": Service("web", "1.1")}, by)},
		{name: "a folder in the place of a file", rule: ruleRoles, fault: not, says: []string{"takes any"}, make: files(Files{web: Gone, "prod/web.hcl/web.hcl": moved}, by)},
		{name: "an executable bit", rule: ruleBytes, fault: not, says: []string{"mode from 100644 to 100755"}, make: files(Files{web: Executable + moved}, by)},
		{name: "a mode that git once wrote, and reads as another", rule: ruleBytes, make: files(Files{web: OddMode + moved}, by), runs: bumped},
		{name: "a symbolic link", rule: ruleBytes, fault: not, says: []string{"a symbolic link"}, make: files(Files{web: Link + "../staging/web.hcl"}, by)},
		{name: "a submodule", rule: ruleBytes, fault: not, says: []string{"a submodule"}, make: files(Files{"prod/sub": Submodule}, by)},
		{name: "a file of another kind", rule: ruleBytes, fault: not, says: []string{"no declaration"}, make: files(Files{"prod/run.sh": "id\n"}, by)},
		{name: "a file whose name begins with a dot", rule: ruleBytes, fault: not, says: []string{"takes any"}, make: files(Files{"prod/.web.hcl": moved}, by)},
		{name: "a file whose name ends in other letters", rule: ruleBytes, fault: not, says: []string{"takes any"}, make: files(Files{"prod/web.HCL": moved}, by)},

		{name: "a promotion of what staging runs", rule: ruleRoles, make: bump(By(Promoter()), released("prod", "web", "1.1", "1.2")), runs: bumped},
		{name: "a promotion of what runs nowhere", rule: ruleRoles, fault: not, says: []string{"takes bump in prod"}, make: files(Files{web: Service("web", "1.3")}, By(Promoter()), released("prod", "web", "1.1", "1.3"))},
		{name: "a promotion without its trailer", rule: ruleRoles, fault: not, says: []string{"takes bump in prod"}, make: bump(By(Promoter()))},
		{name: "a promotion of the version with other bytes", rule: ruleRoles, fault: not, says: []string{"takes bump in prod"},
			make: edit(web, `"1.1" # by a pipeline`+"\n    digest  = \""+v, `"1.2" # by a pipeline`+"\n    digest  = \""+DigestOf("evil"), By(Promoter()), released("prod", "web", "1.1", "1.2"))},
		{name: "a promotion that its own commit runs in staging", rule: ruleRoles, fault: not, says: []string{"takes bump in"},
			make: files(Files{"staging/web.hcl": Service("web", "1.3"), web: Service("web", "1.3")}, By(Promoter()), released("prod", "web", "1.1", "1.3"))},

		{name: "a freeze", rule: ruleRoles, make: files(Files{"prod/freeze.hcl": Freeze("a")}, By(Freezer()))},
		{name: "a freeze lifted", rule: ruleRoles, make: func(r *Repo, base string) string {
			return r.On(r.On(base, Files{"prod/freeze.hcl": Freeze("a")}, By(Freezer())), Files{"prod/freeze.hcl": Gone}, By(Freezer()))
		}},
		{name: "a freeze elsewhere", rule: ruleRoles, fault: not, says: []string{"takes freeze in staging"}, make: files(Files{"staging/freeze.hcl": Freeze("a")}, By(Freezer()))},
		{name: "a freeze everywhere", rule: ruleRoles, fault: not, says: []string{"takes freeze in every environment"}, make: files(Files{"freeze.hcl": Freeze("a")}, By(Freezer()))},
		{name: "a freeze with a bump", rule: ruleRoles, fault: not, says: []string{"takes bump in prod"}, make: files(Files{web: Freeze("a") + "\n" + moved}, By(Freezer()))},
		{name: "a freeze with an override", rule: ruleRoles, fault: not, says: []string{"takes any in prod"}, make: files(Files{"prod/f.hcl": Freeze("a") + "\noverride \"x\" {\n  skip = [\"freeze\"]\n  until = \"2027-01-01T00:00:00Z\"\n}\n"}, By(Freezer()))},
		{name: "a freeze with a block in it", rule: ruleRoles, fault: not, says: []string{"takes any in prod"}, make: files(Files{"prod/f.hcl": strings.Replace(Freeze("a"), "}", "  service \"x\" {\n  }\n}", 1)}, By(Freezer()))},
		{name: "a freeze that would hold the whole environment", rule: ruleRoles, fault: not, says: []string{"takes any in prod"}, make: files(Files{"prod/f.hcl": "freeze \"x\" {\n  nonsense = true\n}\n"}, By(Freezer()))},
		{name: "a retry", rule: ruleRoles, make: edit("prod/retry.hcl", "attempt = 3", "attempt = 4", By(Operator()))},
		{name: "a retry with another digest", rule: ruleRoles, fault: not, says: []string{"takes bump in prod"}, make: func(r *Repo, base string) string {
			f := r.Edit(base, "prod/retry.hcl", "attempt = 3", "attempt = 4")
			f["prod/retry.hcl"] = strings.Replace(f["prod/retry.hcl"], DigestOf("retry1"), DigestOf("evil"), 1)
			return r.On(base, f, By(Operator()))
		}},
		{name: "a host forgotten", rule: ruleRoles, make: files(Files{"prod/forget.hcl": "forgotten \"web-9\" {\n}\n"}, By(Operator()))},
		{name: "a service removed by who operates", rule: ruleRoles, fault: not, says: []string{"takes any in prod"}, make: files(Files{"prod/r.hcl": "removed \"web\" {\n  hosts = {}\n}\n"}, By(Operator()))},
		{name: "a service moved by who operates", rule: ruleRoles, fault: not, says: []string{"takes any in prod"}, make: files(Files{"prod/r.hcl": "moved {\n  from = \"web\"\n  to   = \"api\"\n}\n"}, By(Operator()))},
		{name: "a heartbeat", rule: "A heartbeat is a signed commit with an empty diff", make: files(nil, By(Operator()))},
		{name: "a heartbeat by who may only bump", rule: "A heartbeat is a signed commit with an empty diff", fault: not, says: []string{"a heartbeat"}, make: files(nil, by)},

		{name: "an approval file", rule: ruleFiles, make: files(Files{approval: "a signature\n"}, By(CI()))},
		{name: "an approval file by who is in no role", rule: ruleFiles, fault: not, says: []string{"in no role"}, make: files(Files{approval: "a signature\n"}, By(Guest()))},
		{name: "an approval file changed", rule: ruleFiles, fault: not, says: []string{"changes an approval"}, make: files(Files{OldApproval: "another\n"}, by)},
		{name: "an approval file deleted", rule: ruleFiles, fault: not, says: []string{"deletes an approval"}, make: files(Files{OldApproval: Gone}, by)},
		{name: "an approval file deleted by who may", rule: ruleFiles, make: files(Files{OldApproval: Gone})},
		{name: "an approval file of another name", rule: ruleFiles, fault: not, says: []string{"no approval's"}, make: files(Files{"approvals/prod/web/1.2-bbbbbbbbbbbb/run.hcl": Service("x", "1")}, by)},
		{name: "an approval file too deep", rule: ruleFiles, fault: not, says: []string{"no approval's"}, make: files(Files{"approvals/prod/web/x/1.2-bbbbbbbbbbbb/0123456789abcdef.sig": "x"}, by)},
		{name: "an approval file at the root of approvals", rule: ruleFiles, fault: not, says: []string{"no approval's"}, make: files(Files{"approvals/x.hcl": Service("x", "1")}, by)},
		{name: "an approval file in a folder in other letters", rule: ruleFiles, fault: not, says: []string{"takes any"}, make: files(Files{"Approvals/prod/web/1.2-bbbbbbbbbbbb/0123456789abcdef.sig": "x"}, by)},
		{name: "an approval file that is empty", rule: ruleFiles, fault: not, says: []string{"of 0 bytes"}, make: files(Files{approval: ""}, by)},
		{name: "an approval file that is huge", rule: ruleFiles, fault: not, says: []string{"bytes"}, make: files(Files{approval: strings.Repeat("x", 65<<10)}, by)},
		{name: "an approval file that is a link", rule: ruleFiles, fault: not, says: []string{"a symbolic link"}, make: files(Files{approval: Link + "0123456789ab.sig"}, by)},
		{name: "an approval file that can be executed", rule: ruleFiles, fault: not, says: []string{"executable"}, make: files(Files{approval: Executable + "x"}, by)},
		{name: "an approval file with a bump", rule: ruleFiles, make: files(Files{approval: "x", web: moved}, by), runs: bumped},
	}
}
