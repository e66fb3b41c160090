package main

import (
	"slices"
	"time"

	"github.com/spf13/cobra"
)

func newApprove(s streams) *cobra.Command {
	var f ballotFlags
	cmd := &cobra.Command{
		Use:   "approve SERVICE… --env ENV [--expires 720h | --until TIME] [--key FILE] [--yes]",
		Short: "Sign that releases may be installed",
		Long: `Approve signs a statement on each service as the branch's newest commit declares
it (with --push: the upstream's), and commits the signature below approvals/. The
statement binds environment, service, version, digest, the hash of the whole
declaration and an expiry: another build, another declaration, another
environment need another approval. With --removed it is on the removed blocks
that stop and uninstall the services.

What is signed is shown first, with what changed since the last approval, whose
changes it carries, and who is still missing; the question that follows has no as
its answer unless you say yes. Hosts decide whose signatures count.

The key is that of --key, or git's user.signingkey (where gpg.format is ssh), or
the only one of your ssh-agent: a private key file, whose passphrase is asked for,
or a public one whose private half the agent has; a security key (sk-) waits for
your touch. The commit is signed with it too, unless git signs by itself here.

--print writes the statement instead, and --signature takes in what
ssh-keygen -Y sign -n drydock made of it, on whatever machine has the key.`,
		Example: `  drydock approve web --env prod --push
  drydock approve web api --env prod --expires 48h --yes
  drydock approve web --env prod --removed
  drydock approve web --env prod --print >statement
  ssh-keygen -Y sign -n drydock -f ~/.ssh/id_ed25519 statement
  drydock approve web --env prod --signature statement.sig`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := f.ballot(cmd, time.Now())
			if err != nil {
				return err
			}
			b.services = args
			return f.carry(cmd, s, b)
		},
	}
	f.register(cmd)
	cmd.Flags().BoolVar(&f.removedBlocks, "removed", false, "approve that the services are stopped and uninstalled: their removed blocks")
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		left := slices.DeleteFunc(servicesAround(cmd), func(name string) bool { return slices.Contains(args, name) })
		return left, cobra.ShellCompDirectiveNoFileComp
	}
	return cmd
}
