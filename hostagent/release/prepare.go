package release

import (
	"context"
	"fmt"

	"github.com/hashicorp/go-multierror"

	"drydock/hostagent/durable"
	"drydock/reconcile"
)

// Prepare implements reconcile.Preparer: the user must be there, and the path
// one that releases and the link current can be put into. The path itself is
// the installer's to make.
func (i *Installer) Prepare(_ context.Context, s reconcile.Step) error {
	p, _, err := i.place(s)
	if err != nil || s.Action == reconcile.Remove {
		return err
	}
	var all *multierror.Error
	if _, err := i.store.owner(p.User); err != nil {
		all = multierror.Append(all, err)
	}
	for _, dir := range []string{p.Path, p.releases()} {
		if err := durable.CanMake(dir); err != nil {
			all = multierror.Append(all, pathFault(p, err))
			break
		}
	}
	if all == nil {
		if err := p.sound(); err != nil {
			all = multierror.Append(all, err)
		}
	}
	return all.ErrorOrNil()
}

func pathFault(p Place, err error) error {
	err = fmt.Errorf("install path %s: %w", p.Path, err)
	if durable.OfDisk(err) {
		return durable.HostFault(err)
	}
	return reconcile.HostFault(err, "Move it away, or declare another path")
}
