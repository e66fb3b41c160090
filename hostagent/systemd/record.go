package systemd

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"drydock/hostagent/argv"
	"drydock/hostagent/durable"
	"drydock/reconcile"
)

// record is what was asked of systemd last for a service: durable before the
// job begins, and again after its end. A new agent tells by it whether what
// runs was started for its step's revision.
type record struct {
	Ident  string `json:"ident"` // of the revision, see identity
	Unit   string `json:"unit"`
	Before string `json:"before"` // the invocation that ran when it was asked; "" if none
	After  string `json:"after"`  // the invocation that it came to; "" while nobody knows
	Ours   bool   `json:"ours"`   // nothing ran before we first started it
}

const maxRecord = 64 << 10

// identity is the revision as far as the start block has to do with it: the
// release, where it is, and how it is started.
func identity(s reconcile.Step) string {
	r := s.Target.Release
	data, _ := json.Marshal([]any{argv.ReleaseDir(s), r.Version, r.Digest, max(r.Attempt, 1), s.Block.Config})
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func (d *Driver) path(s reconcile.Step) string {
	return filepath.Join(d.env.StateDir, s.Service, "asked")
}

// read is the record of a service; a missing or damaged one is the zero value:
// then it is asked again, which does no harm.
func (d *Driver) read(s reconcile.Step) (record, error) {
	f, err := os.Open(d.path(s))
	if errors.Is(err, fs.ErrNotExist) {
		return record{}, nil
	}
	if err != nil {
		return record{}, stateFault(err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxRecord))
	if err != nil {
		return record{}, stateFault(err)
	}
	var r record
	if json.Unmarshal(data, &r) != nil {
		return record{}, nil
	}
	return r, nil
}

func (d *Driver) write(s reconcile.Step, r record) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := durable.MkdirAll(filepath.Dir(d.path(s)), 0o700); err != nil {
		return stateFault(err)
	}
	if err := durable.WriteFile(d.path(s), data, 0o600); err != nil {
		return stateFault(err)
	}
	return nil
}

func (d *Driver) forget(s reconcile.Step) error {
	if err := durable.Remove(d.path(s)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return stateFault(err)
	}
	return nil
}

func stateFault(err error) error {
	return reconcile.HostFault(fmt.Errorf("the agent's state: %w", err), "Make the state directory writable, or make room on its disk.")
}
