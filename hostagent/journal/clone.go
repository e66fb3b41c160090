package journal

import (
	"maps"
	"slices"

	"drydock/reconcile"
)

// clone copies whatever Memory.Apply may change in place. A spec.Service and a
// spec.Block are values that nobody changes, so their insides are shared.
func clone(m *reconcile.Memory) reconcile.Memory {
	c := *m
	c.Good = maps.Clone(m.Good)
	if c.Warrant = copied(m.Warrant); c.Warrant != nil {
		c.Warrant.By = slices.Clone(m.Warrant.By)
	}
	c.Sighted, c.Refused = slices.Clone(m.Sighted), copied(m.Refused)
	c.Services = make(map[string]*reconcile.Remembered, len(m.Services))
	for name, s := range m.Services {
		c.Services[name] = cloneService(s)
	}
	return c
}

func cloneService(s *reconcile.Remembered) *reconcile.Remembered {
	if s == nil {
		return nil
	}
	c := *s
	c.Running, c.Halt, c.Held = copied(s.Running), copied(s.Halt), copied(s.Held)
	if c.Open = copied(s.Open); c.Open != nil {
		c.Open.Steps = slices.Clone(s.Open.Steps)
		c.Open.Progress = maps.Clone(s.Open.Progress)
	}
	c.Past = slices.Clone(s.Past)
	c.Quarantine = slices.Clone(s.Quarantine)
	c.Drains = maps.Clone(s.Drains)
	c.Rotation = maps.Clone(s.Rotation)
	c.Migrated = maps.Clone(s.Migrated)
	c.Crossed = slices.Clone(s.Crossed)
	return &c
}

func copied[T any](p *T) *T {
	if p == nil {
		return nil
	}
	c := *p
	return &c
}
