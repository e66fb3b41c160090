package sql

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"drydock/reconcile"
)

// What a directory of migrations may be.
const (
	maxFiles    = 10_000
	maxFileSize = 8 << 20
)

// file is one migration of the release.
type file struct {
	version int64
	name    string // "00042_add_index.sql"
	sum     string // SHA-256 of its bytes, in hex
	read    func() ([]byte, error)
}

// readFiles lists the migrations of a release, lowest version first. Only
// their digests are kept; what is pending is read again when it is its turn,
// and must be the same. brought, unless it is nil, is what they are held to: see
// reconcile.Env.Brought.
func readFiles(release, directory string, brought func(string) string) ([]file, error) {
	root, err := os.OpenRoot(release)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("migrate sql: %s is not there: %w", release, reconcile.ErrUnfetched)
	}
	if err != nil {
		return nil, reconcile.HostFault(fmt.Errorf("migrate sql: %w", err), "See why the release cannot be read.")
	}
	defer root.Close()
	entries, err := listed(root, directory)
	if err != nil {
		return nil, err
	}
	var files []file
	for _, e := range entries {
		name := e.Name()
		if e.IsDir() || !strings.HasSuffix(name, ".sql") && !strings.HasSuffix(name, ".go") {
			continue
		}
		version, err := versionOf(name)
		if err != nil {
			return nil, faulty(directory, name, err)
		}
		data, err := readFile(root, path.Join(directory, name))
		if err != nil {
			return nil, faulty(directory, name, err)
		}
		sum := digest(data)
		if brought != nil && brought(path.Join(directory, name)) != sum {
			return nil, reconcile.HostFault(fmt.Errorf("migrate sql: %s is not what the release brought: it came or was changed after it was installed", path.Join(directory, name)),
				"See who writes to "+release+" (the user that the release's files belong to can), and mend that first: what stands there would run with the database's credential.")
		}
		files = append(files, file{version, name, sum, func() ([]byte, error) { return reread(release, directory, name, sum) }})
	}
	slices.SortFunc(files, func(a, b file) int { return cmp.Compare(a.version, b.version) })
	for i := 1; i < len(files); i++ {
		if a, b := files[i-1], files[i]; a.version == b.version {
			return nil, faulty(directory, b.name, fmt.Errorf("%s has the same version, %d", a.name, a.version))
		}
	}
	return files, nil
}

func listed(root *os.Root, directory string) ([]fs.DirEntry, error) {
	dir, err := root.Open(directory)
	if err != nil {
		return nil, reconcile.ReleaseFault(fmt.Errorf("migrate sql: the release has no directory %s: %w", directory, bare(err)),
			"Put the migrations into the artifact, or name their directory in the migrate block.")
	}
	defer dir.Close()
	if info, err := dir.Stat(); err != nil || !info.IsDir() {
		return nil, reconcile.ReleaseFault(fmt.Errorf("migrate sql: %s in the release is no directory", directory), "Name the migrations' directory in the migrate block.")
	}
	// One more than may be, so that no more names than that are ever held.
	entries, err := dir.ReadDir(maxFiles + 1)
	if err != nil && err != io.EOF {
		return nil, reconcile.HostFault(fmt.Errorf("migrate sql: read %s: %w", directory, err), "See why the release cannot be read.")
	}
	if len(entries) > maxFiles {
		return nil, reconcile.ReleaseFault(fmt.Errorf("migrate sql: %s holds more than %d files", directory, maxFiles), "Squash old migrations into one.")
	}
	return entries, nil
}

// versionOf is the number that a migration's name begins with. goose would
// leave out a file that has none, unsaid.
func versionOf(name string) (int64, error) {
	if strings.HasSuffix(name, ".go") {
		return 0, errors.New("migrations in Go cannot be run from a release, only .sql files")
	}
	digits, _, ok := strings.Cut(strings.TrimSuffix(name, ".sql"), "_")
	v, err := strconv.ParseUint(digits, 10, 63)
	if !ok || err != nil || v == 0 {
		return 0, errors.New("a migration's name is a number above 0, an underscore and words, as 00042_add_index.sql is; keep other .sql files elsewhere")
	}
	return int64(v), nil
}

func readFile(root *os.Root, name string) ([]byte, error) {
	// Non-blocking, so that a pipe put there cannot hold the agent up.
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, bare(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, bare(err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is no regular file")
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err != nil {
		return nil, bare(err)
	}
	if len(data) > maxFileSize {
		return nil, fmt.Errorf("it is larger than %d MiB", maxFileSize>>20)
	}
	return data, nil
}

// reread reads a file again that was hashed before.
func reread(release, directory, name, sum string) ([]byte, error) {
	root, err := os.OpenRoot(release)
	if err != nil {
		return nil, reconcile.HostFault(fmt.Errorf("migrate sql: %w", err), "See why the release cannot be read.")
	}
	defer root.Close()
	data, err := readFile(root, path.Join(directory, name))
	if err == nil && digest(data) != sum {
		err = errors.New("it changed while it was looked at")
	}
	if err != nil {
		return nil, faulty(directory, name, err)
	}
	return data, nil
}

func faulty(directory, name string, err error) error {
	return reconcile.ReleaseFault(fmt.Errorf("migrate sql: %s: %w", path.Join(directory, name), err), "Put it right in the service's source, and release it anew.")
}

// bare is a path error without its path, which the caller says in the
// release's own terms.
func bare(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
