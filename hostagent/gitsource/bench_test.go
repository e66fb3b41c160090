package gitsource

import (
	"bytes"
	"fmt"
	"io/fs"
	"os/exec"
	"testing"
	"time"
)

const many = 10_000

// imported commits files to main without a work tree, which 10,000 of them
// would make slow.
func (o *origin) imported(first bool, file func(i int) (name, body string), n int) string {
	o.t.Helper()
	var in bytes.Buffer
	fmt.Fprintf(&in, "commit refs/heads/main\ncommitter Carl <carl@acme.example> %d +0000\ndata 6\nimport\n", time.Now().Unix())
	if !first {
		in.WriteString("from refs/heads/main^0\n")
	}
	for i := range n {
		name, body := file(i)
		fmt.Fprintf(&in, "M 100644 inline %s\ndata %d\n%s\n", name, len(body), body)
	}
	cmd := exec.Command("git", "fast-import", "--quiet")
	cmd.Dir, cmd.Env, cmd.Stdin = o.dir, clean(), &in
	if out, err := cmd.CombinedOutput(); err != nil {
		o.t.Fatalf("fast-import: %v\n%s", err, out)
	}
	return o.tip()
}

func manyFiles(o *origin) string {
	return o.imported(true, func(i int) (string, string) {
		return fmt.Sprintf("prod/s%05d.hcl", i), fmt.Sprintf("service \"s%d\" {\n  release {\n    version = \"1.0.%d\"\n  }\n}\n", i, i)
	}, many)
}

func oneChanged(o *origin, body string) string {
	return o.imported(false, func(int) (string, string) { return "prod/s00007.hcl", body }, 1)
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
	t.Parallel()
	o := newOrigin(t)
	first := manyFiles(o)
	s := follow(t, gitDaemon(t, o.dir)+".git")
	cache := map[string]bool{}
	if files, read := reload(t, head(t, s, "", first).FS, cache); files != many || read != many {
		t.Fatalf("%d files, %d read", files, read)
	}
	second := oneChanged(o, "changed\n")
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

func BenchmarkOneChangedOfTenThousand(b *testing.B) {
	for _, part := range []string{"fetch", "reload"} {
		b.Run(part, func(b *testing.B) {
			o := newOrigin(b)
			last := manyFiles(o)
			s := follow(b, o.dir)
			cache := map[string]bool{}
			reload(b, head(b, s, "", last).FS, cache)
			b.ResetTimer()
			for i := range b.N {
				b.StopTimer()
				next := oneChanged(o, fmt.Sprint(i))
				if part == "fetch" {
					b.StartTimer()
				}
				snap := head(b, s, last, next)
				if part == "fetch" {
					b.StopTimer()
				} else {
					b.StartTimer()
				}
				if _, read := reload(b, snap.FS, cache); read != 1 {
					b.Fatalf("%d files read", read)
				}
				last = next
			}
		})
	}
}
