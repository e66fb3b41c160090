package gitsource

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
)

// refs reads the references of a repository on this machine.
type refs struct {
	dir    string // HEAD and what belongs to one work tree
	common string // everything else; the same as dir but in a linked work tree
}

// errNoRef is a ref that is not there.
var errNoRef = errors.New("no such ref")

// read is the hash a ref stands for, through symbolic refs.
func (r refs) read(name string) (plumbing.Hash, error) {
	for range 8 {
		if !validRef(name) {
			return plumbing.ZeroHash, fail(ErrUnknown, "%q is not a ref's name", name)
		}
		text, err := r.text(name)
		if err != nil {
			return plumbing.ZeroHash, err
		}
		target, symbolic := strings.CutPrefix(text, "ref:")
		if !symbolic {
			h, err := parseHash(text)
			if err != nil {
				return h, fail(ErrCorrupt, "ref %s holds %.60q instead of a hash", name, text)
			}
			return h, nil
		}
		name = strings.TrimSpace(target)
	}
	return plumbing.ZeroHash, fail(ErrCorrupt, "ref %s: more than eight symbolic refs", name)
}

// text is a ref's own file, or its line in packed-refs.
func (r refs) text(name string) (string, error) {
	for _, dir := range []string{r.dir, r.common} {
		data, err := readSmall(filepath.Join(dir, filepath.FromSlash(name)), 4096)
		if err == nil {
			return strings.TrimRight(string(data), " \t\r\n"), nil
		}
		if info, serr := os.Stat(filepath.Join(dir, filepath.FromSlash(name))); serr == nil && info.IsDir() {
			continue // refs/heads/a is a folder while refs/heads/a/b exists
		}
		if !errors.Is(err, fs.ErrNotExist) && !isNotDir(err) {
			return "", fail(ErrCorrupt, "ref %s: %w", name, err)
		}
	}
	packed, err := readSmall(filepath.Join(r.common, "packed-refs"), 64<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return "", errNoRef
	}
	if err != nil {
		return "", fail(ErrCorrupt, "packed-refs: %w", err)
	}
	for line := range strings.Lines(string(packed)) {
		hash, got, ok := strings.Cut(strings.TrimRight(line, "\r\n"), " ")
		if ok && got == name && !strings.HasPrefix(hash, "#") {
			return hash, nil
		}
	}
	return "", errNoRef
}

// validRef keeps a name inside the repository.
func validRef(name string) bool {
	if name == "HEAD" {
		return true
	}
	if !fs.ValidPath(name) || !strings.HasPrefix(name, "refs/") || strings.HasSuffix(name, ".lock") {
		return false
	}
	return !strings.Contains(name, "..") && !strings.ContainsAny(name, " ~^:?*[\\\x00\n\t\x7f")
}
