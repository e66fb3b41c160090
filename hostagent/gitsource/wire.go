package gitsource

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
)

// The wire: git's pack protocol, version 0, the fetching side of it and no
// more. Nothing is held that grows with what a server sends.

const (
	maxAdvertised = 64 << 20 // bytes of a listing of refs
	maxPacket     = 65520
)

// packet is one pkt-line: its payload, or flush.
func packet(r io.Reader, buf []byte) (payload []byte, flush bool, err error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, false, err
	}
	n, err := strconv.ParseUint(string(size[:]), 16, 16)
	if err != nil || n != 0 && n < 4 || n > maxPacket {
		return nil, false, fmt.Errorf("the server does not speak git (%q)", size[:])
	}
	if n == 0 {
		return nil, true, nil
	}
	payload = buf[:n-4]
	if _, err := io.ReadFull(r, payload); err != nil {
		return nil, false, unexpected(err)
	}
	return payload, false, nil
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// anyCommit is what a server says that gives out every commit that a branch or
// a tag leads to, by its hash.
const anyCommit = "allow-reachable-sha1-in-want"

// advertised is what a listing of refs said about those that were asked for.
type advertised struct {
	tips []offered
	any  bool // there are refs at all
	caps []string
}

// offered is where a ref points: hash, and commit where that is an annotated tag's.
type offered struct{ hash, commit plumbing.Hash }

// branchOrTag reports whether a ref's name is one that people push.
func branchOrTag(name string) bool {
	return strings.HasPrefix(name, "refs/heads/") || strings.HasPrefix(name, "refs/tags/")
}

// gives reports whether a commit may be asked for that no ref points to.
func (a advertised) gives() bool {
	return slices.Contains(a.caps, anyCommit) || slices.Contains(a.caps, "allow-any-sha1-in-want")
}

// readAdvertised reads a listing up to its end, and keeps of it one ref, or all
// branches and tags where ref is "".
func readAdvertised(r io.Reader, ref string) (advertised, error) {
	var a advertised
	buf := make([]byte, maxPacket)
	r = &bounded{r, maxAdvertised}
	for first := true; ; {
		line, flush, err := packet(r, buf)
		if err != nil {
			if first && errors.Is(err, io.EOF) {
				return a, errors.New("the server closed the connection before it said anything")
			}
			return a, fmt.Errorf("the listing of refs breaks off: %w", unexpected(err))
		}
		if flush {
			return a, nil
		}
		text := strings.TrimSuffix(string(line), "\n")
		if why, ok := strings.CutPrefix(text, "ERR "); ok {
			return a, refused(why)
		}
		if strings.HasPrefix(text, "version ") || strings.HasPrefix(text, "shallow ") {
			continue
		}
		text, caps, hasCaps := strings.Cut(text, "\x00")
		if first && hasCaps {
			a.caps = strings.Fields(caps)
			if slices.Contains(a.caps, "object-format=sha256") {
				return a, fail(ErrUnknown, "the repository has SHA-256 objects, which are not supported; use one with SHA-1")
			}
		}
		first = false
		hex, name, _ := strings.Cut(text, " ")
		if name == "capabilities^{}" {
			continue
		}
		h, err := parseHash(hex)
		if err != nil {
			return a, errors.New("the server does not speak git: a ref without a hash")
		}
		a.any = true
		if tag, peeled := strings.CutSuffix(name, "^{}"); peeled && ref == "" && branchOrTag(tag) && len(a.tips) > 0 {
			a.tips[len(a.tips)-1].commit = h
		} else if name == ref || ref == "" && !peeled && branchOrTag(name) {
			a.tips = append(a.tips, offered{hash: h})
		}
	}
}

// refused gives a server's own words a kind.
func refused(why string) error {
	return fail(ErrDenied, "the server says: %.300s. Check the URL and what this host may read", strings.TrimSpace(why))
}

// tip is the ref's hash, or why there is none.
func (a advertised) tip(ref string) (plumbing.Hash, error) {
	name := strings.TrimPrefix(ref, "refs/heads/")
	switch {
	case len(a.tips) > 0:
		return a.tips[0].hash, nil
	case a.any:
		return plumbing.ZeroHash, fail(ErrGone, "the branch %s is not there. What was accepted last stays in force; push the branch again, or correct source.branch", name)
	}
	return plumbing.ZeroHash, fail(ErrGone, "the repository is empty. What was accepted last stays in force; push the branch %s", name)
}

// request is what asks for a pack.
func request(caps []string, wants, haves []plumbing.Hash) []byte {
	var buf bytes.Buffer
	line := func(s string) { fmt.Fprintf(&buf, "%04x%s", len(s)+4, s) }
	asked := []string{}
	// multi_ack is asked for because some servers insist on it; the answer is
	// read the same way.
	for _, c := range []string{"multi_ack", "ofs-delta", "side-band-64k", "no-progress"} {
		if slices.Contains(caps, c) {
			asked = append(asked, c)
		}
	}
	for i, want := range wants {
		if i == 0 {
			line(fmt.Sprintf("want %s %s agent=drydock\n", want, strings.Join(asked, " ")))
			continue
		}
		line(fmt.Sprintf("want %s\n", want))
	}
	buf.WriteString("0000")
	for _, h := range haves {
		line(fmt.Sprintf("have %s\n", h))
	}
	line("done\n")
	return buf.Bytes()
}

// readPack reads an answer up to where the pack begins, and is then the pack.
func readPack(r io.Reader, caps []string) (io.Reader, error) {
	br := bufio.NewReaderSize(r, 2*maxPacket)
	banded := slices.Contains(caps, "side-band-64k")
	buf := make([]byte, maxPacket)
	for {
		head, err := br.Peek(5)
		if err != nil {
			return nil, fmt.Errorf("the server ended before the pack: %w", unexpected(err))
		}
		if !banded && string(head[:4]) == "PACK" {
			return br, nil
		}
		if banded && head[4] <= 3 && string(head[:4]) != "0000" {
			return &sideband{r: br, buf: buf}, nil
		}
		line, flush, err := packet(br, buf)
		if err != nil {
			return nil, err
		}
		text := strings.TrimSpace(string(line))
		if why, ok := strings.CutPrefix(text, "ERR "); ok {
			return nil, refused(why)
		}
		if !flush && text != "NAK" && !strings.HasPrefix(text, "ACK ") {
			return nil, fmt.Errorf("the server answered %.60q to a request for a pack", text)
		}
	}
}

// sideband is the data of a stream that is mixed with progress and errors.
type sideband struct {
	r    io.Reader
	buf  []byte
	rest []byte
	err  error
}

func (s *sideband) Read(b []byte) (int, error) {
	for len(s.rest) == 0 {
		if s.err != nil {
			return 0, s.err
		}
		s.next()
	}
	n := copy(b, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

func (s *sideband) next() {
	line, flush, err := packet(s.r, s.buf)
	switch {
	case err != nil:
		s.err = fmt.Errorf("the pack breaks off: %w", unexpected(err))
	case flush:
		s.err = io.EOF
	case len(line) == 0:
	case line[0] == 1:
		s.rest = line[1:]
	case line[0] == 3:
		s.err = fmt.Errorf("the server says: %.300s", strings.TrimSpace(string(line[1:])))
	}
}

// bounded is io.LimitReader with an error instead of an end.
type bounded struct {
	r    io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fail(ErrTooLarge, "the listing of refs has more than %d bytes; delete refs on the server", int64(maxAdvertised))
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}
