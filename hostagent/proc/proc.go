// Package proc says what Linux knows of a process: which one a number means,
// whether it still lives, and which others came from it.
package proc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ticks is USER_HZ, the unit of the times in /proc. It is 100 on every Linux
// that Go runs on.
const ticks = 100

// ID names one process for ever: a number is used again, but not with the same
// start time under the same boot. Neither depends on the clock.
type ID struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // in ticks after boot
	Boot  string `json:"boot"`  // see Boot
}

// String is "pid 4711".
func (id ID) String() string { return fmt.Sprintf("pid %d", id.PID) }

// bootFile is where the kernel says which boot this is. Who starts a container
// (systemd-nspawn, LXC) mounts over it another id for each start of it, and
// what remounts /proc/sys once more for a single unit (ProtectKernelTunables=
// and the like) loses that mount again, so that the file says one thing in the
// agent's sandbox and another to a person's shell.
const bootFile = "/proc/sys/kernel/random/boot_id"

// firstNamespace is the kernel's number of the PID namespace that a machine
// boots into (PROC_PID_INIT_INO); all others are made later.
const firstNamespace = "pid:[4026531836]"

// Boot names this boot of this machine or container: another one after each,
// and the same for whoever asks, in a sandbox or not, whatever the clock does.
// It is the kernel's boot id as PID 1 sees it; in a PID namespace of its own,
// where another start may have the same, together with PID 1's start.
func Boot() (string, error) {
	data, err := os.ReadFile("/proc/1/root" + bootFile)
	if err != nil { // not root, or PID 1 has another idea of /proc
		if data, err = os.ReadFile(bootFile); err != nil {
			return "", fmt.Errorf("read the boot id (is /proc mounted?): %w", err)
		}
	}
	id := strings.TrimSpace(string(data))
	if ns, err := os.Readlink("/proc/self/ns/pid"); err != nil || ns == firstNamespace {
		return id, nil
	}
	first, err := read(1)
	if err != nil {
		return id, nil // hidden (hidepid=), as it is for all that this agent's user starts
	}
	return fmt.Sprintf("%s.%d", id, first.start), nil
}

// Of names the process that pid means now. The error wraps os.ErrNotExist if
// there is none, or only a dead one that nobody has waited for.
func Of(pid int) (ID, error) {
	boot, err := Boot()
	if err != nil {
		return ID{}, err
	}
	st, err := read(pid)
	if err != nil {
		return ID{}, err
	}
	return ID{PID: pid, Start: st.start, Boot: boot}, nil
}

// Alive reports whether this very process lives.
func (id ID) Alive() bool {
	if id.PID <= 0 {
		return false
	}
	now, err := Of(id.PID)
	return err == nil && now == id
}

// Age is how long ago the process started. It does not look at the clock,
// which people set back.
func (id ID) Age() (time.Duration, error) {
	data, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return 0, fmt.Errorf("read the uptime: %w", err)
	}
	up, err := strconv.ParseFloat(strings.Fields(string(data) + " 0")[0], 64)
	if err != nil {
		return 0, fmt.Errorf("read the uptime: %w", err)
	}
	age := time.Duration((up - float64(id.Start)/ticks) * float64(time.Second))
	return max(age, 0), nil
}

// Signal sends to this very process and to no later owner of its number. It is
// no error if the process is gone.
func (id ID) Signal(sig unix.Signal) error {
	fd, err := unix.PidfdOpen(id.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil { // a kernel without pidfd
		if !id.Alive() {
			return nil
		}
		return gone(unix.Kill(id.PID, sig))
	}
	defer unix.Close(fd)
	if !id.Alive() { // the descriptor holds whoever had the number; it was not ours
		return nil
	}
	return gone(unix.PidfdSendSignal(fd, sig, nil, 0))
}

func gone(err error) error {
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// Wait returns nil once the process is gone, or ctx's error. It works for
// processes that are not our children.
func (id ID) Wait(ctx context.Context) error {
	fd, err := unix.PidfdOpen(id.PID, unix.PIDFD_NONBLOCK)
	if err != nil {
		return id.watch(ctx)
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	defer f.Close()
	if !id.Alive() {
		return nil
	}
	conn, err := f.SyscallConn()
	if err != nil {
		return id.watch(ctx)
	}
	stop := context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	err = conn.Read(func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		return err == nil && n > 0
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return id.watch(ctx)
	}
	return nil
}

// watch is Wait for kernels without pidfd.
func (id ID) watch(ctx context.Context) error {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for id.Alive() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// stat is what is read of /proc/<pid>/stat.
type stat struct {
	group, session int
	start          uint64
}

func read(pid int) (stat, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, unix.ESRCH) { // it went away between open and read
		err = os.ErrNotExist
	}
	if err != nil {
		return stat{}, fmt.Errorf("process %d: %w", pid, err)
	}
	// The name may hold spaces and parentheses; the last one closes it.
	i := bytes.LastIndexByte(data, ')')
	f := strings.Fields(string(data[i+1:]))
	if i < 0 || len(f) < 20 {
		return stat{}, fmt.Errorf("process %d: cannot read its stat line", pid)
	}
	// A dead first thread with others still running is a living process.
	if threads := f[17]; (f[0] == "Z" || f[0] == "X") && (threads == "0" || threads == "1") {
		return stat{}, fmt.Errorf("process %d is dead: %w", pid, os.ErrNotExist)
	}
	var st stat
	var errs [3]error
	st.group, errs[0] = strconv.Atoi(f[2])
	st.session, errs[1] = strconv.Atoi(f[3])
	st.start, errs[2] = strconv.ParseUint(f[19], 10, 64)
	if err := errors.Join(errs[:]...); err != nil {
		return stat{}, fmt.Errorf("process %d: %w", pid, err)
	}
	return st, nil
}
