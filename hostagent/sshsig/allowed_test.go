package sshsig_test

import (
	"bytes"
	"crypto/elliptic"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"drydock/hostagent/sshsig"
	"drydock/testdata/rig"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// opensshTakes says whether the real ssh-keygen counts a signature as alice's
// by this file.
func opensshTakes(t testing.TB, file, sig string) bool {
	t.Helper()
	_, err := run(message, []string{"TZ=UTC"}, rig.SSHKeygen(t), "-Y", "verify", "-O", "verify-time=20261122100000Z",
		"-n", "drydock", "-I", "alice", "-f", write(t, []byte(file)), "-s", sig)
	return err == nil
}

// TestLines: one line each; KEY stands for the signer's key. What we take,
// OpenSSH takes as well; where only it does, the row says so.
func TestLines(t *testing.T) {
	k := newEd25519()
	fields := strings.Fields(k.String())
	typ, encoded := fields[0], fields[1]
	sig := write(t, by(k, "drydock", message).armor())
	const both, openssh, neither = 2, 1, 0
	for _, row := range []struct {
		line  string
		taken int
		says  string
	}{
		{`alice KEY`, both, ""},
		{`alice KEY alice's laptop, "quoted`, both, ""},
		{"\t alice \t KEY", both, ""},
		{`alice KEY # Müller`, both, ""},
		{`*,!bob KEY`, both, ""},
		{`a?ice,bob@acme.example KEY`, both, ""},
		{`al#ice,alice KEY`, both, ""},
		{`alice namespaces="drydock" KEY`, both, ""},
		{`alice NAMESPACES="a b,drydock" KEY`, openssh, "U+0020"},
		{`alice namespaces="git,dry*" KEY`, both, ""},
		{`alice namespaces="*,!git" KEY`, both, ""},
		{`alice valid-after="20261122Z",valid-before="20261123Z" KEY`, both, ""},
		{`alice Valid-After="202611221000Z" KEY`, both, ""},
		{`alice valid-before="20261122100000Z" KEY`, both, ""},
		{`alice valid-before="20991231235959Z",namespaces="drydock" KEY`, both, ""},

		{`alice valid-after="20261122" KEY`, openssh, "with a Z"},
		{`alice valid-after="20261122UTC" KEY`, openssh, "YYYYMMDDZ"},
		{`alice valid-after="20261122z" KEY`, openssh, "YYYYMMDDZ"},
		{`alice valid-after="20260230Z" KEY`, openssh, "no such date"},
		{`alice valid-after="2026 1 1Z" KEY`, openssh, "YYYYMMDDZ"},
		{`alice ,namespaces="drydock" KEY`, openssh, "neither an option"},
		{`alice,,bob KEY`, openssh, "is empty"},
		{`alice, KEY`, openssh, "is empty"},
		{`alice,! KEY`, openssh, "is empty"},
		{`alice,!!bob KEY`, openssh, "two !"},
		{`"alice" KEY`, openssh, "U+0022"},
		{"alice,b\u00f6b KEY", openssh, "U+00F6"},
		{"alice,\u0430lice KEY", openssh, "U+0430"},
		{"alice,al\u200bice KEY", openssh, "U+200B"},
		{"alice,\uff41lice KEY", openssh, "U+FF41"},
		{"alice,bob\u00a0carol KEY", openssh, "U+00A0"},
		{"alice KEY \u202ereversed", openssh, "U+202E"},
		{"alice KEY \x01", openssh, "U+0001"},
		{"alice KEY \xff", openssh, "UTF-8"},
		{"alice KEY\r", openssh, "CR"},
		{"alice KEY comment\r", openssh, "CR"},
		{`alice,` + strings.Repeat("b", 1001) + ` KEY`, openssh, "1000 is the limit"},
		{`alice,` + strings.Repeat("b", 1023) + ` KEY`, neither, "1000 is the limit"},
		{`!bob KEY`, neither, "only excludes"},
		{`alice`, neither, "no key"},
		{`alice namespaces="drydock"`, neither, "no key"},
		{`alice ` + typ, neither, "no key"},
		{`alice ` + typ + ` ` + encoded[:40], neither, "damaged"},
		{`alice ` + typ + ` ` + encoded[:len(encoded)-1], neither, "base64"},
		{`alice ecdsa-sha2-nistp256 ` + encoded, neither, "is of type"},
		{`alice ` + typ + encoded, neither, "ssh-ed25519AAAA"},
		{`alice ssh-ed25519-cert-v01@openssh.com ` + encoded, neither, "is of type"},
		{`KEY`, neither, "neither an option"},
		{`alice bob KEY`, neither, "neither an option"},
		{`alice cert-authority KEY`, neither, "cert-authority"},
		{`alice cert-authority,namespaces="drydock" KEY`, neither, "cert-authority"},
		{`alice no-touch-required KEY`, neither, "neither an option"},
		{`alice verify-required KEY`, neither, "neither an option"},
		{`alice restrict,namespaces="drydock" KEY`, neither, "neither an option"},
		{`alice namespaces="drydock",restrict KEY`, neither, "neither an option"},
		{`alice namespaces=drydock KEY`, neither, "in quotes"},
		{`alice namespaces KEY`, neither, "no value"},
		{`alice namespaces="" KEY`, neither, "is empty"},
		{`alice namespaces="!git" KEY`, neither, "only excludes"},
		{`alice namespaces="drydock KEY`, neither, "not closed"},
		{`alice namespaces="dry\"dock",valid-after="20260101Z" KEY`, neither, "U+0022"},
		{`alice namespaces="drydock",namespaces="git" KEY`, neither, "twice"},
		{`alice valid-after="20260101Z",valid-after="20260102Z" KEY`, neither, "twice"},
		{`alice namespaces="drydock", KEY`, neither, "single commas"},
		{`alice namespaces="drydock",,valid-after="20260101Z" KEY`, openssh, "neither an option"},
		{`alice namespaces="drydock"valid-after="20260101Z" KEY`, neither, "single commas"},
		{`alice namespaces="drydock" valid-after="20260101Z" KEY`, neither, "not the type of a key"},
		{`alice valid-after=20260101Z KEY`, neither, "in quotes"},
		{`alice valid-after="" KEY`, neither, "YYYYMMDDZ"},
		{`alice valid-after="2026-01-01Z" KEY`, neither, "YYYYMMDDZ"},
		{`alice valid-after="20261301Z" KEY`, neither, "no such date"},
		{`alice valid-after="19700101Z" KEY`, neither, "since 1970"},
		{`alice valid-after="202601010000.5Z" KEY`, neither, "YYYYMMDDZ"},
		{`alice valid-after="20260101Z",valid-before="20260101Z" KEY`, neither, "not later"},
		{`alice valid-after="20260102Z",valid-before="20260101Z" KEY`, neither, "not later"},
	} {
		line := strings.ReplaceAll(row.line, "KEY", k.String()) + "\n"
		if got := opensshTakes(t, line, sig); got != (row.taken >= openssh) {
			t.Errorf("%q: OpenSSH takes it: %v", row.line, got)
		}
		_, err := sshsig.ParseAllowedSigners([]byte("\n"+line), "etc/signers")
		switch {
		case (err == nil) != (row.taken == both):
			t.Errorf("%q: %v", row.line, err)
		case err != nil && (!strings.HasPrefix(err.Error(), "etc/signers:2: ") || !strings.Contains(err.Error(), row.says) || !strings.Contains(err.Error(), ";")):
			t.Errorf("%q: says %v, and not %q", row.line, err, row.says)
		}
	}
}

func TestKeysThatAreNotListed(t *testing.T) {
	ed := newEd25519()
	for name, row := range map[string]struct{ key, says string }{
		"RSA 1024":    {newRSA(1024, "").String(), "1024 bits"},
		"certificate": {"ssh-ed25519-cert-v01@openssh.com " + base64Of(certificate(ed)), "certificate"},
		"DSA":         {"ssh-dss " + base64Of(blobOf("ssh-dss")), "not accepted"},
		"ML-DSA":      {"ssh-mldsa-44 " + base64Of(blobOf("ssh-mldsa-44")), "not accepted"},
		"weak":        {"ssh-ed25519 " + base64Of(small(1)), "nobody made"},
	} {
		_, err := sshsig.ParseAllowedSigners([]byte("alice "+row.key), "signers")
		if err == nil || !strings.Contains(err.Error(), row.says) || !strings.HasPrefix(err.Error(), "signers:1: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestOneBadLineRefusesTheFile: OpenSSH goes on behind it.
func TestOneBadLineRefusesTheFile(t *testing.T) {
	k := newEd25519()
	file := "bob verify-required " + newEd25519().String() + "\nalice " + k.String() + "\n"
	if !opensshTakes(t, file, write(t, by(k, "drydock", message).armor())) {
		t.Error("OpenSSH does not")
	}
	if _, err := sshsig.ParseAllowedSigners([]byte(file), "signers"); err == nil {
		t.Error("taken")
	}
}

func TestFileLimits(t *testing.T) {
	line := "alice " + newEd25519().String() + "\n"
	for name, row := range map[string]struct{ file, says string }{
		"as many lines as may be": {strings.Repeat(line, 2) + strings.Repeat("#\n", 9_998), ""},
		"one more":                {strings.Repeat(line, 2) + strings.Repeat("\n", 9_999), "signers:10001: "},
		"as large as may be":      {line + strings.Repeat("#"+strings.Repeat("x", 1022)+"\n", 1023), ""},
		"larger":                  {strings.Repeat("#"+strings.Repeat("x", 1023)+"\n", 1024), "1048576 is the limit"},
		"a long line":             {"# short\n#" + strings.Repeat("x", 16<<10), "signers:2: "},
		"empty":                   {"", ""},
		"without an end":          {strings.TrimSpace(line), ""},
		"BOM":                     {"\ufeff" + line, "U+FEFF"},
		"CRLF":                    {"# people\r\n" + line, "signers:1: "},
	} {
		_, err := sshsig.ParseAllowedSigners([]byte(row.file), "signers")
		if (err == nil) != (row.says == "") || err != nil && !strings.Contains(err.Error(), row.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEntries(t *testing.T) {
	k := must(sshsig.ParseKey(newEd25519().String()))
	got := signers(t, "# a", `a,!b*  Valid-Before="20270101Z",namespaces="git,!x?",valid-after="202601020304Z" `+k.String()+"  a  comment ").Entries()
	want := []sshsig.Entry{{
		Line:       2,
		Principals: sshsig.Patterns{{Text: "a"}, {Text: "b*", Negated: true}},
		Namespaces: sshsig.Patterns{{Text: "git"}, {Text: "x?", Negated: true}},
		After:      time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC),
		Before:     time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC),
		Key:        k,
		Comment:    "a  comment",
	}}
	if d := cmp.Diff(want, got, cmp.Comparer(func(a, b sshsig.Key) bool { return a == b })); d != "" {
		t.Error(d)
	}
	if s := got[0].String(); s != `a,!b* namespaces="git,!x?",valid-after="20260102030400Z",valid-before="20270101000000Z" `+k.String()+` a  comment` {
		t.Errorf("written as %s", s)
	}
}

func TestRevoked(t *testing.T) {
	k, typo := newEd25519(), newEd25519().String()
	krl := filepath.Join(t.TempDir(), "krl")
	path := rig.SSHKey(t, "", "-t", "ed25519")
	if out, err := exec.Command(rig.SSHKeygen(t), "-k", "-f", krl, path+".pub").CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	binary, err := os.ReadFile(krl)
	if err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct{ file, says string }{
		"keys":              {"# lost\n\n" + k.String() + "\n \t" + newECDSA(elliptic.P256()).String() + " old laptop\n", ""},
		"empty":             {"", ""},
		"one that is weak":  {newRSA(1024, "").String(), ""},
		"DSA":               {"ssh-dss " + base64Of(blobOf("ssh-dss")), ""},
		"KRL":               {string(binary), "binary KRL"},
		"KRL specification": {"serial: 5", "not a key's type"},
		"fingerprint":       {"SHA256:abc", "not a key's type"},
		"with principals":   {"alice " + k.String(), "not a key's type"},
		"damaged":           {typo[:len(typo)-4] + "AA", "base64"},
		"no key":            {"ssh-ed25519", "no key stands"},
		"a certificate":     {"ssh-ed25519-cert-v01@openssh.com " + base64Of(certificate(k)), "certificate"},
		"encoded otherwise": {"ssh-ed25519 " + base64Of(append(bytes.Clone(k.public), 0)), "not encoded"},
	} {
		r, err := sshsig.ParseRevoked([]byte(row.file), "revoked")
		if (err == nil) != (row.says == "") || err != nil && !strings.Contains(err.Error(), row.says) || (r == nil) != (err != nil) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// lists draws what a principals field may be; the alphabet is small, so that
// patterns fit often.
func lists(names []string) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		one := rapid.OneOf(rapid.SampledFrom(names), rapid.StringMatching(`[ab@*?]{1,5}`))
		all := []string{one.Draw(t, "first")}
		for range rapid.IntRange(0, 3).Draw(t, "more") {
			p := one.Draw(t, "pattern")
			if rapid.IntRange(0, 3).Draw(t, "negated") == 0 {
				p = "!" + p
			}
			all = append(all, p)
		}
		return strings.Join(rapid.Permutation(all).Draw(t, "list"), ",")
	})
}

// TestSameVerdictAsOpenSSH: for random files, names, namespaces and times, we
// say what the real ssh-keygen says.
func TestSameVerdictAsOpenSSH(t *testing.T) {
	keygen, dir := rig.SSHKeygen(t), t.TempDir()
	keys := []key{newEd25519(), newEd25519(), newECDSA(elliptic.P256())}
	sigs := map[string]*sshsig.Signature{}
	path := func(parts ...any) string {
		return filepath.Join(dir, strings.ReplaceAll(fmt.Sprint(parts...), "@", "_"))
	}
	for i, k := range keys {
		for _, ns := range []string{"git", "a@b"} {
			sig := by(k, ns, message)
			sigs[path(i, ns)] = parsed(t, sig)
			if err := os.WriteFile(path(i, ns), sig.armor(), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	names := []string{"a@b", "b@a", "ab@b", "a", "b"}
	moments := []string{"20260101Z", "202601010000Z", "20260101000001Z", "20260615Z", "20261231235959Z"}
	line := rapid.Custom(func(t *rapid.T) string {
		var options []string
		if rapid.IntRange(0, 3).Draw(t, "has namespaces") == 0 {
			options = append(options, `namespaces="`+lists([]string{"git", "a@b", "*"}).Draw(t, "namespaces")+`"`)
		}
		if i := rapid.IntRange(0, 19).Draw(t, "after"); i < len(moments) {
			options = append(options, `valid-after="`+moments[i]+`"`)
		}
		if i := rapid.IntRange(0, 19).Draw(t, "before"); i < len(moments) {
			options = append(options, `Valid-Before="`+moments[i]+`"`)
		}
		fields := []string{lists(names).Draw(t, "principals")}
		if options != nil {
			fields = append(fields, strings.Join(rapid.Permutation(options).Draw(t, "options"), ","))
		}
		return strings.Join(append(fields, rapid.SampledFrom(keys).Draw(t, "key").String()), rapid.SampledFrom([]string{" ", "\t", "  "}).Draw(t, "space"))
	})
	accepted, refused := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		file := strings.Join(rapid.SliceOfN(line, 2, 8).Draw(t, "lines"), "\n") + "\n"
		ours, err := sshsig.ParseAllowedSigners([]byte(file), "signers")
		if err != nil {
			t.Skip("a line is never valid: ", err)
		}
		allowed := path("allowed")
		if err := os.WriteFile(allowed, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			ns := rapid.SampledFrom([]string{"git", "a@b"}).Draw(t, "namespace")
			name := rapid.OneOf(rapid.SampledFrom(names), rapid.StringMatching(`[ab@]{1,5}`)).Draw(t, "name")
			at := rapid.SampledFrom(moments).Draw(t, "at")
			sig := path(rapid.IntRange(0, len(keys)-1).Draw(t, "signer"), ns)
			_, theirs := run(message, nil, keygen, "-Y", "verify", "-O", "verify-time="+at, "-n", ns, "-I", name, "-f", allowed, "-s", sig)
			_, err := ours.Verify(name, ns, message, sigs[sig], timeOf(at))
			if (err == nil) != (theirs == nil) {
				t.Fatalf("%s as %s for %s at %s in\n%sours: %v\nssh-keygen's: %v", sig, name, ns, at, file, err, theirs)
			}
			if err == nil {
				accepted++
			} else {
				refused++
			}
		}
		sameFound(t, keygen, allowed, ours, path(0, "git"), sigs[path(0, "git")])
		sameNames(t, keygen, allowed, ours, names)
	})
	t.Logf("%d accepted, %d refused", accepted, refused)
	if accepted < 20 || refused < 20 {
		t.Errorf("%d accepted, %d refused: the test has become one-sided", accepted, refused)
	}
}

// sameFound compares find-principals, which knows no namespaces and shows the
// first line's list as it stands.
func sameFound(t *rapid.T, keygen, allowed string, ours *sshsig.Signers, path string, sig *sshsig.Signature) {
	for _, e := range ours.Entries() {
		if e.Namespaces != nil {
			return
		}
	}
	out, theirs := run(nil, nil, keygen, "-Y", "find-principals", "-O", "verify-time=20260615Z", "-f", allowed, "-s", path)
	who, err := ours.FindPrincipals(sig, timeOf("20260615Z"))
	if sshsig.ReasonOf(err) == sshsig.OtherPrincipal {
		return // a list that excludes all it names, which we say
	}
	if (err == nil) != (theirs == nil) {
		t.Fatalf("ours: %v\nssh-keygen's: %v", err, theirs)
	}
	if err != nil {
		return
	}
	for _, e := range ours.Entries() {
		if e.Principals.String() == strings.ReplaceAll(strings.TrimSpace(out), "\n", ",") && e.Key == sig.Key() {
			return
		}
	}
	t.Fatalf("ours: %+v\nssh-keygen's: %q", who, out)
}

// sameNames compares the patterns of all lines with each name.
func sameNames(t *rapid.T, keygen, allowed string, ours *sshsig.Signers, names []string) {
	name := rapid.SampledFrom(names).Draw(t, "match")
	out, _ := run(nil, nil, keygen, "-Y", "match-principals", "-I", name, "-f", allowed)
	var want string
	for _, e := range ours.Entries() {
		if e.Principals.Match(name) {
			want += e.Principals.String() + "\n"
		}
	}
	if out != want {
		t.Fatalf("%s matches\n%sours:\n%s", name, out, want)
	}
}

func timeOf(s string) time.Time {
	digits := strings.TrimSuffix(s, "Z")
	return must(time.Parse("20060102150405"[:len(digits)], digits))
}

// TestPatternsTakeNoTime: a list that makes a backtracking matcher, such as
// OpenSSH's up to 10.2, run for ever.
func TestPatternsTakeNoTime(t *testing.T) {
	list := sshsig.Patterns{{Text: strings.Repeat("*a", 200) + "b"}}
	if list.Match(strings.Repeat("a", 300)) || !list.Match(strings.Repeat("a", 300)+"b") {
		t.Error("matched wrongly")
	}
}
