package spec

import (
	"strings"
	"time"
)

// hostFile is the reference of a host's own file. The agent decodes that file
// itself; a test there holds the two together, word by word.
const hostFile = "hostagent.hcl"

// fullHash is a commit that nobody can mean another one by.
func fullHash() *form {
	return &form{"40 digits of a commit", func(s string) string {
		if len(s) != 40 || strings.Trim(s, "0123456789abcdef") != "" {
			return "write the 40 digits that git rev-parse prints"
		}
		return ""
	}}
}

func hostSchema() *schema {
	text := func(name, doc string) attribute { return attribute{name: name, kind: kindString, doc: doc} }
	path := func(name, doc string) attribute {
		return attribute{name: name, kind: kindString, form: absolutePath(), doc: doc}
	}
	return &schema{
		doc: "A host's own file, /etc/drydock/hostagent.hcl, written by provisioning. It is read again on SIGHUP and whenever it changes.",
		attrs: []attribute{
			{name: "environment", kind: kindString, required: true, doc: "The folder of the repository that this host follows."},
			{name: "state", kind: kindString, form: absolutePath(), def: "/var/lib/drydock", doc: "Where the agent keeps its journal, its clone of the repository, its socket and what drivers need."},
			path("credentials", "A directory with one file a credential: a plain file, no link, of at most 64 KiB, that only root or the agent's user may read. Nobody else may write to the directory or to those above it (sticky ones such as /tmp aside). Systemd's $CREDENTIALS_DIRECTORY (LoadCredential=), if there is one, is looked into first: a name in both is systemd's."),
			{name: "listen", kind: kindString, form: hostPort(), doc: "Where /metrics, /healthz and /readyz are served. Default: nowhere."},
		},
		blocks: []*schema{
			{typ: "host", doc: "What this machine is.", attrs: []attribute{
				text("name", "Its name in the fleet, host.name in the language. Default: the hostname."),
				{name: "labels", kind: kindMap, doc: "What services select hosts by, and host.labels in the language."},
				{name: "parallel", kind: kindInt, def: 2, lowest: 1, doc: "Services of this host that may be out of rotation at once."},
			}},
			{typ: "source", doc: "The config repository.", attrs: []attribute{
				{name: "url", kind: kindString, required: true, doc: "https://, ssh://, git://, file://, user@host:path, or the path of a repository on this machine."},
				{name: "mirrors", kind: kindStrings, doc: "Asked in order when url does not answer."},
				{name: "branch", kind: kindString, def: "main", doc: "The branch that is followed."},
				{name: "poll", kind: kindDuration, def: "1m0s", lowest: int64(time.Second), highest: int64(24 * time.Hour), doc: "How often the source is asked; up to a tenth is added at random. A repository on this machine wakes the agent by itself."},
				{name: "token", kind: kindText, doc: "credential(name) of a token for https. It goes to url's own host, never to mirrors or redirects."},
				path("ssh_key", "A private key in OpenSSH's format, without a passphrase."),
				path("known_hosts", "The keys that SSH servers are known by, in OpenSSH's format."),
				path("ca", "Certificates (PEM) besides the system's."),
			}},
			{typ: "coordinate", labels: []label{{name: "driver", doc: "who coordinates the hosts"}}, doc: "How hosts agree who may be out of rotation. Without it, a service whose max_parallel, canary or bake somebody wrote waits.", drivers: []*schema{
				{typ: "alone", doc: "This is the only host there is: what asks for coordination is satisfied."},
				{typ: "etcd", unbuilt: true, doc: "An etcd cluster. This build refuses to start with it."},
			}},
			{typ: "trust", doc: "Whose signatures count for what. With it, a commit is taken up once it and each one before it is signed by somebody who may do what it does; until then the host stays at the last accepted one. Without it any fast-forward commit is accepted, and every status says unverified.", attrs: []attribute{
				path("signers", "Who may sign, in the format of OpenSSH's allowed_signers: a line a key. Needed, unless keyring is there."),
				path("revoked", "SSH keys that count no longer, a public key a line. A commit that is accepted already stays accepted."),
				path("keyring", "OpenPGP public keys, armoured or not, of people who sign so."),
				{name: "since", kind: kindString, form: fullHash(), doc: "The commit that is taken on trust; every later one is verified. Without it the first head that the host sees is, and status says so."},
				{name: "approvals", kind: kindCounts, doc: "By environment, how many people must approve a release at least: a floor under the repository's own approval blocks."},
				{name: "freshness", kind: kindDuration, lowest: int64(time.Minute), highest: int64(10 * 365 * 24 * time.Hour), doc: "For how long after the newest signed commit new rollouts and installs may begin; what runs keeps running. Default: no limit."},
			}, blocks: []*schema{
				{typ: "role", many: true, labels: []label{{name: "name", doc: "for people and messages"}}, doc: "Who may do what by commits. Nothing is allowed by default; a principal's roles add up.", attrs: []attribute{
					{name: "principals", kind: kindStrings, required: true, doc: "As signers names them. Patterns (* and ?, and ! to exclude) never hold for somebody whom a role names."},
					{name: "may", kind: kindStrings, required: true, words: []string{"bump", "rollback", "promote", "freeze", "operate", "any"}, doc: "bump: new releases, nothing else. rollback: releases that the environment has left. promote: releases that another environment runs. freeze: freeze and unfreeze. operate: forget, resolve, heartbeat, retry. any: all of it, and everything else."},
					{name: "environments", kind: kindStrings, doc: "Where. Default: everywhere."},
					{name: "people", kind: kindBool, def: false, doc: "These are people: only they count in approvals, and only they may vouch."},
				}},
			}},
		},
	}
}
