package nginx_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"drydock/hostagent/drivertest"
	"drydock/hostagent/nginx"
	"drydock/reconcile"
	"drydock/testdata/rig"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const two = "server 127.0.0.1:1; # first\nserver 127.0.0.1:2 weight=3;\n"

type log = drivertest.Log

func newEnv(t *testing.T) (reconcile.Env, *log) {
	l := &log{}
	return reconcile.Env{StateDir: filepath.Join(t.TempDir(), "state"), Output: func(reconcile.Step) io.Writer { return l }}, l
}

// drain is a case on an upstream file; attrs replace what its block says.
func drain(t *testing.T, file string, reload []string, attrs map[string]any) drivertest.Case {
	t.Helper()
	all := map[string]any{"upstream_file": file, "server": "127.0.0.1:1", "reload": reload, "timeout": "30s"}
	for k, v := range attrs {
		all[k] = v
	}
	env, _ := newEnv(t)
	b := drivertest.Block(t, "drain", "nginx", all)
	back := drivertest.Step(reconcile.Undrain, b)
	return drivertest.Case{
		New: func(env reconcile.Env) reconcile.Driver { return nginx.New(env) },
		Env: env, Step: drivertest.Step(reconcile.Drain, b), Back: &back,
		Before: reconcile.Present, After: reconcile.Absent, Watched: []string{file},
	}
}

func ofRig(t *testing.T, attrs map[string]any) (drivertest.Case, *rig.Web) {
	t.Helper()
	w := rig.Nginx(t, two)
	return drain(t, w.UpstreamFile, w.Reload(), attrs), w
}

func TestSuite(t *testing.T) {
	fault := func(attrs map[string]any) drivertest.Fault {
		return drivertest.Fault{Blame: reconcile.OfHost, Make: func(t *testing.T) drivertest.Case {
			c, _ := ofRig(t, attrs)
			return c
		}}
	}
	drivertest.Run(t, drivertest.Suite{
		Make: func(t *testing.T) drivertest.Case {
			c, _ := ofRig(t, nil)
			return c
		},
		Hanging: func(t *testing.T) drivertest.Case {
			c, _ := ofRig(t, map[string]any{"reload": []string{"sleep", "1000"}})
			return c
		},
		Faults: map[string]drivertest.Fault{
			"reload fails":       fault(map[string]any{"reload": []string{"false"}}),
			"reload hangs":       fault(map[string]any{"reload": []string{"sleep", "1000"}, "timeout": "200ms"}),
			"reload not there":   fault(map[string]any{"reload": []string{"/no/such/nginx"}}),
			"reload does not do": fault(map[string]any{"reload": []string{"true"}, "timeout": "300ms"}),
			"no file":            fault(map[string]any{"upstream_file": "/no/such/file.conf"}),
			"no such server":     fault(map[string]any{"server": "10.0.0.5:8080"}),
		},
		Config: nginx.Config{}, Reference: "service.drain.nginx",
	})
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// A reload that nginx refuses leaves the file as it was, and says what nginx said.
func TestReloadFailsAndFileIsPutBack(t *testing.T) {
	c, w := ofRig(t, nil)
	write(t, w.Conf, read(t, w.Conf)+"nonsense on;\n")
	// As systemctl does, it keeps to itself what nginx says.
	silent := filepath.Join(t.TempDir(), "nginx")
	script := fmt.Sprintf("#!/bin/sh\ncase \"$*\" in *reload*) exec 2>/dev/null;; esac\nexec %s \"$@\"\n", w.Reload()[0])
	if err := os.WriteFile(silent, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]drivertest.Case{"nginx": c, "a silent command": drain(t, w.UpstreamFile, append([]string{silent}, w.Reload()[1:]...), nil)} {
		err := c.New(c.Env).Do(t.Context(), c.Step)
		if reconcile.BlameOf(err) != reconcile.OfHost || !strings.Contains(err.Error(), `unknown directive "nonsense"`) {
			t.Errorf("%s: %v", name, err)
		}
		if got := read(t, w.UpstreamFile); got != two {
			t.Errorf("%s: the file was left as\n%s", name, got)
		}
		if done, err := c.New(c.Env).Done(t.Context(), *c.Back); done || err != nil {
			t.Errorf("%s: whether nginx took anything is unknown, but an undrain counts as done (%v)", name, err)
		}
	}
}

// An undrain that nginx does not take up is put back too: drained.
func TestUndrainFailsAndFileIsPutBack(t *testing.T) {
	c, w := ofRig(t, nil)
	if err := c.New(c.Env).Do(t.Context(), c.Step); err != nil {
		t.Fatal(err)
	}
	was := read(t, w.UpstreamFile)
	bad := drain(t, w.UpstreamFile, []string{"false"}, nil)
	err := bad.New(bad.Env).Do(t.Context(), *bad.Back)
	if reconcile.BlameOf(err) != reconcile.OfHost {
		t.Errorf("%v", err)
	}
	if diff := cmp.Diff(was, read(t, w.UpstreamFile)); diff != "" {
		t.Error(diff)
	}
}

// Who edits the file while a reload fails keeps their edit.
func TestPutBackSparesAPersonsEdit(t *testing.T) {
	file := filepath.Join(t.TempDir(), "app.conf")
	write(t, file, two)
	c := drain(t, file, []string{"sh", "-c", "echo '# mine' >>" + file + "; exit 1"}, nil)
	err := c.New(c.Env).Do(t.Context(), c.Step)
	if err == nil || !strings.HasSuffix(read(t, file), "# mine\n") {
		t.Errorf("%v\n%s", err, read(t, file))
	}
}

// An agent killed between writing the file and the reload must reload.
func TestKilledBeforeTheReload(t *testing.T) {
	a, b := newBackend(t, "a", ""), newBackend(t, "b", "")
	w := rig.Nginx(t, "server "+a.addr()+";\nserver "+b.addr()+" backup;\n")
	dir := t.TempDir()
	reached, hang := filepath.Join(dir, "reached"), filepath.Join(dir, "hang")
	if err := syscall.Mkfifo(reached, 0o600); err != nil {
		t.Fatal(err)
	}
	write(t, hang, "") // while it is there the reload hangs
	script := fmt.Sprintf("if [ -e %s ]; then echo >%s; exec sleep 1000; fi; exec %s", hang, reached, strings.Join(w.Reload(), " "))
	c := drain(t, w.UpstreamFile, []string{"sh", "-c", script}, map[string]any{"server": a.addr()})
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- c.New(c.Env).Do(ctx, c.Step) }()
	if _, err := os.ReadFile(reached); err != nil { // returns when the command has written to it
		t.Fatal(err)
	}
	cancel()
	if err := <-result; err == nil {
		t.Fatal("it was cut off and says that it is done")
	}
	if !strings.Contains(read(t, w.UpstreamFile), "down; # drained by drydock") || get(w, "/") != "a" {
		t.Fatal("this is not what a killed agent leaves")
	}
	if err := os.Remove(hang); err != nil {
		t.Fatal(err)
	}
	next := c.New(c.Env)
	if done, err := next.Done(t.Context(), c.Step); done || err != nil {
		t.Errorf("not reloaded, and Done says %v, %v", done, err)
	}
	if err := next.Do(t.Context(), c.Step); err != nil {
		t.Fatal(err)
	}
	if got := get(w, "/"); got != "b" {
		t.Errorf("after the drain %q answers", got)
	}
}

// What a person marked down stays so, through drain and undrain, and is said.
func TestAPersonsDownStays(t *testing.T) {
	_, w := ofRig(t, nil)
	persons := "server 127.0.0.1:1 down; # rack is on fire\nserver 127.0.0.1:2;\n"
	write(t, w.UpstreamFile, persons)
	c := drain(t, w.UpstreamFile, []string{"false"}, nil)
	env, l := newEnv(t)
	d := nginx.New(env)
	for _, s := range []reconcile.Step{c.Step, *c.Back} {
		if err := d.Do(t.Context(), s); err != nil {
			t.Errorf("%v: %v", s.Phase, err)
		}
		if done, err := d.Done(t.Context(), s); !done || err != nil {
			t.Errorf("%v: %v, %v", s.Phase, done, err)
		}
	}
	if read(t, w.UpstreamFile) != persons {
		t.Error("the file has changed")
	}
	if got, err := d.Observe(t.Context(), c.Step); err != nil || got.Is != reconcile.Absent || !strings.Contains(got.Detail, "by a person") {
		t.Errorf("%v, %v", got, err)
	}
	if !strings.Contains(l.String(), "marked down by a person and stays so") {
		t.Errorf("it does not say so: %s", l)
	}
}

// Unless the person asks for the service by its name.
func TestAPersonsDownEndsWhenAsked(t *testing.T) {
	_, w := ofRig(t, nil)
	write(t, w.UpstreamFile, "server 127.0.0.1:1 down weight=2 down; # rack is on fire\nserver 127.0.0.1:2;\n")
	env, _ := newEnv(t)
	back := *drain(t, w.UpstreamFile, w.Reload(), nil).Back
	back.Asked = true
	if err := nginx.New(env).Do(t.Context(), back); err != nil {
		t.Fatal(err)
	}
	if got := read(t, w.UpstreamFile); got != "server 127.0.0.1:1 weight=2; # rack is on fire\nserver 127.0.0.1:2;\n" {
		t.Errorf("the file says %q", got)
	}
}

// Another nginx that reloads at the same time proves nothing of the one meant.
func TestAnotherNginxReloads(t *testing.T) {
	c, w := ofRig(t, map[string]any{"timeout": "2s"})
	other := rig.Nginx(t, "server 127.0.0.1:3;\n")
	// A link to true that is called nginx takes the same arguments, and does nothing.
	fake := filepath.Join(t.TempDir(), "nginx")
	if err := os.Symlink("/bin/true", fake); err != nil {
		t.Fatal(err)
	}
	c = drain(t, w.UpstreamFile, append([]string{fake}, w.Reload()[1:]...), map[string]any{"timeout": "2s"})
	result := make(chan error, 1)
	go func() { result <- c.New(c.Env).Do(t.Context(), c.Step) }()
	eventually(t, func() bool { return read(t, w.UpstreamFile) != two })
	reload := other.Reload()
	if out, err := exec.Command(reload[0], reload[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := <-result; err == nil || !strings.Contains(err.Error(), "no new workers") {
		t.Errorf("nothing was reloaded, and it says %v", err)
	}
	if read(t, w.UpstreamFile) != two {
		t.Error("the file was not put back")
	}
}

// Two services in one file, drained side by side: no edit is lost.
func TestSideBySide(t *testing.T) {
	var lines strings.Builder
	for i := range 6 {
		fmt.Fprintf(&lines, "server 127.0.0.1:%d;\n", i+1)
	}
	w := rig.Nginx(t, lines.String())
	env, _ := newEnv(t)
	d := nginx.New(env)
	var wait sync.WaitGroup
	for i := range 6 {
		c := drain(t, w.UpstreamFile, w.Reload(), map[string]any{"server": fmt.Sprintf("127.0.0.1:%d", i+1)})
		wait.Go(func() {
			for _, s := range []reconcile.Step{c.Step, *c.Back, c.Step} {
				if err := d.Do(t.Context(), s); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	want := strings.ReplaceAll(lines.String(), ";", " down; # drained by drydock")
	if diff := cmp.Diff(want, read(t, w.UpstreamFile)); diff != "" {
		t.Error(diff)
	}
}
