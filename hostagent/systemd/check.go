package systemd

import (
	"context"
	"fmt"
	"time"

	"drydock/reconcile"
	"drydock/spec"
)

type checkConfig struct {
	Unit     string        `json:"unit"`
	Interval spec.Duration `json:"interval"`
	Timeout  spec.Duration `json:"timeout"`
}

// Check is check "systemd". It cannot tell the new process from an old one;
// start "systemd" proves that.
type Check struct{ bus *bus }

// Probe asks whether the unit is active.
func (k Check) Probe(ctx context.Context, s reconcile.Step) error {
	var c checkConfig
	if err := s.Block.Decode(&c); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(c.Timeout))
	defer cancel()
	u, err := k.bus.unit(ctx, c.Unit)
	if err != nil {
		return err
	}
	if !u.running() {
		return fmt.Errorf("%s is %s, expected active; see journalctl -u %s", c.Unit, u.detail(), c.Unit)
	}
	return nil
}

// Prepare fails if the unit is missing, masked or broken.
func (k Check) Prepare(ctx context.Context, s reconcile.Step) error {
	var c checkConfig
	if err := s.Block.Decode(&c); err != nil {
		return err
	}
	u, err := k.bus.unit(ctx, c.Unit)
	if err != nil {
		return err
	}
	if u.load == "not-found" && brings(s) {
		return nil
	}
	return lacks(u, none)
}
