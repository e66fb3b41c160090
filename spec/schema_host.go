package spec

import "time"

// hostFile is the reference of a host's own file. The agent decodes that file
// itself; a test there holds the two together, word by word.
const hostFile = "hostagent.hcl"

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
			{typ: "trust", unbuilt: true, doc: "Whose signatures count for what. Without it any fast-forward commit is accepted, and every status says unverified. This build refuses to start with it."},
		},
	}
}
