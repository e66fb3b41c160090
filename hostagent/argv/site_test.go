package argv_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"drydock/hostagent/argv"
	"drydock/hostagent/proc"
	"drydock/reconcile"
)

func look(t *testing.T, p argv.Site) argv.Trace {
	t.Helper()
	tr, err := p.Look(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// stopped ends a site's program when the test ends.
func site(t *testing.T) argv.Site {
	t.Helper()
	p := argv.Site{Dir: filepath.Join(t.TempDir(), "site")}
	t.Cleanup(func() {
		if err := p.Stop(context.Background(), 0); err != nil {
			t.Error(err)
		}
	})
	return p
}

func startDaemon(t *testing.T, p argv.Site, manners ...string) (*argv.Started, proc.ID) {
	t.Helper()
	pid := filepath.Join(t.TempDir(), "pid")
	st, err := p.Start(deadline(t), step(""), argv.Command{Argv: append([]string{exe(t), "daemon", pid}, manners...)}, argv.Start{Ident: "one"})
	if err != nil {
		t.Fatal(err)
	}
	return st, pidIn(t, pid)
}

func TestSiteNeverStarted(t *testing.T) {
	if tr := look(t, site(t)); tr.Begun || tr.Running() {
		t.Errorf("%+v", tr)
	}
}

func TestSiteStartLookStop(t *testing.T) {
	p := site(t)
	st, id := startDaemon(t, p)
	tr := look(t, p)
	if !tr.Alive || tr.Main != st.ID || id != st.ID || tr.Ident != "one" {
		t.Fatalf("%+v; started %v, daemon %v", tr, st.ID, id)
	}
	if err := p.Stop(deadline(t), 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if tr := look(t, p); tr.Running() || !tr.Begun {
		t.Errorf("%+v", tr)
	}
	<-st.Done
}

func TestSiteStartRefusesWhileLocked(t *testing.T) {
	p := site(t)
	startDaemon(t, p)
	_, err := p.Start(deadline(t), step(""), argv.Command{Argv: []string{"true"}}, argv.Start{Ident: "two"})
	if !errors.Is(err, argv.ErrRunning) {
		t.Errorf("a second one was started: %v", err)
	}
	if tr := look(t, p); tr.Ident != "one" {
		t.Errorf("the refused start took the record: %+v", tr)
	}
}

// Whatever manners a daemon has, it is known and ended.
func TestSiteStopsBadManners(t *testing.T) {
	for _, manners := range [][]string{{"ignore"}, {"closefds"}, {"closefds", "ignore"}} {
		t.Run(strings.Join(manners, "+"), func(t *testing.T) {
			p := site(t)
			_, id := startDaemon(t, p, manners...)
			if err := p.Stop(deadline(t), 50*time.Millisecond); err != nil {
				t.Fatal(err)
			}
			if id.Alive() {
				t.Error("still alive")
			}
		})
	}
}

// A program that forks away and ends is not running, but what it left is seen
// and ended, though it has left the session, and even if it closed the lock.
func TestSiteSeesDoubleFork(t *testing.T) {
	for _, manners := range []string{"setsid", "closefds"} {
		t.Run(manners, func(t *testing.T) {
			p := site(t)
			pid := filepath.Join(t.TempDir(), "pid")
			st, err := p.Start(deadline(t), step(""), argv.Command{Argv: sh(`setsid "$1" daemon "$2" "$3" &`, exe(t), pid, manners)}, argv.Start{Ident: "one"})
			if err != nil {
				t.Fatal(err)
			}
			<-st.Done
			id := pidIn(t, pid)
			tr := look(t, p)
			if tr.Alive || !tr.Running() {
				t.Fatalf("%+v", tr)
			}
			if err := p.Stop(deadline(t), 10*time.Second); err != nil {
				t.Fatal(err)
			}
			if id.Alive() {
				t.Error("what forked away still lives")
			}
		})
	}
}

// rewrite changes the record that a program left.
func rewrite(t *testing.T, p argv.Site, change func(m map[string]any)) {
	t.Helper()
	path := filepath.Join(p.Dir, "record")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(strings.NewReader(string(data)))
	dec.UseNumber()
	m := map[string]any{}
	if err := dec.Decode(&m); err != nil {
		t.Fatal(err)
	}
	change(m)
	data, _ = json.Marshal(m)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A stranger that got the number of a dead process is neither it nor harmed.
func TestSiteTellsPIDReuseApart(t *testing.T) {
	p := site(t)
	st, _ := startDaemon(t, p)
	if err := p.Stop(deadline(t), 10*time.Second); err != nil {
		t.Fatal(err)
	}
	<-st.Done
	stranger := exec.Command("/bin/sleep", "600")
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stranger.Process.Kill(); _ = stranger.Wait() })
	rewrite(t, p, func(m map[string]any) { m["pid"] = stranger.Process.Pid })
	if tr := look(t, p); tr.Running() {
		t.Errorf("took a stranger for it: %+v", tr)
	}
	if err := p.Stop(deadline(t), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := proc.Of(stranger.Process.Pid); err != nil {
		t.Error("the stranger was killed")
	}
}

// After a boot numbers and start times say nothing.
func TestSiteTellsRebootApart(t *testing.T) {
	p := site(t)
	stranger := exec.Command("/bin/sleep", "600")
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stranger.Process.Kill(); _ = stranger.Wait() })
	id, err := proc.Of(stranger.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	st, _ := startDaemon(t, p)
	if err := p.Stop(deadline(t), 10*time.Second); err != nil {
		t.Fatal(err)
	}
	<-st.Done
	rewrite(t, p, func(m map[string]any) { m["pid"], m["start"], m["boot"] = id.PID, id.Start, "another-boot" })
	if tr := look(t, p); tr.Running() || !tr.Begun {
		t.Errorf("%+v", tr)
	}
	if err := p.Stop(deadline(t), 0); err != nil {
		t.Fatal(err)
	}
	if !id.Alive() {
		t.Error("the stranger was killed")
	}
}

// Where the boot reads otherwise than when it was started (a container's may),
// its number, its start, and its lock or its mark are enough to know it by.
func TestSiteKnowsItThoughTheBootReadsOtherwise(t *testing.T) {
	for _, manners := range []string{"", "closefds"} {
		p := site(t)
		_, id := startDaemon(t, p, manners)
		rewrite(t, p, func(m map[string]any) { m["boot"] = "another-view-of-it" })
		if tr := look(t, p); !tr.Alive || tr.Main != id || tr.Ident != "one" || len(tr.Others) != 0 {
			t.Errorf("%q: %+v", manners, tr)
		}
	}
}

func TestTraceReadsWell(t *testing.T) {
	kin := func(pids ...int) (tr argv.Trace) {
		for _, pid := range pids {
			tr.Others = append(tr.Others, proc.Kin{ID: proc.ID{PID: pid}})
		}
		return tr
	}
	for want, tr := range map[string]argv.Trace{
		"pid 5, which it left behind, still lives":              kin(5),
		"pid 5 and one other, which it left behind, still live": kin(5, 6),
		"pid 5 and 2 others, which it left behind, still live":  kin(5, 6, 7),
	} {
		if got := tr.LeftBehind(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// A damaged record is made good from the process itself.
func TestSiteRecoversDamagedRecord(t *testing.T) {
	for _, garbage := range []string{"{", "\x00\x00\x00", `{"pid":0}`, `{"pid":"x"}`} {
		p := site(t)
		_, id := startDaemon(t, p)
		if err := os.WriteFile(filepath.Join(p.Dir, "record"), []byte(garbage), 0o600); err != nil {
			t.Fatal(err)
		}
		if tr := look(t, p); !tr.Alive || tr.Main != id || tr.Ident != "one" {
			t.Errorf("%q: %+v", garbage, tr)
		}
		if err := p.Stop(deadline(t), 10*time.Second); err != nil {
			t.Error(err)
		}
		if id.Alive() {
			t.Error("it still lives")
		}
	}
}

// A program that cannot be run leaves no sign of having been begun.
func TestSiteExecFailureProvesNothingRan(t *testing.T) {
	s, dir := inRelease(t)
	if err := os.WriteFile(filepath.Join(dir, "garbage"), []byte("\x7fELF but not really"), 0o755); err != nil {
		t.Fatal(err)
	}
	p := site(t)
	_, err := p.Run(deadline(t), reconcile.Env{}, s, argv.Command{Argv: []string{"./garbage"}})
	if reconcile.BlameOf(err) != reconcile.OfRelease {
		t.Errorf("blame %v: %v", reconcile.BlameOf(err), err)
	}
	if tr := look(t, p); tr.Begun {
		t.Errorf("%+v", tr)
	}
}

// TestNoProcessOfTheUserWritesTheRecord: what it says is what the agent, as root,
// ends one day. While a program's file is open for writing its shim waits, with
// the record open.
func TestNoProcessOfTheUserWritesTheRecord(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: sudo go test")
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "sleep")
	sleep, err := os.ReadFile("/bin/sleep")
	if err := errors.Join(err, os.Chmod(dir, 0o755), os.Chmod(filepath.Dir(dir), 0o755)); err != nil {
		t.Fatal(err)
	}
	busy, err := os.OpenFile(program, os.O_CREATE|os.O_WRONLY, 0o755)
	if err == nil {
		_, err = busy.Write(sleep)
	}
	if err != nil {
		t.Fatal(err)
	}
	p := site(t)
	ended := make(chan error, 1)
	go func() {
		_, err := p.Start(t.Context(), step(""), argv.Command{Argv: []string{program, "600"}, User: "nobody"}, argv.Start{Ident: "one"})
		ended <- err
	}()
	var main proc.ID
	eventually(t, "a record", func() bool {
		data, _ := os.ReadFile(filepath.Join(p.Dir, "record"))
		return json.Unmarshal(data, &main) == nil
	})
	for range 3 {
		out, err := argv.Run(deadline(t), reconcile.Env{}, step(""), argv.Command{Argv: []string{"ls", "-l", fmt.Sprintf("/proc/%d/fd", main.PID)}, User: "nobody"})
		if err == nil {
			t.Errorf("the user sees its files:\n%s", out)
		}
	}
	busy.Close()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("ps", "-o", "user=", fmt.Sprint(main.PID)).Output(); err != nil || strings.TrimSpace(string(out)) != "nobody" {
		t.Errorf("it runs as %s: %v", out, err)
	}
}

func TestTrackedRun(t *testing.T) {
	p := site(t)
	out, err := p.Run(deadline(t), reconcile.Env{}, step(""), argv.Command{Argv: sh("echo hello")})
	if err != nil || out != "hello\n" {
		t.Errorf("%q, %v", out, err)
	}
	if tr := look(t, p); !tr.Begun || tr.Running() {
		t.Errorf("%+v", tr)
	}
	p = site(t)
	_, err = p.Run(deadline(t), reconcile.Env{}, step(""), argv.Command{Argv: sh("echo bad; exit 7")})
	var exit *argv.ExitError
	if !errors.As(err, &exit) || exit.Code != 7 || exit.Tail != "bad" || reconcile.BlameOf(err) != reconcile.OfRelease {
		t.Errorf("%v", err)
	}
	p = site(t)
	_, err = p.Run(deadline(t), reconcile.Env{}, step(""), argv.Command{Argv: sh("exec sleep 600"), Timeout: 100 * time.Millisecond})
	var late *argv.TimeoutError
	if !errors.As(err, &late) || look(t, p).Running() {
		t.Errorf("%v", err)
	}
}

// The agent is killed while a tracked command runs: the next one sees it run,
// waits for it, and sees that it ended.
func TestTrackedRunOutlivesTheAgent(t *testing.T) {
	p := site(t)
	dir := t.TempDir()
	begun, goOn, end := filepath.Join(dir, "begun"), filepath.Join(dir, "go"), filepath.Join(dir, "end")
	agent := exec.Command(exe(t), append([]string{"agent", p.Dir},
		sh(`touch "$1"; while ! test -e "$2"; do sleep 0.01; done; echo finished; touch "$3"`, begun, goOn, end)...)...)
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "begun", func() bool { _, err := os.Stat(begun); return err == nil })
	_ = agent.Process.Kill()
	_ = agent.Wait()
	if tr := look(t, p); !tr.Alive {
		t.Fatalf("%+v", tr)
	}
	short, cancel := context.WithTimeout(deadline(t), time.Second)
	defer cancel()
	cancel()
	if err := p.Await(short, time.Minute, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if !look(t, p).Alive {
		t.Fatal("a cancelled wait ended it")
	}
	if err := os.WriteFile(goOn, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := p.Await(deadline(t), time.Minute, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(end); err != nil || p.Left() != "finished\n" {
		t.Errorf("%v, %q", err, p.Left())
	}
	if tr := look(t, p); !tr.Begun || tr.Running() {
		t.Errorf("%+v", tr)
	}
}

func TestAwaitEndsWhatIsLate(t *testing.T) {
	p := site(t)
	startDaemon(t, p, "ignore")
	var late *argv.TimeoutError
	if err := p.Await(deadline(t), time.Millisecond, 10*time.Millisecond); !errors.As(err, &late) {
		t.Errorf("got %v", err)
	}
	if look(t, p).Running() {
		t.Error("still runs")
	}
}

// A site whose files were deleted still knows its program, by its mark, so that
// no second one is started beside it.
func TestSiteFindsProgramAfterItsFilesAreGone(t *testing.T) {
	p := site(t)
	st, _ := startDaemon(t, p, "closefds")
	if err := os.RemoveAll(p.Dir); err != nil {
		t.Fatal(err)
	}
	if tr := look(t, p); !tr.Begun || !tr.Running() || tr.Alive && tr.Main != st.ID {
		t.Errorf("%+v; started %v", tr, st.ID)
	}
	if err := p.Stop(deadline(t), 10*time.Second); err != nil {
		t.Fatal(err)
	}
	<-st.Done
	if tr := look(t, p); tr.Begun {
		t.Errorf("%+v", tr)
	}
}
