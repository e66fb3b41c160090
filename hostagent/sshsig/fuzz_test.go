package sshsig_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"drydock/hostagent/sshsig"
)

var writeCorpus = flag.Bool("write-corpus", false, "write the seeds of the fuzz targets to testdata")

func seeds(t testing.TB, dir string, least int) map[string][]byte {
	t.Helper()
	names, err := filepath.Glob(filepath.Join("testdata", dir, "*"))
	if err != nil || len(names) < least {
		t.Fatalf("the corpus is gone: %v, %v; make it with go test -run TestWriteCorpus -write-corpus", names, err)
	}
	all := map[string][]byte{}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all[filepath.Base(name)] = text
	}
	return all
}

// FuzzParseSignature holds the parser to its law: it never panics; what it
// takes it prints as it was, but for the width of its lines; and of all that it
// takes only the seeds themselves verify, whatever byte is another.
func FuzzParseSignature(f *testing.F) {
	genuine := map[string]bool{}
	for name, text := range seeds(f, "signatures", 8) {
		f.Add(text, uint16(0), byte(0))
		f.Add(text, uint16(len(text)/2), byte(1))
		s, err := sshsig.Parse(text)
		if err != nil {
			f.Fatalf("%s: %v", name, err)
		}
		if err := s.Verify(message, "drydock"); err != nil {
			f.Fatalf("%s: %v", name, err)
		}
		genuine[string(s.Armor())] = true
	}
	f.Fuzz(func(t *testing.T, text []byte, at uint16, flip byte) {
		if text = bytes.Clone(text); int(at) < len(text) {
			text[at] ^= flip
		}
		s, err := sshsig.Parse(text)
		if err != nil {
			if s != nil || sshsig.ReasonOf(err) == "" {
				t.Errorf("a signature beside an error, or no reason: %v", err)
			}
			return
		}
		printed := s.Armor()
		again, err := sshsig.Parse(printed)
		if err != nil || !reflect.DeepEqual(s, again) {
			t.Errorf("printed and read again: %v\n%+v\n%+v", err, s, again)
		}
		bare := func(b []byte) string { return strings.ReplaceAll(string(b), "\n", "") }
		if bare(printed) != bare(text) {
			t.Errorf("read\n%s\nprinted\n%s", text, printed)
		}
		if s.Verify(message, "drydock") == nil && !genuine[string(printed)] {
			t.Errorf("verifies, and nobody made it:\n%s", text)
		}
	})
}

// FuzzParseAllowedSigners: never a panic; what is taken is printed and read
// again the same; nobody is found whom the line does not list.
func FuzzParseAllowedSigners(f *testing.F) {
	for _, text := range seeds(f, "allowed_signers", 3) {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := sshsig.ParseAllowedSigners(text, "signers")
		if err != nil {
			if !strings.HasPrefix(err.Error(), "signers") {
				t.Errorf("says not where: %v", err)
			}
			return
		}
		var lines []string
		for _, e := range s.Entries() {
			lines = append(lines, e.String())
		}
		again, err := sshsig.ParseAllowedSigners([]byte(strings.Join(lines, "\n")), "again")
		if err != nil {
			t.Fatalf("%v\n%s", err, strings.Join(lines, "\n"))
		}
		second := again.Entries()
		for i, e := range s.Entries() {
			if second[i].Line = e.Line; !reflect.DeepEqual(e, second[i]) {
				t.Errorf("printed and read again:\n%+v\n%+v", e, second[i])
			}
			who, err := s.Match(e.Key, "drydock", now)
			if (err == nil) == (len(who) == 0) {
				t.Errorf("%v, %v", who, err)
			}
			for _, p := range who {
				if !p.Pattern && !p.Allows(p.Name) {
					t.Errorf("%+v does not allow itself", p)
				}
			}
		}
	})
}

// TestSeeds: signatures that OpenSSH made long ago still verify.
func TestSeeds(t *testing.T) {
	for name, text := range seeds(t, "signatures", 8) {
		s, err := sshsig.Parse(text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err := s.Verify(message, "drydock"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !bytes.Equal(s.Armor(), text) {
			t.Errorf("%s is printed otherwise", name)
		}
	}
	for name, text := range seeds(t, "allowed_signers", 3) {
		if _, err := sshsig.ParseAllowedSigners(text, name); err != nil {
			t.Error(err)
		}
	}
}
