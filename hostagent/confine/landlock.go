package confine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Rights by what they are good for. Devices are never made by a service.
const (
	reading = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	filling = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR | unix.LANDLOCK_ACCESS_FS_WRITE_FILE |
		unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_DIR |
		unix.LANDLOCK_ACCESS_FS_MAKE_SYM | unix.LANDLOCK_ACCESS_FS_REFER
	writing = reading | filling | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR |
		unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	ofDevices = unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK

	// ofFiles are those that a rule for what is no directory may have.
	ofFiles = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE |
		unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
)

// known are the rights that a version of Landlock knows.
func known(abi int) uint64 {
	rights := uint64(writing | ofDevices)
	for _, later := range []struct {
		since int
		right uint64
	}{
		{2, unix.LANDLOCK_ACCESS_FS_REFER}, {3, unix.LANDLOCK_ACCESS_FS_TRUNCATE}, {5, unix.LANDLOCK_ACCESS_FS_IOCTL_DEV},
	} {
		if abi < later.since {
			rights &^= later.right
		}
	}
	return rights
}

// Versions in which Landlock learnt what is used here. The first could not
// allow to move or link a file into another directory, which most programs
// do, so it is good for nothing but filling a directory.
const (
	abiMoves  = 2 // Linux 5.19
	abiTCP    = 4 // Linux 6.7
	abiScopes = 6 // Linux 6.12
)

// Kernel is the version of Landlock that this kernel has; 0 if it has none.
func Kernel() int {
	n, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(n)
}

// Shortfall says in a sentence what a kernel with that version of Landlock
// cannot keep a service's commands from; "" if it is nothing.
func Shortfall(abi int) string {
	switch {
	case abi <= 0:
		return "this kernel has no Landlock (Linux 5.13 and later have it, where lsm= does not leave it out): what unpacking, builds and hooks may reach is limited by their user alone"
	case abi < abiMoves:
		return "this kernel has the first Landlock only (Linux 5.19 has a later one): unpacking is confined, but what builds and hooks may reach is limited by their user alone"
	case abi < abiScopes:
		return "this kernel's Landlock does not know signals (Linux 6.12 does): a build can signal the other processes of its user"
	}
	return ""
}

func (r Rules) abi() int {
	has := Kernel()
	switch {
	case r.ABI < 0:
		return 0
	case r.ABI > 0:
		return min(has, r.ABI)
	}
	return has
}

// set is a Landlock ruleset while it is made.
type set struct {
	Rules
	fd    int
	knows uint64
}

// landlock restricts this thread by a version of Landlock.
func (r Rules) landlock(abi int) error {
	if abi <= 0 || abi < abiMoves && !r.Still {
		return nil
	}
	s := &set{Rules: r, knows: known(abi)}
	attr := unix.LandlockRulesetAttr{Handled_access_fs: s.knows}
	if r.NoTCP && abi >= abiTCP {
		attr.Handled_access_net = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	}
	if r.Private && abi >= abiScopes {
		attr.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL
	}
	size := unsafe.Offsetof(attr.Quiet_access_fs)
	if abi < abiTCP {
		size = unsafe.Offsetof(attr.Handled_access_net)
	} else if abi < abiScopes {
		size = unsafe.Offsetof(attr.Scoped)
	}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), size, 0)
	if errno != 0 {
		return fmt.Errorf("make Landlock rules: %w", errno)
	}
	s.fd = int(fd)
	defer unix.Close(s.fd)
	unix.CloseOnExec(s.fd)
	if err := s.allow(); err != nil {
		return fmt.Errorf("make Landlock rules: %w", err)
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0); errno != 0 {
		return fmt.Errorf("enter Landlock: %w", errno)
	}
	return nil
}

func (s *set) allow() error {
	for _, fd := range s.Fill {
		if err := s.rule(fd, filling); err != nil {
			return err
		}
	}
	for _, fd := range s.Programs {
		if err := s.rule(fd, reading); err != nil {
			return err
		}
	}
	open := *s
	open.Sealed, open.Fixed = nil, nil
	for _, each := range []struct {
		set    *set
		paths  []string
		rights uint64
	}{{s, s.Read, reading}, {s, s.Write, writing}, {&open, s.Open, writing}} {
		for _, path := range each.paths {
			if !filepath.IsAbs(path) {
				continue
			}
			if err := each.set.grant(filepath.Clean(path), each.rights, 0); err != nil {
				return err
			}
		}
	}
	return nil
}

// rule allows rights for what is open at fd, and below it.
func (s *set) rule(fd int, rights uint64) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		rights &= ofFiles
	}
	if rights &= s.knows; rights == 0 {
		return nil
	}
	attr := unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(fd)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(s.fd), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&attr)), 0, 0, 0)
	if errno == unix.EBADFD { // on a file system of the kernel's own, which Landlock leaves alone
		return nil
	}
	if errno != 0 {
		return errno
	}
	return nil
}

// grant allows rights at and below path, but for what is sealed or fixed there.
// Landlock only ever allows, and always for all that is below: so a directory
// with a hole in it is not allowed itself, but each of the others that it
// holds, and it itself can be listed. nofollow is set for what was found in one:
// a link there may lead into the hole.
func (s *set) grant(path string, rights uint64, nofollow int) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC|nofollow, 0)
	if err != nil {
		return nil // gone, or out of the user's reach anyway
	}
	defer unix.Close(fd)
	if !s.holed(path, rights) {
		return s.rule(fd, rights)
	}
	if err := s.rule(fd, unix.LANDLOCK_ACCESS_FS_READ_DIR); err != nil {
		return err
	}
	entries, err := os.ReadDir(path)
	if err != nil && !errors.Is(err, os.ErrPermission) && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		child := filepath.Join(path, e.Name())
		switch t := e.Type(); {
		case t&os.ModeSymlink != 0, t&os.ModeDevice != 0 && t&os.ModeCharDevice == 0:
			// What a link leads to has its own rule, and a disk holds what is sealed.
		case slices.Contains(s.Sealed, child):
		case rights&^reading != 0 && slices.Contains(s.Fixed, child):
			err = s.grant(child, reading, unix.O_NOFOLLOW)
		default:
			err = s.grant(child, rights, unix.O_NOFOLLOW)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", child, err)
		}
	}
	return nil
}

// holed reports whether something below path is to have less than rights.
func (s *set) holed(path string, rights uint64) bool {
	below := func(p string) bool {
		return p != path && strings.HasPrefix(p, strings.TrimSuffix(path, "/")+"/")
	}
	return slices.ContainsFunc(s.Sealed, below) || rights&^reading != 0 && slices.ContainsFunc(s.Fixed, below)
}
