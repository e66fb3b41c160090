package gitsource

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/go-git/go-git/v5/plumbing"
)

// forever writes the same until nobody reads any more.
func forever(w io.Writer, text string) {
	many := strings.Repeat(text, 1+(32<<10)/len(text))
	for {
		if _, err := io.WriteString(w, many); err != nil {
			return
		}
	}
}

// drip writes one byte at a time, slowly, and begins anew at the end.
func drip(w io.Writer, text string) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		if _, err := io.WriteString(w, text[i%len(text):][:1]); err != nil {
			return
		}
		<-tick.C
	}
}

// Each is left by a deadline or a size.
func TestServersThatNeverComeToAnEnd(t *testing.T) {
	o := newOrigin(t)
	tip := o.commit("a.hcl", "a\n")
	advert := pkt(tip+" refs/heads/main\x00side-band-64k ofs-delta\n") + "0000"
	const pack = "PACK\x00\x00\x00\x02\x00\x00\x00\x09"
	raw := func(first string, then func(net.Conn)) string {
		return serveTCP(t, func(c net.Conn) {
			if _, err := c.Read(make([]byte, 1)); err != nil { // it speaks when it is spoken to
				return
			}
			go func() { _, _ = io.Copy(io.Discard, c) }()
			_, _ = io.WriteString(c, first)
			then(c)
		})
	}
	all := func(text string) func(net.Conn) { return func(c net.Conn) { forever(c, text) } }
	slowly := func(text string) func(net.Conn) { return func(c net.Conn) { drip(c, text) } }
	silent := func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }
	const ok = "HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-advertisement\r\n"
	begins := pkt("# service=git-upload-pack\n") + "0000"
	ssh0 := sshServer(t, func(_ string, c ssh.Channel) { forever(c.Stderr(), "still here\n") })
	ssh1 := sshServer(t, func(_ string, c ssh.Channel) {
		_, _ = io.WriteString(c, advert)
		forever(c, pkt("\x02still here\n"))
	})
	for name, c := range map[string]struct {
		url  string
		kind error
	}{
		"progress":                    {"git://" + raw(advert+pkt("NAK\n"), all(pkt("\x02Counting objects\r"))), ErrUnreachable},
		"progress after the pack":     {"git://" + raw(advert+pkt("NAK\n")+pkt("\x01"+pack), all(pkt("\x02Counting objects\r"))), ErrUnreachable},
		"empty packets":               {"git://" + raw(advert+pkt("NAK\n")+pkt("\x01"+pack), all("0004")), ErrUnreachable},
		"acknowledgements":            {"git://" + raw(advert, all(pkt("ACK "+tip+" continue\n"))), ErrUnreachable},
		"refusals":                    {"git://" + raw(advert, all(pkt("NAK\n"))), ErrUnreachable},
		"a listing, slowly":           {"git://" + raw("", slowly(pkt(tip+" refs/heads/x\x00\n"))), ErrUnreachable},
		"a pack, slowly":              {"git://" + raw(advert+pkt("NAK\n")+pkt("\x01"+pack), slowly(pkt("\x01x"))), ErrUnreachable},
		"http, headers":               {"http://" + raw("HTTP/1.1 200 OK\r\n", all("X-More: of this\r\n")), ErrUnreachable},
		"http, one long header":       {"http://" + raw("HTTP/1.1 200 OK\r\nX: ", all("x")), ErrUnreachable},
		"http, headers, slowly":       {"http://" + raw("HTTP/1.1 200 OK\r\n", slowly("X-More: of this\r\n")), ErrUnreachable},
		"http, interim answers":       {"http://" + raw("", all("HTTP/1.1 100 Continue\r\n\r\n")), ErrUnreachable},
		"http, early hints":           {"http://" + raw("", all("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")), ErrUnreachable},
		"http, a listing, slowly":     {"http://" + raw(ok+"\r\n"+begins, slowly(pkt(tip+" refs/heads/x\n"))), ErrUnreachable},
		"http, chunks of nothing":     {"http://" + raw(ok+"Transfer-Encoding: chunked\r\n\r\n", all("1;ext=ension\r\nx\r\n")), ErrUnreachable},
		"http, a length that is less": {"http://" + raw(ok+"Content-Length: 60\r\n\r\n"+begins, func(c net.Conn) { _, _ = io.WriteString(c, pkt(tip+" refs/heads/x\n")); silent(c) }), ErrUnreachable},
		"http, a length that is more": {"http://" + raw(ok+"Content-Length: 6000\r\n\r\n"+begins+pkt(tip+" refs/heads/main\x00\n"), silent), ErrUnreachable},
		"https, no handshake":         {"https://" + raw("", silent), ErrUnreachable},
		"https, half a handshake":     {"https://" + raw("\x16\x03\x03\x40\x00\x02", slowly("x")), ErrUnreachable},
		"ssh, lines before a version": {"ssh://git@" + raw("", all("not yet\r\n")), ErrDenied}, // not in known_hosts; see below
		"ssh, complaints":             {"ssh://git@" + ssh0.addr + "/x", ErrUnreachable},
		"ssh, progress":               {"ssh://git@" + ssh1.addr + "/x", ErrUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			use := ssh0.use
			if strings.Contains(c.url, ssh1.addr) {
				use = ssh1.use
			}
			if at, isSSH := strings.CutPrefix(c.url, "ssh://git@"); isSSH && !strings.HasSuffix(at, "/x") {
				use = func(o *Options) { o.SSHKey, o.KnownHosts = ssh0.key, knownAt(t, ssh0, at) }
				c.kind = ErrUnreachable
			}
			s := follow(t, c.url, impatient, use, func(o *Options) { o.FetchTimeout = 5 * time.Second })
			if err := refuse(t, s, "", c.kind); strings.Contains(err.Error(), "not done after") {
				t.Errorf("it held the host for as long as a fetch may take: %v", err)
			}
		})
	}
}

// knownAt is the rig's known_hosts, as if its host stood at another address.
func knownAt(t *testing.T, rig sshRig, addr string) string {
	t.Helper()
	text, err := os.ReadFile(rig.known)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "known_hosts")
	if err := os.WriteFile(file, []byte(strings.Replace(string(text), port(rig.addr), port(addr), 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestAListingThatIsABomb(t *testing.T) {
	packed := func(text string) []byte {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, _ = io.WriteString(z, text)
		z.Close()
		return b.Bytes()
	}
	many := strings.Repeat(pkt(strings.Repeat("a", 40)+" refs/heads/"+strings.Repeat("x", 4000)+"\n"), 250)
	bomb := append(packed(pkt("# service=git-upload-pack\n")+"0000"), bytes.Repeat(packed(many), maxAdvertised/len(many)+1)...)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-git-upload-pack-advertisement")
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(bomb)
	}))
	defer srv.Close()
	s := follow(t, srv.URL)
	peak := watchMemory(t)
	refuse(t, s, "", ErrTooLarge)
	if got := peak(); got > 256<<20 {
		t.Errorf("%d MiB for a listing", got>>20)
	}
}

// watchMemory says, when it is asked, the most that the process has held since.
func watchMemory(t *testing.T) func() uint64 {
	debug.FreeOSMemory()
	old := debug.SetMemoryLimit(256 << 20) // as cmd/hostagent has it
	t.Cleanup(func() { debug.SetMemoryLimit(old) })
	done, peak := make(chan struct{}), make(chan uint64)
	go func() {
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		most := uint64(0)
		of := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
		for {
			metrics.Read(of)
			most = max(most, of[0].Value.Uint64()-of[1].Value.Uint64())
			select {
			case <-done:
				peak <- most
				return
			case <-tick.C:
			}
		}
	}()
	return func() uint64 { close(done); return <-peak }
}

func uvarint(n int) string { return string(binary.AppendUvarint(nil, uint64(n))) }

// deltas is a pack of one blob and of deltas, each on the object before it.
type deltas struct {
	body  bytes.Buffer
	count int
	last  int // offset of the last object
	was   string
	zip   []byte // of what was
}

func (d *deltas) blob(data string) {
	d.last = packHeader + d.body.Len()
	d.body.Write(packEntry(plumbing.BlobObject, len(data), data))
	d.count++
}

// on adds a delta on the object at an offset.
func (d *deltas) on(base int, delta string) {
	at := packHeader + d.body.Len()
	_ = entryHead(&d.body, plumbing.OFSDeltaObject, len(delta))
	back := at - base
	b := []byte{byte(back & 0x7f)}
	for back >>= 7; back > 0; back >>= 7 {
		back--
		b = append([]byte{byte(back&0x7f) | 0x80}, b...)
	}
	d.body.Write(b)
	if delta != d.was || d.zip == nil {
		d.was, d.zip = delta, zip(delta)
	}
	d.body.Write(d.zip)
	d.last = at
	d.count++
}

// copyAll copies n bytes of a base from its start.
func copyAll(n int) string {
	var out []byte
	for from := 0; from < n; {
		size := min(n-from, 0xffffff)
		out = append(out, 0xff)
		out = binary.LittleEndian.AppendUint32(out, uint32(from))
		out = append(out, byte(size), byte(size>>8), byte(size>>16))
		from += size
	}
	return string(out)
}

// A few kilobytes of deltas that are gigabytes, each within its limit: the time
// ends it, and memory stays within its bound.
func TestDeltasThatAreGigabytes(t *testing.T) {
	var d deltas
	d.blob(strings.Repeat("0123456789abcdef", 1<<10))
	n := 16 << 10
	for n < 60<<20 {
		n *= 2
		if n > 60<<20 {
			break
		}
		d.on(d.last, uvarint(n/2)+uvarint(n)+copyAll(n/2)+copyAll(n/2))
	}
	n = 32 << 20
	big := d.last
	for range 3000 {
		d.on(big, uvarint(n)+uvarint(n+4)+"\x04more"+copyAll(n))
	}
	pack := string(packWith(d.count, d.body.Bytes()))
	if len(pack) > 1<<20 {
		t.Fatalf("the rig: %d bytes", len(pack))
	}
	tip := strings.Repeat("ab", 20)
	addr := serveTCP(t, func(c net.Conn) {
		_, _ = io.WriteString(c, pkt(tip+" refs/heads/main\x00ofs-delta\n")+"0000"+pkt("NAK\n")+pack)
		_, _ = io.Copy(io.Discard, c)
	})
	s := follow(t, "git://"+addr, func(o *Options) { o.FetchTimeout = time.Second })
	peak := watchMemory(t)
	err := refuse(t, s, "", ErrUnreachable)
	if got := peak(); got > 256<<20 {
		t.Errorf("%d MiB for a pack of %d KiB", got>>20, len(pack)>>10)
	}
	if !strings.Contains(err.Error(), "not done after") {
		t.Error(err)
	}
}

func TestDeltasThatLeadNowhere(t *testing.T) {
	same := uvarint(4) + uvarint(4) + copyAll(4)
	entry := func(kind plumbing.ObjectType, base, delta string) []byte {
		var b bytes.Buffer
		_ = entryHead(&b, kind, len(delta))
		b.WriteString(base)
		b.Write(zip(delta))
		return b.Bytes()
	}
	var chain deltas
	chain.blob("base")
	for range maxChain + 10 {
		chain.on(chain.last, same)
	}
	tree := packEntry(plumbing.TreeObject, 4, "base")
	var around bytes.Buffer // of three, each is said to be the next one's base
	for _, base := range []string{"b", "c", "a"} {
		around.Write(entry(plumbing.REFDeltaObject, strings.Repeat(base, 20), same))
	}
	for name, c := range map[string]struct {
		count int
		body  []byte
		why   string
	}{
		"on itself":         {1, entry(plumbing.OFSDeltaObject, "\x00", same), "outside the pack"},
		"before the pack":   {1, entry(plumbing.OFSDeltaObject, "\x40", same), "outside the pack"},
		"in a circle":       {3, around.Bytes(), "does not have"},
		"a base it lacks":   {2, append(packEntry(plumbing.BlobObject, 4, "base"), entry(plumbing.REFDeltaObject, strings.Repeat("z", 20), same)...), "does not have"},
		"into another's":    {2, append(packEntry(plumbing.BlobObject, 4, "base"), entry(plumbing.OFSDeltaObject, "\x05", same)...), ""},
		"on and on, 4105":   {chain.count, chain.body.Bytes(), "deltas on one another"},
		"of a tree too big": {2, append(bytes.Clone(tree), entry(plumbing.OFSDeltaObject, string(rune(len(tree))), uvarint(4)+uvarint(65<<20)+copyAll(4))...), "more than the limit"},
	} {
		t.Run(name, func(t *testing.T) {
			s := follow(t, t.TempDir())
			got, err := receive(background, s.clone.objects, bytes.NewReader(packWith(c.count, c.body)), 64<<20)
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), c.why) {
				t.Fatalf("receive = %v, %v; want %q", got, err, c.why)
			}
		})
	}
}

// A thin pack leaves out bases that the other side has. Nobody asked for one,
// and a base that is not in its pack cannot be proved with it.
func TestAThinPack(t *testing.T) {
	o := newOrigin(t)
	text := noise(20_000)
	old := o.commit("a.hcl", text)
	tip := o.commit("a.hcl", text+"more\n")
	revs := filepath.Join(t.TempDir(), "revs")
	if err := os.WriteFile(revs, []byte(tip+"\n^"+old+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	thin := run(t, o.dir, "sh", "-c", "git pack-objects -q --thin --revs --stdout <"+revs+" | base64 -w0")
	if fat := run(t, o.dir, "sh", "-c", "git pack-objects -q --revs --stdout <"+revs+" | wc -c"); len(thin)*3/4 > len(text)/2 {
		t.Fatalf("the rig: %d bytes, and %s with the base", len(thin), fat)
	}
	out := filepath.Join(t.TempDir(), "pack")
	run(t, o.dir, "sh", "-c", "echo "+thin+" | base64 -d >"+out)
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	s := follow(t, o.dir)
	if got, err := receive(background, s.clone.objects, bytes.NewReader(data), 64<<20); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "does not have") {
		t.Fatalf("receive = %v, %v", got, err)
	}
}
