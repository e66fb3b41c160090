package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"drydock/hostagent"
	"drydock/hostagent/durable"
	"drydock/reconcile"
)

const (
	// leastSpace and leastFiles must be free below the state directory, for a
	// journal, a clone and an artifact on its way.
	leastSpace = 64 << 20
	leastFiles = 1000
	// earliest is a time that no clock which was ever set is before.
	earliest = 2025
)

// ownNeeds are what the agent itself needs of the host, beside its source: a
// state directory with room, the directories and files that its configuration
// names, and a clock. It changes nothing.
func ownNeeds(cfg hostagent.Config, c *hostagent.Credentials, now time.Time, shortfall string) []hostagent.HostNeed {
	all := []hostagent.HostNeed{
		own("state directory", stateDirectory(cfg.State)),
		own("space for state", space(cfg.State)),
		own("clock", clock(now)),
	}
	for _, dir := range cfg.Credentials {
		all = append(all, own("credentials directory "+dir, credentialsDirectory(dir)))
	}
	if name := cfg.Source.Token.Credential; name != "" {
		all = append(all, own(fmt.Sprintf("credential %q", name), c.Check(name)))
	}
	for _, f := range []struct{ what, path string }{{"ssh_key", cfg.Source.SSHKey}, {"known_hosts", cfg.Source.KnownHosts}, {"ca", cfg.Source.CA}} {
		if f.path != "" {
			all = append(all, own(f.what+" "+f.path, readable(f.path)))
		}
	}
	if shortfall != "" {
		// Nothing that anybody must do: it goes on, with a wall less.
		all = append(all, hostagent.HostNeed{Needs: "confinement: " + shortfall, Origin: "the kernel", Found: hostagent.Unasked, Problem: shortfall})
	}
	if cfg.Trust != nil {
		for _, f := range []struct{ what, path string }{{"signers", cfg.Trust.Signers}, {"revoked", cfg.Trust.Revoked}, {"keyring", cfg.Trust.Keyring}} {
			if f.path != "" {
				all = append(all, own(f.what+" "+f.path, readable(f.path)))
			}
		}
		all = append(all, own("trust", usable(cfg)))
	}
	return all
}

// usable: an agent that runs goes on with the keys that it has read before.
func usable(cfg hostagent.Config) error {
	if _, err := openKeys(cfg); err != nil {
		return reconcile.HostFault(err, "Put the file right; until then a running agent goes on with what it read before, and none can be started.")
	}
	return nil
}

func own(what string, err error) hostagent.HostNeed {
	n := hostagent.NeedOf(what, err)
	n.Origin = "hostagent.hcl"
	return n
}

// stateDirectory: the agent makes it itself where it may.
func stateDirectory(path string) error {
	dir, err := hostagent.Guarded(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := durable.CanMake(path); err != nil {
			return reconcile.HostFault(fmt.Errorf("the agent can neither find nor make it: %w", err), "Make it (mkdir -m 0700), owned by the agent's user.")
		}
		return nil
	}
	if err == nil {
		err = unix.Access(dir, unix.R_OK|unix.W_OK|unix.X_OK)
	}
	if err != nil {
		return reconcile.HostFault(err, "It must be the agent's own, mode 0700: who writes there decides what runs.")
	}
	return nil
}

func space(path string) error {
	var st unix.Statfs_t
	for at := path; ; at = filepath.Dir(at) {
		err := unix.Statfs(at, &st)
		if errors.Is(err, fs.ErrNotExist) && at != "/" {
			continue // not made yet: what counts is where it will be
		}
		if err != nil {
			return reconcile.HostFault(fmt.Errorf("%s: %w", at, err), "Mend the file system of the state directory.")
		}
		break
	}
	if free := st.Bavail * uint64(st.Bsize); free < leastSpace {
		return reconcile.HostFault(fmt.Errorf("%d MiB are free, and %d are needed", free>>20, leastSpace>>20), "Make room on the disk of the state directory.")
	}
	if st.Files > 0 && st.Ffree < leastFiles {
		return reconcile.HostFault(fmt.Errorf("%d files can still be made, and %d are needed", st.Ffree, leastFiles), "Free inodes on the disk of the state directory.")
	}
	return nil
}

func clock(now time.Time) error {
	if now.Year() < earliest {
		return reconcile.HostFault(fmt.Errorf("it says %s", now.UTC().Format(time.RFC3339)), "Set it, and keep it set by NTP: windows, freezes and what a commit may be dated hang on it.")
	}
	return nil
}

func credentialsDirectory(path string) error {
	dir, err := hostagent.Guarded(path)
	if err == nil {
		err = unix.Access(dir, unix.X_OK)
	}
	if err != nil {
		return reconcile.HostFault(err, "Make it (mkdir -m 0700), owned by root or by the agent's user; a file a credential, mode 0600.")
	}
	return nil
}

func readable(path string) error {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return reconcile.HostFault(err, "Put it there, readable for the agent.")
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return reconcile.HostFault(fmt.Errorf("%s is not a file", path), "Put one there, readable for the agent.")
	}
	return nil
}
