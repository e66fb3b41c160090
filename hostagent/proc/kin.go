package proc

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// Trait is what processes of one origin have in common. One trait is enough to
// belong: a daemon that closes its descriptors has left the lock behind, one
// that made a session of its own has left the session, and one that cleaned
// its environment has lost the mark, but hardly any does all three.
type Trait struct {
	Leader ID     // its session and group; the zero ID looks at neither
	Lock   string // a file that they hold open; "" looks at none
	Mark   string // an entry of their environment begins with it; "" looks at none
}

// Kin is a process that has a trait.
type Kin struct {
	ID
	Group int
	First bool   // it leads its session
	Mark  string // the whole marked entry of the environment, or ""
}

// maxEnviron is how much of an environment is searched.
const maxEnviron = 1 << 20

// Find lists all living processes but this one that have the trait. It reads
// all of /proc, and what it may not read (of other users, where the agent is
// not root) it cannot find.
func Find(t Trait) ([]Kin, error) {
	boot, err := Boot()
	if err != nil {
		return nil, err
	}
	var lock unix.Stat_t
	haveLock := t.Lock != "" && unix.Stat(t.Lock, &lock) == nil
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var kin []Kin
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		st, err := read(pid)
		if err != nil {
			continue // gone meanwhile
		}
		k := Kin{ID: ID{PID: pid, Start: st.start, Boot: boot}, Group: st.group, First: st.session == pid}
		if t.Mark != "" {
			k.Mark = marked(pid, t.Mark)
		}
		if k.Mark != "" || t.leads(st, boot) || (haveLock && holds(pid, lock)) {
			kin = append(kin, k)
		}
	}
	return kin, nil
}

// leads reports whether a process belongs to the leader's session or group. A
// number in use as a session is never given to a new process, so a process
// that has the leader's number but another start time proves that the session
// has ended, and that this one is a stranger's.
func (t Trait) leads(st stat, boot string) bool {
	l := t.Leader
	if l.PID <= 0 || l.Boot != boot || (st.session != l.PID && st.group != l.PID) || st.start < l.Start {
		return false
	}
	now, err := read(l.PID)
	return err != nil || now.start == l.Start
}

func marked(pid int, mark string) string {
	f, err := os.Open(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		return ""
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxEnviron))
	if err != nil {
		return ""
	}
	for entry := range bytes.SplitSeq(data, []byte{0}) {
		if bytes.HasPrefix(entry, []byte(mark)) {
			return string(entry)
		}
	}
	return ""
}

func holds(pid int, file unix.Stat_t) bool {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	fds, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, fd := range fds {
		var st unix.Stat_t
		// Following the link asks the kernel for the open file itself: a name
		// would say nothing about a file that was replaced.
		if unix.Stat(filepath.Join(dir, fd.Name()), &st) == nil && st.Dev == file.Dev && st.Ino == file.Ino {
			return true
		}
	}
	return false
}
