//go:build amd64 || arm64

package confine

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// refused are the system calls of which a program that only reads and writes
// files needs none: the network and every other way to talk, other programs and
// processes, what the kernel has for administrators and debuggers, and rights to
// files that no mode shows.
var refused = [...]uint32{
	unix.SYS_SOCKET, unix.SYS_SOCKETPAIR, unix.SYS_IO_URING_SETUP,
	unix.SYS_SHMGET, unix.SYS_SHMAT, unix.SYS_MSGGET, unix.SYS_SEMGET, unix.SYS_MQ_OPEN,
	unix.SYS_EXECVE, unix.SYS_EXECVEAT,
	unix.SYS_KILL, unix.SYS_TKILL, unix.SYS_RT_SIGQUEUEINFO, unix.SYS_RT_TGSIGQUEUEINFO,
	unix.SYS_PIDFD_OPEN, unix.SYS_PIDFD_SEND_SIGNAL, unix.SYS_PIDFD_GETFD,
	unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PERF_EVENT_OPEN, unix.SYS_BPF,
	unix.SYS_USERFAULTFD, unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_CHROOT, unix.SYS_MOUNT,
	unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY,
	unix.SYS_SETXATTR, unix.SYS_LSETXATTR, unix.SYS_FSETXATTR, unix.SYS_SETXATTRAT,
}

// Where things are in what a filter sees of a call (struct seccomp_data).
const (
	atNumber   = 0
	atArch     = 4
	atFirstArg = 16 // its lower half: both machines are little endian
)

// Alone takes from this whole process, for good, the calls by which it could
// reach anything but the files that it has or may open: no network, no program,
// no process, no signal to another, and nobody but root may look into it. It
// does without where the kernel cannot.
func Alone() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("close this process to others: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("give up new privileges: %w", err)
	}
	program := filter(uint32(os.Getpid()))
	arg := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&arg)))
	runtime.KeepAlive(program)
	if errno != 0 && !errors.Is(errno, unix.ENOSYS) && !errors.Is(errno, unix.EINVAL) {
		return fmt.Errorf("give up system calls: %w", errno)
	}
	return nil
}

func filter(pid uint32) []unix.SockFilter {
	const (
		allow = unix.SECCOMP_RET_ALLOW
		deny  = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
		none  = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS) // the caller has another way
	)
	load := func(at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
	}
	ret := func(what uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: what} }
	// jump goes on if the test holds, and leaves out the next skip if not.
	jump := func(test uint16, k uint32, skip uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | test | unix.BPF_K, Jf: skip, K: k}
	}
	program := []unix.SockFilter{
		load(atArch), jump(unix.BPF_JEQ, arch, 1), {Code: unix.BPF_JMP | unix.BPF_JA, K: 1}, ret(deny),
		load(atNumber), jump(unix.BPF_JGE, foreign, 1), ret(deny),
	}
	for _, call := range append(refused[:], alsoRefused[:]...) {
		program = append(program, jump(unix.BPF_JEQ, call, 1), ret(deny))
	}
	return append(program,
		jump(unix.BPF_JEQ, unix.SYS_CLONE3, 1), ret(none), // its flags are out of a filter's sight
		jump(unix.BPF_JEQ, unix.SYS_CLONE, 4), load(atFirstArg), jump(unix.BPF_JSET, unix.CLONE_THREAD, 1), ret(allow), ret(deny),
		jump(unix.BPF_JEQ, unix.SYS_TGKILL, 4), load(atFirstArg), jump(unix.BPF_JEQ, pid, 1), ret(allow), ret(deny),
		jump(unix.BPF_JEQ, unix.SYS_PRLIMIT64, 4), load(atFirstArg), jump(unix.BPF_JEQ, 0, 1), ret(allow), ret(deny),
		ret(allow))
}
