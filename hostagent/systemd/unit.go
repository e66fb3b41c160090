package systemd

import (
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

// unit is how systemd sees a unit at one moment. What only services have is
// zero for others.
type unit struct {
	name                string
	load, loadError     string
	active, sub, kind   string // kind is Type=: simple, notify, oneshot, …
	since               time.Time
	invocation          string // of the run now, or the last one; hexadecimal
	job                 uint32 // that is queued or runs; 0 if none
	conditions, asserts []demand
	unmet, unasserted   bool // a condition or an assertion did not hold at the last start
	stale               bool // changed on disk since it was read
	refusesStart        bool // by its own definition
	reloads, remains    bool // ExecReload=, RemainAfterExit=
	result, reloaded    string
	pid                 uint32
	began               uint64    // when the main process did, µs of the kernel's monotonic clock; 0 if there was none
	code, status        int32     // of the main process when it ended: CLD_… and its exit status or signal
	controls            []control // of the start
	reloading           []control
	restarts            int
	startLimit          string // "TimeoutStartSec is 1m30s", or ""
	stopLimit           string
	needs               []string // units that it does not run without
}

// demand is a Condition…= or Assert…= of a unit.
type demand struct {
	text  string // "ConditionPathExists=/etc/web.conf"
	holds bool
}

// control is a command beside the main one, such as ExecStartPre=, that failed.
type control struct {
	text   string // "ExecStartPre=/usr/bin/web-check"
	code   int32
	status int32
}

func (c control) String() string { return c.text + " ended with " + exit(c.code, c.status) }

// running: it does what it is there for.
func (u unit) running() bool {
	return u.active == "active" || u.active == "reloading" || u.active == "refreshing"
}

// down: nothing of it is left.
func (u unit) down() bool { return u.active == "inactive" || u.active == "failed" }

// up: something of it is there, or will be, so that a removal has to stop it.
func (u unit) up() bool { return u.active != "" && !u.down() }

// spent: it ran to its end, as a oneshot does, and keeps nothing running, so
// that it looks as if it had never run.
func (u unit) spent() bool {
	return u.kind == "oneshot" && !u.remains && u.down() && u.result == "success"
}

// state is what systemctl would say: "active (running)".
func (u unit) state() string {
	if u.sub == "" || u.sub == u.active {
		return u.active
	}
	return u.active + " (" + u.sub + ")"
}

// detail is the unit in one line, for people.
func (u unit) detail() string {
	var b strings.Builder
	switch {
	case u.load == "not-found" && u.down():
		return "there is no unit " + u.name
	case u.load == "masked" && u.down():
		return u.name + " is masked"
	}
	b.WriteString(u.state())
	if u.running() {
		if u.pid != 0 {
			fmt.Fprintf(&b, ", pid %d", u.pid)
		}
		if !u.since.IsZero() {
			fmt.Fprintf(&b, " since %s", u.since.UTC().Format(time.RFC3339))
		}
	} else if u.result != "" && u.result != "success" {
		fmt.Fprintf(&b, ": %s", u.why())
	}
	if u.restarts > 0 {
		fmt.Fprintf(&b, ", started again by systemd %s", times(u.restarts))
	}
	return b.String()
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// why is the result of its last run, with what ended it.
func (u unit) why() string {
	ended := ended(u.code, u.status)
	if ended == "" && len(u.controls) > 0 {
		ended = u.controls[0].String()
	}
	if ended == "" {
		return "Result " + u.result
	}
	return ended + " (Result " + u.result + ")"
}

// CLD_… of waitid(2).
const (
	exited = 1
	killed = 2
	dumped = 3
)

func ended(code, status int32) string {
	if code == exited && status == 0 {
		return "its main process ended with exit status 0"
	}
	if how := exit(code, status); how != "" {
		return "its main process ended with " + how
	}
	return ""
}

func exit(code, status int32) string {
	switch code {
	case exited:
		if name := exitNames[status]; name != "" {
			return fmt.Sprintf("exit status %d (%s)", status, name)
		}
		return fmt.Sprintf("exit status %d", status)
	case killed:
		return fmt.Sprintf("signal %d", status)
	case dumped:
		return fmt.Sprintf("signal %d and a core dump", status)
	}
	return ""
}

// properties reads what D-Bus returned. What is missing or of another type is
// left zero: systemd's versions differ, and a unit's type decides what it has.
type properties map[string]any

func get[T any](p properties, name string) T {
	v, _ := p[name].(T)
	return v
}

// at is the n-th member of a structure.
func at[T any](v any, n int) T {
	list, _ := v.([]any)
	var zero T
	if n >= len(list) {
		return zero
	}
	member, _ := list[n].(T)
	return member
}

func parse(name string, p properties) unit {
	u := unit{
		name: name,
		load: get[string](p, "LoadState"), loadError: at[string](p["LoadError"], 1),
		active: get[string](p, "ActiveState"), sub: get[string](p, "SubState"), kind: get[string](p, "Type"),
		invocation: hex.EncodeToString(get[[]byte](p, "InvocationID")),
		job:        at[uint32](p["Job"], 0),
		stale:      get[bool](p, "NeedDaemonReload"),
		reloads:    get[bool](p, "CanReload"), remains: get[bool](p, "RemainAfterExit"),
		result: get[string](p, "Result"), reloaded: get[string](p, "ReloadResult"),
		pid:   get[uint32](p, "MainPID"),
		began: get[uint64](p, "ExecMainStartTimestampMonotonic"),
		code:  get[int32](p, "ExecMainCode"), status: get[int32](p, "ExecMainStatus"),
		restarts:   int(get[uint32](p, "NRestarts")),
		startLimit: limit(p, "TimeoutStart"), stopLimit: limit(p, "TimeoutStop"),
		conditions: demands(p, "Condition"), asserts: demands(p, "Assert"),
	}
	u.refusesStart = get[bool](p, "RefuseManualStart")
	u.unmet = get[uint64](p, "ConditionTimestampMonotonic") != 0 && !get[bool](p, "ConditionResult")
	u.unasserted = get[uint64](p, "AssertTimestampMonotonic") != 0 && !get[bool](p, "AssertResult")
	if usec := get[uint64](p, "ActiveEnterTimestamp"); usec > 0 {
		u.since = time.UnixMicro(int64(usec))
	}
	u.controls = failed(p, "ExecCondition", "ExecStartPre", "ExecStartPost")
	u.reloading = failed(p, "ExecReload")
	for _, list := range []string{"Requires", "Requisite", "BindsTo"} {
		u.needs = append(u.needs, get[[]string](p, list)...)
	}
	if u.invocation == strings.Repeat("0", len(u.invocation)) {
		u.invocation = ""
	}
	return u
}

// failed are the commands of these lists that ended badly when they last ran.
func failed(p properties, lists ...string) (all []control) {
	for _, list := range lists {
		commands, _ := p[list].([][]any)
		for _, c := range commands {
			if f := (control{list + "=" + at[string](c, 0), at[int32](c, 8), at[int32](c, 9)}); f.code > exited || f.status != 0 {
				all = append(all, f)
			}
		}
	}
	return all
}

func limit(p properties, name string) string {
	usec := get[uint64](p, name+"USec")
	if usec == 0 {
		return ""
	}
	if usec > uint64(time.Duration(1<<63-1)/time.Microsecond) {
		return name + "Sec is infinity"
	}
	return fmt.Sprintf("%sSec is %v", name, time.Duration(usec)*time.Microsecond)
}

func demands(p properties, prefix string) (all []demand) {
	list, _ := p[prefix+"s"].([][]any)
	for _, c := range list {
		not := ""
		if at[bool](c, 2) {
			not = "!"
		}
		all = append(all, demand{at[string](c, 0) + "=" + not + at[string](c, 3), at[int32](c, 4) >= 0})
	}
	return all
}

// fail are those that did not hold, in one line.
func fail(all []demand) string {
	var texts []string
	for _, d := range all {
		if !d.holds {
			texts = append(texts, d.text)
		}
	}
	return strings.Join(texts, ", ")
}
