package systemd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"drydock/reconcile"
)

func missing(name string) error {
	return reconcile.HostFault(fmt.Errorf("there is no unit %s on this host", name),
		"Let provisioning install it (below /etc/systemd/system, or with its package) and run: systemctl daemon-reload.")
}

// lacks is what provisioning has yet to do for the unit, or nil.
func lacks(u unit, action string) error {
	switch u.load {
	case "loaded":
	case "not-found":
		return missing(u.name)
	case "masked":
		return reconcile.HostFault(fmt.Errorf("%s is masked, so systemd starts it for nobody", u.name),
			"Unmask it (systemctl unmask "+u.name+"), or name another unit.")
	default: // bad-setting, error
		return reconcile.HostFault(fmt.Errorf("%s cannot be loaded (%s): %s", u.name, u.load, strings.TrimSuffix(u.loadError, ".")),
			"Mend its unit file (systemd-analyze verify "+u.name+" says where), then run: systemctl daemon-reload.")
	}
	switch {
	case action == none:
		return nil
	case u.refusesStart:
		return reconcile.HostFault(fmt.Errorf("%s has RefuseManualStart=yes", u.name), "Name the unit that it is started by.")
	case action == reload && !u.reloads:
		return reconcile.HostFault(fmt.Errorf("%s cannot be reloaded: its unit has no ExecReload=", u.name),
			`Give it one, or declare action = "restart".`)
	}
	return nil
}

// verdict is nil if the job did what it was for, proven by what runs now, and
// otherwise says what happened and whose fault it is.
func verdict(j job, before, after unit) error {
	if err := lacks(after, none); err != nil {
		return err // taken away meanwhile
	}
	switch {
	case j.late != 0 || j.result == "timeout":
		return tooLate(j, before, after)
	case j.result == "done" || j.result == unseen:
		return arrived(j, before, after)
	case j.result == "dependency":
		return reconcile.HostFault(fmt.Errorf("%s was not started, because a unit that it needs failed", after.name), "")
	case j.result == "assert" || after.unasserted && after.down():
		return reconcile.HostFault(fmt.Errorf("%s was not started, because an assertion of its unit does not hold: %s", after.name, fail(after.asserts)),
			"Make it hold, or mend the unit; it is tried again.")
	case after.restarts > 0 || after.result != "" && after.result != "success":
		return failure(after)
	case j.result == "canceled":
		return reconcile.HostFault(fmt.Errorf("somebody else started or stopped %s at the same time, and systemd cancelled our %s for it; it is %s now", after.name, j.verb, after.state()),
			"It is tried again; keep other tools from that unit meanwhile.")
	case j.result == "failed" && j.verb == reload:
		return unreloaded(after)
	case j.result == "failed":
		return failure(after)
	}
	return reconcile.HostFault(fmt.Errorf("systemd did not %s %s: it calls the job %s, and the unit is %s", j.verb, after.name, j.result, after.state()),
		"See systemctl status "+after.name+"; it is tried again.")
}

// arrived judges a job that ended well: systemd calls it done also where a
// condition kept the unit from starting, or its process has ended since.
func arrived(j job, before, after unit) error {
	switch {
	case j.verb == reload:
		if after.running() && (after.reloaded == "" || after.reloaded == "success") && (j.result == "done" || after.invocation == before.invocation) {
			return nil
		}
		return unreloaded(after)
	case after.running() && !newer(j, before, after):
		return reconcile.HostFault(fmt.Errorf("systemd says that %s was started, but what runs (pid %d) is what ran before", after.name, after.pid),
			"It is tried again.")
	case after.running():
		return nil
	case after.unmet && after.down() && after.invocation == before.invocation:
		return reconcile.HostFault(fmt.Errorf("%s was not started, because a condition of its unit does not hold: %s", after.name, fail(after.conditions)),
			"Make it hold, or mend the unit; it is tried again.")
	case after.spent():
		return nil // it has run
	case after.down() && after.invocation == "" && after.began == 0 && after.kind != "":
		return reconcile.HostFault(fmt.Errorf("systemd calls %s started, but nothing of it runs, and it remembers no run; perhaps a condition of its unit does not hold", after.name),
			"See journalctl -u "+after.name+"; with D-Bus on the host (apt-get install dbus) it can be told what it was.")
	}
	return failure(after)
}

// unreloaded puts words to a reload that failed, while what ran runs on.
func unreloaded(u unit) error {
	what := u.detail()
	if len(u.reloading) > 0 {
		what = u.reloading[0].String() + "; it is " + what
	}
	return reconcile.ReleaseFault(fmt.Errorf("%s was not reloaded: %s", u.name, what), "")
}

// newer: the run is another one, and its process began after it was asked for.
func newer(j job, before, after unit) bool {
	if after.invocation == "" || after.invocation == before.invocation {
		return false
	}
	return after.pid == 0 || after.began >= j.asked
}

// tooLate judges a job that did not end in time.
func tooLate(j job, before, after unit) error {
	took := fmt.Sprintf("within %v", j.limit)
	switch {
	case j.verb == reload:
		return reconcile.ReleaseFault(fmt.Errorf("%s had not reloaded %s", after.name, took), "If it needs longer, raise timeout in the start block.")
	case after.invocation == before.invocation && after.active == "deactivating":
		return reconcile.HostFault(fmt.Errorf("what ran before of %s did not stop %s: it is %s (%s)", after.name, took, after.state(), after.stopLimit),
			"It is tried again; raise timeout in the start block above what stopping may take.")
	case after.restarts > 0:
		return failure(after)
	}
	never := ""
	if after.kind == "notify" || after.kind == "notify-reload" {
		never = ", and its process never said READY=1"
	}
	return reconcile.ReleaseFault(fmt.Errorf("%s was not ready %s: it is %s%s", after.name, took, after.state(), never),
		"If it needs longer, raise timeout in the start block.")
}

// exitNames are exit statuses that systemd itself gives a process that it
// could not set up.
var exitNames = map[int32]string{
	200: "CHDIR: its WorkingDirectory= is missing", 203: "EXEC: its program is missing or cannot be run",
	208: "STDIN", 209: "STDOUT", 214: "SETSCHEDULER", 216: "GROUP: its Group= is missing", 217: "USER: its User= is missing",
	218: "CAPABILITIES", 219: "CGROUP", 224: "PAM", 226: "NAMESPACE: a path of its unit is missing", 228: "SECCOMP",
	233: "RUNTIME_DIRECTORY", 238: "STATE_DIRECTORY", 239: "CACHE_DIRECTORY", 240: "LOGS_DIRECTORY", 243: "CREDENTIALS",
}

// provisions are those of exitNames that a release has nothing to do with.
var provisions = map[int32]bool{216: true, 217: true, 224: true, 243: true}

// failure puts words to a unit that does not run as it should.
func failure(u unit) error {
	what := u.why()
	switch u.result {
	case "", "success":
		if what = ended(u.code, u.status); what == "" || !u.down() {
			what = "it is " + u.state()
		}
		what += ", and nothing of it runs"
		if u.kind != "oneshot" {
			what += "; a unit that runs to its end and is done then has Type=oneshot"
		}
	case "resources":
		return reconcile.HostFault(fmt.Errorf("%s could not be started: systemd lacked something that its unit names, such as an EnvironmentFile= (Result resources)", u.name),
			"See systemctl status "+u.name+" for what it is, and let provisioning make it.")
	case "exec-condition":
		return reconcile.HostFault(fmt.Errorf("%s was not started: %s", u.name, what), "Make its ExecCondition= hold, or mend the unit.")
	case "timeout":
		what = "it was not ready in its own time"
		if u.startLimit != "" {
			what += " (" + u.startLimit + ")"
		}
	case "start-limit-hit":
		what = "it ended again and again until systemd gave up (Result start-limit-hit)"
		if how := ended(u.code, u.status); how != "" {
			what = how + ", again and again until systemd gave up (Result start-limit-hit)"
		}
	case "protocol":
		what = "it ended without having said that it is ready (Result protocol)"
	}
	err := fmt.Errorf("%s does not run: %s", u.name, what)
	if u.restarts > 0 && u.result != "start-limit-hit" {
		err = fmt.Errorf("%w; systemd started it again %s", err, times(u.restarts))
	}
	if u.result == "exit-code" && u.code == exited && provisions[u.status] {
		return reconcile.HostFault(err, "Let provisioning make what the unit names.")
	}
	return reconcile.ReleaseFault(err, "")
}

const (
	journalTime  = 3 * time.Second
	journalLines = 5
	journalBytes = 1024
)

// explained adds to a fault what only more questions can tell: which of the
// units it needs failed, and what its process said last.
func (d *Driver) explained(ctx context.Context, s reconcile.Step, j job, u unit, err error) error {
	var f *reconcile.Fault
	if !errors.As(err, &f) {
		return err
	}
	if j.result == "dependency" {
		return reconcile.HostFault(fmt.Errorf("%w%s", f.Err, d.culprits(ctx, u)), "Mend that unit; it is tried again.")
	}
	if f.Blame != reconcile.OfRelease {
		return err
	}
	if said := d.said(ctx, u, j.asked); said != "" {
		return reconcile.ReleaseFault(fmt.Errorf("%w; it said last:\n%s", f.Err, said), f.Hint)
	}
	return reconcile.ReleaseFault(f.Err, strings.TrimSpace(f.Hint+" See journalctl -u "+u.name+"."))
}

// shortLines and shortBytes bound what a unit said where that has to fit into
// one line, such as a status.
const (
	shortLines = 3
	shortBytes = 300
)

// lastWords end the detail of a unit that died by itself: what its process said
// last, in one line, and where the rest is.
func (d *Driver) lastWords(ctx context.Context, u unit) string {
	if u.load != "loaded" || u.running() || u.result == "" || u.result == "success" {
		return ""
	}
	where := "; see journalctl -u " + u.name
	var lines []string
	for line := range strings.Lines(d.said(ctx, u, u.began)) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	text := strings.Join(lines[max(0, len(lines)-shortLines):], " | ")
	if text == "" {
		return where
	}
	if extra := len(text) - shortBytes; extra > 0 {
		text = "…" + strings.ToValidUTF8(text[extra:], "")
	}
	return "; it said last: " + text + where
}

// culprits are the units that u needs and that are not there.
func (d *Driver) culprits(ctx context.Context, u unit) string {
	var names []string
	for _, n := range u.needs {
		if dep, err := d.bus.unit(ctx, n); err == nil && !dep.running() && (dep.active == "failed" || dep.load != "loaded") {
			names = append(names, n+" ("+dep.detail()+")")
		}
	}
	if len(names) == 0 {
		return ""
	}
	return ": " + strings.Join(names, ", ")
}

// said are the last lines that a run of a unit, asked for at a moment of the
// kernel's monotonic clock, wrote to the journal, as far as they can be read.
// Of a process that ended at once the journal often knows the unit only, and
// not which run of it that was.
func (d *Driver) said(ctx context.Context, u unit, asked uint64) string {
	if u.invocation == "" || len(d.journal) == 0 {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, journalTime)
	defer cancel()
	read := func(args ...string) string {
		cmd := exec.CommandContext(ctx, d.journal[0], append(d.journal[1:len(d.journal):len(d.journal)], args...)...)
		cmd.WaitDelay = time.Second
		out := &tail{}
		cmd.Stdout = out
		_ = cmd.Run()
		return strings.TrimSpace(strings.ToValidUTF8(string(out.bytes), "?"))
	}
	read("--sync") // what was just said may be on its way
	last := []string{"--quiet", "--no-pager", "--output=cat", fmt.Sprintf("--lines=%d", journalLines)}
	text := read(append(last, "_SYSTEMD_INVOCATION_ID="+u.invocation)...)
	if text == "" {
		since := time.Now().Add(-time.Duration(monotonic()-asked) * time.Microsecond).UnixMicro()
		text = read(append(last, fmt.Sprintf("--since=@%d.%06d", since/1e6, since%1e6), "_SYSTEMD_UNIT="+u.name)...)
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r == 0x7f {
			return -1
		}
		return r
	}, text)
}

// tail keeps the end of what is written to it.
type tail struct{ bytes []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.bytes = append(t.bytes, p...)
	if extra := len(t.bytes) - journalBytes; extra > 0 {
		t.bytes = bytes.Clone(t.bytes[extra:])
	}
	return len(p), nil
}
