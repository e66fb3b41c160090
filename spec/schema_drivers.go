package spec

import "time"

// Defaults that several rows share, in Go's canonical notation.
const (
	soon = "30s"   // what acts
	late = "10m0s" // commands and migrations
)

var maxDuration = int64(720 * time.Hour)

func timeout(def string) attribute {
	return attribute{name: "timeout", kind: kindDuration, def: def, lowest: int64(time.Millisecond), doc: "How long it may take before it counts as failed."}
}

func argv(name, doc string, required bool) attribute {
	return attribute{name: name, kind: kindArgv, required: required, doc: doc}
}

func str(name, doc string, f *form) attribute {
	return attribute{name: name, kind: kindString, required: true, form: f, doc: doc}
}

func optional(a attribute) attribute { a.required = false; return a }

func keep() attribute {
	return attribute{name: "keep", kind: kindInt, def: int64(5), lowest: 1, highest: 1000, doc: "How many releases stay on disk; the running and the last good one always do."}
}

func user(doc string) attribute {
	return attribute{name: "user", kind: kindString, form: notEmpty(), doc: doc}
}

func strip() attribute {
	return attribute{name: "strip", kind: kindInt, def: int64(0), highest: 64, doc: "How many leading path parts of each entry are left out."}
}

func installPath() attribute {
	return str("path", "Where releases/ and the symlink current stand. Two services share a path only if no host can match both.", absolutePath())
}

const haproxyDoc = `HAProxy's runtime API: the server is set to drain, its sessions end, and it is set to ready once its service is healthy. ` +
	`A server that a person has put in maintenance is left in it. ` +
	`A reload of HAProxy forgets the drain, unless haproxy.cfg has server-state-file in global and "load-server-state-from-file global" in defaults, and each reload first writes the answer to "show servers state" into that file (each start removes it): then not one request can slip through. ` +
	`Without that, a drain that a reload has lost is set again within a fraction of a second. ` +
	`Sessions that a reload left with an old worker are waited for where the address is a unix:// one.`

const consulDoc = `Consul's maintenance mode: it is switched on with a reason that begins "drydock: ", and Consul's servers are seen to have it. ` +
	`Undrain ends only such; maintenance that a person switched on stays, and is said. ` +
	`Who keeps Consul's answers for longer (a DNS TTL, ?cached) still comes for as long as that: nothing tells us, so it is not waited for. ` +
	`This driver was tested against a stand-in that follows Consul's documented HTTP API.`

const nginxDoc = `An upstream file of nginx, and a reload: the server's line gets the parameter down and the comment "# drained by drydock", and undrain takes both out again. ` +
	`A down without that comment is a person's, and stays. ` +
	`What nginx's old workers still have in flight is waited for.`

func drains() *schema {
	return &schema{typ: "drain", many: true, labels: driverLabels(),
		doc: "Takes the host out of rotation before its service is touched. Any number; undrained in reverse order.",
		drivers: []*schema{
			{typ: "haproxy", doc: haproxyDoc, attrs: []attribute{
				str("address", "The runtime API's socket, with level admin: unix:///run/haproxy/admin.sock, or tcp://host:port.", urlOf("unix", "tcp")),
				str("backend", "The backend's name, as in haproxy.cfg.", haproxyName()),
				str("server", "The server's name in the backend, as in haproxy.cfg.", haproxyName()),
				{name: "timeout", kind: kindDuration, def: soon, lowest: int64(time.Millisecond), doc: "How long sessions may take to end before the service is touched all the same, and the log says how many were left; and how long HAProxy may take to count the server as up again."},
			}},
			{typ: "consul", doc: consulDoc, attrs: []attribute{
				str("address", "The HTTP API of the Consul agent where the service is registered: http://127.0.0.1:8500.", webURL()),
				str("service_id", "The service's id at that agent.", notEmpty()),
				{name: "token", kind: kindText, doc: "credential(name) of an ACL token with service:write for the service and node:read."},
				timeout(soon),
			}},
			{typ: "nginx", doc: nginxDoc, attrs: []attribute{
				str("upstream_file", "The file with the lines `server …;` themselves, each on a line of its own; one upstream a file.", absolutePath()),
				str("server", "The server's address exactly as the file has it: 10.0.0.5:8080, unix:/run/web.sock.", notEmpty()),
				argv("reload", `What makes nginx read the file again: ["nginx", "-s", "reload"] or ["systemctl", "reload", "nginx"]. Runs as the agent, never from the release.`, true),
				{name: "timeout", kind: kindDuration, def: soon, lowest: int64(time.Millisecond), doc: "How long nginx may take to start new workers before it counts as failed, and then its old ones to end before the service is touched all the same, and the log says so."},
			}},
			{typ: "http", doc: "Calls the service itself.", attrs: []attribute{
				str("drain", "Called to leave rotation.", webURL()),
				str("undrain", "Called to return.", webURL()),
				{name: "method", kind: kindString, def: "POST", words: []string{"POST", "PUT", "PATCH", "DELETE", "GET"}, doc: "The HTTP method of both calls."},
				optional(str("idle", "Answers 200 once nothing is in flight.", webURL())),
				timeout(soon),
			}},
			{typ: "file", doc: "A file that exists while the service is in rotation, and that a health check reads: drain removes it, undrain makes it (empty, 0644, durable).", attrs: []attribute{
				str("path", "The file.", absolutePath()),
				{name: "wait", kind: kindDuration, def: "5s", doc: "Between removing the file and touching the service: as long as the load balancer takes to notice."},
				timeout(soon),
			}},
			{typ: "command", doc: "Commands of your own.", attrs: []attribute{
				argv("drain", "Leaves rotation.", true),
				argv("undrain", "Returns.", true),
				argv("status", "Exits 0 when drained.", false),
				timeout(late),
			}},
		}}
}

const aptDoc = `A version of a Debian package. The release has no digest: apt's own signatures hold. Its version is the package's without the epoch ("1:"), which no release's version can hold. ` +
	`The package is downloaded in the fetch phase, after apt-get update if the index does not have it, and kept for a revert. ` +
	`Installed by apt-get, downgrades too, with the host's own settings; configuration files that a person changed stay as they are. What it installs and upgrades besides is said before; nothing else is ever removed, and a hold (apt-mark hold) is kept. ` +
	`Where systemd is PID 1 it runs in a unit of its own, so that neither a restart nor the death of the agent leaves dpkg half-way.`

func installs() *schema {
	return &schema{typ: "install", labels: driverLabels()[:1],
		doc: "Puts the release on the host by one atomic switch.",
		drivers: []*schema{
			{typ: "archive", doc: "Unpacks a tar, tar.gz, tar.zst or zip into releases/<version>-<first 12 of digest>/ and points the symlink current at it.", attrs: []attribute{
				installPath(), keep(), user("Who owns the tree; default: who runs the agent."), strip(), timeout(soon),
			}},
			{typ: "binary", doc: "One file, at <path>/current/<name>.", attrs: []attribute{
				installPath(), str("name", "The file's name.", fileName()),
				keep(), user("Who owns the tree; default: who runs the agent."), strip(), timeout(soon),
			}},
			{typ: "git", doc: "A source tree at a commit, with an optional build. The release's digest is git:<commit>, of a commit that a branch or tag leads to. Files are as they were committed: no filters, hooks or line endings; a tree with submodules or Git LFS pointers is refused.", attrs: []attribute{
				installPath(), str("url", "The repository: https://, ssh://, git://, file://, user@host:path, or a path on the host. The host's own source.ssh_key, known_hosts and ca serve for it too; source.token only where scheme and host are the same as the source's.", gitURL()),
				argv("build", "Run in the fetch phase, in the new tree, before that has its final name: $DRYDOCK_RELEASE_DIR, for tools that write absolute paths into what they make. It has the network, reads the system, and writes to the tree, to $TMPDIR, which is its own, and to $HOME; that is $TMPDIR too if the user has no home, or one that holds releases. It cannot write to /tmp, and sudo gains it nothing.", false),
				keep(), user("Who owns the tree and runs the build; default: who runs the agent."),
				{name: "timeout", kind: kindDuration, def: late, lowest: int64(time.Millisecond), doc: "How long the fetch may take, and then the build."},
			}},
			{typ: "apt", doc: aptDoc, attrs: []attribute{
				str("package", "The package's name.", debianName()),
				{name: "timeout", kind: kindDuration, def: late, lowest: int64(time.Millisecond), doc: "How long a download may take, and then an installation, waiting for dpkg's lock included."},
			}},
			{typ: "command", doc: "A command of your own.", attrs: []attribute{
				argv("command", "Installs the version in $DRYDOCK_VERSION.", true),
				argv("current", "Prints the version now installed.", true),
				timeout(late),
			}},
		}}
}

func migrates() *schema {
	common := func(rows ...attribute) []attribute {
		return append(rows,
			attribute{name: "scope", kind: kindString, def: "host", words: []string{"host", "fleet"}, alike: true, doc: `"fleet": once per fleet and release; "host": on every host.`},
			attribute{name: "compatible", kind: kindBool, def: false, alike: true, doc: `Whether the previous release runs on the new schema, so that a revert may cross it. Must be written with scope = "fleet".`},
			attribute{name: "requires", kind: kindStrings, form: pattern("a name", namePattern), alike: true, doc: "What no machine can see and a person must attest for just this release and declaration before it is fetched (drydock attest)."},
			timeout(late))
	}
	return &schema{typ: "migrate", many: true, labels: driverLabels(),
		doc: "Brings data to what the release needs. Never retried once begun, unless nothing was applied for certain.",
		drivers: []*schema{
			{typ: "sql", doc: "Migration files in goose's form, applied one after the other, each in a transaction unless it says NO TRANSACTION (on MySQL none can be taken back). What is pending stands in the plan; a file that was edited or came late, and a schema that is newer than the release, are refused.", attrs: common(
				attribute{name: "engine", kind: kindString, required: true, words: []string{"postgres", "mysql", "sqlite"}, doc: "The database."},
				attribute{name: "url", kind: kindText, required: true, doc: "Where it is: postgres://user:password@host/database, mysql://user:password@host/database, or a file's absolute path for sqlite. With a password it is credential(name). Read on the host when the step runs; never printed."},
				str("directory", "The migrations' directory inside the release.", relativePath("the release")),
			)},
			{typ: "command", doc: "A migration tool of your own: Rails, Alembic, Flyway, golang-migrate.", attrs: common(
				argv("command", "Migrates.", true),
				argv("check", "Exits 0 if it is already done.", true),
			)},
		}}
}

func starts() *schema {
	return &schema{typ: "start", labels: driverLabels()[:1],
		doc: "Makes the new release run.",
		drivers: []*schema{
			{typ: "systemd", doc: "A systemd unit, over D-Bus. Provisioning makes the unit. Done is more than systemd's word: a new process runs, that was started after it was asked for. The unit's start limit counts from each deployment anew. A oneshot is done when it has run to its end; with RemainAfterExit=yes it can also be seen later whether it did. A removal stops the unit, and neither disables nor deletes it.", attrs: []attribute{
				str("unit", "The unit's name, with what it ends in: web.service.", unitName()),
				{name: "action", kind: kindString, def: "restart", words: []string{"restart", "reload", "none"}, doc: "What is done to it. reload needs ExecReload= in the unit, starts a unit that does not run, and on removal leaves one alone that ran before the service was first deployed. none leaves the unit to others, on removal too, and counts as running whatever it does; a check block may ask for more."},
				timeout(soon),
			}},
			{typ: "process", doc: "A process that the agent starts and keeps, for hosts without systemd. It survives the agent's own restart and death; the old group is stopped and proven gone before the new one starts; one that dies is restarted with backoff, 1s to 1m.", attrs: []attribute{
				argv("command", "The program and its arguments; the program relative to the release.", true),
				{name: "env", kind: kindMap, doc: "Variables of its environment."},
				optional(str("env_file", "A file on the host with more of them, NAME=value a line.", absolutePath())),
				user("Who it runs as; default: who runs the agent."),
				{name: "stop_timeout", kind: kindDuration, def: "10s", lowest: int64(time.Millisecond), doc: "Between SIGTERM and SIGKILL."},
				optional(str("log", "The file that its output is appended to.", absolutePath())),
				timeout(soon),
			}},
			{typ: "command", doc: "Commands of your own.", attrs: []attribute{
				argv("command", "Starts the new release, also over the old one.", true),
				argv("stop", "Stops it.", false),
				argv("running", "Exits 0 while it runs.", false),
				timeout(late),
			}},
		}}
}

func checks() *schema {
	often := func(rows ...attribute) []attribute {
		return append(rows,
			attribute{name: "interval", kind: kindDuration, def: "1s", lowest: int64(10 * time.Millisecond), doc: "Between two looks while a release is checked. At rest: 30s, or this if it is longer."},
			attribute{name: "timeout", kind: kindDuration, def: "5s", lowest: int64(time.Millisecond), doc: "How long one look may take."})
	}
	return &schema{typ: "check", many: true, labels: driverLabels(),
		doc: "Whether the service is healthy. Passes after min_healthy_time of unbroken success.",
		drivers: []*schema{
			{typ: "http", doc: "Asks a URL.", attrs: often(
				str("url", "What is asked, with GET.", webURL()),
				attribute{name: "expect", kind: kindExpect, def: map[string]any{"status": int64(200)}, doc: "status, a number (200), and body: text that the answer holds as a whole word; body = release.version proves that the new process answers."},
			)},
			{typ: "tcp", doc: "Opens a connection.", attrs: often(str("address", "Where to.", hostPort()))},
			{typ: "systemd", doc: "Asks systemd whether a unit is active.", attrs: often(str("unit", "The unit's name, with what it ends in: web.service.", unitName()))},
			{typ: "command", doc: "Runs a command; healthy if it exits 0.", attrs: often(argv("command", "The command.", true))},
		}}
}

func runs() *schema {
	phases := []string{"fetch", "drain", "install", "migrate", "start", "check", "undrain"}
	return &schema{typ: "run", many: true, labels: []label{{name: "name", doc: "the hook's name"}},
		doc: "A hook: a command before or after a phase. A service's hook replaces its profile's hook of the same name. It runs as the service's user, confined, as migrations, checks and drains by command are (what install and start run is not): it has the network and what its user may do, but for the agent's state, secrets and /etc/drydock, root's and the host's keys, disks and kernel switches; in a directory above one of these nothing new can be made; sudo and other setuid programs gain it nothing. Where the kernel has no Landlock, its user alone is what limits it.",
		attrs: []attribute{
			{name: "before", kind: kindString, words: phases, doc: "The phase that it runs before; this or after."},
			{name: "after", kind: kindString, words: phases, doc: "The phase that it runs after; this or before."},
			argv("command", "What is run.", true),
			timeout(late),
		}}
}

func driverLabels() []label {
	return []label{
		{name: "driver", doc: "the technology"},
		{name: "label", doc: "tells two of a kind apart", optional: true},
	}
}

func notifies() *schema {
	rows := func() []attribute {
		return []attribute{
			{name: "url", kind: kindText, required: true, alike: true, doc: "Where messages go."},
			{name: "services", kind: kindStrings, alike: true, doc: "Only these services; none named: all."},
		}
	}
	return &schema{typ: "notify", many: true, labels: driverLabels(),
		doc: "Tells people what was deployed.",
		drivers: []*schema{
			{typ: "slack", unbuilt: true, doc: "A Slack incoming webhook.", attrs: rows()},
			{typ: "webhook", unbuilt: true, doc: "A signed webhook.", attrs: append(rows(), attribute{name: "secret", kind: kindText, alike: true, doc: "What it is signed with."})},
		}}
}
