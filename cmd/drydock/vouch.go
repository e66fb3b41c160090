package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"drydock/hostagent/gitsource"
	"drydock/reconcile/trust"
	"drydock/spec"
	"github.com/spf13/cobra"
)

// vouched is what vouch prints.
type vouched struct {
	Vouched string   `json:"vouched"`
	Author  string   `json:"author"`
	Subject string   `json:"subject"`
	Does    []string `json:"does"`
	Commit  string   `json:"commit"`
	Pushed  bool     `json:"pushed"`
	Changed bool     `json:"changed"`
}

func newVouch(s streams) *cobra.Command {
	var place placeFlags
	var key keyFlags
	var yes bool
	var config, output string
	cmd := &cobra.Command{
		Use:   "vouch COMMIT [--key FILE] [--yes]",
		Short: "Sign for a commit that hosts do not accept as it is",
		Long: `Vouch makes a signed commit that changes nothing and names COMMIT. Hosts then
take COMMIT as if you had made it: your roles are held against its diff, and yours
must be a people role with the permission any. It is for commits whose own
signature is missing or not enough: a squash or rebase that a forge made, the work
of somebody whose key is not listed.

The commit's diff is shown, and what hosts read in it; the question that follows
has no as its answer unless you say yes. COMMIT must be on the branch, and one that
hosts still judge: what they accepted once, they ask about no more. With the
hostagent.hcl of one, --config, that is asked first.

A commit that is not meant must be taken off the branch instead: undoing it in a
further commit leaves it there to be judged.`,
		Example: `  drydock vouch 4f2a91c --push`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := place.open(cmd.Context(), cmd)
			if err != nil {
				return err
			}
			defer c.close()
			v := &voucher{rev: args[0], key: key, yes: yes, config: config}
			return v.vouch(cmd.Context(), s, c, output)
		},
	}
	place.register(cmd)
	key.register(cmd)
	cmd.Flags().StringVar(&config, "config", "", "a host's hostagent.hcl: refuse a commit that its hosts would take as it is, or judge no more")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "sign without asking, for scripts")
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	outputFlag(cmd, &output, "text", "json")
	return cmd
}

// voucher is somebody who vouches.
type voucher struct {
	rev    string
	key    keyFlags
	yes    bool
	config string // a host's, "" for none
	seen   string // the commit that they said yes to
	made   vouched
}

func (v *voucher) vouch(ctx context.Context, s streams, c *clone, output string) error {
	out, err := c.commit(ctx, func(ctx context.Context, t tree) (proposal, error) {
		hash, err := v.find(ctx, t)
		if err != nil {
			return proposal{}, err
		}
		if standing, err := v.stands(ctx, t, hash); err != nil || standing {
			return proposal{}, err
		}
		if v.seen != hash {
			if err := v.needed(ctx, t, hash); err != nil {
				return proposal{}, err
			}
			if err := v.show(ctx, s, t); err != nil {
				return proposal{}, err
			}
			v.seen = hash
		}
		p := proposal{message: fmt.Sprintf("vouch for %s by %s: %s\n\nHosts take that commit as if the signer of this one had made it.\n\nDrydock-Vouch: %s\n",
			spec.Short(hash), oneLine(v.made.Author), oneLine(v.made.Subject), hash)}
		p.sign, err = v.key.forCommit(ctx, s, t.git, nil)
		return p, err
	})
	if err != nil {
		return err
	}
	v.made.Commit, v.made.Pushed, v.made.Changed = out.commit, out.pushed, out.changed
	if output == "json" {
		v.made.Does = list(v.made.Does)
		return s.json(v.made)
	}
	if !out.changed {
		fmt.Fprintf(s.Out, "%s: you vouched for it already, no commit was needed\n", spec.Short(v.made.Vouched))
		return nil
	}
	fmt.Fprintf(s.Out, "%s  vouched for %s by %s: %s\n", spec.Short(out.commit), spec.Short(v.made.Vouched), v.made.Author, v.made.Subject)
	whereTo(s, c, out)
	return nil
}

// find is the commit that is meant: one of the branch.
func (v *voucher) find(ctx context.Context, t tree) (string, error) {
	hash, err := t.run(ctx, "rev-parse", "--verify", "--quiet", "--end-of-options", v.rev+"^{commit}")
	if err != nil {
		return "", fmt.Errorf("%s is no commit of this clone: git fetch may bring it, and git log shows which there are", v.rev)
	}
	if _, err := t.run(ctx, "merge-base", "--is-ancestor", hash, t.head); err != nil {
		return "", fmt.Errorf("%s is not on the branch (%s is its newest commit), so no host is asked to take it: merge it first, then vouch for it", spec.Short(hash), spec.Short(t.head))
	}
	said, err := t.run(ctx, "show", "--no-patch", "--format=%an <%ae>%n%s", hash)
	if err != nil {
		return "", err
	}
	v.made.Vouched = hash
	v.made.Author, v.made.Subject, _ = strings.Cut(said, "\n")
	return hash, nil
}

// needed asks a host, if one is named, whether it waits for this.
func (v *voucher) needed(ctx context.Context, t tree, hash string) error {
	if v.config == "" {
		return nil
	}
	host, err := newVerifier(t.dir, v.config, "")
	if err != nil {
		return err
	}
	defer host.repo.Close()
	if host.policy.Since == "" {
		return nil // nobody knows where it began
	}
	judge := trust.Judge{Policy: host.policy, Keys: host.keys, History: host.repo.History(), Past: &trust.Past{}, Unmarked: true}
	var found *trust.Reviewed
	_, err = judge.Review(ctx, host.policy.Since, t.head, host.now, func(c trust.Reviewed) {
		if c.Commit == hash {
			found = &c
		}
	})
	var blocker *trust.Blocker
	switch {
	case err != nil && !errors.As(err, &blocker):
		return err
	case found == nil && blocker != nil && blocker.Fault == trust.NotForward:
		return err
	case found == nil:
		return fmt.Errorf("%s is behind %s, which hosts with %s took on trust (since): they ask about it no more, and vouching changes nothing", spec.Short(hash), spec.Short(host.policy.Since), v.config)
	case found.Blocker == nil && len(found.By) > 0:
		return fmt.Errorf("%s needs nobody to vouch for it: hosts with %s take it as it is (%s by %s)", spec.Short(hash), v.config, found.How, strings.Join(found.By, ", "))
	case found.Blocker == nil:
		return fmt.Errorf("%s needs nobody to vouch for it: hosts with %s take it as it is (%s)", spec.Short(hash), v.config, found.How)
	}
	return nil
}

// stands reports whether the same person vouched for it already, as far as the
// commits say who they are.
func (v *voucher) stands(ctx context.Context, t tree, hash string) (bool, error) {
	me := t.me(ctx)
	repo, err := gitsource.OpenRepository(t.dir)
	if err != nil {
		return false, err
	}
	defer repo.Close()
	for c, err := range repo.Log(ctx, hash, t.head) {
		if err != nil {
			return false, err
		}
		if c.Author.Email != me || !slices.Contains((trust.Commit{Message: c.Message}).Trailers("Drydock-Vouch"), hash) {
			continue
		}
		// One that is not signed vouches for nothing.
		raw, err := repo.History().Commit(ctx, c.Hash)
		if err != nil {
			return false, err
		}
		if read, err := trust.ParseCommit(raw); err == nil && (read.Signature != nil || v.key.unsigned) {
			return true, nil
		}
	}
	return false, nil
}

// show prints the commit with its diff, says what hosts read in it, and asks.
func (v *voucher) show(ctx context.Context, s streams, t tree) error {
	shown, err := t.run(ctx, "show", "--first-parent", "-m", "--no-color", "--no-ext-diff", "--no-textconv", "--stat", "--patch", v.made.Vouched)
	if err != nil {
		return err
	}
	s.note("%s\n", plainText(shown))
	if err := v.reads(ctx, t); err != nil {
		return err
	}
	s.note("Vouching says that you made this your own. By it hosts accept a commit that:")
	for _, d := range v.made.Does {
		s.note("  - %s", d)
	}
	if v.yes {
		return nil
	}
	yes, err := s.confirm(ctx, fmt.Sprintf("Vouch for %s by %s?", spec.Short(v.made.Vouched), v.made.Author))
	if err == nil && !yes {
		err = errDeclined
	}
	return err
}

// mostNeeds bounds how many things of one commit are listed.
const mostNeeds = 50

// reads is what hosts see the commit do.
func (v *voucher) reads(ctx context.Context, t tree) error {
	repo, err := gitsource.OpenRepository(t.dir)
	if err != nil {
		return err
	}
	defer repo.Close()
	history := repo.History()
	raw, err := history.Commit(ctx, v.made.Vouched)
	if err != nil {
		return err
	}
	read, err := trust.ParseCommit(raw)
	if err != nil {
		return fmt.Errorf("commit %s is not what git writes (%w), and nobody can vouch for what two programs may read as two commits: take it off the branch", spec.Short(v.made.Vouched), err)
	}
	parent := ""
	if len(read.Parents) > 0 {
		parent = read.Parents[0]
	}
	needs, err := trust.Needs(ctx, history, nil, parent, v.made.Vouched)
	if err != nil {
		return err
	}
	v.made.Does = nil
	for i, n := range needs {
		if i == mostNeeds {
			v.made.Does = append(v.made.Does, fmt.Sprintf("does %d things more", len(needs)-mostNeeds))
			break
		}
		v.made.Does = append(v.made.Does, n.String())
	}
	return nil
}

// plainText is what somebody else wrote, without what a terminal would obey.
func plainText(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r == 0x7f || r >= 0x80 && r < 0xa0 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}
