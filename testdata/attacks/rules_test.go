package attacks

// The sentences that rows try, as design and issue have them.
const (
	ruleRaw       = "Checked on each host, over raw object bytes, before anything is read from a commit; every object's hash is computed again from its bytes."
	ruleState     = "Trust state is written after all checks."
	ruleForward   = "A new head descends from the last accepted commit."
	ruleMark      = "The high-water mark is durable, in the journal and as a ref of the agent's clone, so that a rebuilt journal does not forget it."
	ruleBack      = "Going back is a new commit; after a forced push people merge the accepted head back."
	ruleClock     = "A commit more than 10 minutes ahead of the host's clock is not accepted yet."
	ruleSeen      = "A key's validity is judged when the host first sees the commit."
	ruleRoles     = "Every commit since then is signed by a principal whose role may do what its diff does."
	ruleNobody    = "Nothing is allowed by default."
	ruleLiteral   = "A principal named literally gets no role by a pattern; otherwise permissions add up."
	ruleFiles     = "Every role may add well-formed approval files; only `any` deletes."
	ruleBytes     = "bump is judged on bytes: both files with the values of release attributes cut out are identical."
	ruleLeft      = "It may not name a release that this environment has left (that is `rollback`), nor touch `hostagent`."
	ruleMerge     = "Merges need no signature if they add nothing: path by path the clean three-way result of verified parents with one merge base."
	ruleBoth      = "A path changed on both sides, or several bases, needs one."
	ruleForge     = "A forge's merge button is not trusted, and not needed. A signed commit may land as soon as it is pushed anywhere."
	ruleVouch     = "drydock vouch COMMIT: an `any` person signs for it; roles are judged over its diff as theirs."
	ruleNamespace = "Approvals are signatures in namespace drydock; commits have git's own namespace."
	ruleHost      = "The policy is the host's own file; nothing in the repository changes it."
	ruleFormat    = "OpenSSH signatures with allowed_signers in OpenSSH's own format: principals with patterns, namespaces, valid-after and valid-before."
)

// badInput is the list, each with at least one row.
const (
	itemHeaders   = "duplicate headers in a commit"
	itemTwoSigs   = "two signatures"
	itemNamespace = "the wrong namespace"
	itemExpired   = "expired or revoked keys"
	itemPrincipal = "a principal that matches by prefix or pattern"
	itemLooks     = "Unicode look-alikes"
	itemTag       = "a signed tag under another name"
	itemGrafts    = "grafts and replace refs"
	itemControl   = "CR or control characters in names"
	itemPolicy    = "policy changed and used in the same commit"
	itemLowered   = "approval block lowered in the commit it would gate"
	itemChanged   = "a profile, hook or artifact source changed under an approved release"
	itemOtherEnv  = "approvals for another environment"
	itemOlder     = "approvals older than the digest"
	itemTwoKeys   = "an approver counted twice through two keys"
	itemComment   = "a bump that also touches a comment"
	itemPath      = "a bump that names a path as version"
	itemFunction  = "a bump that calls a function"
	itemGoesBack  = "a bump that goes back"
	itemAgent     = "a bump that touches hostagent"
	itemSlips     = "a merge that slips in a line"
	itemOldBranch = "an old signed branch merged by the server's owner"
	item2099      = "a commit dated 2099"
	itemRemoved   = "a key removed from the file while its commit is already accepted"
)

func badInput() []string {
	return []string{
		itemHeaders, itemTwoSigs, itemNamespace, itemExpired, itemPrincipal, itemLooks, itemTag, itemGrafts, itemControl, itemPolicy,
		itemLowered, itemChanged, itemOtherEnv, itemOlder, itemTwoKeys, itemComment, itemPath, itemFunction, itemGoesBack, itemAgent,
		itemSlips, itemOldBranch, item2099, itemRemoved,
	}
}
