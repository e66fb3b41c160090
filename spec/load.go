package spec

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// What a repository may hold.
const (
	maxFiles     = 20_000
	maxServices  = 20_000
	maxRepoBytes = 64 << 20 // all *.hcl files together
	maxDepth     = 64       // of folders
	maxEntries   = 250_000  // files and folders of any kind; one folder can stand in git under a million names
)

// Loader loads repositories one after another and remembers files by the hash
// of their content, so that the next commit costs what changed. The zero value
// is ready to use. It is for one goroutine at a time; the fleets that it
// returns are too.
type Loader struct {
	// Only, if not empty, is the environment to load: a host has one, and the
	// others neither cost it anything nor can they hold it up.
	Only string

	files map[fileKey]*file
	order []*file // as the last Load met them: most of the next one is the same
}

// fileKey is what a file is remembered by. The name is in it, because ranges are.
type fileKey struct{ name, hash string }

// NewLoader is a loader that remembers nothing yet.
func NewLoader() *Loader { return &Loader{} }

// Load reads a whole repository once.
func Load(commit string, fsys fs.FS) (*Fleet, hcl.Diagnostics) {
	return NewLoader().Load(commit, fsys)
}

// Load reads a whole repository. The diagnostics are all that was found while
// loading; which of them hold which environment or service is said by
// [Fleet.Faults] and [Fleet.For]. The fleet is never nil.
//
// Where a directory entry, or its FileInfo's Sys, has a method BlobHash()
// string, a file whose hash is known is not read again.
func (l *Loader) Load(commit string, fsys fs.FS) (*Fleet, hcl.Diagnostics) {
	if l.files == nil {
		l.files = map[fileKey]*file{}
	}
	f := &Fleet{commit: commit, envs: map[string]*environment{}}
	w := walker{loader: l, fleet: f, fsys: fsys}
	w.root()
	l.forget(w.met)
	var diags hcl.Diagnostics
	diags = append(diags, f.broken...)
	for _, file := range f.root {
		diags = append(diags, file.diags...)
	}
	for _, name := range sortedKeys(f.envs) {
		e := f.envs[name]
		diags = append(diags, e.broken...)
		for _, file := range e.files {
			diags = append(diags, file.diags...)
		}
	}
	return f, diags
}

// forget drops what the last Load met and this one did not.
func (l *Loader) forget(met []*file) {
	for i, f := range met {
		f.used, f.place = true, i
	}
	for _, f := range l.order {
		if !f.used {
			delete(l.files, fileKey{f.name, f.hash})
		}
	}
	for _, f := range met {
		f.used = false
	}
	l.order = met
}

// remembered is the file of this name and hash from an earlier Load, or nil.
// next is where in the last Load's order it probably stands.
func (l *Loader) remembered(name, hash string, next *int) *file {
	if *next < len(l.order) && l.order[*next].name == name {
		f := l.order[*next]
		*next++
		if f.hash == hash {
			return f
		}
	}
	f := l.files[fileKey{name, hash}]
	if f != nil {
		*next = f.place + 1
	}
	return f
}

// walker reads the folders of one repository.
type walker struct {
	loader   *Loader
	fleet    *Fleet
	fsys     fs.FS
	met      []*file
	next     int
	count    int
	entries  int
	services int
	bytes    int
	full     bool // a limit was passed, and said
}

func place0(name string) hcl.Range {
	return hcl.Range{Filename: name, Start: hcl.InitialPos, End: hcl.InitialPos}
}

func (w *walker) root() {
	entries, err := fs.ReadDir(w.fsys, ".")
	if err != nil {
		w.fleet.broken = append(w.fleet.broken, problem(place0("."), "Cannot read the repository", "%v.", err))
		return
	}
	for _, e := range entries {
		name := e.Name()
		switch {
		case strings.HasPrefix(name, "."), name == "approvals":
		case w.loader.Only != "" && name != w.loader.Only && (e.IsDir() || !isHCL(name)):
		case !isHCL(name) && !e.IsDir() && !e.Type().IsRegular():
			// Somebody may mean it as an environment.
			env := w.fleet.env(name)
			env.odd = true
			env.broken = append(env.broken, odd(e, name))
		case e.IsDir():
			w.dir(w.fleet.env(name), name, 1)
		case isHCL(name):
			if !e.Type().IsRegular() {
				w.fleet.broken = append(w.fleet.broken, odd(e, name))
				continue
			}
			if file := w.file("", name, e); file != nil {
				w.fleet.root = append(w.fleet.root, file)
			}
		}
	}
	for name, e := range w.fleet.envs {
		if len(e.files) == 0 && len(e.broken) == 0 {
			delete(w.fleet.envs, name)
		}
	}
}

func (w *walker) dir(env *environment, dir string, depth int) {
	if depth > maxDepth {
		env.broken = append(env.broken, problem(place0(dir), "Folders too deep", "%s is nested more than %d folders deep.", dir, maxDepth))
		return
	}
	entries, err := fs.ReadDir(w.fsys, dir)
	if err != nil {
		env.broken = append(env.broken, problem(place0(dir), "Cannot read a folder", "%v.", err))
		return
	}
	if w.entries += len(entries); w.entries > maxEntries && !w.full {
		w.limit(dir, "Too many files", "The environments may have %d files and folders of any kind.", maxEntries)
	}
	for _, e := range entries {
		if w.full {
			return
		}
		name := path.Join(dir, e.Name())
		switch {
		case e.IsDir():
			w.dir(env, name, depth+1)
		case !e.Type().IsRegular():
			env.broken = append(env.broken, odd(e, name))
		case isHCL(name):
			if file := w.file(env.name, name, e); file != nil {
				env.files = append(env.files, file)
			}
		}
	}
}

func isHCL(name string) bool {
	return strings.HasSuffix(name, ".hcl") || strings.HasSuffix(name, ".hcl.json")
}

// odd refuses what is neither a file nor a folder: it would lead to content
// that no commit of this repository holds.
func odd(e fs.DirEntry, name string) *hcl.Diagnostic {
	what := "a submodule or special file"
	if e.Type()&fs.ModeSymlink != 0 {
		what = "a symbolic link"
	}
	return problem(place0(name), "Not a plain file", "%s is %s. Put the content itself there.", name, what)
}

func blobHash(e fs.DirEntry) string {
	if b, ok := e.(interface{ BlobHash() string }); ok {
		return b.BlobHash()
	}
	if info, err := e.Info(); err == nil {
		if b, ok := info.Sys().(interface{ BlobHash() string }); ok {
			return b.BlobHash()
		}
	}
	return ""
}

// file takes a file from the cache, or reads it. It is nil past a limit.
func (w *walker) file(env, name string, e fs.DirEntry) *file {
	if w.full {
		return nil
	}
	if w.count++; w.count > maxFiles {
		w.limit(name, "Too many files", "A repository may have %d files of the language.", maxFiles)
		return nil
	}
	hash := blobHash(e)
	var f *file
	if hash != "" {
		f = w.loader.remembered(name, hash, &w.next)
	}
	if f == nil {
		src, err := readAll(w.fsys, name)
		if err != nil {
			return &file{name: name, env: env, diags: hcl.Diagnostics{problem(place0(name), "Cannot read a file", "%v.", err)}}
		}
		if hash == "" {
			sum := sha256.Sum256(src)
			hash = hex.EncodeToString(sum[:])
			f = w.loader.remembered(name, hash, &w.next)
		}
		if f == nil {
			if w.bytes+len(src) > maxRepoBytes {
				w.limit(name, "Repository too large", "The files of the language may have %d bytes together.", maxRepoBytes)
				return nil
			}
			f = readFile(name, env, hash, src)
			w.loader.files[fileKey{name, hash}] = f
		}
	}
	w.met = append(w.met, f)
	w.bytes += len(f.src)
	if w.bytes > maxRepoBytes {
		w.limit(name, "Repository too large", "The files of the language may have %d bytes together.", maxRepoBytes)
		return nil
	}
	if w.services += f.services; w.services > maxServices {
		w.limit(name, "Too many services", "A repository may have %d services.", maxServices)
		return nil
	}
	return f
}

func (w *walker) limit(name, summary, format string, args ...any) {
	w.full = true
	w.fleet.broken = append(w.fleet.broken, problem(place0(name), summary, format, args...))
}

// readAll reads a file up to one byte past the limit, so that the guard can say
// that it is too large.
func readAll(fsys fs.FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size := 512
	if info, err := f.Stat(); err == nil {
		size = int(min(info.Size(), maxFileBytes)) + 1
	}
	buf := make([]byte, 0, max(size, 512))
	lr := io.LimitReader(f, maxFileBytes+1)
	for {
		n, err := lr.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err == io.EOF {
			return buf, nil
		}
		if err != nil {
			return nil, err
		}
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
	}
}
