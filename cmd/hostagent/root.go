package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"drydock/hostagent"
	"drydock/hostagent/confine"
	"drydock/reconcile"
)

// Streams are where a command reads and writes: results to Out, all else to Err.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer

	// The rest is for tests. Watch sees every journal record once it is durable,
	// and may end the process there; Now and Boot stand in for the machine's
	// clock and boot id, Jitter for what is added to every delay. NoLandlock says
	// what is said on a kernel that has none.
	Watch  func(reconcile.Progressed)
	Now    func() time.Time
	Boot   string
	Jitter func(time.Duration) time.Duration

	NoLandlock bool
}

// shortfall is what commands are not kept from on this host, or "".
func (s Streams) shortfall() string {
	if s.NoLandlock {
		return confine.Shortfall(0)
	}
	return confine.Shortfall(confine.Kernel())
}

// The exit codes. `plan --detailed-exitcode` has one of its own, 2.
const (
	exitOK      = 0
	exitError   = 1
	exitChanges = 2
	exitWaiting = 3
)

// exit is an error that carries nothing but an exit code: all was said already.
type exit int

func (e exit) Error() string { return fmt.Sprintf("exit %d", int(e)) }

// flags are the flags of every command.
type flags struct {
	config  string
	output  string
	secrets *hostagent.Secrets // that any agent of this process has read
	Streams
}

// Main runs one command line and returns its exit code.
func Main(ctx context.Context, args []string, s Streams) int {
	// net/http logs there what a server sends out of turn, past all that takes
	// secrets out. What matters comes as an error.
	log.SetOutput(io.Discard)
	f := &flags{Streams: s, secrets: &hostagent.Secrets{}}
	root := &cobra.Command{
		Use:   "hostagent",
		Short: "Converge this host on what its config repository declares",
		Long: `hostagent follows a config repository, compares what it declares with what
this host runs, and converges: drain, install, migrate, start, check, undrain.

It needs nothing but its configuration file; see ` + "`drydock explain hostagent.hcl`" + ` for that.`,
		SilenceUsage: true, SilenceErrors: true,
		PersistentPreRunE: func(*cobra.Command, []string) error { return f.valid() },
	}
	root.SetArgs(args)
	root.SetIn(s.In)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	root.PersistentFlags().StringVar(&f.config, "config", "/etc/drydock/hostagent.hcl", "the host's own configuration `file`")
	root.PersistentFlags().StringVar(&f.output, "output", "text", "`text` for people, json for programs")
	root.AddCommand(
		runCommand(f), onceCommand(f), planCommand(f), statusCommand(f), checkHostCommand(f),
		personCommand(f, "sync", "Look again now", cobra.NoArgs),
		personCommand(f, "pause", "Begin no plan until `resume`; what has begun is finished", cobra.NoArgs),
		personCommand(f, "resume", "Go on after `pause`", cobra.NoArgs),
		personCommand(f, "drain", "Take a service out of rotation, and keep it out until `undrain`", cobra.ExactArgs(1)),
		personCommand(f, "undrain", "Put a service back into rotation", cobra.ExactArgs(1)),
		versionCommand(f), manCommand(),
	)
	for _, c := range root.Commands() {
		checkArgs(c)
	}
	err := root.ExecuteContext(ctx)
	var code exit
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &code):
		return int(code)
	}
	complain(s.Err, err)
	return exitError
}

// checkArgs lets a wrong number of arguments say how the command is called.
func checkArgs(c *cobra.Command) {
	inner := c.Args
	if inner == nil {
		return
	}
	c.Args = func(cmd *cobra.Command, args []string) error {
		err := inner(cmd, args)
		switch {
		case err == nil:
			return nil
		case !strings.Contains(cmd.Use, " "):
			return fmt.Errorf("%s takes no arguments, and %q is one. It is: %s", cmd.Name(), args[0], cmd.CommandPath())
		}
		return fmt.Errorf("%s: %w. It is: hostagent %s", cmd.Name(), err, cmd.Use)
	}
}

func (f *flags) valid() error {
	if abs, err := filepath.Abs(f.config); err == nil {
		f.config = abs // what is watched must not hang on where we stand
	}
	if f.output != "text" && f.output != "json" {
		return fmt.Errorf("--output %q: it is text or json", f.output)
	}
	return nil
}
