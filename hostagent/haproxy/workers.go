package haproxy

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// leftBehind counts the connections to the server that old workers hold. After
// a reload the worker that answers knows nothing of the requests that were
// under way: they stay with the one before it, until they end. Both are
// children of one master, so on this machine they can be found; of an HAProxy
// elsewhere nothing is known, and 0 returned.
func (p place) leftBehind(ctx context.Context, r row) int {
	to, ok := r.where()
	if p.network != "unix" || !ok {
		return 0
	}
	pid, err := p.worker(ctx)
	if err != nil || pid <= 1 {
		return 0
	}
	n := 0
	for _, old := range brothers(pid) {
		n += connections(old, to)
	}
	return n
}

// brothers are the other workers of a worker's master: children of the same
// parent, by the same name.
func brothers(pid int) []int {
	name, parent := identity(pid)
	if name == "" || parent <= 1 {
		return nil
	}
	lists, _ := filepath.Glob(procPath(parent, "task/*/children"))
	var all []int
	for _, list := range lists {
		data, err := os.ReadFile(list)
		if err != nil {
			continue
		}
		for _, field := range strings.Fields(string(data)) {
			child, err := strconv.Atoi(field)
			if err != nil || child == pid {
				continue
			}
			if n, _ := identity(child); n == name {
				all = append(all, child)
			}
		}
	}
	return all
}

// identity is a process's name and parent.
func identity(pid int) (name string, parent int) {
	data, err := os.ReadFile(procPath(pid, "stat"))
	if err != nil {
		return "", 0
	}
	open, end := strings.IndexByte(string(data), '('), strings.LastIndexByte(string(data), ')')
	if open < 0 || end < open {
		return "", 0
	}
	fields := strings.Fields(string(data[end+1:])) // state, parent, …
	if len(fields) < 2 || fields[0] == "Z" {
		return "", 0
	}
	parent, _ = strconv.Atoi(fields[1])
	return string(data[open+1 : end]), parent
}

// connections counts the established ones of a process to an address.
func connections(pid int, to netip.AddrPort) int {
	held := sockets(pid)
	n := 0
	for _, table := range []string{"net/tcp", "net/tcp6"} {
		f, err := os.Open(procPath(pid, table))
		if err != nil {
			continue
		}
		lines := bufio.NewScanner(io.LimitReader(f, 64<<20))
		for lines.Scan() {
			remote, inode, ok := established(lines.Text())
			if ok && remote == to && held[inode] {
				n++
			}
		}
		f.Close()
	}
	return n
}

// sockets are the inodes of a process's sockets.
func sockets(pid int) map[string]bool {
	held := map[string]bool{}
	entries, _ := os.ReadDir(procPath(pid, "fd"))
	for _, e := range entries {
		link, err := os.Readlink(procPath(pid, "fd/"+e.Name()))
		if inode, ok := strings.CutPrefix(link, "socket:["); err == nil && ok {
			held[strings.TrimSuffix(inode, "]")] = true
		}
	}
	return held
}

// established reads a line of /proc/net/tcp or tcp6: the remote end and the
// socket's inode of a connection that stands.
func established(line string) (remote netip.AddrPort, inode string, ok bool) {
	const isEstablished = "01"
	fields := strings.Fields(line) // sl local remote state queues timer retransmits uid timeout inode …
	if len(fields) < 10 || fields[3] != isEstablished {
		return remote, "", false
	}
	host, port, _ := strings.Cut(fields[2], ":")
	raw, err := hex.DecodeString(host)
	n, portErr := strconv.ParseUint(port, 16, 16)
	if err != nil || portErr != nil || len(raw)%4 != 0 {
		return remote, "", false
	}
	for i := 0; i < len(raw); i += 4 { // words in the machine's byte order
		binary.BigEndian.PutUint32(raw[i:], binary.NativeEndian.Uint32(raw[i:]))
	}
	ip, ok := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(ip.Unmap(), uint16(n)), fields[9], ok
}

func procPath(pid int, name string) string {
	return "/proc/" + strconv.Itoa(pid) + "/" + name
}
