package hostagent

import (
	"fmt"

	"drydock/reconcile"
	"drydock/spec"
)

// Registry knows the drivers by the block that they carry out. A driver that
// comes later is one more call of Add, in cmd.
type Registry struct {
	drivers map[string]reconcile.Driver
	probers map[string]reconcile.Prober
}

// Add registers a driver for a block such as ("drain", "file"). A driver that
// serves several blocks is added once for each.
func (r *Registry) Add(block, driver string, d reconcile.Driver) {
	if r.drivers == nil {
		r.drivers = map[string]reconcile.Driver{}
	}
	r.drivers[block+"/"+driver] = d
}

// AddCheck registers a check driver.
func (r *Registry) AddCheck(driver string, p reconcile.Prober) {
	if r.probers == nil {
		r.probers = map[string]reconcile.Prober{}
	}
	r.probers[driver] = p
}

// Driver as reconcile.Drivers says. In the check phase it is the engine's loop
// around the block's prober; a start block there means that the start driver's
// word counts.
func (r *Registry) Driver(s reconcile.Step) (reconcile.Driver, error) {
	if s.Phase == reconcile.Check && s.Block.Type != "run" {
		return r.checking(s)
	}
	if d := r.drivers[kind(s.Block)]; d != nil {
		return d, nil
	}
	return nil, fmt.Errorf("this hostagent has no %s %q driver", s.Block.Type, s.Block.Driver)
}

func (r *Registry) checking(s reconcile.Step) (reconcile.Driver, error) {
	var k reconcile.Checking
	if t := s.Target.Start; t != nil {
		k.Start, _ = r.drivers[kind(*t)].(reconcile.Observer)
	}
	if s.Block.Type == "start" {
		return k, nil
	}
	p := r.probers[s.Block.Driver]
	if p == nil {
		return nil, fmt.Errorf("this hostagent has no check %q driver", s.Block.Driver)
	}
	k.Probe = p
	return k, nil
}

// kind is how a block's driver is found. All hooks have one driver, whatever
// their names.
func kind(b spec.Block) string {
	if b.Type == "run" {
		return "run/command"
	}
	return b.Type + "/" + b.Driver
}
