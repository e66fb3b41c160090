// Package journal keeps the agent's records, durable and in order, in one
// bbolt file, and what they add up to, reconcile.Memory.
//
// The file holds the memory as of some record (the checkpoint) and the last
// few thousand records. Opening it reads the checkpoint and applies what came
// after; the older records are only kept to be read by people. Everything is
// verified before it is used, because bbolt itself trusts its pages: a flipped
// bit would otherwise end the process or lose a record without a word.
package journal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"drydock/reconcile"
)

// Limits of a journal.
const (
	defaultTimeout = 5 * time.Second
	defaultKeep    = 2000
	maxRecord      = 4 << 20   // bytes of one record's JSON; a service is at most 1 MiB
	maxTail        = 16 << 20  // bytes of all kept records
	maxFile        = 512 << 20 // bytes of a file worth opening
	maxGroup       = 128       // records of one commit
)

// Options of a journal.
type Options struct {
	Path     string           // of the file; its directory is made if it is missing
	Now      func() time.Time // default time.Now
	Boot     string           // of the machine, for records that don't say it
	ReadOnly bool             // reads a file once, at Open, and holds no lock after it
	Timeout  time.Duration    // for the lock; default 5 s

	// KeepRecords is how many records there may be before the older half is
	// deleted; default 2000.
	KeepRecords int
}

// The errors that Open and Append wrap.
var (
	// ErrLocked says that another process has the journal open.
	ErrLocked = errors.New("the journal is in use")
	// ErrNewer says that a newer version of the agent wrote the file.
	ErrNewer = errors.New("the journal was written by a newer version")
	// ErrCorrupt says that the file's content is not what was written. Open
	// returns it only where it may not replace the file.
	ErrCorrupt = errors.New("the journal is corrupt")
	// ErrClosed says that the journal was closed.
	ErrClosed = errors.New("the journal is closed")
)

// Rebuilt says that a corrupt file was set aside and a new one begun, so that
// what the host remembers must be found again on disk and in git.
type Rebuilt struct {
	Cause string    `json:"cause"` // what was wrong with the old file
	Aside string    `json:"aside"` // where it is now
	Since time.Time `json:"since"`
}

// Journal is safe for use by many goroutines.
type Journal struct {
	o       Options
	lock    *os.File
	append  chan *entry
	closing chan struct{}
	done    chan struct{} // closed when the writer has ended
	once    sync.Once

	mu      sync.RWMutex // guards all below
	db      *bolt.DB     // nil: read-only, closed, or broken by a failed write and to be opened again
	memory  *reconcile.Memory
	shown   *reconcile.Memory // what Memory returns, until memory changes
	rebuilt *Rebuilt
	tail    tail
	records []reconcile.Record // read-only: all there are
}

// entry is one append on its way.
type entry struct {
	record  reconcile.Record // in: as given; out: as written
	payload []byte
	set     func(tx *bolt.Tx) error // instead of a record
	result  chan error
}

// Open opens the journal, or begins a new one. A corrupt file is set aside
// (see Rebuilt), one of a newer version is refused and left alone. It waits at
// most Options.Timeout for another process to close it. Read-only, a missing
// file is fs.ErrNotExist.
func Open(o Options) (*Journal, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	if o.KeepRecords <= 0 {
		o.KeepRecords = defaultKeep
	}
	j := &Journal{o: o, append: make(chan *entry), closing: make(chan struct{}), done: make(chan struct{})}
	if o.ReadOnly {
		close(j.done)
		if err := j.openReadOnly(); err != nil {
			return nil, err
		}
		return j, nil
	}
	if err := os.MkdirAll(filepath.Dir(o.Path), 0o700); err != nil {
		return nil, hostFault("make the state directory", err)
	}
	var err error
	if j.lock, err = lockFile(o.Path+".lock", false, o.Timeout); err != nil {
		return nil, err
	}
	if err := j.openOrReplace(); err != nil {
		_ = j.lock.Close()
		return nil, err
	}
	go j.write()
	return j, nil
}

func (j *Journal) openReadOnly() error {
	lock, err := lockFile(j.o.Path+".lock", true, j.o.Timeout)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil // nobody ever wrote here
	}
	if err != nil {
		return err
	}
	if lock != nil {
		defer lock.Close()
	}
	db, loaded, err := load(j.o.Path, true)
	if err != nil {
		return hostFault("read the journal "+j.o.Path, err)
	}
	defer closeDB(db)
	j.memory, j.rebuilt, j.tail = loaded.memory, loaded.rebuilt, loaded.tail
	return guard(func() error {
		for after := uint64(0); ; {
			some, err := readRecords(db, after, 256)
			if err != nil || len(some) == 0 {
				return err
			}
			j.records = append(j.records, some...)
			after = some[len(some)-1].Seq
		}
	})
}

func (j *Journal) openOrReplace() error {
	err := j.reopen()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = create(j.o.Path, nil)
	case errors.Is(err, ErrCorrupt):
		r := Rebuilt{Cause: err.Error(), Since: j.o.Now().UTC()}
		if r.Aside, err = setAside(j.o.Path, r.Since); err == nil {
			err = create(j.o.Path, &r)
		}
	default:
		return err
	}
	if err != nil {
		return hostFault("begin the journal "+j.o.Path, err)
	}
	return j.reopen()
}

// reopen loads the file as it is, verified. The caller is the only writer.
func (j *Journal) reopen() error {
	db, loaded, err := load(j.o.Path, false)
	if err != nil {
		return hostFault("open the journal "+j.o.Path, err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.db, j.memory, j.shown, j.rebuilt, j.tail = db, loaded.memory, nil, loaded.rebuilt, loaded.tail
	return nil
}

// Append writes a record, with Seq, Time and (where it is empty) Boot filled
// in, and returns it so. When it returns without error the record is durable,
// and only then part of the memory. After an error the record may still be
// found on disk once the fault is over (a failed fsync does not say); an error
// of the disk is a host's fault, and the next Append tries again. If ctx ends
// first the record may or may not have been written.
func (j *Journal) Append(ctx context.Context, r reconcile.Record) (reconcile.Record, error) {
	e := &entry{record: r, result: make(chan error, 1)}
	if err := j.send(ctx, e); err != nil {
		return r, err
	}
	return e.record, nil
}

// Rebuilt is not nil from the Open that set a corrupt file aside until
// RebuildDone, also when the agent was killed in between.
func (j *Journal) Rebuilt() *Rebuilt {
	j.mu.RLock()
	defer j.mu.RUnlock()
	return j.rebuilt
}

// RebuildDone says that the memory is whole again. It is durable.
func (j *Journal) RebuildDone(ctx context.Context) error {
	return j.send(ctx, &entry{result: make(chan error, 1), set: func(tx *bolt.Tx) error {
		return tx.Bucket(bucketMeta).Delete(keyRebuilt)
	}})
}

func (j *Journal) send(ctx context.Context, e *entry) error {
	if j.o.ReadOnly {
		return fmt.Errorf("append to %s: it was opened read-only", j.o.Path)
	}
	select {
	case j.append <- e:
	case <-j.done:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-e.result:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Memory is what all records add up to: a snapshot that nobody changes any
// more, nor may the caller. Every service's pass asks for it, so one copy
// serves all until the next record.
func (j *Journal) Memory() reconcile.Memory {
	j.mu.RLock()
	shown := j.shown
	j.mu.RUnlock()
	if shown != nil {
		return *shown
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.shown == nil {
		c := clone(j.memory)
		j.shown = &c
	}
	return *j.shown
}

// Size is the number of bytes of the kept records, and how many there are.
func (j *Journal) Size() (bytes, records int) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	return j.tail.bytes, j.tail.count
}

// Records yields the records that are still kept, oldest first. It holds
// nothing open between two of them; what is pruned meanwhile is left out.
func (j *Journal) Records(ctx context.Context) iter.Seq2[reconcile.Record, error] {
	return func(yield func(reconcile.Record, error) bool) {
		for after := uint64(0); ; {
			some, err := j.after(after)
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(reconcile.Record{}, err)
				return
			}
			if len(some) == 0 {
				return
			}
			for _, r := range some {
				if !yield(r, nil) {
					return
				}
			}
			after = some[len(some)-1].Seq
		}
	}
}

func (j *Journal) after(seq uint64) (some []reconcile.Record, err error) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	if j.o.ReadOnly {
		for i, r := range j.records {
			if r.Seq > seq {
				return j.records[i:], nil
			}
		}
		return nil, nil
	}
	if j.db == nil {
		return nil, ErrClosed
	}
	err = guard(func() error {
		some, err = readRecords(j.db, seq, 256)
		return err
	})
	return some, err
}

// Close waits for the appends under way and closes the file. It may be called twice.
func (j *Journal) Close() error {
	if j.o.ReadOnly {
		return nil
	}
	var err error
	j.once.Do(func() {
		close(j.closing)
		<-j.done
		j.mu.Lock()
		err = closeDB(j.db)
		j.db = nil
		j.mu.Unlock()
		err = errors.Join(err, j.lock.Close())
	})
	return err
}
