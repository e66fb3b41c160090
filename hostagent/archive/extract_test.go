package archive

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// unpackInto extracts into a fresh directory inside one that holds a file
// which must not change, and returns both.
func unpackInto(t testing.TB, data []byte, strip int, l Limits) (dst string, err error) {
	t.Helper()
	outer := t.TempDir()
	dst = filepath.Join(outer, "dst")
	if err := os.Mkdir(dst, 0o700); err != nil {
		t.Fatal(err)
	}
	src := filepath.Join(outer, "artifact")
	if err := os.WriteFile(src, data, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(src)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	root, err := os.OpenRoot(dst)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	err = Extract(t.Context(), f, root, strip, l)
	law(t, outer, dst, l.orDefault())
	return dst, err
}

// law is what holds after every extraction, whether it failed or not.
func law(t testing.TB, outer, dst string, l Limits) {
	t.Helper()
	names, err := os.ReadDir(outer)
	if err != nil || len(names) != 2 {
		t.Fatalf("outside the destination there are now %v, %v", names, err)
	}
	real, err := filepath.EvalSymlinks(dst)
	if err != nil {
		t.Fatal(err)
	}
	var total int64
	count := 0
	err = filepath.WalkDir(dst, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		count++
		if info.Mode()&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky) != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		switch {
		case info.Mode().IsRegular():
			total += info.Size()
		case info.Mode()&fs.ModeSymlink != 0:
			to, err := filepath.EvalSymlinks(path)
			if err == nil && to != real && !strings.HasPrefix(to, real+"/") {
				t.Errorf("%s leads to %s", path, to)
			}
		case !info.IsDir():
			t.Errorf("%s is %v", path, info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if total > l.Bytes {
		t.Errorf("%d bytes were unpacked", total)
	}
}

func wantBad(t *testing.T, err error, part string) {
	t.Helper()
	var b *BadError
	if !errors.As(err, &b) || !strings.Contains(err.Error(), part) {
		t.Errorf("got %v; expected one with %q", err, part)
	}
}

func zipOf(t testing.TB, items ...item) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, i := range items {
		h := &zip.FileHeader{Name: i.name, Method: zip.Deflate}
		mode := fs.FileMode(i.mode)
		body := i.body
		if mode == 0 {
			mode = 0o644
		}
		if i.kind == tar.TypeSymlink {
			mode, body = fs.ModeSymlink|0o777, i.link
		}
		h.SetMode(mode)
		f, err := w.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(f, body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zstdOf(t testing.TB, data []byte, o ...zstd.EOption) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b, o...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestFormats(t *testing.T) {
	items := web("1")
	plain := tarOf(t, items...)
	for name, data := range map[string][]byte{
		"tar": plain, "tar.gz": gzipOf(t, plain), "tar.zst": zstdOf(t, plain), "zip": zipOf(t, items[1:]...),
	} {
		t.Run(name, func(t *testing.T) {
			dst, err := unpackInto(t, data, 0, Limits{})
			if err != nil {
				t.Fatal(err)
			}
			body, err := os.ReadFile(filepath.Join(dst, "bin/latest"))
			if err != nil || string(body) != "program 1" {
				t.Errorf("got %q, %v", body, err)
			}
			info, err := os.Stat(filepath.Join(dst, "bin/web"))
			if err != nil || info.Mode() != 0o755 {
				t.Errorf("mode %v, %v", info.Mode(), err)
			}
		})
	}
}

func TestBadArchives(t *testing.T) {
	link, hard, dir := byte(tar.TypeSymlink), byte(tar.TypeLink), byte(tar.TypeDir)
	long := strings.Repeat("a/", 600) + "x"
	for _, c := range []struct {
		name  string
		items []item
		want  string
	}{
		{"dotdot", []item{{name: "../out"}}, "has .. in it"},
		{"dotdot inside", []item{{name: "a/../../out"}}, "has .. in it"},
		{"absolute", []item{{name: "/etc/out"}}, "absolute"},
		{"link out", []item{{name: "l", kind: link, link: "../out"}}, "leads out"},
		{"link absolute", []item{{name: "l", kind: link, link: "/etc"}}, "leads out"},
		{"link out in two hops", []item{{name: "d/", kind: dir}, {name: "d/a", kind: link, link: "../b"}, {name: "b", kind: link, link: "d/a/../../artifact"}}, "circles"},
		{"link out through a link", []item{{name: "a/b/", kind: dir}, {name: "here", kind: link, link: "a/b"}, {name: "out", kind: link, link: "here/../../../artifact"}}, "leads out"},
		{"link up through a link", []item{{name: "a/up", kind: link, link: ".."}, {name: "out", kind: link, link: "a/up/../artifact"}}, "leads out"},
		{"file through a link", []item{{name: "l", kind: link, link: "."}, {name: "l/x", body: "x"}}, "something else elsewhere"},
		{"file through a link out", []item{{name: "l", kind: link, link: ".."}, {name: "l/x", body: "x"}}, "something else elsewhere"},
		{"link in the place of a directory", []item{{name: "d/x", body: "x"}, {name: "d", kind: link, link: "e"}}, "twice"},
		{"links in a circle", []item{{name: "a", kind: link, link: "b"}, {name: "b", kind: link, link: "a"}}, "circles"},
		{"hard link out", []item{{name: "h", kind: hard, link: "../artifact"}}, "leads out"},
		{"hard link absolute", []item{{name: "h", kind: hard, link: "/etc/passwd"}}, "leads out"},
		{"hard link to a link", []item{{name: "l", kind: link, link: "x"}, {name: "h", kind: hard, link: "l"}}, "no file before it"},
		{"character device", []item{{name: "d", kind: tar.TypeChar}}, "device"},
		{"block device", []item{{name: "d", kind: tar.TypeBlock}}, "device"},
		{"pipe", []item{{name: "p", kind: tar.TypeFifo}}, "pipe"},
		{"duplicate", []item{{name: "a", body: "1"}, {name: "./a", body: "2"}}, "twice"},
		{"file then directory", []item{{name: "a", body: "1"}, {name: "a/b", body: "2"}}, "something else"},
		{"directory then file", []item{{name: "a/b", body: "2"}, {name: "a", body: "1"}}, "twice"},
		{"long name", []item{{name: long, body: "x"}}, "longer than 1,024"},
		{"long part", []item{{name: strings.Repeat("a", 256), body: "x"}}, "longer than 255"},
		{"empty", nil, "holds nothing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := unpackInto(t, gzipOf(t, tarOf(t, c.items...)), 0, Limits{})
			wantBad(t, err, c.want)
		})
	}
	t.Run("zip", func(t *testing.T) {
		for _, c := range []struct {
			items []item
			want  string
		}{
			{[]item{{name: "../out"}}, "has .. in it"},
			{[]item{{name: "/out"}}, "absolute"},
			{[]item{{name: `a\b`}}, "backslash"},
			{[]item{{name: "l", kind: link, link: "../x"}}, "leads out"},
			{[]item{{name: "a"}, {name: "a"}}, "twice"},
		} {
			_, err := unpackInto(t, zipOf(t, c.items...), 0, Limits{})
			wantBad(t, err, c.want)
		}
	})
	t.Run("other formats", func(t *testing.T) {
		inner := gzipOf(t, gzipOf(t, tarOf(t, item{name: "x", body: "x"})))
		for want, data := range map[string][]byte{
			"holds no tar but gzip": inner, "xz": []byte("\xfd7zXZ\x00 and so on"), "bzip2": []byte("BZh9 and so on"),
			"is no tar": []byte("<html>not found</html>"), "ends too early": gzipOf(t, tarOf(t, item{name: "x", body: strings.Repeat("x", 9999)}))[:60],
		} {
			_, err := unpackInto(t, data, 0, Limits{})
			wantBad(t, err, want)
		}
	})
}

func TestSetuidIsStripped(t *testing.T) {
	for _, data := range [][]byte{
		tarOf(t, item{name: "d/", kind: tar.TypeDir, mode: 0o7777}, item{name: "d/su", body: "x", mode: 0o7777}),
		zipOf(t, item{name: "d/su", body: "x", mode: int64(fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky | 0o777)}),
	} {
		dst, err := unpackInto(t, data, 0, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(filepath.Join(dst, "d/su"))
		if err != nil || info.Mode() != 0o755 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
	}
}

func TestCaseAndStrip(t *testing.T) {
	dst, err := unpackInto(t, tarOf(t, item{name: "./", kind: tar.TypeDir}, item{name: "./top/", kind: tar.TypeDir}, item{name: "top/A", body: "1"}, item{name: "top/a", body: "2"},
		item{name: "README", body: "left out"}, item{name: "top/h", kind: tar.TypeLink, link: "top/a"}), 1, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"A": "1", "a": "2", "h": "2"} {
		if body, err := os.ReadFile(filepath.Join(dst, name)); err != nil || string(body) != want {
			t.Errorf("%s: %q, %v", name, body, err)
		}
	}
	_, err = unpackInto(t, tarOf(t, item{name: "a", body: "x"}), 3, Limits{})
	wantBad(t, err, "strip")
	_, err = unpackInto(t, tarOf(t, item{name: "a/b/l", kind: tar.TypeSymlink, link: "../../x"}), 1, Limits{})
	wantBad(t, err, "leads out")
}

// zeroes is a stream that never costs memory.
type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestBombs(t *testing.T) {
	t.Run("ratio", func(t *testing.T) {
		var b bytes.Buffer
		z, err := zstd.NewWriter(&b)
		if err != nil {
			t.Fatal(err)
		}
		w := tar.NewWriter(z)
		if err := w.WriteHeader(&tar.Header{Name: "x", Size: 80 << 20, Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(w, zeroes{}, 80<<20); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(w.Close(), z.Close()); err != nil {
			t.Fatal(err)
		}
		_, err = unpackInto(t, b.Bytes(), 0, Limits{})
		wantBad(t, err, "200 times")
	})
	t.Run("claimed size", func(t *testing.T) {
		_, err := unpackInto(t, tarOf(t, item{name: "x", body: "0123456789"}), 0, Limits{Bytes: 9})
		wantBad(t, err, "more than 9 bytes")
	})
	t.Run("many files", func(t *testing.T) {
		var b bytes.Buffer
		z, err := zstd.NewWriter(&b, zstd.WithEncoderLevel(zstd.SpeedFastest))
		if err != nil {
			t.Fatal(err)
		}
		block := tarOf(t, item{name: "0000000"})[:512]
		for i := range 100_000 { // a million only takes longer to make
			copy(block, fmt.Sprintf("%07d", i))
			copy(block[148:], "        ")
			sum := 0
			for _, b := range block {
				sum += int(b)
			}
			copy(block[148:], fmt.Sprintf("%06o\x00 ", sum))
			if _, err := z.Write(block); err != nil {
				t.Fatal(err)
			}
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		_, err = unpackInto(t, b.Bytes(), 0, Limits{Entries: 5_000})
		wantBad(t, err, "more than 5000 entries")
	})
	t.Run("nothing but headers", func(t *testing.T) {
		pad := tarOf(t, item{name: "x", body: "x"})
		_, err := unpackInto(t, gzipOf(t, append(bytes.Repeat(globalHeader(t), 2000), pad...)), 0, Limits{Entries: 100})
		wantBad(t, err, "entries")
	})
	t.Run("names", func(t *testing.T) {
		var items []item
		for i := range 20 {
			items = append(items, item{name: fmt.Sprintf("%d%s", i, strings.Repeat("x", 200))})
		}
		_, err := unpackInto(t, tarOf(t, items...), 0, Limits{Names: 2000})
		wantBad(t, err, "of names")
	})
	t.Run("sparse", func(t *testing.T) {
		h := sparseHeader(1 << 50)
		_, err := unpackInto(t, append(h, make([]byte, 1024)...), 0, Limits{})
		wantBad(t, err, "more than 4294967296 bytes")
	})
	t.Run("window", func(t *testing.T) {
		frame := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x98, 0x01, 0x00, 0x00} // a window of 512 MiB
		_, err := unpackInto(t, append(frame, make([]byte, 512)...), 0, Limits{})
		wantBad(t, err, "window")
	})
	t.Run("zip claims", func(t *testing.T) {
		data := zipOf(t, item{name: "x", body: "x"})
		end := bytes.LastIndex(data, []byte("PK\x05\x06"))
		binary.LittleEndian.PutUint16(data[end+8:], 0xfff0)
		binary.LittleEndian.PutUint16(data[end+10:], 0xfff0)
		_, err := unpackInto(t, data, 0, Limits{Entries: 1000})
		wantBad(t, err, "more than 1000 entries")
	})
	t.Run("zip lies about a size", func(t *testing.T) {
		data := zipOf(t, item{name: "x", body: strings.Repeat("0", 100_000)})
		at := bytes.LastIndex(data, []byte("PK\x01\x02"))
		binary.LittleEndian.PutUint32(data[at+24:], 5)
		_, err := unpackInto(t, data, 0, Limits{})
		var b *BadError
		if !errors.As(err, &b) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("zip directory", func(t *testing.T) {
		var items []item
		for i := range 3000 {
			items = append(items, item{name: fmt.Sprint(i)})
		}
		data := zipOf(t, items...)
		end := bytes.LastIndex(data, []byte("PK\x05\x06"))
		binary.LittleEndian.PutUint16(data[end+8:], 3) // and 3,000 follow
		binary.LittleEndian.PutUint16(data[end+10:], 3)
		_, err := unpackInto(t, data, 0, Limits{Entries: 1000})
		var b *BadError
		if !errors.As(err, &b) {
			t.Errorf("got %v", err)
		}
	})
}

func globalHeader(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "g", PAXRecords: map[string]string{"comment": "x"}}); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// sparseHeader is an old GNU sparse file of so many bytes, none of them stored.
func sparseHeader(size int64) []byte {
	h := make([]byte, 512)
	copy(h, "hole")
	copy(h[100:], "0000644\x00")
	copy(h[124:], "00000000000\x00")
	copy(h[136:], "00000000000\x00")
	h[156] = 'S'
	copy(h[257:], "ustar  \x00")
	number := func(at int, n int64) { // base 256
		h[at] = 0x80
		binary.BigEndian.PutUint64(h[at+4:], uint64(n))
	}
	number(386, size) // one region at the very end, of no bytes
	number(398, 0)
	number(483, size)
	copy(h[148:], "        ")
	var sum int
	for _, b := range h {
		sum += int(b)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	return h
}
