package trust

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"drydock/spec"
)

const (
	digestA = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
	digestB = "sha256:60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752"
	specA   = "fd61a03af4f77d870fc21e05e7e80678095c92d808cfb3b5c279ee04c74aca13"
	specB   = "a4e624d686e03ed2767c0abd85c14426b0b1157d2ce81d27bb4fe4f6f01d688a"
	armour  = "-----BEGIN SSH SIGNATURE-----\nU1NIU0lHAAAAAQ==\n-----END SSH SIGNATURE-----\n"
)

var month = noon.Add(30 * 24 * time.Hour)

var web = Subject{Environment: "prod", Service: "web", Version: "1.4.2", Digest: digestA, Spec: specA}

func approves(change ...func(*Statement)) Statement {
	s := Statement{Kind: Approval, Subject: web, Expires: month}
	for _, c := range change {
		c(&s)
	}
	return s
}

func removal() Statement {
	return Statement{Kind: Removal, Subject: Subject{Environment: "prod", Service: "web", Spec: specA}, Expires: month}
}

func attests(name string) Statement {
	return approves(func(s *Statement) { s.Kind, s.Name = Attestation, name })
}

func agent() Statement {
	return approves(func(s *Statement) { s.Kind, s.Service = AgentRelease, AgentName })
}

func TestStatementText(t *testing.T) {
	head := "environment: prod\nservice: web\n"
	tail := "version: 1.4.2\ndigest: " + digestA + "\nspec: " + specA + "\nexpires: 2026-12-22T12:00:00Z\n"
	platforms := "linux/amd64=" + digestB + " linux/arm64=" + digestA
	tests := []struct {
		s            Statement
		text, folder string
		says         string
	}{
		{approves(), "drydock approval 1\n" + head + tail, "approvals/prod/web/1.4.2-9f86d081884c", "approval of web 1.4.2 in prod"},
		{attests("orders-index-built"), "drydock attestation 1\n" + head + "attests: orders-index-built\n" + tail,
			"approvals/prod/web/1.4.2-9f86d081884c", "attestation of orders-index-built for web 1.4.2 in prod"},
		{agent(), "drydock hostagent 1\nenvironment: prod\nservice: hostagent\n" + tail,
			"approvals/prod/hostagent/1.4.2-9f86d081884c", "approval of the agent's release 1.4.2 in prod"},
		{removal(), "drydock removed 1\n" + head + "spec: " + specA + "\nexpires: 2026-12-22T12:00:00Z\n",
			"approvals/prod/web/removed-fd61a03af4f7", "approval to remove web in prod"},
		{approves(func(s *Statement) { s.Digest = platforms }),
			"drydock approval 1\n" + head + strings.Replace(tail, digestA, platforms, 1), "approvals/prod/web/1.4.2-60303ae22b99", "approval of web 1.4.2 in prod"},
		{approves(func(s *Statement) { s.Digest = "-" }), "drydock approval 1\n" + head + strings.Replace(tail, digestA, "-", 1),
			"approvals/prod/web/1.4.2", "approval of web 1.4.2 in prod"},
	}
	for _, tt := range tests {
		text, err := tt.s.Text()
		if err != nil || string(text) != tt.text || tt.s.Folder() != tt.folder || tt.s.String() != tt.says {
			t.Errorf("%v\n%s\n%s\n%s", err, text, tt.s.Folder(), tt.s)
		}
		back, err := ParseStatement(text)
		if diff := cmp.Diff(tt.s, back); diff != "" || err != nil {
			t.Errorf("%v %s", err, diff)
		}
		// Wherever it belongs, every role may add it.
		path, _, err := WriteApprovalFile(tt.s, []byte(armour))
		if err != nil || !approvalPath().MatchString(path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestDigestOf(t *testing.T) {
	for want, c := range map[string]spec.Change{
		"-":     {Version: "1"},
		digestA: {Digest: digestA},
		"linux/amd64=" + digestA + " linux/arm64=" + digestB: {Digests: map[string]string{"linux/arm64": digestB, "linux/amd64": digestA}},
	} {
		if got := DigestOf(c); got != want || checkDigest(got) != nil {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// Each row changes one thing of a good text.
func TestParseStatementRefuses(t *testing.T) {
	good, _ := approves().Text()
	attested, _ := attests("ok").Text()
	removed, _ := removal().Text()
	several, _ := approves(func(s *Statement) { s.Digest = "linux/amd64=" + digestB + " linux/arm64=" + digestA }).Text()
	in := func(text []byte, old, new string) string {
		t.Helper()
		if !strings.Contains(string(text), old) {
			t.Fatalf("no %q in it", old)
		}
		return strings.Replace(string(text), old, new, 1)
	}
	tests := []struct{ name, text, wrong string }{
		{"nothing", "", "no statement's"},
		{"cut short", string(good[:len(good)-1]), "where \"expires: …\""},
		{"one line short", in(good, "version: 1.4.2\n", ""), "where \"version: …\""},
		{"a line more", string(good) + "reason: fine\n", "goes on"},
		{"an empty line more", string(good) + "\n", "goes on"},
		{"an empty line before", "\n" + string(good), "no statement's"},
		{"a byte order mark", "\ufeff" + string(good), "only ASCII"},
		{"two statements", string(good) + string(good), "goes on"},
		{"a line twice", in(good, "service: web\n", "service: web\nservice: api\n"), "where \"version: …\""},
		{"lines in another order", in(good, "environment: prod\nservice: web\n", "service: web\nenvironment: prod\n"), "where \"environment: …\""},
		{"CR LF", strings.ReplaceAll(string(good), "\n", "\r\n"), "only ASCII"},
		{"a tab", in(good, "service: web", "service:\tweb"), "only ASCII"},
		{"two spaces", in(good, "service: web", "service:  web"), "service"},
		{"a space after", in(good, "service: web", "service: web "), "service"},
		{"a NUL", in(good, "web", "web\x00"), "only ASCII"},
		{"DEL", in(good, "web", "we\x7fb"), "only ASCII"},
		{"a look-alike", in(good, "service: web", "service: wеb"), "only ASCII"},
		{"another way round", in(good, "service: web", "service: \u202eweb"), "only ASCII"},
		{"a capital key", in(good, "service: web", "Service: web"), "where \"service: …\""},
		{"another kind", in(good, "approval 1", "blessing 1"), "no kind of statement"},
		{"no kind", in(good, "approval 1", " 1"), "no kind of statement"},
		{"another tool", in(good, "drydock", "drydocks"), "no statement's"},
		{"a later format", in(good, "approval 1", "approval 2"), "bring this one up to date"},
		{"a format with more", in(good, "approval 1", "approval 1 "), "format"},
		{"no format", in(good, "approval 1", "approval"), "no statement's"},
		{"an environment that leads out", in(good, "prod", "../prod"), "environment"},
		{"approvals as environment", in(good, "prod", "approvals"), "environment"},
		{"a path as service", in(good, "service: web", "service: web/x"), "service"},
		{"a long service", in(good, "service: web", "service: "+strings.Repeat("w", 65)), "service"},
		{"a path as version", in(good, "1.4.2", "../1.4.2"), "version"},
		{"an empty version", in(good, "1.4.2", ""), "version"},
		{"a long version", in(good, "1.4.2", strings.Repeat("1", 129)), "version"},
		{"a short digest", in(good, digestA, digestA[:70]), "digest"},
		{"a digest in capitals", in(good, digestA, "sha256:"+strings.ToUpper(digestA[7:])), "digest"},
		{"another hash", in(good, "sha256:", "sha512:"), "digest"},
		{"an empty digest", in(good, digestA, ""), "digest"},
		{"platforms out of order", in(several, "linux/amd64="+digestB+" linux/arm64="+digestA, "linux/arm64="+digestA+" linux/amd64="+digestB), "digest"},
		{"a platform twice", in(several, "linux/arm64", "linux/amd64"), "digest"},
		{"a digest and a platform", in(several, "linux/amd64=", ""), "digest"},
		{"two spaces between platforms", in(several, " linux/arm64", "  linux/arm64"), "digest"},
		{"a spec cut short", in(good, specA, specA[:63]), "spec"},
		{"a spec in capitals", in(good, specA, strings.ToUpper(specA)), "spec"},
		{"expiry in a zone", in(good, "12:00:00Z", "12:00:00+00:00"), "expires"},
		{"expiry elsewhere", in(good, "12:00:00Z", "12:00:00+02:00"), "expires"},
		{"expiry in fractions", in(good, "12:00:00Z", "12:00:00.5Z"), "expires"},
		{"expiry on no day", in(good, "2026-12-22", "2026-02-30"), "expires"},
		{"expiry as a date", in(good, "2026-12-22T12:00:00Z", "2026-12-22"), "expires"},
		{"expiry never", in(good, "2026-12-22T12:00:00Z", "never"), "expires"},
		{"expiry in the year one", in(good, "2026-", "0001-"), "expires"},
		{"an approval that attests", in(attested, "attestation 1", "approval 1"), "where \"version: …\""},
		{"an attestation of nothing", in(attested, "attests: ok\n", ""), "where \"attests: …\""},
		{"an attestation of a sentence", in(attested, "ok", "all is well"), "attests"},
		{"a removal with a version", in(removed, "spec:", "version: 1\nspec:"), "where \"spec: …\""},
		{"the agent under another name", in(good, "approval 1", "hostagent 1"), "on the agent"},
		{"far too long", in(several, "linux/amd64", strings.Repeat("l", maxStatement)+"/amd64"), "limit"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := ParseStatement([]byte(tt.text))
			if err == nil || !strings.Contains(err.Error(), tt.wrong) || s != (Statement{}) {
				t.Errorf("want %q, got %v", tt.wrong, err)
			}
		})
	}
}

func TestStatementCheckRefuses(t *testing.T) {
	for wrong, s := range map[string]Statement{
		"UTC":                 approves(func(s *Statement) { s.Expires = s.Expires.In(time.FixedZone("CET", 3600)) }),
		"whole seconds":       approves(func(s *Statement) { s.Expires = s.Expires.Add(time.Millisecond) }),
		"expires":             approves(func(s *Statement) { s.Expires = time.Time{} }),
		"is no attestation":   approves(func(s *Statement) { s.Name = "ok" }),
		"has no version":      approves(func(s *Statement) { s.Kind = Removal }),
		"no kind":             approves(func(s *Statement) { s.Kind = "approval 1\nx" }),
		"service":             approves(func(s *Statement) { s.Service = "web\nversion: 9" }),
		"names the service":   approves(func(s *Statement) { s.Kind = AgentRelease }),
		"bytes, and 8192 is ": approves(func(s *Statement) { s.Digest = strings.Repeat("a", maxStatement) + "/b=" + digestA }),
	} {
		if _, err := s.Text(); err == nil || !strings.Contains(err.Error(), wrong) {
			t.Errorf("want %q, got %v", wrong, err)
		}
		if _, _, err := WriteApprovalFile(s, []byte(armour)); err == nil {
			t.Errorf("%q was written", wrong)
		}
	}
}

func TestReadApprovalFile(t *testing.T) {
	text, _ := approves().Text()
	path, data, err := WriteApprovalFile(approves(), []byte(armour))
	if err != nil {
		t.Fatal(err)
	}
	if f, err := ReadApprovalFile(path, data); err != nil || f.Statement != approves() || !bytes.Equal(f.Signed, text) || string(f.Signature) != armour {
		t.Fatalf("%+v %v", f, err)
	}
	// at is content at the place that its name asks for.
	at := func(content string) (string, string) {
		return approves().Folder() + "/" + nameOf([]byte(content)), content
	}
	row := func(content string) [2]string { p, c := at(content); return [2]string{p, c} }
	tests := []struct {
		name  string
		file  [2]string
		wrong string
	}{
		{"nothing", row(""), "no signature follows"},
		{"no signature", row(string(text)), "no signature follows"},
		{"no statement", row(armour), "no statement's"},
		{"a signature first", row(armour + string(text)), "statement"},
		{"an empty line between", row(string(text) + "\n" + armour), "goes on"},
		{"two signatures", row(string(data) + armour), "more than base64"},
		{"text after", row(string(data) + "fine\n"), "as ssh-keygen"},
		{"no newline after", row(string(data[:len(data)-1])), "as ssh-keygen"},
		{"an empty line after", row(string(data) + "\n"), "as ssh-keygen"},
		{"an empty signature", row(string(text) + signatureBegin + "\n" + signatureEnd), "as ssh-keygen"},
		{"an empty line in it", row(strings.Replace(string(data), "\nU1NI", "\n\nU1NI", 1)), "more than base64"},
		{"an empty line at its end", row(strings.Replace(string(data), "AQ==\n", "AQ==\n\n", 1)), "as ssh-keygen"},
		{"another signature", row(strings.ReplaceAll(string(data), "SSH SIG", "PGP SIG")), "as ssh-keygen"},
		{"CR LF", row(strings.ReplaceAll(string(data), "\n", "\r\n")), ""},
		{"a statement that is none", row(strings.Replace(string(data), "web", "wеb", 1)), "only ASCII"},
		{"too long", row(string(data) + strings.Repeat("A", maxStatement+maxSignature)), "limit"},
		{"a long signature", row(string(text) + signatureBegin + strings.Repeat("A", maxSignature) + "\n" + signatureEnd), "limit"},
		{"in staging", [2]string{strings.Replace(path, "/prod/", "/staging/", 1), string(data)}, "belongs to " + path},
		{"of another service", [2]string{strings.Replace(path, "/web/", "/api/", 1), string(data)}, "belongs to"},
		{"of another version", [2]string{strings.Replace(path, "1.4.2", "1.4.3", 1), string(data)}, "belongs to"},
		{"of another digest", [2]string{strings.Replace(path, "9f86", "9f87", 1), string(data)}, "belongs to"},
		{"under another name", [2]string{strings.Replace(path, ".sig", "0.sig", 1), string(data)}, "belongs to"},
		{"one letter of it changed", [2]string{path, strings.Replace(string(data), "U1NI", "U1NJ", 1)}, "belongs to"},
		{"by another way", [2]string{"./" + path, string(data)}, "belongs to"},
		{"in capitals", [2]string{strings.ToUpper(path), string(data)}, "belongs to"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ReadApprovalFile(tt.file[0], []byte(tt.file[1]))
			if err == nil || !strings.Contains(err.Error(), tt.wrong) {
				t.Errorf("want %q, got %v", tt.wrong, err)
			}
		})
	}
}

// drawn is any statement that can be one.
func drawn(t *rapid.T) Statement {
	s := Statement{
		Kind:    rapid.SampledFrom([]Kind{Approval, Attestation, Removal, AgentRelease}).Draw(t, "kind"),
		Expires: time.Unix(rapid.Int64Range(1_000_000_000, 200_000_000_000).Draw(t, "expires"), 0).UTC(),
	}
	name := rapid.StringMatching(`[A-Za-z0-9][A-Za-z0-9._-]{0,20}`)
	hex := rapid.StringMatching(`[0-9a-f]{64}`)
	s.Environment, s.Service, s.Spec = name.Draw(t, "environment"), name.Draw(t, "service"), hex.Draw(t, "spec")
	if s.Kind == Attestation {
		s.Name = name.Draw(t, "name")
	}
	if s.Kind == AgentRelease {
		s.Service = AgentName
	}
	if s.Kind != Removal {
		s.Version = rapid.StringMatching(`[A-Za-z0-9][A-Za-z0-9.+~_-]{0,20}`).Draw(t, "version")
		c := spec.Change{Digests: rapid.MapOfN(rapid.StringMatching(`[a-z0-9]{1,6}/[a-z0-9]{1,6}`), rapid.Just("sha256:"+hex.Draw(t, "digest")), 0, 4).Draw(t, "digests")}
		if len(c.Digests) == 0 && rapid.Bool().Draw(t, "one") {
			c.Digest = "git:" + hex.Draw(t, "commit")
		}
		s.Digest = DigestOf(c)
	}
	return s
}

// Two statements never have the same text, and each comes back from it.
func TestStatementsComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawn(t), drawn(t)
		if a.Environment == "approvals" || b.Environment == "approvals" {
			t.Skip()
		}
		ta, err := a.Text()
		if err != nil {
			t.Fatal(err)
		}
		if back, err := ParseStatement(ta); err != nil || back != a {
			t.Fatalf("%v, want %v: %v", back, a, err)
		}
		tb, _ := b.Text()
		if (a == b) != bytes.Equal(ta, tb) {
			t.Fatalf("%s\n%s", ta, tb)
		}
	})
}

func FuzzParseStatement(f *testing.F) {
	for _, s := range []Statement{approves(), attests("orders-index-built"), removal(), agent(),
		approves(func(s *Statement) { s.Digest = "linux/amd64=" + digestB + " linux/arm64=" + digestA }),
		approves(func(s *Statement) { s.Digest = "-" })} {
		text, err := s.Text()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := ParseStatement(text)
		if err != nil {
			return
		}
		if again, err := s.Text(); err != nil || !bytes.Equal(again, text) {
			t.Fatalf("%q is printed as %q, %v", text, again, err)
		}
	})
}

func FuzzReadApprovalFile(f *testing.F) {
	_, data, _ := WriteApprovalFile(approves(), []byte(armour))
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := splitApproval(data)
		if err != nil {
			return
		}
		path, again, err := WriteApprovalFile(got.Statement, got.Signature)
		if err != nil || !bytes.Equal(again, data) {
			t.Fatalf("%q is written as %q, %v", data, again, err)
		}
		if _, err := ReadApprovalFile(path, data); err != nil || !approvalPath().MatchString(path) {
			t.Fatalf("%s: %v", path, err)
		}
	})
}

// A file is taken apart and put together by hand, as ReadApprovalFile says.
func TestApprovalFileByHand(t *testing.T) {
	keygen, err := exec.LookPath("ssh-keygen")
	if err != nil {
		t.Skip("needs ssh-keygen: apt-get install openssh-client")
	}
	dir := t.TempDir()
	sh := func(script string) (string, error) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "sh", "-ec", script)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	text, _ := approves().Text()
	if err := os.WriteFile(filepath.Join(dir, "statement"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	name, err := sh(keygen + ` -q -t ecdsa -N "" -f key
		printf 'alice@acme.example namespaces="drydock" %s\n' "$(cut -d' ' -f1,2 key.pub)" >allowed_signers
		` + keygen + ` -q -Y sign -n ` + Namespace + ` -f key statement
		cat statement statement.sig >FILE
		rm statement statement.sig
		sha256sum FILE | cut -d' ' -f1`)
	if err != nil {
		t.Fatalf("%v\n%s", err, name)
	}
	data, err := os.ReadFile(filepath.Join(dir, "FILE"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Fields(name)
	f, err := ReadApprovalFile(approves().Folder()+"/"+lines[len(lines)-1]+".sig", data)
	if err != nil {
		t.Fatal(err)
	}
	path, again, err := WriteApprovalFile(f.Statement, f.Signature)
	if err != nil || !bytes.Equal(again, data) || !strings.Contains(path, lines[len(lines)-1]) {
		t.Errorf("%s %v", path, err)
	}
	const verify = `sed '/^-----BEGIN/,$d' FILE >statement
		sed -n '/^-----BEGIN/,$p' FILE >statement.sig
		ssh-keygen -Y verify -f allowed_signers -I alice@acme.example -n drydock -s statement.sig <statement`
	if out, err := sh(verify); err != nil || !strings.Contains(out, "Good") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := sh(`sed -i 's/1.4.2/1.4.3/' FILE; ` + verify); err == nil {
		t.Errorf("a changed statement is good: %s", out)
	}
}
