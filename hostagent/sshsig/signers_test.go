package sshsig_test

import (
	"strings"
	"testing"
	"time"

	"drydock/hostagent/sshsig"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/crypto/ssh"
)

// TestWhoMaySign: attacks on who signed, for what and when, each beside what is
// nearest to it and must be accepted.
func TestWhoMaySign(t *testing.T) {
	alice, bob, ops, robot, twice, gone, stranger := newEd25519(), newEd25519(), newEd25519(), newEd25519(), newEd25519(), newEd25519(), newEd25519()
	list := signers(t,
		`# people`,
		`alice@acme.example namespaces="drydock,git" `+alice.String()+` alice's laptop`,
		``,
		`bob@acme.example,Bob valid-after="20260101Z",valid-before="20261231235959Z" `+bob.String(),
		`*@ops.example,!root@ops.example,carol@acme.example `+ops.String(),
		"  \t"+`ci@acme.example	NameSpaces="git,!git-*,dry?ock"		`+robot.String(),
		`dan@acme.example valid-before="20260101Z" `+twice.String(),
		`dan@acme.example valid-after="20260101Z",namespaces="drydock" `+twice.String(),
		`d*@acme.example,!dan@acme.example namespaces="git" `+twice.String(),
		`erin@acme.example `+gone.String(),
	)
	revoked, err := sshsig.ParseRevoked([]byte("# lost in May\n"+gone.String()+" erin\n"), "revoked")
	if err != nil {
		t.Fatal(err)
	}
	list = list.Without(revoked)
	day := func(s string) time.Time { return must(time.Parse(time.RFC3339, s)) }
	for name, row := range map[string]struct {
		key            key
		claimed, forNS string
		at             time.Time // now
		want           sshsig.Reason
		pattern        string // by which it is accepted, if it is
	}{
		"alice":                       {key: alice, claimed: "alice@acme.example"},
		"alice, for git":              {key: alice, claimed: "alice@acme.example", forNS: "git"},
		"bob by his other name":       {key: bob, claimed: "Bob"},
		"bob's first second":          {key: bob, claimed: "bob@acme.example", at: day("2026-01-01T00:00:00Z")},
		"bob's last second":           {key: bob, claimed: "bob@acme.example", at: day("2026-12-31T23:59:59.9Z")},
		"his time in another zone":    {key: bob, claimed: "bob@acme.example", at: day("2026-01-01T02:00:00+02:00")},
		"someone of ops":              {key: ops, claimed: "zoe@ops.example", pattern: "*@ops.example"},
		"carol, beside a pattern":     {key: ops, claimed: "carol@acme.example"},
		"the robot, for git":          {key: robot, claimed: "ci@acme.example", forNS: "git"},
		"the robot, by a wildcard":    {key: robot, claimed: "ci@acme.example", forNS: "dryXock"},
		"dan, on his second line":     {key: twice, claimed: "dan@acme.example"},
		"dan, on his first line":      {key: twice, claimed: "dan@acme.example", forNS: "other", at: day("2025-06-01T00:00:00Z")},
		"another d by dan's pattern":  {key: twice, claimed: "dora@acme.example", forNS: "git", pattern: "d*@acme.example"},
		"a pattern fits the empty, *": {key: ops, claimed: "@ops.example", pattern: "*@ops.example"},

		"a stranger":                  {key: stranger, claimed: "alice@acme.example", want: sshsig.UnknownKey},
		"another's name":              {key: bob, claimed: "alice@acme.example", want: sshsig.OtherPrincipal},
		"a beginning of a name":       {key: alice, claimed: "alice@acme", want: sshsig.OtherPrincipal},
		"an end of a name":            {key: alice, claimed: "ice@acme.example", want: sshsig.OtherPrincipal},
		"more than a name":            {key: alice, claimed: "alice@acme.example.org", want: sshsig.OtherPrincipal},
		"other case":                  {key: alice, claimed: "Alice@acme.example", want: sshsig.OtherPrincipal},
		"Cyrillic a":                  {key: alice, claimed: "\u0430lice@acme.example", want: sshsig.OtherPrincipal},
		"a zero width space":          {key: alice, claimed: "alice\u200b@acme.example", want: sshsig.OtherPrincipal},
		"a space":                     {key: alice, claimed: "alice@acme.example ", want: sshsig.OtherPrincipal},
		"a NUL":                       {key: alice, claimed: "alice@acme.example\x00", want: sshsig.OtherPrincipal},
		"nobody":                      {key: ops, claimed: "", want: sshsig.OtherPrincipal},
		"the pattern itself":          {key: ops, claimed: "*@ops.example", want: sshsig.OtherPrincipal},
		"two names at once":           {key: bob, claimed: "bob@acme.example,Bob", want: sshsig.OtherPrincipal},
		"an endless name":             {key: ops, claimed: strings.Repeat("z", 400) + "@ops.example", want: sshsig.OtherPrincipal},
		"excluded by !":               {key: ops, claimed: "root@ops.example", want: sshsig.OtherPrincipal},
		"a longer domain":             {key: ops, claimed: "zoe@ops.example.org", want: sshsig.OtherPrincipal},
		"excluded, for git":           {key: twice, claimed: "dan@acme.example", forNS: "git", want: sshsig.OtherPrincipal},
		"a namespace not listed":      {key: alice, claimed: "alice@acme.example", forNS: "file", want: sshsig.NotPermitted},
		"a beginning of a namespace":  {key: alice, claimed: "alice@acme.example", forNS: "dry", want: sshsig.NotPermitted},
		"more than a namespace":       {key: alice, claimed: "alice@acme.example", forNS: "drydock2", want: sshsig.NotPermitted},
		"a namespace in capitals":     {key: alice, claimed: "alice@acme.example", forNS: "GIT", want: sshsig.NotPermitted},
		"a namespace excluded by !":   {key: robot, claimed: "ci@acme.example", forNS: "git-tag", want: sshsig.NotPermitted},
		"a second too early":          {key: bob, claimed: "bob@acme.example", at: day("2025-12-31T23:59:59Z"), want: sshsig.NotYetValid},
		"a second too late":           {key: bob, claimed: "bob@acme.example", at: day("2027-01-01T00:00:00Z"), want: sshsig.Expired},
		"2099":                        {key: bob, claimed: "bob@acme.example", at: day("2099-01-01T00:00:00Z"), want: sshsig.Expired},
		"before 1970":                 {key: bob, claimed: "bob@acme.example", at: day("1950-01-01T00:00:00Z"), want: sshsig.NotYetValid},
		"no time at all":              {key: bob, claimed: "bob@acme.example", at: time.Unix(0, 0), want: sshsig.NotYetValid},
		"neither of dan's lines":      {key: twice, claimed: "dan@acme.example", forNS: "other", want: sshsig.Expired},
		"revoked":                     {key: gone, claimed: "erin@acme.example", want: sshsig.Revoked},
		"revoked, by name of another": {key: gone, claimed: "alice@acme.example", want: sshsig.Revoked},
	} {
		t.Run(name, func(t *testing.T) {
			if row.forNS == "" {
				row.forNS = "drydock"
			}
			if row.at.IsZero() {
				row.at = now
			}
			sig := parsed(t, by(row.key, row.forNS, message))
			got, err := list.Verify(row.claimed, row.forNS, message, sig, row.at)
			wantReason(t, err, row.want)
			if row.want != "" {
				if got.Name != "" {
					t.Errorf("refused, and yet %+v", got)
				}
				return
			}
			name := row.claimed
			if row.pattern != "" {
				name = row.pattern
			}
			if got.Name != name || got.Pattern != (row.pattern != "") || !got.Allows(row.claimed) {
				t.Errorf("accepted as %+v", got)
			}
		})
	}

	t.Run("another message", func(t *testing.T) {
		sig := parsed(t, by(alice, "drydock", message))
		_, err := list.Verify("alice@acme.example", "drydock", append([]byte(" "), message...), sig, now)
		wantReason(t, err, sshsig.Mismatch)
	})
	t.Run("another namespace that is open too", func(t *testing.T) {
		sig := parsed(t, by(alice, "git", message))
		_, err := list.Verify("alice@acme.example", "drydock", message, sig, now)
		wantReason(t, err, sshsig.WrongNamespace)
	})
	t.Run("the namespace's name changed", func(t *testing.T) {
		h := by(alice, "git", message)
		h.Namespace = "drydock"
		_, err := list.Verify("alice@acme.example", "drydock", message, parsed(t, h), now)
		wantReason(t, err, sshsig.Mismatch)
	})
	t.Run("the hash's name changed", func(t *testing.T) {
		h := by(alice, "drydock", message)
		h.Hash = "sha256"
		_, err := list.Verify("alice@acme.example", "drydock", message, parsed(t, h), now)
		wantReason(t, err, sshsig.Mismatch)
	})
	t.Run("another's key in a stranger's signature", func(t *testing.T) {
		h := by(stranger, "drydock", message)
		h.Key = alice.public
		_, err := list.Verify("alice@acme.example", "drydock", message, parsed(t, h), now)
		wantReason(t, err, sshsig.Mismatch)
	})
	t.Run("signed without the frame", func(t *testing.T) {
		h := by(alice, "drydock", message)
		sig := alice.sign(message)
		h.Signature = ssh.Marshal(sig)
		_, err := list.Verify("alice@acme.example", "drydock", message, parsed(t, h), now)
		wantReason(t, err, sshsig.Mismatch)
	})
	t.Run("no namespace", func(t *testing.T) {
		_, err := list.Match(parsed(t, by(alice, "drydock", message)).Key(), "", now)
		wantReason(t, err, sshsig.WrongNamespace)
		wantReason(t, parsed(t, by(alice, "drydock", message)).Verify(message, ""), sshsig.WrongNamespace)
	})
	t.Run("an empty signature", func(t *testing.T) {
		if err := new(sshsig.Signature).Verify(message, ""); err == nil {
			t.Error("verifies")
		}
		_, err := list.Identify("drydock", message, new(sshsig.Signature), now)
		wantReason(t, err, sshsig.UnknownKey)
	})
}

// TestPrincipals: names are told from patterns, each name once, and a line's
// negated patterns count for both.
func TestPrincipals(t *testing.T) {
	k, other := newEd25519(), newEd25519()
	list := signers(t,
		`alice@acme.example,*@acme.example,!root@acme.example `+k.String(),
		`bob@acme.example `+other.String(),
		`alice@acme.example,al?ce `+k.String(),
		`*@acme.example `+k.String(),
		`zoe,!z* `+k.String(),
	)
	sig := parsed(t, by(k, "drydock", message))
	want := []sshsig.Principal{
		{Name: "alice@acme.example", Line: 1},
		{Name: "*@acme.example", Pattern: true, Line: 1},
		{Name: "al?ce", Pattern: true, Line: 3},
		{Name: "*@acme.example", Pattern: true, Line: 4},
	}
	for way, find := range map[string]func() ([]sshsig.Principal, error){
		"Match":          func() ([]sshsig.Principal, error) { return list.Match(sig.Key(), "drydock", now) },
		"FindPrincipals": func() ([]sshsig.Principal, error) { return list.FindPrincipals(sig, now) },
		"Identify":       func() ([]sshsig.Principal, error) { return list.Identify("drydock", message, sig, now) },
	} {
		got, err := find()
		if err != nil {
			t.Fatalf("%s: %v", way, err)
		}
		if d := cmp.Diff(want, got, cmpopts.IgnoreUnexported(sshsig.Principal{})); d != "" {
			t.Errorf("%s: %s", way, d)
		}
	}
	got, _ := list.FindPrincipals(sig, now)
	for _, row := range []struct {
		of      int
		claimed string
		want    bool
	}{
		{0, "alice@acme.example", true}, {0, "bob@acme.example", false},
		{1, "bob@acme.example", true}, {1, "root@acme.example", false}, {1, "*@acme.example", false},
		{3, "root@acme.example", true},
	} {
		if got[row.of].Allows(row.claimed) != row.want {
			t.Errorf("%+v allows %s: %v", got[row.of], row.claimed, !row.want)
		}
	}
	_, err := signers(t, "zoe,!z* "+k.String()).FindPrincipals(sig, now)
	wantReason(t, err, sshsig.OtherPrincipal)
	if _, err := list.Identify("drydock", []byte("other"), sig, now); sshsig.ReasonOf(err) != sshsig.Mismatch {
		t.Errorf("identified by a signature of something else: %v", err)
	}
	if _, err := list.FindPrincipals(parsed(t, by(newEd25519(), "drydock", message)), now); sshsig.ReasonOf(err) != sshsig.UnknownKey {
		t.Error(err)
	}
}

// TestWithoutLeavesTheRest: revoking gives new signers, and the old stand.
func TestWithoutLeavesTheRest(t *testing.T) {
	k, other := newEd25519(), newEd25519()
	list := signers(t, "alice "+k.String(), "alice "+other.String())
	r, err := sshsig.ParseRevoked([]byte(k.String()), "revoked")
	if err != nil {
		t.Fatal(err)
	}
	sig, second := parsed(t, by(k, "drydock", message)), parsed(t, by(other, "drydock", message))
	if _, err := list.Without(r).Verify("alice", "drydock", message, sig, now); sshsig.ReasonOf(err) != sshsig.Revoked || !strings.Contains(err.Error(), "revoked:1") {
		t.Error(err)
	}
	if _, err := list.Without(r).Verify("alice", "drydock", message, second, now); err != nil {
		t.Errorf("her second key: %v", err)
	}
	if _, err := list.Verify("alice", "drydock", message, sig, now); err != nil {
		t.Errorf("the first list: %v", err)
	}
}
