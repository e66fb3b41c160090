package main

import (
	"context"

	"drydock/hostagent"
	"drydock/reconcile"
)

func throughAgent(context.Context, hostagent.Config) (reconcile.HostStatus, bool, error) {
	return reconcile.HostStatus{}, false, nil
}
func statusThroughAgent(context.Context, hostagent.Config) (reconcile.HostStatus, bool, error) {
	return reconcile.HostStatus{}, false, nil
}
func planThroughAgent(context.Context, hostagent.Config) (hostagent.PlanReport, bool, error) {
	return hostagent.PlanReport{}, false, nil
}
