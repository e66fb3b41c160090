package drydock_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"drydock/testdata/rig"
)

// uses does, as root in the agent's sandbox, what each capability is there for,
// and says which one it could not do without.
const uses = `
want() { cap=$1; shift; "$@" >/dev/null 2>&1 || echo "$cap"; }
d=$(mktemp -d); cd "$d"; chmod 755 .
touch f; mkdir -m 700 theirs
want CAP_CHOWN chown nobody f theirs
if test "$(stat -c %U f)" = nobody; then
	want CAP_FOWNER chmod 600 f
	want CAP_DAC_OVERRIDE touch theirs/new
fi
want CAP_SETUID perl -e '$< = $> = 65534; exit($< != 65534)'
want CAP_SETGID perl -e '$( = $) = 65534; exit($( + 0 != 65534)'
want CAP_NET_BIND_SERVICE perl -MSocket -e 'socket(S, PF_INET, SOCK_STREAM, 0) && bind(S, sockaddr_in(81, INADDR_LOOPBACK)) or exit 1'
pid=$(cat /run/theirs)
want CAP_SYS_PTRACE cat /proc/$pid/environ
want CAP_KILL kill -0 $pid
`

// refused is what it may not, one line each that it could.
const refusedInUnit = `
may() { "$@" >/dev/null 2>&1 && echo "$*"; }
d=$(mktemp -d); cd "$d"; cp /bin/true t; mkdir d
may chmod u+s t
may chmod g+s d
may perl -e 'my ($f, $n, $v) = ("t", "security.capability", pack("V5", 0x02000001, 1 << 10, 0, 0, 0)); exit(syscall(qx(uname -m) =~ /x86/ ? 188 : 5, $f, $n, $v, 20, 0) != 0)'
may mount -t tmpfs none d
may touch /usr/bin/new
may sh -c 'echo 1 >/proc/sys/kernel/sysrq'
may unshare -n true
may date -s @1700000000
may mknod n c 1 3
true
`

// TestTheUnitHasWhatItUses: each capability of the agent's unit is one that the
// agent or what it starts cannot do without, and what it is to keep out is kept
// out. AUDIT_WRITE is asked for by hosts whose kernel audits, which no container is.
func TestTheUnitHasWhatItUses(t *testing.T) {
	unit := read(t, ".packaging/hostagent/hostagent.service")
	var all []string
	for line := range strings.Lines(unit) {
		if caps, ok := strings.CutPrefix(strings.TrimSpace(line), "CapabilityBoundingSet="); ok {
			all = append(all, strings.Fields(caps)...)
		}
	}
	all = slices.DeleteFunc(all, func(c string) bool { return c == "CAP_AUDIT_WRITE" })
	h := rig.NewHost(t, rig.HostOptions{Name: "caps", Private: true})
	h.WriteFile(t, "/run/uses", uses, 0o755)
	h.WriteFile(t, "/run/refused", refusedInUnit, 0o755)
	h.WriteFile(t, "/etc/systemd/system/theirs.service", "[Service]\nUser=nobody\nExecStart=/bin/sleep infinity\nExecStartPost=+/bin/sh -c 'echo $MAINPID >/run/theirs'\n", 0o644)
	h.WriteFile(t, "/etc/systemd/system/whole.service", scripted(unit, "uses", "whole"), 0o644)
	h.WriteFile(t, "/etc/systemd/system/refused.service", scripted(unit, "refused", "refused"), 0o644)
	for _, c := range all {
		h.WriteFile(t, "/etc/systemd/system/"+c+".service", scripted(unit, "uses", c)+"\n[Service]\nCapabilityBoundingSet=~"+c+"\n", 0o644)
	}
	h.Must(t, "systemctl", "daemon-reload")
	h.Must(t, append([]string{"systemctl", "start", "theirs", "whole", "refused"}, all...)...)
	for _, name := range []string{"whole", "refused"} {
		if out := h.Must(t, "cat", "/run/said-"+name); out != "" {
			t.Errorf("%s: %s", name, out)
		}
	}
	for _, c := range all {
		if out := h.Must(t, "cat", "/run/said-"+c); !slices.Contains(strings.Fields(out), c) {
			t.Errorf("without %s it cannot do: %q", c, out)
		}
	}
}

// scripted is the unit's sandbox around a script.
func scripted(unit, script, name string) string {
	var b strings.Builder
	for line := range strings.Lines(unit) {
		switch key, _, _ := strings.Cut(line, "="); key {
		case "Type", "ExecStart", "ExecReload", "Restart", "WatchdogSec", "NotifyAccess", "ConditionPathExists", "TimeoutStartSec":
		case "After":
			b.WriteString("After=theirs.service\n")
		default:
			b.WriteString(line)
		}
		if strings.TrimSpace(line) == "[Service]" {
			fmt.Fprintf(&b, "Type=oneshot\nExecStart=/bin/sh /run/%s\nStandardOutput=truncate:/run/said-%s\n", script, name)
		}
	}
	return b.String()
}
