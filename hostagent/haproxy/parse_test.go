package haproxy

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// printState is what parseState reads, with the columns in another order and
// one more: the law is parse∘print = id.
func printState(rows []row) string {
	var b strings.Builder
	b.WriteString("1\n# srv_port srv_id be_name later be_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight\n")
	for _, r := range rows {
		fmt.Fprintln(&b, r.Port, r.ID, r.Backend, "-", r.BackendID, r.Name, r.Addr, int(r.Op), int(r.Admin), r.Weight, r.Configured)
	}
	return b.String()
}

func corpus(f *testing.F, dir string) {
	f.Helper()
	names, err := filepath.Glob("testdata/" + dir + "/*")
	if err != nil || len(names) < 3 {
		f.Fatalf("the corpus is gone: %v, %v", names, err)
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(data))
	}
}

func FuzzServersState(f *testing.F) {
	corpus(f, "servers-state")
	f.Fuzz(func(t *testing.T, answer string) {
		rows, err := parseState(answer)
		if err != nil {
			return
		}
		for _, r := range rows {
			_, _ = r.where()
			if r.says() == "" || r.Admin.foreign() && !r.Admin.out() {
				t.Errorf("%+v", r)
			}
		}
		again, err := parseState(printState(rows))
		if err != nil {
			t.Fatalf("%v, of\n%s", err, printState(rows))
		}
		if diff := cmp.Diff(rows, again); diff != "" {
			t.Error(diff)
		}
	})
}

func FuzzStat(f *testing.F) {
	corpus(f, "stat")
	f.Fuzz(func(t *testing.T, answer string) {
		loads, err := parseStat(answer)
		if err != nil {
			return
		}
		for _, l := range loads {
			if l.sessions < 0 || l.queued < 0 {
				t.Errorf("%+v", l)
			}
		}
	})
}

func FuzzEstablished(f *testing.F) {
	f.Add("   0: 0100007F:A2C4 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 20 4 30 10 -1")
	f.Add("   1: 0000000000000000FFFF00000100007F:A2C4 0000000000000000FFFF00000100007F:1F90 01 0:0 0:0 0 0 0 4712 1")
	f.Fuzz(func(t *testing.T, line string) {
		if _, inode, ok := established(line); ok && inode == "" {
			t.Errorf("no inode: %s", line)
		}
	})
}

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestParseState(t *testing.T) {
	got, err := parseState(read(t, "servers-state/2.6-web"))
	if err != nil {
		t.Fatal(err)
	}
	want := []row{
		{BackendID: "3", Backend: "web", ID: "1", Name: "web-1", Addr: "127.0.0.1", Port: 18081, Op: stopped, Admin: drained, Weight: 1, Configured: 1},
		{BackendID: "3", Backend: "web", ID: "2", Name: "web-2", Addr: "127.0.0.1", Port: 18082, Op: stopped, Weight: 1, Configured: 1},
		{BackendID: "3", Backend: "web", ID: "3", Name: "web-3", Addr: "127.0.0.1", Port: 18083, Op: running, Weight: 0, Configured: 1},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for name, says := range map[string]string{"half": "columns instead of", "unknown": "it begins with"} {
		if rows, err := parseState(read(t, "servers-state/"+name)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, %v", name, rows, err)
		}
	}
	for answer, says := range map[string]string{
		"":                           "format's version 1",
		"1":                          "names no columns",
		"1\n# be_id be_name\n":       "has no column srv_id",
		replaced(got, "1 ", "x "):    "not a number",
		replaced(got, " 8 ", " -8 "): "not a number",
	} {
		if rows, err := parseState(answer); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, %v", answer, rows, err)
		}
	}
}

func replaced(rows []row, old, new string) string {
	head, rest, _ := strings.Cut(printState(rows), "iweight\n")
	return head + "iweight\n" + strings.ReplaceAll(rest, old, new)
}

func TestParseStat(t *testing.T) {
	got, err := parseStat(read(t, "stat/2.6-web"))
	if err != nil {
		t.Fatal(err)
	}
	want := []load{
		{backend: "web", server: "web-1", status: "DOWN", check: "L4CON Connection refused"},
		{backend: "web", server: "web-2", status: "DOWN", check: "L4CON Connection refused"},
		{backend: "web", server: "web-3", status: "no check"},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(load{})); diff != "" {
		t.Error(diff)
	}
	got, err = parseStat(read(t, "stat/quoted"))
	want = []load{{backend: "web", server: "web,1", sessions: 12, status: "DOWN 1/2", check: `L7STS 503 HTTP status check returned code <503>, "Service Unavailable"`}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(load{})); diff != "" || err != nil {
		t.Error(diff, err)
	}
	if loads, err := parseStat(read(t, "stat/empty")); err == nil {
		t.Errorf("a session count that is not there is taken for %+v", loads)
	}
}

func TestEstablished(t *testing.T) {
	for line, want := range map[string]string{
		"0: 0100007F:A2C4 0100007F:1F90 01 0:0 0:0 0 0 0 4711 1":                                                 "127.0.0.1:8080 4711 true",
		"0: 0000000000000000FFFF00000100007F:A2C4 0000000000000000FFFF00000100007F:1F90 01 0:0 0:0 0 0 0 4712 1": "127.0.0.1:8080 4712 true",
		"0: 00000000000000000000000001000000:A2C4 00000000000000000000000001000000:1F90 01 0:0 0:0 0 0 0 4713 1": "[::1]:8080 4713 true",
		"0: 0100007F:A2C4 0100007F:1F90 06 0:0 0:0 0 0 0 4711 1":                                                 "invalid AddrPort  false",
		"sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode":         "invalid AddrPort  false",
	} {
		remote, inode, ok := established(line)
		if got := fmt.Sprint(remote, " ", inode, " ", ok); got != want {
			t.Errorf("%s: %s, not %s", line, got, want)
		}
	}
}

func TestNames(t *testing.T) {
	for name, want := range map[string]bool{
		"web-1": true, "Web_1.a:b": true, "": false, "a b": false, "a;b": false, "a\nb": false, "a/b": false, "#1": false, "é": false, strings.Repeat("a", 257): false,
	} {
		if isName(name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
}

// Who answers at the address is not always HAProxy.
func TestWhatATerminalObeysIsNotRepeated(t *testing.T) {
	evil := "\x1b]0;owned\x07\u202e" + strings.Repeat("x", 5000)
	loads, err := parseStat("# pxname,svname,scur,qcur,status,check_status,check_code,last_chk,\nweb,web-1,0,0," + evil + "," + evil + ",1,2,\n")
	if err != nil {
		t.Fatal(err)
	}
	_, wrong := parseStat("# pxname,svname,scur,qcur,status,\n" + evil + "," + evil + ",x,0,UP,\n")
	for what, said := range map[string]string{"status": loads[0].status, "check": loads[0].check, "names": list([]string{evil, "web-1"}), "error": fmt.Sprint(wrong)} {
		if strings.ContainsAny(said, "\x1b\x07\u202e") || len(said) > 600 {
			t.Errorf("%s: %.100q (%d bytes)", what, said, len(said))
		}
	}
}
