package durable

import (
	"errors"
	"io/fs"

	"drydock/reconcile"

	"golang.org/x/sys/unix"
)

// HostFault is err as the host's fault, with the hint that fits what the disk
// said. An error that is a fault already, and nil, stay as they are.
func HostFault(err error) error {
	var f *reconcile.Fault
	if err == nil || errors.As(err, &f) {
		return err
	}
	return reconcile.HostFault(err, diskHint(err))
}

// OfDisk reports whether err came from the operating system's file calls, and
// not from what was in a file.
func OfDisk(err error) bool {
	var errno unix.Errno
	return errors.As(err, &errno)
}

func diskHint(err error) string {
	switch {
	case errors.Is(err, unix.ENOSPC):
		return "Free space or inodes on that filesystem (df -h, df -i); it is tried again"
	case errors.Is(err, unix.EDQUOT):
		return "Raise the disk quota or free space; it is tried again"
	case errors.Is(err, unix.EROFS):
		return "The filesystem is read-only: look at dmesg for why, and remount it writable"
	case errors.Is(err, unix.EIO):
		return "The disk reports errors: look at dmesg, and replace it"
	case errors.Is(err, fs.ErrPermission):
		return "The agent may not do that: run it as root, or give its user that directory"
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
		return "Too many open files: raise LimitNOFILE of the agent's unit"
	}
	return ""
}
