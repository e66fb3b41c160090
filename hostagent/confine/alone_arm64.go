package confine

import "golang.org/x/sys/unix"

const (
	arch    = unix.AUDIT_ARCH_AARCH64
	foreign = 0xffffffff // there are none
)

var alsoRefused = [...]uint32{}
