package argv

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"drydock/hostagent/confine"
	"drydock/hostagent/durable"
	"drydock/reconcile"
	"drydock/spec"
)

// searchPath is where bare names are looked up, and the PATH of every command.
const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// ready is a command with everything found that it needs.
type ready struct {
	name string // argv[0] as it was written
	path string
	args []string
	dir  string
	env  []string
	cred *syscall.Credential
}

// ReleaseDir is the directory of the release that s is about, whether it
// exists or not; "" for installers that have none. In a revert to what
// somebody else had deployed, which has no release, it is where `current`
// points.
func ReleaseDir(s reconcile.Step) string {
	if s.Target.Release.Version != "" {
		return s.Target.ReleaseDir()
	}
	base := s.Target.InstallPath()
	if base == "" {
		return ""
	}
	link := filepath.Join(base, "current")
	if dir, err := filepath.EvalSymlinks(link); err == nil {
		return dir
	}
	return link
}

// workDir is where the commands of s run: the release, if it is there.
func workDir(s reconcile.Step) string {
	dir := ReleaseDir(s)
	if info, err := os.Stat(dir); dir == "" || err != nil || !info.IsDir() {
		return "/"
	}
	return dir
}

// User is who a service's commands run as: the start block's user, else the
// install block's, else whoever the agent is ("").
func User(s reconcile.Step) string {
	for _, b := range []*spec.Block{s.Target.Start, s.Target.Install} {
		if b == nil {
			continue
		}
		if u := attribute(b, "user"); u != "" {
			return u
		}
	}
	return ""
}

// Within are the rules for a command of s that leaves nothing running behind:
// see confine.Command. Its release is open to it wherever that lies.
func Within(env reconcile.Env, s reconcile.Step) *confine.Rules {
	cred, _, err := credential(User(s))
	rules := confine.Command(slices.Concat(env.Sealed, []string{env.Private}), err == nil && isRoot(cred), ReleaseDir(s))
	return &rules
}

// WithinBuild are the rules for a build as user in room, whose Home is found
// here, and the variables that tell it where it may write.
func WithinBuild(env reconcile.Env, user string, room confine.Room) (*confine.Rules, []string, error) {
	cred, vars, err := credential(user)
	if err != nil {
		return nil, nil, err
	}
	room.Home = strings.TrimPrefix(vars[0], "HOME=")
	rules, home := confine.Build(slices.Concat(env.Sealed, []string{env.Private}), isRoot(cred), room)
	return &rules, []string{"HOME=" + home, "TMPDIR=" + room.Temp}, nil
}

// isRoot says it of a credential; nil is the agent's own.
func isRoot(cred *syscall.Credential) bool {
	return cred == nil && os.Geteuid() == 0 || cred != nil && cred.Uid == 0
}

func resolve(s reconcile.Step, c Command) (ready, error) {
	if len(c.Argv) == 0 || c.Argv[0] == "" {
		return ready{}, reconcile.HostFault(errors.New("the command is empty"), "Write at least the program's name into it.")
	}
	if i := slices.IndexFunc(c.Argv, func(a string) bool { return strings.ContainsRune(a, 0) }); i >= 0 {
		return ready{}, reconcile.HostFault(fmt.Errorf("argument %d of %s holds a zero byte", i, c.Argv[0]), "No program can be given one: take it out.")
	}
	r := ready{name: c.Argv[0], args: c.Argv, dir: c.Dir}
	if r.dir == "" {
		r.dir = workDir(s)
	}
	var err error
	if r.path, err = find(s, r.dir, r.name); err != nil {
		return ready{}, err
	}
	if strings.HasPrefix(r.path, r.dir+"/") && r.dir != "/" {
		// Also where the release is a user's own and this one command root's.
		if cred, _, err := credential(c.User); err == nil && isRoot(cred) {
			if err := durable.Safe(r.path); err != nil {
				return ready{}, fmt.Errorf("%s would run as root: %w", r.name, err)
			}
		}
	}
	var home []string
	if r.cred, home, err = credential(c.User); err != nil {
		return ready{}, err
	}
	r.env = slices.Concat([]string{"PATH=" + searchPath}, home, reconcile.StepEnv(s), []string{"DRYDOCK_RELEASE_DIR=" + ReleaseDir(s)}, c.Env)
	return r, nil
}

// find is where a program lies. A name that only the release can bring and
// does not bring is the release's fault, everything else the host's.
func find(s reconcile.Step, dir, name string) (string, error) {
	if filepath.IsAbs(name) {
		if err := runnable(name); err != nil {
			return "", reconcile.HostFault(fmt.Errorf("cannot run %s: %w", name, err), "Install it on this host, or name a program of the release.")
		}
		return name, nil
	}
	if dir != "/" {
		path := filepath.Join(dir, name)
		err := runnable(path)
		if err == nil {
			return path, nil
		}
		if strings.Contains(name, "/") || !errors.Is(err, os.ErrNotExist) {
			err = fmt.Errorf("cannot run %s of the release: %w", name, err)
			if s.Phase < reconcile.Install {
				return "", reconcile.HostFault(err, "The release in "+dir+" does not bring this program.")
			}
			return "", reconcile.ReleaseFault(err, "The release in "+dir+" must bring this program, executable by its user.")
		}
	}
	if !strings.Contains(name, "/") {
		for _, d := range filepath.SplitList(searchPath) {
			if p := filepath.Join(d, name); runnable(p) == nil {
				return p, nil
			}
		}
	}
	return "", reconcile.HostFault(fmt.Errorf("command %s not found: neither in the release nor in %s: %w", name, searchPath, os.ErrNotExist),
		"Install it on this host, or write its absolute path.")
}

func runnable(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		var pe *os.PathError
		if errors.As(err, &pe) {
			return pe.Err
		}
		return err
	case !info.Mode().IsRegular():
		return errors.New("it is not a file")
	case info.Mode().Perm()&0o111 == 0:
		return fmt.Errorf("it is not executable: %w", os.ErrPermission)
	}
	return nil
}

// Prepare fails if the host lacks the user that a step's commands run as.
func Prepare(s reconcile.Step) error {
	_, _, err := credential(User(s))
	return err
}

// credential of a user, and the variables that name them. A host without the
// user is for provisioning to mend: the agent makes none.
func credential(name string) (*syscall.Credential, []string, error) {
	if name == "" {
		home := "/"
		if os.Getuid() == 0 {
			home = "/root"
		}
		return nil, []string{"HOME=" + home}, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		if _, e := strconv.Atoi(name); e == nil {
			u, err = user.LookupId(name)
		}
	}
	if err != nil {
		return nil, nil, reconcile.HostFault(fmt.Errorf("user %s: %w", name, err), "Create the user on this host; Drydock never does.")
	}
	vars := []string{"HOME=" + u.HomeDir, "USER=" + u.Username, "LOGNAME=" + u.Username}
	if u.Uid == strconv.Itoa(os.Getuid()) {
		return nil, vars, nil
	}
	if os.Getuid() != 0 {
		return nil, nil, reconcile.HostFault(fmt.Errorf("a command shall run as %s, but the agent is not root", name), "Run the agent as root, or as that user.")
	}
	groups, err := u.GroupIds()
	if err != nil {
		return nil, nil, reconcile.HostFault(fmt.Errorf("groups of user %s: %w", name, err), "Mend the user on this host.")
	}
	c := &syscall.Credential{}
	var errs []error
	number := func(text string) uint32 {
		n, err := strconv.ParseUint(text, 10, 32)
		errs = append(errs, err)
		return uint32(n)
	}
	c.Uid, c.Gid = number(u.Uid), number(u.Gid)
	for _, g := range groups {
		c.Groups = append(c.Groups, number(g))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, nil, reconcile.HostFault(fmt.Errorf("user %s: %w", name, err), "Mend the user on this host.")
	}
	return c, vars, nil
}
