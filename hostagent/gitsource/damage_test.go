package gitsource

import (
	"bytes"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// packs are the clone's pack files.
func packs(t testing.TB, dir, ext string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "objects", "pack", "*"+ext))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func overwrite(t testing.TB, path string, change func([]byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil { // an open handle would go on reading the old one
		t.Fatal(err)
	}
	if err := os.WriteFile(path, change(data), 0o644); err != nil {
		t.Fatal(err)
	}
}

func zip(s string) []byte {
	var b bytes.Buffer
	z := zlib.NewWriter(&b)
	_, _ = z.Write([]byte(s))
	z.Close()
	return b.Bytes()
}

// loosen turns a repository's packs into loose objects.
func loosen(t testing.TB, dir string) {
	t.Helper()
	for _, p := range packs(t, dir, ".pack") {
		out := filepath.Join(t.TempDir(), "p")
		if err := os.Rename(p, out); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(strings.TrimSuffix(p, ".pack") + ".idx"); err != nil {
			t.Fatal(err)
		}
		run(t, dir, "sh", "-c", "git --git-dir . unpack-objects -q <"+out)
	}
}

func loosePath(dir, hash string) string { return filepath.Join(dir, "objects", hash[:2], hash[2:]) }

func TestADamagedCloneIsSetAsideAndClonedAnew(t *testing.T) {
	t.Parallel()
	flip := func(at int) func([]byte) []byte {
		return func(d []byte) []byte { d = bytes.Clone(d); d[at*len(d)/100] ^= 0xff; return d }
	}
	for name, harm := range map[string]func(t *testing.T, o *origin, dir string){
		"pack truncated": func(t *testing.T, o *origin, dir string) {
			overwrite(t, packs(t, dir, ".pack")[0], func(d []byte) []byte { return d[:len(d)/2] })
		},
		"pack gone": func(t *testing.T, o *origin, dir string) { os.Remove(packs(t, dir, ".pack")[0]) },
		"pack empty": func(t *testing.T, o *origin, dir string) {
			overwrite(t, packs(t, dir, ".pack")[0], func([]byte) []byte { return nil })
		},
		"pack flipped":  func(t *testing.T, o *origin, dir string) { overwrite(t, packs(t, dir, ".pack")[0], flip(10)) },
		"index flipped": func(t *testing.T, o *origin, dir string) { overwrite(t, packs(t, dir, ".idx")[0], flip(98)) },
		"index gone":    func(t *testing.T, o *origin, dir string) { os.Remove(packs(t, dir, ".idx")[0]) },
		"objects gone":  func(t *testing.T, o *origin, dir string) { os.RemoveAll(filepath.Join(dir, "objects")) },
		"commit missing": func(t *testing.T, o *origin, dir string) {
			loosen(t, dir)
			os.Remove(loosePath(dir, o.git("rev-parse", "HEAD")))
		},
		"commit exchanged": func(t *testing.T, o *origin, dir string) {
			loosen(t, dir)
			overwrite(t, loosePath(dir, o.git("rev-parse", "HEAD")), func(d []byte) []byte {
				old, err := os.ReadFile(loosePath(dir, o.git("rev-parse", "HEAD~1")))
				if err != nil {
					t.Fatal(err)
				}
				return old
			})
		},
		"tree missing": func(t *testing.T, o *origin, dir string) {
			loosen(t, dir)
			os.Remove(loosePath(dir, o.git("rev-parse", "HEAD:prod")))
		},
		"tree emptied": func(t *testing.T, o *origin, dir string) {
			loosen(t, dir)
			overwrite(t, loosePath(dir, o.git("rev-parse", "HEAD:prod")), func([]byte) []byte { return zip("tree 0\x00") })
		},
		"blob missing": func(t *testing.T, o *origin, dir string) {
			loosen(t, dir)
			os.Remove(loosePath(dir, o.git("rev-parse", "HEAD:prod/web.hcl")))
		},
		"head ref broken": func(t *testing.T, o *origin, dir string) {
			overwrite(t, filepath.Join(dir, refHead), func([]byte) []byte { return []byte("garbage") })
		},
		"accepted ref broken": func(t *testing.T, o *origin, dir string) {
			overwrite(t, filepath.Join(dir, refAccepted), func([]byte) []byte { return nil })
		},
		"a file instead": func(t *testing.T, o *origin, dir string) {
			os.RemoveAll(dir)
			if err := os.WriteFile(dir, []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOrigin(t)
			first := o.commit("prod/web.hcl", "one\n")
			tip := o.commit("prod/web.hcl", "two\n")
			s := follow(t, o.dir)
			head(t, s, "", tip)
			accept(t, s, tip)
			s.Close()
			harm(t, o, s.o.Dir)

			// Without the source: said, and nothing lost.
			hidden := o.dir + "-hidden"
			if err := os.Rename(o.dir, hidden); err != nil {
				t.Fatal(err)
			}
			s = open(t, s.o)
			err := refuse(t, s, tip, ErrCorrupt)
			if !errors.Is(err, ErrUnreachable) {
				t.Errorf("why cloning anew failed is not told: %v", err)
			}
			if _, err := os.Lstat(s.o.Dir); err != nil {
				t.Errorf("the damaged clone is gone: %v", err)
			}
			if _, err := os.Lstat(s.next()); err == nil {
				t.Error("half a clone stays behind")
			}
			s.Close()

			// With it: cloned anew, the old one beside it, the mark kept.
			if err := os.Rename(hidden, o.dir); err != nil {
				t.Fatal(err)
			}
			s = open(t, s.o)
			content(t, head(t, s, tip, tip).FS, "prod/web.hcl", "two\n")
			if aside, err := filepath.Glob(s.o.Dir + ".corrupt-*"); err != nil || len(aside) != 1 {
				t.Errorf("set aside: %v, %v", aside, err)
			}
			if got, err := s.Accepted(); got != tip || err != nil {
				t.Errorf("Accepted = %q, %v", got, err)
			}
			if _, err := s.At(background, first); err != nil {
				t.Error(err)
			}
			run(t, "", "git", "--git-dir", s.o.Dir, "fsck", "--strict", "--full")
			o.git("reset", "-q", "--hard", first)
			refuse(t, s, tip, ErrRewound)
		})
	}
}

func TestATamperedFileIsNeverRead(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	tip := o.commit("prod/web.hcl", "good\n")
	s := follow(t, o.dir)
	head(t, s, "", tip)
	s.Close()
	loosen(t, s.o.Dir)
	blob := o.git("rev-parse", "HEAD:prod/web.hcl")
	overwrite(t, loosePath(s.o.Dir, blob), func([]byte) []byte { return zip("blob 5\x00evil\n") })

	s = open(t, s.o)
	snap := head(t, s, tip, tip)
	if data, err := fs.ReadFile(snap.FS, "prod/web.hcl"); !errors.Is(err, ErrCorrupt) || len(data) != 0 {
		t.Fatalf("read %q, %v", data, err)
	}
	s.Close()
	s = open(t, s.o) // also another process knows
	snap = head(t, s, tip, tip)
	content(t, snap.FS, "prod/web.hcl", "good\n")
}

func TestTheMarkIsNotForgottenWhenNothingElseKnowsIt(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	tip := o.commit("a.hcl", "1\n")
	s := follow(t, o.dir)
	head(t, s, "", tip)
	accept(t, s, tip)
	overwrite(t, filepath.Join(s.o.Dir, refAccepted), func([]byte) []byte { return []byte("x") })
	err := refuse(t, s, "", ErrCorrupt)
	if !strings.Contains(err.Error(), refAccepted) {
		t.Error(err)
	}
}

func TestADamagedOrigin(t *testing.T) {
	t.Parallel()
	for name, pick := range map[string]string{"commit": "HEAD", "older commit": "HEAD~1", "tree": "HEAD:prod", "blob": "HEAD:prod/web.hcl"} {
		t.Run(name, func(t *testing.T) {
			o := newOrigin(t)
			first := o.commit("prod/web.hcl", "0\n")
			s := follow(t, o.dir)
			head(t, s, "", first)
			o.commit("prod/web.hcl", "one\n")
			tip := o.commit("prod/web.hcl", "two\n")
			path := loosePath(filepath.Join(o.dir, ".git"), o.git("rev-parse", pick))
			kind := strings.Split(o.git("cat-file", "-t", pick), "\n")[0]
			good, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, bad := range [][]byte{zip(kind + " 5\x00evil\n"), good[:len(good)/2], nil} {
				overwrite(t, path, func([]byte) []byte { return bad })
				refuse(t, s, first, ErrCorrupt)
				if _, err := s.current(); err != nil {
					t.Errorf("taken for the clone's damage: %v", err)
				}
			}
			overwrite(t, path, func([]byte) []byte { return good })
			head(t, s, first, tip)
		})
	}
}

func TestKilledMidFetch(t *testing.T) {
	o := newOrigin(t)
	tip := o.commit("a.hcl", "1\n", "noise", noise(1<<20))
	dir := filepath.Join(t.TempDir(), "clone")
	half := make(chan struct{})
	addr := serveTCP(t, func(c net.Conn) {
		_, _ = io.WriteString(c, pkt(tip+" refs/heads/main\x00side-band-64k\n")+"0000"+pkt("NAK\n"))
		_, _ = io.WriteString(c, pkt("\x01PACK\x00\x00\x00\x02\x00\x00\x00\x09"+noise(50000)))
		close(half)
		_, _ = io.Copy(io.Discard, c)
	})
	child := exec.Command(os.Args[0], "fetch-until-killed", "git://"+addr+"/", dir)
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	<-half
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait()
	// What a kill between the two renames, or within a write, leaves.
	for _, left := range []string{"objects/pack/pack-" + tip + ".pack", "objects/pack/tmp_pack_1", "refs/drydock/head.tmp-0123456789abcdef"} {
		if err := os.WriteFile(filepath.Join(dir, left), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, Options{URL: o.dir, Dir: dir})
	head(t, s, "", tip)
	files, err := filepath.Glob(filepath.Join(dir, "objects", "pack", "*"))
	if err != nil || len(files) != 2 {
		t.Errorf("files: %v, %v", files, err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "refs", "drydock", "*.tmp-*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestTheCloneVanishesWhileRunning(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	tip := o.commit("a.hcl", "1\n")
	s := follow(t, o.dir)
	snap := head(t, s, "", tip)
	if err := os.RemoveAll(s.o.Dir); err != nil {
		t.Fatal(err)
	}
	head(t, s, tip, tip)
	content(t, snap.FS, "a.hcl", "1\n") // an old snapshot reads from the new clone
	if got, err := s.Accepted(); got != tip || err != nil {
		t.Errorf("Accepted = %q, %v", got, err)
	}
}

func TestKilledBetweenTheSwapsRenames(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	tip := o.commit("a.hcl", "1\n")
	s := follow(t, o.dir)
	head(t, s, "", tip)
	accept(t, s, tip)
	s.Close()
	if err := os.WriteFile(filepath.Join(s.o.Dir, "complete"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(s.o.Dir, s.next()); err != nil {
		t.Fatal(err)
	}
	again := s.o
	again.URL = "/nonexistent"
	s = open(t, again)
	if got, err := s.Accepted(); got != tip || err != nil {
		t.Errorf("Accepted = %q, %v", got, err)
	}
	if _, err := s.At(background, tip); err != nil {
		t.Error(err)
	}
}

func TestTwoProcessesDoNotFetchAtOnce(t *testing.T) {
	o := newOrigin(t)
	tip := o.commit("a.hcl", "1\n")
	s := follow(t, o.dir, impatient)
	unlock, err := s.clone.lock(background, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	refuse(t, s, "", ErrUnreachable)
	unlock()
	head(t, s, "", tip)
}

// noise does not compress.
func noise(n int) string {
	b := make([]byte, 0, n)
	x := uint64(88172645463325252)
	for len(b) < n {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b = fmt.Append(b, x)
	}
	return string(b[:n])
}
