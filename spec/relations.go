package spec

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// relations holds the parts of one service to each other.
func (se *evaluation) relations(n *blockNode) {
	if se.d.diags.HasErrors() {
		return // each of these would follow from what is wrong already
	}
	se.installRules(n)
	se.migrateRules()
	se.hookRules()
	se.rolloutRules()
	se.approvalRules()
	o := &se.out
	if len(o.Checks) == 0 && o.Start != nil && o.Start.Driver == "command" {
		se.d.diags = append(se.d.diags, warning(o.Start.Origin.Range, "No check",
			"Without a check block, the exit of start \"command\" is all that says whether the release works. Add a check."))
	}
	if len(o.Checks) == 0 && o.Start == nil {
		se.d.diags = append(se.d.diags, warning(n.def, "No check", "Nothing starts or checks this service, so nothing says whether a release works. Add a check."))
	}
}

func (se *evaluation) installRules(n *blockNode) {
	o := &se.out
	if o.Install == nil {
		if o.Artifact != nil {
			se.d.diags = append(se.d.diags, warning(o.Artifact.Origin.Range, "Artifact unused", "There is no install block, so nothing is downloaded."))
		}
		return
	}
	at := o.Install.Origin.Range
	prefix := ""
	switch o.Install.Driver {
	case "archive", "binary":
		prefix = "sha256:"
		if o.Artifact == nil {
			se.d.fail(at, "Block missing", `install %q needs an artifact block, which says where the release is downloaded from.`, o.Install.Driver)
		}
	case "git":
		prefix = "git:"
	case "apt":
		if o.Release.Digest != "" || len(o.Digests) > 0 {
			se.d.fail(o.Release.Origin.Range, "Digest not used", `install "apt" checks apt's own signatures; a digest here would hold nothing. Leave it out.`)
		}
	}
	if prefix == "" {
		return
	}
	all := []string{o.Release.Digest}
	if len(o.Digests) > 0 {
		all = nil
		for _, p := range sortedKeys(o.Digests) {
			all = append(all, o.Digests[p])
		}
	}
	for _, dg := range all {
		if !strings.HasPrefix(dg, prefix) {
			se.d.fail(o.Release.Origin.Range, "Digest missing", `install %q needs a digest that begins with %q. `+"`drydock bump` writes it.", o.Install.Driver, prefix)
			break
		}
	}
	if o.Artifact != nil {
		for _, src := range append([]string{o.Artifact.Source}, o.Artifact.Mirrors...) {
			if strings.HasPrefix(src, "oci://") {
				se.hold("driver", "Artifacts from oci:// are not built yet, so this service waits.", o.Artifact.Origin.Range)
				break
			}
		}
	}
}

func (se *evaluation) migrateRules() {
	for i := range se.out.Migrates {
		m := &se.out.Migrates[i]
		var c struct {
			Scope      string `json:"scope"`
			Compatible bool   `json:"compatible"`
		}
		_ = json.Unmarshal(m.Config, &c)
		if c.Scope == "fleet" {
			if _, ok := m.Ranges["compatible"]; !ok {
				se.d.fail(m.Origin.Range, "Attribute missing", `With scope = "fleet", write compatible = true if the previous release runs on the new schema, and false if it does not. Hosts of both releases run side by side on it.`)
			} else if !c.Compatible && (se.out.Rollout.MaxParallel != Share{Percent: 100} || se.out.Rollout.Canary != 0) {
				se.d.fail(m.Ranges["compatible"], "Rollout does not fit", `A migration of the fleet that is not compatible starts when all hosts are drained: write max_parallel = "100%%" and canary = 0 in the rollout block.`)
			}
		}
	}
}

func (se *evaluation) hookRules() {
	for _, h := range se.out.Hooks {
		_, before := h.Ranges["before"]
		_, after := h.Ranges["after"]
		if before == after {
			se.d.fail(h.Origin.Range, "When to run", `run %q needs either before or after, and one phase: after = "install".`, h.Driver)
		}
	}
}

func (se *evaluation) rolloutRules() {
	r := se.out.Rollout
	if r.HealthyDeadline < r.MinHealthyTime {
		se.d.fail(r.Origin.Range, "Never healthy", "min_healthy_time (%s) is longer than healthy_deadline (%s), so no release could pass.", r.MinHealthyTime, r.HealthyDeadline)
	}
	if r.Bake > 0 && r.Canary == 0 {
		se.d.diags = append(se.d.diags, warning(r.Origin.Range, "bake without canary", "bake is how long canaries are watched, and canary is 0. Write canary = 1."))
	}
}

func (se *evaluation) approvalRules() {
	a := se.out.Approval
	if a == nil {
		return
	}
	switch {
	case a.Required > len(a.From):
		se.d.fail(a.Origin.Range, "Never approved", "required is %d, and from names %s.", a.Required, people(len(a.From)))
	case a.Required == 0 && !a.Authors:
		se.d.fail(a.Origin.Range, "Nobody approves", "required is 0 and authors is false, so nobody approves. Delete the block, or ask for somebody.")
	}
}

func people(n int) string {
	if n == 1 {
		return "one person"
	}
	return strconv.Itoa(n) + " people"
}

// olderVersion compares versions as numbers between dots.
func olderVersion(a, b string) bool {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := range max(len(as), len(bs)) {
		var x, y string
		if i < len(as) {
			x = as[i]
		}
		if i < len(bs) {
			y = bs[i]
		}
		if x == y {
			continue
		}
		nx, ex := strconv.Atoi(x)
		ny, ey := strconv.Atoi(y)
		if ex == nil && ey == nil {
			return nx < ny
		}
		return x < y
	}
	return false
}

// CheckVersion says whether a tool of this version may act on the repository.
// A version that is no release ("devel", "") may.
func (f *Fleet) CheckVersion(tool string) hcl.Diagnostics {
	want, at := f.MinVersion()
	v := strings.TrimPrefix(tool, "v")
	if want == "" || v == "" || v[0] < '0' || v[0] > '9' || !olderVersion(v, want) {
		return nil
	}
	return hcl.Diagnostics{problem(at.Range, "Tool too old", "This repository asks for version %s, and this is %s. Update it.", want, v)}
}
