package release

import (
	"context"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"drydock/hostagent/durable"

	"golang.org/x/sys/unix"
)

// seen is what the stats of a manifest's entries were when their content was
// last known to be right, and when everything was last hashed. It is a cache:
// lost or damaged, everything is hashed again.
type seen struct {
	full  time.Time
	stats []stat // in the order of the manifest's entries
}

// stat is what changes when a file is written to: size and times, and the
// inode when it is replaced. Setting mtime back leaves its trace in ctime.
type stat struct {
	size, mtime, ctime int64
	ino                uint64
}

func statOf(st *unix.Stat_t) stat {
	return stat{size: st.Size, mtime: st.Mtim.Nano(), ctime: st.Ctim.Nano(), ino: st.Ino}
}

func (s *seen) encode(m *manifest) []byte {
	if m.sum == "" {
		m.encode()
	}
	b := fmt.Appendf(nil, "drydock-seen 1 %s %d\n", m.sum, s.full.UnixNano())
	for _, st := range s.stats {
		for _, n := range []int64{st.size, st.mtime, st.ctime} {
			b = append(strconv.AppendInt(b, n, 10), ' ')
		}
		b = append(strconv.AppendUint(b, st.ino, 10), '\n')
	}
	return fmt.Appendf(b, "end %08x\n", crc32.ChecksumIEEE(b))
}

// decodeSeen returns nil for anything but a whole one of this manifest.
func decodeSeen(data []byte, m *manifest) *seen {
	body, end, ok := strings.Cut(string(data), "\nend ")
	if !ok || end != fmt.Sprintf("%08x\n", crc32.ChecksumIEEE([]byte(body+"\n"))) {
		return nil
	}
	lines := strings.Split(body, "\n")
	head := strings.Fields(lines[0])
	if len(head) != 4 || head[2] != m.sum || len(lines)-1 != len(m.entries) {
		return nil
	}
	full, err := strconv.ParseInt(head[3], 10, 64)
	if err != nil {
		return nil
	}
	s := &seen{full: time.Unix(0, full), stats: make([]stat, len(m.entries))}
	for i, line := range lines[1:] {
		var n [4]uint64
		for j := range n {
			var word string
			word, line, _ = strings.Cut(line, " ")
			v, err := strconv.ParseInt(word, 10, 64)
			u, err2 := strconv.ParseUint(word, 10, 64)
			if err != nil && err2 != nil {
				return nil
			}
			if n[j] = u; err == nil {
				n[j] = uint64(v)
			}
		}
		s.stats[i] = stat{int64(n[0]), int64(n[1]), int64(n[2]), n[3]}
	}
	return s
}

// check compares a tree with its manifest and returns the first difference,
// for people, or "". A file whose stat is as remembered is believed, unless
// daily is set and everything was last hashed a day ago.
func (s *Store) check(ctx context.Context, root string, m *manifest, daily bool) (string, error) {
	var st unix.Stat_t
	if unix.Lstat(root, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return root + " is missing", nil
	}
	home := s.home(m.path)
	data, _ := os.ReadFile(seenFile(home, m.name))
	saw := decodeSeen(data, m)
	news := saw == nil
	if news {
		saw = &seen{stats: make([]stat, len(m.entries))}
	}
	now := s.now()
	// A clock that was set back would otherwise put the next full look off for ever.
	everything := news || daily && (now.Sub(saw.full) >= s.full || now.Before(saw.full))
	var buf []byte
	for i := range m.entries {
		e := &m.entries[i]
		if err := ctx.Err(); err != nil {
			return "", err
		}
		path := filepath.Join(root, filepath.FromSlash(e.path))
		if unix.Lstat(path, &st) != nil {
			return e.path + " is missing", nil
		}
		if problem := e.differs(path, &st); problem != "" {
			return e.path + ": " + problem, nil
		}
		if e.kind != 'f' || !everything && statOf(&st) == saw.stats[i] {
			continue
		}
		if buf == nil {
			buf = make([]byte, 256<<10)
		}
		digest, err := hashFile(path, buf)
		if err != nil {
			return "", durable.HostFault(err)
		}
		if digest != e.digest {
			return e.path + ": content differs", nil
		}
		saw.stats[i], news = statOf(&st), true
	}
	if everything {
		saw.full = now
	}
	if news || everything {
		// Failing to remember costs a hash next time, nothing else.
		_ = durable.WriteCache(seenFile(home, m.name), saw.encode(m), 0o600)
	}
	return "", nil
}

// kindOf is an entry's kind and its name for people.
func kindOf(mode uint32) (byte, string) {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return 'f', "a file"
	case unix.S_IFDIR:
		return 'd', "a directory"
	case unix.S_IFLNK:
		return 'l', "a link"
	}
	return 0, "no file, directory or link"
}

// differs compares what a stat can tell.
func (e *entry) differs(path string, st *unix.Stat_t) string {
	kind, what := kindOf(st.Mode)
	switch {
	case kind != e.kind:
		return "is " + what + " now"
	case e.kind == 'l':
		if target, err := os.Readlink(path); err != nil || target != e.target {
			return fmt.Sprintf("points to %s instead of %s", target, e.target)
		}
	case st.Mode&0o7777 != e.mode:
		return fmt.Sprintf("mode is %04o instead of %04o", st.Mode&0o7777, e.mode)
	case e.kind == 'f' && st.Size != e.size:
		return "size differs"
	}
	return ""
}
