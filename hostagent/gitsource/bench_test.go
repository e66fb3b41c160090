package gitsource

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

const many = 10_000

func manyFiles(b testing.TB, o *origin) string {
	b.Helper()
	dir := filepath.Join(o.dir, "prod")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		b.Fatal(err)
	}
	for i := range many {
		body := fmt.Sprintf("service \"s%d\" {\n  release {\n    version = \"1.0.%d\"\n  }\n}\n", i, i)
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("s%05d.hcl", i)), []byte(body), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	return o.commit()
}

// reload walks all names and reads the files whose hash is new, as a loader
// with a cache by hash does.
func reload(b testing.TB, f fs.FS, cache map[string]bool) (files, read int) {
	b.Helper()
	err := fs.WalkDir(f, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		info, err := d.Info()
		if err != nil {
			return err
		}
		hash := info.Sys().(interface{ BlobHash() string }).BlobHash()
		if cache[hash] {
			return nil
		}
		cache[hash] = true
		read++
		_, err = fs.ReadFile(f, path)
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return files, read
}

func TestTenThousandFiles(t *testing.T) {
	o := newOrigin(t)
	first := manyFiles(t, o)
	s := follow(t, gitDaemon(t, o.dir)+".git")
	cache := map[string]bool{}
	if files, read := reload(t, head(t, s, "", first).FS, cache); files != many || read != many {
		t.Fatalf("%d files, %d read", files, read)
	}
	second := o.commit("prod/s00007.hcl", "changed\n")
	if files, read := reload(t, head(t, s, first, second).FS, cache); files != many || read != 1 {
		t.Fatalf("%d files, %d read after one change", files, read)
	}
}

func BenchmarkListNothingNew(b *testing.B) {
	for _, via := range []string{"path", "git"} {
		b.Run(via, func(b *testing.B) {
			o := newOrigin(b)
			tip := o.commit("prod/web.hcl", "web\n")
			url := o.dir
			if via == "git" {
				url = gitDaemon(b, o.dir) + ".git"
			}
			s := follow(b, url)
			head(b, s, "", tip)
			for b.Loop() {
				head(b, s, tip, tip)
			}
		})
	}
}

func BenchmarkReloadOneOfTenThousand(b *testing.B) {
	o := newOrigin(b)
	last := manyFiles(b, o)
	s := follow(b, o.dir)
	cache := map[string]bool{}
	reload(b, head(b, s, "", last).FS, cache)
	i := 0
	for b.Loop() {
		b.StopTimer()
		i++
		next := o.commit("prod/s00007.hcl", fmt.Sprint(i))
		b.StartTimer()
		reload(b, head(b, s, last, next).FS, cache)
		last = next
	}
}
