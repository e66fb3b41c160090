package confine

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// system are the paths that no command of a service has business with: root's
// keys, what systemd hands to units as secrets, and memory and disks as such.
func system(root bool) []string {
	all := []string{"/root", "/run/credentials", "/dev/mem", "/dev/kmem", "/dev/port", "/dev/kmsg", "/dev/mapper"}
	if root {
		// What is written for a command that runs as root (.pgpass, .my.cnf) stands
		// in root's home.
		all = append(all[1:], "/root/.ssh", "/root/.gnupg")
	}
	keys, _ := filepath.Glob("/etc/ssh/ssh_host_*_key")
	return append(all, keys...)
}

// fixed is what of the kernel's a service's command only reads.
var fixed = [...]string{"/proc", "/sys", "/boot"}

// shared are the directories that are everybody's, where commands make what they
// need for a moment. They are never closed: whoever keeps the agent's state or
// its secrets there has put them where anybody may look.
func shared() []string { return []string{"/tmp", "/var/tmp", "/dev/shm", os.TempDir()} }

// Command are the rules for a command of a service, such as a hook or a
// migration: it may do what its user may, but for sealed, the paths of the
// agent's own, and the host's own keys, disks and switches. It needs the
// network, and talks to and signals whom it likes. own are paths to write that
// may lie in what is sealed.
func Command(sealed []string, root bool, own ...string) Rules {
	return Rules{
		Write:  []string{"/"},
		Open:   append(shared(), own...),
		Sealed: seal(sealed, system(root)),
		Fixed:  reals(fixed[:]),
		Limits: Limits{NoCore: true, Processes: manyProcesses},
	}
}

// Room is where a build works.
type Room struct {
	Tree     string // what is built; its own
	Temp     string // for what it needs for a moment; its own too
	Home     string // its user's
	Releases string // what is installed already
	FileSize int64  // bytes of a file; a release with a larger one is refused
}

// Build are the rules for the build of a release: it reads what Command may
// write to, has the network, and writes to tree and temp, and to its user's
// home, where package managers keep what they fetched. home is what it is to
// take for that: temp, if there is no other that all could be made in.
func Build(sealed []string, root bool, at Room) (r Rules, home string) {
	r = Rules{
		Read:    []string{"/"},
		Open:    []string{at.Tree, at.Temp},
		Write:   []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/tty", "/dev/ptmx", "/dev/pts", "/dev/shm"},
		Sealed:  seal(sealed, []string{at.Releases}, system(root)),
		Private: true,
		Limits:  Limits{NoCore: true, Processes: manyProcesses, FileSize: uint64(at.FileSize)},
	}
	home = at.Home
	if real, err := filepath.EvalSymlinks(home); err != nil || real == "/" || !filepath.IsAbs(real) || slices.ContainsFunc(r.Sealed, func(p string) bool {
		return strings.HasPrefix(p+"/", real+"/") || strings.HasPrefix(real+"/", p+"/")
	}) {
		return r, at.Temp
	}
	r.Write = append(r.Write, home)
	return r, home
}

// seal is all that is sealed. /dev always has something: disks are left out
// where something is.
func seal(paths ...[]string) []string {
	return append(reals(slices.Concat(paths...)), "/dev/mem")
}

// reals are paths as the kernel knows them, without links; those that are not
// there are left out, as no directory needs a hole for them.
func reals(paths []string) []string {
	var all []string
	for _, p := range paths {
		real, err := filepath.EvalSymlinks(p)
		switch {
		case p == "" || errors.Is(err, fs.ErrNotExist):
		case err != nil:
			all = append(all, filepath.Clean(p))
		default:
			all = append(all, real)
		}
	}
	return all
}
