package release

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"drydock/reconcile"
)

// Brought is reconcile.Env.Brought for installers whose state directories are
// below drivers, each under its driver's name: what it says is the manifest's.
// An install path of which nothing was ever written down is nobody's here, and
// then there is nothing to hold a file to; a release that has lost its manifest
// among others is an error.
func Brought(drivers string) func(reconcile.Step) (func(string) string, error) {
	return func(s reconcile.Step) (func(string) string, error) {
		base := s.Target.InstallPath()
		if base == "" {
			return nil, nil
		}
		store := New(Options{State: filepath.Join(drivers, s.Target.Install.Driver)})
		base, name := filepath.Clean(base), s.Target.Release.Dir()
		if _, err := os.Lstat(store.home(base)); errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		m, err := store.load(base, name)
		if err == nil && m == nil {
			err = reconcile.HostFault(fmt.Errorf("what %s brought is not known any more: its manifest is gone or damaged", filepath.Join(base, "releases", name)),
				"See who changes the agent's state directory; the release is fetched again with the next plan")
		}
		if err != nil {
			return nil, err
		}
		return m.digests(), nil
	}
}

// digests is the SHA-256 of what the release brought at a path, through links of
// its own; "" where it brought no file.
func (m *manifest) digests() func(string) string {
	at := make(map[string]entry, len(m.entries))
	for _, e := range m.entries {
		at[e.path] = e
	}
	return func(name string) string {
		dir, todo := ".", strings.Split(name, "/")
		for hops := 0; len(todo) > 0; {
			next := path.Join(dir, todo[0])
			todo = todo[1:]
			if e := at[next]; e.kind == 'l' {
				if hops++; hops > 40 || path.IsAbs(e.target) {
					return ""
				}
				todo = append(strings.Split(e.target, "/"), todo...)
				continue
			}
			dir = next
		}
		return at[dir].digest
	}
}
