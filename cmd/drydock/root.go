package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// streams are where output goes: results to Out, everything else to Err.
type streams struct{ Out, Err io.Writer }

// note is a line for a person beside the result.
func (s streams) note(format string, args ...any) {
	fmt.Fprintf(s.Err, format+"\n", args...)
}

// json writes a result for a program.
func (s streams) json(v any) error {
	enc := json.NewEncoder(s.Out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// exitCode ends a command with a code and nothing more to say.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

const exitCodes = `Exit codes: 0 done, also if there was nothing to do; 1 an error, which is on
standard error; 2 the command was called wrongly; 3 "fmt --check" found files
to format.`

// run is the whole command: arguments in, exit code out.
func run(ctx context.Context, args []string, s streams) int {
	root := newRoot(s)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var code exitCode
	var usage usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	case errors.As(err, &usage):
		s.note("drydock: %v", err)
		return 2
	case ctx.Err() != nil:
		s.note("drydock: stopped by a signal; %v", err)
		return 1
	}
	report(s, err)
	return 1
}

// usageError says that the command line is wrong, not the world.
type usageError struct{ error }

func wrong(cmd *cobra.Command, format string, args ...any) error {
	return usageError{fmt.Errorf(format+"\nSee: %s --help", append(args, cmd.CommandPath())...)}
}

func newRoot(s streams) *cobra.Command {
	root := &cobra.Command{
		Use:   "drydock",
		Short: "The config repository's commands",
		Long: `drydock works on a config repository: a git repository that declares which
version of each service runs in which environment. Merging a commit there is the
deployment; the hosts' agents do the rest.

` + exitCodes,
		Version:       thisBuild().String(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          knownVerb,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return wrong(cmd, "%v", err) })
	root.AddGroup(
		&cobra.Group{ID: "look", Title: "Write and check a repository:"},
		&cobra.Group{ID: "change", Title: "Change what runs (each makes one commit):"},
		&cobra.Group{ID: "sign", Title: "Agree to it, with your own key (each makes one commit):"},
	)
	root.SetHelpCommandGroupID("")
	for _, verb := range []struct {
		group string
		make  func(streams) *cobra.Command
	}{
		{"look", newInit},
		{"look", newValidate},
		{"look", newFmt},
		{"look", newDiff},
		{"look", newVerify},
		{"look", newExplain},
		{"change", newBump},
		{"change", newRollback},
		{"change", newRetry},
		{"change", newFreeze},
		{"change", newUnfreeze},
		{"sign", newApprove},
		{"sign", newAttest},
		{"sign", newVouch},
		{"sign", newOverride},
		{"sign", newHeartbeat},
		{"", newVersion},
		{"", newMan},
	} {
		cmd := verb.make(s)
		cmd.GroupID = verb.group
		checkArgs(cmd)
		root.AddCommand(cmd)
	}
	return root
}

// knownVerb names the nearest verb to one that there is not.
func knownVerb(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var verbs []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			verbs = append(verbs, c.Name())
		}
	}
	return wrong(cmd, "there is no command %q%s", args[0], suggest(args[0], verbs, "there are"))
}

// checkArgs makes a wrong number of arguments a usage error.
func checkArgs(cmd *cobra.Command) {
	inner := cmd.Args
	if inner == nil {
		return
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if err := inner(cmd, args); err != nil {
			return wrong(cmd, "%s: %v; it is: drydock %s", cmd.Name(), err, cmd.Use)
		}
		return nil
	}
}

// outputFlag is --output with the forms that the command can write.
func outputFlag(cmd *cobra.Command, into *string, forms ...string) {
	cmd.Flags().StringVarP(into, "output", "o", forms[0], "how to print the result: "+strings.Join(forms, ", "))
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(forms, cobra.ShellCompDirectiveNoFileComp))
	inner := cmd.PreRunE
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		for _, f := range forms {
			if f == *into {
				if inner != nil {
					return inner(cmd, args)
				}
				return nil
			}
		}
		return wrong(cmd, "--output %s: this command prints %s", *into, strings.Join(forms, ", "))
	}
}
