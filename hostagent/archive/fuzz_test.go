package archive

import (
	"archive/tar"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var writeCorpus = flag.Bool("write-corpus", false, "write the seeds of FuzzExtract to testdata")

// FuzzExtract holds every archive to the law: nothing outside the destination
// changes, nothing in it is setuid, a device or a link that leads out, all of
// it is bounded, whatever is wrong is the archive's fault, and the same archive
// is the same tree each time. The corpus is checked in, and its absence is an error.
func FuzzExtract(f *testing.F) {
	seeds, err := filepath.Glob("testdata/archives/*")
	if err != nil || len(seeds) < 5 {
		f.Fatalf("the corpus is gone: %v, %v; make it with go test -run TestWriteCorpus -write-corpus", seeds, err)
	}
	for _, name := range seeds {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, 0)
		f.Add(data, 1)
	}
	f.Fuzz(func(t *testing.T, data []byte, strip int) {
		if strip < 0 || strip > 8 {
			return
		}
		limits := Limits{Entries: 200, Bytes: 1 << 20, Names: 1 << 16}
		one, err1 := unpackInto(t, data, strip, limits)
		two, err2 := unpackInto(t, data, strip, limits)
		var b *BadError
		if err1 != nil && !errors.As(err1, &b) {
			t.Fatalf("it blames this host: %v", err1)
		}
		if fmt.Sprint(err1) != fmt.Sprint(err2) {
			t.Fatalf("once %v, then %v", err1, err2)
		}
		if diff := cmp.Diff(listing(t, one), listing(t, two)); diff != "" {
			t.Error(diff)
		}
	})
}

// listing is all that is in a tree, a line each.
func listing(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		var what []byte
		switch {
		case info.Mode().IsRegular():
			what, err = os.ReadFile(path)
		case info.Mode()&fs.ModeSymlink != 0:
			var to string
			to, err = os.Readlink(path)
			what = []byte(to)
		}
		all = append(all, fmt.Sprintf("%q %v %x", path[len(dir):], info.Mode(), sha256.Sum256(what)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestWriteCorpus(t *testing.T) {
	if !*writeCorpus {
		t.Skip("only with -write-corpus")
	}
	link := byte(tar.TypeSymlink)
	good := tarOf(t, web("1")...)
	for name, data := range map[string][]byte{
		"good.tar": good, "good.tar.gz": gzipOf(t, good), "good.tar.zst": zstdOf(t, good), "good.zip": zipOf(t, web("1")[1:]...),
		"dotdot.tar":    tarOf(t, item{name: "../x", body: "x"}),
		"two-hops.tar":  tarOf(t, item{name: "a/b/", kind: tar.TypeDir}, item{name: "here", kind: link, link: "a/b"}, item{name: "out", kind: link, link: "here/../../../x"}),
		"through.tar":   tarOf(t, item{name: "l", kind: link, link: ".."}, item{name: "l/x", body: "x"}),
		"setuid.tar":    tarOf(t, item{name: "top/su", body: "x", mode: 0o6755}),
		"hard.tar":      tarOf(t, item{name: "top/a", body: "x"}, item{name: "top/h", kind: tar.TypeLink, link: "top/a"}),
		"device.tar":    tarOf(t, item{name: "d", kind: tar.TypeChar}),
		"sparse.tar":    append(sparseHeader(1<<19), make([]byte, 1024)...),
		"link-out.zip":  zipOf(t, item{name: "l", kind: link, link: "../x"}),
		"absolute.zip":  zipOf(t, item{name: "/x", body: "x"}),
		"truncated.tgz": gzipOf(t, good)[:50],
		"negative.zip": []byte("PK\x03\x04PK\x01\x020000000000000000000000\x00\x00\x02\x00\x00\x00\x00\x00000000000\x00\x00\x0000" +
			"PK\x05\x06000000\x01\x000\x00\x00\x007000\x00\x00"), // where its directory begins
	} {
		if err := os.WriteFile(filepath.Join("testdata/archives", name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
