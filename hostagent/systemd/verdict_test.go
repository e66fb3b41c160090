package systemd

import (
	"strings"
	"testing"

	"drydock/reconcile"
)

// TestNewProcessIsProven: systemd's word alone is not enough.
func TestNewProcessIsProven(t *testing.T) {
	before := unit{name: "web.service", load: "loaded", active: "active", sub: "running", kind: "simple", result: "success", invocation: "aa", pid: 10, began: 500}
	j := job{verb: restart, result: "done", asked: 1000}
	after := func(change func(*unit)) unit {
		u := before
		u.invocation, u.pid, u.began = "bb", 11, 1001
		change(&u)
		return u
	}
	for _, c := range []struct {
		name   string
		after  unit
		proven bool
	}{
		{"a new process", after(func(*unit) {}), true},
		{"no process, as a target has none", after(func(u *unit) { u.pid, u.began = 0, 0 }), true},
		{"the same run", after(func(u *unit) { u.invocation = "aa" }), false},
		{"a process from before it was asked for", after(func(u *unit) { u.began = 999 }), false},
		{"no run at all", after(func(u *unit) { u.invocation = "" }), false},
		{"what ran before", before, false},
	} {
		for _, result := range []string{"done", unseen} {
			j.result = result
			err := verdict(j, before, c.after)
			if (err == nil) != c.proven || err != nil && (reconcile.BlameOf(err) != reconcile.OfHost || !strings.Contains(err.Error(), "what ran before")) {
				t.Errorf("%s, %s: %v", c.name, result, err)
			}
		}
	}
}

// TestJobResults: the words that systemd has for the end of a job, and that no
// unit of a test brings about at will.
func TestJobResults(t *testing.T) {
	off := unit{name: "web.service", load: "loaded", active: "inactive", sub: "dead", kind: "simple", result: "success"}
	for result, says := range map[string]string{
		"canceled": "somebody else", "skipped": "skipped", "invalid": "invalid", "unsupported": "unsupported",
		"collected": "collected", "once": "once", "a later word": "a later word",
	} {
		err := verdict(job{verb: restart, result: result}, off, off)
		if reconcile.BlameOf(err) != reconcile.OfHost || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "tried again") {
			t.Errorf("%s: it blames the %v: %v", result, reconcile.BlameOf(err), err)
		}
	}
	crashing := off
	crashing.active, crashing.sub, crashing.result, crashing.restarts, crashing.code, crashing.status = "activating", "auto-restart", "exit-code", 3, exited, 3
	for _, result := range []string{"canceled", "failed", "done", unseen, "timeout"} {
		err := verdict(job{verb: restart, result: result}, off, crashing)
		if reconcile.BlameOf(err) != reconcile.OfRelease || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "again 3 times") {
			t.Errorf("%s of one that crashes: it blames the %v: %v", result, reconcile.BlameOf(err), err)
		}
	}
	limit := crashing
	limit.active, limit.sub, limit.result = "failed", "failed", "start-limit-hit"
	if err := verdict(job{verb: restart, result: "failed"}, off, limit); reconcile.BlameOf(err) != reconcile.OfRelease || !strings.Contains(err.Error(), "systemd gave up") {
		t.Errorf("over its limit: %v", err)
	}
	masked := off
	masked.load = "masked"
	if err := verdict(job{verb: restart, result: "done"}, off, masked); reconcile.BlameOf(err) != reconcile.OfHost || !strings.Contains(err.Error(), "masked") {
		t.Errorf("masked meanwhile: %v", err)
	}
}
