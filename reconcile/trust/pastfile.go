package trust

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A Past costs a reading of the whole history, which a process that starts
// often should not pay each time. So it can be kept in a file: opaque, and of
// no worth but time. One that is lost or damaged is read from the history anew.

const (
	pastMagic = "drydock past 2\n"
	maxPast   = 256 << 20 // bytes of the file
)

// Tip is the commit whose past is known, "" for none.
func (p *Past) Tip() string { return p.tip }

// MarshalBinary is the Past in bytes; the same Past, the same bytes. An error
// says that it is too large to be kept.
func (p *Past) MarshalBinary() ([]byte, error) {
	w := &pastWriter{at: map[string]int{}}
	w.word(p.tip)
	for _, m := range p.names.lists() {
		w.body = binary.AppendUvarint(w.body, uint64(len(*m)))
		for _, key := range slices.Sorted(maps.Keys(*m)) {
			w.word(key)
			w.body = binary.AppendUvarint(w.body, uint64(len((*m)[key])))
			for _, v := range (*m)[key] {
				w.word(v)
			}
		}
	}
	body := append(binary.AppendUvarint(nil, uint64(len(w.at))), w.table...)
	body = append(body, w.body...)
	if len(body) > maxPast {
		return nil, fmt.Errorf("the names of releases in this history take %d bytes, and %d is the limit of what is kept", len(body), maxPast)
	}
	return sealed(body), nil
}

// sealed puts the head before a body.
func sealed(body []byte) []byte {
	sum := sha256.Sum256(body)
	return slices.Concat([]byte(pastMagic), sum[:], body)
}

// UnmarshalBinary reads what MarshalBinary wrote, and refuses anything else;
// then the Past is as it was.
func (p *Past) UnmarshalBinary(data []byte) error {
	body, ok := bytes.CutPrefix(data, []byte(pastMagic))
	if !ok || len(body) < sha256.Size || len(body) > maxPast+sha256.Size {
		return errors.New("not a past of this version; it is read from the history anew")
	}
	if sum := sha256.Sum256(body[sha256.Size:]); !bytes.Equal(sum[:], body[:sha256.Size]) {
		return errors.New("the past is damaged; it is read from the history anew")
	}
	r := &pastReader{rest: body[sha256.Size:]}
	for range r.count() {
		n := r.count()
		r.table = append(r.table, string(r.rest[:n]))
		r.rest = r.rest[n:]
	}
	var q Past
	q.tip = r.word()
	q.names.init()
	for _, m := range q.names.lists() {
		for range r.count() {
			key := r.word()
			var list []string
			for range r.count() {
				list = append(list, r.word())
			}
			(*m)[key] = list
		}
	}
	if r.bad || len(r.rest) > 0 {
		return errors.New("the past is malformed; it is read from the history anew")
	}
	q.names.index()
	*p = q
	return nil
}

// lists are what a file keeps of the names; index finds the rest again.
func (n *names) lists() []*map[string][]string {
	return []*map[string][]string{&n.at, &n.keys, &n.paths, &n.services, &n.moved}
}

// index fills in what follows from the lists.
func (n *names) index() {
	for _, at := range slices.Sorted(maps.Keys(n.at)) {
		key, word, _ := strings.Cut(at, "\x00")
		n.words[key] = append(n.words[key], word)
		if len(n.at[at]) > 1 {
			n.again[key] = true
		}
	}
}

// pastWriter writes each string once.
type pastWriter struct {
	at    map[string]int
	table []byte
	body  []byte
}

func (w *pastWriter) word(s string) {
	i, ok := w.at[s]
	if !ok {
		i = len(w.at)
		w.at[s] = i
		w.table = append(binary.AppendUvarint(w.table, uint64(len(s))), s...)
	}
	w.body = binary.AppendUvarint(w.body, uint64(i))
}

type pastReader struct {
	rest  []byte
	table []string
	bad   bool
}

// count is a number of things of which each takes a byte at least.
func (r *pastReader) count() int {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 || v > uint64(len(r.rest)-n) {
		r.bad, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[n:]
	return int(v)
}

func (r *pastReader) word() string {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 || v >= uint64(len(r.table)) {
		r.bad, r.rest = true, nil
		return ""
	}
	r.rest = r.rest[n:]
	return r.table[v]
}
