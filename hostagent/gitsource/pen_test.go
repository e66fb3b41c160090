package gitsource

import (
	"bytes"
	"compress/zlib"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// pen writes a repository's objects without a git: any objects, and many.
type pen struct{ dir string }

// newPen makes an empty bare repository.
func newPen(t testing.TB) *pen {
	t.Helper()
	p := &pen{filepath.Join(t.TempDir(), "pen.git")}
	if err := initClone(p.dir); err != nil {
		t.Fatal(err)
	}
	return p
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// object writes one, loose.
func (p *pen) object(kind string, data []byte) string {
	whole := append(fmt.Appendf(nil, "%s %d\x00", kind, len(data)), data...)
	sum := sha1.Sum(whole)
	hash := hex.EncodeToString(sum[:])
	path := loosePath(p.dir, hash)
	if _, err := os.Stat(path); err == nil {
		return hash
	}
	var z bytes.Buffer
	w, err := zlib.NewWriterLevel(&z, zlib.NoCompression)
	must(err)
	_, err = w.Write(whole)
	must(err)
	must(w.Close())
	must(os.MkdirAll(filepath.Dir(path), 0o700))
	must(os.WriteFile(path, z.Bytes(), 0o600))
	return hash
}

// entry is one line of a tree: "100644 name", and what it names.
type penEntry struct{ word, hash string }

func (p *pen) tree(entries ...penEntry) string {
	key := func(e penEntry) string {
		mode, name, _ := strings.Cut(e.word, " ")
		if mode == "40000" {
			name += "/"
		}
		return name
	}
	slices.SortFunc(entries, func(a, b penEntry) int { return strings.Compare(key(a), key(b)) })
	var b []byte
	for _, e := range entries {
		raw, err := hex.DecodeString(e.hash)
		must(err)
		b = append(append(append(b, e.word...), 0), raw...)
	}
	return p.object("tree", b)
}

// files writes nested trees of paths; each value is "mode content".
func (p *pen) files(all map[string]string) string {
	var entries []penEntry
	below := map[string]map[string]string{}
	for _, path := range slices.Sorted(maps.Keys(all)) {
		if top, rest, ok := strings.Cut(path, "/"); ok {
			if below[top] == nil {
				below[top] = map[string]string{}
			}
			below[top][rest] = all[path]
			continue
		}
		mode, body, _ := strings.Cut(all[path], " ")
		e := penEntry{mode + " " + path, ""}
		if sum := sha1.Sum([]byte(body)); mode == "160000" {
			e.hash = hex.EncodeToString(sum[:])
		} else {
			e.hash = p.object("blob", []byte(body))
		}
		entries = append(entries, e)
	}
	for top, rest := range below {
		entries = append(entries, penEntry{"40000 " + top, p.files(rest)})
	}
	return p.tree(entries...)
}

func (p *pen) commit(tree string, date int, parents ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "tree %s\n", tree)
	for _, h := range parents {
		fmt.Fprintf(&b, "parent %s\n", h)
	}
	fmt.Fprintf(&b, "author A <a@b> %d +0000\ncommitter A <a@b> %d +0000\n\nc\n", date, date)
	return p.object("commit", []byte(b.String()))
}

func (p *pen) branch(name, hash string) {
	must(os.WriteFile(filepath.Join(p.dir, "refs/heads", name), []byte(hash+"\n"), 0o600))
}

// git is what git itself says of the objects, whatever else lies there.
func (p *pen) git(t testing.TB, in string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", append([]string{"--git-dir", p.dir, "--no-replace-objects"}, args...)...)
	cmd.Env, cmd.Stdin = clean(), strings.NewReader(in)
	out, err := cmd.Output()
	if x := (*exec.ExitError)(nil); err != nil && (args[0] != "merge-base" || !asExit(err, &x) || x.ExitCode() != 1) {
		t.Fatalf("git %v: %v %s", args, err, out)
	}
	return strings.TrimRight(string(out), "\n")
}

func asExit(err error, x **exec.ExitError) (ok bool) {
	*x, ok = err.(*exec.ExitError)
	return ok
}
