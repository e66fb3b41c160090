// Package confine takes away from a child process, between its fork and the
// program that it becomes, what that program has no business with: files, by
// Landlock, and resources, by limits. What it takes stays away from all that the
// program starts; nothing of it needs root.
//
// Landlock is three system calls. They are made here rather than by a library
// because the rules are for one thread that is about to call exec (libraries
// restrict a whole running process, and bring what that takes), because a rule
// must be made from an open directory, and because a hole is to be cut into
// what is allowed, which Landlock has no rule for: see [set.grant].
package confine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Rules are what a child may do. Paths are absolute; one that is not there, or
// that the child's user cannot reach, allows nothing and is no error.
type Rules struct {
	// Write are files and directories in which, and below which, it may read,
	// write, execute, make and remove; Read only read and execute. Open is
	// Write, whatever is sealed or fixed above or below.
	Write []string `json:"write,omitempty"`
	Read  []string `json:"read,omitempty"`
	Open  []string `json:"open,omitempty"`
	// Sealed are paths in which and below which it may do nothing, whatever
	// lies above them; Fixed may be read and executed, and not written. In a
	// directory that has either somewhere below it, nothing new can be made:
	// what the kernel allows there, it would allow in what is sealed too.
	Sealed []string `json:"sealed,omitempty"`
	Fixed  []string `json:"fixed,omitempty"`
	// Fill are inherited descriptors of directories that are filled: in them it
	// may make files, directories and links, and write to what it made. Nothing
	// there is executed. Programs are inherited descriptors of what it executes.
	Fill     []int `json:"fill,omitempty"`
	Programs []int `json:"programs,omitempty"`
	// Still says that it never moves or links a file into another directory, or
	// can do without; the first Landlock cannot allow it.
	Still bool `json:"still,omitempty"`

	// Private keeps it from sending signals to, and from reaching by an abstract
	// socket, what is not confined with it; and, with NoTCP, from the network
	// as far as Landlock knows of one.
	Private bool `json:"private,omitempty"`
	NoTCP   bool `json:"no_tcp,omitempty"`

	Limits Limits `json:"limits"`

	// ABI is the highest version of Landlock that is used; zero is whatever the
	// kernel has, and less than zero none: how an older kernel is tried out.
	ABI int `json:"abi,omitempty"`
}

// maxRules bounds what a child reads as its rules.
const maxRules = 1 << 20

// File is the rules, for the child to inherit and to Enter.
func (r Rules) File() (*os.File, error) {
	data, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("rules", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("hand rules to a child: %w", err)
	}
	f := os.NewFile(uintptr(fd), "rules")
	if _, err := f.Write(data); err != nil {
		f.Close()
		return nil, fmt.Errorf("hand rules to a child: %w", err)
	}
	return f, nil
}

// Enter reads the rules from an inherited descriptor, closes it, and keeps to
// them from now on: this thread, and what it executes. The caller executes next
// or ends.
func Enter(fd int) error {
	f := os.NewFile(uintptr(fd), "rules")
	if f == nil {
		return errors.New("no rules were handed over")
	}
	defer f.Close()
	var r Rules
	data, err := io.ReadAll(io.NewSectionReader(f, 0, maxRules))
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	if err != nil {
		return fmt.Errorf("read the rules: %w", err)
	}
	runtime.LockOSThread()
	if err := r.Limits.set(); err != nil {
		return err
	}
	// Without it a program with the setuid bit would leave the rules behind, so
	// the kernel asks for it.
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("give up new privileges: %w", err)
	}
	for _, c := range rootOnly {
		// What its user has not got anyway may not be given up either.
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("give up capability %d: %w", c, err)
		}
	}
	return r.landlock(r.abi())
}

// rootOnly are the capabilities that root's commands lose too: those to look
// into other processes, which Landlock does not stop where one of them is at
// hand, and those over the kernel.
var rootOnly = [...]uintptr{
	unix.CAP_SYS_PTRACE, unix.CAP_PERFMON, unix.CAP_SYS_ADMIN, unix.CAP_BPF, unix.CAP_CHECKPOINT_RESTORE,
	unix.CAP_SYS_MODULE, unix.CAP_SYS_RAWIO, unix.CAP_SYS_BOOT, unix.CAP_MAC_ADMIN, unix.CAP_MAC_OVERRIDE,
}
