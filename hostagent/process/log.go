package process

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"drydock/hostagent/durable"
	"drydock/reconcile"
)

// maxLog is the size at which a log is moved aside: its content is copied to
// <log>.1, over the one before, and the log emptied. The process holds the
// file open to append, so it goes on in the emptied one; a line that it writes
// between the two is lost. While no agent runs the log is not bounded.
const maxLog = 16 << 20

// maxEnvFile is the size of an env_file.
const maxEnvFile = 1 << 20

func (d *Driver) logPath(s reconcile.Step, c config) string {
	if c.Log != "" {
		return c.Log
	}
	return filepath.Join(d.site(s).Dir, "output.log")
}

func openLog(path string) (*os.File, error) {
	fault := func(err error) error {
		return reconcile.HostFault(fmt.Errorf("open the log: %w", err), "Make its directory, or mend what stands in its place.")
	}
	// The agent may be root and the directory the service's: a link there must
	// not make the agent write elsewhere, nor a pipe make it wait.
	dir, err := durable.OpenDir(nil, filepath.Dir(path), true)
	if err != nil {
		return nil, fault(err)
	}
	defer dir.Close()
	bound(dir, filepath.Base(path))
	f, err := os.OpenFile(durable.Below(dir, filepath.Base(path)), os.O_WRONLY|os.O_CREATE|os.O_APPEND|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o640)
	if err != nil {
		return nil, fault(err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New(path + " is not a file")
	}
	if err == nil {
		err = unix.SetNonblock(int(f.Fd()), false)
	}
	if err != nil {
		f.Close()
		return nil, fault(err)
	}
	return f, nil
}

// canLog fails where openLog would for a log that the block names, and makes
// nothing.
func canLog(path string) error {
	if path == "" {
		return nil
	}
	err := durable.CanMake(filepath.Dir(path))
	if info, lerr := os.Lstat(path); err == nil && lerr == nil && !info.Mode().IsRegular() {
		err = errors.New(path + " is not a file")
	}
	if err != nil {
		return reconcile.HostFault(fmt.Errorf("the log: %w", err), "Make its directory, or mend what stands in its place.")
	}
	return nil
}

// boundLog moves a log aside that has grown too large, and reports whether it
// had. It is best effort: a log must not stop a service.
func boundLog(path string) bool {
	dir, err := durable.OpenDir(nil, filepath.Dir(path), false)
	if err != nil {
		return false
	}
	defer dir.Close()
	return bound(dir, filepath.Base(path))
}

func bound(dir *os.File, name string) bool {
	f, err := os.OpenFile(durable.Below(dir, name), os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() < maxLog {
		return false
	}
	aside := durable.Below(dir, name+".1")
	_ = os.Remove(aside)
	to, err := os.OpenFile(aside, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o640)
	if err == nil {
		// Of a log that grew while no agent looked, only the end is worth its space.
		_, _ = io.Copy(to, io.NewSectionReader(f, info.Size()-maxLog, maxLog))
		to.Close()
	}
	_ = f.Truncate(0) // also if the copy failed: a full disk is worse than a lost log
	return true
}

// environment is what env_file says, and over it env.
func environment(c config) ([]string, error) {
	var vars []string
	if c.EnvFile != "" {
		var err error
		if vars, err = readEnvFile(c.EnvFile); err != nil {
			return nil, reconcile.HostFault(fmt.Errorf("env_file: %w", err), "Provisioning writes this file: NAME=value, one a line.")
		}
	}
	for _, k := range slices.Sorted(maps.Keys(c.Env)) {
		vars = append(vars, k+"="+c.Env[k])
	}
	return vars, nil
}

// readEnvFile reads NAME=value lines; empty ones and those that begin with #
// count for nothing, and one pair of quotes around a value is taken off.
// Errors never show a line: it may hold a secret.
func readEnvFile(path string) ([]string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() || info.Size() > maxEnvFile {
		return nil, fmt.Errorf("%s must be a file of at most %d bytes", path, maxEnvFile)
	}
	var vars []string
	lines := bufio.NewScanner(io.LimitReader(f, maxEnvFile))
	lines.Buffer(nil, maxEnvFile)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(strings.TrimPrefix(line, "export "), "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if !ok || name == "" || strings.ContainsAny(name, " \t\x00") || strings.ContainsRune(value, 0) {
			return nil, fmt.Errorf("%s:%d is not NAME=value", path, n)
		}
		if q := len(value) - 1; q > 0 && (value[0] == '"' || value[0] == '\'') && value[q] == value[0] {
			value = value[1:q]
		}
		vars = append(vars, name+"="+value)
	}
	return vars, lines.Err()
}

// lastWords says where the program's own words are. They are not repeated: a
// service may log what no status should show.
func (d *Driver) lastWords(s reconcile.Step) string {
	c, err := decode(s)
	if err != nil {
		return "its log is not known"
	}
	return "its log is " + d.logPath(s, c)
}
