package gitsource

import (
	"bytes"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func repository(t testing.TB, dir string) *Repository {
	t.Helper()
	r, err := OpenRepository(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func TestResolve(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	first := o.commit("a.hcl", "1\n")
	second := o.commit("a.hcl", "2\n")
	o.git("checkout", "-q", "-b", "topic/x")
	side := o.commit("b.hcl", "b\n")
	o.git("checkout", "-q", "main")
	o.commit("c.hcl", "c\n")
	o.git("merge", "-q", "--no-ff", "--no-edit", "topic/x")
	o.git("tag", "light", first)
	o.git("tag", "-a", "-m", "x", "v1", second)
	o.git("tag", "-a", "-m", "x", "v1-again", "v1")
	o.git("update-ref", "refs/remotes/origin/main", first)

	bare := filepath.Join(t.TempDir(), "bare")
	linked := filepath.Join(t.TempDir(), "linked")
	run(t, "", "git", "clone", "-q", "--mirror", "--no-hardlinks", o.dir, bare)
	run(t, bare, "git", "gc", "-q")
	o.git("worktree", "add", "-q", "-b", "linked", linked, "topic/x")
	revs := []string{"HEAD", "@", "main", "heads/main", "refs/heads/main", "topic/x", "light", "v1", "v1-again", "v1^{}", "v1^{commit}",
		"HEAD~1", "HEAD~2", "HEAD^", "main^2", "main^2~1", "main^^", "HEAD~0", "HEAD^0", "v1~1", first, first[:8], "origin/main"}
	for _, packed := range []bool{false, true} {
		if packed {
			o.git("pack-refs", "--all")
			o.git("gc", "-q")
		}
		for _, dir := range []string{o.dir, filepath.Join(o.dir, ".git"), bare, linked} {
			r := repository(t, dir)
			ask := []string{"git", "rev-parse"}
			for _, rev := range revs {
				ask = append(ask, rev+"^{commit}")
			}
			want := strings.Fields(run(t, dir, ask...))
			for i, rev := range revs {
				if got, err := r.Resolve(rev); err != nil || got != want[i] {
					t.Errorf("%s: Resolve(%s) = %q, %v; want %s", dir, rev, got, err, want[i])
				}
			}
			for _, rev := range []string{"nothing", "v9", "HEAD^9", "HEAD~999", "HEAD@{1}", "HEAD:a.hcl", "../x", strings.Repeat("ab", 20), "refs/heads/../../config", "-x", "main:"} {
				if got, err := r.Resolve(rev); !errors.Is(err, ErrUnknown) {
					t.Errorf("%s: Resolve(%s) = %q, %v", dir, rev, got, err)
				}
			}
		}
	}
	if got, err := repository(t, linked).Resolve("HEAD"); err != nil || got != side {
		t.Errorf("HEAD of a linked work tree = %q, %v", got, err)
	}
	below := filepath.Join(o.dir, "deep", "down")
	if err := os.MkdirAll(below, 0o755); err != nil {
		t.Fatal(err)
	}
	if got, err := repository(t, below).Resolve("v1"); err != nil || got != second {
		t.Errorf("from below = %q, %v", got, err)
	}
	if _, err := OpenRepository(t.TempDir()); !errors.Is(err, ErrUnknown) {
		t.Errorf("no repository: %v", err)
	}
}

func TestARepositorySeesWhatIsPushed(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.commit("a.hcl", "1\n")
	r := repository(t, o.dir)
	for range 3 {
		want := o.commit("a.hcl", "2\n")
		o.git("repack", "-qad")
		if got, err := r.Resolve(want); err != nil || got != want {
			t.Fatalf("Resolve = %q, %v", got, err)
		}
		if _, err := r.Commit(want); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLog(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	base := o.commit("a.hcl", "1\n")
	runEnv(t, o.dir, []string{"GIT_COMMITTER_DATE=2001-02-03T04:05:06+0130"}, "git", "commit", "-q", "--allow-empty", "-m", "a skewed clock\n\nwith a body\n\nTrailer: yes")
	o.git("checkout", "-q", "-b", "side")
	o.commit("b.hcl", "b\n")
	o.git("checkout", "-q", "main")
	o.commit("c.hcl", "c\n")
	o.git("merge", "-q", "--no-ff", "--no-edit", "side")
	r := repository(t, o.dir)
	tip, err := r.Resolve("HEAD")
	if err != nil {
		t.Fatal(err)
	}
	for _, from := range []string{base, ""} {
		var got []string
		for c, err := range r.Log(background, from, tip) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, strings.Join([]string{c.Hash, c.Author.Name, c.Author.Email, c.Committer.Name, c.Committer.Time.Format("2006-01-02T15:04:05-07:00"), c.Subject}, "|"))
		}
		span := tip
		if from != "" {
			span = from + ".." + tip
		}
		want := strings.Split(o.git("log", "--date-order", "--format=%H|%an|%ae|%cn|%cd|%s", "--date=format:%Y-%m-%dT%H:%M:%S%z", span), "\n")
		if len(got) != len(want) {
			t.Fatalf("%d commits, want %d", len(got), len(want))
		}
		norm := func(s string) string { return strings.NewReplacer("+01:30", "+0130", "+00:00", "+0000").Replace(s) }
		seen := map[string]bool{}
		for _, g := range got {
			seen[norm(g)] = true
		}
		for _, w := range want {
			if !seen[w] {
				t.Errorf("missing %s in %v", w, got)
			}
		}
	}
	for c, err := range r.Log(background, base, tip) {
		if err == nil && c.Subject == "a skewed clock" && c.Message != "a skewed clock\n\nwith a body\n\nTrailer: yes\n" {
			t.Errorf("message %q", c.Message)
		}
	}
	for range r.Log(background, "", tip) {
		break // ends cleanly
	}
	for _, err := range r.Log(background, "", strings.Repeat("ab", 20)) {
		if !errors.Is(err, ErrCorrupt) {
			t.Error(err)
		}
	}
}

func fsOf(t testing.TB, r *Repository, rev string) fs.FS {
	t.Helper()
	h, err := r.Resolve(rev)
	if err != nil {
		t.Fatal(err)
	}
	f, err := r.FS(h)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestFS(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	if err := os.Symlink("/etc/passwd", filepath.Join(o.dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(o.dir, "run.sh"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	o.commit("prod/web.hcl", "web\n", "prod/deep/er/x.hcl", "x\n", "fleet.hcl", "", "prod.hcl", "sorts around prod/\n", "ümlaut.hcl", "u\n")
	o.git("update-index", "--add", "--cacheinfo", "160000,"+strings.Repeat("ab", 20)+",module")
	o.git("commit", "-q", "-m", "submodule")
	f := fsOf(t, repository(t, o.dir), "HEAD")
	files := []string{"prod/web.hcl", "prod/deep/er/x.hcl", "fleet.hcl", "prod.hcl", "run.sh", "ümlaut.hcl"}
	if err := fstest.TestFS(f, files...); err != nil && !strings.Contains(err.Error(), "submodule") {
		t.Error(err)
	}
	got := map[string]string{}
	err := fs.WalkDir(f, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		hash := info.Sys().(interface{ BlobHash() string }).BlobHash()
		if path != "." && path != "module" && hash != o.git("rev-parse", "HEAD:"+path) {
			t.Errorf("%s has the hash %s", path, hash)
		}
		if !d.IsDir() {
			got[path] = fmt.Sprint(info.Mode(), " ", info.Size())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"prod/web.hcl": "-rw-r--r-- 4", "prod/deep/er/x.hcl": "-rw-r--r-- 2", "fleet.hcl": "-rw-r--r-- 0", "prod.hcl": "-rw-r--r-- 19",
		"run.sh": "-rwxr-xr-x 10", "ümlaut.hcl": "-rw-r--r-- 2", "link": "Lrwxrwxrwx 11", "module": "?--------- 0",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	for _, name := range []string{"link", "module", "prod", "link/x", "absent", "prod/absent", "fleet.hcl/x", "/etc/passwd", "../x", "prod/../fleet.hcl", ""} {
		if data, err := fs.ReadFile(f, name); err == nil {
			t.Errorf("read %s: %q", name, data)
		}
	}
	if to, err := fs.ReadLink(f, "link"); err != nil || to != "/etc/passwd" {
		t.Errorf("ReadLink = %q, %v", to, err)
	}
	data, err := fs.ReadFile(f, "prod/web.hcl")
	if err != nil {
		t.Fatal(err)
	}
	data[0] = 'X' // a reader's own copy
	content(t, f, "prod/web.hcl", "web\n")
}

func TestAFileOverTheLimitIsNotRead(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	tip := o.commit("big.hcl", strings.Repeat("x", 10<<20), "full.hcl", strings.Repeat("y", maxFile), "over.hcl", strings.Repeat("z", maxFile+1))
	for _, packed := range []bool{false, true} {
		if packed {
			o.git("repack", "-qad")
		}
		s := follow(t, o.dir)
		for _, f := range []fs.FS{head(t, s, "", tip).FS, fsOf(t, repository(t, o.dir), "HEAD")} {
			if _, err := fs.ReadFile(f, "full.hcl"); err != nil {
				t.Error(err)
			}
			for _, name := range []string{"big.hcl", "over.hcl"} {
				if _, err := fs.ReadFile(f, name); !errors.Is(err, ErrTooLarge) || errors.Is(err, ErrCorrupt) {
					t.Errorf("%s: %v", name, err)
				}
				if info, err := fs.Stat(f, name); err != nil || info.Size() <= maxFile {
					t.Errorf("%s: %v, %v", name, info, err)
				}
			}
		}
		if _, err := s.current(); err != nil {
			t.Error(err)
		}
	}
}

func treeOf(entries ...string) []byte {
	var b bytes.Buffer
	for _, e := range entries {
		b.WriteString(e + "\x00" + strings.Repeat("h", 20))
	}
	return b.Bytes()
}

func TestForbiddenTrees(t *testing.T) {
	t.Parallel()
	for name, data := range map[string][]byte{
		"dot dot":        treeOf("100644 .."),
		"dot":            treeOf("100644 ."),
		"slash":          treeOf("100644 a/b"),
		"empty name":     treeOf("100644 "),
		"git":            treeOf("40000 .git"),
		"GIT":            treeOf("40000 .GiT"),
		"twice":          treeOf("100644 a", "100644 a"),
		"file and dir":   treeOf("100644 a", "100644 a.b", "40000 a"),
		"mode":           treeOf("100000 a"),
		"no mode":        treeOf("a"),
		"cut":            treeOf("100644 a")[:15],
		"cut after name": []byte("100644 abc"),
	} {
		if got, err := decodeTree(data); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func TestATreeWithADotDotIsNotFollowed(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.commit("a.hcl", "a\n")
	blob := o.git("rev-parse", "HEAD:a.hcl")
	raw := filepath.Join(t.TempDir(), "tree")
	h := plumbing.NewHash(blob)
	if err := os.WriteFile(raw, append([]byte("100644 ..\x00"), h[:]...), 0o600); err != nil {
		t.Fatal(err)
	}
	tree := o.git("hash-object", "-w", "--literally", "-t", "tree", raw)
	commit := o.git("commit-tree", "-m", "evil", tree)
	o.git("update-ref", "refs/heads/main", commit)
	refuse(t, follow(t, o.dir), "", ErrCorrupt)
}

// packWith is a pack of entries that were written by hand.
func packWith(count int, body []byte) []byte {
	b := binary.BigEndian.AppendUint32([]byte("PACK\x00\x00\x00\x02"), uint32(count))
	b = append(b, body...)
	sum := sha1.Sum(b)
	return append(b, sum[:]...)
}

func packEntry(kind plumbing.ObjectType, size int, data string) []byte {
	var b bytes.Buffer
	_ = entryHead(&b, kind, size)
	b.Write(zip(data))
	return b.Bytes()
}

func TestPackBombs(t *testing.T) {
	t.Parallel()
	uvarint := func(n uint64) string { return string(binary.AppendUvarint(nil, n)) }
	base := packEntry(plumbing.BlobObject, 4, "base")
	ofs := func(delta string) []byte {
		var b bytes.Buffer
		_ = entryHead(&b, plumbing.OFSDeltaObject, len(delta))
		b.WriteByte(byte(len(base)))
		b.Write(zip(delta))
		return append(bytes.Clone(base), b.Bytes()...)
	}
	circle := func() []byte { // each the other's base, by a hash that nobody has
		var b bytes.Buffer
		_ = entryHead(&b, plumbing.REFDeltaObject, 3)
		b.WriteString(strings.Repeat("r", 20))
		b.Write(zip("\x04\x01x"))
		return b.Bytes()
	}
	for name, data := range map[string][]byte{
		"says less than it holds": packWith(1, packEntry(plumbing.BlobObject, 2, strings.Repeat("x", 9<<20))),
		"says more than it holds": packWith(1, packEntry(plumbing.BlobObject, 1<<50, "x")),
		"a count without objects": packWith(1<<31, base),
		"fewer than counted":      packWith(2, base),
		"more than counted":       packWith(1, append(bytes.Clone(base), base...)),
		"a delta that grows":      packWith(2, ofs(uvarint(4)+uvarint(1<<40)+"\x90\x04")),
		"a delta past its base":   packWith(2, ofs(uvarint(4)+uvarint(9)+"\x91\x02\x09")),
		"a delta of another base": packWith(2, ofs(uvarint(5)+uvarint(4)+"\x90\x04")),
		"a delta without a base":  packWith(1, circle()),
		"an unknown type":         packWith(1, packEntry(5, 1, "x")),
		"not zlib":                packWith(1, []byte{0x34, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}),
	} {
		t.Run(name, func(t *testing.T) {
			s := follow(t, t.TempDir())
			got, err := receive(background, s.clone.objects, bytes.NewReader(data), 64<<20)
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrTooLarge) {
				t.Fatalf("receive = %v, %v", got, err)
			}
			if files := packs(t, s.o.Dir, ""); len(files) != 0 {
				t.Errorf("left behind: %v", files)
			}
		})
	}
}

// Any bytes: an error or a proved pack, never a panic.
func TestPackOfAnything(t *testing.T) {
	s := follow(t, t.TempDir())
	base := packEntry(plumbing.BlobObject, 4, "base")
	rapid.Check(t, func(t *rapid.T) {
		body := rapid.OneOf(rapid.SliceOfN(rapid.Byte(), 0, 200), rapid.Custom(func(t *rapid.T) []byte {
			b := append(bytes.Clone(base), packEntry(plumbing.TreeObject, 3, "abc")...)
			b[rapid.IntRange(0, len(b)-1).Draw(t, "at")] ^= rapid.Byte().Draw(t, "bits")
			return b
		})).Draw(t, "body")
		data := packWith(rapid.IntRange(0, 3).Draw(t, "count"), body)
		if got, err := receive(background, s.clone.objects, bytes.NewReader(data), 1<<20); err == nil {
			got.drop()
		}
	})
}

func TestNothingIsHeldThatAServerMayGrow(t *testing.T) {
	t.Parallel()
	line := pkt(strings.Repeat("a", 40) + " refs/heads/x" + strings.Repeat("y", 1000) + "\n")
	endless := &repeating{line: line}
	if _, err := readAdvertised(endless, "refs/heads/main"); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
}

type repeating struct {
	line, rest string
}

func (r *repeating) Read(b []byte) (int, error) {
	if r.rest == "" {
		r.rest = r.line
	}
	n := copy(b, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

var _ io.Reader = (*repeating)(nil)
