package trust

import (
	"bytes"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	treeLine   = "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n"
	parentLine = "parent 1234567890123456789012345678901234567890\n"
	parentTwo  = "parent 2234567890123456789012345678901234567890\n"
	authorLine = "author Ada L. <ada@acme.example> 1763805600 +0100\n"
	commitLine = "committer Bob <bob@acme.example> 1763805601 -0330\n"
	sigHeader  = "gpgsig -----BEGIN SSH SIGNATURE-----\n U1NIU0lH\n -----END SSH SIGNATURE-----\n"
	pgpHeader  = "gpgsig -----BEGIN PGP SIGNATURE-----\n \n iQ\n -----END PGP SIGNATURE-----\n"
)

func TestParseCommit(t *testing.T) {
	head := treeLine + parentLine + authorLine + commitLine
	tests := []struct {
		name, raw string
		wrong     string // a part of the error; "": accepted
	}{
		{"plain", head + "\nsubject\n", ""},
		{"the first", treeLine + authorLine + commitLine + "\nsubject\n", ""},
		{"a merge", treeLine + parentLine + parentTwo + authorLine + commitLine + "\nx", ""},
		{"no message", head + "\n", ""},
		{"no line end behind the message", head + "\nx", ""},
		{"signed", head + sigHeader + "\nx\n", ""},
		{"signed with PGP", head + pgpHeader + "\nx\n", ""},
		{"the signature before the encoding, as JGit has it", head + sigHeader + "encoding ISO-8859-1\n\nx\n", ""},
		{"an encoding", strings.Replace(head, "Ada", "\xc4da", 1) + "encoding ISO-8859-1\n\nx\n", ""},
		{"a tag merged", head + "mergetag object 1\n type commit\n gpgsig x\n\nx\n", ""},
		{"two tags merged", head + "mergetag a\n b\nmergetag c\n\nx\n", ""},
		{"Mercurial's leftovers", head + "HG:extra a\nHG:extra b\nHG:rename-source hg\n\nx\n", ""},
		{"another tool's header", head + "change-id qpvuntsm\n\nx\n", ""},
		{"an empty name", strings.Replace(head, "author Ada L. <", "author  <", 1) + "\nx\n", ""},
		{"a name beyond ASCII", strings.Replace(head, "Ada", "Åda\u200c", 1) + "\nx\n", ""},
		{"a message with a header in it", head + "\nx\n\ntree 0\nauthor\n", ""},
		{"a message with a CR", head + "\nx\r\n", ""},

		{"nothing", "", "no empty line"},
		{"no tree", parentLine + authorLine + commitLine + "\n", "parent stands where tree must"},
		{"two trees", treeLine + treeLine + authorLine + commitLine + "\n", "tree stands where author must, or twice"},
		{"a tree behind", head + treeLine + "\n", "tree stands twice"},
		{"a short tree", "tree 4b825dc\n" + authorLine + commitLine + "\n", "is no hash"},
		{"a tree in capitals", strings.ToUpper(treeLine[:20]) + treeLine[20:] + authorLine + commitLine + "\n", "must"},
		{"a tree in capital digits", "tree " + strings.ToUpper(treeLine[5:]) + authorLine + commitLine + "\n", "is no hash"},
		{"a parent behind", treeLine + authorLine + parentLine + commitLine + "\n", "parent stands where committer must"},
		{"a parent behind all", head + parentTwo + "\n", "parent stands twice"},
		{"the same parent twice", treeLine + parentLine + parentLine + authorLine + commitLine + "\n", "twice"},
		{"a short parent", treeLine + "parent 12\n" + authorLine + commitLine + "\n", "is no hash"},
		{"a second line behind a parent", treeLine + parentLine + " x\n" + authorLine + commitLine + "\n", "second line"},
		{"no author", treeLine + commitLine + "\n", "committer stands where author must"},
		{"two authors", treeLine + authorLine + authorLine + commitLine + "\n", "author stands where committer must"},
		{"an author behind", head + authorLine + "\n", "author stands twice"},
		{"no committer", treeLine + authorLine + "\n", "must"},
		{"two committers", head + commitLine + "\n", "committer stands twice"},
		{"two encodings", head + "encoding A\nencoding B\n\n", "encoding stands twice"},
		{"an encoding that is none", head + "encoding a b\n\n", "is none"},
		{"two signatures", head + sigHeader + pgpHeader + "\n", "gpgsig stands twice"},
		{"two in one", head + sigHeader[:len(sigHeader)-1] + "\n" + strings.Replace(sigHeader, "gpgsig", "", 1) + "\n", "two signatures"},
		{"a signature for SHA-256", head + strings.Replace(sigHeader, "gpgsig", "gpgsig-sha256", 1) + "\n", "another hash"},
		{"both", head + sigHeader + strings.Replace(sigHeader, "gpgsig", "gpgsig-sha256", 1) + "\n", "another hash"},
		{"a signature nobody makes", head + "gpgsigx y\n\n", "another hash"},
		{"an empty signature", head + "gpgsig \n\n", "no signature of a kind"},
		{"text before the signature", head + "gpgsig x\n -----BEGIN SSH SIGNATURE-----\n\n", "no signature of a kind"},
		{"a signature before the committer", treeLine + authorLine + sigHeader + commitLine + "\n", "gpgsig stands where committer must"},
		{"a header in other letters", head + "Parent " + parentTwo[7:] + "\n", "looks like another"},
		{"a header without a value", head + "x\n\n", "has no value"},
		{"a header of signs", head + "a/b c\n\n", "is no header"},
		{"a line that goes on from nothing", head + "\x00\n\n", "NUL"},
		{"a space before a header", head + " x\n\n", "second line"},
		{"another tool's header twice", head + "change-id a\nchange-id b\n\n", "twice"},
		{"a NUL in the message", head + "\nx\x00y", "NUL"},
		{"a CR in a name", strings.Replace(head, "Ada", "Ada\r", 1) + "\n", "control character"},
		{"an escape in a name", strings.Replace(head, "Ada", "A\x1b[0m", 1) + "\n", "control character"},
		{"a C1 control in an email", strings.Replace(head, "ada@", "\u0085@", 1) + "\n", "control character"},
		{"a CR at a line's end", strings.Replace(head, "+0100\n", "+0100\r\n", 1) + "\n", "control character"},
		{"a name turned around", strings.Replace(head, "Ada", "\u202eadA", 1) + "\n", "hides or turns"},
		{"a name that is not UTF-8", strings.Replace(head, "Ada", "\xc4da", 1) + "\n", "not UTF-8"},
		{"no email", strings.Replace(head, "<ada@acme.example>", "", 1) + "\n", "is not written"},
		{"two emails", strings.Replace(head, "<ada@acme.example>", "<a> <b>", 1) + "\n", "bracket"},
		{"a bracket in the email", strings.Replace(head, "<ada", "<<ada", 1) + "\n", "is not written"},
		{"a bracket before it", strings.Replace(head, "Ada", "A>da", 1) + "\n", "bracket"},
		{"no space before the email", strings.Replace(head, "L. <", "L.<", 1) + "\n", "is not written"},
		{"no space before the date", strings.Replace(head, "> 1763805600", ">1763805600", 1) + "\n", "no date"},
		{"no date", strings.Replace(head, " 1763805600 +0100", "", 1) + "\n", "no date"},
		{"a date before time", strings.Replace(head, "1763805600", "-1", 1) + "\n", "no date"},
		{"a date with a zero before", strings.Replace(head, "1763805600", "01763805600", 1) + "\n", "no date"},
		{"a date beyond all", strings.Replace(head, "1763805600", "99999999999999999999", 1) + "\n", "no date"},
		{"a date in words", strings.Replace(head, "1763805600", "today", 1) + "\n", "no date"},
		{"a date twice", strings.Replace(head, "+0100", "+0100 1 +0100", 1) + "\n", "no date"},
		{"a zone without a sign", strings.Replace(head, "+0100", "0100", 1) + "\n", "no date"},
		{"a short zone", strings.Replace(head, "+0100", "+01", 1) + "\n", "no date"},
		{"too large", head + "\n" + strings.Repeat("x", maxCommit), "limit"},
		{"too many parents", treeLine + manyParents(maxParents+1) + authorLine + commitLine + "\n", "parents"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := ParseCommit([]byte(tt.raw))
			switch {
			case tt.wrong == "" && err != nil:
				t.Fatal(err)
			case tt.wrong != "" && err == nil:
				t.Fatalf("accepted: %+v", c)
			case tt.wrong != "" && !strings.Contains(err.Error(), tt.wrong):
				t.Fatalf("want %q: %v", tt.wrong, err)
			case err == nil:
				lawOfCommits(t, []byte(tt.raw), c)
			}
		})
	}
}

func manyParents(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "parent %040d\n", i)
	}
	return b.String()
}

// lawOfCommits: payload and signature put together again are the commit, and
// nothing of the signature is in the payload.
func lawOfCommits(t *testing.T, raw []byte, c Commit) {
	t.Helper()
	again := c.Payload
	if c.Signature != nil {
		header := append([]byte("gpgsig "), bytes.ReplaceAll(c.Signature[:len(c.Signature)-1], []byte("\n"), []byte("\n "))...)
		again = slices.Concat(c.Payload[:c.at], append(header, '\n'), c.Payload[c.at:])
		head, _, _ := bytes.Cut(c.Payload, []byte("\n\n"))
		if bytes.Contains(head, []byte("\ngpgsig")) {
			t.Fatalf("a signature is part of what was signed: %q", c.Payload)
		}
	}
	if !bytes.Equal(raw, again) {
		t.Fatalf("put together again:\n%q\nis not\n%q", again, raw)
	}
	if !bytes.HasSuffix(raw, []byte(c.Message)) || !isHash(c.Tree) {
		t.Fatalf("%+v", c)
	}
	if got, err := Parents(raw); err != nil || !slices.Equal(got, c.Parents) {
		t.Fatalf("parents %v, or %v (%v)", c.Parents, got, err)
	}
	if s := c.Author.String() + c.Subject(); strings.ContainsFunc(s, hides) {
		t.Fatalf("%q", s)
	}
}

func FuzzParseCommit(f *testing.F) {
	for _, s := range []string{
		treeLine + parentLine + authorLine + commitLine + sigHeader + "\nx\n",
		treeLine + parentLine + parentTwo + authorLine + commitLine + "mergetag a\n b\n" + pgpHeader + "encoding latin1\n\nx\n\nDrydock-Vouch: 1\n",
		treeLine + authorLine + commitLine + "HG:extra x\n\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := ParseCommit(bytes.Clone(raw))
		if err != nil {
			return
		}
		lawOfCommits(t, raw, c)
		if c.Signature != nil { // what was signed is a commit of its own that says the same
			p, err := ParseCommit(c.Payload)
			if err != nil || p.Signature != nil || p.Tree != c.Tree || !slices.Equal(p.Parents, c.Parents) || p.Author != c.Author || p.Message != c.Message {
				t.Fatalf("the payload says something else: %v", err)
			}
		}
	})
}

func TestCommitSays(t *testing.T) {
	raw := treeLine + parentLine + authorLine + commitLine + sigHeader + "\nweb 1 -> 2 (prod)\n\nwhy\n\nDrydock-Release: prod/web 1 2 -\nDrydock-Change: web a\nDrydock-Change: web b\n"
	c, err := ParseCommit([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	want := Commit{
		Tree: treeLine[5:45], Parents: []string{parentLine[7:47]},
		Author:    Ident{"Ada L.", "ada@acme.example", time.Unix(1763805600, 0)},
		Committer: Ident{"Bob", "bob@acme.example", time.Unix(1763805601, 0)},
		Message:   raw[strings.Index(raw, "web 1"):],
		Payload:   []byte(strings.Replace(raw, sigHeader, "", 1)),
		Signature: []byte("-----BEGIN SSH SIGNATURE-----\nU1NIU0lH\n-----END SSH SIGNATURE-----\n"),
		at:        strings.Index(raw, "gpgsig"),
	}
	if diff := cmp.Diff(want, c, cmp.AllowUnexported(Commit{}), cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) })); diff != "" {
		t.Error(diff)
	}
	if c.Subject() != "web 1 -> 2 (prod)" || c.Author.String() != "Ada L. <ada@acme.example>" || c.Author.Time.Format(time.RFC3339) != "2025-11-22T11:00:00+01:00" || c.Committer.Time.Format("-0700") != "-0330" {
		t.Errorf("%q %s %s %s", c.Subject(), c.Author, c.Author.Time, c.Committer.Time)
	}
	if diff := cmp.Diff([]string{"web a", "web b"}, c.Trailers("Drydock-Change")); diff != "" {
		t.Error(diff)
	}
	if got := c.Trailers("Drydock"); got != nil {
		t.Errorf("%q", got)
	}
}

// What git signs and what is read as signed are the same bytes.
func TestPayloadIsGits(t *testing.T) {
	keygen, err := exec.LookPath("ssh-keygen")
	if err != nil {
		t.Skip("needs ssh-keygen: apt-get install openssh-client")
	}
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("needs git: apt-get install git")
	}
	dir := t.TempDir()
	run := func(stdin string, name string, args ...string) []byte {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir, cmd.Stdin = dir, strings.NewReader(stdin)
		cmd.Env = append(cmd.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "HOME="+dir)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
		return out
	}
	git := func(args ...string) []byte {
		return run("", "git", append([]string{"-c", "user.name=Ada", "-c", "user.email=ada@acme", "-c", "gpg.format=ssh", "-c", "user.signingKey=" + dir + "/key", "-c", "commit.gpgsign=true"}, args...)...)
	}
	run("", keygen, "-q", "-t", "ed25519", "-N", "", "-f", dir+"/key")
	git("init", "-q", "-b", "main")
	git("commit", "-q", "--allow-empty", "-m", "one")
	git("checkout", "-q", "-b", "side")
	git("commit", "-q", "--allow-empty", "-m", "two")
	git("tag", "-s", "-m", "v", "v1")
	git("checkout", "-q", "main")
	git("commit", "-q", "--allow-empty", "-m", "three")
	git("merge", "-q", "--no-ff", "-m", "merge\n\nDrydock-Vouch: x", "v1")
	git("-c", "i18n.commitEncoding=ISO-8859-1", "commit", "-q", "--allow-empty", "-m", "four")
	for _, rev := range strings.Fields(string(git("rev-list", "--all"))) {
		raw := git("cat-file", "commit", rev)
		c, err := ParseCommit(raw)
		if err != nil {
			t.Fatalf("%v\n%s", err, raw)
		}
		lawOfCommits(t, raw, c)
		sig := dir + "/" + rev + ".sig"
		run(string(c.Signature), "tee", sig)
		run(string(c.Payload), keygen, "-Y", "check-novalidate", "-n", "git", "-s", sig)
	}
}
