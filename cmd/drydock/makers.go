package main

import (
	"context"
	"errors"
	"time"

	"drydock/hostagent/gitsource"
	"drydock/reconcile/trust"
	"drydock/spec"
)

// makers finds who made what people sign, by the rules of hosts: nobody approves
// alone what they made.
type makers struct {
	writers trust.Writers
	repo    *gitsource.Repository
	loader  *spec.Loader
	states  map[string]map[string]string // commit -> kind and service -> hash of the declaration
}

func newMakers(repo *gitsource.Repository, keys trust.Keys, environment string) *makers {
	return &makers{writers: trust.Writers{History: repo.History(), Keys: keys}, repo: repo,
		loader: &spec.Loader{Only: environment}, states: map[string]map[string]string{}}
}

// strangers is a Keys that knows nobody: who made a commit is whom it names.
type strangers struct{}

func (strangers) Signers([]byte, []byte, time.Time) ([]string, error) {
	return nil, errors.New("no key is known here")
}

// of are the authors of a statement's subject between two commits; from "" is
// where nobody knows what was before.
func (m *makers) of(ctx context.Context, kind trust.Kind, s trust.Subject, from, to string, now time.Time) ([]string, error) {
	state := func(ctx context.Context, commit string) (string, error) { return m.state(ctx, commit, kind, s) }
	b := trust.Batch{Environment: s.Environment, Service: s.Service, Version: s.Version, From: from, To: to, At: now, State: state}
	if from != "" {
		if was, err := state(ctx, from); err != nil {
			return nil, err
		} else if was == s.Spec {
			b.State = nil
		}
	}
	return m.writers.Authors(ctx, b)
}

// state is a declaration, or a removal, by a commit.
func (m *makers) state(ctx context.Context, commit string, kind trust.Kind, s trust.Subject) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	said, ok := m.states[commit]
	if !ok {
		tree, err := m.repo.FS(commit)
		if err != nil {
			return "", err
		}
		said = map[string]string{}
		fleet, _ := m.loader.Load(commit, tree)
		services, _ := fleet.Services(s.Environment)
		for _, d := range services {
			said[string(trust.Approval)+" "+d.Name] = d.SpecHash
		}
		removals, _ := fleet.Removals(s.Environment)
		for _, r := range removals {
			said[string(trust.Removal)+" "+r.Name] = r.Spec
		}
		m.states[commit] = said
	}
	if kind != trust.Removal {
		kind = trust.Approval
	}
	return said[string(kind)+" "+s.Service], nil
}
