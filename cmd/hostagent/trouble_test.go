package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"drydock/reconcile"
)

// trouble is one thing that goes wrong on a real host while a release goes out,
// and what its operator is told. Every row begins with all services converged
// and ends so.
type trouble struct {
	name, service string

	edit    []string                          // what is declared otherwise, in pairs: this text, that text
	harm    func(h *harbour) (mend func())    // before the push; mend may be nil
	release func(h *harbour, v string) string // what is pushed, where it is no good release: its version

	// meanwhile is what happens once it is pushed.
	meanwhile func(h *harbour)

	state reconcile.State
	gate  string
	says  []string

	out    bool // the host is out of rotation meanwhile; else what ran before serves
	silent bool // HAProxy itself cannot serve, so the service is asked behind its back
	mute   bool // nor can what runs, for want of its database: it is left in rotation
	person bool // only a person can go on: mend, then push
	then   func(h *harbour)
}

// TestTrouble is bad input, as the operator of one host meets it: the load
// balancer, units, the database, packages and builds go wrong one after the
// other, on a host with systemd, HAProxy, nginx and PostgreSQL. Each time
// status says what happened, where that is declared and what to do next; what
// ran before serves on, or the host is out of rotation and says why; and once
// the trouble is over the host goes on by itself.
//
// What needs no whole host is shown where the driver is tested: a connection
// that is cut during a commit (hostagent/sql, TestConnectionCutDuringCommit), a
// lock that somebody takes between our drain and dpkg (hostagent/apt,
// TestLocked), a unit that systemd gave up starting (hostagent/systemd,
// TestManyReleasesInARow and TestJobResults).
func TestTrouble(t *testing.T) {
	t.Parallel()
	h := newHarbour(t)
	for _, group := range []struct {
		name string
		rows []trouble
	}{
		{"haproxy", haproxyTrouble()}, {"unit", unitTrouble()}, {"database", databaseTrouble()},
		{"stateful", statefulTrouble()}, {"apt", aptTrouble()}, {"git", gitTrouble()},
	} {
		t.Run(group.name, func(t *testing.T) {
			for _, row := range group.rows {
				t.Run(row.name, func(t *testing.T) { h.meet(t, row) })
			}
		})
	}
}

// harbour is a yard of one host, with a fourth service: tools, a Debian package.
type harbour struct {
	*yard
	zone *zone
	n    int // of versions
	runs map[string]string
	apt  packageSource
	held [2]*os.File // see hold
}

// hurry makes the agent's waits as many times shorter.
const hurry = "50"

func newHarbour(t *testing.T) *harbour {
	y := newYard(t, "harbour")
	y.quick = "  rollout {\n    min_healthy_time = \"20ms\"\n    healthy_deadline = \"20s\"\n  }\n"
	y.edit, y.ups = map[string]func(string) string{}, map[string]string{}
	h := &harbour{yard: y, zone: y.zones[0], runs: map[string]string{}}
	h.zone.host.WriteFile(t, "/etc/systemd/system/hostagent.service.d/hurry.conf", "[Service]\nEnvironment="+inHurry+"="+hurry+"\n", 0o644)
	h.holder()
	h.aptSource()
	h.zone.host.Must(t, "systemctl", "daemon-reload")
	first := map[string]bumped{}
	for _, s := range []string{"web", "site", "orders", "tools"} {
		first[s] = h.next(s)
		h.runs[s] = first[s].version
		h.declared(s, nil)
	}
	h.declare(h.zone, first)
	h.start()
	h.await(h.zone, "the first release", runs(first))
	return h
}

// next is a good release.
func (h *harbour) next(service string) bumped {
	h.n++
	v := fmt.Sprintf("1.0.%d", h.n)
	if service == "tools" {
		h.apt.publish(v)
		return bumped{version: v}
	}
	return h.make(service, v)
}

// declared sets how a service is declared from now on.
func (h *harbour) declared(service string, edit []string) {
	h.edit[service] = func(hcl string) string {
		if service == "tools" {
			hcl = regexp.MustCompile(`(?s)  digest.*`).ReplaceAllString(hcl, toolsDeclaration) + h.rollout() + "}\n"
		}
		hcl = strings.NewReplacer(
			"    server  = host.name\n", "    server  = host.name\n    timeout = \"1s\"\n",
			"    compatible = true\n", "    compatible = true\n    timeout    = \"20s\"\n",
		).Replace(hcl)
		for i := 0; i < len(edit); i += 2 {
			if !strings.Contains(hcl, edit[i]) {
				h.t.Fatalf("%q is not declared:\n%s", edit[i], hcl)
			}
			hcl = strings.ReplaceAll(hcl, edit[i], edit[i+1])
		}
		return hcl
	}
}

func (h *harbour) push(service string, r bumped) {
	h.declare(h.zone, map[string]bumped{service: r})
	if err := h.zone.client().Sync(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
}

// meet lets one row happen.
func (h *harbour) meet(t *testing.T, row trouble) {
	outer := h.t
	h.t = t
	defer func() { h.t = outer }()
	old := h.runs[row.service]
	h.declared(row.service, row.edit)
	var mend func()
	if row.harm != nil {
		if undo := row.harm(h); undo != nil {
			mend = sync.OnceFunc(undo)
			t.Cleanup(mend) // for the rows after it, should this one fail
		}
	}
	var r bumped
	if row.release != nil {
		h.n++
		v := row.release(h, fmt.Sprintf("1.0.%d", h.n))
		r = h.release[row.service+" "+v]
		r.version = v
	} else {
		r = h.next(row.service)
	}
	h.push(row.service, r)
	if row.meanwhile != nil {
		row.meanwhile(h)
	}
	st := h.see(row.service, fmt.Sprintf("%v %s %q", row.state, row.gate, row.says), func(s reconcile.ServiceStatus) bool {
		if row.state == reconcile.Converged && (s.Running == nil || s.Running.Version != r.version) {
			return false
		}
		return s.State == row.state && s.Gate == row.gate && !slices.ContainsFunc(row.says, func(w string) bool { return !strings.Contains(s.Reason, w) })
	})
	h.aloud(st)
	switch {
	case row.state == reconcile.Converged:
		old = r.version
		h.serves(row, old)
	case row.out:
		if !h.outOf(row.service) {
			t.Error("it is in rotation")
		}
	case row.mute:
		if h.outOf(row.service) {
			t.Error("it is out of rotation")
		}
	default:
		if st.Running == nil || st.Running.Version != old {
			t.Errorf("%+v runs, not %s", st.Running, old)
		}
		h.serves(row, old)
	}
	if row.then != nil {
		row.then(h)
	}
	if mend != nil {
		mend()
	}
	if row.person {
		h.declared(row.service, nil)
		r = h.next(row.service)
		h.push(row.service, r)
	}
	h.see(row.service, "converged at "+r.version, func(s reconcile.ServiceStatus) bool {
		return s.State == reconcile.Converged && s.Running != nil && s.Running.Version == r.version && s.Wanted.Version == r.version
	})
	h.runs[row.service] = r.version
	h.serves(trouble{service: row.service}, r.version)
}

// aloud prints what a person reads, and wants it to name the line and the commit.
func (h *harbour) aloud(s reconcile.ServiceStatus) {
	var said bytes.Buffer
	printStatus(&said, reconcile.HostStatus{Host: h.zone.name, Environment: h.zone.name, Agent: true, Services: []reconcile.ServiceStatus{s}}, time.Now(), true)
	_, line, _ := strings.Cut(said.String(), "STATE\n")
	h.t.Log("\n" + line)
	if lines := strings.Split(line, ". "); len(slices.Compact(slices.Sorted(slices.Values(lines)))) < len(lines) {
		h.t.Error("it says something twice")
	}
	if s.State != reconcile.Converged && !regexp.MustCompile(h.zone.name+"/"+s.Name+`\.hcl:\d+@[0-9a-f]{7}`).MatchString(line) {
		h.t.Error("it does not say where that is declared")
	}
}

// see returns when status says so of a service. It asks for nothing but the
// status: what comes about does so by itself.
func (h *harbour) see(service, what string, so func(reconcile.ServiceStatus) bool) reconcile.ServiceStatus {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	seen := []string{}
	for {
		var st reconcile.HostStatus
		if err := h.zone.client().Status(ctx, &st); err == nil {
			for _, s := range st.Services {
				if s.Name != service {
					continue
				}
				if so(s) {
					return s
				}
				if line := fmt.Sprintf("%v %s %s: %s", s.State, s.Gate, s.Step, s.Reason); len(seen) == 0 || seen[len(seen)-1] != line {
					seen = append(seen, line)
				}
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			log, _ := h.zone.host.Run(context.Background(), "journalctl", "-u", "hostagent", "-n", "12", "--no-pager", "-o", "cat")
			h.t.Fatalf("%s: %s did not come about, but\n%s\n%s", service, what, strings.Join(seen[max(0, len(seen)-15):], "\n"), log)
		}
	}
}

// serves asks as a user does.
func (h *harbour) serves(row trouble, version string) {
	h.t.Helper()
	url := map[string]string{"web": h.haproxy.URL("web"), "orders": h.haproxy.URL("orders"), "site": "http://" + h.nginx.Addr()}[row.service]
	if row.silent {
		url = "http://" + h.zone.address + ":" + map[string]string{"web": webPort, "orders": ordersPort}[row.service]
	}
	if row.service == "tools" {
		if got := h.zone.host.Must(h.t, "cat", "/opt/tools/version"); got != version {
			h.t.Errorf("%s is installed, not %s", got, version)
		}
		return
	}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	if got, err := get(client, url); err != nil || got != version {
		h.t.Errorf("%q answers, %v; want %s", got, err, version)
	}
}

func (h *harbour) outOf(service string) bool {
	return h.haproxy.Servers(h.t)[service+"/"+h.zone.name].Admin != 0
}

// log is what the agent has said.
func (h *harbour) log() string {
	return h.zone.host.Must(h.t, "journalctl", "-u", "hostagent", "--no-pager", "-o", "cat")
}

// holder makes /yard/lb/hold: a command that says that it is there, and ends
// when it is let go. It runs as whoever runs it.
func (h *harbour) holder() {
	for i, name := range []string{"lb/here", "lb/go"} {
		must(h.t, exec.Command("mkfifo", "-m", "666", h.path(name)).Run())
		f, err := os.OpenFile(h.path(name), os.O_RDWR, 0)
		must(h.t, err)
		h.t.Cleanup(func() { f.Close() })
		h.held[i] = f
	}
	must(h.t, os.WriteFile(h.path("lb/hold"), []byte("#!/bin/sh\necho here >/yard/lb/here; read a </yard/lb/go; test \"$a\" = on\n"), 0o755))
}

// holds waits until the command is there.
func (h *harbour) holds() {
	h.t.Helper()
	must(h.t, h.held[0].SetReadDeadline(time.Now().Add(patience)))
	if _, err := io.ReadFull(h.held[0], make([]byte, len("here\n"))); err != nil {
		h.t.Fatalf("nothing is held: %v", err)
	}
}

// letGo ends the command, well with "on", else not.
func (h *harbour) letGo(how string) {
	_, err := io.WriteString(h.held[1], how+"\n")
	must(h.t, err)
}
