package nginx_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"drydock/hostagent/drivertest"
	"drydock/hostagent/nginx"
	"drydock/reconcile"
	"drydock/testdata/rig"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const two = "server 127.0.0.1:1; # first\nserver 127.0.0.1:2 weight=3;\n"

// log is what a driver says.
type log struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

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

// A reload that nginx refuses leaves the file as it was, and says what nginx said.
func TestReloadFailsAndFileIsPutBack(t *testing.T) {
	c, w := ofRig(t, nil)
	write(t, w.Conf, read(t, w.Conf)+"nonsense on;\n")
	silent := drain(t, w.UpstreamFile, []string{"sh", "-c", strings.Join(w.Reload(), " ") + " 2>/dev/null"}, nil)
	for name, c := range map[string]drivertest.Case{"nginx": c, "a command that keeps it to itself": silent} {
		err := c.New(c.Env).Do(t.Context(), c.Step)
		if reconcile.BlameOf(err) != reconcile.OfHost || name == "nginx" && !strings.Contains(err.Error(), `unknown directive "nonsense"`) {
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

// backend is a server behind nginx that counts, and can hold a request.
type backend struct {
	*httptest.Server
	name   string
	served atomic.Int64
	held   chan struct{} // a request to /hold has come
	free   chan struct{}
}

func newBackend(t *testing.T, name, addr string) *backend {
	t.Helper()
	b := &backend{name: name, held: make(chan struct{}, 16), free: make(chan struct{})}
	b.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.served.Add(1)
		if r.URL.Path == "/hold" {
			b.held <- struct{}{}
			select {
			case <-b.free:
			case <-r.Context().Done():
			}
		}
		_, _ = io.WriteString(w, b.name)
	}))
	if addr != "" {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		b.Listener.Close()
		b.Listener = l
	}
	b.Start()
	t.Cleanup(b.Close)
	return b
}

func (b *backend) addr() string { return b.Listener.Addr().String() }

// get is what nginx answers: the body, or the status where it is not 200.
func get(w *rig.Web, path string) string {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	resp, err := client.Get("http://" + w.Addr() + path)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return resp.Status
	}
	body, _ := io.ReadAll(resp.Body)
	return string(body)
}

func eventually(t *testing.T, holds func() bool) {
	t.Helper()
	late := time.NewTimer(time.Minute)
	defer late.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-late.C:
			t.Fatal("it never came to that")
		}
	}
}

// A request in flight is waited for; what lasts longer than the timeout is not,
// and that is said.
func TestWaitsForWhatIsInFlight(t *testing.T) {
	for _, patient := range []bool{true, false} {
		t.Run(fmt.Sprint("patient ", patient), func(t *testing.T) {
			a, b := newBackend(t, "a", ""), newBackend(t, "b", "")
			w := rig.Nginx(t, "server "+a.addr()+";\nserver "+b.addr()+" backup;\n")
			timeout := "30s"
			if !patient {
				timeout = "2s"
			}
			c := drain(t, w.UpstreamFile, w.Reload(), map[string]any{"server": a.addr(), "timeout": timeout})
			env, l := newEnv(t)
			d := nginx.New(env)
			client := make(chan string, 1)
			go func() { client <- get(w, "/hold") }()
			<-a.held
			result := make(chan error, 1)
			go func() { result <- d.Do(t.Context(), c.Step) }()
			if patient {
				eventually(t, func() bool { return get(w, "/") == "b" }) // new requests go elsewhere already
				select {
				case err := <-result:
					t.Fatalf("a request is in flight, and the drain has ended: %v", err)
				default:
				}
				close(a.free)
			}
			if err := <-result; err != nil {
				t.Fatal(err)
			}
			if !patient {
				if !strings.Contains(l.String(), "still serve what they had accepted") {
					t.Errorf("it does not say so: %s", l)
				}
				close(a.free)
			}
			if got := <-client; got != "a" {
				t.Errorf("the request in flight got %q", got)
			}
		})
	}
}

// The last server may be drained, and it is said what that means.
func TestLastOne(t *testing.T) {
	a := newBackend(t, "a", "")
	w := rig.Nginx(t, "server "+a.addr()+";\nserver 127.0.0.1:1 down;\n")
	c := drain(t, w.UpstreamFile, w.Reload(), map[string]any{"server": a.addr()})
	env, l := newEnv(t)
	if err := nginx.New(env).Do(t.Context(), c.Step); err != nil {
		t.Fatal(err)
	}
	if got := get(w, "/"); got != "502 Bad Gateway" {
		t.Errorf("nginx answers %q", got)
	}
	if !strings.Contains(l.String(), "the last server there") {
		t.Errorf("it does not say so: %s", l)
	}
}

// Somebody who writes the file anew (a configuration manager) loses no drain.
func TestHold(t *testing.T) {
	c, w := ofRig(t, nil)
	d := nginx.New(c.Env)
	if err := d.Do(t.Context(), c.Step); err != nil {
		t.Fatal(err)
	}
	drained := read(t, w.UpstreamFile)
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan struct{})
	go func() {
		defer close(over)
		d.Hold(ctx, c.Step)
	}()
	write(t, w.UpstreamFile, two)
	eventually(t, func() bool {
		done, err := d.Done(t.Context(), c.Step)
		return done && err == nil
	})
	cancel()
	<-over
	if diff := cmp.Diff(drained, read(t, w.UpstreamFile)); diff != "" {
		t.Error(diff)
	}
}

// TestLoad: 20 clients, one backend drained, restarted and undrained, twice,
// then the other: not one request fails.
func TestLoad(t *testing.T) {
	backends := []*backend{newBackend(t, "a", ""), newBackend(t, "b", "")}
	w := rig.Nginx(t, "server "+backends[0].addr()+" max_fails=0;\nserver "+backends[1].addr()+" max_fails=0;\n")
	env, _ := newEnv(t)
	d := nginx.New(env)

	stop := make(chan struct{})
	var clients sync.WaitGroup
	var requests atomic.Int64
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 20}}
	for range 20 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				resp, err := client.Get("http://" + w.Addr() + "/")
				if err != nil {
					t.Errorf("a request failed: %v", err)
					return
				}
				body, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				if resp.StatusCode != 200 || len(body) != 1 {
					t.Errorf("status %d, %q", resp.StatusCode, body)
				}
				requests.Add(1)
			}
		})
	}
	for round := range 4 {
		i := round % 2
		old := backends[i]
		c := drain(t, w.UpstreamFile, w.Reload(), map[string]any{"server": old.addr()})
		if err := d.Do(t.Context(), c.Step); err != nil {
			t.Fatal(err)
		}
		before := old.served.Load()
		seen := requests.Load()
		eventually(t, func() bool { return requests.Load() > seen+100 })
		if got := old.served.Load() - before; got != 0 {
			t.Errorf("%d requests came after the drain", got)
		}
		addr := old.addr()
		old.CloseClientConnections()
		old.Close()
		backends[i] = newBackend(t, old.name, addr)
		if err := d.Do(t.Context(), *c.Back); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() bool { return backends[i].served.Load() > 20 })
	}
	close(stop)
	clients.Wait()
	client.CloseIdleConnections()
	t.Logf("%d requests", requests.Load())
}
