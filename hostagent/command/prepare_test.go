package command_test

import (
	"strings"
	"testing"

	"drydock/hostagent/command"
	"drydock/hostagent/drivertest"
	"drydock/reconcile"
)

// Every program of every block is asked for in advance, also one that is needed
// late: what left rotation must be able to come back.
func TestPrepare(t *testing.T) {
	const absent = "/usr/bin/no-such-program"
	for typ, c := range map[string]struct {
		driver any
		attrs  []string
	}{
		"drain":   {command.NewDrain(reconcile.Env{}), []string{"drain", "undrain", "status"}},
		"install": {command.NewInstall(reconcile.Env{}), []string{"command", "current"}},
		"migrate": {command.NewMigrate(reconcile.Env{}), []string{"command", "check"}},
		"start":   {command.NewStart(reconcile.Env{}), []string{"command", "stop", "running"}},
		"check":   {command.Check{}, []string{"command"}},
		"run":     {command.NewHook(reconcile.Env{}), []string{"command"}},
	} {
		for _, missing := range append(c.attrs, "") {
			all := map[string]any{"timeout": "1s"}
			for _, a := range c.attrs {
				all[a] = []string{"true"}
			}
			if missing != "" {
				all[missing] = []string{absent, "x"}
			}
			s := drivertest.Step(reconcile.Start, drivertest.Block(t, typ, "command", all))
			err := c.driver.(reconcile.Preparer).Prepare(t.Context(), s)
			if missing == "" && err != nil || missing != "" && (err == nil || !strings.Contains(err.Error(), absent)) {
				t.Errorf("%s without %q: %v", typ, missing, err)
			}
		}
	}
}
