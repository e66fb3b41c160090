package haproxy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"drydock/reconcile"
)

// place is one server of one backend of one HAProxy.
type place struct {
	address
	backend, server string
	timeout         time.Duration
}

// String is the name that the runtime API's commands take.
func (p place) String() string { return p.backend + "/" + p.server }

// view is all that one look shows.
type view struct {
	row
	load
	old int // connections to the server that workers hold which a reload has left behind
}

// left is what keeps the service from being touched.
func (v view) left() int { return v.sessions + v.queued + v.old }

// look asks for state and load of the server. The two are two commands: should
// a reload come between them, the second row is another server's, and the look
// is made again.
func (p place) look(ctx context.Context) (view, error) {
	for range 3 {
		r, err := p.find(ctx)
		if err != nil {
			return view{}, err
		}
		answer, err := p.ask(ctx, "show stat "+r.BackendID+" 4 "+r.ID)
		if err != nil {
			return view{}, err
		}
		loads, err := parseStat(answer)
		if err != nil {
			return view{}, p.unintelligible("show stat", err)
		}
		for _, l := range loads {
			if l.backend == p.backend && l.server == p.server {
				return view{row: r, load: l, old: p.leftBehind(ctx, r)}, nil
			}
		}
	}
	return view{}, p.unintelligible("show stat", fmt.Errorf("it shows no line for %s", p))
}

// find asks for the state of the server.
func (p place) find(ctx context.Context) (row, error) {
	answer, err := p.ask(ctx, "show servers state "+p.backend)
	if err != nil {
		return row{}, err
	}
	if strings.HasPrefix(answer, "Can't find backend") {
		return row{}, p.noBackend(ctx)
	}
	rows, err := parseState(answer)
	if err != nil {
		return row{}, p.unintelligible("show servers state", err)
	}
	var names []string
	for _, r := range rows {
		if r.Backend == p.backend && r.Name == p.server {
			return r, nil
		}
		names = append(names, r.Name)
	}
	return row{}, reconcile.HostFault(
		fmt.Errorf("server %q is %w to backend %q of HAProxy at %s, which has %s", p.server, errUnknown, p.backend, p.url, list(names)),
		"Write the server's name as in haproxy.cfg.")
}

func (p place) noBackend(ctx context.Context) error {
	answer, err := p.ask(ctx, "show backend")
	if err != nil {
		return err
	}
	var names []string
	for line := range strings.Lines(answer) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			names = append(names, line)
		}
	}
	return reconcile.HostFault(
		fmt.Errorf("backend %q is %w to HAProxy at %s, which has %s", p.backend, errUnknown, p.url, list(names)),
		"Write the backend's name as in haproxy.cfg.")
}

// list is names for people, the first twenty of them; what cannot be a name is
// quoted.
func list(names []string) string {
	const most = 20
	slices.Sort(names)
	for i, name := range names[:min(len(names), most)] {
		if !isName(name) {
			names[i] = excerpt(name)
		}
	}
	switch n := len(names); {
	case n == 0:
		return "none"
	case n > most:
		return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d more", n-most)
	}
	return strings.Join(names, ", ")
}

// set sets the server to drain or ready.
func (p place) set(ctx context.Context, state string) error {
	answer, err := p.ask(ctx, "set server "+p.String()+" state "+state)
	switch answer = strings.TrimSpace(answer); {
	case err != nil:
		return err
	case answer == "":
		return nil
	case strings.HasPrefix(answer, "Permission denied"):
		return p.notAdmin("grants no level that may do so")
	case strings.HasPrefix(answer, "No such"):
		return reconcile.HostFault(fmt.Errorf("%s is %w to HAProxy at %s: %s", p, errUnknown, p.url, excerpt(answer)),
			"Write the names of backend and server as in haproxy.cfg.")
	}
	return reconcile.HostFault(fmt.Errorf("HAProxy at %s %w to set %s to %s: %s", p.url, errRefuses, p, state, excerpt(answer)),
		"See haproxy.cfg for what is special about this server.")
}

func (p place) notAdmin(what string) error {
	return reconcile.HostFault(fmt.Errorf("HAProxy at %s %w to drain and undrain %s: this address %s", p.url, errRefuses, p, what),
		"Add `level admin` to that `stats socket` line of haproxy.cfg, and reload HAProxy.")
}

func (p place) unintelligible(command string, err error) error {
	return reconcile.HostFault(fmt.Errorf("the answer of HAProxy at %s to `%s` makes no sense: %w", p.url, command, err),
		"See that the address is the `stats socket` of a worker, and not of the master or of something else.")
}

// worker is the process that answers at the address.
func (p place) worker(ctx context.Context) (int, error) {
	answer, err := p.ask(ctx, "show info")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(answer) {
		if v, ok := strings.CutPrefix(line, "Pid:"); ok {
			return strconv.Atoi(strings.TrimSpace(v))
		}
	}
	return 0, errors.New("it does not say its process id")
}

// excerpt of an answer, for an error: its first line, capped.
func excerpt(answer string) string {
	const most = 200
	line, _, _ := strings.Cut(strings.ToValidUTF8(answer, "�"), "\n")
	if len(line) > most {
		line = strings.ToValidUTF8(line[:most], "") + "…"
	}
	return strconv.Quote(line)
}
