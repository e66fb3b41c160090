// Package tcp is check "tcp": whether a port takes connections.
package tcp

import (
	"context"
	"fmt"
	"time"

	"drydock/hostagent/outbound"
	"drydock/reconcile"
	"drydock/spec"
)

type config struct {
	Address  string        `json:"address"`
	Interval spec.Duration `json:"interval"`
	Timeout  spec.Duration `json:"timeout"`
}

// Check is check "tcp". It cannot tell the new process from an old one; start
// drivers prove the old one gone before.
type Check struct{}

// Probe opens a connection and closes it.
func (Check) Probe(ctx context.Context, s reconcile.Step) error {
	var c config
	if err := s.Block.Decode(&c); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(c.Timeout))
	defer cancel()
	conn, err := outbound.Dialer(0).DialContext(ctx, "tcp", c.Address)
	if err != nil {
		return fmt.Errorf("no connection to %s: %w", c.Address, outbound.Explain(err))
	}
	return conn.Close()
}
