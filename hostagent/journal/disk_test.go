package journal

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"drydock/reconcile"
)

// disk is a small file system of the test's own.
func disk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=512k"); err != nil {
		t.Skipf("mount: %v; run the tests as root", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

func isHostFault(t *testing.T, err error, cause error, hint string) {
	t.Helper()
	if !errors.Is(err, cause) || reconcile.BlameOf(err) != reconcile.OfHost || !strings.Contains(err.Error(), hint) {
		t.Errorf("got %v", err)
	}
}

func TestFullDisk(t *testing.T) {
	dir := disk(t)
	path := filepath.Join(dir, "journal.db")
	j := open(t, path, 0)
	mustAppend(t, j, begun("web", "x"))
	filler, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = filler.Write(make([]byte, 4096))
	}
	_ = filler.Close()
	big := reconcile.Record{Kind: reconcile.Good, Reason: strings.Repeat("x", 100<<10)}
	_, err = j.Append(t.Context(), big)
	isHostFault(t, err, unix.ENOSPC, "Free space")
	if m := j.Memory(); m.Seq != 1 {
		t.Errorf("the memory stands at %d", m.Seq)
	}
	if err := os.Remove(filler.Name()); err != nil {
		t.Fatal(err)
	}
	if r := mustAppend(t, j, big); r.Seq != 2 {
		t.Errorf("after it: %d", r.Seq)
	}
	_ = j.Close()
	if j = open(t, path, 0); j.Rebuilt() != nil || len(all(t, j)) != 2 {
		t.Errorf("lost: %v", j.Rebuilt())
	}
}

func TestReadOnlyDisk(t *testing.T) {
	dir := disk(t)
	path := filepath.Join(dir, "journal.db")
	j := open(t, path, 0)
	mustAppend(t, j, begun("web", "x"))
	_ = j.Close()
	if err := unix.Mount("none", dir, "tmpfs", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Skip(err)
	}
	_, err := Open(Options{Path: path})
	isHostFault(t, err, unix.EROFS, "Mount that disk writable")
	r, err := Open(Options{Path: path, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	if m := r.Memory(); m.Seq != 1 {
		t.Error("status cannot be read on a read-only disk")
	}
}
