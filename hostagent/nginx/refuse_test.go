package nginx_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"drydock/hostagent/drivertest"
	"drydock/reconcile"
	"drydock/spec"
	"drydock/testdata/rig"
)

// What cannot be edited is found before the drain, and Do changes nothing.
func TestPrepareRefuses(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		text   string
		server string
		want   []string
	}{
		"no such server":  {text: "server a; server b;\n", server: "c", want: []string{"no server c", "a, b"}},
		"not listed here": {text: "include other.conf;\n", server: "c", want: []string{"lists no server"}},
		"two lines":       {text: "server a;\nserver a weight=2;\n", server: "a", want: []string{"2 times", "lines 1, 2"}},
		"two upstreams":   {text: "upstream x {\nserver a;\n}\nupstream y {\nserver a;\n}\n", server: "a", want: []string{"2 times", "lines 2, 5"}},
		"one line":        {text: "upstream web { server a; server b; }\n", server: "a", want: []string{"on a line of its own"}},
		"a variable":      {text: "server $backend;\n", server: "$backend", want: []string{"without variables"}},
		"several words":   {text: "server a;\n", server: "a weight=3", want: []string{"one address"}},
		"no nginx file":   {text: "server a;\n}\n", server: "a", want: []string{"closes nothing", "nginx -t"}},
		"too large":       {text: "server a;\n" + strings.Repeat("# comment\n", 110_000), server: "a", want: []string{"larger than 1024 KiB"}},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
			write(t, file, c.text)
			refused(t, drain(t, file, []string{"true"}, map[string]any{"server": c.server}), c.want...)
			if read(t, file) != c.text {
				t.Error("the file has changed")
			}
		})
	}
	t.Run("a directory", func(t *testing.T) {
		refused(t, drain(t, dir, []string{"true"}, nil), "not a regular file")
	})
	t.Run("a pipe", func(t *testing.T) {
		pipe := filepath.Join(dir, "pipe")
		if err := syscall.Mkfifo(pipe, 0o600); err != nil {
			t.Fatal(err)
		}
		refused(t, drain(t, pipe, []string{"true"}, nil), "not a regular file")
	})
	t.Run("dangling link", func(t *testing.T) {
		link := filepath.Join(dir, "dangling")
		if err := os.Symlink("nowhere", link); err != nil {
			t.Fatal(err)
		}
		refused(t, drain(t, link, []string{"true"}, nil), "no upstream file")
	})
	t.Run("hard link", func(t *testing.T) {
		file := filepath.Join(dir, "hard")
		write(t, file, two)
		if err := os.Link(file, file+"2"); err != nil {
			t.Fatal(err)
		}
		refused(t, drain(t, file, []string{"true"}, nil), "hard links")
	})
	t.Run("no such command", func(t *testing.T) {
		file := filepath.Join(dir, "command")
		write(t, file, two)
		refused(t, drain(t, file, []string{"no-such-nginx", "-s", "reload"}, nil), "no-such-nginx not found")
	})
	t.Run("read-only directory", func(t *testing.T) {
		file := filepath.Join(readOnly(t), "app.conf")
		refused(t, drain(t, file, []string{"true"}, nil), "not writable")
	})
}

// readOnly is a directory with an upstream file in which nothing can be made.
func readOnly(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "app.conf"), two)
	if os.Geteuid() != 0 {
		if err := os.Chmod(dir, 0o555); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.Chmod(dir, 0o755) })
		return dir
	}
	if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
		t.Skip("needs to mount: run the test as root with CAP_SYS_ADMIN")
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	if err := unix.Mount("", dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	return dir
}

func refused(t *testing.T, c drivertest.Case, want ...string) {
	t.Helper()
	d := c.New(c.Env)
	for what, err := range map[string]error{
		"Prepare": d.(reconcile.Preparer).Prepare(t.Context(), c.Step),
		"Do":      d.Do(t.Context(), c.Step),
	} {
		if err == nil || reconcile.BlameOf(err) != reconcile.OfHost {
			t.Errorf("%s: %v", what, err)
			continue
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s says %q, nothing of %q", what, err, w)
			}
		}
	}
}

// A place that the declaration has moved on from may be gone; one that it
// names may not.
func TestOldPlaceIsGone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "app.conf")
	c := drain(t, file, []string{"true"}, nil)
	d := c.New(c.Env)
	named := drivertest.Block(t, "drain", "nginx", map[string]any{"upstream_file": "/elsewhere", "server": "a", "reload": []string{"true"}, "timeout": "1s"})
	for name, edit := range map[string]func(*reconcile.Step){
		"its removal": func(s *reconcile.Step) { s.Action, s.Phase = reconcile.Remove, reconcile.Undrain },
		"its drain":   func(s *reconcile.Step) { s.Target.Drains = []spec.Block{named} },
	} {
		s := c.Step
		edit(&s)
		done, err := d.Done(t.Context(), s)
		if err := errors.Join(err, d.(reconcile.Preparer).Prepare(t.Context(), s), d.Do(t.Context(), s)); err != nil || !done {
			t.Errorf("%s: %v, %v", name, done, err)
		}
	}
	s := c.Step
	s.Target.Drains = []spec.Block{named, s.Block}
	if err := d.Do(t.Context(), s); err == nil {
		t.Error("the declared place is gone, and it says nothing")
	}
}

// The example's upstream file is one that can be drained, and that nginx takes.
func TestExample(t *testing.T) {
	w := rig.Nginx(t, read(t, "../../examples/nginx/shop.conf.example"))
	c := drain(t, w.UpstreamFile, w.Reload(), map[string]any{"server": "127.0.0.1:9000"})
	d := c.New(c.Env)
	for _, s := range []reconcile.Step{c.Step, *c.Back} {
		if err := errors.Join(d.(reconcile.Preparer).Prepare(t.Context(), s), d.Do(t.Context(), s)); err != nil {
			t.Error(err)
		}
	}
}

func TestPrepareChangesNothing(t *testing.T) {
	c, w := ofRig(t, nil)
	for _, s := range []reconcile.Step{c.Step, *c.Back} {
		if err := c.New(c.Env).(reconcile.Preparer).Prepare(t.Context(), s); err != nil {
			t.Error(err)
		}
	}
	if read(t, w.UpstreamFile) != two {
		t.Error("the file has changed")
	}
}

// A release must not get its own program run by the agent.
func TestReloadIsNeverTheReleases(t *testing.T) {
	base := t.TempDir()
	file := filepath.Join(base, "app.conf")
	write(t, file, two)
	c := drain(t, file, []string{"true"}, map[string]any{"timeout": "300ms"})
	install := drivertest.Block(t, "install", "archive", map[string]any{"path": base, "user": "nobody"})
	c.Step.Target.Install = &install
	release := c.Step.Target.ReleaseDir()
	if err := os.MkdirAll(release, 0o755); err != nil {
		t.Fatal(err)
	}
	ran := filepath.Join(base, "ran")
	if err := os.WriteFile(filepath.Join(release, "true"), []byte("#!/bin/sh\ntouch "+ran+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	_ = c.New(c.Env).Do(t.Context(), c.Step)
	if _, err := os.Lstat(ran); err == nil {
		t.Error("a program of the release was run")
	}
}

// The file keeps owner, group and mode, and a symlink to it stays one.
func TestFileKeepsItsOwner(t *testing.T) {
	c, w := ofRig(t, nil)
	if err := os.Chmod(w.UpstreamFile, 0o640); err != nil {
		t.Fatal(err)
	}
	uid := os.Geteuid()
	if uid == 0 {
		uid = 65534
		if err := os.Chown(w.UpstreamFile, uid, 65534); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(t.TempDir(), "enabled.conf")
	if err := os.Symlink(w.UpstreamFile, link); err != nil {
		t.Fatal(err)
	}
	c = drain(t, link, w.Reload(), nil)
	for _, s := range []reconcile.Step{c.Step, *c.Back} {
		if err := c.New(c.Env).Do(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		info, err := os.Lstat(w.UpstreamFile)
		if err != nil {
			t.Fatal(err)
		}
		if st := info.Sys().(*syscall.Stat_t); info.Mode() != 0o640 || int(st.Uid) != uid {
			t.Errorf("%v: mode %v, owner %d", s.Phase, info.Mode(), st.Uid)
		}
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("the link is %v, %v", info.Mode(), err)
	}
	if read(t, w.UpstreamFile) != two {
		t.Error("drained and undrained, the file has changed")
	}
}
