package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"drydock/hostagent/sshsig"
	"drydock/reconcile/trust"
	"github.com/spf13/cobra"
)

// ballot is what a person was asked to sign: approvals, or attestations.
type ballot struct {
	environment string
	services    []string
	names       []string // what is attested; none: approvals
	removed     bool     // what is approved is that the services go
	expires     time.Time
	asked       bool // for just this expiry
	yes         bool
	key         keyFlags
	signature   string // a file with a signature that was made elsewhere
	output      string

	seen  map[string]bool   // statements that a person said yes to
	made  map[string][]byte // statement -> its signature
	found *hand
}

// ballotFlags are those that approve and attest share.
type ballotFlags struct {
	place         placeFlags
	environment   string
	expires       time.Duration
	until         string
	print         bool
	signature     string
	yes           bool
	key           keyFlags
	output        string
	removedBlocks bool
}

// How long a signature counts: 30 days if not said, and no more than a year,
// since nobody remembers for longer what they looked at.
const (
	usualExpiry = 30 * 24 * time.Hour
	mostExpiry  = 366 * 24 * time.Hour
)

func (f *ballotFlags) register(cmd *cobra.Command) {
	f.place.register(cmd)
	cmd.Flags().StringVarP(&f.environment, "env", "e", "", "the environment: a folder of the repository")
	cmd.Flags().DurationVar(&f.expires, "expires", usualExpiry, "for how long the signature counts")
	cmd.Flags().StringVar(&f.until, "until", "", "when it ends to count instead: RFC 3339, or a time from now such as 4h")
	cmd.Flags().BoolVarP(&f.yes, "yes", "y", false, "sign without asking, for scripts")
	cmd.Flags().BoolVar(&f.print, "print", false, "write the statement to standard output, for ssh-keygen to sign it anywhere, and nothing else")
	cmd.Flags().StringVar(&f.signature, "signature", "", "take in a signature that ssh-keygen made: STATEMENT.sig beside its statement, or - for both on standard input")
	f.key.register(cmd)
	offerNames(cmd)
	outputFlag(cmd, &f.output, "text", "json")
}

// ballot checks the flags.
func (f *ballotFlags) ballot(cmd *cobra.Command, now time.Time) (*ballot, error) {
	verb := cmd.Name()
	b := &ballot{environment: f.environment, removed: f.removedBlocks, yes: f.yes, key: f.key, signature: f.signature, output: f.output,
		seen: map[string]bool{}, made: map[string][]byte{}}
	b.asked = f.until != "" || cmd.Flags().Changed("expires")
	b.expires = now.Add(f.expires)
	switch {
	case f.environment == "":
		return nil, wrong(cmd, "%s: say which environment with --env", verb)
	case f.until != "" && cmd.Flags().Changed("expires"):
		return nil, wrong(cmd, "%s: --until and --expires say the same; give one of them", verb)
	case f.print && f.signature != "":
		return nil, wrong(cmd, "%s: --print writes a statement, and --signature takes one in; do one after the other", verb)
	case f.signature != "" && b.asked:
		return nil, wrong(cmd, "%s: a statement that was signed says itself when it expires", verb)
	}
	if f.until != "" {
		t, err := pointInTime(f.until, now)
		if err != nil {
			return nil, wrong(cmd, "%s: --until %s: %v", verb, f.until, err)
		}
		b.expires = t
	}
	if !b.expires.After(now) || b.expires.Sub(now) > mostExpiry {
		return nil, wrong(cmd, "%s: it would count until %s; a signature counts from now on, for at most a year", verb, b.expires.Format(time.RFC3339))
	}
	b.expires = b.expires.UTC().Truncate(time.Second)
	return b, nil
}

// carry does what the flags ask for.
func (f *ballotFlags) carry(cmd *cobra.Command, s streams, b *ballot) error {
	if f.print && len(b.services)*max(1, len(b.names)) != 1 {
		return wrong(cmd, "%s: --print writes one statement; name one", cmd.Name())
	}
	if f.signature != "" && len(b.services)*max(1, len(b.names)) != 1 {
		return wrong(cmd, "%s: --signature takes one statement in; name what it is for", cmd.Name())
	}
	c, err := f.place.open(cmd.Context(), cmd)
	if err != nil {
		return err
	}
	defer c.close()
	if f.print {
		return b.print(cmd.Context(), s, c)
	}
	defer func() {
		if b.found != nil {
			b.found.end()
		}
	}()
	return b.cast(cmd.Context(), s, c)
}

// print writes the one statement as it is to be signed.
func (b *ballot) print(ctx context.Context, s streams, c *clone) error {
	t, err := c.newest(ctx)
	if err != nil {
		return err
	}
	st, err := stand(t)
	if err != nil {
		return err
	}
	defer st.close()
	entries, err := b.entries(ctx, st, nil)
	if err != nil {
		return err
	}
	if len(entries) != 1 {
		return fmt.Errorf("%s has %d removed blocks in %s, and --print writes one statement: approve them with your own key", b.services[0], len(entries), b.environment)
	}
	e := entries[0]
	text, err := e.Text()
	if err != nil {
		return err
	}
	s.note("%s", e.card())
	s.note("sign it:     ssh-keygen -Y sign -n %s -f ~/.ssh/id_ed25519 statement\nhand it in:  drydock %s --env %s --signature statement.sig", trust.Namespace, b.again(), b.environment)
	_, err = s.Out.Write(text)
	return err
}

// again is the command's own beginning.
func (b *ballot) again() string {
	switch {
	case len(b.names) > 0:
		return "attest " + b.services[0] + " " + strings.Join(b.names, " ")
	case b.removed:
		return "approve --removed " + strings.Join(b.services, " ")
	}
	return "approve " + strings.Join(b.services, " ")
}

// newest is the commit that is signed for: the branch's or, with --push, the
// upstream's.
func (c *clone) newest(ctx context.Context) (tree, error) {
	if c.push {
		if !c.own {
			if err := c.fetch(ctx); err != nil {
				return tree{}, err
			}
		}
		head, err := c.run(ctx, "rev-parse", "--verify", c.tracking+"^{commit}")
		return tree{c.git, head}, err
	}
	head, err := c.run(ctx, "rev-parse", "HEAD")
	return tree{c.git, head}, err
}

// cast signs, and commits what was signed.
func (b *ballot) cast(ctx context.Context, s streams, c *clone) error {
	elsewhere, err := b.takeIn()
	if err != nil {
		return err
	}
	var all, did []*entry
	out, err := c.commit(ctx, func(ctx context.Context, t tree) (proposal, error) {
		st, err := stand(t)
		if err != nil {
			return proposal{}, err
		}
		defer st.close()
		if elsewhere == nil && b.found == nil {
			if b.found, err = b.key.find(ctx, s, t.git); err != nil {
				return proposal{}, err
			}
		}
		if all, err = b.entries(ctx, st, elsewhere); err != nil {
			return proposal{}, err
		}
		did = slices.DeleteFunc(slices.Clone(all), func(e *entry) bool { return e.mine != nil && !b.renews(e.mine) })
		if len(did) == 0 {
			return proposal{}, nil
		}
		if err := b.agree(ctx, s, did); err != nil {
			return proposal{}, err
		}
		p := proposal{message: message(did)}
		for _, e := range did {
			if err := b.sign(ctx, s, e); err != nil {
				return proposal{}, err
			}
			p.files = append(p.files, written{e.file, e.data})
		}
		p.sign, err = b.key.forCommit(ctx, s, t.git, b.found)
		return p, err
	})
	if err != nil {
		return err
	}
	return b.report(s, c, all, did, out)
}

// renews reports whether a person asked for just another expiry than their
// signature has, which still counts.
func (b *ballot) renews(mine *vote) bool { return b.asked && !mine.Expires.Equal(b.expires) }

// agree shows what is to be signed, once, and asks.
func (b *ballot) agree(ctx context.Context, s streams, entries []*entry) error {
	var fresh []*entry
	for _, e := range entries {
		if !b.seen[e.id()] {
			fresh = append(fresh, e)
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	for _, e := range fresh {
		s.note("%s", e.card())
	}
	if !b.yes && b.signature == "" {
		question := fmt.Sprintf("Sign the %s?", fresh[0].Statement)
		if len(fresh) > 1 {
			question = fmt.Sprintf("Sign these %d?", len(fresh))
		}
		yes, err := s.confirm(ctx, question)
		if err != nil {
			return err
		}
		if !yes {
			return errDeclined
		}
	}
	for _, e := range fresh {
		b.seen[e.id()] = true
	}
	return nil
}

// sign puts the signature to one statement. After a race that was lost the same
// statement keeps its signature: nobody touches a key twice for it.
func (b *ballot) sign(ctx context.Context, s streams, e *entry) error {
	text, err := e.Text()
	if err != nil {
		return err
	}
	armor := b.made[string(text)]
	if armor == nil {
		sig, err := b.found.sign(ctx, s, e.Statement.String(), trust.Namespace, text)
		if err != nil {
			return err
		}
		armor = sig.Armor()
		b.made[string(text)] = armor
	}
	e.file, e.data, err = trust.WriteApprovalFile(e.Statement, armor)
	return err
}

// handed is a statement that was signed elsewhere.
type handed struct {
	trust.Statement
	key sshsig.Key
}

// takeIn reads and checks what --signature names; nil without it.
func (b *ballot) takeIn() (*handed, error) {
	if b.signature == "" {
		return nil, nil
	}
	const most = 64 << 10
	var data []byte
	var err error
	if b.signature == "-" {
		data, err = io.ReadAll(io.LimitReader(os.Stdin, most))
	} else {
		data, err = readBounded(b.signature, most)
	}
	if err != nil {
		return nil, err
	}
	const begin = "-----BEGIN SSH SIGNATURE-----\n"
	text, armor, ok := strings.Cut(string(data), begin)
	switch {
	case !ok:
		return nil, fmt.Errorf("%s holds no signature of ssh-keygen -Y sign: name the .sig file that it wrote", b.signature)
	case text == "":
		beside, isSig := strings.CutSuffix(b.signature, ".sig")
		if !isSig {
			return nil, fmt.Errorf("%s holds a signature only: name it STATEMENT.sig beside the statement, or put the statement before it", b.signature)
		}
		statement, err := readBounded(beside, most)
		if err != nil {
			return nil, fmt.Errorf("what %s signs: %w", b.signature, err)
		}
		text = string(statement)
	}
	armor = begin + armor
	statement, err := trust.ParseStatement([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", b.signature, err)
	}
	sig, err := sshsig.Parse([]byte(armor))
	if err == nil {
		err = sig.Verify([]byte(text), trust.Namespace)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", b.signature, err)
	}
	if !statement.Expires.After(time.Now()) {
		return nil, fmt.Errorf("%s: the statement expired at %s: print and sign a new one", b.signature, statement.Expires.Format(time.RFC3339))
	}
	b.expires, b.made[text] = statement.Expires, sig.Armor()
	return &handed{statement, sig.Key()}, nil
}

// message is the commit's.
func message(entries []*entry) string {
	who := ""
	if e := entries[0]; e.me != "" {
		who = " (" + oneWord(e.me) + ")"
	}
	var words []string
	for _, e := range entries {
		words = append(words, e.words())
	}
	verb := "approve "
	switch entries[0].Kind {
	case trust.Attestation:
		verb = "attest "
	case trust.Removal:
		verb = "approve removing "
	}
	subject := verb + strings.Join(words, ", ") + who
	if len(words) > 3 {
		subject = fmt.Sprintf("%s%d in %s%s\n\n%s", verb, len(words), entries[0].Environment, who, strings.Join(words, "\n"))
	}
	return subject + "\n"
}
