package argv

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/hashicorp/go-multierror"
	"golang.org/x/sys/unix"

	"drydock/reconcile"
)

// Programs fails if the host lacks what commands of s need before they are run:
// the user they run as, and each program that is the host's to bring, executable
// by that user. The error may hold several. What only the release can bring is
// not asked for; where it may be either's and the release is not there yet, the
// error wraps reconcile.ErrUnfetched.
func Programs(s reconcile.Step, commands ...[]string) error {
	return ProgramsAs(s, User(s), commands...)
}

// ProgramsAs is Programs for another user than the service's.
func ProgramsAs(s reconcile.Step, user string, commands ...[]string) error {
	cred, _, err := credential(user)
	if err != nil {
		return err
	}
	var all *multierror.Error
	var seen []string
	for _, c := range commands {
		if len(c) == 0 || slices.Contains(seen, c[0]) {
			continue
		}
		seen = append(seen, c[0])
		path, err := hosts(s, c[0])
		if err == nil && path != "" {
			err = mayRun(cred, user, path)
		}
		if err != nil {
			all = multierror.Append(all, err)
		}
	}
	return all.ErrorOrNil()
}

// hosts is where a program of the host's lies; "" for one of the release's.
func hosts(s reconcile.Step, name string) (string, error) {
	release := ReleaseDir(s)
	_, err := os.Stat(release)
	there := release != "" && err == nil
	switch {
	case filepath.IsAbs(name):
		if base := s.Target.InstallPath(); base != "" && strings.HasPrefix(filepath.Clean(name), filepath.Clean(base)+"/") {
			return "", nil
		}
	case release != "" && strings.Contains(name, "/"):
		return "", nil
	case there && runnable(filepath.Join(release, name)) == nil:
		return "", nil
	}
	path, err := find(s, "/", name)
	if err != nil && release != "" && !there && !filepath.IsAbs(name) {
		return "", fmt.Errorf("command %s: not on this host, and whether the release brings it is %w", name, reconcile.ErrUnfetched)
	}
	return path, err
}

// mayRun reports why a user cannot run a program; nil cred is the agent's own.
func mayRun(cred *syscall.Credential, user, path string) error {
	fault := func(at string) error {
		who := "the agent's user"
		if cred != nil {
			who = "user " + user
		}
		return reconcile.HostFault(fmt.Errorf("%s cannot be run by %s: %s does not let it", path, who, at), "Change the owner or mode of that on this host.")
	}
	real, err := filepath.EvalSymlinks(path)
	switch {
	case cred == nil && unix.Access(path, unix.X_OK) != nil:
		return fault(path)
	case cred == nil || err != nil:
		return nil
	}
	for at := real; ; at = filepath.Dir(at) {
		if info, err := os.Stat(at); err == nil && !executable(cred, at, info) {
			return fault(at)
		}
		if at == filepath.Dir(at) {
			return nil
		}
	}
}

// executable is what the mode says of a user, for a program or a directory on
// the way to it. An access control list may say otherwise: where there is one,
// the kernel has the word when it comes to it.
func executable(cred *syscall.Credential, path string, info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	if _, err := unix.Getxattr(path, "system.posix_acl_access", nil); err == nil || !ok {
		return true
	}
	mode := info.Mode().Perm()
	switch {
	case cred.Uid == 0:
		return mode&0o111 != 0 || info.IsDir()
	case cred.Uid == st.Uid:
		return mode&0o100 != 0
	case cred.Gid == st.Gid || slices.Contains(cred.Groups, st.Gid):
		return mode&0o010 != 0
	}
	return mode&0o001 != 0
}
