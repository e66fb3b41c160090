// Package durable writes files that must survive a power cut whole: a
// temporary in the same directory, fsync, close, rename, and an fsync of the
// directory, which the popular helpers leave out. All functions return when
// the effect is on the disk; a reader sees the old content or the new one.
package durable

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"syscall"
)

var leftover = regexp.MustCompile(`\.tmp-[0-9a-f]{16}$`)

// TempName is a new name in path's directory for what is going to become path.
func TempName(path string) string {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return path + ".tmp-" + hex.EncodeToString(b[:])
}

// Leftover reports whether name has the form that [TempName] gives, so that
// what a killed process left behind can be told from anybody else's files.
func Leftover(name string) bool { return leftover.MatchString(filepath.Base(name)) }

// WriteFile puts data at path, mode regardless of the umask.
func WriteFile(path string, data []byte, mode fs.FileMode) error {
	return write(path, data, mode, true, nil)
}

// Replace is WriteFile over a file that is somebody else's: old says what it
// was, and the new one has its owner, group and mode.
func Replace(path string, data []byte, old fs.FileInfo) error {
	owner, _ := old.Sys().(*syscall.Stat_t)
	return write(path, data, old.Mode().Perm(), true, owner)
}

// WriteCache is WriteFile without any fsync, for content that is checked when
// it is read and can be made again: still whole-old or whole-new while the
// machine stays up, anything after a power cut.
func WriteCache(path string, data []byte, mode fs.FileMode) error {
	return write(path, data, mode, false, nil)
}

func write(path string, data []byte, mode fs.FileMode, sync bool, owner *syscall.Stat_t) error {
	tmp := TempName(path)
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil && owner != nil {
		err = f.Chown(int(owner.Uid), int(owner.Gid))
	}
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil && sync {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		os.Remove(tmp)
		return err
	}
	if !sync {
		return nil
	}
	return SyncDir(filepath.Dir(path))
}

// Symlink makes link point to target in one switch: whoever follows it sees
// the old target or the new one, never none. A directory at link is an error.
func Symlink(target, link string) error {
	tmp := TempName(link)
	if err := os.Symlink(target, tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, link); err != nil {
		os.Remove(tmp)
		return err
	}
	return SyncDir(filepath.Dir(link))
}

// Rename moves a file or directory to a new name, on both sides durable.
func Rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	if filepath.Dir(from) != filepath.Dir(to) {
		if err := SyncDir(filepath.Dir(from)); err != nil {
			return err
		}
	}
	return SyncDir(filepath.Dir(to))
}

// Remove removes one file, link or empty directory; none there is no error.
func Remove(path string) error {
	if err := os.Remove(path); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// MkdirAll makes dir and its parents, and fsyncs the parent of each that it made.
func MkdirAll(dir string, mode fs.FileMode) error {
	dir = filepath.Clean(dir)
	info, err := os.Stat(dir)
	switch {
	case err == nil && info.IsDir():
		return nil
	case err == nil:
		return &fs.PathError{Op: "mkdir", Path: dir, Err: errors.New("there is a file of that name")}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	parent := filepath.Dir(dir)
	if parent == dir {
		return err
	}
	if err := MkdirAll(parent, mode); err != nil {
		return err
	}
	if err := os.Mkdir(dir, mode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return SyncDir(parent)
}

// SyncDir makes durable which names a directory holds.
func SyncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = f.Sync()
	if closed := f.Close(); err == nil {
		err = closed
	}
	return err
}
