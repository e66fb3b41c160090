package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"drydock/hostagent"
	"drydock/hostagent/gitsource"
	"drydock/hostagent/keyring"
	"drydock/reconcile/trust"
	"drydock/spec"
	"github.com/spf13/cobra"
)

// verified is what verify prints.
type verified struct {
	Config  string           `json:"config"`
	Base    string           `json:"base"`
	Head    string           `json:"head"`
	Good    bool             `json:"good"` // a host at base would accept head
	Commits []verifiedCommit `json:"commits"`
	// Blocker is what a host says and stops at: the first commit that is not
	// good, or a head that does not follow base.
	Blocker   *blockerView    `json:"blocker,omitempty"`
	Approvals []verifiedWants `json:"approvals,omitempty"`
}

type verifiedCommit struct {
	Hash    string       `json:"hash"`
	Author  string       `json:"author"`
	Time    time.Time    `json:"time,omitzero"`
	Subject string       `json:"subject"`
	Verdict string       `json:"verdict"` // signed, vouched, merged, blocked
	By      []string     `json:"by"`      // who answers for it
	Roles   []string     `json:"roles"`
	Does    []string     `json:"does"`
	Blocker *blockerView `json:"blocker,omitempty"`
}

type blockerView struct {
	Commit string `json:"commit"`
	Fault  string `json:"fault"`
	Text   string `json:"text"` // what happened
	Next   string `json:"next"` // and what to do
}

func viewBlocker(b *trust.Blocker) *blockerView {
	if b == nil {
		return nil
	}
	return &blockerView{b.Commit, string(b.Fault), strings.TrimSuffix(b.Error(), " "+b.Next), b.Next}
}

// hostConfig is where a host has its own file.
const hostConfig = "/etc/drydock/hostagent.hcl"

func newVerify(s streams) *cobra.Command {
	var dir, config, signers, output string
	var approvals bool
	cmd := &cobra.Command{
		Use:   "verify [[BASE..]HEAD] [--config FILE] [--approvals]",
		Short: "Check history as a host would",
		Long: `Verify judges every commit of HEAD (default: the checked-out one) that is not
behind BASE (default: since of the host's trust section), by the same code, roles
and keys as a host with this file does before it takes a commit up: who signed,
and whether that role may do what the diff does. A host stops at the first commit
that is blocked; verify goes on, and shows what else is.

--approvals adds which releases the hosts would wait with, and for whom.

In CI, as a check of pull requests, and as a server's update hook:

    drydock verify origin/main..HEAD --config hostagent.hcl
    exec drydock verify "$2..$3" --config /etc/drydock/hostagent.hcl

Exit code 1 says that a commit is blocked; a release that waits for approvals is
no error.`,
		Example: `  drydock verify
  drydock verify origin/main..HEAD --config ci/hostagent.hcl --signers ci/allowed_signers
  drydock verify --approvals --output json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			base, head := "", "HEAD"
			if len(args) > 0 {
				head = args[0]
				if a, b, ok := strings.Cut(args[0], ".."); ok {
					if strings.HasPrefix(b, ".") {
						return wrong(cmd, "verify: BASE...HEAD has no meaning here; a host goes from BASE to HEAD: BASE..HEAD")
					}
					base, head = a, b
				}
			}
			if head == "" {
				head = "HEAD"
			}
			v, err := newVerifier(dir, config, signers)
			if err != nil {
				return err
			}
			defer v.repo.Close()
			return v.verify(cmd.Context(), s, base, head, approvals, output)
		},
	}
	cmd.Flags().StringVarP(&dir, "directory", "C", ".", "the config repository; a bare one will do")
	cmd.Flags().StringVar(&config, "config", hostConfig, "the hostagent.hcl whose trust section is used")
	cmd.Flags().StringVar(&signers, "signers", "", "this allowed_signers file in place of the one that the host's file names")
	cmd.Flags().BoolVar(&approvals, "approvals", false, "say too which releases lack whose approvals")
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	_ = cmd.MarkFlagDirname("directory")
	outputFlag(cmd, &output, "text", "json")
	return cmd
}

// verifier is a host's eyes on a repository.
type verifier struct {
	file   string
	policy trust.Policy
	keys   *keyring.Keys
	repo   *gitsource.Repository
	now    time.Time
}

func newVerifier(dir, config, signers string) (*verifier, error) {
	cfg, diags := hostagent.LoadConfig(config)
	if diags.HasErrors() {
		src, _ := readBounded(config, 1<<20)
		return nil, inFile(diags, config, src)
	}
	if cfg.Trust == nil {
		return nil, fmt.Errorf("%s has no trust section, so its host accepts any commit that follows the last: there is nothing to verify by", config)
	}
	files := keyring.Files{Signers: cfg.Trust.Signers, Revoked: cfg.Trust.Revoked, OpenPGP: cfg.Trust.Keyring, Names: cfg.Trust.Names()}
	if signers != "" {
		abs, err := filepath.Abs(signers)
		if err != nil {
			return nil, err
		}
		files.Signers = abs
	}
	keys, err := keyring.Open(files)
	if err != nil {
		return nil, err
	}
	repo, err := gitsource.OpenRepository(dir)
	if err != nil {
		return nil, err
	}
	return &verifier{config, cfg.Trust.Policy, keys, repo, time.Now()}, nil
}

// newsEvery is how often a long judgement says how far it is.
const newsEvery = 5 * time.Second

func (v *verifier) verify(ctx context.Context, s streams, base, head string, approvals bool, output string) error {
	r := verified{Config: v.file, Commits: []verifiedCommit{}}
	var err error
	if r.Head, err = v.repo.Resolve(head); err != nil {
		return fmt.Errorf("%s: %w", head, err)
	}
	switch {
	case base != "":
		if r.Base, err = v.repo.Resolve(base); err != nil {
			return fmt.Errorf("%s: %w", base, err)
		}
	case v.policy.Since != "":
		r.Base = v.policy.Since
	default:
		return fmt.Errorf("the trust section of %s names no commit with since, so a new host would take any head on trust: say where to begin, with drydock verify BASE..%s", v.file, head)
	}
	judge := trust.Judge{Policy: v.policy, Keys: v.keys, History: v.repo.History(), Past: &trust.Past{}, Unmarked: true}
	news := time.Now()
	_, err = judge.Review(ctx, r.Base, r.Head, v.now, func(c trust.Reviewed) {
		r.Commits = append(r.Commits, viewCommit(c))
		if time.Since(news) > newsEvery {
			s.note("%d commits judged, now at %s", len(r.Commits), spec.Short(c.Commit))
			news = time.Now()
		}
	})
	var blocker *trust.Blocker
	if err != nil && !errors.As(err, &blocker) {
		return err
	}
	r.Blocker, r.Good = viewBlocker(blocker), err == nil
	if approvals {
		from := r.Base
		if base == "" {
			from = "" // since is where trust began, and says nothing of what runs
		}
		if r.Approvals, err = v.wants(ctx, r.Base, from, r.Head); err != nil {
			return err
		}
	}
	if output == "json" {
		err = s.json(r)
	} else {
		_, err = fmt.Fprint(s.Out, r.text())
		if r.Blocker != nil {
			s.note("drydock: %s\n  %s", r.Blocker.Text, r.Blocker.Next)
		}
	}
	if err == nil && !r.Good {
		return exitCode(1)
	}
	return err
}

func viewCommit(c trust.Reviewed) verifiedCommit {
	out := verifiedCommit{Hash: c.Commit, Author: c.Author, Time: c.Time.UTC(), Subject: c.Subject, Verdict: string(c.How),
		By: list(c.By), Roles: list(c.Roles), Does: []string{}, Blocker: viewBlocker(c.Blocker)}
	for _, n := range c.Does {
		out.Does = append(out.Does, n.Does)
	}
	if c.Blocker != nil {
		out.Verdict = "blocked"
	}
	return out
}

// text is a row a commit, newest last as hosts judge them.
func (r *verified) text() string {
	var b strings.Builder
	blocked := 0
	if len(r.Commits) > 0 {
		var table strings.Builder
		w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "COMMIT\tVERDICT\tBY\tROLE\tDOES")
		for _, c := range r.Commits {
			verdict := c.Verdict
			if c.Blocker != nil {
				blocked++
				verdict = "BLOCKED: " + c.Blocker.Fault
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", spec.Short(c.Hash), verdict, dash(strings.Join(c.By, ", ")), dash(strings.Join(c.Roles, ", ")), c.does())
		}
		w.Flush()
		for line := range strings.Lines(table.String()) {
			b.WriteString(strings.TrimRight(line, " \n") + "\n")
		}
		b.WriteString("\n")
	}
	b.WriteString(approvalsText(r.Approvals))
	switch {
	case r.Good && len(r.Commits) == 0:
		fmt.Fprintf(&b, "%s is the base itself: nothing is to be verified\n", spec.Short(r.Head))
	case r.Good:
		fmt.Fprintf(&b, "%s..%s: %s verified, all good\n", spec.Short(r.Base), spec.Short(r.Head), plural(len(r.Commits), "commit"))
	case blocked == 0:
		fmt.Fprintf(&b, "%s..%s: no host would go this way\n", spec.Short(r.Base), spec.Short(r.Head))
	default:
		fmt.Fprintf(&b, "%s..%s: %d of %s blocked; hosts at %s stay before %s\n", spec.Short(r.Base), spec.Short(r.Head), blocked, plural(len(r.Commits), "commit"), spec.Short(r.Base), spec.Short(r.Blocker.Commit))
	}
	return b.String()
}

// does is what a commit does, in few words.
func (c verifiedCommit) does() string {
	switch n := len(c.Does); {
	case n == 0 && c.Verdict == string(trust.Merged):
		return "merges, and adds nothing"
	case n == 0:
		return clip(c.Subject)
	case n > 1:
		return fmt.Sprintf("%s; and %d more", clip(c.Does[0]), n-1)
	}
	return clip(c.Does[0])
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
