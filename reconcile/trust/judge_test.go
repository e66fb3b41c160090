package trust

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	agentBlock = "hostagent {\n  release {\n    version = \"1.0.0\"\n    digest  = \"" + digA + "\"\n  }\n}\n"
	jsonFile   = `{"service": {"js": {"hosts": {}, "release": {"version": "1.0", "digest": "` + digA + `"}}}}`
	approved   = "approvals/prod/web/1.0-aaaaaaaaaaaa/0123456789ab.sig"
)

// world is a repository with some history: staging runs web 1.2 and had 1.0 and
// 1.1; prod runs 1.1 and had 1.0.
func world(r *repo) string {
	c := r.on("", files{
		"README.md": "hello\n", "profiles.hcl": "profile \"p\" {\n}\n",
		"staging/web.hcl": service("web", "1.0"), "prod/web.hcl": service("web", "1.0"),
		"prod/api.hcl": service("api", "7") + "\n" + agentBlock, "prod/js.hcl.json": jsonFile,
		"prod/retry.hcl": strings.Replace(service("retry", "1"), "  }\n", "    attempt = 3\n  }\n", 1),
		approved:         "a signature\n",
	}, unsigned())
	c = r.on(c, files{"staging/web.hcl": service("web", "1.1"), "prod/web.hcl": service("web", "1.1")}, unsigned())
	return r.on(c, files{"staging/web.hcl": service("web", "1.2")}, unsigned())
}

// row is a history on top of the world, and what becomes of its head.
type row struct {
	name  string
	make  func(r *repo, base string) string
	fault Fault  // "": accepted
	says  string // a part of the blocker's text
}

func edit1(path, content string, o ...option) func(*repo, string) string {
	return func(r *repo, base string) string { return r.on(base, files{path: content}, o...) }
}

// swap edits a file of the base.
func swap(path, old, new string, o ...option) func(*repo, string) string {
	return func(r *repo, base string) string {
		was := r.content(r.commits[base].tree[path])
		if !strings.Contains(was, old) {
			r.t.Fatalf("%s has no %q", path, old)
		}
		return r.on(base, files{path: strings.Replace(was, old, new, 1)}, o...)
	}
}

func promotion(env, name, from, to string) option {
	return says_(fmt.Sprintf("%s %s -> %s (%s)\n\nDrydock-Release: %s/%s %s %s %s\n", name, from, to, env, env, name, from, to, digestOf(to)))
}

var (
	ci       = by("ci@acme")
	bumper   = by("bumper@acme")
	operator = by("operator@acme")
	freezer  = by("freezer@acme")
)

func (row row) run(t *testing.T) {
	r := newRepo(t)
	base := world(r)
	head := row.make(r, base)
	v, err := r.judge().Judge(context.Background(), base, head, noon)
	var b *Blocker
	switch {
	case row.fault == "" && err != nil:
		t.Fatalf("refused: %v", err)
	case row.fault == "":
		if v.Head != head || v.Commits == 0 {
			t.Fatalf("%+v", v)
		}
	case err == nil:
		t.Fatalf("accepted: %+v", v)
	case !errors.As(err, &b):
		t.Fatalf("no blocker: %v", err)
	case b.Fault != row.fault || !strings.Contains(err.Error(), row.says):
		t.Fatalf("want %s, with %q; got %s:\n%v", row.fault, row.says, b.Fault, err)
	}
}

func run(t *testing.T, rows []row) {
	for _, row := range rows {
		t.Run(row.name, row.run)
	}
}

func TestBump(t *testing.T) {
	stagingWeb := "staging/web.hcl"
	bump := func(v string) string { return service("web", v) }
	run(t, []row{
		{"a new release", edit1(stagingWeb, bump("1.3"), ci), "", ""},
		{"another digest of the same version", swap(stagingWeb, digestOf("1.2"), digC, ci), "", ""},
		{"a version only", swap(stagingWeb, `"1.2"`, `"1.2-1"`, ci), "", ""},
		{"in JSON", swap("prod/js.hcl.json", `"1.0"`, `"1.1"`, bumper), "", ""},
		{"by somebody a pattern fits", edit1(stagingWeb, bump("1.3"), by("ci-7@bots")), "", ""},
		{"two services in one commit", func(r *repo, base string) string {
			return r.on(base, files{"staging/web.hcl": bump("1.3"), "prod/web.hcl": service("web", "1.3")}, bumper)
		}, "", ""},
		{"1.2 to 1.3, and on to 1.4", func(r *repo, base string) string {
			return r.on(r.on(base, files{stagingWeb: bump("1.3")}, ci), files{stagingWeb: bump("1.4")}, ci)
		}, "", ""},
		{"the attempt begins again with a release", swap("prod/retry.hcl", digestOf("1")+"\"\n    attempt = 3", digestOf("2")+"\"\n    attempt = 1", bumper), "", ""},
		{"a release that only another environment left", edit1("prod/web.hcl", bump("1.2"), bumper), "", ""},

		{"in another environment", edit1("prod/web.hcl", bump("1.3"), ci), NotAllowed, "takes bump in prod; ci@acme signed it, who may do less (pipeline: bump in staging)"},
		{"in one that looks the same", func(r *repo, base string) string {
			c := r.on(base, files{"ѕtaging/web.hcl": bump("1")})
			return r.on(c, files{"ѕtaging/web.hcl": bump("2")}, ci)
		}, NotAllowed, "in ѕtaging"},
		{"with a comment", swap(stagingWeb, "by a pipeline", "by somebody", ci), NotAllowed, "changes a comment in service \"web\" (staging/web.hcl:5), which takes any in staging"},
		{"and a comment", func(r *repo, base string) string {
			return r.on(base, files{stagingWeb: strings.Replace(bump("1.3"), "by a pipeline", "by somebody", 1)}, ci)
		}, NotAllowed, "a comment"},
		{"a comment among digests", func(r *repo, base string) string {
			many := func(v, comment string) string {
				return "service \"m\" {\n  hosts = {}\n  release {\n    version = \"" + v + "\"\n    digests = {\n      # " + comment + "\n      \"linux/amd64\" = \"" + digestOf(v) + "\"\n    }\n  }\n}\n"
			}
			c := r.on(base, files{"staging/m.hcl": many("1", "yes")})
			c = r.on(c, files{"staging/m.hcl": many("2", "yes")}, ci)
			return r.on(c, files{"staging/m.hcl": many("3", "no")}, ci)
		}, NotAllowed, "a comment"},
		{"white space", swap(stagingWeb, "version = ", "version =  ", ci), NotAllowed, "takes any in staging"},
		{"a path as version", swap(stagingWeb, `"1.2"`, `"../../etc"`, ci), NotAllowed, "as no plain value: version:"},
		{"a function", swap(stagingWeb, `"1.2"`, `lower("1.3")`, ci), NotAllowed, "it calls a function (staging/web.hcl:5), which takes any"},
		{"a name", swap(stagingWeb, `"1.2"`, `local.version`, ci), NotAllowed, "it names local.version"},
		{"a template", swap(stagingWeb, `"1.2"`, `"1.${"3"}"`, ci), NotAllowed, "it is an expression"},
		{"a template in JSON", swap("prod/js.hcl.json", `"1.0"`, `"1.${host.name}"`, bumper), NotAllowed, "it names host.name"},
		{"the same in other bytes", swap(stagingWeb, `"1.2"`, `"\u0031.2"`, ci), NotAllowed, "another way that says the same"},
		{"an executable file more", edit1("staging/x.hcl", executable, ci), NotAllowed, "adds an executable file"},
		{"an empty file more", edit1("staging/x.hcl", "", ci), NotAllowed, "takes any"},
		{"a number", swap(stagingWeb, `"1.2"`, `1.3`, ci), NotAllowed, "no plain value"},
		{"the other digest syntax", swap(stagingWeb, `digest  = "`+digestOf("1.2")+`"`, `digests = { "linux/amd64" = "`+digestOf("1.3")+`" }`, ci), NotAllowed, "takes any"},
		{"a digest that is none", swap(stagingWeb, digestOf("1.2"), "sha256:0", ci), NotAllowed, "takes any"},
		{"back", edit1(stagingWeb, bump("1.1"), ci), NotAllowed, "moves web from 1.2 to 1.1, a release that staging has left"},
		{"back by the digest alone", swap(stagingWeb, digestOf("1.2"), digestOf("1.1"), ci), NotAllowed, "has left"},
		{"back under another name", func(r *repo, base string) string {
			return r.on(base, files{stagingWeb: strings.Replace(bump("2.0"), digestOf("2.0"), digestOf("1.0"), 1)}, ci)
		}, NotAllowed, "takes rollback in staging"},
		{"back to what it left in this very range", func(r *repo, base string) string {
			return r.on(r.on(base, files{stagingWeb: bump("1.3")}, ci), files{stagingWeb: bump("1.2")}, ci)
		}, NotAllowed, "has left"},
		{"back, in JSON", func(r *repo, base string) string {
			c := r.on(base, files{"prod/js.hcl.json": strings.Replace(jsonFile, `"1.0"`, `"1.1"`, 1)}, bumper)
			return r.on(c, files{"prod/js.hcl.json": jsonFile}, bumper)
		}, NotAllowed, "has left"},
		{"back after the file moved", func(r *repo, base string) string {
			c := r.on(base, files{stagingWeb: gone, "staging/a/web.hcl": bump("1.2")})
			return r.on(c, files{"staging/a/web.hcl": bump("1.1")}, ci)
		}, NotAllowed, "has left"},
		{"back after the service moved to another name", renamed(stagingWeb, "staging/store.hcl", "1.1"), NotAllowed, "moves store from 1.2 to 1.1, a release that staging has left"},
		{"back after the service moved, as the root says", renamed(stagingWeb, "moved.hcl", "1.1"), NotAllowed, "has left"},
		{"forward after the service moved to another name", renamed(stagingWeb, "staging/store.hcl", "1.3"), "", ""},
		{"the agent", swap("prod/api.hcl", `"1.0.0"`, `"1.0.1"`, bumper), NotAllowed, "changes hostagent"},
		{"the artifact's source", swap(stagingWeb, "https://a", "https://evil", ci), NotAllowed, "changes service \"web\" (staging/web.hcl:9)"},
		{"a profile", swap("profiles.hcl", "\n}", "\n  depends_on = [\"x\"]\n}", ci), NotAllowed, "in every environment"},
		{"and a profile, by somebody whose any is for one environment", swap("profiles.hcl", "\n}", "\n  depends_on = [\"x\"]\n}", by("lead@acme")), NotAllowed, "takes any in every environment"},
		{"a new service", edit1("staging/new.hcl", service("new", "1"), ci), NotAllowed, "adds a file"},
		{"a service less", edit1(stagingWeb, gone, ci), NotAllowed, "deletes a file"},
		{"another release block", swap(stagingWeb, "  artifact", "  release {\n    version = \"2\"\n  }\n  artifact", ci), NotAllowed, "takes any"},
		{"the service declared twice", swap(stagingWeb, "# web\n", "# web\nservice \"web\" {\n}\n", ci), NotAllowed, "takes any"},
		{"what does not parse", edit1(stagingWeb, "service {", ci), NotAllowed, "leaves a file that cannot be read"},
		{"a byte order mark", func(r *repo, base string) string {
			return r.on(base, files{stagingWeb: "\xef\xbb\xbf" + bump("1.3")}, ci)
		}, NotAllowed, "cannot be read"},
		{"a file of another kind", edit1("staging/hook.sh", "rm -rf /\n", ci), NotAllowed, "no declaration"},
		{"an executable bit", edit1(stagingWeb, executable+bump("1.2"), ci), NotAllowed, "mode"},
		{"an executable bit and a release", edit1(stagingWeb, executable+bump("1.3"), ci), NotAllowed, "mode"},
		{"a symbolic link", edit1(stagingWeb, link, ci), NotAllowed, "a symbolic link"},
		{"a submodule", edit1("staging/sub", submodule, ci), NotAllowed, "a submodule"},
		{"a deleted link", func(r *repo, base string) string {
			return r.on(r.on(base, files{"staging/l": link}), files{"staging/l": gone}, ci)
		}, NotAllowed, "deletes a symbolic link"},
		{"a higher attempt with it", swap("prod/retry.hcl", digestOf("1")+"\"\n    attempt = 3", digestOf("2")+"\"\n    attempt = 4", bumper), NotAllowed, "takes operate"},
		{"an attempt line with it", func(r *repo, base string) string {
			return r.on(base, files{stagingWeb: strings.Replace(bump("1.3"), "  }\n", "    attempt = 2\n  }\n", 1)}, ci)
		}, NotAllowed, "takes any"},
	})
}

func TestOtherPermissions(t *testing.T) {
	web := func(v string) string { return service("web", v) }
	freeze := "freeze \"audit\" {\n  until = \"2027-01-01T00:00:00Z\"\n}\n"
	run(t, []row{
		{"rollback", edit1("staging/web.hcl", web("1.1"), by("roller@acme")), "", ""},
		{"rollback to what never was there", edit1("staging/web.hcl", web("1.3"), by("roller@acme")), NotAllowed, "takes bump in staging"},

		{"promotion of what staging runs", edit1("prod/web.hcl", web("1.2"), by("promoter@acme"), promotion("prod", "web", "1.1", "1.2")), "", ""},
		{"promotion in the same commit's past", func(r *repo, base string) string {
			c := r.on(base, files{"staging/web.hcl": web("1.3")}, ci)
			return r.on(c, files{"prod/web.hcl": web("1.3")}, by("promoter@acme"), promotion("prod", "web", "1.1", "1.3"))
		}, "", ""},
		{"promotion of what runs nowhere", edit1("prod/web.hcl", web("1.3"), by("promoter@acme"), promotion("prod", "web", "1.1", "1.3")), NotAllowed, "takes bump in prod"},
		{"promotion of what staging ran", func(r *repo, base string) string {
			c := r.on(base, files{"staging/web.hcl": web("1.3")}, ci)
			return r.on(c, files{"prod/web.hcl": web("1.2")}, by("promoter@acme"), promotion("prod", "web", "1.1", "1.2"))
		}, NotAllowed, "takes bump in prod"},
		{"promotion of the version with another digest", func(r *repo, base string) string {
			return r.on(base, files{"prod/web.hcl": strings.Replace(web("1.2"), digestOf("1.2"), digC, 1)}, by("promoter@acme"), promotion("prod", "web", "1.1", "1.2"))
		}, NotAllowed, "takes bump in prod"},
		{"promotion without its trailer", edit1("prod/web.hcl", web("1.2"), by("promoter@acme")), NotAllowed, "takes bump in prod"},
		{"promotion with another's trailer", edit1("prod/web.hcl", web("1.2"), by("promoter@acme"), promotion("prod", "web", "1.0", "1.2")), NotAllowed, "takes bump"},
		{"promotion back", func(r *repo, base string) string {
			c := r.on(base, files{"staging/web.hcl": web("1.0")})
			return r.on(c, files{"prod/web.hcl": web("1.0")}, by("promoter@acme"), promotion("prod", "web", "1.1", "1.0"))
		}, NotAllowed, "takes rollback in prod"},
		{"promotion brings staging a release", edit1("staging/web.hcl", web("1.3"), by("promoter@acme")), NotAllowed, "in staging"},

		{"freeze in a new file", edit1("prod/freeze.hcl", freeze, freezer), "", ""},
		{"freeze among others", swap("prod/web.hcl", "# web\n", freeze+"\n# web\n", freezer), "", ""},
		{"unfreeze", func(r *repo, base string) string {
			return r.on(r.on(base, files{"prod/freeze.hcl": freeze}, freezer), files{"prod/freeze.hcl": gone}, freezer)
		}, "", ""},
		{"freeze in JSON", swap("prod/js.hcl.json", `{"service"`, `{"freeze": {"audit": {"until": "2027-01-01T00:00:00Z"}}, "service"`, freezer), "", ""},
		{"freeze and bump by one who may both", func(r *repo, base string) string {
			return r.on(base, files{"prod/web.hcl": freeze + "\n" + web("1.3")})
		}, "", ""},
		{"freeze elsewhere", edit1("staging/freeze.hcl", freeze, freezer), NotAllowed, "takes freeze in staging"},
		{"freeze everywhere", edit1("freeze.hcl", freeze, freezer), NotAllowed, "takes freeze in every environment"},
		{"freeze with a bump", func(r *repo, base string) string {
			return r.on(base, files{"prod/web.hcl": freeze + "\n" + web("1.3")}, freezer)
		}, NotAllowed, "takes bump in prod"},
		{"freeze with a comment", edit1("prod/freeze.hcl", "# so\n"+freeze, freezer), NotAllowed, "takes any"},
		{"freeze and a blank line in a heredoc", func(r *repo, base string) string {
			doc := func(gap string) string {
				return "service \"h\" {\n  hosts = {}\n  release {\n    version = \"1\"\n  }\n  start \"command\" {\n    command = [<<E\na\n" + gap + "b\nE\n    ]\n  }\n}\n"
			}
			c := r.on(base, files{"prod/h.hcl": doc("")})
			return r.on(c, files{"prod/h.hcl": freeze + "\n" + doc("\n")}, freezer)
		}, NotAllowed, "changes service \"h\""},
		{"freeze that is evaluated", edit1("prod/freeze.hcl", "freeze \"x\" {\n  until = local.t\n}\n", freezer), NotAllowed, "until is not a plain value"},
		{"freeze that would stop the environment", edit1("prod/freeze.hcl", "freeze \"x\" {\n  nonsense = 1\n}\n", freezer), NotAllowed, "takes any in prod"},
		{"freeze that ends before it begins", edit1("prod/freeze.hcl", "freeze \"x\" {\n  from = \"2027-01-02T00:00:00Z\"\n  until = \"2027-01-01T00:00:00Z\"\n}\n", freezer), NotAllowed, "ends before"},
		{"override by who may freeze", edit1("prod/o.hcl", "override \"x\" {\n  skip = [\"freeze\"]\n  until = \"2027-01-01T00:00:00Z\"\n}\n", freezer), NotAllowed, "takes any"},

		{"retry", swap("prod/retry.hcl", "attempt = 3", "attempt = 4", operator), "", ""},
		{"retry where no attempt stood", swap("prod/web.hcl", "\n  }\n  artifact", "\n    attempt = 2\n  }\n  artifact", operator), "", ""},
		{"retry in JSON where no attempt stood", swap("prod/js.hcl.json", digA+`"`, digA+`", "attempt": 2`, operator), "", ""},
		{"retry backwards", swap("prod/retry.hcl", "attempt = 3", "attempt = 2", operator), NotAllowed, "takes retry 1 back from attempt 3 to 2 (prod/retry.hcl:5), which takes any"},
		{"retry with a comment", swap("prod/web.hcl", "\n  }\n  artifact", "\n    attempt = 2 # again\n  }\n  artifact", operator), NotAllowed, "takes any"},
		{"retry by a pipeline", swap("prod/retry.hcl", "attempt = 3", "attempt = 4", bumper), NotAllowed, "tries retry 1 again (attempt 4)"},
		{"forget", edit1("prod/hosts.hcl", "forgotten \"web-9\" {\n  reason = \"burnt\"\n}\n", operator), "", ""},
		{"resolve", edit1("prod/resolved.hcl", "resolved \"web\" {\n  release = \"1.1\"\n  outcome = \"applied\"\n}\n", operator), "", ""},
		{"resolve and remove", edit1("prod/resolved.hcl", "resolved \"web\" {\n  release = \"1.1\"\n  outcome = \"applied\"\n}\nremoved \"web\" {\n  hosts = {}\n}\n", operator), NotAllowed, "takes any"},
		{"heartbeat", func(r *repo, base string) string { return r.on(base, nil, operator) }, "", ""},
		{"heartbeat by a pipeline", func(r *repo, base string) string { return r.on(base, nil, ci) }, NotAllowed, "changes nothing (a heartbeat), which takes operate;"},

		{"an approval by anybody with a role", edit1("approvals/prod/web/1.2-aaaaaaaaaaaa/00112233445566.sig", "a signature\n", ci), "", ""},
		{"an approval by somebody without", edit1("approvals/prod/web/1.2-aaaaaaaaaaaa/00112233445566.sig", "a signature\n", by("mallory@acme")), NotAllowed, "mallory@acme is in no role"},
		{"an approval that is none", edit1("approvals/prod/web/x.sig", "a\n", ci), NotAllowed, "no approval's"},
		{"an approval with another extension", edit1("approvals/prod/web/1.2-aaaaaaaaaaaa/00112233445566.hcl", "a\n", ci), NotAllowed, "takes any"},
		{"an approval that is a link", edit1("approvals/prod/web/1.2-aaaaaaaaaaaa/00112233445566.sig", link, ci), NotAllowed, "link"},
		{"an approval changed", edit1(approved, "another\n", ci), NotAllowed, "changes an approval"},
		{"an approval deleted", edit1(approved, gone, ci), NotAllowed, "deletes an approval"},
		{"an approval deleted by who may", edit1(approved, gone), "", ""},
		{"an approval too large", edit1("approvals/prod/web/1.2-aaaaaaaaaaaa/00112233445566.sig", strings.Repeat("a", maxApproval+1), ci), NotAllowed, "bytes"},

		{"anything by any", func(r *repo, base string) string {
			return r.on(base, files{"README.md": "x", "prod/l": link, "profiles.hcl": gone, "prod/api.hcl": "", approved: gone}, by("robot@acme"))
		}, "", ""},
		{"any of an environment, there", edit1("staging/new.hcl", service("new", "1"), by("lead@acme")), "", ""},
		{"any of an environment, elsewhere", edit1("prod/new.hcl", service("new", "1"), by("lead@acme")), NotAllowed, "takes any in prod"},
	})
}

func TestSignatures(t *testing.T) {
	bump := files{"staging/web.hcl": service("web", "1.3")}
	run(t, []row{
		{"none", func(r *repo, base string) string { return r.on(base, bump, unsigned()) }, Unsigned, "is not signed; it moves web from 1.2 to 1.3 (staging/web.hcl:5), which takes bump in staging. If it is meant, somebody of role people or leads runs: drydock vouch "},
		{"by a stranger", func(r *repo, base string) string { return r.on(base, bump, by("stranger")) }, BadSignature, "on no line of allowed_signers"},
		{"of another commit", func(r *repo, base string) string {
			return r.on(base, bump, ci, signing(func([]byte) string { return armoured("ci@acme", []byte("other")) }))
		}, BadSignature, "not a signature of this commit"},
		{"of other bytes", func(r *repo, base string) string {
			return r.on(base, bump, ci, later(func(s string) string { return strings.Replace(s, "a change", "A change", 1) }))
		}, BadSignature, "does not count"},
		{"by a principal that is only a prefix", func(r *repo, base string) string { return r.on(base, bump, by("ci@acm")) }, NotAllowed, "in no role"},
		{"by a principal with more behind", func(r *repo, base string) string { return r.on(base, bump, by("ci@acme.evil")) }, NotAllowed, "in no role"},
		{"by one in other letters", func(r *repo, base string) string { return r.on(base, bump, by("CI@acme")) }, NotAllowed, "in no role"},
		{"by a look-alike", func(r *repo, base string) string { return r.on(base, bump, by("сi@acme")) }, NotAllowed, "in no role"},
		{"by one that a pattern leaves out", func(r *repo, base string) string { return r.on(base, bump, by("root@bots")) }, NotAllowed, "in no role"},
		{"by a pattern", func(r *repo, base string) string { return r.on(base, bump, by("*@bots")) }, NotAllowed, "is a pattern, which is nobody"},
		{"in a kind nobody knows", func(r *repo, base string) string {
			return r.on(base, bump, ci, signing(func([]byte) string { return "-----BEGIN TRUST-----\nx\n" }))
		}, Malformed, "no signature of a kind"},
		{"twice", func(r *repo, base string) string {
			return r.on(base, bump, ci, later(func(s string) string { return string(withSignature([]byte(s), armoured("ci@acme", nil))) }))
		}, Malformed, "gpgsig stands twice"},
		{"two in one header", func(r *repo, base string) string {
			return r.on(base, bump, signing(func(p []byte) string { return armoured("ci@acme", p) + armoured("alice@acme", p) }))
		}, Malformed, "two signatures"},
		{"for another hash", func(r *repo, base string) string {
			return r.on(base, bump, later(func(s string) string { return strings.Replace(s, "gpgsig ", "gpgsig-sha256 ", 1) }))
		}, Malformed, "signed for another hash"},
		{"dated 2099", func(r *repo, base string) string {
			return r.on(base, bump, ci, dated(time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)))
		}, Ahead, "is dated 2099-01-01T00:00:00Z, and it is 2026-11-22T12:00:00Z here, so it is not accepted yet"},
		{"dated 2099, and one on top", func(r *repo, base string) string {
			return r.on(r.on(base, bump, ci, dated(time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC))), nil)
		}, Ahead, "2099"},
		{"11 minutes ahead", func(r *repo, base string) string { return r.on(base, bump, ci, dated(noon.Add(11*time.Minute))) }, Ahead, "not accepted yet"},
		{"10 minutes ahead", func(r *repo, base string) string { return r.on(base, bump, ci, dated(noon.Add(10*time.Minute))) }, "", ""},
		{"of the past", func(r *repo, base string) string { return r.on(base, bump, ci, dated(time.Unix(0, 0))) }, "", ""},
		{"a bad commit under a good one", func(r *repo, base string) string {
			return r.on(r.on(base, bump, unsigned(), says_("sneaked in\n")), nil)
		}, Unsigned, `nobody <nobody@acme> ("sneaked in") is not signed`},
		{"a bad commit that a later one undoes", func(r *repo, base string) string {
			return r.on(r.on(base, bump, unsigned()), files{"staging/web.hcl": service("web", "1.2")})
		}, Unsigned, ""},
		{"a header twice", func(r *repo, base string) string {
			return r.on(base, bump, ci, before(func(s string) string { return strings.Replace(s, "author ", "author a <a> 1 +0000\nauthor ", 1) }))
		}, Malformed, "author stands where committer must, or twice"},
		{"another tree behind", func(r *repo, base string) string {
			return r.on(base, bump, ci, before(func(s string) string { return strings.Replace(s, "\n\n", "\ntree "+digA[7:47]+"\n\n", 1) }))
		}, Malformed, "tree stands twice"},
		{"a history of its own", func(r *repo, _ string) string { return r.on("", bump) }, NotForward, "does not descend"},
		{"an older commit", func(r *repo, base string) string { return r.commits[base].parents[0] }, NotForward, "merge the accepted commit back"},
		{"the accepted one merged back after a forced push", func(r *repo, base string) string {
			forced := r.on(r.commits[base].parents[0], files{"prod/api.hcl": service("api", "8") + "\n" + agentBlock}, bumper)
			return r.merge(forced, base, nil, unsigned())
		}, "", ""},
	})
}

func TestMerges(t *testing.T) {
	web := func(v string) string { return service("web", v) }
	api := func(v string) string { return service("api", v) + "\n" + agentBlock }
	// sides are two signed branches that touch different files.
	sides := func(r *repo, base string) (string, string) {
		return r.on(base, files{"staging/web.hcl": web("1.3")}, ci), r.on(base, files{"prod/api.hcl": api("8")}, bumper)
	}
	merging := func(edits files, o ...option) func(*repo, string) string {
		return func(r *repo, base string) string {
			a, b := sides(r, base)
			return r.merge(a, b, edits, o...)
		}
	}
	// both are two branches that change one file.
	both := func(edits files, o ...option) func(*repo, string) string {
		return func(r *repo, base string) string {
			a := r.on(base, files{"staging/web.hcl": web("1.3")}, ci)
			b := r.on(base, files{"staging/web.hcl": web("1.4")}, ci)
			return r.merge(a, b, edits, o...)
		}
	}
	run(t, []row{
		{"nothing added", merging(nil, unsigned()), "", ""},
		{"nothing added, signed by the forge", merging(nil, by("stranger")), "", ""},
		{"nothing added, and one on top", func(r *repo, base string) string {
			a, b := sides(r, base)
			return r.on(r.merge(a, b, nil, unsigned()), nil, operator)
		}, "", ""},
		{"of a branch that is merged already", func(r *repo, base string) string {
			a, _ := sides(r, base)
			return r.merge(a, base, nil, unsigned())
		}, "", ""},
		{"without fast-forward", func(r *repo, base string) string {
			a, _ := sides(r, base)
			return r.merge(base, a, nil, unsigned())
		}, "", ""},
		{"of a branch that began before", func(r *repo, base string) string {
			old := r.on(r.commits[base].parents[0], files{"prod/api.hcl": api("8")}, bumper)
			return r.merge(base, old, nil, unsigned())
		}, "", ""},
		{"deleted on one side", func(r *repo, base string) string {
			a, _ := sides(r, base)
			return r.merge(a, r.on(base, files{"README.md": gone}), nil, unsigned())
		}, "", ""},
		{"an authorised rollback on a branch", func(r *repo, base string) string {
			_, b := sides(r, base)
			return r.merge(b, r.on(base, files{"staging/web.hcl": web("1.1")}, by("roller@acme")), nil, unsigned())
		}, "", ""},

		{"a line slipped in", merging(files{"prod/api.hcl": api("8") + "# x\n"}, unsigned()), Unsigned, "prod/api.hcl"},
		{"a line slipped into what nobody changed", merging(files{"profiles.hcl": "profile \"p\" {\n  depends_on = [\"x\"]\n}\n"}, unsigned()), Unsigned, "profiles.hcl"},
		{"a file slipped in", merging(files{"prod/new.hcl": web("1")}, unsigned()), Unsigned, "adds a file"},
		{"a file lost", merging(files{"README.md": gone}, unsigned()), Unsigned, "README.md"},
		{"one side dropped", merging(files{"prod/api.hcl": api("7")}, unsigned()), Unsigned, "api"},
		{"a mode slipped in", merging(files{"README.md": executable + "hello\n"}, unsigned()), Unsigned, "mode"},
		{"a mode slipped in by who may not", merging(files{"README.md": executable + "hello\n"}, bumper), NotAllowed, "mode"},
		{"a line slipped in by who may", merging(files{"prod/api.hcl": api("8") + "# x\n"}), "", ""},
		{"a bump slipped in by who may bump", merging(files{"prod/api.hcl": api("9")}, bumper), "", ""},
		{"a line slipped in by who may bump", merging(files{"prod/api.hcl": api("8") + "# x\n"}, bumper), NotAllowed, "takes any"},
		{"an unsigned side", func(r *repo, base string) string {
			a, _ := sides(r, base)
			return r.merge(a, r.on(base, files{"README.md": "x"}, unsigned()), nil)
		}, Unsigned, "README.md"},
		{"an unsigned side that the result drops", func(r *repo, base string) string {
			a, _ := sides(r, base)
			return r.merge(a, r.on(base, files{"README.md": "x"}, unsigned()), files{"README.md": "hello\n"})
		}, Unsigned, "README.md"},
		{"both sides, ours taken", both(nil, unsigned()), Unsigned, "moves web from 1.4 to 1.3"},
		{"both sides, theirs taken", both(files{"staging/web.hcl": web("1.4")}, unsigned()), Unsigned, "moves web from 1.3 to 1.4"},
		{"both sides, theirs taken by who may", both(files{"staging/web.hcl": web("1.4")}, ci), "", ""},
		{"both sides, theirs taken by who may not", both(files{"staging/web.hcl": web("1.4")}, operator), NotAllowed, "takes bump"},
		{"both sides the same", func(r *repo, base string) string {
			a, b := sides(r, base)
			return r.merge(r.on(a, files{"README.md": "x"}), r.on(b, files{"README.md": "x"}), nil, unsigned())
		}, Unsigned, "both sides changed in the same way"},
		{"both sides the same, signed", func(r *repo, base string) string {
			a, b := sides(r, base)
			return r.merge(r.on(a, files{"README.md": "x"}), r.on(b, files{"README.md": "x"}), nil, operator)
		}, "", ""},
		{"a freeze dropped on the way", func(r *repo, base string) string {
			f := func(s string) string { return "freeze \"" + s + "\" {\n}\n" }
			a := r.on(base, files{"prod/freeze.hcl": f("a")}, freezer)
			b := r.on(base, files{"prod/freeze.hcl": f("b")}, freezer)
			return r.merge(a, b, nil, bumper)
		}, NotAllowed, "deletes freeze \"b\""},
		{"several bases", func(r *repo, base string) string {
			a, b := sides(r, base)
			x, y := r.merge(a, b, nil, unsigned()), r.merge(b, a, nil, unsigned())
			return r.merge(r.on(x, files{"README.md": "x"}), y, files{"prod/api.hcl": api("8")}, unsigned())
		}, Unsigned, ""},
		{"several bases that agree", func(r *repo, base string) string {
			a, b := r.on(base, nil, operator), r.on(base, nil, operator)
			x, y := r.merge(a, b, nil, operator), r.merge(b, a, nil, operator)
			return r.merge(r.on(x, files{"README.md": "x"}), y, nil, unsigned())
		}, Unsigned, "README.md"},
		{"several bases, signed", func(r *repo, base string) string {
			a, b := sides(r, base)
			x, y := r.merge(a, b, nil, unsigned()), r.merge(b, a, nil, unsigned())
			return r.merge(r.on(x, files{"README.md": "x"}), y, nil)
		}, "", ""},
		{"an octopus", func(r *repo, base string) string {
			a, b := sides(r, base)
			return r.make([]string{a, b, r.on(base, nil, operator)}, files{"prod/api.hcl": api("8")}, unsigned())
		}, Unsigned, ""},
		{"an octopus, signed", func(r *repo, base string) string {
			a, b := sides(r, base)
			return r.make([]string{a, b, r.on(base, nil, operator)}, files{"prod/api.hcl": api("8")})
		}, "", ""},
		{"another repository", func(r *repo, base string) string {
			return r.merge(base, r.on("", files{"prod/x.hcl": web("1")}), files{"prod/x.hcl": web("1")}, unsigned())
		}, Unsigned, ""},

		// A signed bump of an old branch, merged by whoever owns the server.
		{"an old branch that goes on", func(r *repo, base string) string {
			old := r.on(r.commits[base].parents[0], files{"staging/web.hcl": web("1.2-rc")}, ci)
			return r.merge(base, old, nil, unsigned())
		}, Unsigned, "staging/web.hcl"},
		{"an old branch back to what was rolled back", func(r *repo, base string) string {
			main := r.on(base, files{"staging/web.hcl": web("1.3")}, ci)
			main = r.on(main, files{"staging/web.hcl": web("1.2")}, by("roller@acme"))
			old := r.on(base, files{"staging/web.hcl": web("1.3")}, ci)
			return r.merge(main, old, nil, unsigned())
		}, Unsigned, "merges web 1.3 back, a release that staging has left"},
		{"the same from the other side", func(r *repo, base string) string {
			main := r.on(base, files{"staging/web.hcl": web("1.3")}, ci)
			main = r.on(main, files{"staging/web.hcl": web("1.2")}, by("roller@acme"))
			old := r.on(base, files{"staging/web.hcl": web("1.3")}, ci)
			return r.merge(old, main, nil, unsigned())
		}, Unsigned, "merges web 1.3 back"},
		{"the same, by who may roll back", func(r *repo, base string) string {
			main := r.on(base, files{"staging/web.hcl": web("1.3")}, ci)
			main = r.on(main, files{"staging/web.hcl": web("1.2")}, by("roller@acme"))
			old := r.on(base, files{"staging/web.hcl": web("1.3")}, ci)
			return r.merge(main, old, nil, by("roller@acme"))
		}, "", ""},
		{"the main line hidden behind a branch, to go back on it", func(r *repo, base string) string {
			old := r.on(r.commits[base].parents[0], nil, operator)
			return r.on(r.merge(old, base, nil, unsigned()), files{"staging/web.hcl": web("1.1")}, ci)
		}, NotAllowed, "has left"},
	})
}

// A host that follows step by step, and one that takes the same in one go,
// come to the same.
func TestGoingBackOverAMergeAcrossJudgements(t *testing.T) {
	r := newRepo(t)
	base := world(r)
	out := r.on(base, files{"staging/web.hcl": service("web", "1.3")}, ci)
	back := r.on(out, files{"staging/web.hcl": service("web", "1.2")}, by("roller@acme"))
	old := r.on(base, files{"staging/web.hcl": service("web", "1.3")}, ci)
	merged := r.merge(back, old, nil, unsigned())
	for _, accepted := range []string{base, out, back} {
		j := r.judge()
		j.Past = &Past{}
		if _, err := j.Judge(context.Background(), accepted, merged, noon); err == nil || !strings.Contains(err.Error(), "merges web 1.3 back") {
			t.Errorf("after %s: %v", accepted, err)
		}
		if _, err := j.Judge(context.Background(), base, back, noon); err != nil {
			t.Errorf("with a Past that knows more: %v", err)
		}
	}
}

func TestVouch(t *testing.T) {
	bad := func(r *repo, base string) string {
		return r.on(base, files{"prod/api.hcl": service("api", "8")}, unsigned())
	}
	run(t, []row{
		{"an unsigned commit", func(r *repo, base string) string {
			c := bad(r, base)
			return r.on(c, nil, vouching(c))
		}, "", ""},
		{"a commit whose signer may less", func(r *repo, base string) string {
			c := r.on(base, files{"prod/api.hcl": "# x\n"}, ci)
			return r.on(c, nil, vouching(c))
		}, "", ""},
		{"some commits below", func(r *repo, base string) string {
			c := bad(r, base)
			return r.on(r.on(r.on(c, nil, operator), nil, vouching(c)), files{"README.md": "x"})
		}, "", ""},
		{"by a trailer that came with a patch", func(r *repo, base string) string {
			c := bad(r, base)
			return r.on(c, files{"README.md": "x"}, vouching(c))
		}, Unsigned, "is not signed"},
		{"by a trailer that came with a merge", func(r *repo, base string) string {
			c := bad(r, base)
			return r.merge(c, r.on(base, files{"README.md": "x"}), nil, vouching(c))
		}, Unsigned, "is not signed"},
		{"a second time", func(r *repo, base string) string {
			c := bad(r, base)
			return r.on(r.on(c, nil, vouching(c)), nil, vouching(c))
		}, "", ""},
		{"an evil merge", func(r *repo, base string) string {
			a := r.on(base, files{"README.md": "x"})
			c := r.merge(a, r.on(base, files{"prod/new.hcl": service("n", "1")}), files{"profiles.hcl": gone}, unsigned())
			return r.on(c, nil, vouching(c))
		}, "", ""},
		{"by a robot with any", func(r *repo, base string) string {
			c := bad(r, base)
			return r.on(c, nil, by("robot@acme"), vouching(c))
		}, Unsigned, ""},
		{"by a person without any there", func(r *repo, base string) string {
			c := bad(r, base)
			return r.on(c, nil, by("lead@acme"), vouching(c))
		}, Unsigned, "lead@acme vouched for it in"},
		{"by a pipeline", func(r *repo, base string) string {
			c := bad(r, base)
			return r.on(c, nil, ci, vouching(c))
		}, Unsigned, ""},
		{"by nobody", func(r *repo, base string) string {
			c := bad(r, base)
			return r.on(c, nil, unsigned(), vouching(c))
		}, Unsigned, ""},
		{"by a stranger", func(r *repo, base string) string {
			c := bad(r, base)
			return r.on(c, nil, by("stranger"), vouching(c))
		}, Unsigned, ""},
		{"with a forged signature", func(r *repo, base string) string {
			c := bad(r, base)
			return r.on(c, nil, vouching(base), later(func(s string) string { return strings.Replace(s, base[:38], c[:38], 1) }))
		}, Unsigned, ""},
		{"with a short hash", func(r *repo, base string) string {
			c := bad(r, base)
			return r.on(c, nil, vouching(c[:12]))
		}, Unsigned, ""},
		{"in the middle of the message", func(r *repo, base string) string {
			c := bad(r, base)
			return r.on(c, nil, says_("why\n\nDrydock-Vouch: "+c+"\n\nand so on\n"))
		}, Unsigned, ""},
		{"in the subject", func(r *repo, base string) string {
			c := bad(r, base)
			return r.on(c, nil, says_("Drydock-Vouch: "+c+"\n"))
		}, Unsigned, ""},
		{"of a date", func(r *repo, base string) string {
			c := r.on(base, nil, dated(noon.Add(time.Hour)))
			return r.on(c, nil, vouching(c))
		}, Ahead, ""},
		{"of what is no commit", func(r *repo, base string) string {
			c := r.on(base, nil, before(func(s string) string { return strings.Replace(s, "author alice", "author al\rice", 1) }))
			return r.on(c, nil, vouching(c))
		}, Malformed, "Nobody can vouch"},
		{"and what the vouching commit itself does", func(r *repo, base string) string {
			c := bad(r, base)
			return r.on(c, files{"staging/web.hcl": "# x\n"}, by("lead@acme"), vouching(c))
		}, Unsigned, ""},
	})
}

func TestVerdict(t *testing.T) {
	r := newRepo(t)
	base := world(r)
	ctx := context.Background()
	judge := func(j *Judge, accepted, head string) Verdict {
		t.Helper()
		v, err := j.Judge(ctx, accepted, head, noon)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	want := func(got, want Verdict) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	a := r.on(base, files{"staging/web.hcl": service("web", "1.3")}, ci)
	ats := r.clock
	want(judge(r.judge(), base, a), Verdict{a, 1, Signed, []string{"ci@acme"}, ats})
	want(judge(r.judge(), a, a), Verdict{Head: a, How: Accepted})
	b := r.on(base, files{"README.md": "x"}, by("bob@acme"))
	bs := r.clock
	m := r.merge(a, b, nil, unsigned(), dated(noon)) // anybody could have made it, and dated it
	want(judge(r.judge(), base, m), Verdict{m, 3, Merged, []string{"bob@acme", "ci@acme"}, bs})
	again := r.merge(a, base, nil, unsigned(), dated(noon))
	want(judge(r.judge(), a, again), Verdict{Head: again, Commits: 1, How: Merged})
	c := r.on(base, files{"README.md": "x"}, unsigned(), dated(noon))
	v := r.on(c, nil, vouching(c))
	want(judge(r.judge(), base, v), Verdict{v, 2, Signed, []string{"alice@acme"}, r.clock})

	want(judge(r.judge(), "", m), Verdict{Head: m, How: OnTrust})
	since := r.judge()
	since.Policy.Since = base
	want(judge(since, "", m), Verdict{m, 3, Merged, []string{"bob@acme", "ci@acme"}, bs})
	since.Policy.Since = r.commits[base].parents[0]
	if _, err := since.Judge(ctx, "", m, noon); err == nil || !strings.Contains(err.Error(), "is not signed") {
		t.Errorf("what follows since is not verified: %v", err)
	}
	since.Policy.Since = strings.Repeat("0", 40)
	if _, err := since.Judge(ctx, "", m, noon); !errors.Is(err, errNoObject) {
		t.Errorf("the store's error is lost: %v", err)
	}
	since.Policy.Roles = nil
	if _, err := since.Judge(ctx, base, m, noon); err == nil || !strings.Contains(err.Error(), "no role") {
		t.Errorf("a policy that cannot be used is used: %v", err)
	}
}

// A key is judged by when the host first saw the commit, and accepted commits
// never again.
func TestKeyValidity(t *testing.T) {
	r := newRepo(t)
	base := world(r)
	a := r.on(base, files{"staging/web.hcl": service("web", "1.3")}, ci)
	j := r.judge()
	keys := &ring{until: map[string]time.Time{"ci@acme": noon.Add(-time.Hour)}}
	j.Keys = keys
	ctx := context.Background()
	if _, err := j.Judge(ctx, base, a, noon); err == nil || !strings.Contains(err.Error(), "was valid until") {
		t.Errorf("an expired key counts: %v", err)
	}
	j.Seen = func(c string) time.Time { return map[string]time.Time{a: noon.Add(-2 * time.Hour)}[c] }
	if _, err := j.Judge(ctx, base, a, noon); err != nil {
		t.Errorf("seen while the key was valid: %v", err)
	}
	keys.asked = 0
	b := r.on(a, nil, operator)
	j.Seen = nil
	if _, err := j.Judge(ctx, a, b, noon); err != nil || keys.asked != 1 {
		t.Errorf("asked %d times: %v", keys.asked, err)
	}
}

// A key with several principals is one of them at a time: what one may and what
// the other may do not add up.
func TestKeyOfSeveral(t *testing.T) {
	r := newRepo(t)
	base := world(r)
	j := r.judge()
	j.Keys = &ring{principals: map[string][]string{"key": {"bumper@acme", "freezer@acme"}}}
	freeze := "freeze \"x\" {\n}\n"
	one := r.on(base, files{"prod/freeze.hcl": freeze}, by("key"))
	if _, err := j.Judge(context.Background(), base, one, noon); err != nil {
		t.Error(err)
	}
	two := r.on(base, files{"prod/freeze.hcl": freeze, "staging/web.hcl": service("web", "1.3")}, by("key"))
	if _, err := j.Judge(context.Background(), base, two, noon); err == nil {
		t.Error("two principals' permissions add up")
	}
}

// Attackers choose what a person reads in a log.
func TestBlockerIsFitToRead(t *testing.T) {
	r := newRepo(t)
	base := world(r)
	c := r.on(base, files{"prod/\x1b[31m\n.hcl": "x"}, unsigned(), says_("\x1b]0;ok\x07 fine \u202e "+strings.Repeat("x", 500)+"\n\nbody\n"))
	_, err := r.judge().Judge(context.Background(), base, c, noon)
	if err == nil || strings.ContainsAny(err.Error(), "\x1b\x07\n\u202e") || len(err.Error()) > 1200 {
		t.Fatalf("%q", err)
	}
}

func TestNeedsAreInOrder(t *testing.T) {
	r := newRepo(t)
	base := world(r)
	edits := files{"staging/web.hcl": service("web", "1.1"), "prod/web.hcl": service("web", "1.2"), "README.md": "x",
		"prod/freeze.hcl": "freeze \"x\" {\n}\n"}
	c := r.on(base, maps.Clone(edits))
	needs, err := Needs(context.Background(), r, nil, base, c)
	if err != nil {
		t.Fatal(err)
	}
	want := []Need{
		{[]Permission{Any}, Everywhere, "README.md", 0, "changes a file that is no declaration"},
		{[]Permission{Freeze}, "prod", "prod/freeze.hcl", 1, `writes freeze "x"`},
		{[]Permission{Bump}, "prod", "prod/web.hcl", 5, "moves web from 1.1 to 1.2"},
		{[]Permission{Rollback}, "staging", "staging/web.hcl", 5, "moves web from 1.2 to 1.1, a release that staging has left (" + r.commits[base].parents[0][:7] + " named it)"},
	}
	if diff := cmp.Diff(want, needs); diff != "" {
		t.Error(diff)
	}
}

// renamed makes web store, as a moved block in a file says, and then a bump of it.
func renamed(path, says, version string) func(*repo, string) string {
	moved := "moved {\n  from = \"web\"\n  to   = \"store\"\n}\n"
	return func(r *repo, base string) string {
		all := files{path: gone, says: moved, "staging/s.hcl": service("store", "1.2")}
		c := r.on(base, all)
		return r.on(c, files{"staging/s.hcl": service("store", version)}, by("ci@acme"))
	}
}
