package journal

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"drydock/reconcile"
)

// checkpointEvery is after how many records the memory is written, so that
// opening the file never has more to apply.
const checkpointEvery = 128

// write is the only goroutine that writes. It takes what waits, commits it as
// one transaction, and so adds no delay to a single append while many at once
// share one fsync.
func (j *Journal) write() {
	defer close(j.done)
	for {
		select {
		case <-j.closing:
			return
		case first := <-j.append:
			j.commit(j.gather(first))
		}
		j.tidy()
	}
}

func (j *Journal) gather(first *entry) []*entry {
	group := []*entry{first}
	for len(group) < maxGroup {
		select {
		case e := <-j.append:
			group = append(group, e)
		default:
			return group
		}
	}
	return group
}

// commit makes a group durable, then part of the memory, then answers.
func (j *Journal) commit(group []*entry) {
	if j.db == nil { // a write failed before: what is on disk must be read again
		if err := j.reopen(); err != nil {
			answer(group, err)
			return
		}
	}
	good := group[:0:0]
	seq := j.memory.Seq // only this goroutine changes it
	for _, e := range group {
		if e.set == nil {
			if err := j.prepare(e, seq+1); err != nil {
				e.result <- err
				continue
			}
			seq++
		}
		good = append(good, e)
	}
	if len(good) == 0 {
		return
	}
	err := guard(func() error { return j.db.Update(func(tx *bolt.Tx) error { return putAll(tx, good) }) })
	if err != nil {
		j.breakOff()
		answer(good, hostFault("write the journal "+j.o.Path, err))
		return
	}
	j.mu.Lock()
	for _, e := range good {
		if e.set != nil {
			j.rebuilt = nil
			continue
		}
		j.memory.Apply(decoded(e.payload))
		j.shown = nil
		j.tail.add(e.record.Seq, len(e.payload))
	}
	j.mu.Unlock()
	answer(good, nil)
}

// prepare fills a record in and encodes it.
func (j *Journal) prepare(e *entry, seq uint64) error {
	r := &e.record
	r.Seq, r.Time = seq, j.o.Now().UTC().Round(0)
	if r.Boot == "" {
		r.Boot = j.o.Boot
	}
	var err error
	if e.payload, err = encode(r); err != nil {
		return fmt.Errorf("record %s of %q: %w", r.Kind, r.Service, err)
	}
	if len(e.payload) > maxRecord {
		return fmt.Errorf("record %s of %q has %d bytes, at most %d are written", r.Kind, r.Service, len(e.payload), maxRecord)
	}
	// The memory must be what a restart would find, so it is made from the
	// bytes and not from the value; what cannot be read must not be written.
	var back reconcile.Record
	if err := json.Unmarshal(e.payload, &back); err != nil {
		return fmt.Errorf("record %s of %q cannot be read again: %w", r.Kind, r.Service, err)
	}
	return nil
}

func putAll(tx *bolt.Tx, group []*entry) error {
	b := tx.Bucket(bucketRecords)
	b.FillPercent = 0.95 // keys only ever grow
	for _, e := range group {
		if e.set != nil {
			if err := e.set(tx); err != nil {
				return err
			}
			continue
		}
		key := binary.BigEndian.AppendUint64(nil, e.record.Seq)
		if err := b.Put(key, seal(key, e.payload)); err != nil {
			return err
		}
	}
	return nil
}

func answer(group []*entry, err error) {
	for _, e := range group {
		e.result <- err
	}
}

// breakOff closes the file after a failed write. bbolt's mapping may show a
// commit whose fsync failed while its list of free pages does not know of it,
// so nothing more may be written before everything was read again.
func (j *Journal) breakOff() {
	j.mu.Lock()
	defer j.mu.Unlock()
	_ = closeDB(j.db)
	j.db = nil
}

// tidy writes the memory and deletes old records, where it is time. A fault
// is not an append's: it is found again, and told, by the next.
func (j *Journal) tidy() {
	prune := j.tail.count > j.o.KeepRecords || j.tail.bytes > maxTail
	if j.db == nil || !prune && j.tail.unfolded < checkpointEvery {
		return
	}
	memory, err := encode(j.memory)
	if err != nil {
		return
	}
	t := j.tail
	err = guard(func() error {
		return j.db.Update(func(tx *bolt.Tx) error {
			if err := tx.Bucket(bucketMeta).Put(keyMemory, seal(keyMemory, memory)); err != nil {
				return err
			}
			if prune {
				return t.prune(tx.Bucket(bucketRecords), j.o.KeepRecords/2, maxTail/2)
			}
			return nil
		})
	})
	if err != nil {
		j.breakOff()
		return
	}
	t.unfolded = 0
	j.mu.Lock()
	j.tail = t
	j.mu.Unlock()
}

// tail is what is known of the kept records.
type tail struct {
	last     uint64 // seq of the newest
	count    int
	bytes    int
	unfolded int // newer than the checkpoint
}

func (t *tail) add(seq uint64, size int) {
	t.last, t.count, t.bytes, t.unfolded = seq, t.count+1, t.bytes+size, t.unfolded+1
}

// prune deletes from the oldest on until no more than count and size are left.
func (t *tail) prune(b *bolt.Bucket, count, size int) error {
	c := b.Cursor()
	for t.count > count || t.bytes > size {
		k, v := c.First()
		if k == nil {
			return errors.New("fewer records than were counted")
		}
		t.count, t.bytes = t.count-1, t.bytes-(len(v)-sumSize)
		if err := b.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

// encode is compact JSON that leaves the bytes of embedded JSON as they are:
// two blocks are the same if their bytes are.
func encode(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), err
}

func decoded(payload []byte) (r reconcile.Record) {
	_ = json.Unmarshal(payload, &r) // prepare has tried it
	return r
}
