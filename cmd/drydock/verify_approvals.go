package main

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"text/tabwriter"

	"drydock/reconcile/trust"
	"drydock/spec"
)

// verifiedWants is one release or removal that people have to agree to.
type verifiedWants struct {
	Environment string   `json:"environment"`
	Service     string   `json:"service"`
	Version     string   `json:"version,omitempty"`
	Kind        string   `json:"kind"` // approval, attestation, removed
	Granted     bool     `json:"granted"`
	Signed      []string `json:"signed"`
	Missing     []string `json:"missing"`
	Why         string   `json:"why,omitempty"`
}

// wants goes through all that a commit declares and people have to agree to, as
// each environment's hosts do, with the approval blocks of both commits. from is
// the commit that they run, "" if nobody said: then a batch is what came with the
// newest commits.
func (v *verifier) wants(ctx context.Context, base, from, head string) ([]verifiedWants, error) {
	fsys, err := v.repo.FS(head)
	if err != nil {
		return nil, err
	}
	before, err := v.repo.FS(base)
	if err != nil {
		return nil, err
	}
	loader := spec.NewLoader()
	is, _ := loader.Load(head, fsys)
	was, _ := loader.Load(base, before)
	out := []verifiedWants{}
	for _, env := range is.Environments() {
		if faults := is.Faults(env); len(faults) > 0 {
			out = append(out, verifiedWants{Environment: env, Kind: "held", Signed: []string{}, Missing: []string{}, Why: "held at its last good commit: " + faults[0].Summary})
			continue
		}
		made := newMakers(v.repo, v.keys, env)
		rules := map[string]*spec.Approval{}
		if from != "" { // what they run has a rule too
			old, _ := was.Services(env)
			for _, d := range old {
				rules[d.Name] = d.Approval
			}
		}
		services, _ := is.Services(env)
		overrides, _ := is.For(spec.Host{Environment: env})
		for _, d := range services {
			ask := trust.Ask{Kind: trust.Approval, Subject: trust.SubjectOf(d.Service), Now: v.now, SkipExpiry: v.skips(overrides.Overrides, d.Name)}
			for _, r := range []*spec.Approval{d.Approval, rules[d.Name]} {
				if r != nil {
					ask.Rules = append(ask.Rules, *r)
				}
			}
			names := d.Requires()
			if len(ask.Rules)+len(names) == 0 && v.policy.Approvals[env] == 0 {
				continue // nobody is asked
			}
			if ask.Authors, err = made.of(ctx, ask.Kind, ask.Subject, from, head, v.now); err != nil {
				return nil, err
			}
			out = append(out, v.service(fsys, d, ask)...)
		}
		removals, _ := is.Removals(env)
		for _, r := range removals {
			ask := trust.Ask{Kind: trust.Removal, Subject: trust.RemovalOf(env, r), Now: v.now}
			if ask.Authors, err = made.of(ctx, ask.Kind, ask.Subject, from, head, v.now); err != nil {
				return nil, err
			}
			out = append(out, wanted(ask, v.policy.Approve(ask, v.signed(fsys, ask.Kind, ask.Subject))))
		}
	}
	return out, nil
}

// service is what one service waits for; nothing if nobody is asked.
func (v *verifier) service(fsys fs.FS, d spec.Declared, ask trust.Ask) []verifiedWants {
	var out []verifiedWants
	signed := v.signed(fsys, ask.Kind, ask.Subject)
	if len(ask.Rules) > 0 || v.policy.Approvals[d.Environment] > 0 {
		out = append(out, wanted(ask, v.policy.Approve(ask, signed)))
	}
	if names := d.Requires(); len(names) > 0 {
		ask.Kind = trust.Attestation
		out = append(out, wanted(ask, v.policy.Attest(ask, names, signed)))
	}
	return out
}

func (v *verifier) skips(overrides []spec.Override, service string) bool {
	return slices.ContainsFunc(overrides, func(o spec.Override) bool {
		return o.Skips("approval-expiry", service, v.now)
	})
}

// signed are the files of one release or removal, with who signed them.
func (v *verifier) signed(fsys fs.FS, kind trust.Kind, subject trust.Subject) []trust.SignedStatement {
	files, _ := trust.ReadApprovals(fsys, trust.Statement{Kind: kind, Subject: subject}.Folder())
	var out []trust.SignedStatement
	for _, f := range files {
		out = append(out, f.SignedBy(v.keys.Approvers(f, v.now)))
	}
	return out
}

func wanted(ask trust.Ask, d trust.Decision) verifiedWants {
	w := verifiedWants{Environment: ask.Environment, Service: ask.Service, Version: ask.Version, Kind: string(ask.Kind),
		Granted: d.Granted, Signed: []string{}, Missing: list(d.Missing), Why: d.Why}
	for _, c := range d.Counted {
		w.Signed = append(w.Signed, c.Who)
	}
	return w
}

// approvalsText is a row for each thing that people have to agree to.
func approvalsText(all []verifiedWants) string {
	if len(all) == 0 {
		return ""
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ENV\tSERVICE\tVERSION\tNEEDS\tSIGNED\tMISSING")
	for _, a := range all {
		missing := strings.Join(a.Missing, ", ")
		if a.Granted {
			missing = "nobody"
		}
		if a.Kind == "held" {
			missing = a.Why
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", a.Environment, dash(a.Service), dash(a.Version), a.Kind, dash(strings.Join(a.Signed, ", ")), missing)
	}
	w.Flush()
	return b.String() + "\n"
}
