package keyring_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"drydock/hostagent/keyring"
)

// TestFiles: whoever may write a file of keys, or put another in its place,
// decides what runs.
func TestFiles(t *testing.T) {
	key := newPen(t)
	line := "alice@acme.example " + key.line + "\n"
	for _, test := range []struct {
		name string
		make func(t *testing.T, path string)
		want string // "" opened
	}{
		{"a file", func(*testing.T, string) {}, ""},
		{"one that only its owner reads", func(t *testing.T, path string) { chmod(t, path, 0o600) }, ""},
		{"none", func(t *testing.T, path string) { check(t, os.Remove(path)) }, "no such file"},
		{"one that the group may write", func(t *testing.T, path string) { chmod(t, path, 0o664); chown(t, path, 0, 12345) }, "others may write to"},
		{"one that everybody may write", func(t *testing.T, path string) { chmod(t, path, 0o646) }, "others may write to"},
		{"somebody else's", func(t *testing.T, path string) { chown(t, path, 12345, 0) }, "belongs to user 12345"},
		{"a link", func(t *testing.T, path string) {
			check(t, os.Rename(path, path+".real"))
			check(t, os.Symlink(path+".real", path))
		}, "is a link; put the file itself there"},
		{"a directory", func(t *testing.T, path string) { check(t, os.Remove(path)); check(t, os.Mkdir(path, 0o755)) }, "is not a regular file"},
		{"a pipe", func(t *testing.T, path string) { check(t, os.Remove(path)); check(t, syscall.Mkfifo(path, 0o644)) }, "is not a regular file"},
		{"a directory that others may write", func(t *testing.T, path string) { chmod(t, filepath.Dir(path), 0o777) }, "others may write into the directory"},
		{"and a sticky one", func(t *testing.T, path string) { chmod(t, filepath.Dir(path), 0o777|os.ModeSticky) }, "others may write into the directory"},
		{"a directory of somebody else's", func(t *testing.T, path string) { chown(t, filepath.Dir(path), 12345, 0) }, "belongs to user 12345"},
		{"too large", func(t *testing.T, path string) {
			check(t, os.WriteFile(path, []byte(strings.Repeat("# a long story\n", 1<<17)), 0o644))
		}, "is the limit"},
		{"a typing error", func(t *testing.T, path string) {
			check(t, os.WriteFile(path, []byte(line+"bob "+key.line[2:]+"\n"), 0o644))
		}, "file:2: "},
		{"an authority", func(t *testing.T, path string) {
			check(t, os.WriteFile(path, []byte("* cert-authority "+key.line+"\n"), 0o644))
		}, "file:1: cert-authority is not supported"},
		{"an option from the future", func(t *testing.T, path string) {
			check(t, os.WriteFile(path, []byte("* verify-required "+key.line+"\n"), 0o644))
		}, `file:1: "verify-required" is neither an option`},
	} {
		for what, files := range map[string]func(string) keyring.Files{
			"signers": func(path string) keyring.Files { return keyring.Files{Signers: path} },
			"revoked": func(path string) keyring.Files {
				return keyring.Files{Signers: file(t, strings.TrimSpace(line)), Revoked: path}
			},
			"keyring": func(path string) keyring.Files { return keyring.Files{OpenPGP: path} },
		} {
			t.Run(test.name+"/"+what, func(t *testing.T) {
				path := filepath.Join(place(t), "file")
				check(t, os.WriteFile(path, []byte(line), 0o644))
				test.make(t, path)
				_, err := keyring.Open(files(path))
				want := test.want
				if strings.HasPrefix(want, "file:") && what != "signers" || want == "" && what != "signers" || want == "is the limit" && what == "keyring" {
					want = "" // another format, which is not this test's
					if err == nil {
						t.Error("accepted")
					}
					return
				}
				if want == "" {
					if err != nil {
						t.Error(err)
					}
					return
				}
				refused(t, err, want)
				if err != nil && !strings.HasPrefix(err.Error(), "the ") {
					t.Errorf("says not which file: %v", err)
				}
			})
		}
	}
	if _, err := keyring.Open(keyring.Files{}); err == nil {
		t.Error("no file at all is accepted")
	}
	_, err := keyring.Open(keyring.Files{Signers: "allowed_signers"})
	refused(t, err, "is not an absolute path")
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func chmod(t *testing.T, path string, mode os.FileMode) { t.Helper(); check(t, os.Chmod(path, mode)) }

func chown(t *testing.T, path string, uid, gid int) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root; run: sudo go test ./hostagent/keyring")
	}
	check(t, os.Chown(path, uid, gid))
}
