package apt

import (
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// moment is how dpkg's bookkeeping stood: it replaces its status file with each
// change, and while it is at work puts changes beside it.
type moment struct {
	inode, mtime, size int64
	beside             int
}

// dpkgAt is the moment now; a zero one is like no other.
func dpkgAt() moment {
	var st unix.Stat_t
	if unix.Stat("/var/lib/dpkg/status", &st) != nil {
		return moment{}
	}
	beside, _ := filepath.Glob("/var/lib/dpkg/updates/*")
	return moment{int64(st.Ino), st.Mtim.Nano(), st.Size, len(beside)}
}

// seen is what dpkg said of packages, and when.
type seen struct {
	mu   sync.Mutex
	at   moment
	what map[string]status
}

func (s *seen) get(pkg string, at moment) (status, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at == (moment{}) || at != s.at || at.beside > 0 {
		return status{}, false
	}
	found, ok := s.what[pkg]
	return found, ok
}

func (s *seen) put(pkg string, at moment, found status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at != s.at || s.what == nil {
		s.at, s.what = at, map[string]status{}
	}
	s.what[pkg] = found
}
