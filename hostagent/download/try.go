package download

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"drydock/hostagent/durable"
	"drydock/spec"

	"golang.org/x/sys/unix"
)

// try is one source of one artifact.
type try struct {
	f       *Fetcher
	raw     string
	headers map[string]spec.Text
	want    string // hex
	dest    string

	file  *os.File // dest.part
	sum   hash.Hash
	have  int64 // bytes in file, all of them in sum
	first []byte
}

// errAgain asks for the same source once more, from the first byte.
var errAgain = errors.New("what an earlier try left does not fit")

func (t *try) run(ctx context.Context) (err error) {
	u, err := url.Parse(t.raw)
	if err != nil {
		return hint("Mend the artifact's URL", "the URL does not parse")
	}
	ctx, cancel := context.WithTimeoutCause(ctx, t.f.Timeout, fmt.Errorf("not there within %v", t.f.Timeout))
	defer cancel()
	if err := t.open(ctx); err != nil {
		return err
	}
	defer func() {
		if closed := t.file.Close(); err == nil && closed != nil {
			err = &diskError{closed}
		}
	}()
	resumed := t.have > 0
	err = t.from(ctx, u)
	if errors.Is(err, errAgain) || resumed && errors.As(err, new(*wrongDigest)) {
		// Either the server does not resume, or it, or the part, was not what
		// it seemed: what is whole must come from one piece.
		if err = t.restart(); err == nil {
			err = t.from(ctx, u)
		}
	}
	if cause := context.Cause(ctx); err != nil && cause != nil && !errors.As(err, new(*diskError)) {
		return hint("The server is too slow, or something on the way is; the next try goes on from there", "%w after %d bytes", cause, t.have)
	}
	if err != nil {
		return err
	}
	if err := os.Rename(t.part(), t.dest); err != nil {
		return &diskError{err}
	}
	os.Remove(t.note())
	return nil
}

func (t *try) from(ctx context.Context, u *url.URL) error {
	var err error
	switch u.Scheme {
	case "https", "http":
		err = t.http(ctx, u)
	case "file":
		err = t.local(ctx, u)
	default:
		return hint("Use https, http or file", "%s:// is no scheme that this agent fetches from", u.Scheme)
	}
	if err != nil {
		return err
	}
	if sum := hex.EncodeToString(t.sum.Sum(nil)); sum != t.want {
		return t.mismatch(sum)
	}
	return nil
}

func (t *try) part() string { return t.dest + ".part" }
func (t *try) note() string { return t.dest + ".part.json" }

// open takes up the partial file, hashing what it holds: the digest at the end
// is always over every byte of the file.
func (t *try) open(ctx context.Context) error {
	f, err := os.OpenFile(t.part(), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return &diskError{err}
	}
	t.file, t.sum = f, sha256.New()
	if t.have, err = copyBounded(ctx, t.sum, f); err != nil {
		f.Close()
		return &diskError{err}
	}
	if t.have > t.f.MaxBytes {
		return t.restart()
	}
	head := make([]byte, min(t.have, 512))
	if _, err := f.ReadAt(head, 0); err != nil {
		f.Close()
		return &diskError{err}
	}
	t.first = head
	return nil
}

func (t *try) restart() error {
	err := t.file.Truncate(0)
	if err == nil {
		_, err = t.file.Seek(0, io.SeekStart)
	}
	if err != nil {
		return &diskError{err}
	}
	os.Remove(t.note())
	t.sum.Reset()
	t.have, t.first = 0, nil
	return nil
}

// wrongDigest is what came whole and is not the artifact.
type wrongDigest struct{ text string }

func (e *wrongDigest) Error() string { return e.text }

func (t *try) mismatch(sum string) error {
	text := fmt.Sprintf("digest is sha256:%s, the release says sha256:%s (%d bytes)", sum, t.want, t.have)
	next := "Either another file was published under this name, or the release names the wrong digest: compare with sha256sum"
	start := bytes.ToLower(bytes.TrimSpace(bytes.TrimPrefix(t.first, []byte("\xef\xbb\xbf"))))
	if bytes.HasPrefix(start, []byte("<!doctype html")) || bytes.HasPrefix(start, []byte("<html")) {
		text += "; it looks like an HTML page"
		next = "The server sent a page, perhaps a login form, with status 200: check the URL and its credentials"
	}
	if err := t.restart(); err != nil {
		return err
	}
	return &hinted{&wrongDigest{text}, next}
}

// room says early, and in words, what would else be a full disk.
func (t *try) room(total int64) error {
	if total > t.f.MaxBytes {
		return hint("Make it smaller", "the artifact has %d bytes, more than the limit of %d", total, t.f.MaxBytes)
	}
	dir := filepath.Dir(t.dest)
	if free, ok := t.f.Free(dir); ok && total-t.have > int64(min(free, 1<<62)) {
		return &diskError{fmt.Errorf("%s has %d bytes free and the artifact needs %d more: %w", dir, free, total-t.have, unix.ENOSPC)}
	}
	return nil
}

// receive appends r to the file until it ends. alive is told of every piece.
func (t *try) receive(r io.Reader, alive func(n int)) error {
	buf := make([]byte, 128<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			alive(n)
			if t.have+int64(n) > t.f.MaxBytes {
				if err := t.restart(); err != nil {
					return err
				}
				return hint("Make it smaller, or look at what the server sends: it may never end", "longer than the limit of %d bytes", t.f.MaxBytes)
			}
			if _, err := t.file.Write(buf[:n]); err != nil {
				return &diskError{err}
			}
			t.sum.Write(buf[:n])
			t.have += int64(n)
			if len(t.first) < 512 {
				t.first = append(t.first, buf[:min(n, 512-len(t.first))]...)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// local reads a file:// source.
func (t *try) local(ctx context.Context, u *url.URL) error {
	if u.Host != "" && u.Host != "localhost" || !filepath.IsAbs(u.Path) {
		return hint("Write file:///absolute/path", "is not an absolute path on this host")
	}
	real, err := filepath.EvalSymlinks(u.Path)
	if err != nil {
		return hint("Put the artifact there, or mend the URL", "%w", err)
	}
	if t.f.Private != "" {
		private, err := filepath.EvalSymlinks(t.f.Private)
		if err != nil {
			private = filepath.Clean(t.f.Private)
		}
		if real == private || strings.HasPrefix(real, strings.TrimSuffix(private, "/")+"/") {
			return hint("Put the artifact elsewhere", "is inside the agent's own state directory %s", private)
		}
	}
	f, err := os.OpenFile(real, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return hint("The agent's user must be able to read it", "%w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return hint("It must be a regular file", "is no regular file")
	}
	if err := t.restart(); err != nil {
		return err
	}
	if err := t.room(info.Size()); err != nil {
		return err
	}
	return t.receive(&ctxReader{ctx, f}, func(int) {})
}

type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (r *ctxReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

func copyBounded(ctx context.Context, w io.Writer, r io.Reader) (int64, error) {
	return io.Copy(w, &ctxReader{ctx, r})
}

func hashOf(ctx context.Context, path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = copyBounded(ctx, h, f)
	return hex.EncodeToString(h.Sum(nil)), err
}

func freeSpace(dir string) (uint64, bool) {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil || st.Blocks == 0 {
		return 0, false
	}
	return st.Bavail * uint64(st.Bsize), true
}

// validator is what If-Range needs to know about a partial file.
type validator struct {
	URL string `json:"url"` // redacted: only compared
	Tag string `json:"tag"` // strong ETag, or Last-Modified
}

func (t *try) remember(resp *http.Response) {
	v := validator{URL: Redact(t.raw)}
	if tag := resp.Header.Get("ETag"); strings.HasPrefix(tag, `"`) {
		v.Tag = tag
	} else if tag == "" {
		v.Tag = resp.Header.Get("Last-Modified")
	}
	data, _ := json.Marshal(v)
	_ = durable.WriteCache(t.note(), data, 0o600) // without it, the digest decides
}

func (t *try) validator() string {
	var v validator
	data, err := os.ReadFile(t.note())
	if err != nil || json.Unmarshal(data, &v) != nil || v.URL != Redact(t.raw) {
		return ""
	}
	return v.Tag
}

// slowest is how many bytes a second a server has to send: one that drips would
// otherwise hold a release back for as long as the whole fetch may take.
const slowest = 1 << 10

// stall cancels a context when too little arrived for so long.
type stall struct {
	timer *time.Timer
	after time.Duration
	got   int // since the timer was set
}

func newStall(ctx context.Context, after time.Duration) (context.Context, *stall, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	s := &stall{after: after}
	s.timer = time.AfterFunc(after, func() { cancel(fmt.Errorf("nothing arrived for %v, or less than %d bytes a second", after, slowest)) })
	return ctx, s, func() { s.timer.Stop(); cancel(nil) }
}

// answered begins the time of the body.
func (s *stall) answered() { s.got = 0; s.timer.Reset(s.after) }

// alive counts what arrived of it.
func (s *stall) alive(n int) {
	if s.got += n; float64(s.got) >= slowest*s.after.Seconds() {
		s.answered()
	}
}
