package argv

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"drydock/hostagent/durable"
	"drydock/hostagent/proc"
	"drydock/reconcile"
)

// Site is a directory by which a program is known again after the agent that
// started it was killed, at whatever moment. In it lie
//
//	lock    locked (flock) by the program itself, through a descriptor it inherited
//	record  which process it is, written durably by the shim before it became the program
//	output  what a tracked run printed
//
// An empty record proves that nothing was run; so does an absent one, where no
// process has the site's mark.
type Site struct{ Dir string }

// Trace is what a Site says.
type Trace struct {
	Begun   bool    // a program was started here, once
	Damaged bool    // the record cannot be read
	Main    proc.ID // the program, alive or not; zero if it is not known
	Ident   string  // what it was started as; "" if it is not known
	Alive   bool    // Main lives

	// Others are further processes that came from it: looked for only where
	// Main does not live.
	Others []proc.Kin
	locked bool
}

// Running reports whether anything of the program still lives.
func (t Trace) Running() bool { return t.Alive || len(t.Others) > 0 || t.locked }

// String names what lives.
func (t Trace) String() string {
	switch {
	case t.Alive:
		return t.Main.String()
	case len(t.Others) > 0:
		return t.Others[0].ID.String() + more(len(t.Others)-1)
	case t.locked:
		return "a process that holds its lock"
	}
	return "no process"
}

// LeftBehind is a sentence's end about a program that has ended and left something
// behind: "pid 4711 and 2 others, which it left behind, still live".
func (t Trace) LeftBehind() string {
	if len(t.Others) < 2 {
		return t.String() + ", which it left behind, still lives"
	}
	return t.String() + ", which it left behind, still live"
}

func more(n int) string {
	switch n {
	case 0:
		return ""
	case 1:
		return " and one other"
	}
	return fmt.Sprintf(" and %d others", n)
}

const maxRecord = 64 << 10

// shimTime is how long a shim may take between its start and its record.
const shimTime = 5 * time.Second

func (p Site) lock() string   { return filepath.Join(p.Dir, "lock") }
func (p Site) record() string { return filepath.Join(p.Dir, "record") }
func (p Site) output() string { return filepath.Join(p.Dir, "output") }
func (p Site) mark() string   { return markEnv + p.Dir + "@" }

// Look says what became of the program, and changes nothing.
func (p Site) Look(ctx context.Context) (Trace, error) {
	ctx, cancel := context.WithTimeout(ctx, shimTime)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		t, err := p.look()
		// Locked without a record: a shim is on its way, or a fork of ours is
		// holding a copy of a descriptor for a moment.
		if err != nil || t.Begun || !t.locked {
			return t, err
		}
		select {
		case <-ctx.Done():
			if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return Trace{}, ctx.Err()
			}
			return t, nil
		case <-tick.C:
		}
	}
}

func (p Site) look() (Trace, error) {
	var t Trace
	data, err := readSmall(p.record())
	lost := errors.Is(err, os.ErrNotExist)
	if err != nil && !lost {
		return t, reconcile.HostFault(fmt.Errorf("read the record of a started program: %w", err), "Mend the state directory.")
	}
	t.Begun = len(data) > 0
	var r record
	if t.Begun {
		if json.Unmarshal(data, &r) != nil || r.PID <= 0 || r.Boot == "" {
			t.Damaged = true
		} else {
			t.Main, t.Ident = r.ID, r.Ident
		}
	}
	if t.Main.Alive() {
		t.Alive = true
		return t, nil
	}
	if t.locked, err = held(p.lock()); err != nil {
		return t, err
	}
	if !t.Begun && !t.locked && !lost {
		return t, nil
	}
	kin, err := proc.Find(proc.Trait{Leader: t.Main, Lock: p.lock(), Mark: p.mark()})
	if err != nil {
		return t, reconcile.HostFault(err, "Mount /proc.")
	}
	t.Others = kin
	if lost && len(kin) > 0 {
		// Somebody deleted it, and what was started here goes on: a second one
		// must not be started beside it.
		t.Begun, t.Damaged = true, true
	}
	if t.Damaged {
		t.recover(p.mark())
	} else {
		t.recognise()
	}
	return t, nil
}

// recognise takes for the program a process that has its number, its start and
// its lock or mark, though the boot reads otherwise than when it was recorded
// (see proc.Boot: a container's may). The lock and the mark do not outlive a
// boot any more than the process does, so they prove that it is this one.
func (t *Trace) recognise() {
	for i, k := range t.Others {
		if k.PID == t.Main.PID && k.Start == t.Main.Start {
			t.Main, t.Alive = k.ID, true
			t.Others = append(t.Others[:i:i], t.Others[i+1:]...)
			return
		}
	}
}

// recover finds in the processes themselves what a damaged record does not say.
func (t *Trace) recover(mark string) {
	for i, k := range t.Others {
		if ident, ok := strings.CutPrefix(k.Mark, mark); ok && k.First {
			t.Main, t.Ident, t.Alive = k.ID, ident, true
			t.Others = append(t.Others[:i:i], t.Others[i+1:]...)
			return
		}
	}
}

// Start is what Site.Start needs beside the command.
type Start struct {
	Ident string   // what Trace.Ident will say; no "@" and no zero byte
	Log   *os.File // takes the output, opened to append
}

// Started is a program on its way.
type Started struct {
	ID   proc.ID
	Done <-chan struct{} // closed when it has ended and was waited for

	cmd  *exec.Cmd
	name string
}

// ErrRunning says that what was started here before has not ended.
var ErrRunning = errors.New("what was started before still runs")

// Start starts c.Argv so that it outlives the agent; c's Timeout, Grace, Leave
// and File do not matter. It returns once the program runs in place of the
// shim. Nothing may be running; the lock makes sure of that.
func (p Site) Start(ctx context.Context, s reconcile.Step, c Command, o Start) (*Started, error) {
	r, err := resolve(s, c)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	files, err := p.open(ctx)
	if err != nil {
		return nil, err
	}
	defer closeAll(files)
	status, w, err := os.Pipe()
	if err != nil {
		return nil, reconcile.HostFault(err, "")
	}
	defer status.Close()
	text, err := json.Marshal(life{As: r.cred, Dir: r.dir})
	if err != nil {
		w.Close()
		return nil, reconcile.HostFault(err, "")
	}
	cmd := r.cmd()
	cmd.Path, cmd.Dir, cmd.SysProcAttr.Credential = self, "/", nil
	cmd.Args = append([]string{r.name, verb, o.Ident, string(text), r.path}, r.args...)
	cmd.Env = append(cmd.Env, p.mark()+o.Ident)
	cmd.Stdout, cmd.Stderr = o.Log, o.Log
	cmd.ExtraFiles = []*os.File{files[0], files[1], w}
	if c.Within != nil {
		c.File = o.Log
		rules, err := c.rules()
		if err != nil {
			w.Close()
			return nil, reconcile.HostFault(err, "")
		}
		defer rules.Close()
		cmd.Args[1] = verbWithin
		cmd.ExtraFiles = append(cmd.ExtraFiles, rules)
	}
	err = start(ctx, cmd)
	w.Close()
	if err != nil {
		return nil, startFault(s, r, err)
	}
	done := make(chan struct{})
	started := &Started{Done: done, cmd: cmd, name: r.name}
	go func() { // so that no zombie stays
		defer close(done)
		_ = cmd.Wait()
	}()
	if err := awaitStatus(ctx, status); err != nil {
		if ctx.Err() != nil {
			return nil, err // Look finds out what became of it
		}
		<-done
		return nil, startFault(s, r, err)
	}
	var rec record
	data, err := readSmall(p.record())
	if err != nil || json.Unmarshal(data, &rec) != nil {
		return nil, reconcile.HostFault(fmt.Errorf("%s ended before it was started (%v)", r.name, cmd.ProcessState), "Look for the reason in the kernel's log.")
	}
	started.ID = rec.ID
	return started, nil
}

// open takes the lock and empties the record, durably.
func (p Site) open(ctx context.Context) ([]*os.File, error) {
	fault := func(err error) error {
		return reconcile.HostFault(fmt.Errorf("prepare to start a program: %w", err), "Mend the state directory.")
	}
	if err := durable.MkdirAll(p.Dir, 0o700); err != nil {
		return nil, fault(err)
	}
	// Not to be written to: the program inherits it.
	lock, err := os.OpenFile(p.lock(), os.O_RDONLY|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fault(err)
	}
	if err := flock(ctx, lock); err != nil {
		lock.Close()
		return nil, err
	}
	rec, err := os.OpenFile(p.record(), os.O_RDWR|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		lock.Close()
		return nil, fault(err)
	}
	if err := errors.Join(rec.Sync(), durable.SyncDir(p.Dir)); err != nil {
		closeAll([]*os.File{lock, rec})
		return nil, fault(err)
	}
	return []*os.File{lock, rec}, nil
}

// flock takes the lock, waiting a little for one that a fork of ours holds
// only until its exec.
func flock(ctx context.Context, f *os.File) error {
	ctx, cancel := context.WithTimeout(ctx, shimTime)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return reconcile.HostFault(fmt.Errorf("lock %s: %w", f.Name(), err), "Keep the state directory on a local file system.")
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is locked: %w", f.Name(), ErrRunning)
		case <-tick.C:
		}
	}
}

// held reports whether somebody has the lock.
func held(path string) (bool, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, reconcile.HostFault(fmt.Errorf("look at a lock: %w", err), "Mend the state directory.")
	}
	defer f.Close()
	err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if err == nil {
		// Said outright: a fork may hold a copy of the descriptor until its exec.
		_ = unix.Flock(int(f.Fd()), unix.LOCK_UN)
		return false, nil
	}
	return true, nil
}

func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxRecord))
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
