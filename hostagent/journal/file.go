package journal

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"drydock/reconcile"
)

// The file's layout. A newer format must keep the bucket meta and its key
// format, so that this version can refuse it.
const (
	format  = 1
	sumSize = 4
)

var (
	bucketMeta    = []byte("meta")
	bucketRecords = []byte("records") // big-endian seq -> sealed JSON
	keyFormat     = []byte("format")
	keyMemory     = []byte("memory")
	keyRebuilt    = []byte("rebuilt")
	castagnoli    = crc32.MakeTable(crc32.Castagnoli)
)

// asideKept is how many corrupt files are left for people to look at.
const asideKept = 3

// seal puts a checksum over key and payload before the payload.
func seal(key, payload []byte) []byte {
	sum := crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, payload)
	return append(binary.BigEndian.AppendUint32(make([]byte, 0, sumSize+len(payload)), sum), payload...)
}

// unseal returns the payload, which is bbolt's memory until its transaction ends.
func unseal(key, sealed []byte) ([]byte, error) {
	if len(sealed) < sumSize {
		return nil, fmt.Errorf("%w: %x is missing or too short", ErrCorrupt, key)
	}
	payload := sealed[sumSize:]
	if crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, payload) != binary.BigEndian.Uint32(sealed) {
		return nil, fmt.Errorf("%w: checksum of %x differs", ErrCorrupt, key)
	}
	return payload, nil
}

type loaded struct {
	memory  *reconcile.Memory
	rebuilt *Rebuilt
	tail    tail
}

// load verifies and opens a file. Errors wrap fs.ErrNotExist, ErrCorrupt,
// ErrNewer, or are the disk's.
func load(path string, readOnly bool) (db *bolt.DB, l loaded, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, l, err
	}
	if info.Size() > maxFile {
		return nil, l, fmt.Errorf("it has %d bytes, at most %d are expected", info.Size(), maxFile)
	}
	image, err := os.ReadFile(path)
	if err != nil {
		return nil, l, err
	}
	if err := verify(image); err != nil {
		return nil, l, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	err = guard(func() error {
		// NoFreelistSync: free pages are found again at Open, from pages that
		// were just verified, instead of trusted from a list without checksum.
		db, err = bolt.Open(path, 0o600, &bolt.Options{
			Timeout: time.Second, ReadOnly: readOnly, NoFreelistSync: true, FreelistType: bolt.FreelistMapType, NoStatistics: true,
		})
		if err != nil {
			return err
		}
		return db.View(l.read)
	})
	if err != nil {
		_ = closeDB(db)
		return nil, l, err
	}
	return db, l, nil
}

func (l *loaded) read(tx *bolt.Tx) error {
	meta, records := tx.Bucket(bucketMeta), tx.Bucket(bucketRecords)
	if meta == nil {
		return fmt.Errorf("%w: it has no format", ErrCorrupt)
	}
	payload, err := unseal(keyFormat, meta.Get(keyFormat))
	if err != nil {
		return err
	}
	if v, err := strconv.Atoi(string(payload)); err != nil || v > format {
		return fmt.Errorf("%w: format %s, and this one reads up to %d; install the newer version again, or move the file away to begin anew", ErrNewer, payload, format)
	}
	if records == nil {
		return fmt.Errorf("%w: it has no records", ErrCorrupt)
	}
	l.memory = reconcile.NewMemory()
	if err := readJSON(meta, keyMemory, l.memory); err != nil {
		return err
	}
	if err := readJSON(meta, keyRebuilt, &l.rebuilt); err != nil {
		return err
	}
	return l.readTail(records)
}

// readTail checks every record, and applies those newer than the checkpoint.
// The sequence has no holes, and reaches the checkpoint.
func (l *loaded) readTail(records *bolt.Bucket) error {
	checkpoint := l.memory.Seq
	err := records.ForEach(func(k, v []byte) error {
		if len(k) != 8 {
			return fmt.Errorf("%w: a record's key has %d bytes", ErrCorrupt, len(k))
		}
		payload, err := unseal(k, v)
		if err != nil {
			return err
		}
		seq := binary.BigEndian.Uint64(k)
		if l.tail.count > 0 && seq != l.tail.last+1 || l.tail.count == 0 && seq > checkpoint+1 {
			return fmt.Errorf("%w: records before %d are missing", ErrCorrupt, seq)
		}
		l.tail.add(seq, len(payload))
		if seq <= checkpoint {
			l.tail.unfolded = 0
			return nil
		}
		var r reconcile.Record
		if err := json.Unmarshal(payload, &r); err != nil {
			return fmt.Errorf("%w: record %d: %w", ErrCorrupt, seq, err)
		}
		l.memory.Apply(r)
		return nil
	})
	if err == nil && l.tail.last < checkpoint {
		return fmt.Errorf("%w: records after %d are missing", ErrCorrupt, l.tail.last)
	}
	return err
}

// readJSON reads a sealed value; one that is not there leaves into as it is.
func readJSON(b *bolt.Bucket, key []byte, into any) error {
	sealed := b.Get(key)
	if sealed == nil {
		return nil
	}
	payload, err := unseal(key, sealed)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(payload, into); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrCorrupt, key, err)
	}
	return nil
}

// readRecords reads up to limit records after seq.
func readRecords(db *bolt.DB, seq uint64, limit int) (some []reconcile.Record, err error) {
	err = db.View(func(tx *bolt.Tx) error {
		c := tx.Bucket(bucketRecords).Cursor()
		for k, v := c.Seek(binary.BigEndian.AppendUint64(nil, seq+1)); k != nil && len(some) < limit; k, v = c.Next() {
			payload, err := unseal(k, v)
			if err != nil {
				return err
			}
			var r reconcile.Record
			if err := json.Unmarshal(payload, &r); err != nil {
				return fmt.Errorf("%w: record %x: %w", ErrCorrupt, k, err)
			}
			some = append(some, r)
		}
		return nil
	})
	return some, err
}

// create makes an empty journal beside path and renames it, so that a file
// under that name is always whole. What a killed predecessor left is replaced.
func create(path string, rebuilt *Rebuilt) error {
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err := guard(func() error {
		db, err := bolt.Open(fresh, 0o600, &bolt.Options{Timeout: time.Second, NoFreelistSync: true, NoStatistics: true})
		if err != nil {
			return err
		}
		return errors.Join(db.Update(func(tx *bolt.Tx) error { return initialise(tx, rebuilt) }), db.Close())
	})
	if err != nil {
		return err
	}
	if err := os.Rename(fresh, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func initialise(tx *bolt.Tx, rebuilt *Rebuilt) error {
	meta, err := tx.CreateBucket(bucketMeta)
	if err != nil {
		return err
	}
	if _, err := tx.CreateBucket(bucketRecords); err != nil {
		return err
	}
	if rebuilt != nil {
		payload, err := encode(rebuilt)
		if err != nil {
			return err
		}
		if err := meta.Put(keyRebuilt, seal(keyRebuilt, payload)); err != nil {
			return err
		}
	}
	return meta.Put(keyFormat, seal(keyFormat, strconv.AppendInt(nil, format, 10)))
}

// setAside renames a corrupt file and returns its new name; of those it keeps
// a few, because a failing disk must not also be filled.
func setAside(path string, now time.Time) (string, error) {
	aside := path + ".corrupt-" + now.Format("20060102T150405.000000000Z")
	if err := os.Rename(path, aside); err != nil {
		return "", err
	}
	old, _ := filepath.Glob(globQuote(path) + ".corrupt-*")
	slices.Sort(old)
	for _, name := range old[:max(0, len(old)-asideKept)] {
		_ = os.Remove(name)
	}
	return aside, syncDir(filepath.Dir(path))
}

func globQuote(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func closeDB(db *bolt.DB) error {
	if db == nil {
		return nil
	}
	return guard(db.Close)
}

// guard turns bbolt's panics, and faults of its mapping (a bad sector, a file
// cut short), into errors.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", ErrCorrupt, p)
		}
	}()
	return f()
}

// lockFile takes the lock that makes one process the journal's only writer,
// and writes into the file which one. It is a file of its own, because the
// journal's may be replaced while somebody waits.
func lockFile(path string, shared bool, timeout time.Duration) (*os.File, error) {
	flags, how := os.O_RDWR|os.O_CREATE, unix.LOCK_EX
	if shared {
		flags, how = os.O_RDONLY, unix.LOCK_SH
	}
	f, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return nil, hostFault("lock the journal", err)
	}
	for deadline := time.Now().Add(timeout); ; time.Sleep(20 * time.Millisecond) {
		err = unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) || !time.Now().Before(deadline) {
			holder := holder(f)
			_ = f.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				return nil, fmt.Errorf("%w by %s (lock %s). An agent that starts, or takes up a changed configuration, answers in a moment: try again then", ErrLocked, holder, path)
			}
			return nil, hostFault("lock "+path, err)
		}
	}
	if !shared {
		// For people only, so a full disk must not stop the agent here.
		if f.Truncate(0) == nil {
			_, _ = f.WriteAt(strconv.AppendInt(nil, int64(os.Getpid()), 10), 0)
		}
	}
	return f, nil
}

func holder(f *os.File) string {
	b, _ := io.ReadAll(io.NewSectionReader(f, 0, 32))
	if pid, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
		return fmt.Sprintf("process %d", pid)
	}
	return "another process"
}

// hostFault says whose fault it is and what to do about the usual ones.
func hostFault(doing string, err error) error {
	err = fmt.Errorf("%s: %w", doing, err)
	switch {
	case errors.Is(err, ErrNewer), errors.Is(err, fs.ErrNotExist):
		return err
	case errors.Is(err, ErrCorrupt):
		return reconcile.HostFault(err, "Restart the agent: it sets the file aside and rebuilds it from disk and git.")
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return reconcile.HostFault(err, "Free space on that disk; nothing that was written is lost.")
	case errors.Is(err, unix.EROFS):
		return reconcile.HostFault(err, "Mount that disk writable; nothing that was written is lost.")
	case errors.Is(err, fs.ErrPermission):
		return reconcile.HostFault(err, "Run the agent as the owner of its state directory.")
	}
	return reconcile.HostFault(err, "Look at the disk and the kernel's log; nothing that was written is lost.")
}
