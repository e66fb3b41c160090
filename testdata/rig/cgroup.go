package rig

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
)

// hierarchies are where cgroups may stand: version 2 alone, or version 1 with
// systemd's own hierarchy and perhaps version 2 beside it.
var hierarchies = []string{"/sys/fs/cgroup", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"}

var cgroupSerial atomic.Int64

// newCgroup makes a cgroup for one host and returns its name. Without one, two
// hosts side by side would share the cgroups of units that are called the same,
// and neither's systemd could tell when its own are empty. What killed tests left behind is removed first.
func newCgroup() (string, error) {
	const prefix = "drydock-rig."
	for _, h := range hierarchies {
		left, _ := filepath.Glob(filepath.Join(h, prefix+"*"))
		for _, dir := range left {
			var pid int
			if _, err := fmt.Sscanf(filepath.Base(dir), prefix+"%d.", &pid); err == nil && syscall.Kill(pid, 0) == syscall.ESRCH {
				removeCgroup(filepath.Base(dir))
			}
		}
	}
	name := fmt.Sprintf("%s%d.%d", prefix, os.Getpid(), cgroupSerial.Add(1))
	made := false
	for _, h := range hierarchies {
		if _, err := os.Stat(filepath.Join(h, "cgroup.procs")); err != nil {
			continue // none here, or only the folder that holds version 1's
		}
		if err := os.Mkdir(filepath.Join(h, name), 0o755); err != nil {
			return "", err
		}
		made = true
	}
	if !made {
		return "", fmt.Errorf("no cgroups at %s", strings.Join(hierarchies, ", "))
	}
	return name, nil
}

// removeCgroup removes a cgroup and those below it; their processes are gone.
func removeCgroup(name string) {
	for _, h := range hierarchies {
		var dirs []string
		_ = filepath.WalkDir(filepath.Join(h, name), func(path string, e fs.DirEntry, err error) error {
			if err == nil && e.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		for _, dir := range slices.Backward(dirs) {
			_ = syscall.Rmdir(dir)
		}
	}
}
