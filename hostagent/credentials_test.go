package hostagent

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"drydock/reconcile"
)

// keep makes a directory of credentials with one that is good.
func keep(t *testing.T, content string) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "credentials")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	put(t, dir, "good", content, 0o400)
	return dir
}

func put(t *testing.T, dir, name, content string, mode os.FileMode) {
	t.Helper()
	p := filepath.Join(dir, name)
	if err := os.WriteFile(p, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(p, mode); err != nil {
		t.Fatal(err)
	}
}

// refused fails unless a credential is refused in these words, as the host's
// fault, with nothing of its content.
func refused(t *testing.T, c *Credentials, name, want string) {
	t.Helper()
	got, err := c.Read(name)
	if err == nil || got != "" || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") || reconcile.BlameOf(err) != reconcile.OfHost {
		t.Errorf("%s: got %q, %v; expected words of %q", name, got, err, want)
	}
	if cerr := c.Check(name); cerr == nil || cerr.Error() != err.Error() {
		t.Errorf("%s: Check says %v, Read %v", name, cerr, err)
	}
}

func TestReadCredential(t *testing.T) {
	dir := keep(t, "hunter2\n")
	put(t, dir, "lines", "a\n\n", 0o600)
	put(t, dir, "open", "hunter2", 0o640)
	put(t, dir, "writable", "hunter2", 0o602)
	put(t, dir, "large", strings.Repeat("h", maxCredential+1), 0o600)
	if err := os.Mkdir(filepath.Join(dir, "dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("good", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	c := NewCredentials(nil, dir)
	for name, want := range map[string]string{"good": "hunter2", "lines": "a\n"} {
		if got, err := c.Read(name); got != want || err != nil {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
	for name, want := range map[string]string{
		"open": "chmod 0600", "writable": "chmod 0600", "large": "larger than", "dir": "not a regular file", "link": "is a link",
		"pipe": "not a regular file", "missing": "Provisioning puts it there", "../good": "must match", "": "must match"} {
		refused(t, c, name, want)
	}
	if os.Geteuid() == 0 {
		put(t, dir, "theirs", "hunter2", 0o600)
		if err := os.Chown(filepath.Join(dir, "theirs"), 12345, 0); err != nil {
			t.Fatal(err)
		}
		refused(t, c, "theirs", "belongs to user 12345")
	}
	refused(t, NewCredentials(nil), "x", "no directory")
}

// systemd's directory comes first: what the unit brings is meant for this
// agent, as systemd's own files come before those of the distribution.
func TestCredentialOfTwoDirectories(t *testing.T) {
	ours, theirs := keep(t, "from systemd"), keep(t, "configured")
	put(t, theirs, "second", "configured", 0o600)
	c := NewCredentials(nil, ours, theirs)
	for name, want := range map[string]string{"good": "from systemd", "second": "configured"} {
		if got, err := c.Read(name); got != want || err != nil {
			t.Errorf("%s: got %q, %v; expected %q", name, got, err, want)
		}
	}
	// One that must be refused is not passed over for the other.
	if err := os.Chmod(filepath.Join(ours, "good"), 0o644); err != nil {
		t.Fatal(err)
	}
	refused(t, c, "good", "chmod 0600")
	refused(t, c, "third", ours+" or "+theirs)
	if got, err := NewCredentials(nil, ours+"-gone", theirs).Read("good"); got != "configured" || err != nil {
		t.Errorf("a directory that is not there: got %q, %v", got, err)
	}
}

func TestCredentialsDirectoryIsGuarded(t *testing.T) {
	chmod := func(t *testing.T, path string, mode uint32) {
		t.Helper()
		if err := syscall.Chmod(path, mode); err != nil { // os.Chmod knows the sticky bit by another number
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		change func(t *testing.T, dir string)
		want   string // "" if it is good
	}{
		"as it should be":     {func(*testing.T, string) {}, ""},
		"others may look":     {func(t *testing.T, dir string) { chmod(t, dir, 0o755) }, ""},
		"the group may write": {func(t *testing.T, dir string) { chmod(t, dir, 0o770) }, "others may write into the directory"},
		"all may write":       {func(t *testing.T, dir string) { chmod(t, dir, 0o707) }, "others may write into the directory"},
		"sticky":              {func(t *testing.T, dir string) { chmod(t, dir, 0o1777) }, "others may write into the directory"},
		"above":               {func(t *testing.T, dir string) { chmod(t, filepath.Dir(dir), 0o777) }, "others may write into the directory"},
		"above, sticky":       {func(t *testing.T, dir string) { chmod(t, filepath.Dir(dir), 0o1777) }, ""},
		"a link to it": {func(t *testing.T, dir string) {
			if err := errors.Join(os.Rename(dir, dir+".real"), os.Symlink("credentials.real", dir)); err != nil {
				t.Fatal(err)
			}
		}, ""},
		"a link that others may turn": {func(t *testing.T, dir string) {
			open := filepath.Join(filepath.Dir(dir), "open")
			if err := errors.Join(os.Rename(dir, dir+".real"), os.Mkdir(open, 0o777), os.Symlink(dir+".real", filepath.Join(open, "turn")), os.Symlink("open/turn", dir)); err != nil {
				t.Fatal(err)
			}
			chmod(t, open, 0o777)
		}, "others may write into the directory"},
		"a ring": {func(t *testing.T, dir string) {
			if err := errors.Join(os.RemoveAll(dir), os.Symlink("credentials", dir)); err != nil {
				t.Fatal(err)
			}
		}, "too many links"},
		"a file": {func(t *testing.T, dir string) {
			if err := errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600)); err != nil {
				t.Fatal(err)
			}
		}, "is not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := keep(t, "hunter2")
			c.change(t, dir)
			creds := NewCredentials(nil, dir)
			if c.want != "" {
				refused(t, creds, "good", c.want)
				return
			}
			if got, err := creds.Read("good"); got != "hunter2" || err != nil {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
	t.Run("theirs", func(t *testing.T) {
		if os.Geteuid() != 0 {
			t.Skip("needs root, to give a directory away: sudo go test ./hostagent")
		}
		dir := keep(t, "hunter2")
		if err := os.Chown(dir, 12345, 0); err != nil {
			t.Fatal(err)
		}
		refused(t, NewCredentials(nil, dir), "good", "belongs to user 12345")
	})
	refused(t, NewCredentials(nil, "credentials"), "good", "not an absolute path")
}

// TestOthersOfAnACL: systemd gives a service's user its credentials by an
// access control list, whose mask stands in the mode's group bits.
func TestOthersOfAnACL(t *testing.T) {
	list := func(entries ...[3]uint32) []byte {
		b := binary.LittleEndian.AppendUint32(nil, 2)
		for _, e := range entries {
			b = binary.LittleEndian.AppendUint16(b, uint16(e[0]))
			b = binary.LittleEndian.AppendUint16(b, uint16(e[1]))
			b = binary.LittleEndian.AppendUint32(b, e[2])
		}
		return b
	}
	none, me := ^uint32(0), uint32(os.Geteuid())
	owner, group, mask, world := [3]uint32{1, 4, none}, [3]uint32{4, 0, none}, [3]uint32{0x10, 4, none}, [3]uint32{0x20, 0, none}
	for name, c := range map[string]struct {
		mode fs.FileMode
		list []byte
		want fs.FileMode
	}{
		"no list":               {0o640, nil, 4},
		"no list, all":          {0o602, nil, 2},
		"nobody":                {0o600, nil, 0},
		"the agent's user":      {0o440, list(owner, [3]uint32{2, 4, me}, group, mask, world), 0},
		"somebody else":         {0o440, list(owner, [3]uint32{2, 4, 12345}, group, mask, world), 4},
		"masked":                {0o400, list(owner, [3]uint32{2, 4, 12345}, group, [3]uint32{0x10, 0, none}, world), 0},
		"the group":             {0o440, list(owner, [3]uint32{2, 4, me}, [3]uint32{4, 4, none}, mask, world), 4},
		"another group":         {0o440, list(owner, [3]uint32{8, 4, 7}, group, mask, world), 4},
		"the rest of the world": {0o444, list(owner, group, mask, [3]uint32{0x20, 4, none}), 4},
		"cut off":               {0o640, []byte{2}, 4},
	} {
		if got := others(c.mode, c.list); got != c.want {
			t.Errorf("%s: others may %o, expected %o", name, got, c.want)
		}
	}
	dir := keep(t, "hunter2")
	if err := unix.Setxattr(filepath.Join(dir, "good"), aclName, list(owner, [3]uint32{2, 4, 12345}, group, mask, world), 0); err != nil {
		t.Logf("this file system has no access control lists: %v", err)
		return
	}
	refused(t, NewCredentials(nil, dir), "good", "may be read or written by others")
}

func TestSecretsAreScrubbed(t *testing.T) {
	var s Secrets
	s.Learn("auth", "Bearer s3cr3t/t0ken+1")
	s.Learn("db", "postgres://web:p%40ss%2Fw0rd@db/web?sslmode=disable")
	s.Learn("mysql", "web:my%secret@tcp(db:3306)/web")
	s.Learn("dsn", "host=db user=web password='key word pass'")
	s.Learn("basic", "Basic "+base64.StdEncoding.EncodeToString([]byte("web:basicpass")))
	s.Learn("key", "-----BEGIN KEY-----\nAAAABBBBCCCCDDDDEEEE\n-----END KEY-----")
	s.Learn("short", "web")
	for text, want := range map[string]string{
		"sent Bearer s3cr3t/t0ken+1":                                       "sent [credential auth]",
		"token s3cr3t/t0ken+1 is not good":                                 "token [credential auth] is not good",
		"t=" + url.QueryEscape("s3cr3t/t0ken+1") + "&":                     "t=[credential auth]&",
		"b=" + base64.StdEncoding.EncodeToString([]byte("s3cr3t/t0ken+1")): "b=[credential auth]",
		"password p@ss/w0rd":                                               "password [credential db]",
		"as written p%40ss%2Fw0rd":                                         "as written [credential db]",
		"postgres://web:p%40ss%2Fw0rd@db/web?sslmode=disable: refused":     "[credential db]: refused",
		"my%secret":        "[credential mysql]",
		"of key word pass": "of [credential dsn]",
		"basicpass":        "[credential basic]",
		base64.StdEncoding.EncodeToString([]byte("x-access-token:s3cr3t/t0ken+1")): "eC1hY2Nlc3MtdG9rZW46[credential auth]",
		"line AAAABBBBCCCCDDDDEEEE":         "line [credential key]",
		"the service web, -----BEGIN KEY--": "the service web, -----BEGIN KEY--",
		"":                                  "",
	} {
		if got := s.Scrub(text); got != want {
			t.Errorf("%q became %q, expected %q", text, got, want)
		}
	}
	// One that was changed: the old one may still be on its way.
	s.Learn("auth", "Bearer another-t0ken")
	if got := s.Scrub("s3cr3t/t0ken+1 another-t0ken"); got != "[credential auth] [credential auth]" {
		t.Errorf("after a change: %q", got)
	}
	for _, text := range []string{fmt.Sprintf("%v %+v %#v", &s, &s, &s), fmt.Sprintf("%+v", NewCredentials(&s, "/x"))} {
		if strings.Contains(text, "t0ken") {
			t.Errorf("it prints itself: %s", text)
		}
	}
	var none *Secrets
	none.Learn("x", "something")
	if got := none.Scrub("something"); got != "something" {
		t.Errorf("nothing known: %q", got)
	}
}

// Reading is what makes a value known; checking is not, nor does it need to be.
func TestReadingTeachesSecrets(t *testing.T) {
	var s Secrets
	c := NewCredentials(&s, keep(t, "hunter2\n"))
	if err := c.Check("good"); err != nil || s.Scrub("hunter2") != "hunter2" {
		t.Errorf("checked: %v, %q", err, s.Scrub("hunter2"))
	}
	if _, err := c.Read("good"); err != nil || s.Scrub("hunter2") != "[credential good]" {
		t.Errorf("read: %v, %q", err, s.Scrub("hunter2"))
	}
}
