package archive

import (
	"archive/tar"
	"flag"
	"os"
	"path/filepath"
	"testing"
)

var writeCorpus = flag.Bool("write-corpus", false, "write the seeds of FuzzExtract to testdata")

// FuzzExtract holds every archive to the law: nothing outside the destination
// changes, nothing in it is setuid, a device or a link that leads out, and all
// of it is bounded. The corpus is checked in, and its absence is an error.
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
		_, _ = unpackInto(t, data, strip, Limits{Entries: 200, Bytes: 1 << 20, Names: 1 << 16})
	})
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
	} {
		if err := os.WriteFile(filepath.Join("testdata/archives", name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
