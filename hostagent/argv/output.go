package argv

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"unicode"
)

// Of a command's output its beginning, which says what it set out to do, and
// its end, which says what became of it, are kept.
const (
	headBytes = 16 << 10
	tailBytes = 48 << 10
)

// capped is a writer that keeps head and tail of what it is given and never
// holds up the one who writes. Safe for use by several goroutines: after
// exec's WaitDelay a copier may still be on its way.
type capped struct {
	mu    sync.Mutex
	head  []byte
	tail  []byte
	total int64
}

// Write keeps what it may and always takes everything.
func (c *capped) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(p)
	c.total += int64(n)
	if room := headBytes - len(c.head); room > 0 {
		k := min(room, len(p))
		c.head = append(c.head, p[:k]...)
		p = p[k:]
	}
	c.tail = append(c.tail, p...)
	// Moved only when it has doubled, so that a chatty command costs no more
	// than two copies of each byte.
	if len(c.tail) > 2*tailBytes {
		c.tail = append(c.tail[:0], c.tail[len(c.tail)-tailBytes:]...)
	}
	return n, nil
}

// ReadFrom is Write for all that r has. [io.Copy] would take 32 KiB for it,
// which for commands that say a word, asked every second, is most of the
// agent's garbage.
func (c *capped) ReadFrom(r io.Reader) (n int64, err error) {
	buf := make([]byte, 4<<10)
	for {
		k, err := r.Read(buf)
		_, _ = c.Write(buf[:k])
		n += int64(k)
		switch {
		case err == io.EOF:
			return n, nil
		case err != nil:
			return n, err
		}
	}
}

// String is head and tail, and between them how much was left out.
func (c *capped) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	tail := c.tail[max(0, len(c.tail)-tailBytes):]
	left := c.total - int64(len(c.head)) - int64(len(tail))
	s := string(c.head) + string(tail)
	if left > 0 {
		s = fmt.Sprintf("%s\n… %d bytes left out …\n%s", c.head, left, tail)
	}
	return strings.Map(plain, strings.ToValidUTF8(s, "�"))
}

// plain is what of an output may reach a person's terminal: an escape sequence
// could clear it, or write there what was never said.
func plain(r rune) rune {
	switch {
	case r == '\n', r == '\t':
		return r
	case r == '\r':
		return -1
	case unicode.IsControl(r), unicode.Is(unicode.Bidi_Control, r):
		return '�'
	}
	return r
}

// cappedFile is String of a file's content, of which only head and tail are read.
func cappedFile(f *os.File) string {
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	var c capped
	if info.Size() <= headBytes+tailBytes {
		_, _ = io.Copy(&c, io.NewSectionReader(f, 0, info.Size()))
		return c.String()
	}
	_, _ = io.Copy(&c, io.NewSectionReader(f, 0, headBytes))
	_, _ = io.Copy(&c, io.NewSectionReader(f, info.Size()-tailBytes, tailBytes))
	c.total = info.Size()
	return c.String()
}

// lastLines is what of an output goes into an error: a handful of lines.
func lastLines(out string) string {
	const lines, size = 5, 1024
	out = strings.TrimSpace(out)
	if len(out) > size {
		out = strings.ToValidUTF8(out[len(out)-size:], "")
	}
	parts := strings.Split(out, "\n")
	return strings.Join(parts[max(0, len(parts)-lines):], "\n")
}
