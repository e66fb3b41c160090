package confine

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Limits are the most that a child, and each process that it starts, may use.
// Zero leaves what it inherits. None is ever raised.
type Limits struct {
	// NoCore keeps its memory, in which there may be secrets, off the disk.
	NoCore bool `json:"no_core,omitempty"`
	// Processes is how many processes and threads its user may have when it
	// starts another one, with those that the service has. The kernel does not
	// count root's.
	Processes uint64 `json:"processes,omitempty"`
	FileSize  uint64 `json:"file_size,omitempty"` // bytes of each file that it writes
	Memory    uint64 `json:"memory,omitempty"`    // bytes that it may write to, without files and stacks
	Files     uint64 `json:"files,omitempty"`     // open at once
	CPU       uint64 `json:"cpu,omitempty"`       // seconds
}

// manyProcesses ends a fork bomb before it ends the host: a small one has room
// for some 7,000 to 30,000 processes and threads. A build on many cores has
// hundreds, a large Java service thousands.
const manyProcesses = 8192

func (l Limits) set() error {
	for _, each := range []struct {
		name     string
		resource int
		most     uint64
		zero     bool
	}{
		{"core dumps", unix.RLIMIT_CORE, 0, l.NoCore},
		{"processes", unix.RLIMIT_NPROC, l.Processes, false},
		{"the size of files", unix.RLIMIT_FSIZE, l.FileSize, false},
		{"memory", unix.RLIMIT_DATA, l.Memory, false},
		{"open files", unix.RLIMIT_NOFILE, l.Files, false},
		{"processor time", unix.RLIMIT_CPU, l.CPU, false},
	} {
		if each.most == 0 && !each.zero {
			continue
		}
		var now unix.Rlimit
		err := unix.Getrlimit(each.resource, &now)
		if err == nil {
			lower := unix.Rlimit{Cur: min(now.Cur, each.most), Max: min(now.Max, each.most)}
			err = unix.Setrlimit(each.resource, &lower)
		}
		if err != nil {
			return fmt.Errorf("limit %s: %w", each.name, err)
		}
	}
	return nil
}
