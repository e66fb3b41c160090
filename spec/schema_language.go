package spec

import "time"

func buildLanguage() *schema {
	inService := []*schema{
		artifactSchema(), drains(), installs(), migrates(), starts(), checks(), runs(),
		rolloutSchema(), approvalSchema(), batchSchema(),
	}
	return &schema{
		doc: "A repository of *.hcl files (or HCL's JSON form, *.hcl.json). Files at the root apply to every environment; each top-level folder is an environment.",
		attrs: []attribute{
			{name: "min_version", kind: kindString, literal: true, form: version(), doc: "The oldest version of the tool that may act on this repository. At the root only."},
		},
		blocks: []*schema{
			{typ: "service", many: true, where: inEnvironment, labels: []label{{name: "name", doc: "unique within the environment"}},
				doc: "A thing that is deployed.",
				attrs: append(sharedAttributes(),
					attribute{name: "profile", kind: kindString, form: notEmpty(), alike: true, doc: "The profile that brings the blocks that this service does not write itself."}),
				blocks: append([]*schema{releaseSchema()}, inService...)},
			{typ: "profile", many: true, labels: []label{{name: "name", doc: "what services name it by"}},
				doc:    "Blocks for services that do not write them: a service that writes any block of a type replaces all of that type; run blocks replace by name; for attributes the service wins. Evaluated in the service's scope. Profiles don't nest.",
				attrs:  sharedAttributes(),
				blocks: inService},
			{typ: "locals", many: true, free: true, doc: "Named values, used as local.<name>. They see other locals and environment."},
			{typ: "freeze", many: true, labels: []label{{name: "reason", doc: "why, for people"}},
				doc: "Stops new rollouts for a time. Neither a revert nor a repair waits for it.",
				attrs: []attribute{
					servicesRow(),
					{name: "from", kind: kindTime, alike: true, doc: "When it begins; default: at once."},
					{name: "until", kind: kindTime, alike: true, doc: "When it ends; default: when the block is deleted."},
				}},
			{typ: "override", many: true, labels: []label{{name: "reason", doc: "why, for people"}},
				doc: "Lets services pass gates for a time.",
				attrs: []attribute{
					servicesRow(),
					{name: "skip", kind: kindStrings, required: true, words: []string{"window", "freeze", "bake", "approval-expiry"}, alike: true, doc: "The gates. With approval-expiry, approvals that have expired count once more; attestations never do."},
					{name: "until", kind: kindTime, required: true, alike: true, doc: "When it ends."},
				}},
			{typ: "removed", many: true, labels: []label{{name: "name", doc: "the service"}},
				doc:   "Stops and uninstalls a service: the only thing that ever does. One that merely vanished is left running. A host with a trust section waits until people have approved it (drydock approve).",
				attrs: []attribute{{name: "hosts", kind: kindLabels, required: true, alike: true, doc: "Labels that a host must have; {} means every host, and must be said."}}},
			{typ: "moved", many: true, doc: "A service has a new name; nothing is restarted for it.",
				attrs: []attribute{
					{name: "from", kind: kindString, required: true, form: notEmpty(), alike: true, doc: "The old name."},
					{name: "to", kind: kindString, required: true, form: notEmpty(), alike: true, doc: "The new name."},
				}},
			{typ: "forgotten", many: true, labels: []label{{name: "host", doc: "the host's name"}},
				doc: "A host that will not return: its slot is free.",
				attrs: []attribute{
					{name: "reason", kind: kindString, form: oneLine(), alike: true, doc: "Why, for people."},
				}},
			{typ: "resolved", many: true, labels: []label{{name: "service", doc: "the service"}},
				doc: "What a person found out of a migration whose outcome was unknown.",
				attrs: []attribute{
					{name: "release", kind: kindString, required: true, form: version(), alike: true, literal: true, doc: "The version that it belongs to."},
					{name: "outcome", kind: kindString, required: true, words: []string{"applied", "not-applied"}, alike: true, doc: "What is true of the data."},
				}},
			{typ: "hostagent", where: inEnvironment, unbuilt: true,
				doc:    "The agent's own release.",
				blocks: []*schema{releaseSchema(), artifactSchema(), rolloutSchema()}},
			notifies(),
		},
	}
}

func sharedAttributes() []attribute {
	return []attribute{
		{name: "hosts", kind: kindLabels, alike: true, doc: "Labels that a host must have; {} means every host, and must be said."},
		{name: "depends_on", kind: kindStrings, form: notEmpty(), alike: true, doc: "Services whose every live host must run its wanted revision first."},
	}
}

func servicesRow() attribute {
	return attribute{name: "services", kind: kindStrings, form: notEmpty(), alike: true, doc: "Only these services; none named: all."}
}

func releaseSchema() *schema {
	return &schema{typ: "release", doc: "One version with its digest: the only block that pipelines write. Literals only.",
		attrs: []attribute{
			{name: "version", kind: kindString, required: true, literal: true, form: version(), doc: "The version, in quotes."},
			{name: "digest", kind: kindString, literal: true, form: digest(), doc: "sha256:<64 hex> of the artifact as downloaded, or git:<commit>."},
			{name: "digests", kind: kindDigests, literal: true, form: digest(), doc: "Instead of digest, one per platform: \"linux/amd64\" = \"sha256:…\"."},
			{name: "attempt", kind: kindInt, literal: true, def: int64(1), lowest: 1, highest: 1_000_000, doc: "The same release again, after what was wrong around it was mended."},
		}}
}

func artifactSchema() *schema {
	return &schema{typ: "artifact", doc: "Where a release is downloaded from. Its digest always decides, and covers the file as downloaded.",
		attrs: []attribute{
			str("source", "The first place to ask. Link-local addresses are never asked. A redirect is followed five times at most: from https to https only, and to no place nearer to the host, such as from the internet to a private network. The agent's HTTPS_PROXY, HTTP_PROXY and NO_PROXY are used.", urlOf("https", "http", "file", "oci")),
			{name: "mirrors", kind: kindStrings, form: urlOf("https", "http", "file", "oci"), doc: "Asked in order when the source does not deliver."},
			{name: "headers", kind: kindTexts, doc: "HTTP headers for the source only: never sent to mirrors or redirects."},
		}}
}

func rolloutSchema() *schema {
	return &schema{typ: "rollout", doc: "How a revision goes over its hosts.",
		attrs: []attribute{
			{name: "max_parallel", kind: kindShare, def: "1", alike: true, doc: "Hosts out of service at once: a number, or a share (rounded down, at least 1)."},
			{name: "canary", kind: kindInt, def: int64(0), highest: 10_000, alike: true, doc: "Hosts that go first; the rest wait for bake."},
			{name: "bake", kind: kindDuration, def: "0s", alike: true, doc: "How long the canaries must be healthy before the rest follows."},
			{name: "min_healthy_time", kind: kindDuration, def: "10s", alike: true, doc: "Unbroken success that counts as healthy."},
			{name: "healthy_deadline", kind: kindDuration, def: "5m0s", lowest: int64(time.Millisecond), alike: true, doc: "When a service that is not healthy has failed."},
			{name: "auto_revert", kind: kindBool, def: true, alike: true, doc: "Whether a failed release gives way to the one before it."},
			{name: "splay", kind: kindDuration, def: "0s", alike: true, doc: "A random wait, up to this, before each start."},
		},
		blocks: []*schema{{typ: "window", many: true, doc: "When rollouts may begin; several add up.",
			attrs: []attribute{
				{name: "days", kind: kindStrings, words: weekdays(), alike: true, doc: "Days of the week; default: every day."},
				{name: "from", kind: kindString, required: true, form: clock(), alike: true, doc: "Begins at."},
				{name: "to", kind: kindString, required: true, form: clock(), alike: true, doc: "Ends at; before from: on the next day."},
				{name: "zone", kind: kindString, def: "UTC", form: zone(), alike: true, doc: "The time zone of both."},
			}}}}
}

func weekdays() []string { return []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"} }

func approvalSchema() *schema {
	return &schema{typ: "approval", doc: "Who must sign before a host takes a release, or a change of what the service is told to do (drydock approve). The block in force is the stricter of this one and the one by which a host last took the service, so lowering it is approved by the old one. Hosts check signatures by their own trust section; one without waits, and says so.",
		attrs: []attribute{
			{name: "required", kind: kindInt, def: int64(1), highest: 1000, alike: true, doc: "How many different people; at least one. Nobody approves alone what they made."},
			{name: "from", kind: kindStrings, required: true, form: principal(), alike: true, doc: "The people who count, by the principals of their keys. A pattern is nobody."},
			{name: "authors", kind: kindBool, def: false, alike: true, doc: "Besides, each author in the batch who is in from; others are listed."},
		}}
}

func batchSchema() *schema {
	return &schema{typ: "batch", doc: "Past it, waiting inventory is reported as overdue. It holds nothing.",
		attrs: []attribute{
			{name: "max_changes", kind: kindInt, lowest: 1, highest: 1_000_000, alike: true, doc: "So many changes."},
			{name: "max_age", kind: kindDuration, lowest: int64(time.Second), alike: true, doc: "So long since the oldest."},
		}}
}
