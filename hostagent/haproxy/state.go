package haproxy

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"unicode"
)

// row is a server as `show servers state` has it. Unlike the status of `show
// stat` it tells what was set from what a health check found: a server that is
// drained and down is just DOWN there.
type row struct {
	BackendID, Backend string
	ID, Name           string
	Addr               string // "-" or empty where HAProxy has none
	Port               int
	Op                 operation
	Admin              admin
	Weight, Configured int // now, and as in haproxy.cfg
}

// operation is what HAProxy's health check makes of a server.
type operation int

const (
	stopped  operation = iota // down
	starting                  // up, and slowly given more
	running                   // up, or without a check
	stopping                  // it asked for no new sessions (404 with disable-on-404)
)

// admin is what was set, a mask.
type admin int

const (
	maintained   admin = 0x01 // by a person, or "disabled" in haproxy.cfg
	maintainedBy admin = 0x02 // with the server that it tracks
	asConfigured admin = 0x04 // maintenance by haproxy.cfg; it stays after the maintenance
	drained      admin = 0x08 // as we do
	drainedBy    admin = 0x10 // with the server that it tracks
	unresolved   admin = 0x20 // its address cannot be resolved: found, not set

	maintenance = maintained | maintainedBy
	out         = maintenance | drained | drainedBy
	notOurs     = maintenance | drainedBy
)

func (a admin) is(b admin) bool { return a&b != 0 }

// out reports whether somebody has taken the server out.
func (a admin) out() bool { return a.is(out) }

// foreign reports whether it is out in a way that is not ours.
func (a admin) foreign() bool { return a.is(notOurs) }

// usable reports whether HAProxy's own check lets new sessions come.
func (r row) usable() bool {
	return (r.Op == starting || r.Op == running) && !r.Admin.is(unresolved)
}

// weightless reports whether somebody has taken the server out by its weight.
func (r row) weightless() bool { return r.Weight == 0 && r.Configured != 0 }

// says is the server's state, in words.
func (r row) says() string {
	switch {
	case r.Admin.is(maintained) && r.Admin.is(asConfigured):
		return "is in maintenance, as haproxy.cfg has it"
	case r.Admin.is(maintained):
		return "is in maintenance"
	case r.Admin.is(maintainedBy):
		return "is in maintenance with the server that it tracks"
	case r.Admin.is(drained):
		return "drains"
	case r.Admin.is(drainedBy):
		return "drains with the server that it tracks"
	case r.weightless():
		return "has been given the weight 0"
	case r.Admin.is(unresolved):
		return "is in rotation, but HAProxy cannot resolve its address"
	case !r.usable():
		return "is in rotation, but down by HAProxy's own check"
	}
	return "is in rotation"
}

// The columns that are read. HAProxy has more, and adds some at the end.
var columns = [...]string{"be_id", "be_name", "srv_id", "srv_name", "srv_addr", "srv_op_state", "srv_admin_state", "srv_uweight", "srv_iweight", "srv_port"}

// parseState reads `show servers state`: a version, a line of names, a line
// for each server.
func parseState(answer string) ([]row, error) {
	lines := strings.Split(strings.TrimRight(answer, "\n"), "\n")
	if strings.TrimSpace(lines[0]) != "1" {
		return nil, fmt.Errorf("it begins with %s, not with the format's version 1", excerpt(answer))
	}
	if len(lines) < 2 || !strings.HasPrefix(lines[1], "# ") {
		return nil, errors.New("it names no columns")
	}
	names := strings.Fields(lines[1][2:])
	at := map[string]int{}
	for i, name := range names {
		at[name] = i
	}
	for _, name := range columns {
		if _, ok := at[name]; !ok {
			return nil, fmt.Errorf("it has no column %s", name)
		}
	}
	var rows []row
	for _, line := range lines[2:] {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		if len(fields) < len(names) {
			return nil, fmt.Errorf("a line has %d columns instead of %d: %s", len(fields), len(names), excerpt(line))
		}
		r := row{BackendID: fields[at["be_id"]], Backend: fields[at["be_name"]], ID: fields[at["srv_id"]], Name: fields[at["srv_name"]], Addr: fields[at["srv_addr"]]}
		numbers := map[string]*int{"srv_port": &r.Port, "srv_uweight": &r.Weight, "srv_iweight": &r.Configured,
			"srv_op_state": (*int)(&r.Op), "srv_admin_state": (*int)(&r.Admin)}
		for name, into := range numbers {
			n, err := strconv.Atoi(fields[at[name]])
			if err != nil || n < 0 {
				return nil, fmt.Errorf("%s is %s, not a number", name, excerpt(fields[at[name]]))
			}
			*into = n
		}
		for _, id := range []string{r.BackendID, r.ID} {
			if n, err := strconv.Atoi(id); err != nil || n < 0 {
				return nil, fmt.Errorf("an id is %s, not a number", excerpt(id))
			}
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// where is the server's address, if it has one on the network.
func (r row) where() (netip.AddrPort, bool) {
	ip, err := netip.ParseAddr(r.Addr)
	if err != nil || r.Port <= 0 || r.Port > 65535 {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(ip.Unmap(), uint16(r.Port)), true
}

// load is a server as `show stat` has it.
type load struct {
	backend, server  string
	sessions, queued int
	status           string // "UP", "DOWN 1/2", "no check"
	check            string // what the last health check found: "L7STS 503", "" where there was none
}

// parseStat reads `show stat`: CSV, whose first line names the columns.
func parseStat(answer string) ([]load, error) {
	rest, ok := strings.CutPrefix(answer, "# ")
	if !ok {
		return nil, fmt.Errorf("it begins with %s, not with the names of columns", excerpt(answer))
	}
	r := csv.NewReader(strings.NewReader(rest))
	r.FieldsPerRecord, r.LazyQuotes = -1, true
	names, err := r.Read()
	if err != nil {
		return nil, err
	}
	at := map[string]int{}
	for i, name := range names {
		at[name] = i
	}
	for _, name := range []string{"pxname", "svname", "scur", "qcur", "status"} {
		if _, ok := at[name]; !ok {
			return nil, fmt.Errorf("it has no column %s", name)
		}
	}
	var loads []load
	for {
		fields, err := r.Read()
		if errors.Is(err, io.EOF) {
			return loads, nil
		}
		if err != nil {
			return nil, err
		}
		field := func(name string) string {
			if i, ok := at[name]; ok && i < len(fields) {
				return fields[i]
			}
			return ""
		}
		l := load{backend: field("pxname"), server: field("svname"), status: plain(field("status"))}
		for name, into := range map[string]*int{"scur": &l.sessions, "qcur": &l.queued} {
			if *into, err = strconv.Atoi(field(name)); err != nil || *into < 0 {
				return nil, fmt.Errorf("%s of %s is %s, not a number", name, excerpt(l.backend+"/"+l.server), excerpt(field(name)))
			}
		}
		said := []string{field("check_status"), field("check_code"), field("last_chk")}
		l.check = plain(strings.Join(said, " "))
		loads = append(loads, l)
	}
}

// plain is what HAProxy says of a server, for people: on one line, capped, and
// without what a terminal would obey.
func plain(text string) string {
	const most = 200
	text = strings.Join(strings.Fields(strings.ToValidUTF8(text, "�")), " ")
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return '�'
		}
		return r
	}, text)
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}
