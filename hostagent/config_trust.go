package hostagent

import (
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/gocty"

	"drydock/reconcile/trust"
	"drydock/spec"
)

// The trust block. It is decoded as strictly as the rest, and then held to
// trust.Policy's own rules, each mistake at the line that makes it.

const (
	minFreshness = time.Minute
	maxFreshness = 10 * 365 * 24 * time.Hour
)

// trustPlaces are where the parts of the trust block stand.
type trustPlaces struct {
	block, since, approvals hcl.Range
	roles                   []hcl.Range // as Policy.Roles
}

func (d *configDecoder) trust(at hcl.Range) *configSection {
	t := &TrustConfig{}
	d.config.Trust, d.places = t, trustPlaces{block: at, since: at, approvals: at}
	return &configSection{
		attrs: map[string]func(*hclsyntax.Attribute){
			"signers":   d.absolute(&t.Signers),
			"revoked":   d.absolute(&t.Revoked),
			"keyring":   d.absolute(&t.Keyring),
			"since":     d.since,
			"approvals": d.floors,
			"freshness": d.freshness,
		},
		blocks: map[string]configBlock{"role": {labels: 1, many: true, section: d.role}},
	}
}

func (d *configDecoder) role(labels []string, at hcl.Range) *configSection {
	t := d.config.Trust
	t.Roles = append(t.Roles, trust.Role{Name: labels[0]})
	d.places.roles = append(d.places.roles, at)
	r := &t.Roles[len(t.Roles)-1] // good until the next role begins
	into := func(list *[]string) func(*hclsyntax.Attribute) {
		return func(a *hclsyntax.Attribute) {
			if s, ok := d.strings(a); ok {
				*list = s
			}
		}
	}
	return &configSection{required: []string{"principals", "may"}, attrs: map[string]func(*hclsyntax.Attribute){
		"principals":   into(&r.Principals),
		"may":          func(a *hclsyntax.Attribute) { d.may(a, r) },
		"environments": func(a *hclsyntax.Attribute) { d.environments(a, r) },
		"people": func(a *hclsyntax.Attribute) {
			if v, ok := d.value(a); ok {
				if v.Type() != cty.Bool {
					d.problem(a.Expr.Range(), "Not a yes or no", "people is true or false.")
					return
				}
				r.People = v.True()
			}
		},
	}}
}

func (d *configDecoder) may(a *hclsyntax.Attribute, r *trust.Role) {
	list, ok := d.strings(a)
	if !ok {
		return
	}
	var words []string
	for _, p := range trust.Permissions() {
		words = append(words, string(p))
	}
	for _, s := range list {
		if !slices.Contains(words, s) {
			d.problem(a.Expr.Range(), "Unknown permission", "There is no permission %q.%s There are %s.", s, spec.DidYouMean(s, words), strings.Join(words, ", "))
			return
		}
		r.May = append(r.May, trust.Permission(s))
	}
}

// environments: an empty list would be read as "nowhere" by people, and as
// "everywhere" by the rules.
func (d *configDecoder) environments(a *hclsyntax.Attribute, r *trust.Role) {
	list, ok := d.strings(a)
	if ok && len(list) == 0 {
		d.problem(a.Expr.Range(), "No environments", "An empty list would allow nothing; leave environments out for all of them, or name some.")
		return
	}
	if ok {
		r.Environments = list
	}
}

func (d *configDecoder) since(a *hclsyntax.Attribute) {
	if s, ok := d.str(a); ok {
		if s == "" {
			d.problem(a.Expr.Range(), "Not a commit", "since is empty; write the 40 digits that git rev-parse prints, or leave it out to take the first commit on trust.")
			return
		}
		if strings.Trim(s, "0") == "" {
			d.problem(a.Expr.Range(), "Not a commit", "since stands for a commit and names none yet; write the 40 digits that git rev-parse HEAD prints in your clone, of a commit that you have looked at.")
			return
		}
		d.config.Trust.Since, d.places.since = s, a.Expr.Range()
	}
}

func (d *configDecoder) floors(a *hclsyntax.Attribute) {
	v, ok := d.value(a)
	if !ok {
		return
	}
	if !v.Type().IsObjectType() {
		d.problem(a.Expr.Range(), "Not numbers of people", "approvals is written as { prod = 2 }.")
		return
	}
	floors := map[string]int{}
	for env, e := range v.AsValueMap() {
		var n int
		if e.IsNull() || e.Type() != cty.Number || gocty.FromCtyValue(e, &n) != nil || n < 1 {
			d.problem(a.Expr.Range(), "Not a number of people", "approvals of %q must be a whole number, at least 1; leave it out where none are needed.", env)
			return
		}
		floors[env] = n
	}
	d.config.Trust.Approvals, d.places.approvals = floors, a.Expr.Range()
}

func (d *configDecoder) freshness(a *hclsyntax.Attribute) {
	s, ok := d.str(a)
	if !ok {
		return
	}
	v, err := time.ParseDuration(s)
	if err != nil || v < minFreshness || v > maxFreshness {
		d.problem(a.Expr.Range(), "Not a time", "freshness = %q must be a duration such as \"168h\", between %s and %s. Leave it out for no limit.", s, minFreshness, maxFreshness)
		return
	}
	d.config.Trust.Freshness = v
}

// checkTrust holds the whole block to what the rules need.
func (d *configDecoder) checkTrust() {
	t := d.config.Trust
	if t == nil || d.diags.HasErrors() {
		return
	}
	if t.Signers == "" && t.Keyring == "" {
		d.problem(d.places.block, "Nobody could sign", "trust needs signers, a file in OpenSSH's allowed_signers format, or keyring, a file of OpenPGP public keys.")
	}
	if err := t.Check(); err != nil {
		d.problem(d.placeOf(t.Policy), "Trust cannot be used", "%v.", err)
	}
}

// placeOf finds the part of a policy that its Check refuses: the first one with
// which what stands before it is refused.
func (d *configDecoder) placeOf(p trust.Policy) hcl.Range {
	some := trust.Policy{Roles: []trust.Role{{Name: "some", Principals: []string{"some"}, May: []trust.Permission{trust.Any}}}}
	some.Since = p.Since
	if some.Check() != nil {
		return d.places.since
	}
	for i := range p.Roles {
		if (trust.Policy{Roles: p.Roles[:i+1]}).Check() != nil {
			return d.places.roles[i]
		}
	}
	p.Approvals = nil
	if p.Check() == nil {
		return d.places.approvals
	}
	return d.places.block
}

// files are what the block names, for as long as it holds.
func (t *TrustConfig) files() []string {
	if t == nil {
		return nil
	}
	return []string{t.Signers, t.Revoked, t.Keyring}
}
