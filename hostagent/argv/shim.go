package argv

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"drydock/hostagent/confine"
	"drydock/hostagent/proc"
)

// self is the agent's own file, even if it was replaced since it was started.
const self = "/proc/self/exe"

// verb is the hidden first argument by which the agent's binary becomes the
// shim: between fork and exec of a program that must be known again, it says
// durably who it is. It does so as the agent's own user: a process of the
// program's could open the record through /proc, and have the agent end, one
// day, whatever it wrote there.
const (
	verb       = "drydock-shim"
	verbWithin = "drydock-shim-within" // the same, by rules
)

// The descriptors that the shim inherits.
const (
	lockFD   = 3 // already locked; the lock lives as long as anything that inherited it
	recordFD = 4 // takes the record
	statusFD = 5 // takes an error; its end without one means that the program runs
	rulesFD  = 6 // what the program may do; not there where nothing is taken from it
	keptFD   = 100
)

// record is what the shim writes: which process it is and will be, and what
// it was started as.
type record struct {
	proc.ID
	Ident string `json:"ident"`
}

// Shim must be called first by main with os.Args. Where ours is true this
// process was started as the shim, did not become its program, and must exit
// with code.
func Shim(args []string) (code int, ours bool) {
	if code, ours := confine.Shim(); ours {
		return code, true
	}
	if len(args) < 2 || args[1] != verb && args[1] != verbWithin {
		return 0, false
	}
	if len(args) < 6 {
		fmt.Fprintln(os.Stderr, "this verb is for the agent's own use")
		return 2, true
	}
	err := become(args[2], args[3], args[4], args[5:], args[1] == verbWithin)
	// Nothing was run: the record must not say so.
	_ = unix.Ftruncate(recordFD, 0)
	_ = unix.Fsync(recordFD)
	confine.Tell(statusFD, err)
	return 127, true
}

// life is what the shim takes on last.
type life struct {
	As  *syscall.Credential `json:"as,omitempty"` // nil leaves the agent's
	Dir string              `json:"dir"`
}

// begin makes this process somebody else's. The kernel closes it to other
// processes of theirs until exec.
func (l life) begin() error {
	if l.As != nil {
		groups := make([]int, len(l.As.Groups))
		for i, g := range l.As.Groups {
			groups[i] = int(g)
		}
		uid, gid := int(l.As.Uid), int(l.As.Gid)
		// These three act on all threads, in this order: the last takes the right.
		if err := syscall.Setgroups(groups); err != nil {
			return fmt.Errorf("take on groups: %w", err)
		}
		if err := syscall.Setresgid(gid, gid, gid); err != nil {
			return fmt.Errorf("become group %d: %w", gid, err)
		}
		if err := syscall.Setresuid(uid, uid, uid); err != nil {
			return fmt.Errorf("become user %d: %w", uid, err)
		}
	}
	return os.Chdir(l.Dir)
}

func become(ident, as, path string, argv []string, within bool) error {
	var l life
	if err := json.Unmarshal([]byte(as), &l); err != nil {
		return err
	}
	id, err := proc.Of(os.Getpid())
	if err != nil {
		return err
	}
	data, err := json.Marshal(record{id, ident})
	if err != nil {
		return err
	}
	if _, err := unix.Pwrite(recordFD, data, 0); err != nil {
		return fmt.Errorf("write the record: %w", err)
	}
	if err := unix.Fsync(recordFD); err != nil {
		return fmt.Errorf("write the record: %w", err)
	}
	// Out of the way of programs that count on low descriptors being free.
	kept, err := unix.FcntlInt(lockFD, unix.F_DUPFD, keptFD)
	if err != nil {
		kept = lockFD
	}
	for _, fd := range []int{lockFD, recordFD, statusFD} {
		if fd != kept {
			unix.CloseOnExec(fd)
		}
	}
	if err := l.begin(); err != nil {
		return err
	}
	if within {
		if err := confine.Enter(rulesFD); err != nil {
			return err
		}
	}
	return confine.Exec(path, argv)
}

// unique is a text that no other run ever has.
func unique() string { return strconv.Itoa(os.Getpid()) + "-" + rand.Text() }

// awaitStatus reads the shim's last word, bounded.
func awaitStatus(ctx context.Context, r *os.File) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = r.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := make([]byte, 0, 4096)
	for len(buf) < cap(buf) {
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			break
		}
	}
	return confine.Told(string(buf))
}
