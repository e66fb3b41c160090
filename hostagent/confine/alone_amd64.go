package confine

import "golang.org/x/sys/unix"

const (
	arch    = unix.AUDIT_ARCH_X86_64
	foreign = 0x40000000 // calls from here on are those of x32
)

var alsoRefused = [...]uint32{unix.SYS_FORK, unix.SYS_VFORK}
