package sql_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"drydock/hostagent/sql"
	"drydock/reconcile"
	"drydock/spec"
)

const victimEnv = "DRYDOCK_SQL_VICTIM"

// victimWork is what an agent that will be killed is to do.
type victimWork struct {
	URL    string
	Notes  string // the file that stands for its journal
	Block  spec.Block
	Target spec.Service
}

// victim is an agent in a process of its own, which prints what its driver
// prints.
func victim(path string) int {
	var w victimWork
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, &w)
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	d := sql.New(reconcile.Env{
		Credential: func(string) (string, error) { return w.URL, nil },
		Note: func(_ context.Context, _ reconcile.Step, note string) error {
			return os.WriteFile(w.Notes, []byte(note), 0o600)
		},
		Output: func(reconcile.Step) io.Writer { return os.Stdout },
	})
	s := reconcile.Step{ID: "web/migrate/sql", Service: w.Target.Name, Phase: reconcile.Migrate, Block: w.Block, Target: w.Target, Host: "h"}
	if err := d.Do(context.Background(), s); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// agent starts a victim, and returns what it prints.
func (h *host) agent() (*exec.Cmd, *bufio.Reader) {
	h.t.Helper()
	dir := h.t.TempDir()
	w := victimWork{URL: h.url, Notes: filepath.Join(dir, "notes"), Block: h.step.Block, Target: h.step.Target}
	data, err := json.Marshal(w)
	if err != nil {
		h.t.Fatal(err)
	}
	write(h.t, filepath.Join(dir, "work"), string(data))
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), victimEnv+"="+filepath.Join(dir, "work"))
	out, err := cmd.StdoutPipe()
	if err == nil {
		cmd.Stderr = os.Stderr
		err = cmd.Start()
	}
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	h.journal = w.Notes
	return cmd, bufio.NewReader(out)
}

// kill ends it with SIGKILL and takes over its journal.
func (h *host) kill(cmd *exec.Cmd) {
	h.t.Helper()
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if note, err := os.ReadFile(h.journal); err == nil {
		h.notes = append(h.notes, string(note))
	}
}

// eventually waits until something is so.
func eventually(t testing.TB, what string, so func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); !so(); <-tick.C {
		if time.Since(began) > 30*time.Second {
			t.Fatalf("in vain was waited for: %s", what)
		}
	}
}

// atWork is how many sessions of ours do something on the server.
func (h *host) atWork() string {
	switch h.engine {
	case "postgres":
		return h.query("select count(*) from pg_stat_activity where datname = current_database() and application_name like 'drydock:%' and state <> 'idle' and query like '%sleep%'")
	case "mysql":
		return h.query("select count(*) from information_schema.processlist where db = database() and info like 'select sleep%'")
	}
	return "0"
}

// naps are long enough to be killed in, and end by themselves.
var naps = map[string]string{
	"postgres": "select pg_sleep(%v);",
	"mysql":    "select sleep(%v);",
}

// An agent that is killed inside a transaction leaves nothing, and the next one
// does it again; one that is killed outside of one leaves a question.
func TestSIGKILLInMidMigration(t *testing.T) {
	for _, engine := range []string{"postgres", "mysql"} {
		for _, atomic := range []bool{true, false} {
			if engine == "mysql" && atomic {
				continue
			}
			t.Run(fmt.Sprintf("%s/atomic=%v", engine, atomic), func(t *testing.T) {
				h := newHost(t, engine)
				text := up("create table a (id int);\n" + fmt.Sprintf(naps[engine], 2) + "\ncreate table b (id int);")
				if !atomic {
					text = "-- +goose NO TRANSACTION\n" + text
				}
				h.release("1.0.0", map[string]string{"1_slow.sql": text})
				cmd, _ := h.agent()
				eventually(t, "the migration to be under way", func() bool { return h.atWork() == "1" })
				h.kill(cmd)
				// What the server still does for it is waited for, not overtaken.
				done, err := h.done()
				if h.atWork() != "0" {
					t.Error("the old session is still at work")
				}
				if atomic {
					if done || err != nil {
						t.Fatalf("done: %v, %v", done, err)
					}
					h.mustDo()
					if done, err := h.done(); !done || err != nil {
						t.Errorf("done: %v, %v", done, err)
					}
					return
				}
				if done || !errors.Is(err, reconcile.ErrUnknown) || !strings.Contains(err.Error(), "1_slow.sql") {
					t.Errorf("done: %v, %v", done, err)
				}
			})
		}
	}
}

func TestSIGKILLInMidMigrationOfSQLite(t *testing.T) {
	for _, atomic := range []bool{true, false} {
		t.Run(fmt.Sprintf("atomic=%v", atomic), func(t *testing.T) {
			h := newHost(t, "sqlite")
			text := up("create table b (id int);\n" + endless["sqlite"])
			if !atomic {
				text = "-- +goose NO TRANSACTION\n" + text
			}
			h.release("1.0.0", map[string]string{"1_a.sql": up("create table a (id int);"), "2_slow.sql": text})
			cmd, out := h.agent()
			if line, err := out.ReadString('\n'); err != nil || !strings.HasPrefix(line, "1_a.sql applied in") {
				t.Fatalf("%q, %v", line, err)
			}
			if !atomic {
				eventually(t, "its note", func() bool { _, err := os.Stat(h.journal); return err == nil })
			}
			h.kill(cmd)
			done, err := h.done()
			if atomic && (done || err != nil) || !atomic && !errors.Is(err, reconcile.ErrUnknown) {
				t.Fatalf("done: %v, %v", done, err)
			}
			if got := h.query("select count(*) from sqlite_master where name = 'a'"); got != "1" {
				t.Errorf("the first migration is gone")
			}
		})
	}
}

// A cancelled migration leaves nothing at work on the server.
func TestCancelledLeavesNothingRunning(t *testing.T) {
	for _, engine := range []string{"postgres", "mysql"} {
		t.Run(engine, func(t *testing.T) {
			h := newHost(t, engine)
			h.release("1.0.0", map[string]string{"1_wait.sql": up(endless[engine])})
			ctx, cancel := context.WithCancel(t.Context())
			result := make(chan error, 1)
			go func() { result <- h.driver().Do(ctx, h.step) }()
			eventually(t, "the migration to be under way", func() bool { return h.atWork() == "1" })
			cancel()
			if err := <-result; !errors.Is(err, context.Canceled) || reconcile.BlameOf(err) != reconcile.Transient {
				t.Errorf("%v", err)
			}
			if n := h.atWork(); n != "0" {
				t.Errorf("%s statements are still at work", n)
			}
		})
	}
}

// What takes too long is ended, and is the release's fault; nothing stays.
func TestTimeout(t *testing.T) {
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			h := newHost(t, engine)
			h.attrs["timeout"] = "1s"
			h.release("1.0.0", map[string]string{"1_wait.sql": up(endless[engine])})
			err := h.do()
			if reconcile.BlameOf(err) != reconcile.OfRelease || errors.Is(err, reconcile.ErrUntouched) != (engine != "mysql") || errors.Is(err, reconcile.ErrUnknown) != (engine == "mysql") ||
				!strings.Contains(err.Error(), "within 1s") {
				t.Errorf("%v", err)
			}
			if n := h.atWork(); n != "0" {
				t.Errorf("%s statements are still at work", n)
			}
		})
	}
}
